//! Workers on the in-memory runtime and a small API.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use skiff_cri::{FakeRuntime, Runtime};
use skiff_object::quantity::Quantity;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::context::Context;
use crate::testing::{REFUSED_LABEL, TestApi, condition};
use crate::{Config, Node, Requirements};

mod failures;

struct Box {
    api: TestApi,
    runtime: FakeRuntime,
    dir: tempfile::TempDir,
    shutdown: CancellationToken,
    requirements: Requirements,
    labels: BTreeMap<String, String>,
}

impl Box {
    fn new() -> Self {
        Self::with(Requirements::default())
    }

    fn with(requirements: Requirements) -> Self {
        let test = Self::stopped(requirements, BTreeMap::new());
        test.start();
        test
    }

    fn stopped(requirements: Requirements, labels: BTreeMap<String, String>) -> Self {
        let runtime = FakeRuntime::default();
        runtime.add_image("img:1");
        Self {
            api: TestApi::default(),
            runtime,
            dir: tempfile::tempdir().unwrap(),
            shutdown: CancellationToken::new(),
            requirements,
            labels,
        }
    }

    fn start(&self) {
        tokio::spawn(self.node().run(self.shutdown.clone()));
    }

    fn node(&self) -> Node {
        let mut config = Config::new("box", self.dir.path());
        config.cgroup_parent = cgroup(&self.dir);
        config.requirements = self.requirements.clone();
        config.labels = self.labels.clone();
        config.node_ips = vec!["192.0.2.1".parse().unwrap()];
        let runtime: Arc<dyn Runtime> = Arc::new(self.runtime.clone());
        Node::build_with(Context::new(config, self.api.client(), runtime, Clock::tokio()), &self.shutdown)
    }

    fn calls(&self, call: &str) -> usize {
        self.runtime.calls().iter().filter(|made| *made == call).count()
    }
}

impl Drop for Box {
    fn drop(&mut self) {
        self.shutdown.cancel();
        let name = cgroup(&self.dir);
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            remove_tree(&hierarchy.path().join(name.trim_start_matches('/')));
        }
    }
}

fn cgroup(dir: &tempfile::TempDir) -> String {
    format!("/skiff-test-{}", dir.path().file_name().unwrap().to_string_lossy())
}

fn remove_tree(dir: &std::path::Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        remove_tree(&entry.path());
    }
    let _ = std::fs::remove_dir(dir);
}

fn one() -> Value {
    json!({"containers": [{"name": "app", "image": "img:1"}], "terminationGracePeriodSeconds": 1})
}

fn waiting_reason(pod: Option<&Value>) -> Option<&str> {
    pod?["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].as_str()
}

#[tokio::test]
async fn a_pod_runs_and_is_deleted() {
    let test = Box::new();
    let path = test.api.pod("web", one());
    let pod = test.api.wait_ready(&path).await;
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(pod["status"]["hostIP"], "192.0.2.1");
    assert!(pod["status"]["podIP"].as_str().unwrap().starts_with("10.0.0."));
    assert_eq!(pod["status"]["qosClass"], "BestEffort");
    test.api.delete(&path, 1);
    test.api.wait(&path, "never deleted", |pod| pod.is_none()).await;
    assert!(test.runtime.containers().is_empty());
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    assert!(!test.dir.path().join("pods").join(uid).exists());
    let events = test.api.events();
    for expected in
        ["Created: Created container: app", "Started: Started container app", "Killing: Stopping container app"]
    {
        assert!(events.iter().any(|event| event == expected), "{expected} in {events:#?}");
    }
}

#[tokio::test]
async fn a_node_whose_labels_are_refused_is_ready() {
    let test = Box::stopped(Requirements::default(), BTreeMap::from([(REFUSED_LABEL.to_owned(), String::new())]));
    let path = "/api/v1/nodes/box";
    test.api.put(path, json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "box"}}));
    test.start();
    test.api.wait(path, "node not ready", |node| condition(node, "Ready") == Some("True")).await;
}

#[tokio::test]
async fn the_node_registers_and_then_writes_nothing() {
    let test = Box::new();
    let path = "/api/v1/nodes/box";
    let node = test.api.wait(path, "node not ready", |node| condition(node, "Ready") == Some("True")).await.unwrap();
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/os"], "linux");
    assert_eq!(node["status"]["addresses"][0]["address"], "192.0.2.1");
    for (name, amount) in node["status"]["capacity"].as_object().unwrap() {
        let quantity: Quantity = amount.as_str().unwrap().parse().unwrap();
        assert!(!quantity.is_zero(), "{name}");
        assert_eq!(amount, &quantity.to_string(), "the API would write it differently");
    }
    let pod = test.api.pod("web", one());
    test.api.wait_ready(&pod).await;
    let before = test.api.writes();
    test.runtime.containers();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(test.api.writes(), before);
}

