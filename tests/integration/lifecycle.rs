//! Containers that end, are killed, wait for others, or fail their probes.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use skiff_tests::running_box::{Number, RunningBox};
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

/// Each of these was tried a hundred times in eight seconds.
pub fn what_cannot_start_backs_off(place: &Place<'_>) -> anyhow::Result<()> {
    place.apply(&pod("nosuch", "  containers:\n  - {name: a, image: BUSYBOX, command: [/nosuchcmd]}\n"))?;
    place.apply(&pod(
        "nosuchdir",
        "  containers:\n  - {name: a, image: BUSYBOX, command: [sh], workingDir: /bin/sh/x}\n",
    ))?;
    place.apply(&pod(
        "init",
        "  initContainers:\n  - {name: first, image: BUSYBOX, command: [/nosuchcmd]}\n  containers:\n  - {name: a, image: BUSYBOX}\n",
    ))?;
    place.apply(&pod("badname", "  containers:\n  - {name: a, image: 'Bad//Name'}\n"))?;
    place.apply(&pod(
        "never",
        "  restartPolicy: Never\n  containers:\n  - {name: a, image: BUSYBOX, command: [/nosuchcmd]}\n",
    ))?;
    let reason = "{.status.containerStatuses[0].state.waiting.reason}";
    place.wait_for("pod/nosuch", reason, "RunContainerError")?;
    let last = "{.status.containerStatuses[0].lastState.terminated.exitCode} {.status.containerStatuses[0].lastState.terminated.reason}";
    place.wait_for("pod/nosuch", last, "128 StartError")?;
    place.wait_for("pod/badname", "{.status.containerStatuses[0].state.waiting.reason}", "InvalidImageName")?;
    place.wait_for("pod/init", "{.status.containerStatuses[0].state.waiting.reason}", "PodInitializing")?;
    place.wait_for("pod/init", "{.status.initContainerStatuses[0].state.waiting.reason}", "RunContainerError")?;
    place.wait_for(
        "pod/never",
        "{.status.phase} {.status.containerStatuses[0].state.terminated.reason}",
        "Failed StartError",
    )?;
    place.wait_for("pod/nosuch", reason, "CrashLoopBackOff")?;
    for name in ["nosuch", "nosuchdir"] {
        let pod = place.json(&["get", "pod", name])?;
        ensure!(restarts(place, name)? <= 2, "{}", pod["status"]);
    }
    let events = place.kubectl(&["get", "events"])?;
    for part in ["Back-off restarting failed container a in pod nosuch", "nosuchcmd", "InspectFailed"] {
        ensure!(events.contains(part), "{part} is not in {events}");
    }
    Ok(())
}

/// The plugins go while pods run, come back, and are gone when the box is taken down.
pub fn a_box_without_network_plugins(place: &Place<'_>) -> anyhow::Result<()> {
    let plugins = tempfile::tempdir()?;
    let link = |name: &str| std::os::unix::fs::symlink(format!("/usr/lib/cni/{name}"), plugins.path().join(name));
    for name in ["bridge", "host-local", "loopback"] {
        link(name)?;
    }
    let mut running = RunningBox::prepare(&place.shared.binary, &place.shared.kubectl, Number(16))?;
    let file = running.data_dir().with_file_name("skiff.toml");
    let key = format!("[runtime]\ncni_bin_dir = {:?}\n", plugins.path());
    std::fs::write(&file, std::fs::read_to_string(&file)?.replace("[runtime]\n", &key))?;
    running.start_agent()?;
    running.wait_ready()?;
    let start = |name: &str| {
        let body =
            "  containers:\n  - {name: a, image: BUSYBOX, command: [sh, -c, 'trap exit TERM; sleep 100000 & wait']}\n";
        running.apply(&pod(name, body))
    };
    start("before")?;
    running.kubectl(&["wait", "--for=condition=Ready", "pod/before", &wait::kubectl_timeout(SOON)])?;
    let ready = "jsonpath={.status.conditions[?(@.type==\"Ready\")].message}";
    let node = running.node_name();

    std::fs::remove_file(plugins.path().join("loopback"))?;
    start("during")?;
    wait::until("the node says what it lacks", SOON, || {
        let told = running.kubectl(&["get", "node", &node, "-o", ready])?;
        ensure!(
            told.contains("NetworkPluginNotReady") && told.contains("install containernetworking-plugins"),
            "{told}"
        );
        Ok(())
    })?;
    wait::until("an event says it", SOON, || {
        let told = running.kubectl(&["describe", "node", &node])?;
        let line = told.lines().find(|line| line.contains("RequirementsMissing")).unwrap_or_default();
        ensure!(line.contains("Warning") && line.contains("NetworkPluginNotReady"), "{told}");
        Ok(())
    })?;
    wait::until("what failed is gone", SOON, || {
        let left = sandboxes(&running)?;
        ensure!(left <= 1, "{left} sandboxes");
        Ok(())
    })?;
    link("loopback")?;
    running.kubectl(&["wait", "--for=condition=Ready", "pod/during", &wait::kubectl_timeout(SOON)])?;

    for name in ["bridge", "loopback"] {
        std::fs::remove_file(plugins.path().join(name))?;
    }
    let down = running.skiff(&["down"])?;
    ensure!(down.ok && !down.stderr.contains("warning"), "{}{}", down.stdout, down.stderr);
    ensure!(down.stdout.contains("2 pods stopped"), "{}", down.stdout);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let dir = running.data_dir().to_string_lossy().into_owned();
    ensure!(!mounts.contains(&dir), "something is still mounted");
    Ok(())
}

