//! Records Kubernetes events: what `kubectl describe` and `kubectl events` show.
//!
//! Repeats of one event raise its count instead of adding objects, and a noisy object is limited, as in client-go.
//! Recording never fails: an event that cannot be written is logged and dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, ObjectReference};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

/// Events remembered to count repeats; the oldest are forgotten first.
const REMEMBERED_MAX: usize = 1024;
/// A repeat later than this starts a new event (client-go's aggregation interval).
const REPEAT_WINDOW: Duration = Duration::from_secs(600);
/// Events an object may cause at once, and how long it takes to earn one more (client-go's spam filter).
const BURST: u32 = 25;
const REFILL: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    Normal,
    Warning,
}

impl EventKind {
    fn as_str(self) -> &'static str {
        match self {
            EventKind::Normal => "Normal",
            EventKind::Warning => "Warning",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    regarding: String,
    field_path: Option<String>,
    kind: EventKind,
    reason: String,
    message: String,
}

struct Seen {
    name: String,
    count: i32,
    last: Instant,
}

struct Allowance {
    left: u32,
    since: Instant,
}

#[derive(Default)]
struct Memory {
    seen: HashMap<Key, Seen>,
    allowance: HashMap<String, Allowance>,
}

enum Write {
    Create { name: String },
    Count { name: String, count: i32 },
    Drop,
}

/// Writes events in the name of one component. Clones share what they remember.
#[derive(Clone)]
pub struct Recorder {
    client: kube::Client,
    component: Arc<str>,
    host: Arc<str>,
    memory: Arc<Mutex<Memory>>,
}

impl Recorder {
    pub fn new(client: kube::Client, component: &str, host: &str) -> Self {
        Self { client, component: component.into(), host: host.into(), memory: Arc::default() }
    }

    /// Answers whether it was written.
    pub async fn event(&self, regarding: &ObjectReference, kind: EventKind, reason: &str, message: &str) -> bool {
        let key = Key {
            regarding: regarding_id(regarding),
            field_path: regarding.field_path.clone(),
            kind,
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        let write = self.memory.lock().unwrap_or_else(PoisonError::into_inner).plan(key, regarding, Instant::now());
        let events: Api<Event> =
            Api::namespaced(self.client.clone(), regarding.namespace.as_deref().unwrap_or("default"));
        let now = Timestamp::now();
        let result = match write {
            Write::Create { name } => {
                let event = self.build(&name, regarding, kind, reason, message, now);
                events.create(&PostParams::default(), &event).await
            }
            Write::Count { name, count } => {
                let patch = json!({"count": count, "lastTimestamp": format_time(now)});
                events.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await
            }
            Write::Drop => return false,
        };
        if let Err(error) = &result {
            tracing::debug!(%error, reason, "event was not recorded");
        }
        result.is_ok()
    }

    fn build(
        &self,
        name: &str,
        regarding: &ObjectReference,
        kind: EventKind,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) -> Event {
        let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now);
        let mut event = Event {
            involved_object: regarding.clone(),
            type_: Some(kind.as_str().to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            count: Some(1),
            first_timestamp: Some(time.clone()),
            last_timestamp: Some(time),
            reporting_component: Some(self.component.to_string()),
            reporting_instance: Some(self.host.to_string()),
            ..Event::default()
        };
        event.metadata.name = Some(name.to_owned());
        event.metadata.namespace = Some(regarding.namespace.clone().unwrap_or_else(|| "default".to_owned()));
        event.source = Some(k8s_openapi::api::core::v1::EventSource {
            component: Some(self.component.to_string()),
            host: (!self.host.is_empty()).then(|| self.host.to_string()),
        });
        event
    }
}

/// A node as the subject of what its own parts say, as upstream's kubelet names it: with its name for a uid.
pub fn node_reference(name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: Some(name.to_owned()),
        uid: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}

impl Memory {
    fn plan(&mut self, key: Key, regarding: &ObjectReference, now: Instant) -> Write {
        if !self.allow(&key.regarding, now) {
            return Write::Drop;
        }
        if let Some(seen) = self.seen.get_mut(&key).filter(|seen| now.duration_since(seen.last) < REPEAT_WINDOW) {
            seen.count += 1;
            seen.last = now;
            return Write::Count { name: seen.name.clone(), count: seen.count };
        }
        self.forget();
        let name = event_name(regarding);
        self.seen.insert(key, Seen { name: name.clone(), count: 1, last: now });
        Write::Create { name }
    }

    fn allow(&mut self, object: &str, now: Instant) -> bool {
        if self.allowance.len() >= REMEMBERED_MAX {
            self.allowance.retain(|_, a| now.duration_since(a.since) < REFILL);
        }
        let allowance = self.allowance.entry(object.to_owned()).or_insert(Allowance { left: BURST, since: now });
        let earned = (now.duration_since(allowance.since).as_secs() / REFILL.as_secs()) as u32;
        if earned > 0 {
            allowance.left = (allowance.left + earned).min(BURST);
            allowance.since = now;
        }
        let allowed = allowance.left > 0;
        allowance.left = allowance.left.saturating_sub(1);
        allowed
    }

    fn forget(&mut self) {
        if self.seen.len() < REMEMBERED_MAX {
            return;
        }
        let oldest = self.seen.iter().min_by_key(|(_, seen)| seen.last).map(|(key, _)| key.clone());
        if let Some(key) = oldest {
            self.seen.remove(&key);
        }
    }
}

fn regarding_id(regarding: &ObjectReference) -> String {
    let part = |field: &Option<String>| field.clone().unwrap_or_default();
    format!(
        "{}/{}/{}/{}",
        part(&regarding.kind),
        part(&regarding.namespace),
        part(&regarding.name),
        part(&regarding.uid)
    )
}

/// Upstream's form: the object's name and the time in nanoseconds, in hexadecimal.
fn event_name(regarding: &ObjectReference) -> String {
    let nanos = Timestamp::now().as_nanosecond();
    format!("{}.{nanos:x}", regarding.name.as_deref().unwrap_or("unknown"))
}

/// RFC 3339 with whole seconds, as metav1.Time is written.
fn format_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
