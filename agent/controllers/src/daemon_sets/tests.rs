//! Sets played through on a model of nodes and pods.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use skiff_reconcile::Wake;

use super::*;
use crate::testing::World;

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "log"}}, "spec": {"containers": [{"name": "a", "image": image}]}})
}

fn set(spec: Value) -> DaemonSet {
    let mut set = json!({
        "metadata": {"name": "log", "namespace": "default", "uid": "set", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "log"}}, "template": template("a:1"),
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        set["spec"][field] = value.clone();
    }
    serde_json::from_value(set).expect("a DaemonSet")
}

fn node(name: &str, taints: Value) -> Arc<Node> {
    let object =
        json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {"taints": taints}});
    Arc::new(serde_json::from_value(object).expect("a Node"))
}

struct Cluster {
    set: DaemonSet,
    nodes: Vec<Arc<Node>>,
    pods: BTreeMap<String, Pod>,
    revision: String,
    made: usize,
}

impl Cluster {
    fn new(set: DaemonSet, nodes: usize) -> Self {
        let nodes = (0..nodes).map(|n| node(&format!("n{n}"), json!([]))).collect();
        Self { set, nodes, pods: BTreeMap::new(), revision: "one".to_owned(), made: 0 }
    }

    fn plan(&self) -> Plan {
        let pods: Vec<_> = self.pods.values().cloned().map(Arc::new).collect();
        plan(&View {
            set: &self.set,
            nodes: &self.nodes,
            pods: &pods,
            revision: &self.revision,
            collisions: None,
            held: &HashMap::new(),
            expected: &HashSet::new(),
            leaving: &HashSet::new(),
            now: objects::now(),
        })
    }

    fn step(&mut self) -> Vec<String> {
        let plan = self.plan();
        let mut done = Vec::new();
        for (pod, why) in plan.delete {
            done.push(format!("-{} {why:?}", plan::node_of(&pod).unwrap_or_default()));
            self.pods.remove(&pod.name_any());
        }
        for node in plan.create {
            self.made += 1;
            let mut pod = pod(&self.set, &self.revision, &node);
            pod.metadata.name = Some(format!("log-{:04}", self.made));
            pod.metadata.uid = pod.metadata.name.clone();
            self.pods.insert(pod.name_any(), pod);
            done.push(format!("+{node}"));
        }
        self.set.status = Some(plan.status);
        done
    }

    fn start_pods(&mut self) {
        for pod in self.pods.values_mut().filter(|pod| pod.status.is_none()) {
            let condition = json!({"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
            let status = json!({"phase": "Running", "conditions": [condition]});
            pod.status = serde_json::from_value(status).ok();
        }
    }

    fn settle(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..40 {
            let done = self.step();
            let is_idle = done.is_empty() && self.pods.values().all(|pod| pod.status.is_some());
            all.extend(done);
            self.start_pods();
            if is_idle {
                break;
            }
        }
        all
    }

    /// Of which revision the pods of each node are.
    fn on_nodes(&self) -> Vec<String> {
        let mut all: Vec<String> = self
            .pods
            .values()
            .map(|pod| format!("{} {}", plan::node_of(pod).unwrap_or_default(), objects::labels(pod)[POD_LABEL]))
            .collect();
        all.sort();
        all
    }

    fn available(&self) -> usize {
        self.pods.values().filter(|pod| objects::is_ready(pod)).count()
    }
}

#[test]
fn each_node_has_one_that_may_be_there() {
    let mut cluster = Cluster::new(set(json!({})), 2);
    let taint = |effect: &str| json!([{"key": "odd", "effect": effect}]);
    let unready = json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]);
    cluster.nodes.push(node("tainted", taint("NoSchedule")));
    cluster.nodes.push(node("unready", unready));
    assert_eq!(cluster.settle(), ["+n0", "+n1", "+unready"]);
    let status = cluster.set.status.clone().expect("a status");
    assert_eq!(
        (
            status.desired_number_scheduled,
            status.number_ready,
            status.updated_number_scheduled,
            status.number_available
        ),
        (3, 3, Some(3), Some(3))
    );
    cluster.nodes[0] = node("n0", taint("NoSchedule"));
    assert_eq!(cluster.settle(), Vec::<String>::new(), "what is there stays");
    assert_eq!(cluster.set.status.as_ref().map(|status| status.number_misscheduled), Some(1));
    cluster.nodes[0] = node("n0", taint("NoExecute"));
    assert_eq!(cluster.settle(), ["-n0 Surplus"]);
    cluster.nodes.remove(1);
    assert_eq!(cluster.settle(), ["-n1 Surplus"], "the node is gone");
    cluster.set.spec.template.spec.get_or_insert_default().node_selector =
        Some([("kubernetes.io/hostname".to_owned(), "elsewhere".to_owned())].into());
    assert_eq!(cluster.settle(), ["-unready Surplus"]);
}

