//! Ranges of pod addresses: each node gets a part of the cluster's, the lowest that is free. Scope: cluster.
//!
//! Writes `spec.podCIDR` and `spec.podCIDRs` of nodes that have none; one that has its own keeps it. What is taken is what
//! Nodes say, so that a node that goes gives its range back.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::Node;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use skiff_reconcile::{BoxError, Caches, Changes, EventKind, Failures, Informer, Next, Reconciler, Recorder, Scope};

use crate::objects;

mod plan;
#[cfg(test)]
mod tests;

pub use plan::{NodeRanges, NodeRangesError};

pub struct Controller {
    client: Client,
    recorder: Recorder,
    ranges: NodeRanges,
    nodes: Informer<Node>,
    /// Nodes that were told that there is no range for them.
    refused: HashSet<String>,
}

impl Controller {
    pub fn new(client: Client, recorder: Recorder, ranges: NodeRanges, caches: &Caches) -> Self {
        Self { client, recorder, ranges, nodes: caches.of(), refused: HashSet::new() }
    }

    pub fn wakes(&self) -> Vec<Changes> {
        vec![self.nodes.changes()]
    }

    /// Written only over the Node that was read: one that got a range meanwhile keeps it.
    async fn assign(&self, node: &Node, range: &str) -> Result<(), kube::Error> {
        let api: Api<Node> = Api::all(self.client.clone());
        let metadata = json!({"uid": node.uid(), "resourceVersion": node.resource_version()});
        let patch = json!({"metadata": metadata, "spec": {"podCIDR": range, "podCIDRs": [range]}});
        objects::settle(api.patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await)
    }

    /// Says once that there is no range left.
    async fn refuse(&mut self, node: &Node) {
        if self.refused.insert(node.uid().unwrap_or_default()) {
            tracing::error!(node = node.name_any(), "no range of pod addresses is left: make the cluster's larger");
            let message = format!("Node {} status is now: CIDRNotAvailable", node.name_any());
            let regarding = objects::reference(node);
            self.recorder.event(&regarding, EventKind::Normal, "CIDRNotAvailable", &message).await;
        }
    }
}

impl Reconciler for Controller {
    const NAME: &'static str = "node-ranges";
    const SCOPE: Scope = Scope::Cluster;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        self.nodes.synced().await;
        if !self.nodes.list().iter().any(|node| plan::waits(node)) {
            return Ok(Next::Change);
        }
        // The cache may be late, and a range must not be given twice.
        let nodes = Api::<Node>::all(self.client.clone()).list(&ListParams::default()).await?.items;
        self.refused.retain(|uid| nodes.iter().any(|node| node.metadata.uid.as_ref() == Some(uid)));
        let mut failures = Failures::default();
        for (node, range) in plan::plan(&self.ranges, &nodes) {
            match range {
                Some(range) => drop(failures.keep(node.name_any(), self.assign(node, &range).await)),
                None => self.refuse(node).await,
            }
        }
        failures.into_result()?;
        Ok(Next::Change)
    }
}
