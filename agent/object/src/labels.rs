//! Label selectors, in both of their forms: the text of a query and the `LabelSelector` of an object.
//!
//! Owns parsing, matching and the canonical text. A selector is a conjunction of requirements.

mod parse;

use crate::validate::names;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// Anything that labels can be looked up in.
pub trait Labels {
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl Labels for Map<String, Value> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }
}

impl<T: Labels> Labels for Option<T> {
    fn label(&self, key: &str) -> Option<&str> {
        self.as_ref().and_then(|labels| labels.label(key))
    }
}

impl<T: Labels + ?Sized> Labels for &T {
    fn label(&self, key: &str) -> Option<&str> {
        (**self).label(key)
    }
}

/// A label selector. The default one selects everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// Sorted by key. `None` selects nothing at all, as a missing `LabelSelector` does.
    requirements: Option<Vec<Requirement>>,
}

/// One condition on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
}

/// The condition; values are sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operator {
    Exists,
    DoesNotExist,
    Equals(String),
    NotEquals(String),
    In(Vec<String>),
    NotIn(Vec<String>),
    GreaterThan(i64),
    LessThan(i64),
}

/// Why a selector is refused. Display is upstream's message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error("unable to parse requirement: {0}")]
    Syntax(String),
    #[error("{0}")]
    Requirement(String),
    #[error("\"{0}\" is not a valid label selector operator")]
    Operator(String),
}

impl Default for Selector {
    fn default() -> Selector {
        Selector::everything()
    }
}

impl Selector {
    pub fn everything() -> Selector {
        Selector { requirements: Some(Vec::new()) }
    }

    pub fn nothing() -> Selector {
        Selector { requirements: None }
    }

    fn new(mut requirements: Vec<Requirement>) -> Selector {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Selector { requirements: Some(requirements) }
    }

    /// Parses `a=b,c!=d,e in (x,y),f notin (z),g,!h,i>1`.
    pub fn parse(text: &str) -> Result<Selector, SelectorError> {
        let requirements = parse::requirements(text)?;
        requirements.iter().try_for_each(check)?;
        Ok(Selector::new(requirements))
    }

    /// From a `metav1.LabelSelector`: null selects nothing, an empty one everything.
    pub fn from_label_selector(selector: &Value) -> Result<Selector, SelectorError> {
        if selector.is_null() {
            return Ok(Selector::nothing());
        }
        let mut requirements = equalities(selector.get("matchLabels").and_then(Value::as_object));
        for expression in crate::meta::items(selector.get("matchExpressions")) {
            requirements.push(expression_requirement(expression)?);
        }
        requirements.iter().try_for_each(check)?;
        Ok(Selector::new(requirements))
    }

    /// From a map of labels that must be equal, such as the `spec.selector` of a service.
    pub fn from_map(labels: &Map<String, Value>) -> Selector {
        Selector::new(equalities(Some(labels)))
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.as_ref().is_some_and(Vec::is_empty)
    }

    pub fn is_nothing(&self) -> bool {
        self.requirements.is_none()
    }

    pub fn requirements(&self) -> &[Requirement] {
        self.requirements.as_deref().unwrap_or_default()
    }

    pub fn matches(&self, labels: &impl Labels) -> bool {
        self.requirements.as_ref().is_some_and(|all| all.iter().all(|r| r.matches(labels)))
    }
}

fn equalities(labels: Option<&Map<String, Value>>) -> Vec<Requirement> {
    let pairs = labels.into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    pairs.map(|(key, value)| Requirement { key: key.clone(), operator: Operator::Equals(text(value)) }).collect()
}

fn expression_requirement(expression: &Value) -> Result<Requirement, SelectorError> {
    let text = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or_default();
    let values = crate::meta::items(expression.get("values")).iter().filter_map(Value::as_str);
    let mut values: Vec<String> = values.map(str::to_owned).collect();
    values.sort();
    let operator = match text("operator") {
        "In" => Operator::In(values),
        "NotIn" => Operator::NotIn(values),
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => return Err(SelectorError::Operator(other.to_owned())),
    };
    Ok(Requirement { key: text("key").to_owned(), operator })
}

/// Checks the forms of the key and the values.
fn check(requirement: &Requirement) -> Result<(), SelectorError> {
    if let Some(problem) = names::qualified_name(&requirement.key).first() {
        return Err(SelectorError::Requirement(format!("key: Invalid value: {:?}: {problem}", requirement.key)));
    }
    let values: &[String] = match &requirement.operator {
        Operator::In(values) | Operator::NotIn(values) if values.is_empty() => {
            let message = "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty";
            return Err(SelectorError::Requirement(message.to_owned()));
        }
        Operator::In(values) | Operator::NotIn(values) => values,
        Operator::Equals(value) | Operator::NotEquals(value) => std::slice::from_ref(value),
        Operator::Exists | Operator::DoesNotExist | Operator::GreaterThan(_) | Operator::LessThan(_) => &[],
    };
    for (index, value) in values.iter().enumerate() {
        if let Some(problem) = names::label_value(value).first() {
            let key = &requirement.key;
            return Err(SelectorError::Requirement(format!(
                "values[{index}][{key}]: Invalid value: {value:?}: {problem}"
            )));
        }
    }
    Ok(())
}

impl Requirement {
    fn matches(&self, labels: &impl Labels) -> bool {
        let label = labels.label(&self.key);
        let number = || label.and_then(|label| label.parse::<i64>().ok());
        match &self.operator {
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::Equals(value) => label == Some(value),
            Operator::NotEquals(value) => label != Some(value),
            Operator::In(values) => label.is_some_and(|label| values.iter().any(|v| v == label)),
            Operator::NotIn(values) => !label.is_some_and(|label| values.iter().any(|v| v == label)),
            Operator::GreaterThan(bound) => number().is_some_and(|number| number > *bound),
            Operator::LessThan(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.operator {
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::Equals(value) => write!(f, "{key}={value}"),
            Operator::NotEquals(value) => write!(f, "{key}!={value}"),
            Operator::In(values) => write!(f, "{key} in ({})", values.join(",")),
            Operator::NotIn(values) => write!(f, "{key} notin ({})", values.join(",")),
            Operator::GreaterThan(bound) => write!(f, "{key}>{bound}"),
            Operator::LessThan(bound) => write!(f, "{key}<{bound}"),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements().iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
