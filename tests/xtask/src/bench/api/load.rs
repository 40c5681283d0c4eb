//! Load on an API server: clients that ask one thing after the other, and watchers that count what they are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::client::{Ask, Target};

/// For events that are on their way when writing ends.
const DELIVERY_TIME_MAX: Duration = Duration::from_secs(20);
const DELIVERY_POLL: Duration = Duration::from_millis(2);

/// What came of it. Times are milliseconds.
pub struct Load {
    pub requests: f64,
    pub seconds: f64,
    pub p50: f64,
    pub p99: f64,
}

/// So many clients for so long; `ask` is told which client asks and how often it did.
pub async fn run(
    target: &Target,
    clients: usize,
    duration: Duration,
    ask: impl Fn(usize, usize) -> Ask + Send + Sync + 'static,
) -> anyhow::Result<Load> {
    let ask = Arc::new(ask);
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(target.connect().await?);
    }
    let started = Instant::now();
    let clients: Vec<_> = connections
        .into_iter()
        .enumerate()
        .map(|(client, mut connection)| {
            let ask = Arc::clone(&ask);
            tokio::spawn(async move {
                let mut times = Vec::new();
                while started.elapsed() < duration {
                    let began = Instant::now();
                    connection.ask(&ask(client, times.len())).await?;
                    times.push(began.elapsed().as_secs_f64() * 1000.0);
                }
                anyhow::Ok(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await??);
    }
    let seconds = started.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied().unwrap_or(f64::NAN);
    Ok(Load { requests: times.len() as f64, seconds, p50: at(0.5), p99: at(0.99) })
}

/// Watchers of one collection.
pub struct Watchers {
    events: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Watchers {
    pub async fn start(target: &Target, count: usize, path: &str) -> anyhow::Result<Self> {
        let list = target.json(&Ask::get(format!("{path}?limit=1"))).await?;
        let revision = list["metadata"]["resourceVersion"].as_str().context("a list has a revision")?;
        let watch = Ask::get(format!("{path}?watch=1&resourceVersion={revision}"));
        let (events, mut tasks) = (Arc::new(AtomicU64::new(0)), Vec::new());
        for _ in 0..count {
            let mut connection = target.connect().await?;
            let (status, body) = connection.begin(&watch).await?;
            ensure!(status.is_success(), "{}: {status}", watch.path);
            tasks.push(tokio::spawn(count_events(connection, body, Arc::clone(&events))));
        }
        Ok(Self { events, tasks })
    }

    /// Waits until each was told of so many, and returns how many that are in all.
    pub async fn were_told(&self, of_each: u64) -> anyhow::Result<f64> {
        let (wanted, started) = (of_each * self.tasks.len() as u64, Instant::now());
        while self.events.load(Ordering::Relaxed) < wanted {
            let told = self.events.load(Ordering::Relaxed);
            ensure!(started.elapsed() < DELIVERY_TIME_MAX, "{told} of {wanted} events were delivered");
            tokio::time::sleep(DELIVERY_POLL).await;
        }
        Ok(wanted as f64)
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// A line is an event. The connection is held as long as its answer is read.
async fn count_events(_connection: super::client::Connection, mut body: Incoming, events: Arc<AtomicU64>) {
    while let Some(Ok(frame)) = body.frame().await {
        let lines = frame.data_ref().map_or(0, |data| memchr::memchr_iter(b'\n', data).count());
        events.fetch_add(lines as u64, Ordering::Relaxed);
    }
}