/// containerd is gone, and so is the program: what it left running is found all the same.
pub fn a_box_whose_runtime_is_gone_is_taken_down(place: &Place<'_>) -> anyhow::Result<()> {
    let mut running = RunningBox::start(&place.shared.binary, &place.shared.kubectl, Number(17))?;
    let body = "  containers:\n  - {name: a, image: BUSYBOX, command: [sleep, '87654321']}\n";
    running.apply(&pod("left", body))?;
    running.kubectl(&["wait", "--for=condition=Ready", "pod/left", &wait::kubectl_timeout(SOON)])?;
    running.stop_agent()?;
    let pid = std::fs::read_to_string(running.data_dir().join("run/containerd/skiff-containerd.pid"))?;
    skiff_tests::command::run("kill", ["-9", pid.trim()])?;
    let file = running.data_dir().with_file_name("skiff.toml");
    let text =
        std::fs::read_to_string(&file)?.replace("[runtime]\n", "[runtime]\ncontainerd = \"/nowhere/containerd\"\n");
    std::fs::write(&file, &text)?;
    // What the agent keeps of its settings is what `down` reads.
    std::fs::write(running.data_dir().join("run/settings.toml"), &text)?;
    let down = running.skiff(&["down"])?;
    ensure!(down.ok && down.stderr.contains("warning: the container runtime"), "{}{}", down.stdout, down.stderr);
    wait::until("nothing of it runs", SOON, || {
        let all = skiff_tests::command::run("ps", ["-eo", "args"])?;
        let dir = running.data_dir().to_string_lossy().into_owned();
        let left: Vec<&str> = all.lines().filter(|line| line.contains("87654321") || line.contains(&dir)).collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mounts.contains(&*running.data_dir().to_string_lossy()), "something is still mounted");
    Ok(())
}

/// The runtime's containers without those that a pod's programs run in.
fn sandboxes(running: &RunningBox) -> anyhow::Result<usize> {
    let socket = running.data_dir().join("run/containerd/containerd.sock");
    let filter = "labels.\"io.cri-containerd.kind\"==sandbox";
    let arguments = ["--address", &socket.to_string_lossy(), "-n", "k8s.io", "containers", "list", "-q", filter];
    Ok(skiff_tests::command::run("ctr", arguments)?.lines().count())
}

pub fn deadlines_are_kept(place: &Place<'_>) -> anyhow::Result<()> {
    place.apply(&pod(
        "limited",
        "  activeDeadlineSeconds: 3\n  containers:\n  - {name: a, image: BUSYBOX, command: [sleep, '1000']}\n",
    ))?;
    let started = Instant::now();
    place.wait_for("pod/limited", "{.status.phase} {.status.reason}", "Failed DeadlineExceeded")?;
    place.wait_for("pod/limited", "{.status.containerStatuses[0].state.terminated.exitCode}", "137")?;
    let lived = started.elapsed();
    ensure!(lived < Duration::from_secs(12), "it took {lived:?}");
    Ok(())
}
