//! Errors about fields, and their text.
//!
//! Owns upstream's wording of each kind of error and of the values in it.

use super::names::Form;
use super::node::Node;
use super::structs::{self, Field};
use serde_json::Value;
use std::fmt;

/// What is wrong, in upstream's classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldErrorKind {
    Required,
    Invalid,
    NotSupported,
    Duplicate,
    Forbidden,
    TooLong,
    TooMany,
    NotFound,
    Internal,
    TypeInvalid,
}

impl FieldErrorKind {
    /// The `reason` of the cause in a `Status`.
    pub fn as_reason(self) -> &'static str {
        match self {
            FieldErrorKind::Required => "FieldValueRequired",
            FieldErrorKind::Invalid => "FieldValueInvalid",
            FieldErrorKind::NotSupported => "FieldValueNotSupported",
            FieldErrorKind::Duplicate => "FieldValueDuplicate",
            FieldErrorKind::Forbidden => "FieldValueForbidden",
            FieldErrorKind::TooLong => "FieldValueTooLong",
            FieldErrorKind::TooMany => "FieldValueTooMany",
            FieldErrorKind::NotFound => "FieldValueNotFound",
            FieldErrorKind::Internal => "InternalError",
            FieldErrorKind::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn title(self) -> &'static str {
        match self {
            FieldErrorKind::Required => "Required value",
            FieldErrorKind::Invalid | FieldErrorKind::TypeInvalid => "Invalid value",
            FieldErrorKind::NotSupported => "Unsupported value",
            FieldErrorKind::Duplicate => "Duplicate value",
            FieldErrorKind::Forbidden => "Forbidden",
            FieldErrorKind::TooLong => "Too long",
            FieldErrorKind::TooMany => "Too many",
            FieldErrorKind::NotFound => "Not found",
            FieldErrorKind::Internal => "Internal error",
        }
    }
}

/// One wrong field. Display is `FIELD: DETAIL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    pub kind: FieldErrorKind,
    /// The path of the field: `spec.containers[0].name`.
    pub field: String,
    /// The whole message but for the field: `Invalid value: "x": must be …`.
    pub detail: String,
}

impl FieldError {
    /// Builds an error as upstream words it; a kind that names no value ignores `value`.
    pub fn new(kind: FieldErrorKind, field: impl Into<String>, value: Option<&Value>, detail: &str) -> FieldError {
        FieldError::shown(kind, field, value.map(go_value), detail)
    }

    /// As [`FieldError::new`], of a value that is printed already.
    fn shown(kind: FieldErrorKind, field: impl Into<String>, value: Option<String>, detail: &str) -> FieldError {
        let mut text = kind.title().to_owned();
        if let Some(value) = value {
            text.push_str(": ");
            text.push_str(&value);
        }
        if !detail.is_empty() {
            text.push_str(": ");
            text.push_str(detail);
        }
        FieldError { kind, field: field.into(), detail: text }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.detail)
    }
}

/// A value as Go prints it in errors: quoted texts, all else as JSON.
fn go_value(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// A text that is missing is shown as the empty one.
fn text_of<'a>(node: &Node<'a>) -> &'a Value {
    static EMPTY: Value = Value::String(String::new());
    if node.is_missing() { &EMPTY } else { node.value }
}

fn list(supported: &[&str]) -> String {
    let quoted: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
    format!("supported values: {}", quoted.join(", "))
}

/// The errors found so far.
#[derive(Debug, Default)]
pub struct Errors(Vec<FieldError>);

impl Errors {
    pub fn into_vec(self) -> Vec<FieldError> {
        self.0
    }

    pub fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn extend(&mut self, errors: Vec<FieldError>) {
        self.0.extend(errors);
    }

    pub fn required(&mut self, node: &Node<'_>, detail: &str) {
        self.0.push(FieldError::new(FieldErrorKind::Required, &node.path, None, detail));
    }

    pub fn invalid(&mut self, node: &Node<'_>, detail: &str) {
        self.invalid_value(node, node.value, detail);
    }

    /// For a value other than the field's own.
    pub fn invalid_value(&mut self, node: &Node<'_>, value: &Value, detail: &str) {
        self.0.push(FieldError::new(FieldErrorKind::Invalid, &node.path, Some(value), detail));
    }

    /// For a text: one that is missing is an empty one.
    pub fn invalid_text(&mut self, node: &Node<'_>, detail: &str) {
        self.invalid_value(node, text_of(node), detail);
    }

    /// Without the value, which is large or says nothing.
    pub fn invalid_unsaid(&mut self, node: &Node<'_>, detail: &str) {
        self.0.push(FieldError::new(FieldErrorKind::Invalid, &node.path, None, detail));
    }

    /// For a value of one of upstream's internal types.
    pub fn invalid_struct(&mut self, node: &Node<'_>, fields: &[Field], detail: &str) {
        self.about_struct(FieldErrorKind::Invalid, node, fields, detail);
    }

    /// As [`Errors::invalid_struct`], of any kind.
    pub fn about_struct(&mut self, kind: FieldErrorKind, node: &Node<'_>, fields: &[Field], detail: &str) {
        let value = structs::shown(node.value, fields);
        self.0.push(FieldError::shown(kind, &node.path, Some(value), detail));
    }

