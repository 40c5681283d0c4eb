//! Sets played through: each plan is applied to a model of pods that become ready one step later, and sometimes die.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use proptest::prelude::*;
use skiff_reconcile::Wake;

use super::*;
use crate::revisions::{Newest, POD_LABEL};
use crate::testing::World;

const SETS: &str = "/apis/apps/v1/namespaces/default/statefulsets";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "a", "image": image}]}})
}

fn set(spec: Value) -> StatefulSet {
    let mut set = json!({
        "metadata": {"name": "db", "namespace": "default", "uid": "set", "generation": 1},
        "spec": {"replicas": 3, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "template": template("a:1")}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        set["spec"][field] = value.clone();
    }
    serde_json::from_value(set).expect("a StatefulSet")
}

/// What a box would have.
struct Cluster {
    set: StatefulSet,
    revisions: Vec<Arc<ControllerRevision>>,
    pods: BTreeMap<String, Pod>,
    claims: BTreeMap<String, Arc<PersistentVolumeClaim>>,
    made: usize,
    /// Images whose containers do not start.
    broken: BTreeSet<String>,
}

impl Cluster {
    fn new(set: StatefulSet) -> Self {
        let (pods, claims) = (BTreeMap::new(), BTreeMap::new());
        Self { set, revisions: Vec::new(), pods, claims, made: 0, broken: BTreeSet::new() }
    }

    fn set_image(&mut self, image: &str) {
        self.set.spec.template = serde_json::from_value::<PodTemplateSpec>(template(image)).expect("a template");
    }

    fn update_revision(&mut self) -> Arc<ControllerRevision> {
        let revision = match revisions::newest(&self.set, &self.set.spec.template, &self.revisions, None) {
            Newest::Known(revision) => return revision,
            Newest::Renumber(revision, number) => {
                self.revisions.retain(|other| other.name_any() != revision.name_any());
                ControllerRevision { revision: Some(number), ..(*revision).clone() }
            }
            Newest::Make(revision) => *revision,
        };
        self.revisions.push(Arc::new(revision));
        self.revisions.last().cloned().expect("it was put there")
    }

    fn plan(&mut self) -> Plan {
        let update = self.update_revision();
        let name = self.set.status.as_ref().and_then(|status| status.current_revision.clone());
        let current = self.revisions.iter().find(|revision| Some(revision.name_any()) == name).cloned();
        let pods: Vec<_> = self.pods.values().cloned().map(Arc::new).collect();
        plan(&View {
            set: &self.set,
            pods: &pods,
            claims: &self.claims,
            current: current.as_ref().unwrap_or(&update),
            update: &update,
            collisions: None,
            now: objects::now(),
        })
    }

    /// One pass; returns what it did.
    fn step(&mut self) -> Vec<String> {
        let plan = self.plan();
        self.set.status = Some(plan.status);
        plan.actions.into_iter().map(|action| self.apply(action)).collect()
    }

    fn apply(&mut self, action: Action) -> String {
        match action {
            Action::Create { mut pod, claims } => {
                self.keep(claims);
                self.made += 1;
                pod.metadata.uid = Some(format!("uid-{}", self.made));
                pod.status = Some(serde_json::from_value(json!({"phase": "Pending"})).expect("a status"));
                let name = pod.name_any();
                assert!(self.pods.insert(name.clone(), *pod).is_none(), "{name} is there twice");
                format!("+{name}")
            }
            Action::Claim { claims, .. } => {
                self.keep(claims);
                "claims".to_owned()
            }
            Action::Delete(pod, why) => {
                self.pods.remove(&pod.name_any());
                format!("-{} {why:?}", pod.name_any())
            }
            Action::Name { pod, labels } => {
                let pod = self.pods.get_mut(&pod.name_any()).expect("it is there");
                pod.metadata.labels.get_or_insert_default().extend(labels);
                "named".to_owned()
            }
            Action::Own { claim, owners } => {
                let mut claim = (*claim).clone();
                let kinds: Vec<_> = owners.iter().map(|owner| owner.kind.clone()).collect();
                claim.metadata.owner_references = Some(owners);
                let said = format!("{} of {kinds:?}", claim.name_any());
                self.claims.insert(claim.name_any(), Arc::new(claim));
                said
            }
        }
    }

    fn keep(&mut self, claims: Vec<PersistentVolumeClaim>) {
        self.claims.extend(claims.into_iter().map(|claim| (claim.name_any(), Arc::new(claim))));
    }

    /// Time goes by: what can start has started.
    fn start_pods(&mut self) {
        for pod in self.pods.values_mut().filter(|pod| objects::phase(pod) == "Pending") {
            let image = pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone()).unwrap_or_default();
            pod.status = Some(if self.broken.contains(&image) { stuck() } else { ready() });
        }
    }

    fn settle(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..60 {
            let done = self.step();
            if done.is_empty()
                && self.pods.values().all(|pod| objects::phase(pod) != "Pending")
                && self.step().is_empty()
            {
                break;
            }
            all.extend(done);
            self.start_pods();
        }
        all
    }

    fn images(&self) -> Vec<String> {
        let image = |(name, pod): (&String, &Pod)| {
            let image = pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone());
            format!("{name} {}", image.unwrap_or_default())
        };
        self.pods.iter().map(image).collect()
    }
}

