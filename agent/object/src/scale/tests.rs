//! A scale read and written back.

use super::*;
use crate::kinds::by_kind;

#[test]
fn both_directions() {
    let kind = by_kind("apps/v1", "Deployment").expect("is served");
    let mut object = json!({"metadata": {"name": "a", "namespace": "n", "labels": {"x": "y"}},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}}, "status": {"replicas": 1}});
    let mut scale = read(kind, &object);
    assert_eq!(
        scale,
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a", "namespace": "n"},
            "spec": {"replicas": 2}, "status": {"replicas": 1, "selector": "a=b"}})
    );
    scale["spec"]["replicas"] = 5.into();
    write(kind, &mut object, &scale);
    assert_eq!(object["spec"]["replicas"], 5);
}
