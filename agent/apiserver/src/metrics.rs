//! What Prometheus reads of the API at `/metrics`, under upstream's names: requests by what they were about and how long they
//! took, what is being worked on, and how many objects there are. What is told of the process is the agent's.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{Method, Response, StatusCode};
use skiff_store::{ListOptions, Store};

use crate::Api;
use crate::body::{self, Body};
use crate::request::{Target, Verb};

/// Whoever invents resources does not fill the memory: what is more is counted without its labels.
const SERIES_MAX: usize = 4000;
/// Seconds, as upstream's without every other.
const BUCKETS: [f64; 11] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 20.0, 60.0];

/// What was counted since the start.
#[derive(Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<String, u64>>,
    durations: Mutex<BTreeMap<String, Histogram>>,
    reading: AtomicUsize,
    writing: AtomicUsize,
}

#[derive(Default)]
struct Histogram {
    /// How many took no longer, for each bucket.
    counts: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

/// A request that is being worked on.
pub struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a request is about, as labels.
pub fn labels(target: Option<&Target>, method: &Method, is_dry_run: bool) -> String {
    let dry_run = if is_dry_run { "All" } else { "" };
    let Some(target) = target else {
        // Anybody may invent methods.
        let known = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];
        let method = known.iter().find(|known| **known == method.as_str()).unwrap_or(&"other");
        return format!(
            "component=\"apiserver\",dry_run=\"{dry_run}\",group=\"\",resource=\"\",scope=\"\",subresource=\"\",\
             verb=\"{method}\",version=\"\""
        );
    };
    let scope = match (&target.name, &target.namespace) {
        (Some(_), _) => "resource",
        (None, Some(_)) => "namespace",
        (None, None) => "cluster",
    };
    let verb = match target.verb {
        Verb::Create => "POST",
        Verb::Update => "PUT",
        verb => &verb.as_str().to_ascii_uppercase(),
    };
    // One that does not exist is no label.
    let known = target.subresource.as_deref().filter(|sub| target.kind.has_subresource(sub)).unwrap_or_default();
    format!(
        "component=\"apiserver\",dry_run=\"{dry_run}\",group=\"{}\",resource=\"{}\",scope=\"{scope}\",\
         subresource=\"{known}\",verb=\"{verb}\",version=\"{}\"",
        target.kind.group, target.kind.plural, target.kind.version
    )
}

impl Metrics {
    pub fn begin(&self, verb: Verb) -> InFlight<'_> {
        let count = match verb {
            Verb::Get | Verb::List | Verb::Watch => &self.reading,
            Verb::Create | Verb::Update | Verb::Patch | Verb::Delete | Verb::DeleteCollection => &self.writing,
        };
        count.fetch_add(1, Ordering::Relaxed);
        InFlight(count)
    }

    pub fn observe(&self, labels: &str, code: StatusCode, took: Duration) {
        let counted = format!("code=\"{}\",{labels}", code.as_u16());
        *slot(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner), counted) += 1;
        let seconds = took.as_secs_f64();
        let mut durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = slot(&mut durations, labels.to_owned());
        histogram.count += 1;
        histogram.sum += seconds;
        for (count, bound) in histogram.counts.iter_mut().zip(BUCKETS) {
            *count += u64::from(seconds <= bound);
        }
    }

    fn write(&self, out: &mut String) {
        head(out, "apiserver_request_total", "counter", "Requests by what they were about and how they ended.");
        for (labels, count) in &*self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(out, "apiserver_request_total{{{labels}}} {count}");
        }
        let name = "apiserver_request_duration_seconds";
        head(out, name, "histogram", "Seconds from a request to its answer, or to the beginning of what streams.");
        for (labels, histogram) in &*self.durations.lock().unwrap_or_else(PoisonError::into_inner) {
            for (count, bound) in histogram.counts.iter().zip(BUCKETS) {
                let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
            }
            let Histogram { count, sum, .. } = histogram;
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
            let _ = writeln!(out, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}");
        }
        let name = "apiserver_current_inflight_requests";
        head(out, name, "gauge", "Requests that are being worked on.");
        for (kind, count) in [("readOnly", &self.reading), ("mutating", &self.writing)] {
            let _ = writeln!(out, "{name}{{request_kind=\"{kind}\"}} {}", count.load(Ordering::Relaxed));
        }
    }
}

fn slot<T: Default>(all: &mut BTreeMap<String, T>, labels: String) -> &mut T {
    let is_full = all.len() >= SERIES_MAX && !all.contains_key(&labels);
    all.entry(if is_full { "component=\"other\"".to_owned() } else { labels }).or_default()
}

fn head(out: &mut String, name: &str, ty: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {ty}");
}

impl<S: Store> Api<S> {
    pub(crate) async fn metrics(&self) -> Response<Body> {
        let mut out = String::new();
        self.inner.metrics.write(&mut out);
        head(&mut out, "apiserver_storage_objects", "gauge", "Objects that are stored, by their kind.");
        for kind in self.catalogue().kinds().filter(|kind| kind.is_kept() && kind.storage_version.is_none()) {
            let options = ListOptions { limit: Some(1), ..ListOptions::default() };
            if let Ok(page) = self.store().list(&kind.key_prefix(None), options).await {
                let count = page.entries.len() + page.remaining;
                let resource = kind.group_resource();
                let _ = writeln!(out, "apiserver_storage_objects{{resource=\"{resource}\"}} {count}");
            }
        }
        head(&mut out, "apiserver_storage_revision", "gauge", "The newest revision of the store.");
        let _ = writeln!(out, "apiserver_storage_revision {}", self.store().revision());
        if let Some(agent) = self.agent() {
            out.push_str(&agent.metrics());
        }
        let mut response = body::text(StatusCode::OK, out);
        let ty = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(http::header::CONTENT_TYPE, ty);
        response
    }
}
