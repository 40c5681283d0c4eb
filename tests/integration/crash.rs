//! The agent is killed, the database is damaged: nothing acknowledged is lost, nothing that runs is touched.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use skiff_tests::running_box::{Number, RunningBox};
use skiff_tests::wait;

use crate::{Place, SOON, image};

const KILLS: usize = 50;
/// From the restart to Ready.
const READY_MAX: Duration = Duration::from_secs(5);

/// Containers by pod, as the API shows them.
fn containers(running: &RunningBox, label: &str) -> anyhow::Result<BTreeMap<String, (String, u64)>> {
    let pods = running.json(&["get", "pods", "-l", label])?;
    let pods = pods["items"].as_array().context("items")?;
    Ok(pods
        .iter()
        .map(|pod| {
            let status = &pod["status"]["containerStatuses"][0];
            let id = status["containerID"].as_str().unwrap_or_default().to_owned();
            let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            (name, (id, status["restartCount"].as_u64().unwrap_or(99)))
        })
        .collect())
}

/// Kills the agent during writes and rollouts. What `kubectl` was told was created has to be there; a steady
/// Deployment has to keep its very containers.
pub fn kill_the_agent_again_and_again(place: &Place<'_>) -> anyhow::Result<()> {
    let mut running = RunningBox::start(&place.shared.binary, &place.shared.kubectl, Number(2))?;
    let busybox = image("busybox:1");
    for (name, replicas) in [("steady", "3"), ("rolling", "2")] {
        let image = format!("--image={busybox}");
        running.kubectl(&[
            "create",
            "deployment",
            name,
            &image,
            &format!("--replicas={replicas}"),
            "--",
            "sh",
            "-c",
            "trap exit TERM; sleep 100000 & wait",
        ])?;
        running.kubectl(&["rollout", "status", &format!("deployment/{name}"), "--timeout=60s"])?;
    }
    let before = containers(&running, "app=steady")?;
    ensure!(before.len() == 3, "{before:?}");

    let (stop, acknowledged) = (AtomicBool::new(false), AtomicUsize::new(0));
    let kubeconfig = running.kubeconfig();
    let mut slowest = Duration::ZERO;
    let names = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut names = Vec::new();
            for n in 0.. {
                if stop.load(Ordering::SeqCst) {
                    return names;
                }
                let name = format!("written-{n}");
                let mut command = std::process::Command::new(&place.shared.kubectl);
                command.arg("--kubeconfig").arg(&kubeconfig);
                command.args(["create", "configmap", &name, "--from-literal=a=b", "--request-timeout=5s"]);
                if skiff_tests::command::output(command).is_ok_and(|done| done.ok) {
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                    names.push(name);
                }
            }
            names
        });
        let result = (0..KILLS).try_for_each(|n| {
            if n % 5 == 0 {
                let _ = running.try_kubectl(&["rollout", "restart", "deployment/rolling"]);
            }
            // At any moment: spread over the start, the writes and the rollout.
            std::thread::sleep(Duration::from_millis(37 * (n as u64 % 11)));
            running.kill_agent()?;
            let started = Instant::now();
            running.start_agent()?;
            if n % 3 != 0 {
                running.wait_ready()?;
                slowest = slowest.max(started.elapsed());
            }
            Ok::<(), anyhow::Error>(())
        });
        stop.store(true, Ordering::SeqCst);
        let names = writer.join().expect("the writer");
        result.map(|()| names)
    })?;
    running.wait_ready()?;
    println!(
        "       {KILLS} kills, {} acknowledged writes, Ready again within {:.2} s",
        names.len(),
        slowest.as_secs_f32()
    );
    ensure!(names.len() > 10, "only {} writes were acknowledged", names.len());
    let there = running.kubectl(&["get", "configmaps", "-o", "name"])?;
    let lost: Vec<_> = names.iter().filter(|name| !there.contains(&format!("configmap/{name}\n"))).collect();
    ensure!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    ensure!(slowest < READY_MAX, "the node was Ready only after {slowest:?}");
    let after = containers(&running, "app=steady")?;
    ensure!(before == after, "containers were restarted: {before:?} {after:?}");
    running.kubectl(&["rollout", "status", "deployment/rolling", "--timeout=60s"])?;
    wait::until("the rollout has settled", SOON, || {
        let rolling = containers(&running, "app=rolling")?;
        ensure!(rolling.len() == 2 && rolling.values().all(|(_, restarts)| *restarts == 0), "{rolling:?}");
        Ok(())
    })?;

    // A polite stop leaves the pods running too.
    running.stop_agent()?;
    running.start_agent()?;
    running.wait_ready()?;
    ensure!(containers(&running, "app=steady")? == after);
    Ok(())
}

pub fn a_damaged_database_is_named_and_restored(place: &Place<'_>) -> anyhow::Result<()> {
    let mut running = RunningBox::prepare(&place.shared.binary, &place.shared.kubectl, Number(3))?;
    let store = running.data_dir().join("store");
    running.start_agent()?;
    running.wait_api()?;
    running.kubectl(&["create", "configmap", "kept", "--from-literal=needle=haystackhaystack"])?;
    running.stop_agent()?;
    // Each start that finds something new keeps a copy.
    running.start_agent()?;
    running.wait_ready()?;
    wait::until("a snapshot is there", SOON, || {
        ensure!(std::fs::read_dir(store.join("snapshots"))?.count() > 0);
        Ok(())
    })?;
    running.stop_agent()?;
    let database = store.join("state.db");
    let mut bytes = std::fs::read(&database)?;
    let at = bytes.windows(8).position(|w| w == b"haystack").context("the value is in the database")?;
    bytes[at] ^= 1;
    std::fs::write(&database, &bytes)?;

    let settings = running.data_dir().with_file_name("skiff.toml");
    let refused = running.skiff(&["up", "--config", &settings.to_string_lossy()])?;
    ensure!(!refused.ok && refused.stderr.contains("is damaged"), "{}", refused.stderr);
    ensure!(refused.stderr.contains("--restore-snapshot") && refused.stderr.contains("/kept"), "{}", refused.stderr);
    let log = std::fs::File::create(running.log_file())?;
    let mut restored = std::process::Command::new(&place.shared.binary)
        .args(["up", "--restore-snapshot", "--config"])
        .arg(&settings)
        .arg("--data-dir")
        .arg(running.data_dir())
        .stderr(log)
        .spawn()?;
    let found = wait::until("the restored box answers", SOON, || running.kubectl(&["get", "configmap", "kept"]));
    skiff_tests::command::run("kill", ["-TERM", &restored.id().to_string()])?;
    restored.wait()?;
    found.map(drop)
}
