//! Containers that end, are killed, wait for others, or fail their probes.

use anyhow::{bail, ensure};
use skiff_tests::wait;

use crate::{Place, SOON, image};

fn pod(name: &str, body: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n{}",
        body.replace("BUSYBOX", &image("busybox:1"))
    )
}

fn restarts(place: &Place<'_>, pod: &str) -> anyhow::Result<u64> {
    let pod = place.json(&["get", "pod", pod])?;
    Ok(pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(0))
}

pub fn crashing_containers_back_off(place: &Place<'_>) -> anyhow::Result<()> {
    place.apply(&pod(
        "crash",
        "  containers:\n  - {name: a, image: BUSYBOX, command: [sh, -c, 'echo attempt; sleep 0.3; exit 3']}\n",
    ))?;
    wait::until("it is restarted", SOON, || {
        ensure!(restarts(place, "crash")? >= 1);
        Ok(())
    })?;
    wait::until("it backs off", SOON, || {
        let table = place.kubectl(&["get", "pod", "crash"])?;
        ensure!(table.contains("CrashLoopBackOff"), "{table}");
        Ok(())
    })?;
    let status = place.json(&["get", "pod", "crash"])?;
    let last = &status["status"]["containerStatuses"][0]["lastState"]["terminated"];
    ensure!(last["exitCode"] == 3 && last["reason"] == "Error", "{last}");
    ensure!(place.kubectl(&["logs", "-p", "crash"])?.contains("attempt"));
    wait::until("an event tells of it", SOON, || {
        let events = place.kubectl(&["get", "events"])?;
        ensure!(
            events.contains("BackOff") && events.contains("Back-off restarting failed container a in pod crash"),
            "{events}"
        );
        Ok(())
    })?;

    // A process that is killed from outside comes back, and the count rises.
    place.apply(&pod("killed", "  containers:\n  - {name: a, image: BUSYBOX, command: [sh, -c, 'sleep 7777']}\n"))?;
    place.wait_ready("pod/killed")?;
    let id = place.kubectl(&["get", "pod", "killed", "-o", "jsonpath={.status.containerStatuses[0].containerID}"])?;
    let id = id.trim_start_matches("containerd://").to_owned();
    kill_container(&id)?;
    wait::until("the count rises", SOON, || {
        ensure!(restarts(place, "killed")? == 1);
        Ok(())
    })?;
    place.wait_ready("pod/killed")?;
    let now = place.kubectl(&["get", "pod", "killed", "-o", "jsonpath={.status.containerStatuses[0].containerID}"])?;
    ensure!(!now.contains(&id), "it is a new container");
    Ok(())
}

/// Kills the container's first process, found by its control group.
fn kill_container(id: &str) -> anyhow::Result<()> {
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        let group = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if pid.parse::<u32>().is_ok() && group.contains(id) {
            return skiff_tests::command::run("kill", ["-9", &pid]).map(drop);
        }
    }
    bail!("no process of container {id}")
}

pub fn deleted_pods_are_replaced(place: &Place<'_>) -> anyhow::Result<()> {
    let image = format!("--image={}", image("busybox:1"));
    place.kubectl(&[
        "create",
        "deployment",
        "kept",
        &image,
        "--replicas=2",
        "--",
        "sh",
        "-c",
        "trap exit TERM; sleep 100000 & wait",
    ])?;
    place.kubectl(&["rollout", "status", "deployment/kept", &wait::kubectl_timeout(SOON)])?;
    let first = place.kubectl(&["get", "pods", "-o", "jsonpath={.items[0].metadata.name}"])?;
    place.kubectl(&["delete", "pod", &first, "--wait=false"])?;
    wait::until("another takes its place", SOON, || {
        let pods = place.json(&["get", "pods"])?;
        let others = pods["items"].as_array().map_or(0, |items| {
            items
                .iter()
                .filter(|p| p["metadata"]["name"] != first.as_str() && p["status"]["phase"] == "Running")
                .count()
        });
        ensure!(others == 2, "{others} others");
        Ok(())
    })?;
    place.kubectl(&["delete", "deployment", "kept", &wait::kubectl_timeout(SOON)])?;
    wait::until("the pods are collected", SOON, || {
        let left = place.kubectl(&["get", "pods,replicasets", "-o", "name"])?;
        ensure!(left.trim().is_empty(), "{left}");
        Ok(())
    })
}

