//! The scheduler: gives each waiting pod a node that has room for it and that it tolerates. Scope: cluster.
//!
//! Writes bindings and the PodScheduled condition of pods that fit nowhere.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use skiff_reconcile::{BoxError, Caches, Changes, EventKind, Failures, Informer, Next, Reconciler, Recorder, Scope};

use crate::objects;

mod fit;
mod neighbours;
#[cfg(test)]
mod tests;

use fit::{Placed, Unfit, choose};
pub use fit::{matches_selection, tolerates};

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
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
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

    /// Says why, once for each reason.
    async fn refuse(&self, pod: &Pod, unfit: &Unfit) -> Result<(), BoxError> {
        let message = unfit.to_string();
        let known = pod
            .status
            .iter()
            .flat_map(|s| s.conditions.iter().flatten())
            .any(|c| c.type_ == "PodScheduled" && c.status == "False" && c.message.as_deref() == Some(&message));
        if known {
            return Ok(());
        }
        self.recorder.event(&objects::reference(pod), EventKind::Warning, "FailedScheduling", &message).await;
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
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
        let priority = |pod: &Pod| pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
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
                Err(unfit) => drop(failures.keep(pod.name_any(), self.refuse(&pod, &unfit).await)),
            }
        }
        failures.into_result()?;
        Ok(Next::Change)
    }
}
