//! Pods that nobody else removes: those of nodes that are gone, those that ended long ago, and those that are to go and
//! were never placed. Scope: cluster.
//!
//! Writes the phase and the DisruptionTarget condition of pods it removes, as upstream's pod garbage collector.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use skiff_reconcile::{BoxError, Changes, Failures, Informer, Next, Reconciler, Scope};
use tokio::time::Instant;

use crate::objects;

mod plan;
#[cfg(test)]
mod tests;

use plan::{Reason, node_name, plan};

/// A node that is made anew under its name keeps its pods: it looks at its object each minute.
const NODE_GONE_MIN: Duration = Duration::from_secs(120);
/// Pods that ended and are kept to be looked at: upstream's `--terminated-pod-gc-threshold`.
const TERMINATED_MAX: usize = 12_500;
/// Pods removed at once, so that many writes share one commit.
const PARALLEL: usize = 16;

pub struct Controller {
    client: Client,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    /// Nodes that pods are bound to and that are not there, and since when that is known.
    missing: HashMap<String, Instant>,
}

impl Controller {
    pub fn new(client: Client, pods: Informer<Pod>, nodes: Informer<Node>) -> Self {
        Self { client, pods, nodes, missing: HashMap::new() }
    }

    pub fn wakes(&self) -> Vec<Changes> {
        vec![self.pods.changes(), self.nodes.changes()]
    }

    /// The nodes that have been gone for long enough, and when to look again at the others.
    async fn gone(&mut self, pods: &[Arc<Pod>], failures: &mut Failures) -> (HashSet<String>, Next) {
        let now = Instant::now();
        let named: HashSet<&str> = pods.iter().filter_map(|pod| node_name(pod)).collect();
        let missing = |name: &str| named.contains(name) && self.nodes.get(None, name).is_none();
        self.missing.retain(|name, _| missing(name));
        for name in named.iter().filter(|name| missing(name)) {
            self.missing.entry((*name).to_owned()).or_insert(now);
        }
        let (mut gone, mut next) = (HashSet::new(), Next::Change);
        for (name, since) in &self.missing {
            match NODE_GONE_MIN.checked_sub(now.duration_since(*since)).filter(|left| !left.is_zero()) {
                Some(left) => next = next.sooner(Next::After(left)),
                // The cache may be late: whose pods are thrown away is asked for by name.
                None => {
                    let read = Api::<Node>::all(self.client.clone()).get_metadata_opt(name).await;
                    gone.extend(failures.keep(name, read).is_some_and(|node| node.is_none()).then(|| name.clone()));
                }
            }
        }
        (gone, next)
    }

    async fn remove(&self, pod: &Pod, reason: Reason) -> Result<(), kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        if let Some(status) = plan::last_status(pod, reason, objects::now()) {
            let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": status}));
            let patched = api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await;
            objects::settle(patched)?;
        }
        let preconditions = Some(Preconditions { uid: pod.uid(), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::background().grace_period(0) };
        objects::settle(api.delete(&pod.name_any(), &params).await)
    }
}

impl Reconciler for Controller {
    const NAME: &'static str = "pod-garbage-collector";
    const SCOPE: Scope = Scope::Cluster;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        self.pods.synced().await;
        self.nodes.synced().await;
        let pods = self.pods.list();
        let mut failures = Failures::default();
        let (gone, next) = self.gone(&pods, &mut failures).await;
        let controller = &*self;
        let removals: Vec<_> = plan(&pods, &gone, TERMINATED_MAX)
            .into_iter()
            .map(|(pod, reason)| async move { (pod.name_any(), controller.remove(&pod, reason).await) })
            .collect();
        let mut results = futures::stream::iter(removals).buffer_unordered(PARALLEL);
        while let Some((name, result)) = results.next().await {
            failures.keep(name, result);
        }
        failures.into_result()?;
        Ok(next)
    }
}
