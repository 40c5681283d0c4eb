//! The answer to a request about one object, in the form that was asked for.

use http::{Response, StatusCode, header};
use serde_json::Value;
use skiff_object::kinds::Kind;
use skiff_object::meta;

use crate::body::{self, Body};
use crate::present::Form;
use crate::status;
use crate::strategy::{Deletion, Strategy};
use crate::write::Written;

pub fn object(code: StatusCode, form: Form, kind: &Kind, object: Value, warnings: &[String]) -> Response<Body> {
    with_warnings(body::json(code, &form.object(kind, object)), warnings)
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
        return body::json(StatusCode::OK, &status::deleted(kind, name, meta::uid(&written.object)));
    }
    object(StatusCode::OK, form, kind, written.object, &written.warnings)
}

/// A `Status` that says only that it is done.
pub fn done(code: StatusCode, warnings: &[String]) -> Response<Body> {
    with_warnings(body::json(code, &status::success(code)), warnings)
}

pub fn with_warnings(mut response: Response<Body>, warnings: &[String]) -> Response<Body> {
    for warning in warnings {
        let text: String = warning.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = header::HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}
