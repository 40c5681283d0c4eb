//! Who asked what, and what came of it: a line in the audit log for each stage of a request that the policy asks for.
//!
//! Owns the events, in upstream's format; without a policy a request pays nothing.

mod log;
mod policy;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use skiff_object::kinds::{self, Kind};
use skiff_object::{meta, protobuf};
use skiff_store::Store;

pub use log::{Log, LogConfig};
use policy::{Asked, Decision};
pub use policy::{Level, Policy, PolicyError, Stage};

use crate::body::{self, Body};
use crate::handlers::media_type;
use crate::present::PROTOBUF;
use crate::request::{Target, Verb};
use crate::status::ApiError;
use crate::users::User;
use crate::{Api, random, yaml};

/// A client may name its request.
const AUDIT_ID: &str = "audit-id";
const AUDIT_ID_BYTES_MAX: usize = 64;
/// What goes on after its answer has begun.
const STREAMS: &[&str] = &["attach", "exec", "log", "portforward", "proxy"];

/// What is recorded, and where.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    pub policy: Policy,
    pub log: LogConfig,
}

pub struct Audit {
    policy: Policy,
    log: Log,
}

/// Where a request came from, and who asks to be another. Extensions of the request.
#[derive(Clone)]
pub struct Peer(pub IpAddr);
#[derive(Clone)]
pub struct ActingFor(pub User);

tokio::task_local! {
    static ANNOTATIONS: Arc<Mutex<Map<String, Value>>>;
}

/// Adds to the event of the request that is being answered, if one is recorded.
pub fn annotate(key: &str, value: impl Into<String>) {
    let _ = ANNOTATIONS.try_with(|annotations| {
        let mut annotations = annotations.lock().unwrap_or_else(PoisonError::into_inner);
        annotations.insert(key.to_owned(), value.into().into());
    });
}

/// The decision about a request.
pub fn annotate_decision(is_allowed: bool) {
    annotate("authorization.k8s.io/decision", if is_allowed { "allow" } else { "forbid" });
    annotate("authorization.k8s.io/reason", "");
}

impl Audit {
    pub fn start(config: AuditConfig) -> std::io::Result<Self> {
        Ok(Self { policy: config.policy, log: Log::open(config.log)? })
    }

    fn write(&self, event: &Event, stage: Stage) {
        if !event.decision.omits.contains(&stage) {
            self.log.write(event.at(stage).to_string());
        }
    }
}

/// What is known of a request so far.
struct Event {
    decision: Decision,
    known: Value,
}

