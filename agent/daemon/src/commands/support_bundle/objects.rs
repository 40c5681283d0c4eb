//! API objects without what may be secret, by their structure. Pure.

use serde_json::{Map, Value, json};

const REDACTED: &str = "[redacted]";
/// Whose annotations are ours or Kubernetes' own, so that their values are known to be harmless.
const OWN_DOMAINS: &[&str] = &["kubernetes.io", "k8s.io", "skiff.dev"];

/// A list as the API answers it.
pub fn strip(mut list: Value) -> Value {
    if let Some(items) = list["items"].as_array_mut() {
        items.iter_mut().for_each(object);
    }
    list
}

fn object(object: &mut Value) {
    for field in ["data", "stringData", "binaryData"] {
        if let Some(values) = object[field].as_object_mut() {
            values.values_mut().for_each(|value| *value = json!(REDACTED));
        }
    }
    metadata(&mut object["metadata"]);
    walk(object);
}

fn metadata(metadata: &mut Value) {
    let Some(metadata) = metadata.as_object_mut() else { return };
    metadata.remove("managedFields");
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        for (key, value) in annotations {
            let domain = key.split('/').next().unwrap_or_default();
            // Other ingresses take whole configurations there.
            let is_foreign = domain.ends_with(".ingress.kubernetes.io");
            let is_own =
                !is_foreign && OWN_DOMAINS.iter().any(|own| domain == *own || domain.ends_with(&format!(".{own}")));
            // kubectl keeps the whole manifest there.
            if !is_own || key.ends_with("last-applied-configuration") {
                *value = json!(REDACTED);
            }
        }
    }
}

/// Templates of pods are objects within objects.
fn walk(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            strip_fields(fields);
            fields.values_mut().for_each(walk);
        }
        Value::Array(items) => items.iter_mut().for_each(walk),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn strip_fields(fields: &mut Map<String, Value>) {
    // Environment variables and headers of probes.
    if fields.contains_key("name")
        && let Some(value) = fields.get_mut("value")
    {
        *value = json!(REDACTED);
    }
    // The program's name is worth having; what it is told is its user's business.
    if let Some(command) = fields.get_mut("command").and_then(Value::as_array_mut) {
        command.iter_mut().skip(1).for_each(|word| *word = json!(REDACTED));
    }
    if let Some(arguments) = fields.get_mut("args").and_then(Value::as_array_mut) {
        arguments.iter_mut().for_each(|word| *word = json!(REDACTED));
    }
    if let Some(template) = fields.get_mut("metadata") {
        metadata(template);
    }
}

/// The literal values of environment variables: they may stand in logs, too.
pub fn environment(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let (Some(_), Some(Value::String(value))) = (fields.get("name"), fields.get("value")) {
                found.push(value.clone());
            }
            fields.values().for_each(|field| environment(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| environment(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_and_the_shape_stays() {
        let list = json!({"items": [{
            "kind": "Deployment",
            "metadata": {"name": "web", "managedFields": [1], "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "PLANTED",
                "example.org/note": "PLANTED",
                "deployment.kubernetes.io/revision": "3",
            }},
            "data": {"key": "PLANTED"}, "stringData": {"key": "PLANTED"}, "binaryData": {"key": "PLANTED"},
            "spec": {"template": {
                "metadata": {"annotations": {"evilkubernetes.io/x": "PLANTED"}},
                "spec": {"containers": [{
                    "name": "a", "image": "img:1",
                    "command": ["/bin/app", "PLANTED"], "args": ["PLANTED"],
                    "env": [{"name": "A", "value": "PLANTED"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s"}}}],
                    "livenessProbe": {"exec": {"command": ["sh", "PLANTED"]}},
                    "readinessProbe": {"httpGet": {"httpHeaders": [{"name": "X", "value": "PLANTED"}]}},
                }]},
            }},
        }]});
        let mut found = Vec::new();
        environment(&list, &mut found);
        assert_eq!(found, ["PLANTED", "PLANTED"]);
        let text = strip(list).to_string();
        assert!(!text.contains("PLANTED"), "{text}");
        for kept in ["\"web\"", "img:1", "/bin/app", "secretKeyRef", "\"3\"", "\"key\""] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
    }
}
