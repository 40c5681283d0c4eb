//! An API server for tests, in memory: create, read, merge-patch, delete with grace, list and watch; no admission but of
//! one label, no defaults. Just enough for what this crate asks.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::Notify;

/// A label that nobody may set afterwards.
pub const REFUSED_LABEL: &str = "node-role.kubernetes.io/refused";

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<String, Value>,
    /// Version, event type, path, object.
    log: Vec<(u64, &'static str, String, Value)>,
    writes: Vec<String>,
}

#[derive(Clone, Default)]
pub struct TestApi {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

fn answer(code: u16, value: &Value) -> Answer {
    let body = Full::new(Bytes::from(value.to_string())).boxed();
    Response::builder().status(code).header("content-type", "application/json").body(body).unwrap()
}

fn failure(code: u16, reason: &str) -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason,
                        "reason": reason, "code": code});
    answer(code, &status)
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

impl TestApi {
    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.handle(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// The kinds and names written so far, without events and leases.
    pub fn writes(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.writes.iter().filter(|w| !w.contains("/events") && !w.contains("/leases")).cloned().collect()
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(path).cloned()
    }

    pub fn paths(&self, part: &str) -> Vec<String> {
        self.state.lock().unwrap().objects.keys().filter(|path| path.contains(part)).cloned().collect()
    }

    /// All events, as `Reason: message`.
    pub fn events(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let events = state.objects.iter().filter(|(path, _)| path.contains("/events/"));
        events.map(|(_, e)| format!("{}: {}", e["reason"].as_str().unwrap(), e["message"].as_str().unwrap())).collect()
    }

    /// How often events of this reason happened.
    pub fn event_counts(&self, reason: &str) -> usize {
        let state = self.state.lock().unwrap();
        let events =
            state.objects.iter().filter(|(path, event)| path.contains("/events/") && event["reason"] == reason);
        events.map(|(_, event)| usize::try_from(event["count"].as_u64().unwrap()).unwrap()).sum()
    }

    pub fn put(&self, path: &str, mut object: Value) {
        let mut state = self.state.lock().unwrap();
        let kind = if state.objects.contains_key(path) { "MODIFIED" } else { "ADDED" };
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("00000000-0000-4000-8000-{:012x}", state.version + 1));
        }
        state.write(kind, path, object);
        drop(state);
        self.changed.notify_waiters();
    }

    pub fn pod(&self, name: &str, spec: Value) -> String {
        let path = format!("/api/v1/namespaces/default/pods/{name}");
        let mut spec = spec;
        spec["nodeName"] = json!("box");
        let object = json!({"apiVersion": "v1", "kind": "Pod",
                            "metadata": {"name": name, "namespace": "default", "generation": 1}, "spec": spec});
        self.put(&path, object);
        path
    }

    /// As `kubectl delete` does.
    pub fn delete(&self, path: &str, grace: u64) {
        let mut state = self.state.lock().unwrap();
        let Some(mut object) = state.objects.get(path).cloned() else { return };
        if grace > 0 {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            object["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
            state.write("MODIFIED", path, object);
        } else {
            state.objects.remove(path);
            state.write("DELETED", path, object);
            state.objects.remove(path);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits until the object at the path passes the test.
    pub async fn wait(&self, path: &str, what: &str, test: impl Fn(Option<&Value>) -> bool) -> Option<Value> {
        let found = async {
            loop {
                let changed = self.changed.notified();
                let now = self.get(path);
                if test(now.as_ref()) {
                    return now;
                }
                // A write between the look and the wait is caught by the next look.
                let _ = tokio::time::timeout(Duration::from_millis(20), changed).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(10), found).await {
            Ok(found) => found,
            Err(_) => panic!(
                "{what}: {:#}\nevents: {:#?}",
                self.get(path).unwrap_or_default()["status"]["containerStatuses"],
                self.events()
            ),
        }
    }

    pub async fn wait_ready(&self, path: &str) -> Value {
        self.wait(path, "never ready", |pod| condition(pod, "Ready") == Some("True")).await.unwrap()
    }

    async fn handle(&self, request: Request<kube::client::Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let (path, query) = (parts.uri.path().to_owned(), parts.uri.query().unwrap_or_default().to_owned());
        let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if parts.method == Method::GET && query.contains("watch=") {
            return self.watch(path, &query);
        }
        let answer = self.state.lock().unwrap().serve(&parts.method, &path, value);
        self.changed.notify_waiters();
        answer
    }

    fn watch(&self, path: String, query: &str) -> Answer {
        let since = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion=")).unwrap_or("0");
        let start: u64 = since.parse().unwrap_or(0);
        let stream = futures::stream::unfold((self.clone(), start), move |(api, mut seen)| {
            let resource = path.rsplit('/').next().unwrap().to_owned();
            async move {
                loop {
                    let changed = api.changed.notified();
                    let next = {
                        let state = api.state.lock().unwrap();
                        let part = format!("/{resource}/");
                        state.log.iter().find(|(version, _, path, _)| *version > seen && path.contains(&part)).cloned()
                    };
                    if let Some((version, kind, _, object)) = next {
                        drop(changed);
                        seen = version;
                        let line = format!("{}\n", json!({"type": kind, "object": object}));
                        return Some((Ok::<_, Infallible>(Frame::data(Bytes::from(line))), (api, seen)));
                    }
                    let _ = tokio::time::timeout(Duration::from_millis(20), changed).await;
                }
            }
        });
        // The stream need not be `Sync`, the client's body is boxed anew.
        Response::new(BodyExt::boxed(StreamBody::new(SyncStream(Box::pin(stream)))))
    }
}

struct SyncStream<S>(std::pin::Pin<Box<S>>);

// SAFETY: the stream is only ever polled through `&mut`, so that no two threads use it at once.
unsafe impl<S> Sync for SyncStream<S> {}

impl<S: futures::Stream> futures::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

pub fn condition<'a>(pod: Option<&'a Value>, name: &str) -> Option<&'a str> {
    let conditions = pod?["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == name)?["status"].as_str()
}

impl State {
    fn write(&mut self, kind: &'static str, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        self.log.push((self.version, kind, path.to_owned(), object.clone()));
        object
    }

    fn serve(&mut self, method: &Method, path: &str, value: Value) -> Answer {
        if *method != Method::GET {
            self.writes.push(format!("{method} {path}"));
        }
        let object_path = path.trim_end_matches("/status").to_owned();
        match *method {
            Method::GET => match self.objects.get(path) {
                Some(object) => answer(200, object),
                None if is_list(path) => self.list(path),
                None => failure(404, "NotFound"),
            },
            Method::POST if path.ends_with("/token") => {
                answer(201, &json!({"status": {"token": "t0k3n", "expirationTimestamp": "2099-01-01T00:00:00Z"}}))
            }
            Method::POST => {
                let name = value["metadata"]["name"].as_str().unwrap_or("x").to_owned();
                let path = format!("{path}/{name}");
                if self.objects.contains_key(&path) {
                    return failure(409, "AlreadyExists");
                }
                answer(201, &self.write("ADDED", &path, value))
            }
            Method::PATCH => {
                let Some(mut object) = self.objects.get(&object_path).cloned() else { return failure(404, "NotFound") };
                if value["metadata"]["labels"].get(REFUSED_LABEL).is_some() {
                    return failure(403, "Forbidden");
                }
                let uid = &value["metadata"]["uid"];
                if !uid.is_null() && *uid != object["metadata"]["uid"] {
                    return failure(409, "Conflict");
                }
                merge(&mut object, &value);
                answer(200, &self.write("MODIFIED", &object_path, object))
            }
            Method::DELETE => {
                let Some(object) = self.objects.get(path).cloned() else { return failure(404, "NotFound") };
                self.write("DELETED", path, object.clone());
                self.objects.remove(path);
                answer(200, &object)
            }
            _ => failure(405, "MethodNotAllowed"),
        }
    }

    fn list(&self, path: &str) -> Answer {
        let resource = path.rsplit('/').next().unwrap();
        let part = format!("/{resource}/");
        let items: Vec<_> = self.objects.iter().filter(|(p, _)| p.contains(&part)).map(|(_, o)| o.clone()).collect();
        answer(200, &json!({"metadata": {"resourceVersion": self.version.to_string()}, "items": items}))
    }
}

fn is_list(path: &str) -> bool {
    let parts = path.trim_start_matches('/').split('/').collect::<Vec<_>>();
    let rest = if parts[0] == "api" { &parts[2..] } else { &parts[3..] };
    rest.len() == 1 || rest.len() == 3 && rest[0] == "namespaces"
}
