//! Whether a schema is structural: it says of each value what it is made of in one place, so that the server can prune,
//! default and own by it. In upstream's words.

use serde_json::Value;

use super::pattern::compile;
use super::schema::{Schema, Type};
use super::{rules, shape, values};
use crate::validate::{Errors, Node};

/// Deeper schemas are refused: objects may not be as deep.
const DEPTH_MAX: usize = 64;
/// What may not be said within `allOf`, `anyOf`, `oneOf` and `not`.
const NOT_NESTED: &[(&str, &str)] = &[
    ("type", "must be empty to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("default", "must be undefined to be structural"),
    ("nullable", "must be false to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
];
/// What no schema may have.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("$ref", "$ref is not supported"),
    ("$schema", "$schema is not supported"),
    ("id", "id is not supported"),
    ("additionalItems", "additionalItems is not supported"),
    ("definitions", "definitions is not supported"),
    ("dependencies", "dependencies is not supported"),
    ("patternProperties", "patternProperties is not supported"),
];
const COMBINATIONS: &[&str] = &["allOf", "anyOf", "oneOf"];

/// Where in an object a schema stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Field,
    Item,
}

/// Checks `openAPIV3Schema`.
pub fn check(root: &Node<'_>, errors: &mut Errors) {
    let before = errors.len();
    level(root, Place::Root, 0, errors);
    metadata(root, errors);
    // Defaults are looked at by the schema, which has to be one.
    if errors.len() == before {
        defaults(root, errors);
    }
}

fn level(node: &Node<'_>, place: Place, depth: usize, errors: &mut Errors) {
    if depth > DEPTH_MAX {
        errors.forbidden(node, "the schema is nested too deeply");
        return;
    }
    types(node, place, errors);
    common(node, errors);
    lists(node, errors);
    rules::check(node, errors);
    let (properties, additional, items) = (node.get("properties"), node.get("additionalProperties"), node.get("items"));
    if !properties.is_empty() && additional.value.is_object() {
        errors.forbidden(&additional, "additionalProperties and properties are mutual exclusive");
    }
    if additional.value == &Value::Bool(false) {
        errors.forbidden(&additional, "additionalProperties cannot be set to false");
    }
    for (_, property) in properties.entries() {
        level(&property, Place::Field, depth + 1, errors);
    }
    if additional.value.is_object() {
        level(&additional, Place::Field, depth + 1, errors);
    }
    match items.value {
        Value::Object(_) => level(&items, Place::Item, depth + 1, errors),
        Value::Array(_) => errors.forbidden(&items, "items must be a schema object and not an array"),
        _ if node.get("type").text() == "array" => errors.required(&items, "must be specified"),
        _ => {}
    }
    combined(node, node.get("x-kubernetes-int-or-string").is_true(), depth, errors);
}

fn types(node: &Node<'_>, place: Place, errors: &mut Errors) {
    let ty = node.get("type");
    let int_or_string = node.get("x-kubernetes-int-or-string").is_true();
    let embedded = node.get("x-kubernetes-embedded-resource").is_true();
    let preserve = node.get("x-kubernetes-preserve-unknown-fields");
    match (ty.text(), place) {
        ("", Place::Root) => errors.required(&ty, "must not be empty at the root"),
        ("", _) if int_or_string || preserve.is_true() => {}
        ("", Place::Field) => errors.required(&ty, "must not be empty for specified object fields"),
        ("", Place::Item) => errors.required(&ty, "must not be empty for specified array items"),
        (text, Place::Root) if text != "object" => errors.invalid(&ty, "must be object at the root"),
        (_, _) if int_or_string => errors.invalid(&ty, "must be empty if x-kubernetes-int-or-string is true"),
        (text, _) if Type::parse(text).is_none() => {
            errors.not_supported(&ty, &["array", "boolean", "integer", "number", "object", "string"]);
        }
        (text, _) if embedded && text != "object" => {
            errors.invalid(&ty, "must be object if x-kubernetes-embedded-resource is true");
        }
        _ => {}
    }
    if preserve.value == &Value::Bool(false) {
        errors.invalid(&preserve, "must be true or undefined");
    }
    if embedded && node.get("properties").is_empty() && !preserve.is_true() {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without \
                      x-kubernetes-preserve-unknown-fields";
        errors.required(&node.get("properties"), detail);
    }
}

/// What holds at each level, also within combinations.
fn common(node: &Node<'_>, errors: &mut Errors) {
    for (name, why) in UNSUPPORTED {
        let field = node.get(name);
        if !field.is_empty() {
            errors.forbidden(&field, why);
        }
    }
    let unique = node.get("uniqueItems");
    if unique.is_true() {
        errors.forbidden(&unique, "uniqueItems cannot be set to true since the runtime complexity becomes quadratic");
    }
    for bound in ["maxItems", "minItems", "maxLength", "minLength", "maxProperties", "minProperties"] {
        errors.non_negative(&node.get(bound));
    }
    let multiple = node.get("multipleOf");
    if multiple.value.as_f64().is_some_and(|number| number <= 0.0) {
        errors.invalid(&multiple, "must be greater than 0");
    }
    let pattern = node.get("pattern");
    if !pattern.text().is_empty() && compile(pattern.text()).is_none() {
        errors.invalid(&pattern, "must be a valid regular expression, but isn't");
    }
}

