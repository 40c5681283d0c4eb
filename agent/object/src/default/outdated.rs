//! Fields that go when a Service becomes one of another type.
//!
//! Owns which fields only some types have. Who changes the type alone sends the others as they were; upstream takes them
//! out, and so they are no mistake.

use crate::{Kind, meta};
use serde_json::{Map, Value};

type Object = Map<String, Value>;
/// Whether a Service with such a spec has a field.
type Has = fn(&Object) -> bool;

/// Fields of a Service's spec and which of them has them.
const FIELDS: &[(&str, Has)] = &[
    ("clusterIP", has_address),
    ("clusterIPs", has_address),
    ("ipFamilies", has_address),
    ("ipFamilyPolicy", has_address),
    ("externalTrafficPolicy", is_external),
    ("healthCheckNodePort", is_health_checked),
    ("allocateLoadBalancerNodePorts", is_balanced),
    ("loadBalancerClass", is_balanced),
];

fn text<'a>(spec: &'a Object, field: &str) -> &'a str {
    spec.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn has_address(spec: &Object) -> bool {
    text(spec, "type") != "ExternalName"
}

fn is_balanced(spec: &Object) -> bool {
    text(spec, "type") == "LoadBalancer"
}

fn has_node_ports(spec: &Object) -> bool {
    matches!(text(spec, "type"), "NodePort" | "LoadBalancer")
}

fn is_external(spec: &Object) -> bool {
    has_node_ports(spec) || text(spec, "type") == "ClusterIP" && !meta::items(spec.get("externalIPs")).is_empty()
}

fn is_health_checked(spec: &Object) -> bool {
    is_balanced(spec) && text(spec, "externalTrafficPolicy") == "Local"
}

/// Takes out what went with the old type of a Service and was not changed.
pub fn drop_outdated(kind: &Kind, new: &mut Value, old: &Value) {
    let Some(old) = old.get("spec").and_then(Value::as_object).filter(|_| kind.is("", "Service")) else {
        return;
    };
    let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let outdated: Vec<&str> = FIELDS
        .iter()
        .filter(|(field, has)| has(old) && !has(spec) && old.get(*field) == spec.get(*field))
        .map(|(field, _)| *field)
        .collect();
    for field in outdated {
        spec.remove(field);
    }
    if has_node_ports(old) && !has_node_ports(spec) {
        let ports = |spec: &Object| -> Vec<Value> {
            meta::items(spec.get("ports"))
                .iter()
                .map(|port| port.get("nodePort").cloned().unwrap_or_default())
                .collect()
        };
        let unchanged = ports(old) == ports(spec);
        for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(port) = port.as_object_mut().filter(|_| unchanged) {
                port.remove("nodePort");
            }
        }
    }
}
