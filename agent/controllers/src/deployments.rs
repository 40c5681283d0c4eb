//! Deployments: a ReplicaSet for each template, scaled so that the new one takes over. Scope: cluster.
//!
//! Writes ReplicaSets it controls, their replicas and annotations, and the status and revision of Deployments.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use skiff_reconcile::{
    BoxError, Caches, Chain, Changes, EventKind, Failures, Informer, Next, Reconciler, Recorder, Scope,
};

use crate::{objects, owners, statuses};

mod plan;
mod rollout;
mod status;
#[cfg(test)]
mod tests;

use plan::{Action, plan};

pub struct Controller {
    client: Client,
    recorder: Recorder,
    deployments: Informer<Deployment>,
    replica_sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
}

impl Controller {
    pub fn new(client: Client, recorder: Recorder, caches: &Caches) -> Self {
        Self { client, recorder, deployments: caches.of(), replica_sets: caches.of(), pods: caches.of() }
    }

    pub fn wakes(&self) -> Vec<Changes> {
        vec![self.deployments.changes(), self.replica_sets.changes(), self.pods.changes()]
    }

    async fn reconcile_one(&self, deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Result<Next, BoxError> {
        let claims = owners::claim(deployment, &objects::selector(&deployment.spec.selector), sets);
        let mut failures = Failures::default();
        owners::apply(&self.client, deployment, &claims.adopt, &claims.release, &mut failures).await;
        failures.into_result()?;
        let pods = self.pods_of(&claims.owned);
        let plan = plan(deployment, &claims.owned, &pods, objects::now());
        for action in &plan.actions {
            self.apply(deployment, action).await?;
        }
        if let Some(revision) = &plan.revision {
            self.write_revision(deployment, revision).await?;
        }
        if deployment.status.as_ref() != Some(&plan.status) {
            statuses::write(&self.client, deployment, &plan.status).await?;
        }
        Ok(plan.next)
    }

    fn pods_of(&self, sets: &[Arc<ReplicaSet>]) -> HashMap<String, Vec<Arc<Pod>>> {
        let mut pods: HashMap<String, Vec<Arc<Pod>>> =
            sets.iter().map(|s| (s.uid().unwrap_or_default(), Vec::new())).collect();
        for pod in self.pods.list() {
            if let Some(list) = owners::controller_uid(&pod.metadata).and_then(|uid| pods.get_mut(uid)) {
                list.push(pod);
            }
        }
        pods
    }

    async fn apply(&self, deployment: &Deployment, action: &Action) -> Result<(), BoxError> {
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &deployment.namespace().unwrap_or_default());
        match action {
            Action::Create(set) => match api.create(&PostParams::default(), set).await {
                Ok(_) => {
                    let replicas = set.spec.replicas.unwrap_or(0);
                    if replicas > 0 {
                        let message = format!("Scaled up replica set {} from 0 to {replicas}", set.name_any());
                        self.scaled(deployment, &message).await;
                    }
                }
                Err(error) if objects::is_outdated(&error) => {
                    self.resolve_collision(deployment, set, &api).await?;
                }
                Err(error) => {
                    let message = format!("Failed to create new replica set {:?}: {}", set.name_any(), Chain(&error));
                    self.recorder
                        .event(&objects::reference(deployment), EventKind::Warning, "ReplicaSetCreateError", &message)
                        .await;
                    return Err(error.into());
                }
            },
            Action::Scale { set, from, to, annotations } => {
                let patch = json!({"metadata": {"annotations": annotations}, "spec": {"replicas": to}});
                self.patch_set(set, patch).await?;
                if from != to {
                    let direction = if to > from { "up" } else { "down" };
                    let name = set.name_any();
                    let message = format!("Scaled {direction} replica set {name} from {from} to {to}");
                    self.scaled(deployment, &message).await;
                }
            }
            Action::Annotate { set, annotations, min_ready_seconds } => {
                let patch =
                    json!({"metadata": {"annotations": annotations}, "spec": {"minReadySeconds": min_ready_seconds}});
                self.patch_set(set, patch).await?;
            }
            Action::Delete(set) => {
                let preconditions = Preconditions { uid: set.uid(), resource_version: set.resource_version() };
                let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
                objects::settle(api.delete(&set.name_any(), &params).await)?;
            }
        }
        Ok(())
    }

    async fn scaled(&self, deployment: &Deployment, message: &str) {
        let regarding = objects::reference(deployment);
        self.recorder.event(&regarding, EventKind::Normal, "ScalingReplicaSet", message).await;
    }

    /// The name of the new set is taken: by itself, not cached yet, or by a set with another template; then the next
    /// name is made with a higher collision count.
    async fn resolve_collision(
        &self,
        deployment: &Deployment,
        wanted: &ReplicaSet,
        api: &Api<ReplicaSet>,
    ) -> Result<(), BoxError> {
        let Some(existing) = api.get_opt(&wanted.name_any()).await? else { return Ok(()) };
        let ours = owners::controller_uid(&existing.metadata) == deployment.metadata.uid.as_deref();
        if ours && plan::same_template(&existing, deployment) {
            return Ok(());
        }
        let mut status = deployment.status.clone().unwrap_or_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        Ok(statuses::write(&self.client, deployment, &status).await?)
    }

    /// Written only over the set that the plan was made from.
    async fn patch_set(&self, set: &ReplicaSet, mut patch: Value) -> Result<(), kube::Error> {
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &set.namespace().unwrap_or_default());
        patch["metadata"]["resourceVersion"] = json!(set.resource_version());
        objects::settle(api.patch(&set.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await)
    }

    async fn write_revision(&self, deployment: &Deployment, revision: &str) -> Result<(), BoxError> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &deployment.namespace().unwrap_or_default());
        let patch = json!({"metadata": {"annotations": {plan::REVISION: revision}}});
        Ok(objects::settle(api.patch(&deployment.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await)?)
    }
}

impl Reconciler for Controller {
    const NAME: &'static str = "deployment";
    const SCOPE: Scope = Scope::Cluster;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        self.deployments.synced().await;
        self.replica_sets.synced().await;
        self.pods.synced().await;
        let by_namespace = objects::by_namespace(&self.replica_sets.list());
        let mut next = Next::Change;
        let mut failures = Failures::default();
        for deployment in self.deployments.list() {
            let namespace = deployment.namespace().unwrap_or_default();
            let sets = by_namespace.get(&namespace).map(Vec::as_slice).unwrap_or_default();
            let result = self.reconcile_one(&deployment, sets).await;
            let wanted = failures.keep(format_args!("{namespace}/{}", deployment.name_any()), result);
            next = next.sooner(wanted.unwrap_or(Next::Change));
        }
        failures.into_result()?;
        Ok(next)
    }
}
