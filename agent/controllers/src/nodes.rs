//! Node lifecycle: a node that stopped renewing its lease becomes Unknown and is tainted, so that nothing is placed
//! there and what runs there moves on. Scope: cluster.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use skiff_reconcile::{BoxError, Caches, Changes, EventKind, Failures, Informer, Next, Reconciler, Recorder, Scope};

use crate::objects;

/// Upstream's node-monitor-grace-period.
const LEASE_AGE_MAX: Duration = Duration::from_secs(40);
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const OURS: &[&str] = &[NOT_READY, UNREACHABLE, UNSCHEDULABLE];

pub struct Controller {
    client: Client,
    recorder: Recorder,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    leases: Informer<Lease>,
    started: std::time::Instant,
}

impl Controller {
    pub fn new(client: Client, recorder: Recorder, caches: &Caches) -> Self {
        let started = std::time::Instant::now();
        Self { leases: caches.of(), nodes: caches.of(), pods: caches.of(), started, client, recorder }
    }

    pub fn wakes(&self) -> Vec<Changes> {
        vec![self.nodes.changes()]
    }

    async fn reconcile_one(&self, node: &Node) -> Result<(), BoxError> {
        let now = objects::now();
        // Leases do not survive a restart of a single box: give nodes time to renew before judging them.
        let silent = self.started.elapsed() > LEASE_AGE_MAX
            && self.leases.get(Some("kube-node-lease"), &node.name_any()).is_none_or(|l| is_stale(&l, now));
        if silent && ready_status(node) != Some("Unknown") {
            self.mark_unknown(node, now).await?;
            return Ok(());
        }
        let taints = taints(node, now);
        if node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default() != taints {
            let api: Api<Node> = Api::all(self.client.clone());
            let patch = json!({"metadata": {"resourceVersion": node.resource_version()}, "spec": {"taints": taints}});
            objects::settle(api.patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await)?;
        }
        self.evict(node, &taints, now).await
    }

    async fn mark_unknown(&self, node: &Node, now: Timestamp) -> Result<(), BoxError> {
        let mut conditions = node.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
        for condition in &mut conditions {
            condition.status = "Unknown".to_owned();
            condition.reason = Some("NodeStatusUnknown".to_owned());
            condition.message = Some("Kubelet stopped posting node status.".to_owned());
            condition.last_transition_time = Some(objects::time(now));
        }
        let api: Api<Node> = Api::all(self.client.clone());
        // A node that comes back meanwhile has the last word.
        let metadata = json!({"resourceVersion": node.resource_version()});
        let patch = Patch::Merge(json!({"metadata": metadata, "status": {"conditions": conditions}}));
        match api.patch_status(&node.name_any(), &PatchParams::default(), &patch).await {
            Err(error) if objects::is_outdated(&error) => return Ok(()),
            patched => drop(patched?),
        }
        let message = format!("Node {} status is now: NodeNotReady", node.name_any());
        self.recorder.event(&objects::reference(node), EventKind::Normal, "NodeNotReady", &message).await;
        Ok(())
    }

    /// Deletes pods that no longer tolerate the node's NoExecute taints, which say why they go.
    async fn evict(&self, node: &Node, taints: &[Taint], now: Timestamp) -> Result<(), BoxError> {
        let taints: Vec<&Taint> = taints.iter().filter(|t| t.effect == "NoExecute").collect();
        if taints.is_empty() {
            return Ok(());
        }
        let name = node.name_any();
        let here = |pod: &Arc<Pod>| pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(&name);
        for pod in self.pods.list().into_iter().filter(here).filter(|p| objects::is_active(p)) {
            if taints.iter().any(|taint| is_over(&pod, taint, now)) {
                let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
                let message =
                    format!("Marking for deletion Pod {}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
                let regarding = objects::reference(&*pod);
                self.recorder.event(&regarding, EventKind::Normal, "TaintManagerEviction", &message).await;
                let target = json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
                    "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": objects::time(now)});
                let metadata = json!({"uid": pod.uid()});
                let patch = Patch::Strategic(json!({"metadata": metadata, "status": {"conditions": [target]}}));
                let patched = api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await;
                objects::settle(patched)?;
                let preconditions = Some(Preconditions { uid: pod.uid(), resource_version: None });
                let params = DeleteParams { preconditions, ..DeleteParams::default() };
                objects::settle(api.delete(&pod.name_any(), &params).await)?;
            }
        }
        Ok(())
    }
}

