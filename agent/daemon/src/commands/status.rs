//! `skiff status`: the box on one screen, and what is wrong with it.

use clap::ValueEnum;
use serde::Serialize;
use skiff_console::{Health, Pods, Problem};

use skiff_reconcile::PartReport;

use super::block_on;
use super::client::Client;
use crate::paths::Paths;

#[derive(clap::Args)]
pub struct Arguments {
    /// The form of the answer
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
    /// The parts of the agent and how the last pass of each controller ended
    #[arg(long)]
    controllers: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

#[derive(Serialize)]
pub struct Status {
    node: String,
    pub ready: bool,
    version: String,
    kubernetes: String,
    runtime: String,
    address: String,
    api: String,
    uptime_seconds: Option<u64>,
    agent_memory_bytes: Option<u64>,
    pods: Pods,
    pub problems: Vec<String>,
    /// The box's first page.
    console: String,
    /// For the first page; only root may read it.
    sign_in_code: Option<String>,
    ca_fingerprint: Option<String>,
}

pub fn run(arguments: &Arguments, paths: &Paths) -> anyhow::Result<()> {
    if arguments.controllers {
        let parts = block_on(async { Client::connect(paths).await?.get("/skiff/v1/parts").await })?;
        match arguments.output {
            Output::Json => println!("{}", serde_json::to_string_pretty(&parts)?),
            Output::Text => print!("{}", render_parts(&serde_json::from_value::<Vec<PartReport>>(parts)?)),
        }
        return Ok(());
    }
    let status = block_on(collect(paths))?;
    match arguments.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&status)?),
        Output::Text => print!("{}", render(&status)),
    }
    Ok(())
}

pub async fn collect(paths: &Paths) -> anyhow::Result<Status> {
    let mut client = Client::connect(paths).await?;
    let nodes = client.get("/api/v1/nodes").await?;
    let pods = client.get("/api/v1/pods").await?;
    let version = client.get("/version").await?;
    let problems: Vec<Problem> = serde_json::from_value(client.get("/skiff/v1/problems").await?)?;
    let health = Health::read(&nodes, &pods);
    let pid = std::fs::read_to_string(paths.lock()).unwrap_or_default();
    let kubeconfig = std::fs::read_to_string(paths.kubeconfig()).unwrap_or_default();
    let api = kubeconfig.lines().find_map(|l| l.trim().strip_prefix("server: ")).unwrap_or_default();
    let https = super::ingress::settings(paths)?.ingress.https.first().map_or(443, std::net::SocketAddr::port);
    let port = if https == 443 { String::new() } else { format!(":{https}") };
    Ok(Status {
        console: format!("https://{}{port}/", health.address),
        node: health.node,
        ready: health.ready,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kubernetes: version["gitVersion"].as_str().unwrap_or("unknown").to_owned(),
        runtime: health.runtime,
        address: health.address,
        api: api.to_owned(),
        uptime_seconds: uptime(pid.trim()),
        agent_memory_bytes: resident(pid.trim()),
        pods: health.pods,
        problems: problems.iter().map(|problem| problem.text().to_owned()).collect(),
        sign_in_code: line(&paths.code()),
        ca_fingerprint: line(&paths.ca_fingerprint()),
    })
}

fn line(path: &std::path::Path) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

fn resident(pid: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kibibytes = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?.trim().trim_end_matches(" kB");
    kibibytes.parse::<u64>().ok().map(|k| k * 1024)
}

fn uptime(pid: &str) -> Option<u64> {
    let created = std::fs::metadata(format!("/proc/{pid}")).ok()?.modified().ok()?;
    created.elapsed().ok().map(|d| d.as_secs())
}

/// As it is printed.
pub async fn text(paths: &Paths) -> anyhow::Result<String> {
    Ok(render(&collect(paths).await?))
}

fn render(status: &Status) -> String {
    let mut lines = Vec::new();
    let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1_048_576.0);
    let ready = if status.ready { "Ready" } else { "NOT READY" };
    lines.push(format!("Node       {}  {ready}", status.node));
    lines.push(format!("Address    {}   API {}", status.address, status.api));
    lines.push(format!("Versions   skiff {}, Kubernetes {}, {}", status.version, status.kubernetes, status.runtime));
    let memory = status.agent_memory_bytes.map_or("unknown".to_owned(), mebibytes);
    let uptime = status
        .uptime_seconds
        .map_or("unknown".to_owned(), |s| format!("{}h{:02}m{:02}s", s / 3600, s / 60 % 60, s % 60));
    lines.push(format!("Agent      {memory} resident, up {uptime}"));
    let pods = &status.pods;
    lines.push(format!(
        "Pods       {} running, {} pending, {} succeeded, {} failed (at most {})",
        pods.running, pods.pending, pods.succeeded, pods.failed, pods.capacity
    ));
    if let Some(code) = &status.sign_in_code {
        lines.push(format!("Sign in    at {} with the one-time code {code}", status.console));
    }
    if let Some(fingerprint) = &status.ca_fingerprint {
        lines.push(format!("Box CA     SHA-256 {fingerprint}"));
    }
    if status.problems.is_empty() {
        lines.push("Problems   none".to_owned());
    }
    for problem in &status.problems {
        lines.push(format!("Problem    {problem}"));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn render_parts(parts: &[PartReport]) -> String {
    let width = parts.iter().map(|part| part.name.len()).max().unwrap_or(0).max(4);
    let mut out =
        format!("{:width$}  {:>8}  {:>8}  {:>10}  {:>9}  STATE\n", "PART", "RESTARTS", "PASSES", "LAST", "TOOK");
    for part in parts {
        let ago = part.last_pass_seconds_ago.map_or("-".to_owned(), |s| format!("{s:.0} s ago"));
        let took = part.last_pass_ms.map_or("-".to_owned(), |ms| format!("{ms:.1} ms"));
        let state = match (&part.problem, part.running) {
            (Some(problem), _) => problem.as_str(),
            (None, true) => "ok",
            (None, false) => "being started again",
        };
        let (name, restarts, passes) = (&part.name, part.restarts, part.passes);
        out += &format!("{name:width$}  {restarts:>8}  {passes:>8}  {ago:>10}  {took:>9}  {state}\n");
    }
    out
}
