//! Converting there and back changes nothing.

use super::*;
use crate::kinds::by_kind;

#[test]
fn events() {
    let (core, new) =
        (by_kind("v1", "Event").expect("is served"), by_kind("events.k8s.io/v1", "Event").expect("is served"));
    let object = json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "a"}, "message": "m", "count": 2, "reason": "r"});
    let converted = convert(core, new, object.clone());
    assert_eq!(converted["note"], "m");
    assert_eq!(converted["regarding"]["name"], "a");
    assert_eq!(converted["apiVersion"], "events.k8s.io/v1");
    assert_eq!(convert(new, core, converted), object);
}

#[test]
fn autoscalers() {
    let v1 = by_kind("autoscaling/v1", "HorizontalPodAutoscaler").expect("is served");
    let v2 = by_kind("autoscaling/v2", "HorizontalPodAutoscaler").expect("is served");
    let object = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
        "spec": {"maxReplicas": 3, "behavior": {"scaleDown": {}}, "metrics": [
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
            {"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 60}}}]},
        "status": {"currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7}}}], "desiredReplicas": 1}});
    let converted = convert(v2, v1, object.clone());
    assert_eq!(converted["spec"]["targetCPUUtilizationPercentage"], 50);
    assert_eq!(converted["status"]["currentCPUUtilizationPercentage"], 7);
    assert!(meta::annotation(&converted, "autoscaling.alpha.kubernetes.io/metrics").is_some());
    assert_eq!(convert(v1, v2, converted), object);
}
