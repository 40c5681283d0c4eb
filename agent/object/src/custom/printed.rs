//! The columns that a definition asks to be printed.

use jiff::Timestamp;
use serde_json::Value;

use super::jsonpath::JsonPath;
use crate::table::Column;
use crate::{duration, meta};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrinterColumn {
    name: String,
    type_: String,
    format: String,
    description: String,
    priority: i32,
    path: JsonPath,
}

impl PrinterColumn {
    /// `None` where its path is none, which was refused when the definition came.
    pub(super) fn read(json: &Value) -> Option<Self> {
        let text = |name: &str| meta::text_at(json, &[name]).to_owned();
        let priority = json.get("priority").and_then(Value::as_i64).unwrap_or(0);
        Some(Self {
            name: text("name"),
            type_: text("type"),
            format: text("format"),
            description: text("description"),
            priority: i32::try_from(priority).unwrap_or(i32::MAX),
            path: JsonPath::parse(&text("jsonPath")).ok()?,
        })
    }

    pub fn column(&self) -> Column<'_> {
        Column {
            name: &self.name,
            type_: &self.type_,
            format: &self.format,
            description: &self.description,
            priority: self.priority,
        }
    }

    /// Upstream's cell: what is of another type is none.
    pub fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let Some(found) = self.path.find(object) else { return Value::Null };
        match (self.type_.as_str(), found) {
            ("string", Value::String(text)) => text.as_str().into(),
            ("string", Value::Null) => Value::Null,
            ("string", other) => other.to_string().into(),
            ("integer", Value::Number(number)) => match number.as_f64() {
                Some(number) if number.fract() == 0.0 => (number as i64).into(),
                _ => Value::Null,
            },
            ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => found.clone(),
            ("date", Value::String(time)) => match time.parse::<Timestamp>() {
                Ok(_) => duration::age(Some(time), now).into(),
                Err(_) => "<invalid>".into(),
            },
            _ => Value::Null,
        }
    }
}
