//! What the definitions of custom resources cost that a box never uses: memory, the processor at rest, and the start.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Map, Value, json};
use skiff_tests::wait;

use super::process::{self, MEBIBYTE};
use super::{Bench, Figure};

/// A full catalogue of operators.
const DEFINITIONS: u32 = 500;
const SETTLE: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(120);
/// Sections of a definition's spec, and fields of each.
const SECTIONS: u32 = 16;
const FIELDS: u32 = 9;
const WORDS: &[&str] = &[
    "the",
    "of",
    "is",
    "a",
    "to",
    "and",
    "for",
    "that",
    "when",
    "resource",
    "field",
    "value",
    "cluster",
    "policy",
    "name",
    "reference",
    "storage",
    "volume",
    "database",
    "replica",
    "backup",
    "secret",
    "certificate",
    "listener",
    "route",
    "timeout",
    "retry",
    "credentials",
    "default",
    "namespace",
    "selector",
    "controller",
    "operator",
    "specifies",
    "optional",
    "maximum",
    "minimum",
    "interval",
    "schedule",
    "template",
    "annotation",
    "label",
    "immutable",
    "enabled",
    "allowed",
];

pub fn run(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mut running = bench.start_box()?;
    std::thread::sleep(SETTLE);
    let pid = |running: &skiff_tests::running_box::RunningBox| running.agent_pid().context("the agent runs");
    let held = |pid: u32| process::usage(pid).map(|usage| usage.pss_bytes as f64 / MEBIBYTE);
    let before = held(pid(&running)?)?;
    let file = tempfile::NamedTempFile::new()?;
    let items: Vec<Value> = (0..DEFINITIONS).map(definition).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    let mean = list.len() as f64 / 1024.0 / f64::from(DEFINITIONS);
    std::fs::write(file.path(), list)?;
    let started = Instant::now();
    running.kubectl(&["create", "-f", &file.path().to_string_lossy()])?;
    let served = || {
        let groups = running.kubectl(&["api-resources", "--no-headers", "-o", "name"])?;
        let count = groups.lines().filter(|line| line.ends_with(".bench.example.org")).count();
        ensure!(count == DEFINITIONS as usize, "{count} are served");
        Ok(())
    };
    wait::until("all are served", SOON, served)?;
    let taken = started.elapsed().as_secs_f64();
    std::thread::sleep(SETTLE);
    let with = held(pid(&running)?)?;
    let cpu = process::usage(pid(&running)?)?.cpu_seconds;
    std::thread::sleep(Duration::from_secs(bench.seconds));
    let used = (process::usage(pid(&running)?)?.cpu_seconds - cpu) / bench.seconds as f64 * 100.0;
    running.stop_agent()?;
    let started = Instant::now();
    running.start_agent()?;
    running.wait_api()?;
    let start = started.elapsed().as_secs_f64();
    running.wait_ready()?;
    std::thread::sleep(SETTLE);
    let again = held(pid(&running)?)?;
    Ok(vec![
        Figure::new("size of a definition", "KiB", vec![mean]),
        Figure::new(format!("{DEFINITIONS} definitions made and served"), "s", vec![taken]),
        Figure::new("agent PSS before", "MiB", vec![before]),
        Figure::new("what they take", "MiB", vec![with - before]).goal("≤ 40 MiB"),
        Figure::new("what they take after a restart", "MiB", vec![again - before]).goal("≤ 40 MiB"),
        Figure::new("CPU at rest", "%", vec![used]),
        Figure::new("start to the API", "s", vec![start]),
    ])
}

/// Some words, always the same for the same number.
fn words(mut seed: u32, count: usize) -> String {
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        WORDS[(seed >> 8) as usize % WORDS.len()]
    };
    (0..count).map(|_| next()).collect::<Vec<_>>().join(" ")
}

fn definition(number: u32) -> Value {
    let mut sections = Map::new();
    for section in 0..SECTIONS {
        let mut fields = Map::new();
        for field in 0..FIELDS {
            let seed = number * 100_000 + section * 1000 + field;
            let ty = ["string", "integer", "boolean"][field as usize % 3];
            fields.insert(format!("{}{field}", words(seed, 1)), json!({"type": ty, "description": words(seed, 22)}));
        }
        fields.insert(
            "list".to_owned(),
            json!({"type": "array", "items": {"type": "string"}, "description": words(section, 9)}),
        );
        sections.insert(
            format!("section{section}"),
            json!({"type": "object", "properties": fields, "description": words(section, 15)}),
        );
    }
    let (plural, kind) = (format!("things{number}"), format!("Thing{number}"));
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": sections},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.bench.example.org")},
        "spec": {"group": "bench.example.org", "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema}}]}})
}
