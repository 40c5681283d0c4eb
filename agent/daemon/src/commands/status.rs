//! `skiff status`: the box on one screen, and what is wrong with it.

use clap::ValueEnum;
use serde::Serialize;
use skiff_console::{Health, Pods};

use super::block_on;
use super::client::Client;
use crate::paths::Paths;

#[derive(clap::Args)]
pub struct Arguments {
    /// The form of the answer
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
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
    let ingress = super::ingress::problems(&super::ingress::collect(paths).await?);
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
        problems: host_problems()
            .into_iter()
            .chain(health.problems.iter().map(|p| p.text().to_owned()))
            .chain(ingress)
            .collect(),
        sign_in_code: line(&paths.code()),
        ca_fingerprint: line(&paths.ca_fingerprint()),
    })
}

fn line(path: &std::path::Path) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

/// What is wrong with the machine below the box, where Skiff brought the system.
pub fn host_problems() -> Vec<String> {
    let paths = skiff_appliance::paths::Paths::new("/".as_ref());
    let errors = std::fs::read_to_string(paths.settings_errors()).unwrap_or_default();
    let slots = skiff_appliance::slots::Disk::default().problem().map(|problem| format!("system: {problem}"));
    errors.lines().map(|line| format!("skiff.toml: {line}")).chain(slots).collect()
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
