//! The table is sorted, complete and closed.

use super::*;
use crate::kinds::{self, Nature};

#[test]
fn sorted_and_closed() {
    assert!(table::TYPES.is_sorted_by_key(|row| row.name));
    for row in table::TYPES {
        assert!(row.fields.is_sorted_by_key(|field| field.name), "{}", row.name);
    }
    assert_eq!(table::TYPES.len(), tags::TAGS.len());
    let fields = table::TYPES.iter().flat_map(|row| row.fields).map(|field| field.form);
    for form in fields.chain(table::ELEMENTS.iter().copied()) {
        match form {
            Form::Map(index) | Form::List(index) => assert!(usize::from(index) < table::ELEMENTS.len(), "{form:?}"),
            Form::Ref(index) => assert!(usize::from(index) < table::TYPES.len(), "{form:?}"),
            _ => {}
        }
    }
}

#[test]
fn every_built_in_kind_has_a_type() {
    for kind in kinds::built_in().kinds().chain(kinds::bodies()) {
        assert!(kind.ty().named().is_some() != (kind.nature == Nature::Computed), "{kind:?}");
    }
}

#[test]
fn go_names() {
    let spec = find("io.k8s.api.apps.v1.DeploymentSpec").named().expect("is in the table");
    assert_eq!((spec.go_name(), spec.go_path()), ("DeploymentSpec", "v1.DeploymentSpec"));
    let ty = spec.field("replicas").map(|f| f.ty.go());
    assert_eq!(ty.as_deref(), Some("int32"));
}
