//! The generated table is sorted, complete and closed.

use super::*;
use crate::kinds::{EMBEDDED, KINDS};

#[test]
fn sorted_and_closed() {
    assert!(TYPES.is_sorted_by_key(|ty| ty.name));
    for ty in TYPES {
        assert!(ty.fields.is_sorted_by_key(|field| field.name), "{}", ty.name);
        for field in ty.fields {
            closed(field.ty);
        }
    }
}

fn closed(ty: Ty) {
    match ty {
        Ty::Map(inner) | Ty::List(inner) => closed(*inner),
        Ty::Ref(_) => assert!(ty.named().is_some()),
        Ty::String | Ty::Int32 | Ty::Int64 | Ty::Bool | Ty::Double | Ty::IntOrString => {}
        Ty::Quantity | Ty::DateTime | Ty::MicroTime | Ty::Bytes | Ty::Any => {}
    }
}

#[test]
fn every_kind_has_a_type() {
    for kind in KINDS.iter().chain(EMBEDDED) {
        assert!(find(kind.schema).is_some(), "{}", kind.schema);
    }
}

#[test]
fn go_names() {
    let spec = find("io.k8s.api.apps.v1.DeploymentSpec").expect("is in the table");
    assert_eq!((spec.go_name(), spec.go_path()), ("DeploymentSpec", "v1.DeploymentSpec"));
    let ty = spec.field("replicas").map(|f| f.ty.go());
    assert_eq!(ty.as_deref(), Some("int32"));
}
