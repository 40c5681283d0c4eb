//! Whether the API servers behind this one answer: each is asked for its resources again and again, and its `APIService`
//! says how it is. Without any nothing is done.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use skiff_object::meta;
use skiff_store::Store;

use super::{Service, discovery, kind, relay};
use crate::extensions::CallError;
use crate::status::ApiError;
use crate::strategy::Part;
use crate::write::{Author, Operation, Write};
use crate::{Api, body, forward, prepare};

/// As upstream.
const EVERY: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_secs(3);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// How one is.
struct Found {
    is_available: bool,
    reason: &'static str,
    message: String,
}

impl Found {
    fn missing(reason: &'static str, message: String) -> Self {
        Self { is_available: false, reason, message }
    }
}

impl<S: Store + Clone> Api<S> {
    /// Until the shutdown.
    pub(crate) async fn follow_services_behind(self) {
        loop {
            let services = self.aggregation().services();
            let asked = services.iter().map(|service| self.look_at(service));
            let are_available = futures::future::join_all(asked).await.into_iter().all(|is_available| is_available);
            let wait = async {
                match (services.is_empty(), are_available) {
                    (true, _) => std::future::pending().await,
                    (false, true) => tokio::time::sleep(EVERY).await,
                    (false, false) => tokio::time::sleep(AGAIN).await,
                }
            };
            tokio::select! {
                () = wait => {}
                () = self.aggregation().changed.notified() => {}
                () = self.shutdown().cancelled() => return,
            }
        }
    }
}

impl<S: Store> Api<S> {
    async fn look_at(&self, service: &Service) -> bool {
        let found = match self.resources_of(service).await {
            Ok(resources) => {
                service.set_resources(Some(resources));
                Found { is_available: true, reason: "Passed", message: "all checks passed".to_owned() }
            }
            Err(found) => {
                service.set_resources(None);
                found
            }
        };
        if let Err(error) = self.say_how(service, &found).await {
            tracing::warn!(%error, service = service.name, "the status of an API service was not written");
        }
        found.is_available
    }

    async fn resources_of(&self, service: &Service) -> Result<Vec<Value>, Found> {
        let path = format!("/apis/{}", service.group_version());
        let url = format!("https://{}{path}", service.client.host());
        let asked = tokio::time::timeout(ANSWER_TIME_MAX, self.ask_resources(service, &path)).await;
        let answered = asked.unwrap_or(Err(CallError::Timeout)).map_err(|error| match error {
            CallError::Service(name) => Found::missing("ServiceNotFound", format!("service {name:?} is not present")),
            CallError::Endpoints(name) => {
                Found::missing("MissingEndpoints", format!("endpoints for service {name:?} have no ready addresses"))
            }
            error => Found::missing("FailedDiscoveryCheck", format!("failing or missing response from {url}: {error}")),
        })?;
        Ok(discovery::resources(&answered, &service.group, &service.version))
    }

    async fn ask_resources(&self, service: &Service, path: &str) -> Result<Value, CallError> {
        let stream = relay::connect(self, service).await?;
        let request = Request::builder()
            .method(Method::GET)
            .uri(path)
            .header("host", service.client.host())
            .header("accept", "application/json")
            .header("x-remote-user", "system:kube-aggregator")
            .header("x-remote-group", crate::users::MASTERS)
            .body(body::full(Bytes::new()))
            .map_err(|error| CallError::Name(error.to_string()))?;
        let response = forward::over(request, TokioIo::new(stream)).await?;
        if response.status() != StatusCode::OK {
            return Err(CallError::Status(response.status()));
        }
        let mut body = response.into_body();
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| CallError::Body(error.to_string()))?;
            bytes.extend_from_slice(frame.data_ref().map(Bytes::as_ref).unwrap_or_default());
            if bytes.len() > ANSWER_BYTES_MAX {
                return Err(CallError::Body(format!("it is longer than {ANSWER_BYTES_MAX} bytes")));
            }
        }
        serde_json::from_slice(&bytes).map_err(|error| CallError::Body(error.to_string()))
    }

    async fn say_how(&self, service: &Service, found: &Found) -> Result<(), ApiError> {
        let status = if found.is_available { "True" } else { "False" };
        let change = |old: &Value| Ok(said(old, status, found));
        let Some(object) = self.read(kind(), None, &service.name).await? else { return Ok(()) };
        if change(&object)? == object {
            return Ok(());
        }
        let operation = Operation::Update { name: &service.name, part: Part::Status, change: &change };
        let author = Author { subresource: "status".to_owned(), ..Author::own() };
        match self.write(Write { author: &author, kind: kind(), namespace: None, operation }).await {
            Err(error) if error.code == StatusCode::NOT_FOUND => Ok(()),
            written => written.map(drop),
        }
    }
}

/// With the condition; its time is that of the last change of its status.
fn said(old: &Value, status: &str, found: &Found) -> Value {
    let mut new = old.clone();
    let known = meta::items(meta::at(old, &["status", "conditions"]));
    let before = known.iter().find(|condition| condition["type"] == "Available");
    let since = before.filter(|before| before["status"] == status).map(|before| before["lastTransitionTime"].clone());
    let mut conditions: Vec<Value> =
        known.iter().filter(|condition| condition["type"] != "Available").cloned().collect();
    conditions.push(json!({"type": "Available", "status": status, "reason": found.reason, "message": found.message,
        "lastTransitionTime": since.unwrap_or_else(|| prepare::now().into())}));
    new["status"]["conditions"] = Value::Array(conditions);
    new
}
