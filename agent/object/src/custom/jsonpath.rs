//! The paths of printer columns, selectable fields and scales: the part of JSONPath that they use. Fields, items and
//! conditions on items; nothing that searches.

use serde_json::Value;

/// A path longer than this is nobody's.
const STEPS_MAX: usize = 32;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JsonPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    /// From the end where it is negative.
    Item(i64),
    All,
    /// The items whose field is a text.
    Where(Vec<String>, String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonPathError {
    #[error("a JSON path begins with '.' or '['")]
    Begin,
    #[error("the brackets of a JSON path have to be closed")]
    Open,
    #[error("{0:?} is no field, item or condition")]
    Step(String),
    #[error("a JSON path may have {STEPS_MAX} steps")]
    Long,
}

impl JsonPath {
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
        let (mut steps, mut rest) = (Vec::new(), inner.strip_prefix('$').unwrap_or(inner));
        while !rest.is_empty() {
            if steps.len() == STEPS_MAX {
                return Err(JsonPathError::Long);
            }
            if let Some(bracket) = rest.strip_prefix('[') {
                let end = end_of_bracket(bracket).ok_or(JsonPathError::Open)?;
                steps.push(bracketed(&bracket[..end])?);
                rest = &bracket[end + 1..];
            } else {
                let field = rest.strip_prefix('.').ok_or(JsonPathError::Begin)?;
                let (name, left) = split_field(field);
                match name.as_str() {
                    "" if left.starts_with('[') => {}
                    "" => return Err(JsonPathError::Step(rest.to_owned())),
                    "*" => steps.push(Step::All),
                    _ => steps.push(Step::Field(name)),
                }
                rest = left;
            }
        }
        Ok(Self(steps))
    }

    /// What is there, of many the first.
    pub fn find<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        find(&self.0, value)
    }

    /// The names of a path of fields alone.
    pub fn fields(&self) -> Option<Vec<&str>> {
        let field = |step: &'_ Step| matches!(step, Step::Field(_));
        self.0.iter().all(field).then(|| self.0.iter().filter_map(Step::name).collect())
    }
}

impl Step {
    fn name(&self) -> Option<&str> {
        match self {
            Step::Field(name) => Some(name),
            Step::Item(_) | Step::All | Step::Where(..) => None,
        }
    }
}

/// Brackets in quotes are text.
fn end_of_bracket(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, ']') => return Some(at),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    None
}

/// A name, in which `\.` is a dot, and what follows it.
fn split_field(text: &str) -> (String, &str) {
    let (mut name, mut escaped) = (String::new(), false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => {
                name.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '.' | '[' => return (name, &text[at..]),
            c => name.push(c),
        }
    }
    (name, "")
}

fn unquoted(text: &str) -> Option<&str> {
    let text = text.trim();
    ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))
}

fn bracketed(text: &str) -> Result<Step, JsonPathError> {
    let wrong = || JsonPathError::Step(text.to_owned());
    if let Some(name) = unquoted(text) {
        return Ok(Step::Field(name.to_owned()));
    }
    if text == "*" {
        return Ok(Step::All);
    }
    if let Some(condition) = text.strip_prefix("?(").and_then(|text| text.strip_suffix(')')) {
        let (path, wanted) = condition.split_once("==").ok_or_else(wrong)?;
        let path = path.trim().strip_prefix('@').ok_or_else(wrong)?;
        let path = JsonPath::parse(path)?;
        let fields = path.fields().ok_or_else(wrong)?.into_iter().map(str::to_owned).collect();
        let wanted = unquoted(wanted).unwrap_or(wanted.trim());
        return Ok(Step::Where(fields, wanted.to_owned()));
    }
    text.trim().parse().map(Step::Item).map_err(|_| wrong())
}

fn find<'a>(steps: &[Step], value: &'a Value) -> Option<&'a Value> {
    let Some((step, rest)) = steps.split_first() else { return Some(value) };
    match step {
        Step::Field(name) => find(rest, value.get(name)?),
        Step::Item(index) => {
            let items = value.as_array()?;
            let from_end = || items.len().checked_sub(usize::try_from(index.unsigned_abs()).ok()?);
            let index = if *index < 0 { from_end() } else { usize::try_from(*index).ok() };
            find(rest, items.get(index?)?)
        }
        Step::All => match value {
            Value::Array(items) => items.iter().find_map(|item| find(rest, item)),
            Value::Object(map) => map.values().find_map(|item| find(rest, item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        },
        Step::Where(path, wanted) => {
            let is_wanted = |item: &&Value| match path.iter().try_fold(*item, |value, name| value.get(name)) {
                Some(Value::String(text)) => text == wanted,
                Some(other) => serde_json::from_str::<Value>(wanted).is_ok_and(|wanted| wanted == *other),
                None => false,
            };
            value.as_array()?.iter().filter(is_wanted).find_map(|item| find(rest, item))
        }
    }
}
