//! One OpenAPI v3 document for each group and version.
//!
//! Owns the components; the operations are in `paths`.

use crate::{paths, table::reference};
use serde_json::{Map, Value, json};
use skiff_object::kinds::{self, Kind};
use skiff_object::patch::merge_keys::{ListType, RULES, Rule, Strategy};
use std::collections::BTreeSet;

pub const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// The documents with the path under which they are served, such as `apis/apps/v1`.
pub fn documents(definitions: &Map<String, Value>) -> Vec<(String, Value)> {
    let groups = kinds::built_in().groups().iter();
        let versions = groups.flat_map(|group| group.versions.iter().map(|version| (&*group.name, &**version)));
    let is_typed = |(group, version): &(&str, &str)| {
        let own = |kind: &&std::sync::Arc<Kind>| kind.group == *group && kind.version == *version;
        kinds::built_in().kinds().filter(own).any(|kind| !kind.type_name.is_empty())
    };
    versions.filter(is_typed).map(|(group, version)| document(definitions, group, version)).collect()
}

fn document(definitions: &Map<String, Value>, group: &str, version: &str) -> (String, Value) {
    let served = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
    let kinds = kinds::built_in().kinds().map(|kind| &**kind);
    let kinds: Vec<&Kind> = kinds.filter(|kind| kind.group == group && kind.version == version).collect();
    let mut paths = Map::new();
    for kind in &kinds {
        paths::add(&mut paths, &served, kind);
    }
    let mut schemas = Map::new();
    for name in reachable(definitions, &roots(&kinds)) {
        if let Some(schema) = definitions.get(&name) {
            schemas.insert(name.clone(), component(&name, schema));
        }
    }
    for kind in kinds.iter().filter(|kind| kind.is_kept()) {
        schemas.insert(format!("{}List", kind.type_name), list(kind));
    }
    schemas.sort_keys();
    let document = json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.37.0"},
        "paths": paths,
        "components": {"schemas": schemas},
    });
    (served, document)
}

fn roots(kinds: &[&Kind]) -> Vec<String> {
    let mut roots: Vec<String> = kinds.iter().map(|kind| kind.type_name.to_string()).collect();
    roots.extend(
        ["Status", "DeleteOptions", "ListMeta", "APIResourceList", "Patch"].map(|name| format!("{META}{name}")),
    );
    let bodies = kinds.iter().flat_map(|kind| paths::bodies(kind));
    roots.extend(bodies.map(|body| body.type_name.to_string()));
    roots
}

fn reachable(definitions: &Map<String, Value>, roots: &[String]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<String> = roots.to_vec();
    while let Some(name) = open.pop() {
        if let Some(schema) = definitions.get(&name)
            && found.insert(name)
        {
            references(schema, &mut open);
        }
    }
    found
}

fn references(schema: &Value, found: &mut Vec<String>) {
    found.extend(reference(schema).map(str::to_owned));
    match schema {
        Value::Object(map) => map.values().for_each(|value| references(value, found)),
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A definition as upstream publishes it: no required metadata, references in `allOf`, list and patch extensions.
fn component(name: &str, schema: &Value) -> Value {
    let mut schema = schema.clone();
    match name {
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => {
            return json!({"description": schema["description"], "oneOf": [{"type": "string"}, {"type": "number"}]});
        }
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => {
            return json!({"description": schema["description"], "format": "int-or-string",
                "oneOf": [{"type": "integer"}, {"type": "string"}]});
        }
        _ => {}
    }
    relax_required(&mut schema);
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (field, property) in properties {
            wrap_references(property);
            extend(name, field, property);
        }
    }
    let versions: Vec<Value> = versions_of(name);
    if !versions.is_empty() {
        schema["x-kubernetes-group-version-kind"] = Value::Array(versions);
    }
    schema
}

/// The Rust types always have metadata; the API does not ask for it.
fn relax_required(schema: &mut Value) {
    let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) else {
        return;
    };
    required.retain(|field| field != "metadata");
    if required.is_empty()
        && let Some(schema) = schema.as_object_mut()
    {
        schema.remove("required");
    }
}

fn versions_of(name: &str) -> Vec<Value> {
    let gvk = |group: &str, version: &str, kind: &str| json!({"group": group, "kind": kind, "version": version});
    if name == format!("{META}DeleteOptions") {
        let groups = kinds::built_in().groups().iter();
        let versions = groups.flat_map(|group| group.versions.iter().map(|version| (&*group.name, &**version)));
        return versions.map(|(group, version)| gvk(group, version, "DeleteOptions")).collect();
    }
    let kinds = kinds::built_in().kinds().chain(kinds::bodies()).filter(|kind| kind.type_name == name);
    kinds.map(|kind| gvk(&kind.group, &kind.version, &kind.kind)).collect()
}

/// A `$ref` may have no siblings: it goes into an `allOf` beside its description.
fn wrap_references(schema: &mut Value) {
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(inner) {
            wrap_references(inner);
        }
    }
    if let Some(map) = schema.as_object_mut()
        && let Some(target) = map.remove("$ref")
    {
        map.insert("allOf".to_owned(), json!([{"$ref": target}]));
    }
}

fn extend(type_name: &str, field: &str, property: &mut Value) {
    let rule = RULES.iter().find(|rule| rule.type_name == type_name && rule.field == field);
    if property["type"] == "array" {
        extend_list(rule, property);
    }
    let Some(rule) = rule else { return };
    let strategy = match rule.strategy {
        Strategy::Replace => return,
        Strategy::Merge => "merge",
        Strategy::RetainKeys => "retainKeys",
        Strategy::MergeRetainKeys => "merge,retainKeys",
    };
    property["x-kubernetes-patch-strategy"] = strategy.into();
    if !rule.merge_key.is_empty() {
        property["x-kubernetes-patch-merge-key"] = rule.merge_key.into();
    }
}

fn extend_list(rule: Option<&Rule>, property: &mut Value) {
    match rule.map_or(ListType::Atomic, |rule| rule.list) {
        ListType::Atomic => property["x-kubernetes-list-type"] = "atomic".into(),
        ListType::Set => property["x-kubernetes-list-type"] = "set".into(),
        ListType::Map(keys) => {
            property["x-kubernetes-list-type"] = "map".into();
            property["x-kubernetes-list-map-keys"] = keys.into();
        }
    }
}

fn list(kind: &Kind) -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    json!({
        "description": format!("{} is a list of {}.", kind.list_kind(), kind.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": text("The version of the schema of this list."),
            "kind": text("The kind of this list."),
            "metadata": {"allOf": [{"$ref": format!("#/components/schemas/{META}ListMeta")}], "default": {},
                "description": "Standard list metadata."},
            "items": {"type": "array", "description": format!("The {}.", kind.plural),
                "items": {"allOf": [{"$ref": format!("#/components/schemas/{}", kind.type_name)}], "default": {}}},
        },
        "x-kubernetes-group-version-kind": [{"group": kind.group, "kind": kind.list_kind(), "version": kind.version}],
    })
}
