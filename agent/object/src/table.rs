//! The columns that `kubectl get` prints, computed by the server.
//!
//! Owns upstream's columns and cells of every built-in kind; others bring theirs. Cells hold no more than what the object and the time tell.

mod cells;
mod cluster;
mod networking;
mod pods;
mod storage;
mod workloads;

use crate::custom::PrinterColumn;
use crate::{Kind, duration, meta};
use jiff::Timestamp;
use serde_json::Value;

/// A column, as the `Table` of the API defines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column<'a> {
    pub name: &'a str,
    pub type_: &'a str,
    pub format: &'a str,
    pub description: &'a str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
}

/// The cells of an object, one for each column of its kind.
type Row = fn(&Value, Timestamp) -> Vec<Value>;

/// The printed form of a kind: group, kind, columns, cells.
type Printed = (&'static str, &'static str, &'static [Column<'static>], Row);

const NAME: Column<'static> = Column {
    name: "Name",
    type_: "string",
    format: "name",
    description: "Name must be unique within a namespace. It is set when the object is created and cannot be changed.",
    priority: 0,
};
const AGE: Column<'static> = text("Age", "How long ago the object was created.");
const CREATED: Column<'static> = Column { format: "date-time", ..text("Created At", "When the object was created.") };

const fn text(name: &'static str, description: &'static str) -> Column<'static> {
    Column { name, type_: "string", format: "", description, priority: 0 }
}

const fn number(name: &'static str, description: &'static str) -> Column<'static> {
    Column { type_: "integer", ..text(name, description) }
}

const fn boolean(name: &'static str, description: &'static str) -> Column<'static> {
    Column { type_: "boolean", ..text(name, description) }
}

/// Shown with `-o wide` only.
const fn wide(name: &'static str, description: &'static str) -> Column<'static> {
    Column { priority: 1, ..text(name, description) }
}

const DEFAULT: (&[Column<'static>], Row) = (&[NAME, AGE], |object, now| vec![name(object), age(object, now)]);

const CREATED_AT: (&[Column<'static>], Row) =
    (&[NAME, CREATED], |object, _| vec![name(object), meta::creation_timestamp(object).unwrap_or_default().into()]);

/// Kinds that show when they were made instead of their age.
const CREATED_AT_KINDS: &[&str] = &["ClusterRole", "CustomResourceDefinition", "LimitRange", "Role"];

const TABLES: &[&[Printed]] =
    &[pods::PRINTED, workloads::PRINTED, networking::PRINTED, storage::PRINTED, cluster::PRINTED];

fn printed(kind: &Kind) -> (&'static [Column<'static>], Row) {
    let mut all = TABLES.iter().flat_map(|table| table.iter());
    match all.find(|(group, name, _, _)| *group == kind.group && *name == kind.kind) {
        Some((_, _, columns, row)) => (columns, *row),
        None if CREATED_AT_KINDS.contains(&&*kind.kind) => CREATED_AT,
        None => DEFAULT,
    }
}

/// The columns of a kind. A definition that names none has the usual ones.
pub fn columns(kind: &Kind) -> Vec<Column<'_>> {
    match own_columns(kind) {
        [] => printed(kind).0.to_vec(),
        own => std::iter::once(NAME).chain(own.iter().map(PrinterColumn::column)).collect(),
    }
}

/// The cells of an object, one for each column.
pub fn rows(kind: &Kind, object: &Value, now: Timestamp) -> Vec<Value> {
    match own_columns(kind) {
        [] => printed(kind).1(object, now),
        own => std::iter::once(name(object)).chain(own.iter().map(|column| column.cell(object, now))).collect(),
    }
}

fn own_columns(kind: &Kind) -> &[PrinterColumn] {
    kind.custom.as_ref().map(|custom| custom.columns.as_slice()).unwrap_or_default()
}

fn name(object: &Value) -> Value {
    meta::name(object).into()
}

fn age(object: &Value, now: Timestamp) -> Value {
    duration::age(meta::creation_timestamp(object), now).into()
}

#[cfg(test)]
mod tests;
