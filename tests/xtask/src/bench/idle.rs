//! An idle box: what it costs to do nothing, empty and with 20 pods.

use std::time::Duration;

use anyhow::Context;
use skiff_tests::running_box::RunningBox;
use skiff_tests::wait;

use super::process::{self, MEBIBYTE, Usage};
use super::{Bench, Figure, deployment, import_image};

/// What happens right after a change is not idleness: within a minute the node tells which images it has now.
const SETTLE: Duration = Duration::from_secs(75);

pub fn run(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let running = bench.start_box()?;
    import_image(&running)?;
    let mut figures = watch(bench, &running, "empty")?;
    running.apply(&deployment(20))?;
    wait::until("20 pods are ready", Duration::from_secs(120), || {
        let ready = running.kubectl(&["get", "deployment", "bench", "-o", "jsonpath={.status.readyReplicas}"])?;
        anyhow::ensure!(ready == "20", "{ready}");
        Ok(())
    })?;
    figures.extend(watch(bench, &running, "20 pods")?);
    Ok(figures)
}

fn watch(bench: &Bench, running: &RunningBox, when: &str) -> anyhow::Result<Vec<Figure>> {
    std::thread::sleep(SETTLE);
    let agent = running.agent_pid().context("the agent runs")?;
    let containerd = process::containerd(running.data_dir()).context("containerd runs")?;
    let data = running.data_dir().to_string_lossy().into_owned();
    let proxy = process::find(|_, command| command.contains("ingress-proxy") && command.contains(&data));
    let proxy = *proxy.first().context("the ingress's proxy runs")?;
    let observe =
        || Ok::<_, anyhow::Error>((process::usage(agent)?, process::usage(containerd)?, process::usage(proxy)?));
    let before = observe()?;
    std::thread::sleep(Duration::from_secs(bench.seconds));
    let after = observe()?;
    let hour = 3600.0 / bench.seconds as f64;
    let of = |name: &str, before: Usage, after: Usage, goals: [Option<&'static str>; 3]| {
        let figure = |what: &str, unit, value: f64, goal: Option<&'static str>| {
            let figure = Figure::new(format!("{when}: {name} {what}"), unit, vec![value]);
            match goal {
                Some(goal) => figure.goal(goal),
                None => figure,
            }
        };
        vec![
            figure("RSS", "MiB", after.rss_bytes as f64 / MEBIBYTE, goals[0]),
            figure("PSS", "MiB", after.pss_bytes as f64 / MEBIBYTE, None),
            figure("CPU", "%", (after.cpu_seconds - before.cpu_seconds) / bench.seconds as f64 * 100.0, goals[1]),
            figure("written", "KiB/h", (after.written_bytes - before.written_bytes) as f64 / 1024.0 * hour, goals[2]),
        ]
    };
    let goals = [Some("≤ 32 MiB"), Some("≤ 0.3 %"), Some("≤ 213 KiB/h (5 MB a day)")];
    let mut figures = of("agent", before.0, after.0, goals);
    figures.extend(of("ingress proxy", before.2, after.2, [None, None, None]));
    let both = (after.0.pss_bytes + after.2.pss_bytes) as f64 / MEBIBYTE;
    // They run the same program: PSS counts its pages once.
    figures.push(Figure::new(format!("{when}: agent and proxy PSS"), "MiB", vec![both]).goal("≤ 32 MiB"));
    figures.extend(of("containerd", before.1, after.1, [None, None, None]));
    Ok(figures)
}