#[test]
fn pods_that_ended_and_doubles_go() {
    let mut cluster = Cluster::new(set(json!({})), 1);
    cluster.settle();
    let mut double = cluster.pods["log-0001"].clone();
    double.metadata.name = Some("log-9".to_owned());
    cluster.pods.insert("log-9".to_owned(), double);
    assert_eq!(cluster.step(), ["-n0 Surplus"]);
    let left: Vec<_> = cluster.pods.keys().cloned().collect();
    assert_eq!(left, ["log-0001"]);
    for (phase, why) in [("Failed", "-n0 Failed"), ("Succeeded", "-n0 Succeeded")] {
        let pod = cluster.pods.values_mut().next().expect("a pod");
        pod.status = serde_json::from_value(json!({"phase": phase})).ok();
        assert_eq!(cluster.settle(), [why, "+n0"]);
    }
}

#[test]
fn what_ends_again_and_again_is_given_time() {
    let mut cluster = Cluster::new(set(json!({})), 1);
    cluster.settle();
    let pod = cluster.pods.values_mut().next().expect("a pod");
    pod.status = serde_json::from_value(json!({"phase": "Failed"})).ok();
    let pods: Vec<_> = cluster.pods.values().cloned().map(Arc::new).collect();
    let held = HashMap::from([("n0".to_owned(), Duration::from_secs(7))]);
    let plan = plan(&View {
        set: &cluster.set,
        nodes: &cluster.nodes,
        pods: &pods,
        revision: "one",
        collisions: None,
        held: &held,
        expected: &HashSet::new(),
        leaving: &HashSet::new(),
        now: objects::now(),
    });
    assert_eq!((plan.create.len(), plan.delete.len(), plan.next), (0, 0, Next::After(Duration::from_secs(7))));
    let mut last = Ended::after(None);
    let delays: Vec<u64> = (0..12)
        .map(|_| {
            last = Ended::after(Some(&last));
            last.delay.as_secs()
        })
        .collect();
    assert_eq!((delays[0], delays[1], delays[11]), (2, 4, 900));
}

#[test]
fn what_is_not_seen_yet_is_not_done_twice() {
    let mut cluster = Cluster::new(set(json!({})), 2);
    let expected = HashSet::from(["n0".to_owned()]);
    let view = |pods: &[Arc<Pod>], leaving: &HashSet<&str>| {
        let plan = plan(&View {
            set: &cluster.set,
            nodes: &cluster.nodes,
            pods,
            revision: "two",
            collisions: None,
            held: &HashMap::new(),
            expected: &expected,
            leaving,
            now: objects::now(),
        });
        (plan.create, plan.delete.len())
    };
    assert_eq!(view(&[], &HashSet::new()), (vec!["n1".to_owned()], 0));
    cluster.settle();
    let pods: Vec<_> = cluster.pods.values().cloned().map(Arc::new).collect();
    let view = |leaving: &HashSet<&str>| {
        let plan = plan(&View {
            set: &cluster.set,
            nodes: &cluster.nodes,
            pods: &pods,
            revision: "two",
            collisions: None,
            held: &HashMap::new(),
            expected: &HashSet::new(),
            leaving,
            now: objects::now(),
        });
        plan.delete.len()
    };
    assert_eq!((view(&HashSet::new()), view(&HashSet::from(["log-0001"]))), (1, 0));
}

#[test]
fn templates_roll_node_by_node() {
    let mut cluster = Cluster::new(set(json!({})), 3);
    cluster.settle();
    cluster.revision = "two".to_owned();
    assert_eq!(cluster.step(), ["-n0 Outdated"]);
    assert_eq!(cluster.step(), ["+n0"]);
    assert_eq!(cluster.step(), Vec::<String>::new(), "the new one is not ready");
    cluster.settle();
    assert_eq!(cluster.on_nodes(), ["n0 two", "n1 two", "n2 two"]);
    let surge =
        json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "50%", "maxUnavailable": 0}}});
    let mut surging = Cluster::new(set(surge), 3);
    surging.settle();
    surging.revision = "two".to_owned();
    assert_eq!(surging.step(), ["+n0", "+n1"]);
    surging.start_pods();
    assert_eq!(surging.step(), ["-n0 Outdated", "-n1 Outdated", "+n2"], "while the old ones end");
    surging.settle();
    assert_eq!(surging.on_nodes(), ["n0 two", "n1 two", "n2 two"]);
    let mut by_hand = Cluster::new(set(json!({"updateStrategy": {"type": "OnDelete"}})), 2);
    by_hand.settle();
    by_hand.revision = "two".to_owned();
    assert_eq!(by_hand.settle(), Vec::<String>::new());
    by_hand.pods.pop_first();
    by_hand.settle();
    assert_eq!(by_hand.on_nodes(), ["n0 two", "n1 one"]);
}

