//! What is measured of each API server, and how. The objects are ConfigMaps with a kilobyte of data.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use serde_json::json;

use super::super::comparison::{Best, Metric};
use super::client::Ask;
use super::load::{self, Load, Watchers};
use super::servers::Server;

const MEBIBYTE: f64 = 1_048_576.0;
const KIBIBYTE: f64 = 1024.0;

const RATE: Metric = Metric { what: "a second", unit: "/s", best: Best::Most, goal: None };
const OBJECTS_RATE: Metric = Metric { what: "objects a second", unit: "/s", best: Best::Most, goal: None };
const EVENTS_RATE: Metric = Metric { what: "events a second, all watchers", unit: "/s", best: Best::Most, goal: None };
const HALF: Metric = Metric { what: "p50", unit: "ms", best: Best::Least, goal: None };
const MOST: Metric = Metric { what: "p99", unit: "ms", best: Best::Least, goal: None };
const CPU: Metric = Metric { what: "CPU for 1000", unit: "s", best: Best::Least, goal: None };
const MEMORY: Metric = Metric { what: "RSS after", unit: "MiB", best: Best::Least, goal: None };
const OF_EACH: Metric = Metric { what: "RSS of each", unit: "KiB", best: Best::Least, goal: Some("≤ 4 KiB") };

const OBJECTS: usize = 10_000;
const WATCHERS: usize = 100;
const CLIENTS: usize = 16;
const LOAD_TIME: Duration = Duration::from_secs(5);
/// After many writes, until what is done behind them is done.
const SETTLE: Duration = Duration::from_secs(10);
const DATA_BYTES: usize = 1000;

/// A namespace for what is made and deleted, and one for what stays.
const SOME: &str = "bench";
const MANY: &str = "bench-many";

const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

#[derive(Clone, Copy)]
pub enum Row {
    Creates(usize),
    /// Fills the namespace of many; the first, while the server is new.
    Memory,
    Gets,
    Lists,
    Patches,
    Applies,
    Watches,
}

pub const ROWS: [Row; 9] = [
    Row::Memory,
    Row::Creates(1),
    Row::Creates(16),
    Row::Creates(128),
    Row::Gets,
    Row::Lists,
    Row::Patches,
    Row::Applies,
    Row::Watches,
];

/// Figures of one measurement.
pub type Measured = Vec<(Metric, f64)>;

/// No name is used twice in one run of the program.
static NEXT: AtomicUsize = AtomicUsize::new(0);

fn collection(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

fn object(name: &str) -> Bytes {
    let text = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": "bench"}},
        "data": {"text": "x".repeat(DATA_BYTES)}});
    Bytes::from(text.to_string())
}

pub async fn prepare(server: &Server) -> anyhow::Result<()> {
    for namespace in [SOME, MANY] {
        let body = json!({"metadata": {"name": namespace}}).to_string();
        server.target.json(&Ask::create("/api/v1/namespaces", body.into())).await?;
    }
    Ok(())
}

impl Row {
    pub fn name(self) -> &'static str {
        match self {
            Row::Creates(1) => "creates, 1 writer",
            Row::Creates(16) => "creates, 16 writers",
            Row::Creates(_) => "creates, 128 writers",
            Row::Memory => "10 000 objects",
            Row::Gets => "gets, 16 readers",
            Row::Lists => "lists of 10 000 objects",
            Row::Patches => "merge patches, 16 writers",
            Row::Applies => "server-side applies, 16 writers",
            Row::Watches => "changes, 16 writers and 100 watchers",
        }
    }

    /// Memory is measured once: what was in use before is not given back at once.
    pub fn is_measured_once(self) -> bool {
        matches!(self, Row::Memory)
    }

    pub async fn measure(self, server: &Server) -> anyhow::Result<Measured> {
        match self {
            Row::Creates(writers) => creates(server, writers).await,
            Row::Memory => memory(server).await,
            Row::Gets => {
                loaded(server, CLIENTS, |client, n| {
                    Ask::get(format!("{}/{}", collection(MANY), name_of((client * 7919 + n) % OBJECTS)))
                })
                .await
            }
            Row::Lists => lists(server).await,
            Row::Patches => {
                fill(server).await?;
                changed(server, MERGE, "").await
            }
            Row::Applies => changed(server, APPLY, "?fieldManager=bench&force=true").await,
            Row::Watches => watches(server).await,
        }
    }
}

fn name_of(n: usize) -> String {
    format!("many-{n}")
}