impl Event {
    fn new<B>(decision: Decision, asked: &Asked<'_>, request: &Request<B>) -> Self {
        let text = |name| request.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok()).unwrap_or_default();
        let id = Some(text(AUDIT_ID)).filter(|id| !id.is_empty() && id.len() <= AUDIT_ID_BYTES_MAX);
        let mut known = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": decision.level.as_str(),
            "auditID": id.map_or_else(random::uuid, str::to_owned), "requestURI": request.uri().path_and_query().map_or("", |asked| asked.as_str()),
            "verb": asked.verb, "user": asked.user.map_or_else(|| json!({}), User::info),
            "requestReceivedTimestamp": now(),
        });
        if let Some(ActingFor(user)) = request.extensions().get() {
            let acted = std::mem::replace(&mut known["user"], user.info());
            known["impersonatedUser"] = acted;
        }
        if let Some(Peer(address)) = request.extensions().get() {
            known["sourceIPs"] = json!([address.to_canonical()]);
        }
        if !text("user-agent").is_empty() {
            known["userAgent"] = json!(text("user-agent"));
        }
        if let Some(target) = &asked.target {
            known["objectRef"] = reference(target);
        }
        Self { decision, known }
    }

    fn at(&self, stage: Stage) -> Value {
        let mut event = self.known.clone();
        event["stage"] = stage.as_str().into();
        event["stageTimestamp"] = now().into();
        event
    }

    fn id(&self) -> &str {
        meta::text_at(&self.known, &["auditID"])
    }

    fn is_at_least(&self, level: Level) -> bool {
        self.decision.level >= level
    }

    /// What was sent: which object it is of, and the object.
    fn set_request(&mut self, sent: Value) {
        if let Some(reference) = self.known.get_mut("objectRef").and_then(Value::as_object_mut) {
            for field in ["namespace", "name", "uid", "resourceVersion"] {
                if let Some(text) = meta::field(&sent, field).and_then(Value::as_str).filter(|text| !text.is_empty()) {
                    reference.entry(field).or_insert_with(|| text.into());
                }
            }
        }
        if self.is_at_least(Level::Request) {
            self.known["requestObject"] = self.without_managers(sent);
        }
    }

    /// What came of it.
    fn set_response(&mut self, code: u16, sent: Option<Value>) {
        let mut status = json!({"metadata": {}, "code": code});
        if let Some(sent) = sent.as_ref().filter(|sent| sent["kind"] == "Status") {
            for field in ["status", "message", "reason", "details"] {
                if let Some(value) = sent.get(field).filter(|value| !value.is_null()) {
                    status[field] = value.clone();
                }
            }
        }
        self.known["responseStatus"] = status;
        if let Some(sent) = sent.filter(|_| self.is_at_least(Level::RequestResponse)) {
            self.known["responseObject"] = self.without_managers(sent);
        }
    }

    fn set_annotations(&mut self, annotations: &Mutex<Map<String, Value>>) {
        let annotations = annotations.lock().unwrap_or_else(PoisonError::into_inner);
        if !annotations.is_empty() {
            self.known["annotations"] = Value::Object(annotations.clone());
        }
    }

    fn without_managers(&self, mut object: Value) -> Value {
        if self.decision.omit_managed_fields {
            let items = object.get_mut("items").and_then(Value::as_array_mut);
            items.into_iter().flatten().for_each(|item| meta::unset(item, "managedFields"));
            meta::unset(&mut object, "managedFields");
        }
        object
    }
}

fn now() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

fn reference(target: &Target) -> Value {
    let fields = [
        ("resource", Some(&*target.kind.plural)),
        ("namespace", target.namespace()),
        ("name", target.name.as_deref()),
        ("apiGroup", Some(&*target.kind.group)),
        ("apiVersion", Some(&*target.kind.version)),
        ("subresource", target.subresource.as_deref()),
    ];
    let fields = fields.into_iter().filter_map(|(field, text)| Some((field, text.filter(|text| !text.is_empty())?)));
    Value::Object(fields.map(|(field, text)| (field.to_owned(), text.into())).collect())
}

impl<S: Store> Api<S> {
    /// Answers a request, and records it as the policy says.
    pub(crate) async fn answered_and_recorded(
        &self,
        audit: &Arc<Audit>,
        user: User,
        request: Request<Body>,
    ) -> Response<Body> {
        let asked = Asked::of(&self.catalogue(), Some(&user), &request);
        let decision = audit.policy.decide(&asked);
        if decision.level == Level::None {
            return self.answered(user, request).await;
        }
        let mut event = Event::new(decision, &asked, &request);
        let target = asked.target;
        audit.write(&event, Stage::RequestReceived);
        let annotations = Arc::default();
        let response = match read_request(&mut event, target.as_ref(), request).await {
            Ok(request) => ANNOTATIONS.scope(Arc::clone(&annotations), self.answered(user, request)).await,
            Err(error) => error.into_response(),
        };
        event.set_annotations(&annotations);
        match is_stream(target.as_ref()) && response.status().as_u16() < 400 {
            true => streamed(audit, event, response),
            false => complete(audit, event, target.as_ref(), response).await,
        }
    }

    /// Records a request of somebody unknown, or who must not be another.
    pub(crate) fn record_refusal<B>(&self, user: Option<&User>, request: &Request<B>, error: &ApiError) {
        let Some(audit) = self.audit() else { return };
        let asked = Asked::of(&self.catalogue(), user, request);
        let decision = audit.policy.decide(&asked);
        if decision.level == Level::None {
            return;
        }
        let mut event = Event::new(decision, &asked, request);
        audit.write(&event, Stage::RequestReceived);
        event.set_response(error.code.as_u16(), Some(error.to_status()));
        audit.write(&event, Stage::ResponseComplete);
    }
}

