//! The plan's laws: it reaches the wanted number, is empty there, and takes the pods that are missed least.

use proptest::prelude::*;
use serde_json::{Value, json};

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;
use skiff_reconcile::Wake;

use super::plan::{counts, plan};
use super::*;
use crate::testing::World;

fn set(replicas: usize) -> ReplicaSet {
    serde_json::from_value(json!({
        "metadata": {"name": "web-1", "namespace": "default", "uid": "set", "generation": 2},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a"}]}}},
    }))
    .expect("a ReplicaSet")
}

fn pod(name: &str, change: impl FnOnce(&mut Value)) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": {"app": "web"},
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "set",
                "controller": true}]},
        "spec": {"nodeName": "box", "containers": [{"name": "a"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True",
            "lastTransitionTime": "2026-01-01T00:00:10Z"}]},
    });
    change(&mut pod);
    Arc::new(serde_json::from_value(pod).expect("a Pod"))
}

fn names(pods: &[Arc<Pod>]) -> Vec<String> {
    pods.iter().map(|p| p.name_any()).collect()
}

#[test]
fn makes_what_is_missing_and_counts_what_is_not_seen_yet() {
    let pods = [pod("a", |_| {})];
    assert_eq!(plan(&set(3), &pods, 0, &HashSet::new(), objects::now()).create, 2);
    assert_eq!(plan(&set(3), &pods, 2, &HashSet::new(), objects::now()).create, 0);
}

#[test]
fn deletes_the_pods_that_are_missed_least() {
    let pods = [
        pod("ready", |_| {}),
        pod("unready", |p| p["status"]["conditions"][0]["status"] = json!("False")),
        pod("pending", |p| p["status"] = json!({"phase": "Pending"})),
        pod("unplaced", |p| {
            p["spec"] = json!({"containers": []});
            p["status"] = json!({"phase": "Pending"});
        }),
        pod("cheap", |p| p["metadata"]["annotations"] = json!({"controller.kubernetes.io/pod-deletion-cost": "-5"})),
    ];
    let plan = plan(&set(1), &pods, 0, &HashSet::new(), objects::now());
    assert_eq!(names(&plan.delete), ["unplaced", "pending", "unready", "cheap"]);
}

#[test]
fn a_pod_on_its_way_is_not_deleted_twice() {
    let pods = [pod("a", |_| {}), pod("b", |_| {})];
    let plan = plan(&set(1), &pods, 0, &HashSet::from(["uid-a"]), objects::now());
    assert!(plan.delete.is_empty());
}

#[test]
fn adopts_orphans_and_releases_what_no_longer_matches() {
    let pods = [
        pod("orphan", |p| p["metadata"]["ownerReferences"] = json!([])),
        pod("astray", |p| p["metadata"]["labels"] = json!({"app": "other"})),
    ];
    let plan = plan(&set(1), &pods, 0, &HashSet::new(), objects::now());
    assert_eq!(names(&plan.adopt), ["orphan"]);
    assert_eq!(names(&plan.release), ["astray"]);
    assert_eq!((plan.create, plan.delete.len()), (0, 0));
}

#[test]
fn the_status_counts_ready_and_available() {
    let pods = [pod("a", |_| {}), pod("b", |p| p["status"]["conditions"] = json!([]))];
    let set = set(2);
    let plan = plan(&set, &pods, 0, &HashSet::new(), objects::now());
    let status = set.new_status(counts(&set, &plan, objects::now()), None, objects::now());
    assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (2, Some(1), Some(1)));
    assert_eq!(status.observed_generation, Some(2));
}

proptest! {
    #[test]
    fn applying_the_plan_reaches_the_number(have in 0usize..20, wanted in 0usize..20) {
        let set = set(wanted);
        let mut pods: Vec<_> = (0..have).map(|n| pod(&format!("p{n}"), |_| {})).collect();
        let first = plan(&set, &pods, 0, &HashSet::new(), objects::now());
        let gone: Vec<_> = names(&first.delete);
        pods.retain(|p| !gone.contains(&p.name_any()));
        pods.extend((0..first.create).map(|n| pod(&format!("new{n}"), |_| {})));
        prop_assert_eq!(pods.len(), wanted);
        let second = plan(&set, &pods, 0, &HashSet::new(), objects::now());
        prop_assert_eq!((second.create, second.delete.len()), (0, 0));
    }
}

