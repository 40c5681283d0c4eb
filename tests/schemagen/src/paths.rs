//! The operations of each resource.
//!
//! Owns paths, actions and parameters of the documents; what the API server does with them is its own affair.

use crate::openapi::META;
use serde_json::{Map, Value, json};
use skiff_object::kinds::{self, Kind, Scope};

/// Query parameters: name, type, description.
type Parameter = (&'static str, &'static str, &'static str);

const PRETTY: Parameter = ("pretty", "string", "If 'true', then the output is pretty printed.");
const WRITE: &[Parameter] = &[
    (
        "dryRun",
        "string",
        "When present, indicates that modifications should not be persisted. The only valid value is 'All'.",
    ),
    ("fieldManager", "string", "The name of the actor that makes the change, at most 128 printable characters."),
    (
        "fieldValidation",
        "string",
        "What to do with unknown or duplicate fields: 'Ignore', 'Warn' (the default) or 'Strict'.",
    ),
];
const PATCH: &[Parameter] =
    &[("force", "boolean", "Take the fields of an apply request even if another manager owns them.")];
const DELETE: &[Parameter] = &[
    (
        "dryRun",
        "string",
        "When present, indicates that modifications should not be persisted. The only valid value is 'All'.",
    ),
    ("gracePeriodSeconds", "integer", "Seconds before the object is deleted; 0 deletes at once."),
    ("propagationPolicy", "string", "What becomes of dependents: 'Orphan', 'Background' or 'Foreground'."),
];
const LIST: &[Parameter] = &[
    ("allowWatchBookmarks", "boolean", "Ask for watch events of type 'BOOKMARK'."),
    ("continue", "string", "The token of the previous page."),
    ("fieldSelector", "string", "Restrict the list by fields. Defaults to everything."),
    ("labelSelector", "string", "Restrict the list by labels. Defaults to everything."),
    ("limit", "integer", "At most this many items in one response."),
    ("resourceVersion", "string", "The resource version that the list may be served from."),
    ("resourceVersionMatch", "string", "How resourceVersion is applied to list calls."),
    ("sendInitialEvents", "boolean", "Start a watch with the present objects."),
    ("timeoutSeconds", "integer", "Limits the duration of the call."),
    ("watch", "boolean", "Return a stream of changes instead of a list."),
];
const PATCH_TYPES: &[&str] = &[
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// The kinds of the bodies of a kind's subresources.
pub fn bodies(kind: &Kind) -> Vec<&'static Kind> {
    let mut names: Vec<&str> = kind.subresources.iter().filter_map(|name| body_of(name)).collect();
    names.extend(kind.scale.then_some("Scale"));
    names.iter().filter_map(|name| kinds::bodies().map(|body| &**body).find(|body| body.kind == *name)).collect()
}

fn body_of(subresource: &str) -> Option<&'static str> {
    const BODIES: &[(&str, &str)] = &[("binding", "Binding"), ("eviction", "Eviction"), ("token", "TokenRequest")];
    BODIES.iter().find(|(name, _)| *name == subresource).map(|(_, kind)| *kind)
}

/// Adds all paths of a kind.
pub fn add(paths: &mut Map<String, Value>, served: &str, kind: &Kind) {
    let (collection, scoped) = match kind.scope {
        Scope::Namespaced => (format!("/{served}/namespaces/{{namespace}}/{}", kind.plural), true),
        Scope::Cluster => (format!("/{served}/{}", kind.plural), false),
    };
    let fixed = if scoped { vec!["namespace"] } else { vec![] };
    if !kind.is_kept() {
        paths.insert(collection, item(&fixed, vec![create(kind)]));
        return;
    }
    paths.insert(collection.clone(), item(&fixed, vec![list(kind), create(kind), delete_collection(kind)]));
    if scoped {
        paths.insert(format!("/{served}/{}", kind.plural), item(&[], vec![list(kind)]));
    }
    let named: Vec<&str> = fixed.iter().copied().chain(["name"]).collect();
    let one = format!("{collection}/{{name}}");
    paths.insert(one.clone(), item(&named, vec![get(kind, kind), put(kind), patch(kind, kind), delete(kind)]));
    if kind.status {
        paths.insert(format!("{one}/status"), item(&named, vec![get(kind, kind), put(kind), patch(kind, kind)]));
    }
    if let (true, Some(scale)) = (kind.scale, kinds::bodies().map(|body| &**body).find(|body| body.kind == "Scale")) {
        paths.insert(format!("{one}/scale"), item(&named, vec![get(scale, scale), put(scale), patch(scale, scale)]));
    }
    for subresource in kind.subresources.iter().map(|name| &**name) {
        paths.insert(format!("{one}/{subresource}"), item(&named, subresource_operations(kind, subresource)));
    }
}

