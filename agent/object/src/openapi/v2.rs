//! The one document of OpenAPI v2, made of those of v3: for clients that know nothing newer, in JSON and in the protobuf
//! that client-go asks for.
//!
//! Owns how the one becomes the other. Documents are added one after the other, so that no more than one of them is in
//! memory as a value.

mod protobuf;

use std::collections::HashSet;

use serde_json::{Map, Value, json};

const REFERENCE: &str = "#/components/schemas/";
const METHODS: &[&str] = &["get", "put", "post", "delete", "patch"];
/// What schemas of v2 cannot say.
const NEWER: &[&str] = &["anyOf", "oneOf", "not", "nullable", "deprecated", "writeOnly"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Json,
    Protobuf,
}

/// A document that is being made.
pub struct Builder {
    form: Form,
    /// Of schemas that are in it: documents share some.
    names: HashSet<String>,
    definitions: Vec<u8>,
    paths: Vec<u8>,
}

impl Builder {
    pub fn new(form: Form) -> Self {
        Self { form, names: HashSet::new(), definitions: Vec::new(), paths: Vec::new() }
    }

    /// Adds a document of v3.
    pub fn push(&mut self, mut document: Value) {
        let take = |document: &mut Value, path: &str| match document.pointer_mut(path).map(Value::take) {
            Some(Value::Object(map)) => map,
            Some(_) | None => Map::new(),
        };
        for (name, schema) in take(&mut document, "/components/schemas") {
            if self.names.insert(name.clone()) {
                let schema = self::schema(schema);
                match self.form {
                    Form::Json => entry(&mut self.definitions, &name, &schema),
                    Form::Protobuf => protobuf::definition(&mut self.definitions, &name, &schema),
                }
            }
        }
        for (path, item) in take(&mut document, "/paths") {
            let item = path_item(item);
            match self.form {
                Form::Json => entry(&mut self.paths, &path, &item),
                Form::Protobuf => protobuf::path(&mut self.paths, &path, &item),
            }
        }
    }

    pub fn finish(self, version: &str) -> Vec<u8> {
        let info = json!({"title": "Kubernetes", "version": version});
        match self.form {
            Form::Json => {
                let head = format!("{{\"swagger\":\"2.0\",\"info\":{info},\"paths\":{{");
                [head.as_bytes(), &self.paths, b"},\"definitions\":{", &self.definitions, b"}}"].concat()
            }
            Form::Protobuf => protobuf::document(&info, &self.paths, &self.definitions),
        }
    }
}

fn entry(out: &mut Vec<u8>, name: &str, value: &Value) {
    if !out.is_empty() {
        out.push(b',');
    }
    out.extend_from_slice(format!("{}:{value}", Value::from(name)).as_bytes());
}

/// A schema of v3 as v2 says it.
fn schema(schema: Value) -> Value {
    let Value::Object(mut map) = schema else { return schema };
    if let Some(alternatives) = map.get("oneOf") {
        let has = |ty: &str| alternatives.as_array().is_some_and(|all| all.iter().any(|one| one["type"] == ty));
        // A number or a text: upstream calls both a text.
        if has("string") && (has("integer") || has("number")) {
            map.insert("type".to_owned(), "string".into());
        }
    }
    if map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        map.remove("type");
    }
    NEWER.iter().for_each(|field| drop(map.remove(*field)));
    // A reference stands alone in v3, and beside its description in v2.
    let alone = match map.get_mut("allOf").and_then(Value::as_array_mut) {
        Some(all) if all.len() == 1 => all[0].get_mut("$ref").map(Value::take),
        Some(_) | None => None,
    };
    if let Some(reference) = alone {
        map.remove("allOf");
        map.remove("default");
        map.insert("$ref".to_owned(), reference);
    }
    if let Some(Value::String(reference)) = map.get_mut("$ref") {
        *reference = reference.replace(REFERENCE, "#/definitions/");
    }
    for field in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(field) {
            *inner = self::schema(inner.take());
        }
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(|property| *property = self::schema(property.take()));
    }
    if let Some(Value::Array(all)) = map.get_mut("allOf") {
        all.iter_mut().for_each(|one| *one = self::schema(one.take()));
    }
    Value::Object(map)
}

fn path_item(item: Value) -> Value {
    let Value::Object(mut item) = item else { return item };
    for method in METHODS {
        if let Some(operation) = item.get_mut(*method) {
            *operation = self::operation(operation.take());
        }
    }
    if let Some(Value::Array(all)) = item.get_mut("parameters") {
        all.iter_mut().for_each(|one| *one = parameter(one.take()));
    }
    Value::Object(item)
}

fn operation(operation: Value) -> Value {
    let Value::Object(mut operation) = operation else { return operation };
    let mut parameters: Vec<Value> = match operation.remove("parameters") {
        Some(Value::Array(all)) => all.into_iter().map(parameter).collect(),
        Some(_) | None => Vec::new(),
    };
    if let Some(Value::Object(mut body)) = operation.remove("requestBody") {
        let content = body.remove("content").unwrap_or_default();
        let types: Vec<&String> = content.as_object().into_iter().flatten().map(|(ty, _)| ty).collect();
        operation.insert("consumes".to_owned(), json!(types));
        let is_required = body.get("required") == Some(&Value::Bool(true));
        parameters.push(json!({"name": "body", "in": "body", "required": is_required, "schema": of_content(&content)}));
    }
    operation.insert("parameters".to_owned(), Value::Array(parameters));
    let mut produced = Vec::new();
    if let Some(Value::Object(responses)) = operation.get_mut("responses") {
        for response in responses.values_mut() {
            let content = response.get_mut("content").map(Value::take).unwrap_or_default();
            produced.extend(content.as_object().into_iter().flatten().map(|(ty, _)| ty.clone()));
            let description = response.get("description").cloned().unwrap_or_else(|| "OK".into());
            *response = json!({"description": description, "schema": of_content(&content)});
        }
    }
    produced.sort();
    produced.dedup();
    operation.insert("produces".to_owned(), json!(produced));
    Value::Object(operation)
}

fn of_content(content: &Value) -> Value {
    let first = content.as_object().and_then(|all| all.values().next());
    schema(first.and_then(|first| first.get("schema")).cloned().unwrap_or_else(|| json!({})))
}

/// What its schema says stands beside its name.
fn parameter(parameter: Value) -> Value {
    let Value::Object(mut parameter) = parameter else { return parameter };
    if let Some(Value::Object(schema)) = parameter.remove("schema") {
        parameter.extend(schema);
    }
    Value::Object(parameter)
}

#[cfg(test)]
mod tests;
