//! `metrics.k8s.io`: what nodes and pods use, for `kubectl top` and autoscalers.
//!
//! Nodes are asked when somebody asks: what counts up is compared with what it was when it was asked before, or a moment
//! ago where nobody did. Nothing is measured while nobody asks.

use std::collections::HashMap;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_object::kinds::{self, Kind};
use skiff_object::labels::Selector;
use skiff_object::meta;
use skiff_store::Store;
use tokio::time::Instant;

use crate::body::{self, Body};
use crate::handlers::Call;
use crate::prepare;
use crate::request::Verb;
use crate::status::ApiError;
use crate::{Api, answer, codec};

/// Between two measurements that are compared: shorter says nothing, and longer nothing about now.
const WINDOW_MIN: Duration = Duration::from_secs(1);
const WINDOW_MAX: Duration = Duration::from_secs(120);
/// Who asks again so soon is told the same.
const FRESH: Duration = Duration::from_secs(5);
/// A measurement stays the one to compare with for this long, so that who asks often sees more than a moment.
const WINDOW: Duration = Duration::from_secs(15);

/// What each node said last, and what came of it.
#[derive(Default)]
pub struct Samples(HashMap<String, Sampled>);

struct Sampled {
    before: Sample,
    used: Used,
    asked: Instant,
}

/// What a node counts, at a time.
struct Sample {
    at: Instant,
    node: u64,
    node_memory: u64,
    /// Processor time and memory of each container, by the pod's uid and its name.
    containers: HashMap<(String, String), (u64, u64)>,
}

/// Nanoseconds of processor time a second, and bytes.
#[derive(Clone, Copy, Default)]
struct Amount {
    cpu: u64,
    memory: u64,
}

/// What a node and its containers used lately.
#[derive(Clone, Default)]
struct Used {
    seconds: f64,
    time: String,
    node: Amount,
    containers: HashMap<(String, String), Amount>,
}

impl Sample {
    fn read(summary: &Value, at: Instant) -> Self {
        let number = |value: &Value, path: &[&str]| meta::at(value, path).and_then(Value::as_u64).unwrap_or(0);
        let mut containers = HashMap::new();
        for pod in meta::items(summary.get("pods")) {
            let uid = meta::text_at(pod, &["podRef", "uid"]);
            for container in meta::items(pod.get("containers")) {
                let name = meta::text_at(container, &["name"]);
                let cpu = number(container, &["cpu", "usageCoreNanoSeconds"]);
                let memory = number(container, &["memory", "workingSetBytes"]);
                containers.insert((uid.to_owned(), name.to_owned()), (cpu, memory));
            }
        }
        Self {
            at,
            node: number(summary, &["node", "cpu", "usageCoreNanoSeconds"]),
            node_memory: number(summary, &["node", "memory", "workingSetBytes"]),
            containers,
        }
    }

    /// What was used from one to the other. A container that is new in it has used what it has.
    fn since(&self, before: &Sample) -> Used {
        let seconds = self.at.duration_since(before.at).as_secs_f64().max(f64::MIN_POSITIVE);
        let rate = |now: u64, then: u64| (now.saturating_sub(then) as f64 / seconds) as u64;
        let container = |(key, (cpu, memory)): (&(String, String), &(u64, u64))| {
            // One that was started again counts from zero.
            let then = before.containers.get(key).map(|(then, _)| *then).filter(|then| then <= cpu).unwrap_or(0);
            (key.clone(), Amount { cpu: rate(*cpu, then), memory: *memory })
        };
        Used {
            seconds,
            time: prepare::now(),
            node: Amount { cpu: rate(self.node, before.node), memory: self.node_memory },
            containers: self.containers.iter().map(container).collect(),
        }
    }
}

impl Amount {
    fn usage(self) -> Value {
        json!({"cpu": format!("{}n", self.cpu), "memory": format!("{}Ki", self.memory / 1024)})
    }
}

impl Used {
    fn window(&self) -> String {
        format!("{:.3}s", self.seconds)
    }
}

impl<S: Store> Api<S> {
    pub(crate) async fn usage(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        let (target, kind) = (&call.target, &*call.target.kind);
        if !matches!(target.verb, Verb::Get | Verb::List) {
            return Err(ApiError::method_not_allowed(target.verb.as_str()));
        }
        let labels = Selector::parse(call.query.get("labelSelector").unwrap_or_default());
        let labels = labels.map_err(|error| ApiError::bad_request(error.to_string()))?;
        let namespace = target.namespace();
        let mut items =
            if kind.namespaced() { self.pods_use(kind, namespace).await? } else { self.nodes_use(kind).await? };
        items.retain(|item| labels.matches(&meta::labels(item)));
        if let Some(name) = &target.name {
            let found = items.into_iter().find(|item| meta::name(item) == name);
            let found = found.ok_or_else(|| ApiError::not_found(kind, name))?;
            return Ok(answer::object(StatusCode::OK, call.form, kind, found, &[]));
        }
        answer::list(call.form, kind, json!({}), items)
    }

    async fn nodes_use(&self, kind: &Kind) -> Result<Vec<Value>, ApiError> {
        let nodes = kinds::by_kind("v1", "Node").expect("a built-in kind");
        let mut items = Vec::new();
        for name in self.nodes() {
            let (Some(used), Some(node)) = (self.node_uses(&name).await, self.read(nodes, None, &name).await?) else {
                continue;
            };
            items.push(of_object(kind, &node, &used, "usage", used.node.usage()));
        }
        Ok(items)
    }