fn ready() -> k8s_openapi::api::core::v1::PodStatus {
    let condition = json!({"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    serde_json::from_value(json!({"phase": "Running", "conditions": [condition]})).expect("a status")
}

fn stuck() -> k8s_openapi::api::core::v1::PodStatus {
    let container = json!({"name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff"}}});
    serde_json::from_value(json!({"phase": "Pending", "containerStatuses": [container]})).expect("a status")
}

#[test]
fn pods_come_and_go_in_order() {
    let mut cluster = Cluster::new(set(json!({"ordinals": {"start": 5}})));
    assert_eq!(cluster.step(), ["+db-5"]);
    assert_eq!(cluster.step(), Vec::<String>::new(), "the first is not ready");
    assert_eq!(cluster.settle(), ["+db-6", "+db-7"]);
    cluster.set.spec.replicas = Some(1);
    assert_eq!(cluster.step(), ["-db-7 Surplus"]);
    assert_eq!(cluster.settle(), ["-db-6 Surplus"]);
    let mut parallel = Cluster::new(set(json!({"podManagementPolicy": "Parallel"})));
    assert_eq!(parallel.step(), ["+db-0", "+db-1", "+db-2"]);
    parallel.settle();
    parallel.set.spec.replicas = Some(0);
    assert_eq!(parallel.step(), ["-db-2 Surplus", "-db-1 Surplus", "-db-0 Surplus"]);
}

#[test]
fn a_number_of_pods_beyond_all_measure_is_planned_in_parts() {
    let mut cluster = Cluster::new(set(json!({"podManagementPolicy": "Parallel", "replicas": i32::MAX})));
    assert_eq!(cluster.plan().actions.len(), 100);
}

#[test]
fn a_template_rolls_from_the_largest_number_down() {
    let mut cluster = Cluster::new(set(json!({})));
    cluster.settle();
    let first = cluster.set.status.clone().and_then(|status| status.current_revision);
    cluster.set_image("a:2");
    assert_eq!(cluster.step(), ["-db-2 Outdated"]);
    let status = cluster.set.status.clone().expect("a status");
    assert_eq!((status.current_revision, status.current_replicas), (first.clone(), Some(3)));
    cluster.settle();
    assert_eq!(cluster.images(), ["db-0 a:2", "db-1 a:2", "db-2 a:2"]);
    let status = cluster.set.status.clone().expect("a status");
    assert_eq!((&status.current_revision, status.updated_replicas), (&status.update_revision, Some(3)));
    cluster.set_image("a:1");
    cluster.settle();
    assert_eq!(cluster.set.status.as_ref().and_then(|status| status.current_revision.clone()), first, "the same again");
    assert_eq!(cluster.revisions.len(), 2);
}

