//! What happened, in numbers, for each host: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
//!
//! Hosts are those of the table, so that clients cannot make more; requests for other names are counted under none.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::routes::Routes;

/// Upper bounds in milliseconds.
const BUCKETS_MS: [u64; 10] = [1, 5, 10, 25, 50, 100, 250, 1000, 5000, 30_000];

#[derive(Debug, Default)]
pub struct HostMetrics {
    /// Answers by the first digit of their status; 0 for those that never came.
    answers: [AtomicU64; 6],
    buckets: [AtomicU64; BUCKETS_MS.len()],
    micros: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

impl HostMetrics {
    /// An answer's head was sent.
    pub fn answered(&self, status: u16, after: Duration) {
        let class = usize::from(status / 100).min(5);
        self.answers[class].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(after.as_micros()).unwrap_or(0), Ordering::Relaxed);
        let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        if let Some(bucket) = BUCKETS_MS.iter().position(|bound| ms < *bound) {
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn sent(&self, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn received(&self, bytes: u64) {
        self.received_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The counters of all hosts that the table names.
#[derive(Debug, Default)]
pub struct Metrics {
    hosts: Mutex<BTreeMap<String, Arc<HostMetrics>>>,
    /// Requests for hosts that nobody serves.
    pub unknown: Arc<HostMetrics>,
    pub refused_connections: AtomicU64,
    pub failed_handshakes: AtomicU64,
    pub retries: AtomicU64,
}

impl Metrics {
    pub fn host(&self, name: &str) -> Arc<HostMetrics> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(hosts.entry(name.to_owned()).or_default())
    }

    /// Forgets hosts that nothing refers to any more.
    pub fn forget(&self) {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, host| Arc::strong_count(host) > 1);
    }

    pub fn render(&self, routes: &Routes, connections: usize) -> String {
        let mut text = String::new();
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let all = || {
            let named = hosts.iter().map(|(name, host)| (if name.is_empty() { "*" } else { name.as_str() }, host));
            named.chain([("", &self.unknown)])
        };
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        head(&mut text, "requests_total", "counter", "Answers by host and class of status.");
        for (name, host) in all() {
            for (class, counter) in host.answers.iter().enumerate().filter(|(_, c)| load(c) > 0) {
                let class = if class == 0 { "none".to_owned() } else { format!("{class}xx") };
                line(&mut text, "requests_total", &[("host", name), ("status", &class)], load(counter));
            }
        }
        head(&mut text, "request_duration_seconds", "histogram", "From the request's head to the answer's head.");
        for (name, host) in all() {
            let mut sum = 0;
            for (bound, counter) in BUCKETS_MS.iter().zip(&host.buckets) {
                sum += load(counter);
                let bound = (*bound as f64 / 1000.0).to_string();
                line(&mut text, "request_duration_seconds_bucket", &[("host", name), ("le", &bound)], sum);
            }
            let count: u64 = host.answers.iter().map(load).sum();
            line(&mut text, "request_duration_seconds_bucket", &[("host", name), ("le", "+Inf")], count);
            let seconds = load(&host.micros) as f64 / 1e6;
            line(&mut text, "request_duration_seconds_sum", &[("host", name)], seconds);
            line(&mut text, "request_duration_seconds_count", &[("host", name)], count);
        }
        type Field = fn(&HostMetrics) -> &AtomicU64;
        let bytes: [(&str, &str, Field); 2] = [
            ("sent_bytes_total", "Bytes of answers' bodies.", |h| &h.sent_bytes),
            ("received_bytes_total", "Bytes of requests' bodies.", |h| &h.received_bytes),
        ];
        for (metric, help, field) in bytes {
            head(&mut text, metric, "counter", help);
            for (name, host) in all() {
                line(&mut text, metric, &[("host", name)], load(field(host)));
            }
        }
        render_backends(&mut text, routes);
        head(&mut text, "connections", "gauge", "Open connections of clients.");
        line(&mut text, "connections", &[], connections);
        for (name, help, counter) in [
            ("refused_connections_total", "Connections beyond the limit.", &self.refused_connections),
            ("failed_handshakes_total", "TLS handshakes that failed.", &self.failed_handshakes),
            ("retries_total", "Requests sent to another endpoint after a failure.", &self.retries),
        ] {
            head(&mut text, name, "counter", help);
            line(&mut text, name, &[], load(counter));
        }
        text
    }
}

/// By backend, not by endpoint: pods come and go.
fn render_backends(text: &mut String, routes: &Routes) {
    type Count = fn(&super::routes::Backend) -> u64;
    let sums: [(&str, &str, &str, Count); 4] = [
        ("backend_endpoints", "gauge", "Endpoints of a backend.", |b| b.endpoints.len() as u64),
        ("backend_endpoints_set_aside", "gauge", "Endpoints that failed lately.", |b| {
            b.endpoints.iter().filter(|e| e.set_aside_ms() > 0).count() as u64
        }),
        ("backend_active_requests", "gauge", "Requests under way.", |b| {
            b.endpoints.iter().map(|e| e.active.load(Ordering::Relaxed) as u64).sum()
        }),
        ("backend_failures", "gauge", "Failures of the present endpoints.", |b| {
            b.endpoints.iter().map(|e| e.failures.load(Ordering::Relaxed)).sum()
        }),
    ];
    for (metric, kind, help, count) in sums {
        head(text, metric, kind, help);
        for backend in &routes.backends {
            line(text, metric, &[("backend", &backend.name)], count(backend));
        }
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP skiff_ingress_{name} {help}\n# TYPE skiff_ingress_{name} {kind}");
}

/// Names of hosts and backends need no quoting: they are DNS names.
fn line(text: &mut String, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
    let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    let _ = writeln!(text, "skiff_ingress_{name}{labels} {value}");
}
