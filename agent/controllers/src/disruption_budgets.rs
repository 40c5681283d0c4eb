//! Disruption budgets: how many pods of each may go now. Scope: cluster.
//!
//! Writes their status, and takes back from pods that they are about to be disrupted when nobody went on with it. What an
//! eviction takes of a budget the API server writes: a status is written only over the budget that it was made for.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use skiff_reconcile::{BoxError, Caches, Changes, EventKind, Failures, Informer, Next, Reconciler, Recorder, Scope};

use crate::events::{self, Said};
use crate::{anything, objects, statuses};

mod plan;
mod sizes;
#[cfg(test)]
mod tests;

use plan::{Plan, plan};
use sizes::{Sizes, Workloads};

pub struct Controller {
    client: Client,
    recorder: Recorder,
    budgets: Informer<PodDisruptionBudget>,
    pods: Informer<Pod>,
    workloads: Workloads,
    /// What was said of each budget last, by its uid: it is said once.
    said: HashMap<String, Vec<Said>>,
}

impl Controller {
    pub fn new(client: Client, recorder: Recorder, caches: &Caches) -> Self {
        let workloads = Workloads::new(client.clone(), caches);
        Self { client, recorder, budgets: caches.of(), pods: caches.of(), workloads, said: HashMap::new() }
    }

    pub fn wakes(&self) -> Vec<Changes> {
        let mut wakes = vec![self.budgets.changes(), self.pods.changes()];
        wakes.extend(self.workloads.wakes());
        wakes
    }

    async fn reconcile_one(&mut self, budget: &PodDisruptionBudget, pods: &[Arc<Pod>]) -> Result<Next, BoxError> {
        let pods = plan::selected(budget, pods);
        let sizes = match plan::counts_controllers(budget) {
            true => self.workloads.sizes(&pods).await,
            false => Ok(Sizes::default()),
        };
        let Plan { status, said, stayed, next } = plan(budget, &pods, sizes, objects::now());
        self.say(budget, said).await;
        if budget.status.as_ref() != Some(&status) && self.write(budget, &status).await? {
            for pod in stayed {
                let name = format!("{}/{}", budget.namespace().unwrap_or_default(), budget.name_any());
                let message = format!("Pod was expected by PDB {name} to be deleted but it wasn't");
                let regarding = objects::reference(&*pod);
                self.recorder.event(&regarding, EventKind::Warning, "NotDeleted", &message).await;
            }
        }
        Ok(next)
    }

    async fn say(&mut self, budget: &PodDisruptionBudget, said: Vec<Said>) {
        let known = self.said.entry(budget.uid().unwrap_or_default()).or_default();
        if *known == said {
            return;
        }
        events::tell(&self.recorder, budget, &said).await;
        *known = said;
    }

    /// Whether it was: what an eviction has taken meanwhile must not be given back. The budget's change wakes this again.
    async fn write(
        &self,
        budget: &PodDisruptionBudget,
        status: &PodDisruptionBudgetStatus,
    ) -> Result<bool, kube::Error> {
        let wanted = serde_json::to_value(status).map_err(kube::Error::SerdeError)?;
        let current = serde_json::to_value(&budget.status).map_err(kube::Error::SerdeError)?;
        let Some(change) = statuses::difference(&current, &wanted) else { return Ok(false) };
        let metadata = json!({"uid": budget.uid(), "resourceVersion": budget.resource_version()});
        let path = format!(
            "/apis/policy/v1/namespaces/{}/poddisruptionbudgets/{}/status",
            budget.namespace().unwrap_or_default(),
            budget.name_any()
        );
        match anything::merge(&self.client, &path, &json!({"metadata": metadata, "status": change})).await {
            Err(error) if objects::is_outdated(&error) => Ok(false),
            written => written.map(|()| true),
        }
    }

    /// A pod that was about to be disrupted, and stays.
    async fn take_back(&self, pod: &Pod) -> Result<(), kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let metadata = json!({"uid": pod.uid(), "resourceVersion": pod.resource_version()});
        let now = objects::time(objects::now());
        let condition = json!({"type": plan::TARGET, "status": "False", "lastTransitionTime": now});
        let patch = Patch::Strategic(json!({"metadata": metadata, "status": {"conditions": [condition]}}));
        objects::settle(api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await)
    }
}

impl Reconciler for Controller {
    const NAME: &'static str = "disruption";
    const SCOPE: Scope = Scope::Cluster;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        self.budgets.synced().await;
        self.pods.synced().await;
        self.workloads.synced().await;
        let (budgets, pods) = (self.budgets.list(), self.pods.list());
        self.said.retain(|uid, _| budgets.iter().any(|budget| budget.metadata.uid.as_ref() == Some(uid)));
        let mut failures = Failures::default();
        let (stale, mut next) = plan::stale(&pods, objects::now());
        for pod in stale {
            failures.keep(pod.name_any(), self.take_back(&pod).await);
        }
        for budget in budgets {
            let result = self.reconcile_one(&budget, &pods).await;
            let name = format!("{}/{}", budget.namespace().unwrap_or_default(), budget.name_any());
            next = next.sooner(failures.keep(name, result).unwrap_or(Next::Change));
        }
        failures.into_result()?;
        Ok(next)
    }
}
