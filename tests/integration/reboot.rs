//! The machine is cut off: agent, runtime, shims, containers and mounts are gone, and the files of the run directory are
//! those of another boot. The same pods come back.

use anyhow::{Context, ensure};
use skiff_tests::running_box::{Number, RunningBox};
use skiff_tests::{command, wait};

use crate::{Place, SOON, image};

pub fn pods_come_back(place: &Place<'_>) -> anyhow::Result<()> {
    let mut running = RunningBox::start(&place.shared.binary, &place.shared.kubectl, Number(15))?;
    let manifest = format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: word}}
stringData: {{word: sesame}}
---
apiVersion: v1
kind: Pod
metadata: {{name: kept}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{{name: word, secret: {{secretName: word}}}}]
  containers:
  - name: a
    image: {}
    command: [sh, -c, 'cat /word/word; echo; trap exit TERM; sleep 100000 & wait']
    volumeMounts: [{{name: word, mountPath: /word}}]
",
        image("busybox:1")
    );
    start(&running, &manifest)?;
    let before = running.json(&["get", "pod", "kept"])?;

    cut_power(&mut running)?;
    running.start_agent()?;
    running.wait_ready()?;
    wait::until("the pod is back", SOON, || {
        let after = running.json(&["get", "pod", "kept"])?;
        ensure!(after["metadata"]["uid"] == before["metadata"]["uid"], "it is another pod");
        let (status, old) = (&after["status"]["containerStatuses"][0], &before["status"]["containerStatuses"][0]);
        ensure!(status["ready"] == true && status["containerID"] != old["containerID"], "{status}");
        ensure!(status["restartCount"] == 1, "one more start: {status}");
        Ok(())
    })?;
    wait::until("its volumes are there again", SOON, || {
        let log = running.kubectl(&["logs", "kept"])?;
        ensure!(log.trim() == "sesame", "{log:?}");
        Ok(())
    })?;
    running.kubectl(&["delete", "pod", "kept", &wait::kubectl_timeout(SOON)])?;

    start(&running, &manifest)?;
    cut_power(&mut running)?;
    running.start_agent()?;
    running.wait_ready()?;
    let down = running.skiff(&["down"])?;
    ensure!(down.ok, "a box that was cut off can be taken down: {}", down.stderr);
    Ok(())
}

fn start(running: &RunningBox, manifest: &str) -> anyhow::Result<()> {
    running.apply(manifest)?;
    running.kubectl(&["wait", "--for=condition=Ready", "pod/kept", &wait::kubectl_timeout(SOON)]).map(drop)
}

/// What a power cut and a start do, but for the kernel.
fn cut_power(running: &mut RunningBox) -> anyhow::Result<()> {
    running.kill_agent()?;
    let data = running.data_dir().to_string_lossy().into_owned();
    for _ in 0..2 {
        // The first round leaves what a dying process started.
        for pid in processes(&data, running.number())? {
            let _ = command::run("kill", ["-KILL", &pid]);
        }
    }
    wait::until("nothing of the box runs", SOON, || {
        let left = processes(&data, running.number())?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|point| point.starts_with(&data));
    let mut points: Vec<&str> = points.collect();
    points.reverse();
    for point in points {
        command::run("umount", ["-l", point])?;
    }
    let remembered = running.data_dir().join("run/boot-id");
    ensure!(remembered.exists(), "the agent remembers the boot");
    std::fs::write(remembered, "another boot")?;
    // A pid file that names somebody else now.
    let pid_file = running.data_dir().join("run/containerd/skiff-containerd.pid");
    ensure!(pid_file.exists(), "the agent runs containerd itself");
    std::fs::write(pid_file, std::process::id().to_string())?;
    empty_network_results(running.number())
}

/// The runtime does not flush what the network plugins answered.
fn empty_network_results(number: u8) -> anyhow::Result<()> {
    let mut emptied = 0;
    for file in std::fs::read_dir("/var/lib/cni/results")?.flatten() {
        if file.file_name().to_string_lossy().starts_with(&format!("sktest{number}-")) {
            std::fs::write(file.path(), "")?;
            emptied += 1;
        }
    }
    ensure!(emptied > 0, "the pod has a network");
    Ok(())
}

/// The runtime, the shims, the proxy and everything in pods: by their arguments or their control groups.
fn processes(data: &str, number: u8) -> anyhow::Result<Vec<String>> {
    let group = format!("/sktest{number}/");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let pid = entry.file_name().to_str().context("a name")?.to_owned();
        if pid.parse::<u32>().is_err() || pid == std::process::id().to_string() {
            continue;
        }
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&read("cmdline")).into_owned();
        let groups = String::from_utf8_lossy(&read("cgroup")).into_owned();
        if arguments.contains(data) || groups.contains(&group) {
            found.push(pid);
        }
    }
    Ok(found)
}
