//! Scopes: to which pods, or claims, a quota is limited. What is of another kind is in no scope.

use serde_json::Value;

use crate::{meta, qos};

/// One scope: its name, and what of it is wanted.
struct Selector<'a> {
    scope: &'a str,
    operator: &'a str,
    values: Vec<&'a str>,
}

fn selectors(quota: &Value) -> impl Iterator<Item = Selector<'_>> {
    let plain = meta::items(meta::at(quota, &["spec", "scopes"])).iter().filter_map(Value::as_str);
    let plain = plain.map(|scope| Selector { scope, operator: "Exists", values: Vec::new() });
    let selected = meta::items(meta::at(quota, &["spec", "scopeSelector", "matchExpressions"])).iter();
    plain.chain(selected.map(|expression| Selector {
        scope: meta::text_at(expression, &["scopeName"]),
        operator: meta::text_at(expression, &["operator"]),
        values: meta::items(expression.get("values")).iter().filter_map(Value::as_str).collect(),
    }))
}

/// Whether an object is in all scopes of a quota.
pub fn matches(quota: &Value, resource: &str, object: &Value) -> bool {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    selectors(quota).all(|selector| match resource {
        "pods" => pod_matches(&selector, spec),
        "persistentvolumeclaims" => selector.scope == "VolumeAttributesClass" && selector.selects(&classes(object)),
        _ => false,
    })
}

impl Selector<'_> {
    /// Whether one of these names is selected.
    fn selects(&self, names: &[&str]) -> bool {
        let listed = names.iter().any(|name| self.values.contains(name));
        match self.operator {
            "Exists" => !names.is_empty(),
            "DoesNotExist" => names.is_empty(),
            "In" => listed,
            "NotIn" => names.is_empty() || names.iter().any(|name| !self.values.contains(name)),
            _ => false,
        }
    }
}

fn pod_matches(selector: &Selector<'_>, spec: &Value) -> bool {
    let deadline = || spec.get("activeDeadlineSeconds").and_then(Value::as_i64).is_some_and(|seconds| seconds >= 0);
    let best_effort = || qos::class(spec) == "BestEffort";
    match selector.scope {
        "Terminating" => deadline(),
        "NotTerminating" => !deadline(),
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => {
            let name = meta::text_at(spec, &["priorityClassName"]);
            let names: &[&str] = if name.is_empty() { &[] } else { &[name] };
            selector.selects(names)
        }
        "CrossNamespacePodAffinity" => looks_elsewhere(spec),
        _ => false,
    }
}

/// Whether a pod's place depends on pods of other namespaces.
fn looks_elsewhere(spec: &Value) -> bool {
    let elsewhere = |term: &Value| {
        !meta::items(term.get("namespaces")).is_empty()
            || term.get("namespaceSelector").is_some_and(|selector| !selector.is_null())
    };
    ["podAffinity", "podAntiAffinity"].into_iter().any(|affinity| {
        let terms = |list: &str| meta::items(meta::at(spec, &["affinity", affinity, list])).iter();
        terms("requiredDuringSchedulingIgnoredDuringExecution").any(elsewhere)
            || terms("preferredDuringSchedulingIgnoredDuringExecution")
                .any(|term| term.get("podAffinityTerm").is_some_and(elsewhere))
    })
}

/// The classes of attributes that a claim has, had or is to get.
fn classes(claim: &Value) -> Vec<&str> {
    let paths: [&[&str]; 3] = [
        &["spec", "volumeAttributesClassName"],
        &["status", "currentVolumeAttributesClassName"],
        &["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"],
    ];
    paths.iter().map(|path| meta::text_at(claim, path)).filter(|name| !name.is_empty()).collect()
}
