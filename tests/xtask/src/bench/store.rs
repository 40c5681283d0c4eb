//! The store itself, through its trait: durable writes a second with 1, 16 and 256 writers beside etcd, a list of
//! 10 000 objects, and how long a write takes to reach a watcher.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use skiff_store::{Embedded, Expect, ListOptions, Store, Watch};
use skiff_tests::{command, wait};

use super::{Bench, Figure};

/// A small object of Kubernetes, as it is stored.
const VALUE_BYTES: usize = 1000;
const OBJECTS: usize = 10_000;
const WRITE_TIME: Duration = Duration::from_secs(3);

pub fn run(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let dir = tempfile::tempdir_in(crate::workspace::target())?;
    let store = Embedded::open(skiff_store::Config::new(dir.path()))?;
    let mut figures = Vec::new();
    for writers in [1, 16, 256] {
        let values = (0..bench.runs).map(|n| runtime.block_on(write(&store, writers, n)));
        let values = values.collect::<anyhow::Result<_>>()?;
        figures.push(Figure::new(format!("durable writes a second, {writers} writers"), "/s", values));
        match etcd(writers) {
            Ok(rate) => figures.push(Figure::new(format!("  etcd, {writers} writers"), "/s", vec![rate])),
            Err(error) => println!("etcd could not be measured here: {error:#}"),
        }
    }
    let lists = runtime.block_on(lists(&store, bench.runs))?;
    figures.push(Figure::new(format!("list of {OBJECTS} objects"), "ms", lists));
    figures.push(Figure::new("write → watcher", "ms", runtime.block_on(latency(&store))?));
    Ok(figures)
}

fn value() -> bytes::Bytes {
    bytes::Bytes::from(vec![b'x'; VALUE_BYTES])
}

async fn write(store: &Embedded, writers: usize, run: usize) -> anyhow::Result<f64> {
    let started = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let key = format!("/bench/{writers}/{run}/{writer}");
                let mut entry = store.put(&key, value(), Expect::Absent).await?;
                let mut count = 1;
                while started.elapsed() < WRITE_TIME {
                    entry = store.put(&key, value(), Expect::At(entry.modified)).await?;
                    count += 1;
                }
                Ok::<usize, skiff_store::Error>(count)
            })
        })
        .collect();
    let mut total = 0;
    for task in tasks {
        total += task.await??;
    }
    Ok(total as f64 / started.elapsed().as_secs_f64())
}

async fn lists(store: &Embedded, runs: usize) -> anyhow::Result<Vec<f64>> {
    let shared = Arc::new(store.clone());
    let writes = (0..OBJECTS).map(|n| {
        let store = Arc::clone(&shared);
        async move { store.put(&format!("/list/{n:05}"), value(), Expect::Absent).await }
    });
    // In portions: the queue of waiting writes is bounded.
    let mut writes = writes.peekable();
    while writes.peek().is_some() {
        let portion: Vec<_> = writes.by_ref().take(500).map(tokio::spawn).collect();
        for write in portion {
            write.await??;
        }
    }
    let mut values = Vec::new();
    for _ in 0..runs.max(5) {
        let started = Instant::now();
        let page = store.list("/list/", ListOptions::default()).await?;
        values.push(started.elapsed().as_secs_f64() * 1000.0);
        anyhow::ensure!(page.entries.len() == OBJECTS);
    }
    Ok(values)
}

/// From the acknowledged write to the change in a watcher's hands.
async fn latency(store: &Embedded) -> anyhow::Result<Vec<f64>> {
    let mut watch = store.watch("/watched/", store.revision()).await?;
    let mut values = Vec::new();
    for n in 0..50 {
        let seen = async {
            watch.next().await?;
            Ok::<Instant, skiff_store::Error>(Instant::now())
        };
        let key = format!("/watched/{n}");
        let (seen, written) =
            tokio::join!(seen, async { store.put(&key, value(), Expect::Absent).await.map(|_| Instant::now()) });
        values.push(seen?.saturating_duration_since(written?).as_secs_f64() * 1000.0);
    }
    Ok(values)
}

/// Debian's etcd, asked through its JSON gateway: that costs it something that the store, called in process, is spared.
fn etcd(writers: usize) -> anyhow::Result<f64> {
    let dir = tempfile::tempdir_in(crate::workspace::target())?;
    let (client, peer) = ("http://127.0.0.1:12379", "http://127.0.0.1:12380");
    let mut server = Command::new("/usr/bin/etcd")
        .args(["--data-dir"])
        .arg(dir.path())
        .args(["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer])
        .args([
            "--initial-advertise-peer-urls",
            peer,
            "--initial-cluster",
            &format!("default={peer}"),
            "--log-level=error",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("etcd does not start")?;
    let result =
        wait::until("etcd answers", Duration::from_secs(10), || Ok(std::net::TcpStream::connect("127.0.0.1:12379")?))
            .and_then(|_| put_over_http(writers));
    server.kill()?;
    server.wait()?;
    result
}

/// One keep-alive connection for each writer.
fn put_over_http(writers: usize) -> anyhow::Result<f64> {
    let script = "wrk.method='POST'\nwrk.headers['Content-Type']='application/json'\n\
                  local n=0\nlocal id=0\nfunction setup(t) t:set('id',id) id=id+1 end\n\
                  local v=string.rep('eHh4',334)\n\
                  function request() n=n+1 return wrk.format(nil,nil,nil,'{\"key\":\"L2JlbmNo\",\"value\":\"'..v..'\"}') end\n";
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), script)?;
    let connections = writers.to_string();
    let threads = writers.min(2).to_string();
    let seconds = format!("{}s", WRITE_TIME.as_secs());
    let text = command::run(
        "wrk",
        [
            "-t",
            &threads,
            "-c",
            &connections,
            "-d",
            &seconds,
            "-s",
            &file.path().to_string_lossy(),
            "http://127.0.0.1:12379/v3/kv/put",
        ],
    )?;
    anyhow::ensure!(!text.contains("Non-2xx"), "{text}");
    let rate = text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    rate.and_then(|rate| rate.trim().parse().ok()).with_context(|| format!("wrk printed no rate: {text}"))
}