fn subresource_operations(kind: &Kind, subresource: &str) -> Vec<(&'static str, Value)> {
    let body = body_of(subresource).and_then(|name| kinds::bodies().map(|body| &**body).find(|body| body.kind == name));
    match (body, subresource) {
        (Some(body), _) => vec![create(body)],
        (None, "log") => vec![get(kind, kind)],
        (None, "ephemeralcontainers" | "resize") => {
            vec![get(kind, kind), put(kind), patch(kind, kind)]
        }
        (None, "finalize") => vec![put(kind)],
        (None, _) => vec![connect("get", kind), connect("post", kind)],
    }
}

fn item(fixed: &[&str], operations: Vec<(&'static str, Value)>) -> Value {
    let mut parameters: Vec<Value> = fixed
        .iter()
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}}))
        .collect();
    parameters.push(parameter(&PRETTY));
    let mut item: Map<String, Value> =
        operations.into_iter().map(|(method, value)| (method.to_owned(), value)).collect();
    item.insert("parameters".to_owned(), Value::Array(parameters));
    Value::Object(item)
}

fn parameter((name, ty, description): &Parameter) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": {"type": ty, "uniqueItems": true}})
}

fn schema(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn operation(kind: &Kind, action: &str, parameters: &[&[Parameter]], response: &str) -> Value {
    let parameters: Vec<Value> = parameters.iter().flat_map(|part| part.iter().map(parameter)).collect();
    json!({
        "tags": [format!("{}_{}", if kind.group.is_empty() { "core" } else { &kind.group }, kind.version)],
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": schema(response)}}}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": kind.group, "kind": kind.kind, "version": kind.version},
    })
}

fn with_body(mut operation: Value, media_types: &[&str], body: &str) -> Value {
    let content: Map<String, Value> =
        media_types.iter().map(|media_type| ((*media_type).to_owned(), json!({"schema": schema(body)}))).collect();
    operation["requestBody"] = json!({"required": true, "content": content});
    operation
}

fn get(kind: &Kind, response: &Kind) -> (&'static str, Value) {
    ("get", operation(kind, "get", &[], &response.type_name))
}

fn list(kind: &Kind) -> (&'static str, Value) {
    ("get", operation(kind, "list", &[LIST], &format!("{}List", kind.type_name)))
}

fn create(kind: &Kind) -> (&'static str, Value) {
    ("post", with_body(operation(kind, "post", &[WRITE], &kind.type_name), &["application/json"], &kind.type_name))
}

fn put(kind: &Kind) -> (&'static str, Value) {
    ("put", with_body(operation(kind, "put", &[WRITE], &kind.type_name), &["application/json"], &kind.type_name))
}

fn patch(kind: &Kind, response: &Kind) -> (&'static str, Value) {
    let operation = operation(kind, "patch", &[WRITE, PATCH], &response.type_name);
    ("patch", with_body(operation, PATCH_TYPES, &format!("{META}Patch")))
}

fn delete(kind: &Kind) -> (&'static str, Value) {
    let operation = operation(kind, "delete", &[DELETE], &format!("{META}Status"));
    ("delete", with_body(operation, &["application/json"], &format!("{META}DeleteOptions")))
}

fn delete_collection(kind: &Kind) -> (&'static str, Value) {
    let operation = operation(kind, "deletecollection", &[DELETE, LIST], &format!("{META}Status"));
    ("delete", with_body(operation, &["application/json"], &format!("{META}DeleteOptions")))
}

fn connect(method: &'static str, kind: &Kind) -> (&'static str, Value) {
    (method, operation(kind, "connect", &[], &format!("{META}Status")))
}
