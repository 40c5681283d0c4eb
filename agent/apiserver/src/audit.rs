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
use policy::{About, Asked, Decision};
pub use policy::{Level, Policy, PolicyError, Stage};

use crate::body::{self, Body};
use crate::handlers::media_type;
use crate::present::PROTOBUF;
use crate::request::{Parts, Verb};
use crate::status::ApiError;
use crate::users::User;
use crate::{Api, random, yaml};

/// A client may name its request.
const AUDIT_ID: &str = "audit-id";
const AUDIT_ID_BYTES_MAX: usize = 64;
/// What a client may say of itself without bound is cut.
const TEXT_BYTES_MAX: usize = 2048;
/// Of somebody unknown.
const STRANGERS_TEXT_BYTES_MAX: usize = 256;
/// Refusals of people unknown that are recorded in a minute: they must not push out what others did.
const REFUSALS_MAX: u32 = 60;
/// Larger answers are not recorded.
const ANSWER_BYTES_MAX: u64 = 3 * 1024 * 1024;

/// What is recorded, and where.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    pub policy: Policy,
    pub log: LogConfig,
}

pub struct Audit {
    policy: Policy,
    log: Log,
    refusals: Mutex<Refusals>,
}

/// Refusals of people unknown: in the minute that began then, and those that were not recorded.
#[derive(Default)]
struct Refusals {
    since: Option<std::time::Instant>,
    count: u32,
    left_out: u32,
}

impl Refusals {
    /// Whether one more is recorded, with how many were not before it.
    fn take(&mut self) -> Option<u32> {
        let is_over = self.since.is_none_or(|since| since.elapsed() >= std::time::Duration::from_secs(60));
        if is_over {
            (self.since, self.count) = (Some(std::time::Instant::now()), 0);
        }
        self.count += 1;
        if self.count <= REFUSALS_MAX {
            return Some(std::mem::take(&mut self.left_out));
        }
        self.left_out = self.left_out.saturating_add(1);
        None
    }
}

/// A request that is being answered. One whose client goes away is recorded, too: it may have done what it was to do.
struct Open<'a> {
    audit: &'a Audit,
    event: Option<Event>,
    annotations: Arc<Mutex<Map<String, Value>>>,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Some(mut event) = self.event.take() {
            event.set_annotations(&self.annotations);
            event.known["annotations"]["audit.skiff.dev/aborted"] = "the client went away before the answer".into();
            self.audit.write(&event, Stage::ResponseComplete);
        }
    }
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
        Ok(Self { policy: config.policy, log: Log::open(config.log)?, refusals: Mutex::default() })
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
        let max = if asked.user.is_some() { TEXT_BYTES_MAX } else { STRANGERS_TEXT_BYTES_MAX };
        let cut = |text: &str| text[..text.floor_char_boundary(max)].to_owned();
        let id = Some(text(AUDIT_ID)).filter(|id| !id.is_empty() && id.len() <= AUDIT_ID_BYTES_MAX);
        let mut known = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": decision.level.as_str(),
            "auditID": id.map_or_else(random::uuid, str::to_owned), "requestURI": cut(request.uri().path_and_query().map_or("", |asked| asked.as_str())),
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
            known["userAgent"] = json!(cut(text("user-agent")));
        }
        if let Some((parts, _)) = &asked.about.parts {
            known["objectRef"] = reference(parts);
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

fn reference(parts: &Parts) -> Value {
    let fields = [
        ("resource", Some(parts.resource.as_str())),
        ("namespace", parts.namespace.as_deref()),
        ("name", parts.name.as_deref()),
        ("apiGroup", Some(&parts.group)),
        ("apiVersion", Some(&parts.version)),
        ("subresource", parts.subresource.as_deref()),
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
        let decision = match request.extensions().get() {
            // Whoever may act as another does not choose the rule with that.
            Some(ActingFor(own)) => audit.policy.decide(&Asked::of(&self.catalogue(), Some(own), &request)),
            None => audit.policy.decide(&asked),
        };
        if decision.level == Level::None {
            return self.answered(user, request).await;
        }
        let event = Event::new(decision, &asked, &request);
        let about = asked.about;
        audit.write(&event, Stage::RequestReceived);
        let mut open = Open { audit, event: Some(event), annotations: Arc::default() };
        let annotations = Arc::clone(&open.annotations);
        let request = match &mut open.event {
            Some(event) => read_request(event, &about, request).await,
            None => Ok(request),
        };
        let response = match request {
            Ok(request) => ANNOTATIONS.scope(Arc::clone(&annotations), self.answered(user, request)).await,
            Err(error) => error.into_response(),
        };
        let Some(mut event) = open.event.take() else { return response };
        event.set_annotations(&annotations);
        match about.is_stream() && response.status().as_u16() < 400 {
            true => streamed(audit, event, response),
            false => complete(audit, event, &about, response).await,
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
        if user.is_none() {
            let mut refusals = audit.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            match refusals.take() {
                Some(0) => {}
                Some(left_out) => event.known["annotations"]["audit.skiff.dev/left-out"] = left_out.to_string().into(),
                None => return,
            }
        }
        audit.write(&event, Stage::RequestReceived);
        event.set_response(error.code.as_u16(), Some(error.to_status()));
        audit.write(&event, Stage::ResponseComplete);
    }
}

/// Reads what is sent where it is to be recorded: all of it, or of a new object its name.
async fn read_request(event: &mut Event, about: &About, request: Request<Body>) -> Result<Request<Body>, ApiError> {
    let Some(kind) = about.kind.as_ref().filter(|_| !about.is_stream()) else { return Ok(request) };
    if !event.is_at_least(Level::Request) && !about.is(Verb::Create) {
        return Ok(request);
    }
    let media_type = media_type(&request);
    let (parts, sent) = request.into_parts();
    let bytes = body::read(sent).await?;
    if let Some(sent) = value(kind, &media_type, &bytes).await {
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
async fn complete(audit: &Audit, mut event: Event, about: &About, response: Response<Body>) -> Response<Body> {
    let code = response.status().as_u16();
    let may_be_status = code >= 400 || about.is(Verb::Delete);
    let (parts, sent) = response.into_parts();
    // What another sends may have no end.
    let is_bounded = http_body::Body::size_hint(&sent).exact().is_some_and(|size| size <= ANSWER_BYTES_MAX);
    let is_own = !about.is_stream() && is_bounded;
    let (sent, recorded) = if is_own && (event.is_at_least(Level::RequestResponse) || may_be_status) {
        match sent.collect().await {
            Ok(bytes) => {
                let bytes = bytes.to_bytes();
                let ty = parts.headers.get(header::CONTENT_TYPE).and_then(|ty| ty.to_str().ok()).unwrap_or_default();
                let recorded = read_answer(about.kind.as_deref(), ty, &bytes);
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
fn read_answer(kind: Option<&Kind>, media_type: &str, bytes: &Bytes) -> Option<Value> {
    if media_type != PROTOBUF {
        return serde_json::from_slice(bytes).ok();
    }
    let status = kinds::body("v1", "Status").expect("a kind of answers");
    let read = protobuf::decode(status, bytes).or_else(|error| match kind {
        Some(kind) => protobuf::decode(kind, bytes),
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
