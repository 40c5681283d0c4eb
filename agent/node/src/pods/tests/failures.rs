//! Each way in which a pod can fail to come up: how often it is tried in ten minutes, what is said, what it writes and
//! what it leaves behind. Time is paused, so that it passes at once.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Box, one, waiting_reason};
use crate::testing::condition;

/// At 0, 10, 30, 70, 150 and 310 s, and once more where the first try again is immediate, as after a crash.
const TRIES_MAX: usize = 7;
const TRIES_MIN: usize = 5;
const TEN_MINUTES: Duration = Duration::from_secs(600);

struct Outcome {
    test: Box,
    pod: Value,
    /// Writes of the pod's status in the ten minutes.
    writes: usize,
}

async fn ten_minutes(test: Box, spec: Value) -> Outcome {
    let path = test.api.pod("web", spec);
    tokio::time::sleep(TEN_MINUTES).await;
    let pod = test.api.get(&path).expect("the pod is there");
    let writes = test.api.writes().iter().filter(|write| write.contains("/pods/web")).count();
    Outcome { test, pod, writes }
}

impl Outcome {
    fn check(&self, call: &str, reason: &str) {
        let tries = self.test.calls(call);
        assert!((TRIES_MIN..=TRIES_MAX).contains(&tries), "{call}: {tries} tries");
        assert_eq!(waiting_reason(Some(&self.pod)), Some(reason), "{:#}", self.pod["status"]);
        assert!(self.writes <= tries + 2, "{} writes for {tries} tries", self.writes);
    }