    async fn pods_use(&self, kind: &Kind, namespace: Option<&str>) -> Result<Vec<Value>, ApiError> {
        let pods = kinds::by_kind("v1", "Pod").expect("a built-in kind");
        let mut of_nodes = HashMap::new();
        for name in self.nodes() {
            if let Some(used) = self.node_uses(&name).await {
                of_nodes.insert(name, used);
            }
        }
        let entries = self.entries_of(pods, namespace).await?;
        let mut items = Vec::new();
        for pod in entries.iter().map(codec::decode) {
            let Some(used) = of_nodes.get(meta::text_at(&pod, &["spec", "nodeName"])) else { continue };
            let specs = ["initContainers", "containers", "ephemeralContainers"];
            let names = specs.iter().flat_map(|list| meta::items(meta::at(&pod, &["spec", list])));
            let containers: Vec<Value> = names
                .filter_map(|container| {
                    let name = meta::text_at(container, &["name"]);
                    let amount = used.containers.get(&(meta::uid(&pod).to_owned(), name.to_owned()))?;
                    Some(json!({"name": name, "usage": amount.usage()}))
                })
                .collect();
            if !containers.is_empty() {
                items.push(of_object(kind, &pod, used, "containers", json!(containers)));
            }
        }
        Ok(items)
    }

    /// `None`: the node does not say.
    async fn node_uses(&self, name: &str) -> Option<Used> {
        // Who asks at once waits for the first, and is told the same.
        let mut samples = self.inner.usage.lock().await;
        if let Some(sampled) = samples.0.get(name).filter(|sampled| sampled.asked.elapsed() < FRESH) {
            return Some(sampled.used.clone());
        }
        let before = samples.0.remove(name).map(|sampled| sampled.before);
        let mut now = self.sample(name).await?;
        let before = match before.filter(|before| (WINDOW_MIN..WINDOW_MAX).contains(&before.at.elapsed())) {
            Some(before) => before,
            None => {
                tokio::time::sleep(WINDOW_MIN).await;
                std::mem::replace(&mut now, self.sample(name).await?)
            }
        };
        let (used, asked) = (now.since(&before), Instant::now());
        let before = if before.at.elapsed() < WINDOW { before } else { now };
        samples.0.insert(name.to_owned(), Sampled { before, used: used.clone(), asked });
        Some(used)
    }

    async fn sample(&self, name: &str) -> Option<Sample> {
        let service = self.node(name)?;
        let request = Request::get("/stats/summary").body(body::full("")).ok()?;
        let Ok(response) = service.call(request).await;
        let bytes = response.into_body().collect().await.ok()?.to_bytes();
        Some(Sample::read(&serde_json::from_slice(&bytes).ok()?, Instant::now()))
    }
}

fn of_object(kind: &Kind, object: &Value, used: &Used, field: &str, value: Value) -> Value {
    let mut metadata = json!({"name": meta::name(object), "creationTimestamp": prepare::time(Timestamp::now())});
    if let Some(namespace) = meta::namespace(object) {
        metadata["namespace"] = json!(namespace);
    }
    if let Some(labels) = meta::labels(object) {
        metadata["labels"] = json!(labels);
    }
    let mut metrics = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": metadata,
        "timestamp": used.time, "window": used.window()});
    metrics[field] = value;
    metrics
}

/// What an object is made of, as a definition would say it, for `kubectl explain`.
pub fn definition(kind: &Kind) -> Value {
    let text = |said: &str| json!({"type": "string", "description": said});
    let used = json!({"type": "object", "additionalProperties": {"type": "string"},
        "description": "The processor time (cpu) and the memory that are used."});
    let mut fields = json!({
        "timestamp": text("When it was measured."),
        "window": text("The time over which it was measured."),
    });
    match &*kind.kind {
        "PodMetrics" => {
            fields["containers"] = json!({"type": "array", "description": "What each container of the pod uses.",
                "items": {"type": "object", "description": "What a container uses.", "properties": {"name": text("The container's name."), "usage": used}}});
        }
        _ => fields["usage"] = used,
    }
    let schema =
        json!({"type": "object", "properties": fields, "description": "What is used of the processor and memory."});
    json!({"spec": {"versions": [{"name": kind.version, "schema": {"openAPIV3Schema": schema}}]}})
}
#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: Instant, node: u64, containers: &[(&str, u64)]) -> Sample {
        let all = containers.iter().map(|(name, cpu)| {
            json!({"name": name, "cpu": {"usageCoreNanoSeconds": cpu},
            "memory": {"workingSetBytes": 2048}})
        });
        let summary = json!({"node": {"cpu": {"usageCoreNanoSeconds": node}, "memory": {"workingSetBytes": 4096}},
            "pods": [{"podRef": {"uid": "u"}, "containers": all.collect::<Vec<_>>()}]});
        Sample::read(&summary, at)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_used_is_what_came_to_it() {
        let start = Instant::now();
        let before = sample(start, 1_000, &[("a", 500), ("restarted", 9_000_000_000)]);
        let after = start + Duration::from_secs(10);
        let now = sample(after, 20_000_001_000, &[("a", 5_000_000_500), ("restarted", 1_000_000_000), ("new", 10)]);
        let used = now.since(&before);
        assert_eq!(used.node.usage(), json!({"cpu": "2000000000n", "memory": "4Ki"}));
        let cpu = |name: &str| used.containers[&("u".to_owned(), name.to_owned())].cpu;
        assert_eq!((cpu("a"), cpu("restarted"), cpu("new")), (500_000_000, 100_000_000, 1));
        assert_eq!(used.window(), "10.000s");
    }
}
