//! The built-in arena is sorted, complete and closed; another one is refused where it is not.

use super::*;
use crate::kinds;

#[test]
fn sorted_and_closed() {
    assert!(table::TYPES.is_sorted_by_key(|row| row.name));
    for row in table::TYPES {
        assert!(row.fields.is_sorted_by_key(|field| field.name), "{}", row.name);
    }
    assert_eq!(table::TYPES.len(), tags::TAGS.len());
    let owned = |row: &Row| {
        let field = |f: &StoredField<&str>| StoredField { name: f.name.to_owned(), form: f.form, required: f.required };
        Type { name: row.name.to_owned(), fields: row.fields.iter().map(field).collect() }
    };
    assert!(Arena::new(table::TYPES.iter().map(owned).collect(), table::ELEMENTS.to_vec()).is_some(), "it is closed");
}

#[test]
fn every_built_in_kind_has_a_type() {
    for kind in kinds::built_in().kinds().chain(kinds::bodies()) {
        assert!(kind.ty().named().is_some(), "{kind:?}");
    }
}

#[test]
fn go_names() {
    let spec = Types::BuiltIn.find("io.k8s.api.apps.v1.DeploymentSpec").named().expect("is in the table");
    assert_eq!((spec.go_name(), spec.go_path()), ("DeploymentSpec", "v1.DeploymentSpec"));
    let ty = spec.field("replicas").map(|f| f.ty.go());
    assert_eq!(ty.as_deref(), Some("int32"));
}

#[test]
fn an_arena_that_is_not_closed_or_sorted_is_refused() {
    let ty = |name: &str, form| Type {
        name: name.to_owned(),
        fields: vec![StoredField { name: "a".to_owned(), form, required: false }],
    };
    assert!(Arena::new(vec![ty("A", Form::Ref(0))], vec![]).is_some());
    assert!(Arena::new(vec![ty("A", Form::Ref(1))], vec![]).is_none());
    assert!(Arena::new(vec![ty("A", Form::List(0))], vec![]).is_none());
    assert!(Arena::new(vec![ty("B", Form::Any), ty("A", Form::Any)], vec![]).is_none());
}
