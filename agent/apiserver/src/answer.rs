//! The answer to a request about an object, in the form that was asked for.

use http::{Response, StatusCode, header};
use serde_json::Value;
use skiff_object::kinds::{self, Kind};
use skiff_object::meta;
use skiff_object::protobuf::encode::{self, Json, List};

use crate::body::{self, Body};
use crate::present::{Encoding, Form, PROTOBUF};
use crate::status::{self, ApiError};
use crate::strategy::{Deletion, Strategy};
use crate::write::Written;

/// As upstream: clients give up on answers with more.
const WARNING_BYTES_MAX: usize = 4 * 1024;
const WARNINGS_MAX: usize = 64;

pub fn object(code: StatusCode, form: Form, kind: &Kind, object: Value, warnings: &[String]) -> Response<Body> {
    let response = match form {
        Form::Json(shape) => body::json(code, &shape.object(kind, object)),
        Form::Protobuf(extent) => in_protobuf(code, extent.shape(kind), &object),
    };
    with_warnings(response, warnings)
}

/// A whole document of a kind, whatever of it was asked for.
pub fn document(code: StatusCode, encoding: Encoding, kind: &Kind, document: &Value) -> Response<Body> {
    match encoding {
        Encoding::Json => body::json(code, document),
        Encoding::Protobuf => in_protobuf(code, encode::Shape::Whole(kind), document),
    }
}

pub fn list(form: Form, kind: &Kind, metadata: Value, items: Vec<Value>) -> Result<Response<Body>, ApiError> {
    match form {
        Form::Json(shape) => Ok(body::json(StatusCode::OK, &shape.list(kind, metadata, items))),
        Form::Protobuf(extent) => {
            let mut list = List::new(extent.shape(kind), &metadata, 0)?;
            for item in &items {
                list.push(Json::Value(item))?;
            }
            Ok(body::whole(StatusCode::OK, PROTOBUF, list.finish()))
        }
    }
}

/// A `Status`.
pub fn status(code: StatusCode, encoding: Encoding, status: &Value) -> Response<Body> {
    document(code, encoding, kinds::body("v1", "Status").expect("a kind of answers"), status)
}

fn in_protobuf(code: StatusCode, shape: encode::Shape<'_>, object: &Value) -> Response<Body> {
    let mut bytes = Vec::new();
    match encode::object(&mut bytes, shape, Json::Value(object)) {
        Ok(()) => body::whole(code, PROTOBUF, bytes),
        Err(error) => ApiError::from(error).into_response(),
    }
}

/// What was deleted for good is answered with a `Status`, but for pods and some others.
pub fn deleted(form: Form, kind: &Kind, name: &str, written: Written) -> Response<Body> {
    let strategy = Strategy::of(kind);
    let status = match strategy.deletion {
        _ if strategy.told_when_deleted => false,
        Deletion::Plain | Deletion::Namespace | Deletion::Definition => written.gone,
        Deletion::Graceful => false,
    };
    if status {
        let status = status::deleted(kind, name, meta::uid(&written.object));
        return self::status(StatusCode::OK, form.encoding(), &status);
    }
    object(StatusCode::OK, form, kind, written.object, &written.warnings)
}

/// A `Status` that says only that it is done.
pub fn done(code: StatusCode, encoding: Encoding, warnings: &[String]) -> Response<Body> {
    with_warnings(status(code, encoding, &status::success(code)), warnings)
}

pub fn with_warnings(mut response: Response<Body>, warnings: &[String]) -> Response<Body> {
    let mut left = WARNING_BYTES_MAX;
    for warning in warnings.iter().take(WARNINGS_MAX) {
        let Some(rest) = left.checked_sub(warning.len()) else { break };
        left = rest;
        let text: String = warning.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = header::HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}