#[test]
fn strategies_hold_back() {
    let mut canary = Cluster::new(set(json!({})));
    canary.settle();
    canary.set.spec.update_strategy =
        serde_json::from_value(json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}})).ok();
    canary.set_image("a:2");
    canary.settle();
    assert_eq!(canary.images(), ["db-0 a:1", "db-1 a:1", "db-2 a:2"]);
    canary.pods.remove("db-0");
    canary.settle();
    assert_eq!(canary.images()[0], "db-0 a:1", "below the partition it comes back as it was");
    let mut by_hand = Cluster::new(set(json!({"updateStrategy": {"type": "OnDelete"}})));
    by_hand.settle();
    by_hand.set_image("a:2");
    assert_eq!(by_hand.settle(), Vec::<String>::new());
    by_hand.pods.remove("db-1");
    by_hand.settle();
    assert_eq!(by_hand.images(), ["db-0 a:1", "db-1 a:2", "db-2 a:1"]);
    let two = json!({"podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "50%"}}});
    let mut two = Cluster::new(set(two));
    two.settle();
    two.set_image("a:2");
    assert_eq!(two.step(), ["-db-2 Outdated", "-db-1 Outdated"], "half of three, rounded up");
}

#[test]
fn a_better_template_mends_what_does_not_start() {
    for policy in ["OrderedReady", "Parallel"] {
        let mut cluster = Cluster::new(set(json!({"podManagementPolicy": policy})));
        cluster.broken.insert("a:bad".to_owned());
        cluster.settle();
        cluster.set_image("a:bad");
        cluster.settle();
        assert_eq!(cluster.images(), ["db-0 a:1", "db-1 a:1", "db-2 a:bad"], "{policy}: it stops at the first");
        cluster.set_image("a:1");
        cluster.settle();
        assert_eq!(cluster.images(), ["db-0 a:1", "db-1 a:1", "db-2 a:1"], "{policy}");
        let mut new = Cluster::new(set(json!({"podManagementPolicy": policy, "template": template("a:bad")})));
        new.broken.insert("a:bad".to_owned());
        new.settle();
        new.set_image("a:2");
        new.settle();
        assert_eq!(new.images(), ["db-0 a:2", "db-1 a:2", "db-2 a:2"], "{policy}: also from the beginning");
    }
}

#[test]
fn pods_that_end_are_made_again() {
    let mut cluster = Cluster::new(set(json!({})));
    cluster.settle();
    for (phase, why) in [("Failed", "-db-1 Failed"), ("Succeeded", "-db-1 Succeeded")] {
        let status = serde_json::from_value(json!({"phase": phase})).expect("a status");
        cluster.pods.get_mut("db-1").expect("it is there").status = Some(status);
        assert_eq!(cluster.settle(), [why, "+db-1"]);
    }
    cluster.pods.get_mut("db-0").expect("it is there").metadata.labels.get_or_insert_default().clear();
    assert_eq!(cluster.step()[0], "named");
}

#[test]
fn a_ready_pod_counts_when_it_stayed_so() {
    let mut cluster = Cluster::new(set(json!({"minReadySeconds": 3600})));
    cluster.step();
    let mut status = ready();
    let conditions = status.conditions.as_mut().expect("conditions");
    conditions[0].last_transition_time = Some(objects::time(objects::now()));
    cluster.pods.get_mut("db-0").expect("it is there").status = Some(status);
    let plan = cluster.plan();
    assert!(plan.actions.is_empty());
    assert!(matches!(plan.next, Next::After(left) if left.as_secs() > 3500), "{:?}", plan.next);
    assert_eq!((plan.status.ready_replicas, plan.status.available_replicas), (Some(1), Some(0)));
}

fn with_claims(policy: Value) -> StatefulSet {
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}});
    set(json!({"volumeClaimTemplates": [claim], "persistentVolumeClaimRetentionPolicy": policy}))
}

