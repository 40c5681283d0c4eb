//! The one place where an error becomes a Kubernetes `Status`: codes, reasons and wording follow upstream's
//! `apimachinery/pkg/api/errors`.

use bytes::Bytes;
use http::{Response, StatusCode, header};
use serde_json::{Map, Value, json};
use skiff_object::kinds::{self, Kind};
use skiff_object::managed;
use skiff_object::meta;
use skiff_object::protobuf::encode::{self, EncodeError, Json, Shape};
use skiff_object::validate::FieldError;

use crate::answer;
use crate::body::Body;
use crate::lists::line;
use crate::present::{Encoding, JSON, PROTOBUF};

/// A refused request. Display is the message a person reads.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub code: StatusCode,
    pub reason: &'static str,
    pub message: String,
    details: Map<String, Value>,
}

impl ApiError {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Map::new() }
    }

    fn about(mut self, kind: &Kind, name: &str) -> Self {
        self.details.insert("name".to_owned(), json!(name));
        self.details.insert("kind".to_owned(), json!(kind.plural));
        if !kind.group.is_empty() {
            self.details.insert("group".to_owned(), json!(kind.group));
        }
        self
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.details.insert("retryAfterSeconds".to_owned(), json!(seconds));
        self
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    pub fn forbidden_object(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("{} \"{name}\" is forbidden: {why}", kind.group_resource());
        Self::forbidden(message).about(kind, name)
    }

    pub fn path_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource")
    }

    pub fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", kind.group_resource());
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(kind, name)
    }

    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", kind.group_resource());
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(kind, name)
    }

    /// As a webhook words it.
    pub fn denied(code: StatusCode, reason: &str, message: String) -> Self {
        let reason = match reason {
            _ if code == StatusCode::FORBIDDEN => "Forbidden",
            "Invalid" => "Invalid",
            "Conflict" => "Conflict",
            "NotFound" => "NotFound",
            _ if code == StatusCode::UNPROCESSABLE_ENTITY => "Invalid",
            _ => "BadRequest",
        };
        Self::new(code, reason, message)
    }

    /// As an admission policy has it: what is not another is invalid.
    pub fn denied_object(kind: &Kind, name: &str, reason: &str, why: &str) -> Self {
        let (code, reason) = match reason {
            "Unauthorized" => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            "Forbidden" => (StatusCode::FORBIDDEN, "Forbidden"),
            "RequestEntityTooLarge" => (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge"),
            _ => (StatusCode::UNPROCESSABLE_ENTITY, "Invalid"),
        };
        let message = format!("{} \"{name}\" is forbidden: {why}", kind.group_resource());
        Self::new(code, reason, message).about(kind, name)
    }

    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.group_resource());
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(kind, name)
    }

    pub fn modified(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    /// A patch that does not fit what is there.
    pub fn inapplicable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    }

    /// Fields that an application would take from others.
    pub fn apply_conflict(conflicts: &[managed::Conflict]) -> Self {
        let causes = conflicts.iter().map(|conflict| {
            let message = format!("conflict with {}", conflict.manager);
            json!({"reason": "FieldManagerConflict", "message": message, "field": conflict.path})
        });
        let causes = causes.collect();
        let message = match conflicts {
            [one] => format!("Apply failed with 1 conflict: conflict with {}: {}", one.manager, one.path),
            many => {
                let of_each = many.chunk_by(|a, b| a.manager == b.manager).map(|of_one| {
                    let paths = of_one.iter().map(|conflict| format!("\n- {}", conflict.path)).collect::<String>();
                    format!("conflicts with {}:{paths}", of_one[0].manager)
                });
                let of_each = of_each.collect::<Vec<_>>().join("\n");
                format!("Apply failed with {} conflicts: {of_each}", many.len())
            }
        };
        let mut error = Self::new(StatusCode::CONFLICT, "Conflict", message);
        error.details.insert("causes".to_owned(), Value::Array(causes));
        error
    }

    /// 422 with one cause a field, and upstream's joined message.
    pub fn invalid(kind: &Kind, name: &str, errors: &[FieldError]) -> Self {
        let kind_name =
            if kind.group.is_empty() { kind.kind.to_string() } else { format!("{}.{}", kind.kind, kind.group) };
        let mut error = Self::invalid_fields(&kind_name, name, errors).about(kind, name);
        error.details.insert("kind".to_owned(), json!(kind.kind));
        error
    }

    /// The same for the options of a request.
    pub fn invalid_options(kind: &str, errors: &[FieldError]) -> Self {
        Self::invalid_fields(&format!("{kind}.meta.k8s.io"), "", errors)
    }

    fn invalid_fields(kind_name: &str, name: &str, errors: &[FieldError]) -> Self {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let joined = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{kind_name} \"{name}\" is invalid: {joined}");
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
        let causes = errors
            .iter()
            .map(|e| json!({"reason": e.kind.as_reason(), "message": e.detail, "field": e.field}))
            .collect();
        error.details.insert("causes".to_owned(), Value::Array(causes));
        error
    }

    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    pub fn method_not_allowed(verb: &str) -> Self {
        let message = format!("the server does not allow this method on the requested resource ({verb})");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    pub fn definition_is_going() -> Self {
        let message = "create not allowed while custom resource definition is terminating";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    pub fn not_acceptable(kind: &Kind) -> Self {
        let served = match kind.custom {
            Some(_) => JSON.to_owned(),
            None => format!("{JSON}, {PROTOBUF}"),
        };
        let message = format!("only the following media types are accepted: {served}");
        Self::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    pub fn unsupported_media_type(supported: &str) -> Self {
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {supported}");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    pub fn too_large(what: &str) -> Self {
        let message = format!("Request entity is too large: {what}");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    pub fn too_many_requests() -> Self {
        let message = "the server has received too many requests and has asked us to try again later";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message).retry_after(1)
    }

    /// A disruption that a budget does not allow now. No time is named: clients would wait for it in silence.
    pub fn disruption_refused(why: String) -> Self {
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message);
        error.details.insert("causes".to_owned(), json!([{"reason": "DisruptionBudget", "message": why}]));
        error
    }

    /// A disruption of which is not known yet whether the budget allows it.
    pub fn disruption_undecided(budget: &str) -> Self {
        let why = format!("The disruption budget {budget} is still being processed by the server.");
        Self::disruption_refused(why).retry_after(10)
    }

    /// As upstream: without a reason.
    pub fn several_budgets() -> Self {
        let message =
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "", message)
    }

    pub fn too_large_resource_version(wanted: u64, newest: u64) -> Self {
        let message = format!("Too large resource version: {wanted}, current: {newest}");
        let mut error = Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message).retry_after(1);
        let cause = json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]);
        error.details.insert("causes".to_owned(), cause);
        error
    }

    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    pub fn insufficient_storage() -> Self {
        let message = "the disk of this box is full: nothing was changed; delete what is not needed and try again";
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "InsufficientStorage", message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        let message = format!("Internal error occurred: {}", message.into());
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// What the store refused, in terms of the object that was to be written.
    pub fn from_store(error: skiff_store::Error, kind: &Kind, name: &str) -> Self {
        use skiff_store::Error;
        match error {
            Error::Exists { .. } => Self::already_exists(kind, name),
            Error::NotFound { .. } => Self::not_found(kind, name),
            Error::Conflict { .. } => Self::modified(kind, name),
            Error::Expired { wanted, oldest } => {
                Self::expired(format!("too old resource version: {wanted} ({oldest})"))
            }
            Error::Future { wanted, newest } => Self::too_large_resource_version(wanted, newest),
            Error::TooLarge { size_bytes } => Self::too_large(&format!(
                "the object has {size_bytes} bytes, the limit is {}",
                skiff_store::VALUE_BYTES_MAX
            )),
            Error::Full => Self::insufficient_storage(),
            Error::Overloaded => Self::too_many_requests(),
            Error::Closed => Self::service_unavailable("the server is shutting down"),
            Error::Backend(message) => Self::internal(message),
        }
    }

    pub fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        });
        if self.reason.is_empty() {
            meta::map_mut(&mut status).remove("reason");
        }
        if !self.details.is_empty() {
            status["details"] = Value::Object(self.details.clone());
        }
        status
    }

    pub fn into_response(self) -> Response<Body> {
        self.into_response_in(Encoding::Json)
    }

    /// As the client reads it.
    pub fn into_response_in(self, encoding: Encoding) -> Response<Body> {
        let mut response = answer::status(self.code, encoding, &self.to_status());
        if let Some(seconds) = self.details.get("retryAfterSeconds").and_then(Value::as_u64) {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// What is kept is of its type: that it is not is nobody's fault who asks for it.
impl From<EncodeError> for ApiError {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::NoForm(_) => Self::internal(error.to_string()),
            EncodeError::Json(ref why) => Self::internal(format!("{error}: {why}")),
        }
    }
}

/// The `Status` of a deletion that is complete.
pub fn deleted(kind: &Kind, name: &str, uid: &str) -> Value {
    let mut details = json!({"name": name, "kind": kind.plural, "uid": uid});
    if !kind.group.is_empty() {
        details["group"] = json!(kind.group);
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// The `Status` of something that is done and has no object.
pub fn success(code: StatusCode) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code.as_u16()})
}

/// The event that ends a watch with an error.
pub fn watch_error(error: &ApiError, encoding: Encoding) -> Bytes {
    let status = error.to_status();
    let mut out = Vec::new();
    match encoding {
        Encoding::Json => line(&mut out, "ERROR", &status),
        Encoding::Protobuf => {
            let shape = Shape::Whole(kinds::body("v1", "Status").expect("a kind of answers"));
            encode::event(&mut out, "ERROR", shape, Json::Value(&status)).expect("a status is of its type");
        }
    }
    Bytes::from(out)
}