/// A world with a set of three, and a controller that is never shown a pod.
async fn blind_controller() -> (World, Controller<ReplicaSet>) {
    let world = World::start().await;
    let mut object = serde_json::to_value(set(3)).expect("JSON");
    object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("a");
    object["metadata"] = json!({"name": "web-1"});
    let made = world.post("/apis/apps/v1/namespaces/default/replicasets", object).await;
    let controller = Controller {
        client: world.client.clone(),
        recorder: Recorder::new(world.client.clone(), "replicaset-controller", ""),
        sets: Informer::fixed([serde_json::from_value(made).expect("a ReplicaSet")]),
        pods: Informer::fixed([]),
        expectations: Expectations::default(),
        refusals: HashMap::new(),
    };
    (world, controller)
}

async fn make_account(world: &World) {
    world.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
}

#[tokio::test]
async fn a_late_cache_makes_no_pod_twice() {
    let (world, mut controller) = blind_controller().await;
    make_account(&world).await;
    for _ in 0..3 {
        controller.reconcile().await.expect("no failure");
    }
    let pods = world.get("/api/v1/namespaces/default/pods").await;
    let pods = pods["items"].as_array().expect("a list");
    assert_eq!(pods.len(), 3);
    assert!(pods.iter().all(|pod| pod["metadata"]["ownerReferences"][0]["controller"] == true));
}

#[tokio::test]
async fn pods_that_are_refused_are_their_sets_own_trouble() {
    let (world, mut controller) = blind_controller().await;
    for _ in 0..3 {
        let next = controller.reconcile().await.expect("no failure of the controller's");
        assert!(matches!(next, Next::After(delay) if delay <= Refusal::DELAY_MAX), "{next:?}");
        let set = world.get("/apis/apps/v1/namespaces/default/replicasets/web-1").await;
        let condition = &set["status"]["conditions"][0];
        assert_eq!((&condition["type"], &condition["status"]), (&json!("ReplicaFailure"), &json!("True")));
        assert!(condition["message"].as_str().is_some_and(|why| why.contains("serviceaccount")), "{condition}");
    }
    make_account(&world).await;
    tokio::time::sleep(Refusal::DELAY_MIN * 4).await;
    controller.reconcile().await.expect("no failure");
    assert_eq!(world.get("/api/v1/namespaces/default/pods").await["items"].as_array().map(Vec::len), Some(3));
    assert!(controller.refusals.is_empty());
}

#[test]
fn a_failure_is_said_once_and_taken_back() {
    let controller: ReplicationController = serde_json::from_value(json!({"metadata": {"name": "a"}})).expect("one");
    let plan = plan(&controller, &[], 0, &HashSet::new(), objects::now());
    let status = |controller: &ReplicationController, why: Option<&str>| {
        let now = objects::now();
        controller.new_status(counts(controller, &plan, now), why.map(str::to_owned), now)
    };
    let failed = status(&controller, Some("no"));
    let condition = &failed.conditions.as_ref().expect("conditions")[0];
    assert_eq!((&*condition.type_, condition.message.as_deref()), ("ReplicaFailure", Some("no")));
    let controller = ReplicationController { status: Some(failed.clone()), ..controller };
    assert_eq!(status(&controller, Some("another reason")), failed);
    assert_eq!(status(&controller, None).conditions, None);
}

#[tokio::test]
async fn a_replication_controller_keeps_its_number_and_is_scaled() {
    let world = World::start().await;
    make_account(&world).await;
    let caches = Caches::new(world.client.clone(), world.shutdown.clone());
    let client = world.client_of("replication-controller");
    let recorder = Recorder::new(client.clone(), "replication-controller", "");
    let controller = Controller::<ReplicationController>::new(client, recorder, &caches);
    let wake = Wake::on(controller.wakes());
    world.drive(controller, wake);
    let path = "/api/v1/namespaces/default/replicationcontrollers";
    let template =
        json!({"metadata": {"labels": {"app": "old"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    world.post(path, json!({"metadata": {"name": "old"}, "spec": {"replicas": 2, "template": template}})).await;
    let path = format!("{path}/old");
    let counts =
        |count: i64| move |o: &Value| o["status"]["replicas"] == count && o["status"]["observedGeneration"].is_i64();
    world.until(&path, counts(2)).await;
    let pods = world.get("/api/v1/namespaces/default/pods").await;
    assert_eq!(pods["items"][0]["metadata"]["ownerReferences"][0]["kind"], "ReplicationController");
    let scale = world.get(&format!("{path}/scale")).await;
    assert_eq!((&scale["status"]["selector"], &scale["spec"]["replicas"]), (&json!("app=old"), &json!(2)));
    world.merge(&format!("{path}/scale"), json!({"spec": {"replicas": 1}})).await;
    let scaled = world.until(&path, counts(1)).await;
    assert_eq!(
        (&scaled["status"]["fullyLabeledReplicas"], &scaled["status"]["observedGeneration"]),
        (&json!(1), &json!(2))
    );
}