#[test]
fn each_number_has_claims_of_its_own() {
    let mut cluster = Cluster::new(with_claims(Value::Null));
    cluster.settle();
    let names: Vec<_> = cluster.claims.keys().cloned().collect();
    assert_eq!(names, ["data-db-0", "data-db-1", "data-db-2"]);
    let pod = serde_json::to_value(&cluster.pods["db-1"]).expect("JSON");
    assert_eq!(pod["spec"]["volumes"], json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-1"}}]));
    assert_eq!((&pod["spec"]["hostname"], &pod["spec"]["subdomain"]), (&json!("db-1"), &json!("db")));
    assert_eq!(pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"], "1");
    cluster.set.spec.replicas = Some(2);
    cluster.settle();
    assert_eq!(cluster.claims.len(), 3, "claims stay");
    assert!(cluster.claims.values().all(|claim| claim.metadata.owner_references.is_none()));
}

#[test]
fn claims_go_with_whom_the_policy_says() {
    let mut cluster = Cluster::new(with_claims(json!({"whenDeleted": "Delete", "whenScaled": "Delete"})));
    cluster.settle();
    let owners = |cluster: &Cluster| -> Vec<String> {
        let of = |claim: &Arc<PersistentVolumeClaim>| {
            claim.metadata.owner_references.iter().flatten().map(|owner| owner.kind.clone()).collect::<String>()
        };
        cluster.claims.values().map(of).collect()
    };
    assert_eq!(owners(&cluster), ["StatefulSet", "StatefulSet", "StatefulSet"]);
    cluster.set.spec.replicas = Some(2);
    assert_eq!(cluster.step(), [r#"data-db-2 of ["Pod"]"#], "first whose the claim is");
    assert_eq!(cluster.settle(), ["-db-2 Surplus"]);
    cluster.set.spec.persistent_volume_claim_retention_policy = None;
    cluster.step();
    assert_eq!(owners(&cluster), ["", "", "Pod"]);
    // Its claim is on its way out: the pod waits for it to be gone.
    let mut going = (*cluster.claims["data-db-2"]).clone();
    going.metadata.deletion_timestamp = Some(objects::time(objects::now()));
    cluster.claims.insert("data-db-2".to_owned(), Arc::new(going));
    cluster.set.spec.replicas = Some(3);
    assert_eq!(cluster.settle(), Vec::<String>::new());
    cluster.claims.remove("data-db-2");
    assert_eq!(cluster.settle(), ["+db-2"]);
}

#[derive(Debug, Clone)]
enum Event {
    Step,
    Start,
    Kill(usize),
    Fail(usize),
    Scale(i32),
    Image(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Step),
        3 => Just(Event::Start),
        1 => (0usize..6).prop_map(Event::Kill),
        1 => (0usize..6).prop_map(Event::Fail),
        1 => (0i32..6).prop_map(Event::Scale),
        1 => (0usize..3).prop_map(Event::Image),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_it_ends_as_asked(
        events in proptest::collection::vec(event(), 0..60),
        policy in prop_oneof![Just("OrderedReady"), Just("Parallel")],
        unavailable in 1usize..3,
    ) {
        let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable}});
        let mut cluster = Cluster::new(set(json!({"podManagementPolicy": policy, "updateStrategy": rolling})));
        for event in events {
            let nth = |n: usize| cluster.pods.keys().nth(n).cloned();
            match event {
                Event::Step => {
                    let done = cluster.step();
                    let rolled = done.iter().filter(|what| what.ends_with("Outdated")).count();
                    prop_assert!(rolled <= unavailable, "{done:?}");
                }
                Event::Start => cluster.start_pods(),
                Event::Kill(n) => drop(nth(n).and_then(|name| cluster.pods.remove(&name))),
                Event::Fail(n) => {
                    if let Some(pod) = nth(n).and_then(|name| cluster.pods.get_mut(&name)) {
                        pod.status = serde_json::from_value(json!({"phase": "Failed"})).ok();
                    }
                }
                Event::Scale(replicas) => cluster.set.spec.replicas = Some(replicas),
                Event::Image(n) => cluster.set_image(&format!("a:{n}")),
            }
        }
        let image = cluster.set.spec.template.spec.as_ref().and_then(|spec| spec.containers[0].image.clone());
        cluster.settle();
        let replicas = cluster.set.spec.replicas.unwrap_or(0);
        let wanted: Vec<_> = (0..replicas).map(|n| format!("db-{n} {}", image.clone().unwrap_or_default())).collect();
        prop_assert_eq!(cluster.images(), wanted);
        prop_assert!(cluster.step().is_empty());
        let status = cluster.set.status.expect("a status");
        prop_assert_eq!(status.current_revision, status.update_revision);
    }
}

/// A world with a controller that is driven, and somebody who plays the node.
async fn world() -> World {
    let world = World::start().await;
    world.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    let caches = Caches::new(world.client.clone(), world.shutdown.clone());
    let recorder = Recorder::new(world.client.clone(), "statefulset-controller", "");
    let controller = Controller::new(world.client.clone(), recorder, &caches);
    let wake = Wake::on(controller.wakes());
    world.drive(controller, wake);
    world
}

async fn make_ready(world: &World, pod: &str) -> Value {
    let path = format!("{PODS}/{pod}");
    let made = world.until(&path, |pod| pod["status"]["phase"] == "Pending").await;
    let status = json!({"status": ready()});
    world.merge(&format!("{path}/status"), status).await;
    made
}

#[tokio::test]
async fn a_set_comes_up_rolls_and_goes_back() {
    let world = world().await;
    let spec = serde_json::to_value(set(json!({"replicas": 2})).spec).expect("JSON");
    world.post(SETS, json!({"metadata": {"name": "db"}, "spec": spec})).await;
    let first = make_ready(&world, "db-0").await;
    make_ready(&world, "db-1").await;
    let path = format!("{SETS}/db");
    let is_done = |set: &Value| {
        set["status"]["updatedReplicas"] == 2 && set["status"]["currentRevision"] == set["status"]["updateRevision"]
    };
    let set = world.until(&path, is_done).await;
    assert_eq!(set["status"]["currentRevision"], first["metadata"]["labels"][POD_LABEL]);
    world.merge(&path, json!({"spec": {"template": template("a:2")}})).await;
    for name in ["db-1", "db-0"] {
        let is_new = |pod: &Value| pod["spec"]["containers"][0]["image"] == "a:2";
        // A pod that runs nowhere is gone when it is deleted.
        world.until(&format!("{PODS}/{name}"), is_new).await;
        make_ready(&world, name).await;
    }
    let rolled = world.until(&path, is_done).await;
    assert_ne!(rolled["status"]["currentRevision"], set["status"]["currentRevision"]);
    let revisions = world.get("/apis/apps/v1/namespaces/default/controllerrevisions").await;
    let numbers: BTreeSet<i64> =
        revisions["items"].as_array().expect("a list").iter().filter_map(|one| one["revision"].as_i64()).collect();
    assert_eq!(numbers, BTreeSet::from([1, 2]));
    // As `kubectl rollout undo` does it.
    let old =
        revisions["items"].as_array().expect("a list").iter().find(|one| one["revision"] == 1).expect("the first");
    world.merge(&path, json!({"spec": {"template": template("a:1")}})).await;
    assert_eq!(old["data"]["spec"]["template"]["$patch"], "replace");
    let path = format!(
        "/apis/apps/v1/namespaces/default/controllerrevisions/{}",
        old["metadata"]["name"].as_str().expect("a name")
    );
    world.until(&path, |one| one["revision"] == 3).await;
}