fn is_stream(target: Option<&Target>) -> bool {
    target.is_some_and(|target| {
        target.verb == Verb::Watch || target.subresource.as_deref().is_some_and(|part| STREAMS.contains(&part))
    })
}

/// Reads what is sent where it is to be recorded: all of it, or of a new object its name.
async fn read_request(
    event: &mut Event,
    target: Option<&Target>,
    request: Request<Body>,
) -> Result<Request<Body>, ApiError> {
    let Some(target) = target.filter(|target| !is_stream(Some(target))) else { return Ok(request) };
    if !event.is_at_least(Level::Request) && target.verb != Verb::Create {
        return Ok(request);
    }
    let media_type = media_type(&request);
    let (parts, sent) = request.into_parts();
    let bytes = body::read(sent).await?;
    if let Some(sent) = value(&target.kind, &media_type, &bytes).await {
        event.set_request(sent);
    }
    Ok(Request::from_parts(parts, body::full(bytes)))
}

/// What is sent, as JSON; `None` where it is nothing that can be read so.
async fn value(kind: &Kind, media_type: &str, bytes: &Bytes) -> Option<Value> {
    if bytes.is_empty() {
        return None;
    }
    match media_type {
        PROTOBUF => protobuf::decode(kind, bytes).ok(),
        _ => yaml::read(bytes.clone()).await.ok(),
    }
}

/// The event of an answer that is there as a whole.
async fn complete(
    audit: &Audit,
    mut event: Event,
    target: Option<&Target>,
    response: Response<Body>,
) -> Response<Body> {
    let code = response.status().as_u16();
    let may_be_status = code >= 400 || target.is_some_and(|target| target.verb == Verb::Delete);
    let (parts, sent) = response.into_parts();
    let (sent, recorded) = if event.is_at_least(Level::RequestResponse) || may_be_status {
        match sent.collect().await {
            Ok(bytes) => {
                let bytes = bytes.to_bytes();
                let ty = parts.headers.get(header::CONTENT_TYPE).and_then(|ty| ty.to_str().ok()).unwrap_or_default();
                let recorded = read_answer(target, ty, &bytes);
                (body::full(bytes), recorded)
            }
            Err(error) => return ApiError::internal(error.to_string()).into_response(),
        }
    } else {
        (sent, None)
    };
    event.set_response(code, recorded);
    audit.write(&event, Stage::ResponseComplete);
    named(Response::from_parts(parts, sent), &event)
}

/// Lists in protobuf are not read back.
fn read_answer(target: Option<&Target>, media_type: &str, bytes: &Bytes) -> Option<Value> {
    if media_type != PROTOBUF {
        return serde_json::from_slice(bytes).ok();
    }
    let status = kinds::body("v1", "Status").expect("a kind of answers");
    let read = protobuf::decode(status, bytes).or_else(|error| match target {
        Some(target) => protobuf::decode(&target.kind, bytes),
        None => Err(error),
    });
    read.ok()
}

/// The events of an answer that goes on: that it began, and when it ends.
fn streamed(audit: &Arc<Audit>, mut event: Event, response: Response<Body>) -> Response<Body> {
    event.set_response(response.status().as_u16(), None);
    audit.write(&event, Stage::ResponseStarted);
    let response = named(response, &event);
    response.map(|body| body::held_with(body, Ending { event, audit: Arc::clone(audit) }))
}

fn named(mut response: Response<Body>, event: &Event) -> Response<Body> {
    if let Ok(id) = HeaderValue::from_str(event.id()) {
        response.headers_mut().insert(AUDIT_ID, id);
    }
    response
}

/// The end of what streams, however it comes.
struct Ending {
    event: Event,
    audit: Arc<Audit>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.audit.write(&self.event, Stage::ResponseComplete);
    }
}
