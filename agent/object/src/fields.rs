//! Field selectors: equality on the few fields that each kind supports.
//!
//! Owns the table of those fields (upstream's) and the text form.

use crate::custom::JsonPath;
use crate::{Kind, meta};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// A conjunction of equalities and inequalities. The default one selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

/// One comparison of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    pub field: String,
    pub comparison: Comparison,
    pub value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
}

/// Why a selector is refused. Display is upstream's message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Syntax { selector: String, term: String },
    #[error("field label not supported: {0}")]
    Unsupported(String),
    #[error("\"{0}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")]
    Unknown(String),
}

/// What a missing field counts as.
#[derive(Debug, Clone, Copy)]
enum Missing {
    Empty,
    False,
    Zero,
}

/// A supported field: its label, where it is, what it is when missing.
type Supported = (&'static str, &'static [&'static str], Missing);

const PODS: &[Supported] = &[
    ("spec.nodeName", &["spec", "nodeName"], Missing::Empty),
    ("spec.restartPolicy", &["spec", "restartPolicy"], Missing::Empty),
    ("spec.schedulerName", &["spec", "schedulerName"], Missing::Empty),
    ("spec.serviceAccountName", &["spec", "serviceAccountName"], Missing::Empty),
    ("spec.hostNetwork", &["spec", "hostNetwork"], Missing::False),
    ("status.phase", &["status", "phase"], Missing::Empty),
    ("status.podIP", &["status", "podIP"], Missing::Empty),
    ("status.nominatedNodeName", &["status", "nominatedNodeName"], Missing::Empty),
];

const CORE_EVENTS: &[Supported] = &[
    ("involvedObject.kind", &["involvedObject", "kind"], Missing::Empty),
    ("involvedObject.namespace", &["involvedObject", "namespace"], Missing::Empty),
    ("involvedObject.name", &["involvedObject", "name"], Missing::Empty),
    ("involvedObject.uid", &["involvedObject", "uid"], Missing::Empty),
    ("involvedObject.apiVersion", &["involvedObject", "apiVersion"], Missing::Empty),
    ("involvedObject.resourceVersion", &["involvedObject", "resourceVersion"], Missing::Empty),
    ("involvedObject.fieldPath", &["involvedObject", "fieldPath"], Missing::Empty),
    ("reason", &["reason"], Missing::Empty),
    ("reportingComponent", &["reportingComponent"], Missing::Empty),
    ("source", &["source", "component"], Missing::Empty),
    ("type", &["type"], Missing::Empty),
];

const EVENTS: &[Supported] = &[
    ("regarding.kind", &["regarding", "kind"], Missing::Empty),
    ("regarding.namespace", &["regarding", "namespace"], Missing::Empty),
    ("regarding.name", &["regarding", "name"], Missing::Empty),
    ("regarding.uid", &["regarding", "uid"], Missing::Empty),
    ("regarding.apiVersion", &["regarding", "apiVersion"], Missing::Empty),
    ("regarding.resourceVersion", &["regarding", "resourceVersion"], Missing::Empty),
    ("regarding.fieldPath", &["regarding", "fieldPath"], Missing::Empty),
    ("reason", &["reason"], Missing::Empty),
    ("reportingController", &["reportingController"], Missing::Empty),
    ("type", &["type"], Missing::Empty),
];

const REPLICAS: &[Supported] = &[("status.replicas", &["status", "replicas"], Missing::Zero)];

/// The kinds with fields of their own: group, kind, fields.
const TABLE: &[(&str, &str, &[Supported])] = &[
    ("", "Pod", PODS),
    ("", "Event", CORE_EVENTS),
    ("events.k8s.io", "Event", EVENTS),
    ("", "Node", &[("spec.unschedulable", &["spec", "unschedulable"], Missing::False)]),
    (
        "",
        "Namespace",
        &[("status.phase", &["status", "phase"], Missing::Empty), ("name", &["metadata", "name"], Missing::Empty)],
    ),
    ("", "Secret", &[("type", &["type"], Missing::Empty)]),
    (
        "",
        "Service",
        &[("spec.clusterIP", &["spec", "clusterIP"], Missing::Empty), ("spec.type", &["spec", "type"], Missing::Empty)],
    ),
    ("", "ReplicationController", REPLICAS),
    ("apps", "ReplicaSet", REPLICAS),
    ("batch", "Job", &[("status.successful", &["status", "succeeded"], Missing::Zero)]),
];

/// The fields that every kind supports.
const ALWAYS: &[Supported] = &[
    ("metadata.name", &["metadata", "name"], Missing::Empty),
    ("metadata.namespace", &["metadata", "namespace"], Missing::Empty),
];

fn own_fields(kind: &Kind) -> Option<&'static [Supported]> {
    TABLE.iter().find(|(group, name, _)| *group == kind.group && *name == kind.kind).map(|(_, _, fields)| *fields)
}

fn supported(kind: &Kind, label: &str) -> Option<&'static Supported> {
    own_fields(kind).unwrap_or_default().iter().chain(ALWAYS).find(|(name, _, _)| *name == label)
}

