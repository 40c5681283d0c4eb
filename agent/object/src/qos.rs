//! The quality-of-service class of a pod: decided by its requests and limits when it is made, as
//! <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/> says.

use serde_json::Value;

use crate::meta;
use crate::quantity::Quantity;

const RESOURCES: [&str; 2] = ["cpu", "memory"];

/// The class of a pod with this spec, which has its defaults.
pub fn class(spec: &Value) -> &'static str {
    let containers: Vec<&Value> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| meta::items(spec.get(list)))
        .map(|container| container.get("resources").unwrap_or(&Value::Null))
        .collect();
    let amount = |resources: &Value, which: &str, name: &str| {
        let text = meta::at(resources, &[which, name]).and_then(Value::as_str)?;
        Quantity::parse(text).ok().filter(|quantity| !quantity.is_zero())
    };
    let asks = |resources: &&Value| {
        let any = |which| RESOURCES.iter().any(|name| amount(resources, which, name).is_some());
        any("requests") || any("limits")
    };
    if !containers.iter().any(asks) {
        return "BestEffort";
    }
    let fixed = |resources: &&Value| {
        RESOURCES.iter().all(|name| {
            let limit = amount(resources, "limits", name);
            limit.is_some() && amount(resources, "requests", name).is_none_or(|request| Some(request) == limit)
        })
    };
    if containers.iter().all(fixed) { "Guaranteed" } else { "Burstable" }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn classes() {
        let spec = |resources: Value| json!({"containers": [{"resources": resources}]});
        let both = json!({"cpu": "1", "memory": "1Gi"});
        let same = json!({"cpu": "1000m", "memory": "1024Mi"});
        for (resources, expected) in [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "0"}}), "BestEffort"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
            (json!({"limits": {"cpu": "1"}}), "Burstable"),
            (json!({"limits": both, "requests": same}), "Guaranteed"),
            (json!({"limits": both}), "Guaranteed"),
            (json!({"limits": both, "requests": {"cpu": "500m", "memory": "1Gi"}}), "Burstable"),
            (json!({"limits": "x"}), "BestEffort"),
        ] {
            assert_eq!(class(&spec(resources.clone())), expected, "{resources}");
        }
        let two = json!({"containers": [{"resources": {"limits": both}}], "initContainers": [{}]});
        assert_eq!(class(&two), "Burstable");
        assert_eq!(class(&Value::Null), "BestEffort");
    }
}
