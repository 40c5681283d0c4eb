//! `skiff status`: the box on one screen, and what is wrong with it.

use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;

use super::client::Client;
use super::{DataDir, block_on};
use crate::paths::Paths;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    data_dir: DataDir,
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
}

#[derive(Default, Serialize)]
struct Pods {
    running: usize,
    pending: usize,
    failed: usize,
    succeeded: usize,
    capacity: u64,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let paths = Paths::new(&arguments.data_dir.data_dir);
    let status = block_on(collect(&paths))?;
    match arguments.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&status)?),
        Output::Text => print(&status),
    }
    Ok(())
}

pub async fn collect(paths: &Paths) -> anyhow::Result<Status> {
    let mut client = Client::connect(paths).await?;
    let nodes = client.get("/api/v1/nodes").await?;
    let pods = client.get("/api/v1/pods").await?;
    let version = client.get("/version").await?;
    let ingress = super::ingress::problems(&super::ingress::collect(paths).await?);
    let node = &nodes["items"][0];
    let pid = std::fs::read_to_string(paths.lock()).unwrap_or_default();
    let conditions = items(&node["status"]["conditions"]);
    let ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
    let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    let kubeconfig = std::fs::read_to_string(paths.kubeconfig()).unwrap_or_default();
    let api = kubeconfig.lines().find_map(|l| l.trim().strip_prefix("server: ")).unwrap_or_default();
    Ok(Status {
        node: text(&node["metadata"]["name"]),
        ready,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kubernetes: text(&version["gitVersion"]),
        runtime: text(&node["status"]["nodeInfo"]["containerRuntimeVersion"]),
        address: text(&node["status"]["addresses"][0]["address"]),
        api: api.to_owned(),
        uptime_seconds: uptime(pid.trim()),
        agent_memory_bytes: resident(pid.trim()),
        pods: count(&pods, node),
        problems: host_problems().into_iter().chain(problems(conditions, &pods)).chain(ingress).collect(),
    })
}

/// What is wrong with the machine below the box, where Skiff brought the system.
pub fn host_problems() -> Vec<String> {
    let paths = skiff_appliance::paths::Paths::new("/".as_ref());
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let settings = read(paths.settings_errors()).lines().map(|line| format!("skiff.toml: {line}")).collect::<Vec<_>>();
    let slots = read(paths.slot_problem()).lines().map(|line| format!("system: {line}")).collect::<Vec<_>>();
    settings.into_iter().chain(slots).collect()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
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

fn count(pods: &Value, node: &Value) -> Pods {
    let capacity = node["status"]["allocatable"]["pods"].as_str().and_then(|p| p.parse().ok()).unwrap_or(0);
    let mut counts = Pods { capacity, ..Pods::default() };
    for pod in items(&pods["items"]) {
        match pod["status"]["phase"].as_str() {
            Some("Running") => counts.running += 1,
            Some("Succeeded") => counts.succeeded += 1,
            Some("Failed") => counts.failed += 1,
            Some(_) | None => counts.pending += 1,
        }
    }
    counts
}

/// Conditions that are not as they should be, and containers that do not run.
fn problems(conditions: &[Value], pods: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    for condition in conditions {
        let good = if condition["type"] == "Ready" { "True" } else { "False" };
        if condition["status"] != good {
            let text = |field: &str| condition[field].as_str().unwrap_or_default();
            problems.push(format!("node: {} is {}: {}", text("type"), text("status"), text("message")));
        }
    }
    for pod in items(&pods["items"]) {
        let name = format!(
            "{}/{}",
            pod["metadata"]["namespace"].as_str().unwrap_or_default(),
            pod["metadata"]["name"].as_str().unwrap_or_default()
        );
        for container in items(&pod["status"]["containerStatuses"]) {
            let waiting = &container["state"]["waiting"];
            let reason = waiting["reason"].as_str().unwrap_or_default();
            if !matches!(reason, "" | "ContainerCreating" | "PodInitializing") {
                let message = waiting["message"].as_str().unwrap_or_default();
                problems.push(format!("pod {name}: {reason}: {message}"));
            }
        }
        for condition in items(&pod["status"]["conditions"]) {
            if condition["type"] == "PodScheduled" && condition["status"] == "False" {
                problems.push(format!("pod {name}: {}", condition["message"].as_str().unwrap_or_default()));
            }
        }
    }
    problems
}

fn print(status: &Status) {
    let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1_048_576.0);
    let ready = if status.ready { "Ready" } else { "NOT READY" };
    println!("Node       {}  {ready}", status.node);
    println!("Address    {}   API {}", status.address, status.api);
    println!("Versions   skiff {}, Kubernetes {}, {}", status.version, status.kubernetes, status.runtime);
    let memory = status.agent_memory_bytes.map_or("unknown".to_owned(), mebibytes);
    let uptime = status
        .uptime_seconds
        .map_or("unknown".to_owned(), |s| format!("{}h{:02}m{:02}s", s / 3600, s / 60 % 60, s % 60));
    println!("Agent      {memory} resident, up {uptime}");
    let pods = &status.pods;
    println!(
        "Pods       {} running, {} pending, {} succeeded, {} failed (at most {})",
        pods.running, pods.pending, pods.succeeded, pods.failed, pods.capacity
    );
    if status.problems.is_empty() {
        println!("Problems   none");
    }
    for problem in &status.problems {
        println!("Problem    {problem}");
    }
}
