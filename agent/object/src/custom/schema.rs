//! The schema of a custom resource, as `openAPIV3Schema` says it: what a value is made of, what is kept of it, and which
//! values are right. Owns its form in memory; what is done by it is beside.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::Regex;
use serde_json::Value;

use super::pattern::compile;
use super::rules::Rule;
use crate::meta;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

/// How the items of a list, or the fields of an object, are owned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Topology {
    #[default]
    Whole,
    Set,
    Keyed(Vec<String>),
    /// Field by field.
    Granular,
}

#[derive(Debug, Default)]
pub struct Schema {
    pub ty: Option<Type>,
    pub nullable: bool,
    /// What is not named is kept.
    pub preserve: bool,
    pub int_or_string: bool,
    /// An object with `apiVersion`, `kind` and `metadata` of its own.
    pub embedded: bool,
    pub properties: BTreeMap<String, Schema>,
    /// What each field is that is not named: `None` where there may be no other.
    pub additional: Option<Box<Schema>>,
    pub items: Option<Box<Schema>>,
    pub topology: Topology,
    pub default: Option<Value>,
    pub values: Values,
    pub rules: Vec<Rule>,
    /// Whether there are rules here or below.
    pub has_rules: bool,
}

/// Which values are right.
#[derive(Debug, Default)]
pub struct Values {
    pub required: Vec<String>,
    pub enumeration: Vec<Value>,
    pub format: String,
    pub pattern: Option<Pattern>,
    pub minimum: Option<Bound>,
    pub maximum: Option<Bound>,
    pub multiple_of: Option<f64>,
    /// The least and the most characters, items and properties.
    pub length: (Option<u64>, Option<u64>),
    pub items: (Option<u64>, Option<u64>),
    pub properties: (Option<u64>, Option<u64>),
    pub all_of: Vec<Schema>,
    pub any_of: Vec<Schema>,
    pub one_of: Vec<Schema>,
    pub not: Option<Box<Schema>>,
}

#[derive(Debug, Clone, Copy)]
pub struct Bound {
    pub number: f64,
    pub exclusive: bool,
}

/// A regular expression that is compiled when it is first asked.
#[derive(Debug)]
pub struct Pattern {
    pub text: String,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    fn new(text: &str) -> Self {
        Self { text: text.to_owned(), compiled: OnceLock::new() }
    }

    /// `None`: it is no regular expression.
    pub fn matches(&self, text: &str) -> Option<bool> {
        let compiled = self.compiled.get_or_init(|| compile(&self.text));
        compiled.as_ref().map(|regex| regex.is_match(text))
    }
}

impl Type {
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "object" => Type::Object,
            "array" => Type::Array,
            "string" => Type::String,
            "integer" => Type::Integer,
            "number" => Type::Number,
            "boolean" => Type::Boolean,
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Type::Object => "object",
            Type::Array => "array",
            Type::String => "string",
            Type::Integer => "integer",
            Type::Number => "number",
            Type::Boolean => "boolean",
        }
    }
}

impl Schema {
    /// Everything is kept and everything is right.
    pub fn free() -> Self {
        Self { preserve: true, topology: Topology::Granular, ..Self::default() }
    }

    /// What is no schema is passed over: whether it is one was asked when the definition came.
    pub fn read(json: &Value) -> Self {
        let is = |name: &str| json.get(name) == Some(&Value::Bool(true));
        let ty = Type::parse(meta::text_at(json, &["type"]));
        let properties = json.get("properties").and_then(Value::as_object).into_iter().flatten();
        let mut schema = Self {
            ty,
            nullable: is("nullable"),
            preserve: is("x-kubernetes-preserve-unknown-fields"),
            int_or_string: is("x-kubernetes-int-or-string"),
            embedded: is("x-kubernetes-embedded-resource"),
            properties: properties.map(|(name, property)| (name.clone(), Self::read(property))).collect(),
            additional: json.get("additionalProperties").and_then(additional).map(Box::new),
            items: json.get("items").filter(|items| items.is_object()).map(|items| Box::new(Self::read(items))),
            topology: topology(json, ty),
            default: json.get("default").cloned(),
            values: Values::read(json),
            rules: meta::items(json.get("x-kubernetes-validations")).iter().map(Rule::read).collect(),
            has_rules: false,
        };
        schema.has_rules = !schema.rules.is_empty() || schema.parts().any(|part| part.has_rules);
        schema
    }

    /// The schemas of what a value is made of.
    fn parts(&self) -> impl Iterator<Item = &Schema> {
        self.properties.values().chain(self.additional.as_deref()).chain(self.items.as_deref())
    }

    /// Whether a value that lacks something is given it.
    pub fn has_defaults(&self) -> bool {
        self.default.is_some() || self.parts().any(Schema::has_defaults)
    }

    /// Whether it says nothing about what a value is made of.
    pub fn is_free(&self) -> bool {
        self.properties.is_empty() && self.additional.is_none()
    }

    /// The schema of a field, if its values are looked at.
    pub fn field(&self, name: &str) -> Option<&Schema> {
        self.properties.get(name).or(self.additional.as_deref())
    }
}

fn additional(json: &Value) -> Option<Schema> {
    match json {
        Value::Object(_) => Some(Schema::read(json)),
        Value::Bool(true) => Some(Schema::free()),
        _ => None,
    }
}

fn topology(json: &Value, ty: Option<Type>) -> Topology {
    let keys = || meta::items(json.get("x-kubernetes-list-map-keys")).iter().filter_map(Value::as_str);
    match (ty, meta::text_at(json, &["x-kubernetes-list-type"]), meta::text_at(json, &["x-kubernetes-map-type"])) {
        (Some(Type::Array), "set", _) => Topology::Set,
        (Some(Type::Array), "map", _) => Topology::Keyed(keys().map(str::to_owned).collect()),
        (Some(Type::Array), _, _) | (_, _, "atomic") => Topology::Whole,
        (Some(Type::Object) | None, _, _) => Topology::Granular,
        (Some(Type::String | Type::Integer | Type::Number | Type::Boolean), _, _) => Topology::Whole,
    }
}

impl Values {
    fn read(json: &Value) -> Self {
        let texts = |name: &str| meta::items(json.get(name)).iter().filter_map(Value::as_str).map(str::to_owned);
        let schemas = |name: &str| meta::items(json.get(name)).iter().map(Schema::read).collect();
        let number = |name: &str| json.get(name).and_then(Value::as_f64);
        let count = |name: &str| json.get(name).and_then(Value::as_u64);
        let is = |name: &str| json.get(name) == Some(&Value::Bool(true));
        let bound = |name: &str, exclusive: &str| number(name).map(|number| Bound { number, exclusive: is(exclusive) });
        let pattern = Some(meta::text_at(json, &["pattern"])).filter(|text| !text.is_empty());
        Self {
            required: texts("required").collect(),
            enumeration: meta::items(json.get("enum")).to_vec(),
            format: meta::text_at(json, &["format"]).to_owned(),
            pattern: pattern.map(Pattern::new),
            minimum: bound("minimum", "exclusiveMinimum"),
            maximum: bound("maximum", "exclusiveMaximum"),
            multiple_of: number("multipleOf"),
            length: (count("minLength"), count("maxLength")),
            items: (count("minItems"), count("maxItems")),
            properties: (count("minProperties"), count("maxProperties")),
            all_of: schemas("allOf"),
            any_of: schemas("anyOf"),
            one_of: schemas("oneOf"),
            not: json.get("not").filter(|not| not.is_object()).map(|not| Box::new(Schema::read(not))),
        }
    }
}
