//! ReplicaSets: as many pods as asked for, made from the template.
//!
//! Writes pods it controls and the status of ReplicaSets.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use skiff_reconcile::{BoxError, Caches, Changes, EventKind, Informer, Next, Reconciler, Recorder};

use crate::objects;

mod plan;
#[cfg(test)]
mod tests;

use plan::{Plan, plan};

/// Pods made or deleted at once, so that a large set does not starve the rest.
const PARALLEL: usize = 16;
/// Pods of one set made in one pass.
const BURST: usize = 100;
/// A pod we made that the cache never showed was deleted before we saw it.
const UNSEEN_TIME_MAX: Duration = Duration::from_secs(30);

pub struct Controller {
    client: Client,
    recorder: Recorder,
    replica_sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    expectations: Expectations,
}

/// What we did that the cache does not show yet.
#[derive(Default)]
pub(crate) struct Expectations {
    /// Created pods by the set's uid: namespace, name, when.
    created: HashMap<String, Vec<(String, String, Instant)>>,
    /// The uids of pods we deleted.
    deleted: HashMap<String, Instant>,
}

impl Expectations {
    fn forget_seen(&mut self, pods: &Informer<Pod>, now: Instant) {
        let fresh = |at: &Instant| now.duration_since(*at) < UNSEEN_TIME_MAX;
        self.created.retain(|_, created| {
            created.retain(|(namespace, name, at)| fresh(at) && pods.get(Some(namespace), name).is_none());
            !created.is_empty()
        });
        self.deleted.retain(|_, at| fresh(at));
    }

    fn unseen(&self, uid: &str) -> usize {
        self.created.get(uid).map_or(0, Vec::len)
    }
}

impl Controller {
    pub fn new(client: Client, recorder: Recorder, caches: &Caches) -> Self {
        let expectations = Expectations::default();
        Self { client, recorder, replica_sets: caches.of(), pods: caches.of(), expectations }
    }

    pub fn wakes(&self) -> Vec<Changes> {
        vec![self.replica_sets.changes(), self.pods.changes()]
    }

    async fn reconcile_one(&mut self, set: &ReplicaSet, pods: &[Arc<Pod>]) -> Result<Next, BoxError> {
        let uid = set.uid().unwrap_or_default();
        let deleted: HashSet<&str> = self.expectations.deleted.keys().map(String::as_str).collect();
        let plan = plan(set, pods, self.expectations.unseen(&uid), &deleted, objects::now());
        for pod in &plan.adopt {
            self.adopt(set, pod).await?;
        }
        for pod in &plan.release {
            self.release(pod, &uid).await?;
        }
        let failure = self.apply(set, &uid, &plan).await;
        let status = plan::status(set, &plan, failure.as_ref().map(ToString::to_string), objects::now());
        if set.status.as_ref() != Some(&status) {
            self.write_status(set, &status).await?;
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(plan.next),
        }
    }

    async fn apply(&mut self, set: &ReplicaSet, uid: &str, plan: &Plan) -> Option<BoxError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &set.namespace().unwrap_or_default());
        let template = pod_from_template(set);
        let made: Vec<_> = futures::stream::iter(0..plan.create.min(BURST))
            .map(|_| {
                let (api, template) = (api.clone(), template.clone());
                async move { api.create(&PostParams::default(), &template).await }
            })
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        let mut failure: Option<BoxError> = None;
        for result in made {
            match result {
                Ok(pod) => self.created(set, uid, &pod).await,
                Err(error) if objects::is_outdated(&error) => {}
                Err(error) => {
                    let message = format!("Error creating: {}", api_message(&error));
                    self.event(set, EventKind::Warning, "FailedCreate", &message).await;
                    failure = Some(error.into());
                }
            }
        }
        for pod in &plan.delete {
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
                ..DeleteParams::background()
            };
            match api.delete(&pod.name_any(), &params).await {
                Ok(_) => {
                    self.expectations.deleted.insert(pod.uid().unwrap_or_default(), Instant::now());
                    let message = format!("Deleted pod: {}", pod.name_any());
                    self.event(set, EventKind::Normal, "SuccessfulDelete", &message).await;
                }
                Err(error) if objects::is_outdated(&error) => {}
                Err(error) => {
                    let message = format!("Error deleting: {}", api_message(&error));
                    self.event(set, EventKind::Warning, "FailedDelete", &message).await;
                    failure = Some(error.into());
                }
            }
        }
        failure
    }

    async fn created(&mut self, set: &ReplicaSet, uid: &str, pod: &Pod) {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let unseen = self.expectations.created.entry(uid.to_owned()).or_default();
        unseen.push((namespace, name.clone(), Instant::now()));
        self.event(set, EventKind::Normal, "SuccessfulCreate", &format!("Created pod: {name}")).await;
    }

    async fn event(&self, set: &ReplicaSet, kind: EventKind, reason: &str, message: &str) {
        self.recorder.event(&objects::reference(set), kind, reason, message).await;
    }

    async fn adopt(&self, set: &ReplicaSet, pod: &Pod) -> Result<(), kube::Error> {
        let mut owners = pod.owner_references().to_vec();
        owners.push(objects::controller_reference(set));
        self.write_owners(pod, json!(owners)).await
    }

    async fn release(&self, pod: &Pod, uid: &str) -> Result<(), kube::Error> {
        let owners: Vec<_> = pod.owner_references().iter().filter(|o| o.uid != uid).collect();
        self.write_owners(pod, json!(owners)).await
    }

    async fn write_owners(&self, pod: &Pod, owners: serde_json::Value) -> Result<(), kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let patch = json!({"metadata": {"uid": pod.uid(), "ownerReferences": owners}});
        objects::settle(api.patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await)
    }

    async fn write_status(&self, set: &ReplicaSet, status: &ReplicaSetStatus) -> Result<(), kube::Error> {
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &set.namespace().unwrap_or_default());
        let mut status = serde_json::to_value(status).map_err(kube::Error::SerdeError)?;
        // A merge patch removes only what it names.
        for field in ["conditions", "readyReplicas", "availableReplicas", "fullyLabeledReplicas", "terminatingReplicas"]
        {
            if status.get(field).is_none() {
                status[field] = serde_json::Value::Null;
            }
        }
        let patch = json!({"status": status});
        objects::settle(api.patch_status(&set.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await)
    }
}

impl Reconciler for Controller {
    const NAME: &'static str = "replicaset";

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        self.replica_sets.synced().await;
        self.pods.synced().await;
        self.expectations.forget_seen(&self.pods, Instant::now());
        let mut by_namespace: HashMap<String, Vec<Arc<Pod>>> = HashMap::new();
        for pod in self.pods.list() {
            by_namespace.entry(pod.namespace().unwrap_or_default()).or_default().push(pod);
        }
        let mut next = Next::Change;
        let mut failure = None;
        for set in self.replica_sets.list() {
            let pods = by_namespace.get(&set.namespace().unwrap_or_default()).map(Vec::as_slice).unwrap_or_default();
            match self.reconcile_one(&set, pods).await {
                Ok(wanted) => next = next.sooner(wanted),
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(next), Err)
    }
}

fn api_message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

fn pod_from_template(set: &ReplicaSet) -> Pod {
    let template = set.spec.template.clone().unwrap_or_default();
    let from = template.metadata.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", set.name_any())),
            labels: from.labels,
            annotations: from.annotations,
            finalizers: from.finalizers,
            owner_references: Some(vec![objects::controller_reference(set)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}
