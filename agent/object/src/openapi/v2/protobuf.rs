//! The document in protobuf: messages of `openapi.v2`, by the numbers that their `.proto` file gives.

use serde_json::{Map, Value};

use crate::protobuf::wire::{self, bytes};

const PATHS: u32 = 8;
const DEFINITIONS: u32 = 9;

fn message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    bytes(out, field, &inner);
}

fn text(out: &mut Vec<u8>, field: u32, value: Option<&Value>) {
    if let Some(text) = value.and_then(Value::as_str).filter(|text| !text.is_empty()) {
        bytes(out, field, text.as_bytes());
    }
}

fn texts(out: &mut Vec<u8>, field: u32, value: Option<&Value>) {
    let all = value.and_then(Value::as_array).into_iter().flatten();
    all.filter_map(Value::as_str).for_each(|text| bytes(out, field, text.as_bytes()));
}

fn flag(out: &mut Vec<u8>, field: u32, value: Option<&Value>) {
    if value.and_then(Value::as_bool) == Some(true) {
        wire::number(out, field, 1);
    }
}

fn int(out: &mut Vec<u8>, field: u32, value: Option<&Value>) {
    if let Some(number) = value.and_then(Value::as_i64).filter(|number| *number != 0) {
        wire::number(out, field, number);
    }
}

fn double(out: &mut Vec<u8>, field: u32, value: Option<&Value>) {
    if let Some(number) = value.and_then(Value::as_f64).filter(|number| *number != 0.0) {
        wire::double(out, field, number);
    }
}

/// A value of any form, as YAML, which JSON is.
fn any(out: &mut Vec<u8>, field: u32, value: &Value) {
    message(out, field, |out| bytes(out, 2, value.to_string().as_bytes()));
}

fn extensions(out: &mut Vec<u8>, field: u32, map: &Map<String, Value>) {
    for (name, value) in map.iter().filter(|(name, _)| name.starts_with("x-")) {
        message(out, field, |out| {
            bytes(out, 1, name.as_bytes());
            any(out, 2, value);
        });
    }
}

fn named(out: &mut Vec<u8>, field: u32, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
    message(out, field, |out| {
        bytes(out, 1, name.as_bytes());
        message(out, 2, write);
    });
}

pub fn definition(out: &mut Vec<u8>, name: &str, schema: &Value) {
    named(out, 1, name, |out| self::schema(out, schema));
}

pub fn path(out: &mut Vec<u8>, name: &str, item: &Value) {
    named(out, 2, name, |out| path_item(out, item));
}

pub fn document(info: &Value, paths: &[u8], definitions: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(paths.len() + definitions.len() + 64);
    bytes(&mut out, 1, b"2.0");
    message(&mut out, 2, |out| {
        text(out, 1, info.get("title"));
        text(out, 2, info.get("version"));
    });
    bytes(&mut out, PATHS, paths);
    bytes(&mut out, DEFINITIONS, definitions);
    out
}

fn schema(out: &mut Vec<u8>, schema: &Value) {
    let Some(map) = schema.as_object() else { return };
    let get = |name: &str| map.get(name);
    text(out, 1, get("$ref"));
    text(out, 2, get("format"));
    text(out, 3, get("title"));
    text(out, 4, get("description"));
    if let Some(default) = get("default") {
        any(out, 5, default);
    }
    double(out, 6, get("multipleOf"));
    double(out, 7, get("maximum"));
    flag(out, 8, get("exclusiveMaximum"));
    double(out, 9, get("minimum"));
    flag(out, 10, get("exclusiveMinimum"));
    int(out, 11, get("maxLength"));
    int(out, 12, get("minLength"));
    text(out, 13, get("pattern"));
    int(out, 14, get("maxItems"));
    int(out, 15, get("minItems"));
    flag(out, 16, get("uniqueItems"));
    int(out, 17, get("maxProperties"));
    int(out, 18, get("minProperties"));
    texts(out, 19, get("required"));
    get("enum").and_then(Value::as_array).into_iter().flatten().for_each(|value| any(out, 20, value));
    match get("additionalProperties") {
        Some(Value::Bool(value)) => message(out, 21, |out| flag(out, 2, Some(&(*value).into()))),
        Some(inner) => message(out, 21, |out| message(out, 1, |out| self::schema(out, inner))),
        None => {}
    }
    if let Some(ty) = get("type") {
        message(out, 22, |out| text(out, 1, Some(ty)));
    }
    if let Some(items) = get("items") {
        message(out, 23, |out| message(out, 1, |out| self::schema(out, items)));
    }
    let all = get("allOf").and_then(Value::as_array).into_iter().flatten();
    all.for_each(|one| message(out, 24, |out| self::schema(out, one)));
    if let Some(properties) = get("properties").and_then(Value::as_object) {
        message(out, 25, |out| {
            properties.iter().for_each(|(name, property)| named(out, 1, name, |out| self::schema(out, property)));
        });
    }
    if let Some(example) = get("example") {
        any(out, 30, example);
    }
    extensions(out, 31, map);
}

fn path_item(out: &mut Vec<u8>, item: &Value) {
    for (method, field) in [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8)] {
        if let Some(operation) = item.get(method).and_then(Value::as_object) {
            message(out, field, |out| self::operation(out, operation));
        }
    }
    parameters(out, 9, item.get("parameters"));
}

fn operation(out: &mut Vec<u8>, operation: &Map<String, Value>) {
    texts(out, 1, operation.get("tags"));
    text(out, 3, operation.get("description"));
    text(out, 5, operation.get("operationId"));
    texts(out, 6, operation.get("produces"));
    texts(out, 7, operation.get("consumes"));
    parameters(out, 8, operation.get("parameters"));
    message(out, 9, |out| {
        for (code, response) in operation.get("responses").and_then(Value::as_object).into_iter().flatten() {
            named(out, 1, code, |out| {
                message(out, 1, |out| {
                    text(out, 1, response.get("description"));
                    if let Some(schema) = response.get("schema") {
                        message(out, 2, |out| message(out, 1, |out| self::schema(out, schema)));
                    }
                });
            });
        }
    });
    extensions(out, 13, operation);
}

/// Each within the messages that say what it is: a parameter, of the body or not, of the query or the path.
fn parameters(out: &mut Vec<u8>, field: u32, all: Option<&Value>) {
    for parameter in all.and_then(Value::as_array).into_iter().flatten() {
        message(out, field, |out| message(out, 1, |out| self::parameter(out, parameter)));
    }
}

fn parameter(out: &mut Vec<u8>, parameter: &Value) {
    let get = |name: &str| parameter.get(name);
    match get("in").and_then(Value::as_str) {
        Some("body") => message(out, 1, |out| {
            text(out, 1, get("description"));
            text(out, 2, get("name"));
            text(out, 3, get("in"));
            flag(out, 4, get("required"));
            if let Some(schema) = get("schema") {
                message(out, 5, |out| self::schema(out, schema));
            }
        }),
        place => {
            // The one of the query has one field more before its type.
            let (field, shift) = if place == Some("path") { (4, 0) } else { (3, 1) };
            message(out, 2, |out| {
                message(out, field, |out| {
                    flag(out, 1, get("required"));
                    text(out, 2, get("in"));
                    text(out, 3, get("description"));
                    text(out, 4, get("name"));
                    text(out, 5 + shift, get("type"));
                    flag(out, 19 + shift, get("uniqueItems"));
                });
            });
        }
    }
}
