//! The paths of printer columns, selectable fields and scales: the part of JSONPath that they use. Fields, items, ranges of
//! items, conditions on items, and a field wherever it is.

use serde_json::Value;

/// A path longer than this is nobody's.
const STEPS_MAX: usize = 32;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JsonPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    /// From the end where it is negative. Of a range or of several the first is meant: one value is looked for.
    Item(i64),
    All,
    /// The field, in this value or deeper.
    Deep(String),
    /// The items whose field is so.
    Where(Vec<String>, Test),
}

/// What a condition asks of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Exists,
    Is(Order, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// As they are written, the longer ones first.
const ORDERS: &[(&str, Order)] = &[
    ("==", Order::Equal),
    ("!=", Order::NotEqual),
    ("<=", Order::LessOrEqual),
    (">=", Order::GreaterOrEqual),
    ("<", Order::Less),
    (">", Order::Greater),
];

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
    #[error("a JSON path may search with \"..\" once")]
    Deep,
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
                let (is_deep, field) = field.strip_prefix('.').map_or((false, field), |field| (true, field));
                let (name, left) = split_field(field);
                match name.as_str() {
                    "" if left.starts_with('[') || left.is_empty() && steps.is_empty() && !is_deep => {}
                    // A second search within the first would look at all there is for each that it finds.
                    _ if is_deep && steps.iter().any(|step| matches!(step, Step::Deep(_))) => {
                        return Err(JsonPathError::Deep);
                    }
                    name if is_deep && !name.is_empty() => steps.push(Step::Deep(name.to_owned())),
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
            Step::Item(_) | Step::All | Step::Deep(_) | Step::Where(..) => None,
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
        let (path, test) = test(condition);
        let path = JsonPath::parse(path.trim().strip_prefix('@').ok_or_else(wrong)?)?;
        let fields = path.fields().ok_or_else(wrong)?.into_iter().map(str::to_owned).collect();
        return Ok(Step::Where(fields, test));
    }
    let first = text.split([':', ',']).next().unwrap_or_default().trim();
    let others = text.split([':', ',']).skip(1).map(str::trim);
    let are_numbers =
        others.into_iter().all(|other| other.is_empty() && text.contains(':') || other.parse::<i64>().is_ok());
    match first {
        "" if text.contains(':') && are_numbers => Ok(Step::Item(0)),
        first if are_numbers => first.parse().map(Step::Item).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

/// The path of a condition, and what is asked there.
fn test(condition: &str) -> (&str, Test) {
    let at = condition.find(['=', '!', '<', '>']);
    let found = at.and_then(|at| {
        let (sign, order) = ORDERS.iter().find(|(sign, _)| condition[at..].starts_with(sign))?;
        let wanted = &condition[at + sign.len()..];
        let wanted = unquoted(wanted).unwrap_or(wanted.trim());
        Some((&condition[..at], Test::Is(*order, wanted.to_owned())))
    });
    found.unwrap_or((condition, Test::Exists))
}

impl Test {
    fn holds(&self, found: Option<&Value>) -> bool {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let (order, wanted) = match self {
            Test::Exists => return found.is_some(),
            Test::Is(order, wanted) => (order, wanted),
        };
        let Some(found) = found else { return false };
        let compared = match (found, wanted.parse::<f64>()) {
            (Value::String(text), _) => Some(text.as_str().cmp(wanted)),
            (Value::Number(number), Ok(wanted)) => number.as_f64().and_then(|number| number.partial_cmp(&wanted)),
            (other, _) => serde_json::from_str::<Value>(wanted).is_ok_and(|wanted| wanted == *other).then_some(Equal),
        };
        match order {
            Order::Equal => compared == Some(Equal),
            Order::NotEqual => compared != Some(Equal),
            Order::Less => compared == Some(Less),
            Order::LessOrEqual => matches!(compared, Some(Less | Equal)),
            Order::Greater => compared == Some(Greater),
            Order::GreaterOrEqual => matches!(compared, Some(Greater | Equal)),
        }
    }
}

/// The first value of a field, in this value or deeper.
fn deep<'a>(name: &str, rest: &[Step], value: &'a Value) -> Option<&'a Value> {
    let here = value.get(name).and_then(|found| find(rest, found));
    here.or_else(|| match value {
        Value::Object(map) => map.values().find_map(|inner| deep(name, rest, inner)),
        Value::Array(items) => items.iter().find_map(|inner| deep(name, rest, inner)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    })
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
        Step::Deep(name) => deep(name, rest, value),
        Step::Where(path, test) => {
            let is_wanted = |item: &&Value| test.holds(path.iter().try_fold(*item, |value, name| value.get(name)));
            value.as_array()?.iter().filter(is_wanted).find_map(|item| find(rest, item))
        }
    }
}
