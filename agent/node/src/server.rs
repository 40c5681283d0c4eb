//! The kubelet's paths about one pod: container logs, exec, attach and port-forward. Authorization is the caller's;
//! requests come in-process and carry hyper's upgrade in their extensions.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::json;

use crate::{logs, streaming};

mod containers;
mod query;

pub(crate) use containers::{Found, attempt, newest_sandbox, uid};
pub(crate) use query::Query;

pub type Body = http_body_util::combinators::BoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Answers the requests about the pods of this machine.
#[derive(Clone)]
pub struct Server {
    pub runtime: Arc<dyn skiff_cri::Runtime>,
    /// Holds `NAMESPACE_NAME_UID/CONTAINER/N.log`, N being the restart count.
    pub logs_dir: PathBuf,
}

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'a> {
    Logs(Target<'a>),
    Exec(Target<'a>),
    Attach(Target<'a>),
    PortForward { namespace: &'a str, pod: &'a str },
}

/// A container as clients name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    pub namespace: &'a str,
    pub pod: &'a str,
    pub container: &'a str,
}

impl<'a> Route<'a> {
    fn parse(path: &'a str) -> Option<Self> {
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        if segments.iter().any(|segment| segment.is_empty()) {
            return None;
        }
        match *segments.as_slice() {
            ["containerLogs", namespace, pod, container] => Some(Self::Logs(Target { namespace, pod, container })),
            ["exec", namespace, pod, container] => Some(Self::Exec(Target { namespace, pod, container })),
            ["attach", namespace, pod, container] => Some(Self::Attach(Target { namespace, pod, container })),
            ["portForward", namespace, pod] => Some(Self::PortForward { namespace, pod }),
            _ => None,
        }
    }
}

impl Server {
    /// `None`: the path is not one of ours.
    pub async fn handle(&self, request: Request<Body>) -> Option<Response<Body>> {
        let path = request.uri().path().to_owned();
        let route = Route::parse(&path)?;
        let runtime = &self.runtime;
        let answer = match route {
            Route::Logs(target) => logs::serve::answer(runtime, &self.logs_dir, target, request).await,
            Route::Exec(target) => streaming::exec(runtime, target, request).await,
            Route::Attach(target) => streaming::attach(runtime, target, request).await,
            Route::PortForward { namespace, pod } => streaming::port_forward(runtime, namespace, pod, request).await,
        };
        Some(answer.unwrap_or_else(Refusal::into_response))
    }
}

/// Why a request is not served, as a Kubernetes `Status`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    pub code: StatusCode,
    pub reason: &'static str,
    pub message: String,
}

impl Refusal {
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self { code: StatusCode::BAD_REQUEST, reason: "BadRequest", message: message.into() }
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self { code: StatusCode::NOT_FOUND, reason: "NotFound", message: message.into() }
    }

    pub fn forbidden(message: impl Into<String>) -> Self {
        Self { code: StatusCode::FORBIDDEN, reason: "Forbidden", message: message.into() }
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self { code: StatusCode::INTERNAL_SERVER_ERROR, reason: "InternalError", message: message.into() }
    }

    pub fn into_response(self) -> Response<Body> {
        let status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code.as_u16(),
        });
        let mut response = Response::new(full(status.to_string()));
        *response.status_mut() = self.code;
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        response
    }
}

impl From<skiff_cri::Error> for Refusal {
    fn from(error: skiff_cri::Error) -> Self {
        match &error {
            skiff_cri::Error::NotFound { .. } => Self::not_found(error.to_string()),
            skiff_cri::Error::DeadlineExceeded { .. }
            | skiff_cri::Error::Unavailable { .. }
            | skiff_cri::Error::Failed { .. }
            | skiff_cri::Error::Incomplete { .. } => Self::internal(error.to_string()),
        }
    }
}

pub(crate) fn full(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never| match never {}).boxed()
}

#[cfg(test)]
mod tests;
