//! The columns that `kubectl get` prints, computed by the server.
//!
//! Owns upstream's columns and cells of every kind. Cells hold no more than what the object and the time tell.

mod cells;
mod cluster;
mod networking;
mod pods;
mod storage;
mod workloads;

use crate::{Kind, duration, meta};
use jiff::Timestamp;
use serde_json::Value;

/// A column, as the `Table` of the API defines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub type_: &'static str,
    pub format: &'static str,
    pub description: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
}

/// The cells of an object, one for each column of its kind.
type Row = fn(&Value, Timestamp) -> Vec<Value>;

/// The printed form of a kind: group, kind, columns, cells.
type Printed = (&'static str, &'static str, &'static [Column], Row);

const NAME: Column = Column {
    name: "Name",
    type_: "string",
    format: "name",
    description: "Name must be unique within a namespace. It is set when the object is created and cannot be changed.",
    priority: 0,
};
const AGE: Column = text("Age", "How long ago the object was created.");
const CREATED: Column = Column { format: "date-time", ..text("Created At", "When the object was created.") };

const fn text(name: &'static str, description: &'static str) -> Column {
    Column { name, type_: "string", format: "", description, priority: 0 }
}

const fn number(name: &'static str, description: &'static str) -> Column {
    Column { type_: "integer", ..text(name, description) }
}

const fn boolean(name: &'static str, description: &'static str) -> Column {
    Column { type_: "boolean", ..text(name, description) }
}

/// Shown with `-o wide` only.
const fn wide(name: &'static str, description: &'static str) -> Column {
    Column { priority: 1, ..text(name, description) }
}

const DEFAULT: (&[Column], Row) = (&[NAME, AGE], |object, now| vec![name(object), age(object, now)]);

const CREATED_AT: (&[Column], Row) =
    (&[NAME, CREATED], |object, _| vec![name(object), meta::creation_timestamp(object).unwrap_or_default().into()]);

/// Kinds that show when they were made instead of their age.
const CREATED_AT_KINDS: &[&str] = &["ClusterRole", "LimitRange", "Role"];

const TABLES: &[&[Printed]] =
    &[pods::PRINTED, workloads::PRINTED, networking::PRINTED, storage::PRINTED, cluster::PRINTED];

fn printed(kind: &Kind) -> (&'static [Column], Row) {
    let mut all = TABLES.iter().flat_map(|table| table.iter());
    match all.find(|(group, name, _, _)| *group == kind.group && *name == kind.kind) {
        Some((_, _, columns, row)) => (columns, *row),
        None if CREATED_AT_KINDS.contains(&&*kind.kind) => CREATED_AT,
        None => DEFAULT,
    }
}

/// The columns of a kind.
pub fn columns(kind: &Kind) -> &'static [Column] {
    printed(kind).0
}

/// The cells of an object, one for each column.
pub fn rows(kind: &Kind, object: &Value, now: Timestamp) -> Vec<Value> {
    printed(kind).1(object, now)
}

fn name(object: &Value) -> Value {
    meta::name(object).into()
}

fn age(object: &Value, now: Timestamp) -> Value {
    duration::age(meta::creation_timestamp(object), now).into()
}

#[cfg(test)]
mod tests;
