//! The OpenAPI v3 document of a group and version that definitions make, for `kubectl explain` and for clients that check.
//! Made when it is asked for: nothing of it stays in memory.

use serde_json::{Map, Value, json};

use crate::kinds::{Kind, Scope};
use crate::meta;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const SHARED: &[&str] = &["ObjectMeta", "ListMeta", "OwnerReference", "ManagedFieldsEntry", "FieldsV1", "Time"];

/// A kind and the definition that it comes of.
pub struct Described<'a> {
    pub kind: &'a Kind,
    pub definition: &'a Value,
}

/// The document; `types` are the components of one that has the types of metadata.
pub fn document(described: &[Described<'_>], types: &Value) -> Value {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for name in SHARED.iter().map(|name| format!("{META}.{name}")) {
        if let Some(schema) = types.get(&name) {
            schemas.insert(name, schema.clone());
        }
    }
    for Described { kind, definition } in described {
        let name = component(kind);
        schemas.insert(name.clone(), schema(kind, definition));
        schemas.insert(format!("{name}List"), list(kind, &name));
        add_paths(&mut paths, kind, &name);
    }
    json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes CRD Swagger", "version": "v0.1.0"},
        "paths": paths, "components": {"schemas": schemas},
    })
}

/// `org.example.fleet.v1.Boat`
fn component(kind: &Kind) -> String {
    let group: Vec<&str> = kind.group.rsplit('.').collect();
    format!("{}.{}.{}", group.join("."), kind.version, kind.kind)
}

fn gvk(kind: &Kind, suffix: &str) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": format!("{}{suffix}", kind.kind)})
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn schema(kind: &Kind, definition: &Value) -> Value {
    let versions = meta::items(meta::at(definition, &["spec", "versions"]));
    let own = versions.iter().find(|version| meta::text_at(version, &["name"]) == kind.version);
    let own = own.and_then(|version| meta::at(version, &["schema", "openAPIV3Schema"]));
    let mut schema = own.cloned().unwrap_or_else(|| json!({"type": "object"}));
    let properties = meta::map_mut(&mut schema).entry("properties").or_insert_with(|| json!({}));
    let properties = meta::map_mut(properties);
    let said = "The version of this representation of an object.";
    properties.insert("apiVersion".to_owned(), json!({"type": "string", "description": said}));
    let said = "The REST resource that this object represents.";
    properties.insert("kind".to_owned(), json!({"type": "string", "description": said}));
    let metadata = json!({"allOf": [reference(&format!("{META}.ObjectMeta"))],
        "description": "Standard object's metadata.", "default": {}});
    properties.insert("metadata".to_owned(), metadata);
    meta::map_mut(&mut schema).insert("x-kubernetes-group-version-kind".to_owned(), json!([gvk(kind, "")]));
    schema
}

fn list(kind: &Kind, name: &str) -> Value {
    json!({
        "type": "object", "description": format!("{} is a list of {}", kind.list_kind(), kind.kind),
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"},
            "metadata": {"allOf": [reference(&format!("{META}.ListMeta"))]},
            "items": {"type": "array", "items": {"allOf": [reference(name)]}},
        },
        "x-kubernetes-group-version-kind": [gvk(kind, "List")],
    })
}

fn add_paths(paths: &mut Map<String, Value>, kind: &Kind, name: &str) {
    let root = format!("/apis/{}/{}", kind.group, kind.version);
    let collection = match kind.scope {
        Scope::Cluster => format!("{root}/{}", kind.plural),
        Scope::Namespaced => format!("{root}/namespaces/{{namespace}}/{}", kind.plural),
    };
    let of_list = reference(&format!("{name}List"));
    let of_object = reference(name);
    let reads = |answer: &Value| operation(kind, "list", &[], answer, None);
    paths.insert(
        collection.clone(),
        json!({"get": reads(&of_list), "post": operation(kind, "post", WRITE, &of_object, Some("application/json"))}),
    );
    if kind.namespaced() {
        paths.insert(format!("{root}/{}", kind.plural), json!({"get": reads(&of_list)}));
    }
    let item = json!({
        "get": operation(kind, "get", &[], &of_object, None),
        "put": operation(kind, "put", WRITE, &of_object, Some("application/json")),
        "patch": operation(kind, "patch", WRITE, &of_object, Some("application/merge-patch+json")),
        "delete": operation(kind, "delete", &["dryRun"], &json!({"type": "object"}), None),
    });
    if kind.status {
        paths.insert(format!("{collection}/{{name}}/status"), item.clone());
    }
    paths.insert(format!("{collection}/{{name}}"), item);
}

const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];

fn operation(kind: &Kind, action: &str, parameters: &[&str], answer: &Value, body: Option<&str>) -> Value {
    let parameters: Vec<Value> = parameters
        .iter()
        .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}}))
        .collect();
    let mut operation = json!({
        "tags": [format!("{}_{}", kind.group, kind.version)], "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": answer}}}},
        "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk(kind, ""),
    });
    if let Some(media) = body {
        let content = Map::from_iter([(media.to_owned(), json!({"schema": answer}))]);
        operation["requestBody"] = json!({"required": true, "content": content});
    }
    operation
}
