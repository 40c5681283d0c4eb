//! One contract, checked on the in-memory runtime and on a real containerd of its own.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;

use crate::{Config, Containerd, Event, FakeRuntime, Runtime, Supervisor, files_archive, pb};

const IMAGE: &str = "localhost/busybox:1";
const WAIT: Duration = Duration::from_secs(20);

fn labels(uid: &str) -> HashMap<String, String> {
    HashMap::from([("io.kubernetes.pod.uid".to_owned(), uid.to_owned())])
}

fn sandbox_config(uid: &str, logs: &Path) -> pb::PodSandboxConfig {
    let namespaces = pb::NamespaceOption {
        // Of the host, as the contract must not depend on network plugins.
        network: pb::NamespaceMode::Node as i32,
        pid: pb::NamespaceMode::Container as i32,
        ..Default::default()
    };
    let metadata =
        pb::PodSandboxMetadata { name: "web".into(), uid: uid.into(), namespace: "default".into(), attempt: 0 };
    pb::PodSandboxConfig {
        metadata: Some(metadata),
        hostname: String::new(),
        log_directory: logs.to_string_lossy().into_owned(),
        labels: labels(uid),
        linux: Some(pb::LinuxPodSandboxConfig {
            cgroup_parent: "/skiff-cri-test".to_owned(),
            security_context: Some(pb::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn container_config(uid: &str, name: &str, command: &[&str]) -> pb::ContainerConfig {
    let namespaces = pb::NamespaceOption {
        network: pb::NamespaceMode::Node as i32,
        pid: pb::NamespaceMode::Container as i32,
        ..Default::default()
    };
    pb::ContainerConfig {
        metadata: Some(pb::ContainerMetadata { name: name.into(), attempt: 0 }),
        image: Some(pb::ImageSpec { image: IMAGE.into(), ..Default::default() }),
        command: command.iter().map(|part| (*part).to_owned()).collect(),
        labels: labels(uid),
        log_path: format!("{name}.log"),
        linux: Some(pb::LinuxContainerConfig {
            security_context: Some(pb::LinuxContainerSecurityContext {
                namespace_options: Some(namespaces),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn wait_for(events: &mut crate::EventStream, wanted: impl Fn(&Event) -> bool) -> Event {
    let found = async {
        loop {
            let event = events.next().await.expect("the stream never ends");
            if wanted(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(WAIT, found).await.expect("the event comes in time")
}

/// What every runtime must do. `end` makes the container named `short` exit with 3.
async fn contract(runtime: &dyn Runtime, logs: &Path, end: impl FnOnce()) {
    let uid = "5c8b6c4e-0000-4000-8000-000000000001";
    assert!(runtime.version().await.unwrap().runtime_api_version.starts_with("v1"));
    assert!(runtime.image_status("localhost/nothing:1").await.unwrap().is_none());
    assert!(runtime.image_status(IMAGE).await.unwrap().is_some());
    let mut events = runtime.events();
    wait_for(&mut events, |event| *event == Event::Lost).await;

    let config = sandbox_config(uid, logs);
    let sandbox = runtime.run_pod_sandbox(config.clone()).await.unwrap();
    let status = runtime.pod_sandbox_status(&sandbox).await.unwrap();
    assert_eq!(status.state(), pb::PodSandboxState::Ready);
    assert!(runtime.pod_sandbox_pid(&sandbox).await.unwrap() > 1);
    assert_eq!(runtime.list_pod_sandboxes(labels(uid)).await.unwrap().len(), 1);
    assert!(runtime.list_pod_sandboxes(labels("other")).await.unwrap().is_empty());

    let long = container_config(uid, "long", &["/bin/busybox", "sleep", "600"]);
    let long = runtime.create_container(&sandbox, long, config.clone()).await.unwrap();
    assert_eq!(runtime.container_status(&long).await.unwrap().state(), pb::ContainerState::Created);
    runtime.start_container(&long).await.unwrap();
    wait_for(&mut events, |event| *event == Event::Started { id: long.clone() }).await;
    let status = runtime.container_status(&long).await.unwrap();
    assert_eq!(status.state(), pb::ContainerState::Running);
    assert!(status.started_at > 0 && status.finished_at == 0);
    assert!(runtime.start_container(&long).await.is_err());
    let echo = vec!["/bin/busybox".into(), "echo".into(), "hi".into()];
    assert_eq!(runtime.exec_sync(&long, echo, WAIT).await.unwrap().exit_code, 0);

    let short = container_config(uid, "short", &["/bin/busybox", "sh", "-c", "echo bye; exit 3"]);
    let short = runtime.create_container(&sandbox, short, config.clone()).await.unwrap();
    runtime.start_container(&short).await.unwrap();
    end();
    wait_for(&mut events, |event| *event == Event::Exited { id: short.clone(), exit_code: 3 }).await;
    let status = exited(runtime, &short).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
    // containerd notes the start after the fact, so that a short program may end "before" it.
    assert!(status.finished_at > 0);

    runtime.stop_container(&long, Duration::from_secs(1)).await.unwrap();
    assert_eq!(exited(runtime, &long).await.state(), pb::ContainerState::Exited);
    assert_eq!(runtime.list_containers(labels(uid)).await.unwrap().len(), 2);
    runtime.remove_container(&short).await.unwrap();
    runtime.remove_container(&short).await.unwrap();
    assert!(runtime.container_status(&short).await.is_err());
    runtime.stop_pod_sandbox(&sandbox).await.unwrap();
    assert_eq!(runtime.pod_sandbox_status(&sandbox).await.unwrap().state(), pb::PodSandboxState::NotReady);
    runtime.remove_pod_sandbox(&sandbox).await.unwrap();
    assert!(runtime.list_containers(labels(uid)).await.unwrap().is_empty());
    runtime.stop_pod_sandbox(&sandbox).await.unwrap();
    runtime.remove_image(IMAGE).await.unwrap();
    assert!(runtime.image_status(IMAGE).await.unwrap().is_none());
}

/// The event comes from the shim, the state from the runtime a moment later.
async fn exited(runtime: &dyn Runtime, id: &str) -> pb::ContainerStatus {
    let ended = async {
        loop {
            let status = runtime.container_status(id).await.unwrap();
            if status.state() == pb::ContainerState::Exited {
                return status;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT, ended).await.expect("the container ends in time")
}

/// The process is there, and the container's record knows nothing of it.
async fn a_start_that_was_cut_off_is_removed(client: &Containerd, config: &Config, logs: &Path) {
    let uid = "5c8b6c4e-0000-4000-8000-000000000002";
    let pod = sandbox_config(uid, logs);
    let sandbox = client.run_pod_sandbox(pod.clone()).await.unwrap();
    let left = container_config(uid, "left", &["/bin/busybox", "sleep", "600"]);
    let left = client.create_container(&sandbox, left, pod).await.unwrap();
    let start = ["-n", "k8s.io", "tasks", "start", "--detach", left.as_str()];
    let mut ctr = tokio::process::Command::new(&config.ctr);
    assert!(ctr.arg("--address").arg(&config.socket).args(start).status().await.unwrap().success());
    assert_eq!(client.container_status(&left).await.unwrap().state(), pb::ContainerState::Created);
    client.stop_pod_sandbox(&sandbox).await.unwrap();
    client.remove_container(&left).await.unwrap();
    client.remove_pod_sandbox(&sandbox).await.unwrap();
    assert!(client.list_containers(labels(uid)).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    let fake = FakeRuntime::default();
    fake.add_image(IMAGE);
    contract(&fake, Path::new("/nowhere"), || fake.exit("short", 3)).await;
}

#[tokio::test]
async fn containerd_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::under(&dir.path().join("data"), &dir.path().join("run"));
    let supervisor = Supervisor::start(config.clone(), None).await.unwrap();
    let client = supervisor.client();
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let archive = dir.path().join("busybox.tar");
    std::fs::write(&archive, files_archive(IMAGE, &[("bin/busybox", 0o755, &busybox)], r#"["/bin/busybox"]"#)).unwrap();
    client.import_images(&archive).await.unwrap();
    while client.image_status(IMAGE).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    let logs = dir.path().join("logs");
    std::fs::create_dir_all(&logs).unwrap();

    // A second supervisor, as after an agent's restart, finds the same process.
    let pid = std::fs::read_to_string(config.state.join("skiff-containerd.pid")).unwrap();
    supervisor.release().await;
    let supervisor = Supervisor::start(config.clone(), None).await.unwrap();
    assert_eq!(std::fs::read_to_string(config.state.join("skiff-containerd.pid")).unwrap(), pid);

    a_start_that_was_cut_off_is_removed(&supervisor.client(), &config, &logs).await;
    contract(&supervisor.client(), &logs, || ()).await;
    assert!(std::fs::read_to_string(logs.join("short.log")).unwrap().contains("stdout F bye"));
    let client = supervisor.client();
    supervisor.stop().await.unwrap();
    assert!(client.version().await.is_err());
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _ = std::fs::remove_dir(hierarchy.path().join("skiff-cri-test"));
    }
}
