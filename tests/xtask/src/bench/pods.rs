//! From `kubectl apply` to Ready for 1 and for 20 pods, and until they are gone; beside `ctr run` as the floor and
//! `podman run` as a peer.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use skiff_tests::running_box::RunningBox;
use skiff_tests::{command, wait};

use super::{Bench, Figure, IMAGE, deployment, import_image, temporary_archive};

const LIMIT: Duration = Duration::from_secs(120);

pub fn run(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let running = bench.start_box()?;
    import_image(&running)?;
    // The first pod of a box loads programs from the disk.
    cycle(&running, 1)?;
    let mut figures = Vec::new();
    for (count, goal) in [(1, "≤ 0.5 s"), (20, "≤ 4 s")] {
        let (mut ready, mut gone) = (Vec::new(), Vec::new());
        for _ in 0..bench.runs {
            let (up, down) = cycle(&running, count)?;
            ready.push(up);
            gone.push(down);
        }
        figures.push(Figure::new(format!("apply → {count} pods Ready"), "s", ready).goal(goal));
        figures.push(Figure::new(format!("delete → {count} pods gone"), "s", gone));
    }
    figures.push(Figure::new("floor: ctr run", "s", repeat(bench.runs, || ctr(&running))?));
    let dir = tempfile::tempdir()?;
    let archive = temporary_archive(dir.path())?;
    let podman = |arguments: &[&str]| {
        let root = dir.path().join("podman");
        let mut command = Command::new("podman");
        command.arg("--root").arg(&root).arg("--runroot").arg(dir.path().join("podman-run"));
        command.args(["--cgroup-manager=cgroupfs", "--runtime=runc"]).args(arguments);
        let done = command::output(command)?;
        ensure!(done.ok, "podman {arguments:?}: {}", done.stderr);
        Ok::<String, anyhow::Error>(done.stdout)
    };
    let peer = podman(&["load", "-q", "-i", &archive.to_string_lossy()]).and_then(|loaded| {
        let image = loaded.trim().rsplit(": ").next().unwrap_or(IMAGE).to_owned();
        repeat(bench.runs, || {
            podman(&["run", "--rm", "--network=none", "--ulimit=host", "--entrypoint=/bin/true", &image]).map(drop)
        })
    });
    match peer {
        Ok(values) => figures.push(Figure::new("peer: podman run --network=none", "s", values)),
        Err(error) => println!("podman could not be measured here: {error:#}"),
    }
    Ok(figures)
}

fn cycle(running: &RunningBox, count: u32) -> anyhow::Result<(f64, f64)> {
    let started = Instant::now();
    running.apply(&deployment(count))?;
    let wanted = count.to_string();
    wait::until("the pods are ready", LIMIT, || {
        let ready = running.kubectl(&["get", "deployment", "bench", "-o", "jsonpath={.status.readyReplicas}"])?;
        ensure!(ready == wanted, "{ready} of {wanted}");
        Ok(())
    })?;
    let ready = started.elapsed().as_secs_f64();
    let started = Instant::now();
    running.kubectl(&["delete", "deployment", "bench", "--wait=false"])?;
    wait::until("the pods are gone", LIMIT, || {
        let left = running.kubectl(&["get", "pods", "-l", "app=bench", "-o", "name"])?;
        ensure!(left.trim().is_empty(), "{left}");
        Ok(())
    })?;
    Ok((ready, started.elapsed().as_secs_f64()))
}

fn ctr(running: &RunningBox) -> anyhow::Result<()> {
    let socket = running.data_dir().join("run/containerd/containerd.sock");
    let name = format!("bench-{}", std::time::UNIX_EPOCH.elapsed()?.as_nanos());
    command::run(
        "ctr",
        ["--address", &socket.to_string_lossy(), "-n", "k8s.io", "run", "--rm", IMAGE, &name, "/bin/true"],
    )
    .map(drop)
}

fn repeat(runs: usize, work: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<Vec<f64>> {
    (0..runs)
        .map(|_| {
            let started = Instant::now();
            work()?;
            Ok(started.elapsed().as_secs_f64())
        })
        .collect()
}