fn lists(node: &Node<'_>, errors: &mut Errors) {
    let (ty, list, map) = (node.get("type"), node.get("x-kubernetes-list-type"), node.get("x-kubernetes-map-type"));
    errors.optional_one_of(&list, &["atomic", "map", "set"]);
    errors.optional_one_of(&map, &["atomic", "granular"]);
    if !list.text().is_empty() && ty.text() != "array" {
        errors.invalid(&ty, "must be array if x-kubernetes-list-type is specified");
    }
    if !map.text().is_empty() && ty.text() != "object" {
        errors.invalid(&ty, "must be object if x-kubernetes-map-type is specified");
    }
    let keys = node.get("x-kubernetes-list-map-keys");
    match list.text() {
        "map" => list_keys(node, &keys, errors),
        _ if !keys.is_empty() && list.text() == "set" => {
            errors.forbidden(&keys, "must not be specified if x-kubernetes-list-type is not map");
        }
        "set" => of_set(&node.get("items"), errors),
        _ if !keys.is_empty() => errors.forbidden(&keys, "must not be specified if x-kubernetes-list-type is not map"),
        _ => {}
    }
}

/// Items of a set are told from each other as wholes.
fn of_set(items: &Node<'_>, errors: &mut Errors) {
    let (list, map) = (items.get("x-kubernetes-list-type"), items.get("x-kubernetes-map-type"));
    match items.get("type").text() {
        "array" if list.text() != "atomic" && !list.is_empty() => {
            errors.invalid(&list, "must be atomic as item of a list with x-kubernetes-list-type=set");
        }
        "object" if map.text() != "atomic" => {
            errors.invalid_text(&map, "must be atomic as item of a list with x-kubernetes-list-type=set");
        }
        _ => {}
    }
    let nullable = items.get("nullable");
    if nullable.is_true() {
        errors.forbidden(&nullable, "cannot be nullable when x-kubernetes-list-type is set");
    }
}

fn list_keys(node: &Node<'_>, keys: &Node<'_>, errors: &mut Errors) {
    if keys.is_empty() {
        errors.required(keys, "must not be empty if x-kubernetes-list-type is map");
    }
    let items = node.get("items");
    let of_items = items.get("type");
    if of_items.text() != "object" {
        errors.invalid(&of_items, "must be object if parent array's x-kubernetes-list-type is map");
    }
    let required = crate::meta::items(Some(items.get("required").value));
    let nullable = items.get("nullable");
    if nullable.is_true() {
        errors.forbidden(&nullable, "cannot be nullable when x-kubernetes-list-type is map");
    }
    let mut seen = Vec::new();
    for key in keys.items() {
        if seen.contains(&key.text()) {
            errors.duplicate(&key);
        }
        seen.push(key.text());
        let nullable = items.get("properties").key(key.text()).get("nullable");
        if nullable.is_true() {
            errors.forbidden(&nullable, "cannot be nullable when in x-kubernetes-list-map-keys");
        }
        let property = items.get("properties").key(key.text());
        match property.get("type").text() {
            "" => errors.invalid(&key, "entries must all be names of item properties"),
            "object" | "array" => errors.invalid(
                &property.get("type"),
                "must be a scalar type if parent array's x-kubernetes-list-type is map",
            ),
            _ if !required.contains(key.value) && property.get("default").is_empty() => {
                let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required \
                              property";
                errors.required(&property.get("default"), detail);
            }
            _ => {}
        }
    }
}

fn combined(node: &Node<'_>, int_or_string: bool, depth: usize, errors: &mut Errors) {
    for name in COMBINATIONS {
        for part in node.get(name).items() {
            nested(&part, int_or_string, depth + 1, errors);
        }
    }
    let not = node.get("not");
    if not.value.is_object() {
        nested(&not, false, depth + 1, errors);
    }
}

/// A schema within a combination says only which values are right.
fn nested(node: &Node<'_>, may_have_type: bool, depth: usize, errors: &mut Errors) {
    if depth > DEPTH_MAX {
        errors.forbidden(node, "the schema is nested too deeply");
        return;
    }
    for (name, why) in NOT_NESTED {
        let field = node.get(name);
        let is_allowed = *name == "type" && may_have_type && matches!(field.text(), "integer" | "string");
        if !field.is_empty() && field.value != &Value::Bool(false) && !is_allowed {
            errors.forbidden(&field, why);
        }
    }
    common(node, errors);
    for (_, property) in node.get("properties").entries() {
        nested(&property, false, depth + 1, errors);
    }
    let items = node.get("items");
    if items.value.is_object() {
        nested(&items, false, depth + 1, errors);
    }
    combined(node, may_have_type, depth, errors);
}

fn metadata(root: &Node<'_>, errors: &mut Errors) {
    let metadata = root.get("properties").key("metadata");
    let said = metadata.value.as_object().into_iter().flatten();
    let others = said.filter(|(name, _)| !matches!(name.as_str(), "type" | "description" | "properties"));
    let within = metadata.get("properties");
    let names = within.entries().iter().all(|(name, _)| matches!(*name, "name" | "generateName"));
    if others.count() > 0 || !names {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.forbidden(&metadata, detail);
    }
}

/// A default has to be right by its own schema, and nothing of it may be pruned.
fn defaults(node: &Node<'_>, errors: &mut Errors) {
    let default = node.get("default");
    if !default.value.is_null() {
        let schema = Schema::read(node.value);
        let mut pruned = default.value.clone();
        shape::set_defaults(&schema, &mut pruned);
        for wrong in values::validate_at(&schema, &pruned, &default.path) {
            errors.push(wrong);
        }
        let unknown = shape::prune_part(&schema, &mut pruned);
        if !unknown.is_empty() {
            let quoted: Vec<String> = unknown.iter().map(|path| format!("{path:?}")).collect();
            errors.invalid(&default, &format!("must not have unknown fields: {}", quoted.join(", ")));
        }
    }
    for (_, property) in node.get("properties").entries() {
        defaults(&property, errors);
    }
    for part in [node.get("additionalProperties"), node.get("items")] {
        if part.value.is_object() {
            defaults(&part, errors);
        }
    }
}