    fn has_event(&self, start: &str) {
        let events = self.test.api.events();
        assert!(events.iter().any(|event| event.starts_with(start)), "{start} in {events:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_program_that_is_not_there() {
    let test = Box::new();
    test.runtime.fail_start("app", "exec: \"/nosuch\": stat /nosuch: no such file or directory");
    let path = test.api.pod("first", one());
    test.api.wait(&path, "not told", |pod| waiting_reason(pod) == Some("RunContainerError")).await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!((test.calls("start app"), waiting_reason(test.api.get(&path).as_ref())), (1, Some("RunContainerError")));
    test.api.delete(&path, 0);
    test.api.wait(&path, "never deleted", |pod| pod.is_none()).await;
    let outcome = ten_minutes(test, one()).await;
    outcome.check("start app", "CrashLoopBackOff");
    let status = &outcome.pod["status"]["containerStatuses"][0];
    let last = &status["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&json!(128), &json!("StartError")), "{status:#}");
    assert!(last["message"].as_str().unwrap().contains("/nosuch"));
    outcome.has_event("Failed: Error: ");
    outcome.has_event("BackOff: Back-off restarting failed container app in pod web_default(");
    assert!(outcome.test.runtime.containers().len() <= 4, "a few for their logs, and the newest");
}

#[tokio::test(start_paused = true)]
async fn a_program_that_is_not_there_and_does_not_come_back() {
    let test = Box::new();
    test.runtime.fail_start("app", "no such file");
    let mut spec = one();
    spec["restartPolicy"] = json!("Never");
    let outcome = ten_minutes(test, spec).await;
    assert_eq!(outcome.test.calls("start app"), 1);
    assert_eq!(outcome.pod["status"]["phase"], "Failed");
    let state = &outcome.pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&state["exitCode"], &state["reason"]), (&json!(128), &json!("StartError")));
}

#[tokio::test(start_paused = true)]
async fn a_start_that_was_cut_off_is_no_restart() {
    let test = Box::new();
    test.runtime.fail_start("app", "failed to create shim task: context canceled: unknown");
    let mut spec = one();
    spec["restartPolicy"] = json!("Never");
    let path = test.api.pod("web", spec);
    while test.calls("start app") == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    test.runtime.heal_start("app");
    let pod = test.api.wait_ready(&path).await;
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
    assert_eq!(test.runtime.containers().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_cannot_be_made() {
    let test = Box::new();
    test.runtime.fail_create("app", "invalid mount");
    let outcome = ten_minutes(test, one()).await;
    outcome.check("create app", "CreateContainerError");
    outcome.has_event("Failed: Error: rpc error: code = Unknown desc = invalid mount");
}

#[tokio::test(start_paused = true)]
async fn init_containers_and_sidecars_wait_as_well() {
    for restart in [None, Some("Always")] {
        let test = Box::new();
        test.runtime.fail_start("first", "no such file");
        let mut spec = one();
        spec["initContainers"] = json!([{"name": "first", "image": "img:1", "restartPolicy": restart}]);
        let outcome = ten_minutes(test, spec).await;
        let tries = outcome.test.calls("start first");
        assert!((TRIES_MIN..=TRIES_MAX).contains(&tries), "{tries} tries");
        assert_eq!(outcome.test.calls("create app"), 0);
        let init = &outcome.pod["status"]["initContainerStatuses"][0]["state"]["waiting"]["reason"];
        assert_eq!(init, "CrashLoopBackOff");
        assert_eq!(waiting_reason(Some(&outcome.pod)), Some("PodInitializing"));
        assert!(outcome.writes <= tries + 2, "{} writes", outcome.writes);
    }
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_not_there() {
    let test = Box::new();
    test.runtime.fail_pull("bad:1", "not found");
    let outcome = ten_minutes(test, json!({"containers": [{"name": "app", "image": "bad:1"}]})).await;
    outcome.check("pull bad:1", "ImagePullBackOff");
    outcome.has_event("Failed: Error: ErrImagePull");
    outcome.has_event("BackOff: Back-off pulling image \"bad:1\"");
    // Once it is there, the next try takes it.
    outcome.test.runtime.heal_pull("bad:1");
    tokio::time::sleep(Duration::from_secs(300)).await;
    let pod = outcome.test.api.get("/api/v1/namespaces/default/pods/web");
    assert_eq!(condition(pod.as_ref(), "Ready"), Some("True"));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_no_image() {
    let outcome = ten_minutes(Box::new(), json!({"containers": [{"name": "app", "image": "a//b:UP"}]})).await;
    assert_eq!(waiting_reason(Some(&outcome.pod)), Some("InvalidImageName"));
    assert!(!outcome.test.runtime.calls().iter().any(|call| call.starts_with("pull")));
    assert!(outcome.writes <= 3, "{} writes", outcome.writes);
    outcome.has_event("InspectFailed: Failed to apply default image tag");
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_cannot_be_made() {
    let test = Box::new();
    test.runtime.fail_sandboxes(Some("failed to find plugin \"bridge\""));
    let outcome = ten_minutes(test, one()).await;
    outcome.check("run sandbox", "ContainerCreating");
    assert_eq!(outcome.test.runtime.sandboxes(), 0, "what failed is removed");
    outcome.has_event("FailedCreatePodSandBox: Failed to create pod sandbox: rpc error: code = Unknown");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_lacks_something_says_so_and_goes_on_when_it_is_there() {
    let bin = tempfile::tempdir().unwrap();
    let plugin = bin.path().join("loopback");
    let requirements = crate::Requirements { cni_bin_dir: Some(bin.path().into()), ..Default::default() };
    let test = Box::with(requirements);
    let node = "/api/v1/nodes/box";
    let ready = |status: &'static str| move |node: Option<&Value>| condition(node, "Ready") == Some(status);
    let seen = test.api.wait(node, "never said", ready("False")).await.unwrap();
    let conditions = seen["status"]["conditions"].as_array().unwrap();
    let told = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap();
    assert_eq!(told["reason"], "KubeletNotReady");
    let message = told["message"].as_str().unwrap();
    assert!(
        message.contains("reason:NetworkPluginNotReady") && message.contains("install containernetworking-plugins")
    );
    let path = test.api.pod("web", one());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(test.calls("run sandbox"), 0);
    assert!(test.api.events().iter().any(|event| event.starts_with("NetworkNotReady: network is not ready: ")));

    std::fs::write(&plugin, "#!/bin/sh\necho '{\"supportedVersions\": []}'\n").unwrap();
    std::fs::set_permissions(&plugin, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    test.api.wait(node, "never ready", ready("True")).await;
    test.api.wait_ready(&path).await;
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_dies_again_and_again() {
    let test = Box::new();
    let path = test.api.pod("web", one());
    test.api.wait_ready(&path).await;
    let killer = test.runtime.clone();
    let killing = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            killer.kill_sandboxes();
        }
    });
    tokio::time::sleep(TEN_MINUTES).await;
    killing.abort();
    let tries = test.calls("run sandbox");
    assert!((TRIES_MIN..=TRIES_MAX + 1).contains(&tries), "{tries} tries");
    assert!(test.runtime.sandboxes() <= 3, "{} sandboxes", test.runtime.sandboxes());
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_cannot_be_mounted() {
    let mut spec = one();
    spec["volumes"] = json!([{"name": "data", "hostPath": {"path": "/nowhere/at/all", "type": "Directory"}}]);
    let outcome = ten_minutes(Box::new(), spec).await;
    assert_eq!(waiting_reason(Some(&outcome.pod)), Some("ContainerCreating"));
    assert_eq!(outcome.test.calls("run sandbox"), 0);
    assert!(outcome.writes <= 2, "{} writes", outcome.writes);
    outcome.has_event("FailedMount: MountVolume.SetUp failed for volume \"data\": hostPath type check failed");
    let counts = outcome.test.api.event_counts("FailedMount");
    assert!((TRIES_MIN..=TRIES_MAX).contains(&counts), "{counts} tries");
}

#[tokio::test(start_paused = true)]
async fn configuration_that_is_not_there_is_waited_for() {
    let mut spec = one();
    spec["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "c"}}]);
    spec["volumes"] = json!([{"name": "s", "secret": {"secretName": "s"}}]);
    let outcome = ten_minutes(Box::new(), spec).await;
    assert!(outcome.writes <= 2, "{} writes", outcome.writes);
    outcome.has_event("FailedMount: MountVolume.SetUp failed for volume \"s\": secret \"s\" not found");
    let api = &outcome.test.api;
    let object = |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
    // Both come long before their next try, and are taken at once.
    api.put("/api/v1/namespaces/default/secrets/s", object("Secret", "s"));
    let path = "/api/v1/namespaces/default/pods/web";
    api.wait(path, "secret not seen", |pod| waiting_reason(pod) == Some("CreateContainerConfigError")).await;
    tokio::time::sleep(TEN_MINUTES / 2).await;
    api.put("/api/v1/namespaces/default/configmaps/c", object("ConfigMap", "c"));
    api.wait_ready(path).await;
    crate::volumes::mounts::remove_all(outcome.test.dir.path()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_fails() {
    let test = Box::new();
    test.runtime.on_exec(|_, _| skiff_cri::pb::ExecSyncResponse { exit_code: 1, ..Default::default() });
    let mut spec = one();
    spec["containers"][0]["lifecycle"] = json!({"postStart": {"exec": {"command": ["x"]}}});
    let outcome = ten_minutes(test, spec).await;
    outcome.check("start app", "CrashLoopBackOff");
    outcome.has_event("FailedPostStartHook: PostStartHook failed");
}

#[tokio::test(start_paused = true)]
async fn a_restart_is_one_write() {
    let test = Box::new();
    test.runtime.exit_at_start("app", 3);
    let outcome = ten_minutes(test, one()).await;
    outcome.check("start app", "CrashLoopBackOff");
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_a_program_that_lives_for_a_moment_is_one_write() {
    let test = Box::new();
    let runtime = test.runtime.clone();
    let ending = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            runtime.exit("app", 3);
        }
    });
    let outcome = ten_minutes(test, one()).await;
    ending.abort();
    let tries = outcome.test.calls("start app");
    assert!((TRIES_MIN..=TRIES_MAX).contains(&tries), "{tries} tries");
    // The first start, the first run, and the first run again are told at once; then each restart once.
    assert!(outcome.writes <= tries + 3, "{} writes for {tries} starts", outcome.writes);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_kept() {
    let test = Box::new();
    let mut spec = one();
    spec["activeDeadlineSeconds"] = json!(3);
    let path = test.api.pod("web", spec);
    test.api.wait_ready(&path).await;
    tokio::time::sleep(Duration::from_millis(3500)).await;
    let pod = test.api.get(&path).unwrap();
    assert_eq!((&pod["status"]["phase"], &pod["status"]["reason"]), (&json!("Failed"), &json!("DeadlineExceeded")));
    assert_eq!(test.calls("stop app"), 1);
}