    pub fn invalid_all(&mut self, node: &Node<'_>, problems: Vec<String>) {
        problems.iter().for_each(|problem| self.invalid_text(node, problem));
    }

    pub fn not_supported(&mut self, node: &Node<'_>, supported: &[&str]) {
        self.not_supported_value(node, text_of(node), supported);
    }

    pub fn not_supported_value(&mut self, node: &Node<'_>, value: &Value, supported: &[&str]) {
        self.0.push(FieldError::new(FieldErrorKind::NotSupported, &node.path, Some(value), &list(supported)));
    }

    pub fn not_supported_struct(&mut self, node: &Node<'_>, fields: &[Field], supported: &[&str]) {
        self.about_struct(FieldErrorKind::NotSupported, node, fields, &list(supported));
    }

    pub fn duplicate(&mut self, node: &Node<'_>) {
        self.0.push(FieldError::new(FieldErrorKind::Duplicate, &node.path, Some(node.value), ""));
    }

    pub fn duplicate_value(&mut self, node: &Node<'_>, value: &Value) {
        self.duplicate_because(node, value, "");
    }

    pub fn duplicate_because(&mut self, node: &Node<'_>, value: &Value, detail: &str) {
        self.0.push(FieldError::new(FieldErrorKind::Duplicate, &node.path, Some(value), detail));
    }

    pub fn forbidden(&mut self, node: &Node<'_>, detail: &str) {
        self.0.push(FieldError::new(FieldErrorKind::Forbidden, &node.path, None, detail));
    }

    pub fn not_found(&mut self, node: &Node<'_>) {
        self.not_found_because(node, text_of(node), "");
    }

    pub fn not_found_because(&mut self, node: &Node<'_>, value: &Value, detail: &str) {
        self.0.push(FieldError::new(FieldErrorKind::NotFound, &node.path, Some(value), detail));
    }

    pub fn too_long(&mut self, path: &str, max: usize) {
        let detail = format!("may not be more than {max} bytes");
        self.0.push(FieldError::new(FieldErrorKind::TooLong, path, None, &detail));
    }

    pub fn too_many(&mut self, node: &Node<'_>, actual: usize, max: usize) {
        let detail = format!("must have at most {max} items");
        self.0.push(FieldError::new(FieldErrorKind::TooMany, &node.path, Some(&actual.into()), &detail));
    }

    /// An enumerated text that must be set.
    pub fn one_of(&mut self, node: &Node<'_>, supported: &[&str]) {
        match node.text() {
            "" => self.required(node, ""),
            text if !supported.contains(&text) => self.not_supported(node, supported),
            _ => {}
        }
    }

    /// An enumerated text that may be left out.
    pub fn optional_one_of(&mut self, node: &Node<'_>, supported: &[&str]) {
        if !node.text().is_empty() {
            self.one_of(node, supported);
        }
    }

    /// An enumerated text of which the empty one is none.
    pub fn supported(&mut self, node: &Node<'_>, supported: &[&str]) {
        if !supported.contains(&node.text()) {
            self.not_supported(node, supported);
        }
    }

    /// As [`Errors::supported`], of what is set.
    pub fn optional_supported(&mut self, node: &Node<'_>, supported: &[&str]) {
        if !node.is_missing() {
            self.supported(node, supported);
        }
    }

    /// Anything that must be set.
    pub fn set(&mut self, node: &Node<'_>) {
        if node.is_empty() {
            self.required(node, "");
        }
    }

    /// A number that may be left out but not be negative.
    pub fn non_negative(&mut self, node: &Node<'_>) {
        if node.int().is_some_and(|number| number < 0) {
            self.invalid(node, "must be greater than or equal to 0");
        }
    }

    pub fn positive(&mut self, node: &Node<'_>) {
        if node.int().is_some_and(|number| number <= 0) {
            self.invalid(node, "must be greater than 0");
        }
    }

    pub fn in_range(&mut self, node: &Node<'_>, min: i64, max: i64) {
        if node.int().is_some_and(|number| !(min..=max).contains(&number)) {
            self.invalid(node, &super::names::range(min, max));
        }
    }

    /// A text that must be set and have a form.
    pub fn named(&mut self, node: &Node<'_>, form: Form) {
        match node.text() {
            "" => self.required(node, ""),
            text => self.invalid_all(node, form(text)),
        }
    }

    /// A text that has a form even where it is left out.
    pub fn formed(&mut self, node: &Node<'_>, form: Form) {
        self.invalid_all(node, form(node.text()));
    }

    /// `domain/path`, as controllers are named.
    pub fn domain_path(&mut self, node: &Node<'_>) {
        match node.text().split_once('/') {
            None if node.is_empty() => self.required(node, ""),
            Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
                for problem in super::names::dns_subdomain(domain) {
                    self.invalid_value(node, &domain.into(), &problem);
                }
                for problem in super::names::http_path(path) {
                    self.invalid_value(node, &path.into(), &problem);
                }
            }
            Some(_) | None => self.invalid(node, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
        }
    }

    /// A text that has a form if it is set.
    pub fn optional_named(&mut self, node: &Node<'_>, form: Form) {
        if !node.text().is_empty() {
            self.named(node, form);
        }
    }
}
