//! The ingress beside nginx, HAProxy and Caddy: the same backend, certificate and load, one after the other for each
//! row, so that what else this machine does meets all of them.

mod backend;
mod handshakes;
mod load;
mod peers;
mod rows;
mod websocket;

use std::time::Duration;

use clap::ValueEnum;
use skiff_tests::certificate::Certificate;

use super::Bench;
use super::comparison::Comparison;
use backend::Backend;
use peers::{Peer, Running, Setting};
use rows::ROWS;

const HOST: &str = "bench.example";

#[derive(clap::Args)]
pub struct Options {
    /// ingress: only these proxies
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Peer>,
    /// ingress: only rows whose name contains this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// ingress: seconds of load for each measurement
    #[arg(long, default_value_t = 5)]
    load_seconds: u64,
}

impl Options {
    fn peers(&self) -> Vec<Peer> {
        if self.only.is_empty() { Peer::value_variants().to_vec() } else { self.only.clone() }
    }
}

/// `bench` builds the agent: it is only called where the box is among the proxies.
pub fn run(options: &Options, runs: usize, bench: impl Fn() -> anyhow::Result<Bench>) -> anyhow::Result<Comparison> {
    let dir = tempfile::Builder::new().prefix("skiff-bench-").tempdir()?;
    let certificate = Certificate::create(HOST, dir.path())?;
    let backend = Backend::start()?;
    let setting = Setting { backend: &backend, certificate: &certificate };
    let mut running = Vec::new();
    for peer in options.peers() {
        let started = match peer {
            Peer::Skiff => bench().and_then(|b| Running::start_box(b.start_box()?, &setting)),
            Peer::Nginx => Running::start(peer, "/usr/sbin/nginx", &setting),
            Peer::Haproxy => Running::start(peer, "/usr/sbin/haproxy", &setting),
            Peer::Caddy => Running::start(peer, "/usr/bin/caddy", &setting),
        };
        match started {
            Ok(proxy) => running.push(proxy),
            Err(error) => println!("{} is left out: {error:#}", peer.name()),
        }
    }
    anyhow::ensure!(!running.is_empty(), "there is no proxy to measure");
    let mut comparison = Comparison::default();
    let filter = options.filter.as_deref().unwrap_or_default();
    for row in ROWS.iter().filter(|row| row.name().contains(filter)) {
        for _ in 0..runs {
            for proxy in &running {
                let name = proxy.peer.name();
                match row.measure(proxy, &certificate, Duration::from_secs(options.load_seconds.max(1))) {
                    Ok(measured) => comparison.add(row.name(), name, &measured),
                    Err(error) => println!("{}: {name} is left out: {error:#}", row.name()),
                }
            }
        }
    }
    Ok(comparison)
}
