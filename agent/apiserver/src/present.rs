//! The form an answer takes: whole objects, a table for people, or metadata alone, in JSON or protobuf. Pure.

use http::HeaderMap;
use http::header::ACCEPT;
use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_object::kinds::{Kind, Nature};
use skiff_object::protobuf::encode;
use skiff_object::table;

use crate::request::Query;
use crate::status::ApiError;

pub const JSON: &str = "application/json";
/// JSON that is written otherwise at the end.
pub const YAML: &str = "application/yaml";
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Json(Shape),
    /// There is no table in it.
    Protobuf(Extent),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Object,
    Table(Include),
    Metadata,
}

/// How much of an object protobuf has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Whole,
    Metadata,
}

/// What bytes mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Protobuf,
}

impl Encoding {
    fn of(media_type: &str) -> Option<Self> {
        match media_type {
            JSON | YAML | "application/*" | "*/*" => Some(Encoding::Json),
            PROTOBUF => Some(Encoding::Protobuf),
            _ => None,
        }
    }

    /// What an error is told in: as upstream, ranges that ask for a table or for metadata do not count here, and where
    /// nothing else is accepted, it is JSON.
    pub fn of_errors(headers: &HeaderMap) -> Self {
        let plain = |range: &str| match Range::parse(range) {
            Range { media_type, as_kind: None, .. } => Encoding::of(media_type),
            Range { as_kind: Some(_), .. } => None,
        };
        ranges(headers).find_map(plain).unwrap_or(Encoding::Json)
    }
}

/// One of the types that a client accepts.
struct Range<'a> {
    media_type: &'a str,
    as_kind: Option<&'a str>,
    group: Option<&'a str>,
    version: Option<&'a str>,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let mut range =
            Range { media_type: parts.next().unwrap_or_default(), as_kind: None, group: None, version: None };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name {
                "as" => range.as_kind = Some(value),
                "g" => range.group = Some(value),
                "v" => range.version = Some(value),
                _ => {}
            }
        }
        range
    }
}

fn ranges(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accept.flat_map(|value| value.split(',')).map(str::trim).filter(|range| !range.is_empty())
}

/// Whether the first of the accepted types that is known is YAML.
pub fn wants_yaml(headers: &HeaderMap) -> bool {
    let media_types = ranges(headers).map(|range| Range::parse(range).media_type);
    media_types.filter(|media_type| Encoding::of(media_type).is_some()).take(1).any(|first| first == YAML)
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
        let mut ranges = ranges(headers).peekable();
        if ranges.peek().is_none() {
            return Ok(Form::Json(Shape::Object));
        }
        let form = ranges.find_map(|range| Self::of(&Range::parse(range), query, kind));
        form.ok_or_else(|| ApiError::not_acceptable(kind))
    }

    fn of(range: &Range<'_>, query: &Query, kind: &Kind) -> Option<Self> {
        let encoding = Encoding::of(range.media_type)?;
        match (range.as_kind, range.group, range.version) {
            (None, ..) => match encoding {
                Encoding::Json => Some(Form::Json(Shape::Object)),
                // Nobody gave numbers to the fields of what has no type of its own.
                Encoding::Protobuf => (!kind.type_name.is_empty()).then_some(Form::Protobuf(Extent::Whole)),
            },
            // What is answered and not kept has no columns and no metadata of its own.
            (Some(_), ..) if matches!(kind.nature, Nature::Review | Nature::Body) => None,
            (Some("Table"), Some("meta.k8s.io"), Some("v1")) => match encoding {
                Encoding::Json => Some(Form::Json(Shape::Table(Include::of(query)))),
                Encoding::Protobuf => None,
            },
            (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), Some("meta.k8s.io"), Some("v1")) => {
                Some(match encoding {
                    Encoding::Json => Form::Json(Shape::Metadata),
                    Encoding::Protobuf => Form::Protobuf(Extent::Metadata),
                })
            }
            (Some(_), ..) => None,
        }
    }

    pub fn encoding(self) -> Encoding {
        match self {
            Form::Json(_) => Encoding::Json,
            Form::Protobuf(_) => Encoding::Protobuf,
        }
    }
}

impl Include {
    fn of(query: &Query) -> Self {
        match query.get("includeObject") {
            Some("None") => Include::Nothing,
            Some("Object") => Include::Object,
            Some(_) | None => Include::Metadata,
        }
    }
}

impl Extent {
    /// The same for the encoder.
    pub fn shape(self, kind: &Kind) -> encode::Shape<'_> {
        match self {
            Extent::Whole => encode::Shape::Whole(kind),
            Extent::Metadata => encode::Shape::Metadata,
        }
    }
}

impl Shape {
    /// One object in this shape.
    pub fn object(self, kind: &Kind, object: Value) -> Value {
        match self {
            Shape::Object => object,
            Shape::Metadata => partial(object),
            Shape::Table(include) => {
                let metadata = json!({"resourceVersion": skiff_object::meta::resource_version(&object)});
                table_of(kind, metadata, vec![object], include)
            }
        }
    }

    /// A list in this shape; `metadata` is the list's.
    pub fn list(self, kind: &Kind, metadata: Value, items: Vec<Value>) -> Value {
        match self {
            Shape::Object => json!({
                "kind": kind.list_kind(), "apiVersion": kind.api_version(), "metadata": metadata, "items": items,
            }),
            Shape::Metadata => json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                "items": items.into_iter().map(partial).collect::<Vec<_>>(),
            }),
            Shape::Table(include) => table_of(kind, metadata, items, include),
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
