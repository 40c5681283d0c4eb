//! 200 clients at once: each, over a connection of its own, makes, changes, lists and deletes ConfigMaps and watches them.
//! What every watcher was told is compared with what was written; what the agent holds afterwards with what it held before.

mod connection;
mod ledger;
mod watcher;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use skiff_tests::running_box::RunningBox;
use skiff_tests::wait;
use tokio::task::JoinSet;

use self::connection::{Caller, Counts, Server};
use self::ledger::{Event, Ledger};
use self::watcher::Watcher;
use self::writer::Writer;
use super::process::{self, MEBIBYTE};
use super::{Bench, Figure};

const CLIENTS: usize = 200;
/// Each has the same number of clients, which stays below what one caller may ask at once.
const USERS: usize = 10;
/// Namespaces that ten clients have together; as many clients have one of their own.
const SHARED: usize = 10;
/// What all change.
const COMMON: &str = "common";
/// Of how many clients one watches that.
const COMMON_WATCHED_BY: usize = 10;
const COMMON_OBJECTS: usize = 20;
const SETTLE: Duration = Duration::from_secs(20);
const REST: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(60);

/// The namespace that a client works in.
fn namespace(client: usize) -> String {
    if client.is_multiple_of(2) { format!("own-{client}") } else { format!("shared-{}", client / 2 % SHARED) }
}

fn namespaces() -> Vec<String> {
    let mut all: Vec<String> = (0..CLIENTS).map(namespace).chain([COMMON.to_owned()]).collect();
    all.sort();
    all.dedup();
    all
}

/// What the load itself counted.
struct Load {
    counts: Counts,
    seconds: f64,
    logs: Vec<(String, Vec<Event>)>,
    faults: Vec<String>,
    agent: process::Usage,
}

pub fn run(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let running = bench.start_box()?;
    let tokens = prepare(&running)?;
    let agent = running.agent_pid().context("the agent runs")?;
    std::thread::sleep(SETTLE);
    let before = process::usage(agent)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let server = Server::of(&running)?;
    let load = runtime.block_on(load(&server, &tokens, Duration::from_secs(bench.seconds), agent))?;
    drop(runtime);
    std::thread::sleep(REST);
    let after = process::usage(agent)?;
    for fault in load.faults.iter().take(20) {
        println!("        {fault}");
    }
    Ok(figures(load, before, after))
}

/// Namespaces, users and what they may; a token for each user.
fn prepare(running: &RunningBox) -> anyhow::Result<Vec<String>> {
    let mut items: Vec<Value> = namespaces().iter().map(|name| object("v1", "Namespace", name, json!({}))).collect();
    let role = json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}]});
    items.push(object("rbac.authorization.k8s.io/v1", "ClusterRole", "clients", role));
    let group = format!("system:serviceaccounts:{COMMON}");
    let binding = json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "clients"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}]});
    items.push(object("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clients", binding));
    for (kind, prefix, count) in [("ServiceAccount", "user", USERS), ("ConfigMap", "all", COMMON_OBJECTS)] {
        let one = |n| object("v1", kind, &format!("{prefix}-{n}"), json!({"metadata": {"namespace": COMMON}}));
        items.extend((0..count).map(one));
    }
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
    running.kubectl(&["create", "-f", &file.path().to_string_lossy()])?;
    // What the box itself puts into a namespace is there before anybody watches.
    wait::until("the namespaces are furnished", SOON, || {
        let only = "--field-selector=metadata.name=kube-root-ca.crt";
        let there = running.kubectl(&["get", "configmaps", "-A", only, "-o", "name"])?.lines().count();
        ensure!(there >= namespaces().len(), "{there} of {}", namespaces().len());
        Ok(())
    })?;
    let token = |n| running.kubectl(&["-n", COMMON, "create", "token", &format!("user-{n}")]);
    (0..USERS).map(|n| Ok(token(n)?.trim().to_owned())).collect()
}

fn object(api_version: &str, kind: &str, name: &str, mut more: Value) -> Value {
    more["apiVersion"] = json!(api_version);
    more["kind"] = json!(kind);
    more["metadata"]["name"] = json!(name);
    more
}

