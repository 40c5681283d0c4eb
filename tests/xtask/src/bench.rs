//! `cargo xtask bench NAME`: measures, beside peers in the same run where there are any. Prints a table and, with
//! `--json`, a line for each figure. The goals are in the table; a benchmark never fails for missing one.

mod api;
mod churn;
mod clients;
mod comparison;
mod definitions;
mod failing;
mod hosts;
mod idle;
mod ingress;
mod pods;
mod process;
mod start;
mod store;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use skiff_tests::prerequisites;
use skiff_tests::running_box::{Number, RunningBox};

use crate::workspace::{self, Profile};

#[derive(clap::Args)]
pub struct Arguments {
    /// What to measure
    #[arg(value_enum)]
    name: Name,
    /// How often; the median counts
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Seconds that a box is watched at idle, or that clients load it
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Measure this agent instead of building one: to compare two versions
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// With `idle`: a box with pods that fail in every way
    #[arg(long)]
    failing: bool,
    /// Also print a JSON line for each figure
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: api::Options,
    #[command(flatten)]
    ingress: ingress::Options,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// Creates, gets, lists, patches, applies and watches of the API, beside upstream's server, and what an object costs
    Api,
    /// Memory after 30 000 objects were made, listed and deleted
    Churn,
    /// 200 clients that write and watch at once: rates, whether each is told all, and memory afterwards
    Clients,
    /// Memory, CPU at rest and the start with 500 definitions of custom resources
    Definitions,
    /// The ingress with 1000 hosts and certificates, and with 10 000 idle connections
    Hosts,
    /// Memory, CPU and disk writes of an idle box, empty and with 20 pods
    Idle,
    /// From the start to the API and to a Ready node, cold and warm
    Start,
    /// From apply to Ready for 1 and 20 pods, and until they are gone
    Pods,
    /// Durable writes a second, large lists, watch latency
    Store,
    /// Requests, handshakes, streams and WebSockets through the ingress, beside nginx, HAProxy and Caddy
    Ingress,
}

/// One measured figure.
pub struct Figure {
    pub what: String,
    pub values: Vec<f64>,
    pub unit: &'static str,
    pub goal: Option<&'static str>,
}

impl Figure {
    pub fn new(what: impl Into<String>, unit: &'static str, values: Vec<f64>) -> Self {
        Self { what: what.into(), values, unit, goal: None }
    }

    pub fn goal(mut self, goal: &'static str) -> Self {
        self.goal = Some(goal);
        self
    }

    fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn bounds(&self) -> (f64, f64) {
        let least = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        (least, self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    }
}

/// What every benchmark needs.
pub struct Bench {
    pub binary: PathBuf,
    pub kubectl: PathBuf,
    pub runs: usize,
    pub seconds: u64,
}

impl Bench {
    pub fn start_box(&self) -> anyhow::Result<RunningBox> {
        RunningBox::start(&self.binary, &self.kubectl, Number(9))
    }

    pub fn prepare_box(&self) -> anyhow::Result<RunningBox> {
        RunningBox::prepare(&self.binary, &self.kubectl, Number(9))
    }
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    workspace::require_root()?;
    prerequisites::ensure(&[prerequisites::BOX, prerequisites::DEMO, prerequisites::BENCHMARKS])?;
    let figures = match arguments.name {
        Name::Hosts => listed(hosts::run(&bench(arguments)?)?),
        Name::Churn => listed(churn::run(&bench(arguments)?)?),
        Name::Clients => listed(clients::run(&bench(arguments)?)?),
        Name::Definitions => listed(definitions::run(&bench(arguments)?)?),
        Name::Idle if arguments.failing => listed(failing::run(&bench(arguments)?)?),
        Name::Idle => listed(idle::run(&bench(arguments)?)?),
        Name::Start => listed(start::run(&bench(arguments)?)?),
        Name::Pods => listed(pods::run(&bench(arguments)?)?),
        Name::Store => listed(store::run(&bench(arguments)?)?),
        Name::Api => compared(api::run(&arguments.api, &bench(arguments)?)?),
        Name::Ingress => compared(ingress::run(&arguments.ingress, arguments.runs.max(1), || bench(arguments))?),
    };
    if arguments.json {
        for figure in &figures {
            let line = serde_json::json!({"what": figure.what, "unit": figure.unit, "median": figure.median(),
                "values": figure.values, "goal": figure.goal});
            println!("{line}");
        }
    }
    Ok(())
}

/// Builds the agent and finds kubectl.
fn bench(arguments: &Arguments) -> anyhow::Result<Bench> {
    Ok(Bench {
        binary: match &arguments.agent {
            Some(agent) => std::path::absolute(agent)?,
            None => workspace::build_agent(Profile::Release)?,
        },
        kubectl: prerequisites::kubectl(&workspace::target().join("kubectl"))?,
        runs: arguments.runs.max(1),
        seconds: arguments.seconds.max(5),
    })
}

fn compared(comparison: comparison::Comparison) -> Vec<Figure> {
    comparison.print();
    comparison.into_figures()
}

fn listed(figures: Vec<Figure>) -> Vec<Figure> {
    print(&figures);
    figures
}

fn print(figures: &[Figure]) {
    let width = figures.iter().map(|f| f.what.len()).max().unwrap_or(0);
    println!("{:width$}  {:>12}  {:>24}  goal", "figure", "median", "least … most");
    for figure in figures {
        let (least, most) = figure.bounds();
        let median = format!("{:.3} {}", figure.median(), figure.unit);
        let range = format!("{least:.3} … {most:.3}");
        println!("{:width$}  {median:>12}  {range:>24}  {}", figure.what, figure.goal.unwrap_or(""));
    }
}

/// The image of the pods that are measured.
pub const IMAGE: &str = "localhost/bench/busybox:1";

pub fn import_image(running: &RunningBox) -> anyhow::Result<()> {
    running.import(&skiff_tests::images::busybox(IMAGE))
}

pub fn deployment(replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: bench}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: bench}}}}
  template:
    metadata: {{labels: {{app: bench}}}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - {{name: a, image: {IMAGE}, imagePullPolicy: Never, command: [sh, -c, 'trap exit TERM; sleep 100000 & wait']}}
"
    )
}

pub fn temporary_archive(dir: &Path) -> anyhow::Result<PathBuf> {
    let archive = dir.join("image.tar");
    skiff_tests::images::busybox(IMAGE).write(&archive)?;
    Ok(archive)
}