#[tokio::test]
async fn after_a_boot_the_node_is_not_ready_before_its_runtime() {
    let mut test = Box::new();
    let path = "/api/v1/nodes/box";
    let ready = |node: Option<&Value>| condition(node, "Ready") == Some("True");
    let mut node = test.api.wait(path, "node not ready", ready).await.unwrap();
    test.shutdown.cancel();
    test.shutdown = CancellationToken::new();
    test.node().begin_boot().await;
    assert!(ready(test.api.get(path).as_ref()), "the agent alone was restarted");

    node["status"]["nodeInfo"]["bootID"] = "another".into();
    test.api.put(path, node);
    let started = test.node();
    started.begin_boot().await;
    let node = test.api.get(path);
    assert_eq!(condition(node.as_ref(), "Ready"), Some("False"));
    assert_eq!(condition(node.as_ref(), "MemoryPressure"), Some("False"), "the others are as they were");
    tokio::spawn(started.run(test.shutdown.clone()));
    test.api.wait(path, "node not ready again", ready).await;
}

#[tokio::test]
async fn a_restarted_agent_leaves_containers_alone() {
    let mut test = Box::new();
    let ready = |node: Option<&Value>| condition(node, "Ready") == Some("True");
    test.api.wait("/api/v1/nodes/box", "node not ready", ready).await;
    let path = test.api.pod("web", one());
    test.api.wait_ready(&path).await;
    test.shutdown.cancel();
    test.shutdown = CancellationToken::new();
    let before = test.api.writes();
    test.start();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(test.calls("start app"), 1);
    assert_eq!(test.api.writes(), before);
    // It is still looked after.
    test.runtime.exit("app", 1);
    test.api
        .wait(&path, "never restarted", |pod| pod.unwrap()["status"]["containerStatuses"][0]["restartCount"] == 1)
        .await;
}

#[tokio::test]
async fn a_crashing_container_backs_off() {
    let test = Box::new();
    test.runtime.exit_at_start("app", 3);
    let path = test.api.pod("web", one());
    let pod = test.api.wait(&path, "no back-off", |pod| waiting_reason(pod) == Some("CrashLoopBackOff")).await.unwrap();
    let status = &pod["status"]["containerStatuses"][0];
    assert_eq!(status["restartCount"], 1);
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 3);
    assert!(
        test.api.events().iter().any(|event| event.starts_with("BackOff: Back-off restarting failed container app"))
    );
}

#[tokio::test]
async fn a_job_pod_ends() {
    let test = Box::new();
    test.runtime.exit_at_start("app", 0);
    let mut spec = one();
    spec["restartPolicy"] = json!("Never");
    let path = test.api.pod("job", spec);
    let done = |pod: Option<&Value>| pod.unwrap()["status"]["phase"] == "Succeeded";
    let pod = test.api.wait(&path, "never done", done).await.unwrap();
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
    assert_eq!(condition(Some(&pod), "Ready"), Some("False"));
}

#[tokio::test]
async fn init_containers_run_first() {
    let test = Box::new();
    test.runtime.exit_at_start("setup", 0);
    let mut spec = one();
    spec["initContainers"] = json!([{"name": "setup", "image": "img:1"}]);
    let path = test.api.pod("web", spec);
    test.api.wait_ready(&path).await;
    let starts: Vec<_> = test.runtime.calls().into_iter().filter(|call| call.starts_with("start")).collect();
    assert_eq!(starts, ["start setup", "start app"]);
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_told() {
    let test = Box::new();
    test.runtime.fail_pull("bad:1", "no such host");
    let path = test.api.pod("web", json!({"containers": [{"name": "app", "image": "bad:1"}]}));
    let told = |pod: Option<&Value>| matches!(waiting_reason(pod), Some("ErrImagePull" | "ImagePullBackOff"));
    test.api.wait(&path, "no error", told).await;
    assert!(test.api.events().iter().any(|event| event == "Failed: Error: ErrImagePull"));
    test.api.delete(&path, 1);
    test.api.wait(&path, "never deleted", |pod| pod.is_none()).await;
}

#[tokio::test]
async fn a_dead_sandbox_is_replaced() {
    let test = Box::new();
    let path = test.api.pod("web", one());
    test.api.wait_ready(&path).await;
    let sandboxes = test.runtime.list_pod_sandboxes(Default::default()).await.unwrap();
    test.runtime.kill_sandbox(&sandboxes[0].id);
    test.api.wait(&path, "never back", |pod| pod.unwrap()["status"]["containerStatuses"][0]["restartCount"] == 1).await;
    assert_eq!(test.calls("run sandbox"), 2);
}

#[tokio::test]
async fn what_the_api_does_not_know_is_removed() {
    let test = Box::new();
    let path = test.api.pod("web", one());
    test.api.wait_ready(&path).await;
    test.api.delete(&path, 0);
    while !test.runtime.containers().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_failing_liveness_probe_restarts_the_container() {
    let test = Box::new();
    test.runtime.on_exec(|_, _| skiff_cri::pb::ExecSyncResponse { exit_code: 1, ..Default::default() });
    let mut spec = one();
    spec["containers"][0]["livenessProbe"] = json!({"exec": {"command": ["x"]}, "failureThreshold": 1});
    let path = test.api.pod("web", spec);
    test.api
        .wait(&path, "never restarted", |pod| pod.unwrap()["status"]["containerStatuses"][0]["restartCount"] == 1)
        .await;
    let events = test.api.events();
    assert!(
        events.iter().any(|e| e == "Killing: Container app failed liveness probe, will be restarted"),
        "{events:#?}"
    );
}

#[tokio::test]
async fn missing_configuration_is_told_and_heals() {
    let test = Box::new();
    let mut spec = one();
    spec["containers"][0]["env"] = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]);
    let path = test.api.pod("web", spec);
    let pod = test.api.wait(&path, "no error", |pod| waiting_reason(pod) == Some("CreateContainerConfigError")).await;
    let message = &pod.unwrap()["status"]["containerStatuses"][0]["state"]["waiting"]["message"];
    assert_eq!(message, "configmap \"c\" not found");
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "v"}});
    test.api.put("/api/v1/namespaces/default/configmaps/c", map);
    test.api.wait_ready(&path).await;
    let env = &test.runtime.containers()[0].config.envs;
    assert!(env.iter().any(|var| var.key == "A" && var.value == "v"));
}

