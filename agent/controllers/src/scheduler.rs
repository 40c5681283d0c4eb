//! The scheduler: gives each waiting pod a node that has room for it and that it tolerates, if need be by making room.
//! Scope: cluster.
//!
//! Writes bindings, and of pods that fit nowhere the PodScheduled condition and the node that is kept for them; deletes those
//! that make room.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use skiff_reconcile::{BoxError, Caches, Changes, EventKind, Failures, Informer, Next, Reconciler, Recorder, Scope};

use crate::objects;

mod fit;
mod neighbours;
mod preemption;
#[cfg(test)]
mod tests;

use fit::{Placed, Unfit, choose};
pub use fit::{matches_selection, tolerates};
use preemption::{Preemption, is_awaited, preempt, priority};

const NAME: &str = "default-scheduler";

pub struct Scheduler {
    client: Client,
    recorder: Recorder,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    namespaces: Informer<Namespace>,
    /// Bound by us, not yet seen bound: pod uid to node.
    assumed: HashMap<String, String>,
}

impl Scheduler {
    pub fn new(client: Client, recorder: Recorder, caches: &Caches) -> Self {
        let (pods, nodes, namespaces) = (caches.of(), caches.of(), caches.of());
        Self { client, recorder, pods, nodes, namespaces, assumed: HashMap::new() }
    }

    pub fn wakes(&self) -> Vec<Changes> {
        vec![self.pods.changes(), self.nodes.changes(), self.namespaces.changes()]
    }

    async fn bind(&mut self, pod: &Pod, node: &str) -> Result<bool, BoxError> {
        let api = self.api(pod);
        let name = pod.name_any();
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node}});
        let result: Result<serde_json::Value, _> =
            api.create_subresource("binding", &name, &PostParams::default(), &binding).await;
        match result {
            Ok(_) => {
                let message = format!("Successfully assigned {}/{name} to {node}", pod.namespace().unwrap_or_default());
                self.recorder.event(&objects::reference(pod), EventKind::Normal, "Scheduled", &message).await;
                Ok(true)
            }
            Err(error) if objects::is_outdated(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Where it fits nowhere: somebody less important makes room, or it waits. Returns the node that is kept for it.
    async fn make_room(&self, pod: &Arc<Pod>, unfit: &Unfit, placed: &Placed) -> Result<Option<String>, BoxError> {
        let nominated = pod.status.as_ref().and_then(|status| status.nominated_node_name.clone());
        let Some(Preemption { node, victims }) = preempt(pod, placed) else {
            if is_awaited(pod, placed) {
                self.refuse(pod, unfit.to_string()).await?;
                return Ok(nominated);
            }
            if nominated.is_some() {
                self.nominate(pod, None).await?;
            }
            self.refuse(pod, unfit.without_victims()).await?;
            return Ok(None);
        };
        if nominated.as_ref() != Some(&node) {
            self.nominate(pod, Some(&node)).await?;
        }
        for victim in &victims {
            self.evict(victim, pod, &node).await?;
        }
        self.refuse(pod, unfit.to_string()).await?;
        Ok(Some(node))
    }

    async fn nominate(&self, pod: &Pod, node: Option<&str>) -> Result<(), kube::Error> {
        let patch = Patch::Strategic(json!({"status": {"nominatedNodeName": node}}));
        objects::settle(self.api(pod).patch_status(&pod.name_any(), &PatchParams::default(), &patch).await)
    }

    async fn evict(&self, victim: &Pod, by: &Pod, node: &str) -> Result<(), BoxError> {
        if objects::is_deleted(victim) {
            return Ok(());
        }
        let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
            "message": format!("{NAME}: preempting to accommodate a higher priority pod"),
            "lastTransitionTime": objects::time(objects::now())});
        let patch = json!({"metadata": {"uid": victim.uid()}, "status": {"conditions": [condition]}});
        let api = self.api(victim);
        let params = PatchParams::default();
        objects::settle(api.patch_status(&victim.name_any(), &params, &Patch::Strategic(patch)).await)?;
        let preconditions = Some(Preconditions { uid: victim.uid(), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::background() };
        objects::settle(api.delete(&victim.name_any(), &params).await)?;
        let message = format!("Preempted by pod {} on node {node}", by.uid().unwrap_or_default());
        self.recorder.event(&objects::reference(victim), EventKind::Normal, "Preempted", &message).await;
        Ok(())
    }

    fn api(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default())
    }

    /// Says why, once for each reason.
    async fn refuse(&self, pod: &Pod, message: String) -> Result<(), BoxError> {
        let known = pod
            .status
            .iter()
            .flat_map(|s| s.conditions.iter().flatten())
            .any(|c| c.type_ == "PodScheduled" && c.status == "False" && c.message.as_deref() == Some(&message));
        if known {
            return Ok(());
        }
        self.recorder.event(&objects::reference(pod), EventKind::Warning, "FailedScheduling", &message).await;
        let api = self.api(pod);
        let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": message, "lastTransitionTime": objects::time(objects::now())});
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        Ok(objects::settle(api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await)?)
    }
}

fn waits(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let ours = spec.scheduler_name.as_deref().unwrap_or(NAME) == NAME;
    let gated = spec.scheduling_gates.as_ref().is_some_and(|g| !g.is_empty());
    ours && !gated && spec.node_name.is_none() && objects::is_active(pod)
}

impl Reconciler for Scheduler {
    const NAME: &'static str = "scheduler";
    const SCOPE: Scope = Scope::Cluster;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        self.pods.synced().await;
        self.nodes.synced().await;
        self.namespaces.synced().await;
        let pods = self.pods.list();
        let nodes = self.nodes.list();
        let seen: HashMap<String, &Arc<Pod>> = pods.iter().map(|p| (p.uid().unwrap_or_default(), p)).collect();
        let is_bound = |p: &Pod| p.spec.as_ref().is_some_and(|s| s.node_name.is_some());
        self.assumed.retain(|uid, _| seen.get(uid).is_some_and(|pod| !is_bound(pod)));
        let mut placed = Placed::new(&nodes, self.namespaces.list(), &pods, &self.assumed);
        let mut waiting: Vec<_> = pods
            .iter()
            .filter(|p| waits(p) && !self.assumed.contains_key(&p.uid().unwrap_or_default()))
            .cloned()
            .collect();
        waiting.sort_by_key(|p| (std::cmp::Reverse(priority(p)), p.creation_timestamp().map(|t| t.0), p.name_any()));
        let mut failures = Failures::default();
        for pod in waiting {
            match choose(&pod, &placed) {
                Ok(node) => {
                    if failures.keep(pod.name_any(), self.bind(&pod, &node).await) == Some(true) {
                        placed.add(&node, &pod);
                        self.assumed.insert(pod.uid().unwrap_or_default(), node);
                    }
                }
                Err(unfit) => {
                    let kept = failures.keep(pod.name_any(), self.make_room(&pod, &unfit, &placed).await);
                    // Nobody after it, who is no more important, takes that place.
                    if let Some(node) = kept.flatten() {
                        placed.add(&node, &pod);
                    }
                }
            }
        }
        failures.into_result()?;
        Ok(Next::Change)
    }
}
