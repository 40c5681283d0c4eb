//! Memory after a load: many objects are made, listed whole and deleted with their namespace, and what the agent holds a
//! minute later is compared with what it held before.

use std::time::Duration;

use anyhow::Context;
use skiff_tests::{command, script};

use super::process::{self, MEBIBYTE};
use super::{Bench, Figure};

const OBJECTS: u32 = 30_000;
const WRITERS: u32 = 32;
/// What happens right after the start or a change is not rest.
const SETTLE: Duration = Duration::from_secs(20);
const REST: Duration = Duration::from_secs(60);

pub fn run(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let running = bench.start_box()?;
    std::thread::sleep(SETTLE);
    let agent = running.agent_pid().context("the agent runs")?;
    let rss = || process::usage(agent).map(|usage| usage.rss_bytes as f64 / MEBIBYTE);
    let before = rss()?;
    let kubeconfig = running.kubeconfig();
    let (objects, writers) = (OBJECTS.to_string(), WRITERS.to_string());
    let said = command::output(script::command(script::CHURN, &[&*kubeconfig.to_string_lossy(), &objects, &writers]))?;
    anyhow::ensure!(said.ok, "{}{}", said.stdout, said.stderr);
    let numbers: Vec<f64> = said.stdout.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let [rate, seconds] = numbers[..] else { anyhow::bail!("the load said {:?}", said.stdout) };
    let at_end = rss()?;
    std::thread::sleep(REST);
    let after = rss()?;
    Ok(vec![
        Figure::new(format!("creates a second, {WRITERS} writers"), "/s", vec![rate]),
        Figure::new(format!("deletion of a namespace with {OBJECTS} objects"), "s", vec![seconds]),
        Figure::new("agent RSS before", "MiB", vec![before]),
        Figure::new("agent RSS when all are gone", "MiB", vec![at_end]),
        Figure::new("agent RSS a minute later", "MiB", vec![after]),
        Figure::new("what stayed", "MiB", vec![after - before]).goal("≤ 10 MiB"),
    ])
}