impl FieldSelector {
    /// Parses `a=b,c!=d`; `\` escapes a comma, an equals sign or itself in a value.
    pub fn parse(text: &str) -> Result<FieldSelector, FieldSelectorError> {
        let terms = split_terms(text).into_iter().filter(|term| !term.is_empty());
        let terms = terms.map(|term| {
            parse_term(term)
                .ok_or_else(|| FieldSelectorError::Syntax { selector: text.to_owned(), term: term.to_owned() })
        });
        Ok(FieldSelector { terms: terms.collect::<Result<_, _>>()? })
    }

    /// Whether it asks for nothing but the metadata.
    pub fn is_of_metadata(&self) -> bool {
        self.terms.iter().all(|term| term.field.starts_with("metadata."))
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// The value that a field must have, which lets a list of one object be a get.
    pub fn exact(&self, field: &str) -> Option<&str> {
        let wanted = |term: &&Term| term.field == field && term.comparison == Comparison::Equal;
        self.terms.iter().find(wanted).map(|term| term.value.as_str())
    }

    /// Whether the kind supports all fields.
    pub fn check(&self, kind: &Kind) -> Result<(), FieldSelectorError> {
        let is_own = |term: &Term| selectable(kind, &term.field).is_some();
        match self.terms.iter().find(|term| supported(kind, &term.field).is_none() && !is_own(term)) {
            Some(term) if kind.custom.is_some() => Err(FieldSelectorError::Unsupported(term.field.clone())),
            None => Ok(()),
            Some(term) if own_fields(kind).is_some() => Err(FieldSelectorError::Unsupported(term.field.clone())),
            Some(term) => Err(FieldSelectorError::Unknown(term.field.clone())),
        }
    }

    /// Whether the object has these values. Fields that the kind does not support count as empty.
    pub fn matches(&self, kind: &Kind, object: &Value) -> bool {
        self.terms.iter().all(|term| {
            let value = match selectable(kind, &term.field) {
                Some(path) => text(path.find(object), ""),
                None => supported(kind, &term.field).map_or(Cow::Borrowed(""), |field| read(field, object)),
            };
            match term.comparison {
                Comparison::Equal => value == term.value,
                Comparison::NotEqual => value != term.value,
            }
        })
    }
}

fn read<'a>((_, path, missing): &Supported, object: &'a Value) -> Cow<'a, str> {
    let missing = match missing {
        Missing::Empty => "",
        Missing::False => "false",
        Missing::Zero => "0",
    };
    text(meta::at(object, path), missing)
}

fn text<'a>(value: Option<&'a Value>, missing: &'static str) -> Cow<'a, str> {
    match value {
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(value @ (Value::Bool(_) | Value::Number(_))) => Cow::Owned(value.to_string()),
        Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => Cow::Borrowed(missing),
    }
}

/// Where a custom kind has a field that its definition lets be asked for.
fn selectable<'a>(kind: &'a Kind, label: &str) -> Option<&'a JsonPath> {
    let mut all = kind.custom.iter().flat_map(|custom| &custom.selectable);
    all.find(|(name, _)| name == label).map(|(_, path)| path)
}

/// Splits at commas that are not escaped.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        if c == ',' && !escaped {
            terms.push(&text[start..at]);
            start = at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    terms.push(&text[start..]);
    terms
}

fn parse_term(term: &str) -> Option<Term> {
    const OPERATORS: &[(&str, Comparison)] =
        &[("!=", Comparison::NotEqual), ("==", Comparison::Equal), ("=", Comparison::Equal)];
    let at = term.find(['!', '='])?;
    let (field, rest) = term.split_at(at);
    let (sign, comparison) = OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign))?;
    let value = unescape(&rest[sign.len()..])?;
    Some(Term { field: field.to_owned(), comparison: *comparison, value })
}

fn unescape(value: &str) -> Option<String> {
    let (mut out, mut chars) = (String::with_capacity(value.len()), value.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().filter(|c| "\\,=".contains(*c))?),
            ',' | '=' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let sign = match term.comparison {
                Comparison::Equal => "=",
                Comparison::NotEqual => "!=",
            };
            let value = term.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{comma}{}{sign}{value}", term.field)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
