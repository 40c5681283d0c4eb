//! A box with pods that fail in each of the ways in which pods fail: what that costs, and what a restart writes.

use std::time::Duration;

use anyhow::Context;
use skiff_tests::running_box::RunningBox;
use skiff_tests::wait;

use super::process::{self, MEBIBYTE};
use super::{Bench, Figure, IMAGE, import_image};

/// Pods that fail in each way.
const PODS: usize = 10;
/// The fields of a container, or of the pod after `;`, that make it fail.
const WAYS: &[(&str, &str)] = &[
    ("no-command", "command: [/nosuchcmd]"),
    ("crash", "command: [sh, -c, exit 1]"),
    (
        "no-volume",
        "command: [sh], volumeMounts: [{name: v, mountPath: /v}]; volumes: [{name: v, configMap: {name: none}}]",
    ),
    ("no-image", "command: [sh], image: localhost/none:1"),
    ("hook", "command: [sleep, '1000'], lifecycle: {postStart: {exec: {command: ['false']}}}"),
];

pub fn run(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let running = bench.start_box()?;
    import_image(&running)?;
    let agent = running.agent_pid().context("the agent runs")?;
    let usage = || process::usage(agent);
    let quiet = usage()?;
    let manifest: String = WAYS.iter().flat_map(|way| (0..PODS).map(move |n| pod(way, n))).collect();
    running.apply(&manifest)?;
    wait::until("each crashing pod was restarted", Duration::from_secs(120), || {
        let count = restarts(&running)?;
        anyhow::ensure!(count >= 2 * PODS as u64, "{count} restarts");
        Ok(())
    })?;
    // The first starts are over; from here each write is a restart's.
    let (first, counted) = (usage()?, restarts(&running)?);
    std::thread::sleep(Duration::from_secs(bench.seconds));
    let (last, again) = (usage()?, restarts(&running)?);
    let seconds = bench.seconds as f64;
    let written = (last.written_bytes - first.written_bytes) as f64;
    let restarted = again.saturating_sub(counted);
    let all = PODS * WAYS.len();
    Ok(vec![
        Figure::new(
            format!("{all} failing pods: agent CPU"),
            "%",
            vec![(last.cpu_seconds - first.cpu_seconds) / seconds * 100.0],
        )
        .goal("< 1 %"),
        Figure::new("written", "MiB/day", vec![written / MEBIBYTE / seconds * 86_400.0]),
        Figure::new("restarts meanwhile", "", vec![restarted as f64]),
        Figure::new("written a restart", "KiB", vec![written / 1024.0 / restarted.max(1) as f64]).goal("≤ 24 KiB"),
        Figure::new("agent RSS", "MiB", vec![last.rss_bytes as f64 / MEBIBYTE]),
        Figure::new("written until then", "KiB", vec![(first.written_bytes - quiet.written_bytes) as f64 / 1024.0]),
    ])
}

fn pod((name, way): &(&str, &str), n: usize) -> String {
    let (container, of_pod) = way.split_once("; ").unwrap_or((way, ""));
    let image = if container.contains("image:") { String::new() } else { format!("image: {IMAGE}, ") };
    let of_pod = if of_pod.is_empty() { String::new() } else { format!("  {of_pod}\n") };
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}-{n}}}\nspec:\n  terminationGracePeriodSeconds: 1\n{of_pod}  \
         containers:\n  - {{name: a, {image}imagePullPolicy: Never, {container}}}\n"
    )
}

fn restarts(running: &RunningBox) -> anyhow::Result<u64> {
    let counts =
        running.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[*].restartCount}"])?;
    Ok(counts.split_whitespace().filter_map(|count| count.parse::<u64>().ok()).sum())
}