pub fn memory_limits_kill(place: &Place<'_>) -> anyhow::Result<()> {
    place.apply(&pod(
        "hungry",
        "  restartPolicy: Never\n  containers:\n  - name: a\n    image: BUSYBOX\n    command: [sh, -c, 'x=a; while true; do x=$x$x; done']\n    resources: {limits: {memory: 24Mi, cpu: 500m}}\n",
    ))?;
    place.wait_for("pod/hungry", "{.status.phase}", "Failed")?;
    let reason = "{.status.containerStatuses[0].state.terminated.reason}";
    place.wait_for("pod/hungry", reason, "OOMKilled")?;
    ensure!(place.json(&["get", "pod", "hungry"])?["status"]["qosClass"] == "Guaranteed");
    Ok(())
}

pub fn init_containers_and_hooks(place: &Place<'_>) -> anyhow::Result<()> {
    place.apply(&pod(
        "ordered",
        "  volumes: [{name: shared, emptyDir: {}}, {name: ram, emptyDir: {medium: Memory, sizeLimit: 1Mi}}]
  initContainers:
  - {name: first, image: BUSYBOX, command: [sh, -c, 'echo one >> /s/order'], volumeMounts: [{name: shared, mountPath: /s}]}
  - {name: second, image: BUSYBOX, command: [sh, -c, 'echo two >> /s/order'], volumeMounts: [{name: shared, mountPath: /s}]}
  containers:
  - name: main
    image: BUSYBOX
    command: [sh, -c, 'echo main >> /s/order; trap : TERM; sleep 1000 & wait']
    volumeMounts: [{name: shared, mountPath: /s}, {name: ram, mountPath: /ram}]
    lifecycle:
      postStart: {exec: {command: [sh, -c, 'echo started >> /s/hook']}}
",
    ))?;
    place.wait_ready("pod/ordered")?;
    let order = place.kubectl(&["exec", "ordered", "-c", "main", "--", "cat", "/s/order", "/s/hook"])?;
    ensure!(order == "one\ntwo\nmain\nstarted\n", "{order:?}");
    let mount = place.kubectl(&["exec", "ordered", "-c", "main", "--", "grep", " /ram ", "/proc/mounts"])?;
    ensure!(mount.contains("tmpfs"), "{mount}");
    Ok(())
}

pub fn probes_decide(place: &Place<'_>) -> anyhow::Result<()> {
    place.apply(&pod(
        "probed",
        "  containers:
  - name: a
    image: BUSYBOX
    command: [sh, -c, 'touch /tmp/alive; sleep 1000']
    startupProbe: {exec: {command: [test, -e, /tmp/alive]}, periodSeconds: 1, timeoutSeconds: 10}
    livenessProbe: {exec: {command: [test, -e, /tmp/alive]}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 2}
    readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1, timeoutSeconds: 10}
",
    ))?;
    place.wait_for("pod/probed", "{.status.phase}", "Running")?;
    place.wait_for("pod/probed", "{.status.containerStatuses[0].started}", "true")?;
    let ready = "{.status.containerStatuses[0].ready}";
    place.wait_for("pod/probed", ready, "false")?;
    place.kubectl(&["exec", "probed", "--", "touch", "/tmp/ready"])?;
    place.wait_for("pod/probed", ready, "true")?;
    place.kubectl(&["exec", "probed", "--", "rm", "/tmp/alive"])?;
    wait::until("liveness restarts it", SOON, || {
        ensure!(restarts(place, "probed")? == 1);
        Ok(())
    })?;
    wait::until("the events say why", SOON, || {
        let events = place.kubectl(&["get", "events"])?;
        ensure!(
            events.contains("Unhealthy") && events.contains("failed liveness probe, will be restarted"),
            "{events}"
        );
        Ok(())
    })
}