#[test]
fn pods_put_up_with_their_node() {
    let pod = pod(&set(json!({})), "one", "n7");
    assert_eq!(plan::node_of(&pod), Some("n7"));
    let spec = serde_json::to_value(pod.spec).expect("JSON");
    let keys: Vec<_> = spec["tolerations"].as_array().expect("a list").iter().map(|one| one["key"].clone()).collect();
    assert_eq!(keys.len(), 6, "{keys:?}");
    assert!(keys.contains(&json!("node.kubernetes.io/unschedulable")));
}

proptest! {
    #[test]
    fn whatever_happens_it_ends_as_asked(
        nodes in 1usize..6,
        events in proptest::collection::vec((0usize..5, 0usize..6), 0..50),
        (surge, unavailable) in prop_oneof![(Just(0usize), 1usize..3), (1usize..3, Just(0usize))],
    ) {
        let limits = json!({"maxSurge": surge, "maxUnavailable": unavailable});
        let mut cluster = Cluster::new(set(json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": limits}})), nodes);
        for (what, nth) in events {
            let name = cluster.pods.keys().nth(nth).cloned();
            match what {
                0 => cluster.start_pods(),
                1 => drop(name.and_then(|name| cluster.pods.remove(&name))),
                2 => cluster.revision = format!("r{nth}"),
                3 => {
                    if let Some(pod) = name.and_then(|name| cluster.pods.get_mut(&name)) {
                        pod.status = serde_json::from_value(json!({"phase": "Failed"})).ok();
                    }
                }
                _ => {
                    let before = cluster.available();
                    let done = cluster.step();
                    let ended = done.iter().filter(|what| what.starts_with('-') && !what.ends_with("Failed")).count();
                    let lost = before - cluster.available();
                    prop_assert!(lost <= ended);
                    prop_assert!(surge > 0 || lost <= unavailable, "{done:?}");
                    prop_assert!(cluster.pods.len() <= 2 * nodes);
                }
            }
        }
        cluster.settle();
        let wanted: Vec<_> = (0..nodes).map(|n| format!("n{n} {}", cluster.revision)).collect();
        prop_assert_eq!(cluster.on_nodes(), wanted);
        prop_assert!(cluster.step().is_empty());
    }
}

#[tokio::test]
async fn a_set_follows_its_nodes_and_its_template() {
    const SETS: &str = "/apis/apps/v1/namespaces/default/daemonsets";
    const PODS: &str = "/api/v1/namespaces/default/pods";
    let world = World::start().await;
    world.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    let caches = Caches::new(world.client.clone(), world.shutdown.clone());
    let recorder = Recorder::new(world.client.clone(), "daemon-set-controller", "");
    let controller = Controller::new(world.client.clone(), recorder, &caches);
    let wake = Wake::on(controller.wakes());
    world.drive(controller, wake);
    let spec = serde_json::to_value(set(json!({})).spec).expect("JSON");
    world.post(SETS, json!({"metadata": {"name": "log"}, "spec": spec})).await;
    for name in ["n0", "n1"] {
        world.post("/api/v1/nodes", json!({"metadata": {"name": name}})).await;
    }
    let path = format!("{SETS}/log");
    world.until(&path, |set| set["status"]["desiredNumberScheduled"] == 2).await;
    let is_full = |list: &Value| list["items"].as_array().is_some_and(|all| all.len() == 2);
    let pods = world.until(PODS, is_full).await;
    for pod in pods["items"].as_array().expect("a list") {
        let condition = json!({"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let status = json!({"status": {"phase": "Running", "conditions": [condition]}});
        world.merge(&format!("{PODS}/{}/status", pod["metadata"]["name"].as_str().expect("a name")), status).await;
    }
    world.until(&path, |set| set["status"]["numberAvailable"] == 2).await;
    world.merge(&path, json!({"spec": {"template": template("a:2")}})).await;
    world.until(&path, |set| set["status"]["updatedNumberScheduled"] == 1).await;
    let pods = world.until(PODS, is_full).await;
    let images: HashSet<_> = pods["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|pod| pod["spec"]["containers"][0]["image"].clone())
        .collect();
    assert_eq!(images.len(), 2, "one after the other");
}
