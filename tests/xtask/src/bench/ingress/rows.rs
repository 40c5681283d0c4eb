//! What is measured of each proxy, and how.

use std::time::{Duration, Instant};

use skiff_tests::certificate::Certificate;

use super::super::comparison::{Best, Metric};
use super::super::process;
use super::backend::STREAM_BYTES;
use super::handshakes::{Handshakes, Kind};
use super::load::{self, Load, Scheme, Site};
use super::peers::Running;
use super::{HOST, websocket};

const MEBIBYTE: f64 = 1_048_576.0;

/// Of the box.
const GOAL: &str = "no worse than nginx and haproxy";

const RATE: Metric = Metric { what: "a second", unit: "/s", best: Best::Most, goal: Some(GOAL) };
const HALF: Metric = Metric { what: "p50", unit: "ms", best: Best::Least, goal: None };
const MOST: Metric = Metric { what: "p99", unit: "ms", best: Best::Least, goal: Some(GOAL) };
const CPU: Metric = Metric { what: "CPU for 1000", unit: "s", best: Best::Least, goal: None };
const MEMORY: Metric = Metric { what: "memory after (PSS)", unit: "MiB", best: Best::Least, goal: None };
const SPEED: Metric = Metric { what: "speed", unit: "MB/s", best: Best::Most, goal: None };
const CPU_STREAM: Metric = Metric { what: "CPU for 1 GiB", unit: "s", best: Best::Least, goal: None };

#[derive(Clone, Copy)]
pub enum Row {
    Http1(Size),
    Http2Tls(Size),
    Http1Tls(Size),
    Handshakes(Kind),
    Stream(Scheme),
    WebSocket,
}

#[derive(Clone, Copy)]
pub enum Size {
    K1,
    K100,
}

pub const ROWS: [Row; 11] = [
    Row::Http1(Size::K1),
    Row::Http1(Size::K100),
    Row::Http2Tls(Size::K1),
    Row::Http2Tls(Size::K100),
    Row::Http1Tls(Size::K1),
    Row::Http1Tls(Size::K100),
    Row::Handshakes(Kind::Full),
    Row::Handshakes(Kind::Resumed),
    Row::Stream(Scheme::Http),
    Row::Stream(Scheme::Https),
    Row::WebSocket,
];

impl Size {
    fn path(self) -> &'static str {
        match self {
            Size::K1 => "/1k",
            Size::K100 => "/100k",
        }
    }
}

/// Figures of one measurement.
pub type Measured = Vec<(Metric, f64)>;

impl Row {
    pub fn name(self) -> &'static str {
        match self {
            Row::Http1(Size::K1) => "HTTP/1.1, 1 kB",
            Row::Http1(Size::K100) => "HTTP/1.1, 100 kB",
            Row::Http2Tls(Size::K1) => "HTTP/2 TLS, 1 kB",
            Row::Http2Tls(Size::K100) => "HTTP/2 TLS, 100 kB",
            Row::Http1Tls(Size::K1) => "HTTP/1.1 TLS, 1 kB",
            Row::Http1Tls(Size::K100) => "HTTP/1.1 TLS, 100 kB",
            Row::Handshakes(Kind::Full) => "TLS handshakes, full",
            Row::Handshakes(Kind::Resumed) => "TLS handshakes, resumed",
            Row::Stream(Scheme::Http) => "1 GiB",
            Row::Stream(Scheme::Https) => "1 GiB TLS",
            Row::WebSocket => "WebSocket round trips",
        }
    }

    pub fn measure(self, proxy: &Running, certificate: &Certificate, duration: Duration) -> anyhow::Result<Measured> {
        let chain = &certificate.chain;
        let site = |scheme, path| {
            let address = match scheme {
                Scheme::Http => proxy.http,
                Scheme::Https => proxy.https,
            };
            Site { address, host: HOST, scheme, path, chain }
        };
        match self {
            Row::Http1(size) => loaded(proxy, || load::wrk(&site(Scheme::Http, size.path()), duration)),
            Row::Http1Tls(size) => loaded(proxy, || load::wrk(&site(Scheme::Https, size.path()), duration)),
            Row::Http2Tls(size) => loaded(proxy, || load::h2load(&site(Scheme::Https, size.path()), duration)),
            Row::Handshakes(kind) => {
                loaded(proxy, || Handshakes { address: proxy.https, host: HOST, chain, kind }.run(duration))
            }
            Row::Stream(scheme) => streamed(proxy, &site(scheme, "/1g"), duration),
            Row::WebSocket => loaded(proxy, || websocket::run(proxy.http, HOST, duration)),
        }
    }
}

fn cpu_and_memory(proxy: &Running) -> anyhow::Result<(f64, f64)> {
    let usages = proxy.pids().into_iter().map(process::usage).collect::<anyhow::Result<Vec<_>>>()?;
    let cpu = usages.iter().map(|u| u.cpu_seconds).sum();
    // Processes of one proxy share pages: what is theirs in proportion adds up.
    let memory = usages.iter().map(|u| u.pss_bytes as f64).sum::<f64>() / MEBIBYTE;
    Ok((cpu, memory))
}

fn loaded(proxy: &Running, load: impl FnOnce() -> anyhow::Result<Load>) -> anyhow::Result<Measured> {
    let (before, _) = cpu_and_memory(proxy)?;
    let load = load()?;
    let (after, memory) = cpu_and_memory(proxy)?;
    let cpu = (after - before) / load.requests * 1000.0;
    Ok(vec![(RATE, load.rate), (HALF, load.p50), (MOST, load.p99), (CPU, cpu), (MEMORY, memory)])
}

/// Again and again for the time of the other measurements.
fn streamed(proxy: &Running, site: &Site<'_>, duration: Duration) -> anyhow::Result<Measured> {
    // The first on a connection to the backend may crawl, while the kernel's buffers grow: it does not count.
    load::curl(site, STREAM_BYTES)?;
    let (before, _) = cpu_and_memory(proxy)?;
    let (started, mut times, mut speed) = (Instant::now(), 0.0, 0.0);
    while times == 0.0 || started.elapsed() < duration {
        speed += load::curl(site, STREAM_BYTES)? / 1e6;
        times += 1.0;
    }
    let (after, memory) = cpu_and_memory(proxy)?;
    Ok(vec![(SPEED, speed / times), (CPU_STREAM, (after - before) / times), (MEMORY, memory)])
}
