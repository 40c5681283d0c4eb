//! The form an answer takes: whole objects, a table for people, or metadata alone. Pure.

use http::HeaderMap;
use http::header::ACCEPT;
use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_object::kinds::{Kind, Nature};
use skiff_object::table;

use crate::request::Query;
use crate::status::ApiError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Object,
    Table(Include),
    Metadata,
}

/// What of its object a table's row carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    Nothing,
    Metadata,
    Object,
}

impl Form {
    /// The first of the accepted types that is served.
    pub fn negotiate(headers: &HeaderMap, query: &Query, kind: &Kind) -> Result<Self, ApiError> {
        let accept = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok());
        let ranges: Vec<&str> = accept.flat_map(|v| v.split(',')).map(str::trim).filter(|r| !r.is_empty()).collect();
        if ranges.is_empty() {
            return Ok(Form::Object);
        }
        let form = ranges.iter().find_map(|range| Self::of(range, query, kind));
        form.ok_or_else(ApiError::not_acceptable)
    }

    fn of(range: &str, query: &Query, kind: &Kind) -> Option<Self> {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next()?;
        if !matches!(media, "application/json" | "application/*" | "*/*") {
            return None;
        }
        let parameters: Vec<_> = parts.filter_map(|p| p.split_once('=')).collect();
        let parameter = |name| parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        match (parameter("as"), parameter("g"), parameter("v")) {
            (None, ..) => Some(Form::Object),
            // What is answered and not kept has no columns and no metadata of its own.
            (Some(_), ..) if matches!(kind.nature, Nature::Review | Nature::Body) => None,
            (Some("Table"), Some("meta.k8s.io"), Some("v1")) => Some(Form::Table(match query.get("includeObject") {
                Some("None") => Include::Nothing,
                Some("Object") => Include::Object,
                Some(_) | None => Include::Metadata,
            })),
            (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), Some("meta.k8s.io"), Some("v1")) => {
                Some(Form::Metadata)
            }
            (Some(_), ..) => None,
        }
    }

    /// One object in this form.
    pub fn object(self, kind: &Kind, object: Value) -> Value {
        match self {
            Form::Object => object,
            Form::Metadata => partial(object),
            Form::Table(include) => {
                let metadata = json!({"resourceVersion": skiff_object::meta::resource_version(&object)});
                table_of(kind, metadata, vec![object], include)
            }
        }
    }

    /// A list in this form; `metadata` is the list's.
    pub fn list(self, kind: &Kind, metadata: Value, items: Vec<Value>) -> Value {
        match self {
            Form::Object => json!({
                "kind": kind.list_kind(), "apiVersion": kind.api_version(), "metadata": metadata, "items": items,
            }),
            Form::Metadata => json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                "items": items.into_iter().map(partial).collect::<Vec<_>>(),
            }),
            Form::Table(include) => table_of(kind, metadata, items, include),
        }
    }
}

fn partial(mut object: Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"].take()})
}

fn table_of(kind: &Kind, metadata: Value, items: Vec<Value>, include: Include) -> Value {
    let columns: Vec<Value> = table::columns(kind)
        .iter()
        .map(|c| {
            json!({"name": c.name, "type": c.type_, "format": c.format, "description": c.description,
                "priority": c.priority})
        })
        .collect();
    let now = Timestamp::now();
    let rows: Vec<Value> = items
        .into_iter()
        .map(|object| {
            let cells = table::rows(kind, &object, now);
            match include {
                Include::Nothing => json!({"cells": cells}),
                Include::Metadata => json!({"cells": cells, "object": partial(object)}),
                Include::Object => json!({"cells": cells, "object": object}),
            }
        })
        .collect();
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": columns,
        "rows": rows})
}