fn is_stale(lease: &Lease, now: Timestamp) -> bool {
    let renewed = lease.spec.as_ref().and_then(|s| s.renew_time.as_ref()).map(|t| t.0);
    renewed.is_none_or(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default() > LEASE_AGE_MAX)
}

fn ready_condition(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == "Ready")
}

fn ready_status(node: &Node) -> Option<&str> {
    ready_condition(node).map(|c| c.status.as_str())
}

/// The taints the node should have: others' are kept.
fn taints(node: &Node, now: Timestamp) -> Vec<Taint> {
    let current = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    match ready_status(node) {
        Some("True") => {}
        Some("Unknown") => wanted.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        Some(_) | None => wanted.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
    }
    if node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let kept = current.iter().filter(|t| !OURS.contains(&t.key.as_str())).cloned();
    let ours = wanted.into_iter().map(|(key, effect)| {
        let existing = current.iter().find(|t| t.key == key && t.effect == effect).cloned();
        existing.unwrap_or_else(|| Taint {
            key: key.to_owned(),
            effect: effect.to_owned(),
            value: None,
            time_added: (effect == "NoExecute").then(|| objects::time(now)),
        })
    });
    kept.chain(ours).collect()
}

/// Whether the pod has had its time on a node with this taint.
fn is_over(pod: &Pod, taint: &Taint, now: Timestamp) -> bool {
    let tolerations = pod.spec.iter().flat_map(|s| s.tolerations.iter().flatten());
    let tolerated: Vec<_> = tolerations.filter(|t| crate::scheduler::tolerates(t, taint)).collect();
    if tolerated.is_empty() {
        return true;
    }
    let limits: Vec<i64> = tolerated.iter().filter_map(|t| t.toleration_seconds).collect();
    if limits.len() < tolerated.len() {
        return false;
    }
    let since = taint.time_added.as_ref().map_or(now, |t| t.0);
    let passed = now.duration_since(since).as_secs();
    limits.iter().min().is_some_and(|limit| passed >= *limit)
}

impl Reconciler for Controller {
    const NAME: &'static str = "node-lifecycle";
    const SCOPE: Scope = Scope::Cluster;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        self.nodes.synced().await;
        self.pods.synced().await;
        self.leases.synced().await;
        let mut failures = Failures::default();
        for node in self.nodes.list() {
            failures.keep(node.name_any(), self.reconcile_one(&node).await);
        }
        failures.into_result()?;
        Ok(Next::After(CHECK_INTERVAL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn a_pod_that_has_to_go_says_why() {
        let world = World::start().await;
        world.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
        let node = world.post("/api/v1/nodes", json!({"metadata": {"name": "gone"}})).await;
        let taint =
            |effect: &str| Taint { key: "a".to_owned(), effect: effect.to_owned(), value: None, time_added: None };
        let path = "/api/v1/namespaces/default/pods";
        let spec = json!({"nodeName": "gone", "containers": [{"name": "a", "image": "a"}]});
        let made = world.post(path, json!({"metadata": {"name": "p"}, "spec": spec})).await;
        let controller = Controller {
            client: world.client.clone(),
            recorder: Recorder::new(world.client.clone(), "node-controller", ""),
            nodes: Informer::fixed([]),
            pods: Informer::fixed([serde_json::from_value(made).expect("a Pod")]),
            leases: Informer::fixed([]),
            started: std::time::Instant::now(),
        };
        let node: Node = serde_json::from_value(node).expect("a Node");
        let pod = format!("{path}/p");
        controller.evict(&node, &[taint("NoSchedule")], objects::now()).await.expect("nothing to do");
        assert!(world.get(&pod).await["metadata"].get("deletionTimestamp").is_none());
        controller.evict(&node, &[taint("NoExecute")], objects::now()).await.expect("deleted");
        let found = world.get(&pod).await;
        assert!(found["metadata"]["deletionTimestamp"].is_string(), "{found}");
        let conditions = found["status"]["conditions"].as_array().expect("conditions");
        let target = conditions.iter().find(|condition| condition["type"] == "DisruptionTarget");
        assert_eq!(target.map(|target| &target["reason"]), Some(&json!("DeletionByTaintManager")));
    }
}