/// Watchers before writers; when these have ended, a last object in each namespace tells those that they have heard all.
async fn load(server: &Server, tokens: &[String], duration: Duration, agent: u32) -> anyhow::Result<Load> {
    let counts = Arc::new(Counts::default());
    let ledgers: BTreeMap<String, Arc<Ledger>> = namespaces().into_iter().map(|n| (n, Arc::default())).collect();
    let ledger = |namespace: &str| ledgers.get(namespace).map(Arc::clone).context("each namespace has its ledger");
    let mut callers = Vec::new();
    for client in 0..CLIENTS {
        callers.push(server.connect(&tokens[client % USERS], Arc::clone(&counts)).await?);
    }
    let mut watchers = JoinSet::new();
    for (client, caller) in callers.iter().enumerate() {
        let common = client.is_multiple_of(COMMON_WATCHED_BY).then(|| COMMON.to_owned());
        for namespace in std::iter::once(namespace(client)).chain(common) {
            watchers.spawn(Watcher::start(caller.clone(), namespace, client).await?.run());
        }
    }
    let before = process::usage(agent)?.cpu_seconds;
    let (started, mut writers) = (Instant::now(), JoinSet::new());
    for (client, caller) in callers.iter().enumerate() {
        let namespace = namespace(client);
        let ledgers = [ledger(&namespace)?, ledger(COMMON)?];
        writers.spawn(Writer::new(caller.clone(), client, namespace, ledgers).run(started + duration));
    }
    let mut faults = Vec::new();
    while let Some(ended) = writers.join_next().await {
        faults.extend(ended?);
    }
    let seconds = started.elapsed().as_secs_f64();
    for (namespace, ledger) in &ledgers {
        writer::close(&callers[0], namespace, ledger).await?;
    }
    let mut logs = Vec::new();
    while let Some(ended) = watchers.join_next().await {
        match ended? {
            (namespace, Ok(log)) => logs.push((namespace, log)),
            (namespace, Err(fault)) => faults.push(format!("{namespace}: {fault}")),
        }
    }
    let mut usage = process::usage(agent)?;
    usage.cpu_seconds -= before;
    faults.extend(compare(&callers[0], &ledgers, &logs).await?);
    drop(callers);
    let counts = Arc::into_inner(counts).unwrap_or_default();
    Ok(Load { counts, seconds, logs, faults, agent: usage })
}

/// Every log with what was written into its namespace, and with the other logs of it; then what is left with what is listed.
async fn compare(
    caller: &Caller,
    ledgers: &BTreeMap<String, Arc<Ledger>>,
    logs: &[(String, Vec<Event>)],
) -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    for (namespace, ledger) in ledgers {
        let written = ledger.written();
        let own: Vec<&Vec<Event>> = logs.iter().filter(|(of, _)| of == namespace).map(|(_, log)| log).collect();
        for log in &own {
            faults.extend(ledger::compare(&written, log).map(|fault| format!("{namespace}: {fault}")));
            if *log != own[0] {
                faults.push(format!("{namespace}: two watchers were told differently"));
            }
        }
        let (listed, left) = (caller.list(namespace).await?.items, ledger::left(&written));
        let differs = left.iter().any(|(name, revision)| listed.get(name) != Some(revision))
            || listed.keys().any(|name| ledger::is_ours(name) && !left.contains_key(name));
        if differs {
            faults.push(format!("{namespace}: listed is {listed:?}, but written was {left:?}"));
        }
    }
    Ok(faults)
}

fn figures(load: Load, before: process::Usage, after: process::Usage) -> Vec<Figure> {
    let mib = |usage: process::Usage| usage.rss_bytes as f64 / MEBIBYTE;
    let codes = load.counts.codes();
    let requests: u64 = codes.values().sum();
    let events: usize = load.logs.iter().map(|(_, log)| log.len()).sum();
    let latencies = load.counts.latencies();
    let percentile = |of: usize| latencies.get(latencies.len() * of / 100).copied().unwrap_or(f64::NAN);
    let mut figures = vec![
        Figure::new(format!("requests of {CLIENTS} clients"), "/s", vec![requests as f64 / load.seconds]),
        Figure::new("events delivered", "/s", vec![events as f64 / load.seconds]),
        Figure::new("events delivered in all", "", vec![events as f64]),
        Figure::new("watches resumed", "", vec![load.counts.resumed() as f64]),
        Figure::new("a request, half of them", "ms", vec![percentile(50)]),
        Figure::new("a request, 99 of 100", "ms", vec![percentile(99)]),
    ];
    figures.extend(codes.into_iter().filter(|(code, _)| *code >= 300).map(|(code, count)| {
        let figure = Figure::new(format!("answers with {code}"), "", vec![count as f64]);
        if [409, 429].contains(&code) { figure } else { figure.goal("0") }
    }));
    figures.extend([
        Figure::new("faults", "", vec![load.faults.len() as f64]).goal("0"),
        Figure::new("agent CPU", "%", vec![load.agent.cpu_seconds / load.seconds * 100.0]),
        Figure::new("agent RSS before", "MiB", vec![mib(before)]),
        Figure::new("agent RSS at the end", "MiB", vec![mib(load.agent)]),
        Figure::new("agent RSS 30 s later", "MiB", vec![mib(after)]),
        Figure::new("what stayed", "MiB", vec![mib(after) - mib(before)]).goal("≤ 10 MiB"),
    ]);
    figures
}
