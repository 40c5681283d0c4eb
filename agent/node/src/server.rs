//! The node's API, which the API server forwards to: logs, commands, ports, statistics. Authorization has been done.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use skiff_reconcile::Informer;

use crate::context::Context;
use crate::pods::observe::{Container, Observed, StatusCache, observe};

mod exec;
mod logs;
mod netns;
mod port_forward;
mod remote;
mod session;
mod stats;
mod upgrade;
mod websocket;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type Body = http_body_util::combinators::BoxBody<Bytes, BoxError>;

/// Answers requests for the pods of this node. Clones answer the same.
#[derive(Clone)]
pub struct Server {
    context: Arc<Context>,
    informer: Informer<Pod>,
}

/// Why a request is not served; becomes a Kubernetes `Status`.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    BadRequest(String),
    #[error("{0}")]
    NotFound(String),
    #[error("the server could not find the requested resource")]
    NoSuchPath,
    #[error("{0}")]
    Internal(String),
}

impl Refusal {
    fn response(&self) -> Response<Body> {
        let (code, reason) = match self {
            Refusal::BadRequest(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Refusal::NotFound(_) | Refusal::NoSuchPath => (StatusCode::NOT_FOUND, "NotFound"),
            Refusal::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        };
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.to_string(), "reason": reason, "code": code.as_u16(),
        });
        let mut response = Response::new(full(status.to_string()));
        *response.status_mut() = code;
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        response
    }
}

fn full(data: impl Into<Bytes>) -> Body {
    Full::new(data.into()).map_err(|never| match never {}).boxed()
}

fn json(value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// The parameters of a request, decoded, in order.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decode(k), decode(v))).collect(),
        )
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| matches!(value, "1" | "true" | "True" | "t" | "T" | "TRUE"))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let Some(text) = self.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        let invalid = || Refusal::BadRequest(format!("Invalid value for parameter {name}: \"{text}\""));
        text.parse().map(Some).map_err(|_| invalid())
    }
}

/// Percent-decoding with `+` for a blank; what is not valid stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match (bytes[at], hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Server {
    pub(crate) fn new(context: Arc<Context>, informer: Informer<Pod>) -> Self {
        Self { context, informer }
    }

    /// Serves one request. Upgrades need hyper's `OnUpgrade` among the request's extensions.
    pub async fn handle(&self, request: Request<Body>) -> Response<Body> {
        match self.route(request).await {
            Ok(response) => response,
            Err(refusal) => refusal.response(),
        }
    }

    async fn route(&self, request: Request<Body>) -> Result<Response<Body>, Refusal> {
        let path = request.uri().path().to_owned();
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let get = request.method() == Method::GET;
        match parts.as_slice() {
            ["containerLogs", namespace, pod, container] if get => self.logs(namespace, pod, container, &query).await,
            ["exec", namespace, pod, container] => self.exec(namespace, pod, container, &query, request).await,
            ["attach", namespace, pod, container] => self.attach(namespace, pod, container, &query, request).await,
            ["portForward", namespace, pod] => self.port_forward(namespace, pod, &query, request).await,
            ["pods"] if get => Ok(self.pods()),
            ["stats", "summary"] if get => self.summary().await,
            ["metrics", "resource"] if get => self.resource_metrics().await,
            ["healthz"] if get => Ok(Response::new(full("ok"))),
            _ => Err(Refusal::NoSuchPath),
        }
    }

    fn pods(&self) -> Response<Body> {
        let pods: Vec<_> =
            self.informer.list().iter().map(|pod| serde_json::to_value(&**pod).unwrap_or_default()).collect();
        json(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods}))
    }

    fn pod(&self, namespace: &str, name: &str) -> Result<Arc<Pod>, Refusal> {
        let missing = || Refusal::NotFound(format!("pod \"{name}\" does not exist on this node"));
        self.informer.get(Some(namespace), name).ok_or_else(missing)
    }

    async fn observe(&self, pod: &Pod) -> Result<Observed, Refusal> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let observed = observe(&*self.context.runtime, uid, &mut StatusCache::default()).await;
        observed.map_err(|error| Refusal::Internal(error.to_string()))
    }

    /// The newest container of the name, running.
    async fn running(&self, namespace: &str, pod_name: &str, name: &str) -> Result<(Arc<Pod>, Container), Refusal> {
        let pod = self.pod(namespace, pod_name)?;
        check_container(&pod, name)?;
        let observed = self.observe(&pod).await?;
        let container = observed.running().find(|container| container.name == name).cloned();
        let container = container
            .ok_or_else(|| Refusal::BadRequest(format!("container \"{name}\" in pod \"{pod_name}\" is not running")))?;
        Ok((pod, container))
    }
}

fn check_container(pod: &Pod, name: &str) -> Result<(), Refusal> {
    let known = pod.spec.as_ref().and_then(|spec| crate::pods::start::find(spec, name)).is_some();
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let missing = || Refusal::BadRequest(format!("container {name} is not valid for pod {pod_name}"));
    known.then_some(()).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("command=sh&command=-c&command=echo+%24A%20%C3%A4&tty=1&tailLines=x");
        assert_eq!(query.all("command"), ["sh", "-c", "echo $A ä"]);
        assert!(query.is_set("tty") && !query.is_set("stdin"));
        assert!(query.number::<u64>("tailLines").is_err());
        assert_eq!(decode("%zz%4"), "%zz%4");
    }
}