#[tokio::test]
async fn a_pod_whose_names_leave_their_directory_is_refused() {
    let test = Box::new();
    let mut spec = one();
    spec["volumes"] = json!([{"name": "../../escape", "emptyDir": {}}]);
    let path = test.api.pod("web", spec);
    let told =
        |events: &[String]| events.iter().any(|event| event.starts_with("FailedValidation: the pod's volume name"));
    while !told(&test.api.events()) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(test.runtime.calls().is_empty() && !test.dir.path().join("escape").exists());
    test.api.delete(&path, 1);
    test.api.wait(&path, "never deleted", |pod| pod.is_none()).await;
}

/// Everything below a directory, with its mode, except what is in volumes.
fn modes(dir: &std::path::Path, found: &mut Vec<(String, u32)>) {
    use std::os::unix::fs::PermissionsExt;
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let meta = std::fs::symlink_metadata(entry.path()).unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        if meta.is_dir() && !dir.ends_with("kubernetes.io~empty-dir") && !dir.ends_with("kubernetes.io~configmap") {
            found.push((name, meta.permissions().mode() & 0o777));
            modes(&entry.path(), found);
        } else if meta.is_file() {
            found.push((name, meta.permissions().mode() & 0o777));
        }
    }
}

#[tokio::test]
async fn nobody_else_may_look_into_what_is_written() {
    let test = Box::new();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "v"}});
    test.api.put("/api/v1/namespaces/default/configmaps/c", map);
    let mut spec = one();
    spec["volumes"] = json!([{"name": "empty", "emptyDir": {}}, {"name": "map", "configMap": {"name": "c"}}]);
    spec["containers"][0]["volumeMounts"] = json!([
        {"name": "empty", "mountPath": "/e"}, {"name": "map", "mountPath": "/m"},
    ]);
    let path = test.api.pod("web", spec);
    test.api.wait_ready(&path).await;
    let mut found = Vec::new();
    modes(test.dir.path(), &mut found);
    // What is mounted into containers is open there, below directories that are not.
    let mounted = |name: &str| name == "etc-hosts" || name.starts_with("termination-log");
    let open: Vec<_> = found.iter().filter(|(name, mode)| mode & 0o077 != 0 && !mounted(name)).collect();
    assert!(found.len() > 10 && open.is_empty(), "{open:?}");
    let mounts = &test.runtime.containers()[0].config.mounts;
    let readonly = |path: &str| mounts.iter().find(|mount| mount.container_path == path).unwrap().readonly;
    assert!(readonly("/m") && !readonly("/e"), "what the node writes is not the container's to change");
}

#[tokio::test]
async fn a_pod_costs_little_memory() {
    let test = Box::new();
    let config = Config::new("box", test.dir.path());
    let runtime: Arc<dyn Runtime> = Arc::new(test.runtime.clone());
    let context = Arc::new(Context::new(config, test.api.client(), runtime, Clock::Wall));
    let pod = super::worker::Desired::Pod(Arc::default());
    let (_sender, desired) = tokio::sync::watch::channel(pod);
    let worker = super::worker::Worker::new(context, Default::default(), desired, Default::default());
    let bytes = size_of_val(&worker.run());
    assert!(bytes < 40 << 10, "a worker's task has {bytes} bytes");
}