async fn creates(server: &Server, writers: usize) -> anyhow::Result<Measured> {
    let run = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = collection(SOME);
    let measured = loaded(server, writers, {
        let path = path.clone();
        move |client, n| Ask::create(path.clone(), object(&format!("made-{run}-{client}-{n}")))
    })
    .await?;
    server.target.json(&Ask::delete(path)).await?;
    Ok(measured)
}

async fn memory(server: &Server) -> anyhow::Result<Measured> {
    tokio::time::sleep(SETTLE).await;
    let before = server.usage()?.rss_bytes as f64;
    let mut writers = Vec::new();
    for writer in 0..CLIENTS {
        let mut connection = server.target.connect().await?;
        writers.push(tokio::spawn(async move {
            for n in (writer..OBJECTS).step_by(CLIENTS) {
                connection.ask(&Ask::create(collection(MANY), object(&name_of(n)))).await?;
            }
            anyhow::Ok(())
        }));
    }
    for writer in writers {
        writer.await??;
    }
    tokio::time::sleep(SETTLE).await;
    let after = server.usage()?.rss_bytes as f64;
    Ok(vec![(OF_EACH, (after - before) / KIBIBYTE / OBJECTS as f64), (MEMORY, after / MEBIBYTE)])
}

async fn lists(server: &Server) -> anyhow::Result<Measured> {
    let list = server.target.json(&Ask::get(collection(MANY))).await?;
    let items = list["items"].as_array().map_or(0, Vec::len);
    // A controller puts one there, too.
    ensure!(items >= OBJECTS, "the list has {items} objects");
    let mut measured = loaded(server, 1, |_, _| Ask::get(collection(MANY))).await?;
    measured[0] = (OBJECTS_RATE, measured[0].1 * OBJECTS as f64);
    Ok(measured)
}

/// An object for each writer.
async fn fill(server: &Server) -> anyhow::Result<()> {
    for client in 0..CLIENTS {
        let made = server.target.json(&Ask::create(collection(SOME), object(&own(client)))).await;
        let is_there = made.as_ref().err().is_some_and(|error| error.to_string().contains("already exists"));
        if !is_there {
            made?;
        }
    }
    Ok(())
}

fn own(client: usize) -> String {
    format!("own-{client}")
}

fn change(content_type: &'static str, query: &str, client: usize, n: usize) -> Ask {
    let run = NEXT.load(Ordering::Relaxed);
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": own(client)},
        "data": {"count": format!("{run}-{n}")}});
    Ask::patch(format!("{}/{}{query}", collection(SOME), own(client)), content_type, body.to_string().into())
}

/// Each writer changes its own.
async fn changed(server: &Server, content_type: &'static str, query: &'static str) -> anyhow::Result<Measured> {
    NEXT.fetch_add(1, Ordering::Relaxed);
    loaded(server, CLIENTS, move |client, n| change(content_type, query, client, n)).await
}

async fn watches(server: &Server) -> anyhow::Result<Measured> {
    NEXT.fetch_add(1, Ordering::Relaxed);
    fill(server).await?;
    let watchers = Watchers::start(&server.target, WATCHERS, &collection(SOME)).await?;
    let (before, started) = (server.usage()?, std::time::Instant::now());
    let load = load::run(&server.target, CLIENTS, LOAD_TIME, |client, n| change(MERGE, "", client, n)).await?;
    let told = watchers.were_told(load.requests as u64).await?;
    let seconds = started.elapsed().as_secs_f64();
    let after = server.usage()?;
    let cpu = (after.cpu_seconds - before.cpu_seconds) / told * 1000.0;
    let memory = after.rss_bytes as f64 / MEBIBYTE;
    Ok(vec![(EVENTS_RATE, told / seconds), (RATE, load.requests / seconds), (CPU, cpu), (MEMORY, memory)])
}

async fn loaded(
    server: &Server,
    clients: usize,
    ask: impl Fn(usize, usize) -> Ask + Send + Sync + 'static,
) -> anyhow::Result<Measured> {
    let before = server.usage()?.cpu_seconds;
    let Load { requests, seconds, p50, p99 } = load::run(&server.target, clients, LOAD_TIME, ask).await?;
    let after = server.usage()?;
    let cpu = (after.cpu_seconds - before) / requests * 1000.0;
    let memory = after.rss_bytes as f64 / MEBIBYTE;
    Ok(vec![(RATE, requests / seconds), (HALF, p50), (MOST, p99), (CPU, cpu), (MEMORY, memory)])
}
