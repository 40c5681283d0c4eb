//! What discovery says of API servers behind this one. Pure.

use serde_json::{Map, Value, json};
use skiff_object::kinds::Catalogue;

use super::{Aggregation, Service};

/// The aggregated form of a list of resources.
pub fn resources(list: &Value, group: &str, version: &str) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    for resource in list.get("resources").and_then(Value::as_array).into_iter().flatten() {
        let text = |field: &str| resource.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        let own = |field, default| text(field).unwrap_or(default);
        let kind = json!({"group": own("group", group), "version": own("version", version), "kind": own("kind", "")});
        let verbs = resource.get("verbs").cloned().unwrap_or_else(|| json!([]));
        let name = own("name", "");
        if let Some((parent, part)) = name.split_once('/') {
            let part = json!({"subresource": part, "responseKind": kind, "verbs": verbs});
            if let Some(parent) = all.iter_mut().find(|known| known["resource"] == parent) {
                match parent.get_mut("subresources").and_then(Value::as_array_mut) {
                    Some(parts) => parts.push(part),
                    None => parent["subresources"] = json!([part]),
                }
            }
            continue;
        }
        let is_namespaced = resource.get("namespaced") == Some(&Value::Bool(true));
        let mut entry = json!({"resource": name, "responseKind": kind, "singularResource": own("singularName", ""),
            "scope": if is_namespaced { "Namespaced" } else { "Cluster" }, "verbs": verbs});
        for field in ["shortNames", "categories"] {
            if let Some(list) = resource.get(field) {
                entry[field] = list.clone();
            }
        }
        all.push(entry);
    }
    all
}

/// The versions of each group, in their order.
fn groups(aggregation: &Aggregation, catalogue: &Catalogue) -> Vec<(String, Vec<std::sync::Arc<Service>>)> {
    let mut groups: Vec<(String, Vec<_>)> = Vec::new();
    for service in aggregation.answering(catalogue) {
        match groups.iter_mut().find(|(name, _)| *name == service.group) {
            Some((_, versions)) => versions.push(service),
            None => groups.push((service.group.clone(), vec![service])),
        }
    }
    groups
}

fn version(service: &Service) -> Value {
    json!({"groupVersion": service.group_version(), "version": service.version})
}

/// Adds the groups to a list of them, in the form that it has. A group that is there gets versions.
pub fn add_groups(aggregation: &Aggregation, catalogue: &Catalogue, is_aggregated: bool, list: &mut Vec<Value>) {
    for (name, services) in groups(aggregation, catalogue) {
        let own = |known: &&mut Value| match is_aggregated {
            true => known["metadata"]["name"] == name,
            false => known["name"] == name,
        };
        let versions: Vec<Value> = services.iter().map(|service| shown(service, is_aggregated)).collect();
        match list.iter_mut().find(own).and_then(|known| known["versions"].as_array_mut()) {
            Some(known) => {
                known.retain(|known| !versions.iter().any(|new| new["version"] == known["version"]));
                known.extend(versions);
            }
            None if is_aggregated => list.push(json!({"metadata": {"name": name}, "versions": versions})),
            None => list.push(json!({"name": name, "preferredVersion": versions.first(), "versions": versions})),
        }
    }
}

fn shown(service: &Service, is_aggregated: bool) -> Value {
    if !is_aggregated {
        return version(service);
    }
    let resources = service.resources();
    let freshness = if resources.is_some() { "Current" } else { "Stale" };
    json!({"version": service.version, "freshness": freshness, "resources": resources.as_deref().cloned().unwrap_or_default()})
}

/// `/apis/GROUP` of a group that only others serve.
pub fn group_document(aggregation: &Aggregation, catalogue: &Catalogue, path: &str) -> Option<Value> {
    let name = path.strip_prefix("/apis/")?.trim_end_matches('/');
    let (_, services) = groups(aggregation, catalogue).into_iter().find(|(group, _)| group == name)?;
    let versions: Vec<Value> = services.iter().map(|service| version(service)).collect();
    Some(json!({"kind": "APIGroup", "apiVersion": "v1", "name": name, "preferredVersion": versions.first(),
        "versions": versions}))
}

/// Where their OpenAPI documents are.
pub fn add_documents(aggregation: &Aggregation, catalogue: &Catalogue, paths: &mut Map<String, Value>) {
    for service in aggregation.answering(catalogue).iter().filter(|service| service.resources().is_some()) {
        let path = format!("apis/{}", service.group_version());
        let url = format!("/openapi/v3/{path}");
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
}
