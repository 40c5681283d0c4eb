//! Jobs: pods that run until as many as asked for have succeeded. Scope: cluster.
//!
//! Writes pods it controls, the finalizer by which each of them is counted once, and the status of Jobs; deletes Jobs that
//! ended as long ago as they say. Jobs that another controller manages are that one's, with their pods.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use skiff_reconcile::{
    BoxError, Caches, Chain, Changes, EventKind, Failures, Informer, Next, Reconciler, Recorder, Scope,
};

use crate::expectations::Expectations;
use crate::refusals::{Refusal, is_refusal};
use crate::statuses::Written;
use crate::{objects, owners};

mod backoff;
mod indexes;
mod outcome;
mod plan;
mod pods;
mod policies;
mod tally;
#[cfg(test)]
mod tests;

use backoff::Endings;
use plan::{Expiry, Observed, Plan, Removal, plan};
use pods::{FINALIZER, Place, is_tracked};

/// Pods made, changed or deleted at once, so that a large job does not starve the rest.
const PARALLEL: usize = 16;

pub struct Controller {
    client: Client,
    recorder: Recorder,
    jobs: Informer<Job>,
    pods: Informer<Pod>,
    expectations: Expectations,
    /// By the UIDs of jobs.
    memories: HashMap<String, Memory>,
}

/// What is known of a job beyond what the caches show.
#[derive(Default)]
struct Memory {
    written: Written<Job>,
    endings: Endings,
    refusal: Option<Refusal>,
}

impl Controller {
    pub fn new(client: Client, recorder: Recorder, caches: &Caches) -> Self {
        let (expectations, memories) = (Expectations::default(), HashMap::new());
        Self { client, recorder, jobs: caches.of(), pods: caches.of(), expectations, memories }
    }

    pub fn wakes(&self) -> Vec<Changes> {
        vec![self.jobs.changes(), self.pods.changes()]
    }

    async fn reconcile_one(
        &mut self,
        job: &Arc<Job>,
        pods: &[Arc<Pod>],
        adopting: &mut HashSet<String>,
    ) -> Result<Next, BoxError> {
        let uid = job.uid().unwrap_or_default();
        let memory = self.memories.entry(uid.clone()).or_default();
        let job = memory.written.latest(job);
        let (true, Some(spec)) = (plan::is_ours(&job), &job.spec) else { return Ok(Next::Change) };
        if plan::finished_at(&job).is_some() {
            memory.endings = Endings::default();
            return self.finish(&job, pods).await;
        }
        let (unseen, leaving) = (self.expectations.unseen(&uid), self.expectations.leaving());
        let observed = Observed { job: &job, spec, pods, unseen, leaving, endings: &memory.endings };
        let mut plan = plan(&observed, objects::now());
        memory.endings = plan.endings.clone();
        adopting.extend(plan.adopt.iter().filter_map(|pod| pod.uid()));
        let mut failures = Failures::default();
        self.adopt(&job, &plan, &mut failures).await;
        let made = self.create(&job, &uid, &mut plan, &mut failures).await;
        self.remove(&job, &plan.remove, &mut failures).await;
        let mut status = plan.status.clone();
        status.active = Some(status.active.unwrap_or(0) + made).filter(|n| *n > 0);
        let memory = self.memories.entry(uid).or_default();
        let written = memory.written.write(&self.client, &job, &status).await;
        if failures.keep("its status", written) == Some(true) {
            for news in &plan.news {
                self.event(&job, news.kind, &news.reason, &news.message).await;
            }
            self.let_go(&plan.let_go, &mut failures).await;
        }
        failures.into_result()?;
        Ok(plan.next)
    }

    /// What is left to do of a job that is over.
    async fn finish(&self, job: &Job, pods: &[Arc<Pod>]) -> Result<Next, BoxError> {
        let uid = job.metadata.uid.as_deref();
        let left = |pod: &&Arc<Pod>| is_tracked(pod) && owners::controller_uid(&pod.metadata) == uid;
        let left: Vec<_> = pods.iter().filter(left).cloned().collect();
        let mut failures = Failures::default();
        self.let_go(&left, &mut failures).await;
        failures.into_result()?;
        match plan::expiry(job, jiff::Timestamp::now()) {
            Expiry::Never => Ok(Next::Change),
            Expiry::After(left) => Ok(Next::After(left)),
            Expiry::Now => {
                let api: Api<Job> = Api::namespaced(self.client.clone(), &job.namespace().unwrap_or_default());
                // Of this version alone: it may just have been told to stay for longer.
                let preconditions = Preconditions { uid: job.uid(), resource_version: job.resource_version() };
                let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::foreground() };
                objects::settle(api.delete(&job.name_any(), &params).await)?;
                Ok(Next::Change)
            }
        }
    }

    /// The finalizer comes first: what ends between the two is counted as well.
    async fn adopt(&self, job: &Job, plan: &Plan, failures: &mut Failures) {
        let held = json!({"metadata": {"finalizers": [FINALIZER]}});
        self.change(plan.adopt.iter().filter(|pod| !is_tracked(pod)), &held, failures).await;
        owners::apply(&self.client, job, &plan.adopt, &plan.release, failures).await;
    }

    /// Returns how many were made.
    async fn create(&mut self, job: &Job, uid: &str, plan: &mut Plan, failures: &mut Failures) -> i32 {
        if plan.create.is_empty() {
            return 0;
        }
        let memory = self.memories.entry(uid.to_owned()).or_default();
        if let Some(left) = memory.refusal.as_ref().and_then(Refusal::left) {
            plan.next = plan.next.sooner(Next::After(left));
            return 0;
        }
        let results = self.make(job, &plan.create).await;
        let (mut made, mut failure) = (0, None);
        for result in results {
            match result {
                Ok(pod) => {
                    made += 1;
                    self.expectations.created(uid, pod.uid().unwrap_or_default());
                    let message = format!("Created pod: {}", pod.name_any());
                    self.event(job, EventKind::Normal, "SuccessfulCreate", &message).await;
                }
                Err(error) if objects::is_outdated(&error) => {}
                Err(error) => {
                    let message = format!("Error creating: {}", Chain(&error));
                    self.event(job, EventKind::Warning, "FailedCreate", &message).await;
                    failure = Some(BoxError::from(error));
                }
            }
        }
        let memory = self.memories.entry(uid.to_owned()).or_default();
        match failure {
            None => memory.refusal = None,
            Some(refused) if is_refusal(&refused) => {
                let refusal = Refusal::after(memory.refusal.as_ref(), refused.to_string());
                plan.next = plan.next.sooner(Next::After(refusal.delay));
                memory.refusal = Some(refusal);
            }
            Some(failure) => {
                failures.keep("its pods", Err::<(), _>(failure));
            }
        }
        made
    }

    async fn make(&self, job: &Job, places: &[Option<Place>]) -> Vec<Result<Pod, kube::Error>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &job.namespace().unwrap_or_default());
        let made = futures::stream::iter(places.iter().copied()).map(|place| {
            let (api, pod) = (api.clone(), pods::pod(job, place));
            async move { api.create(&PostParams::default(), &pod).await }
        });
        made.buffer_unordered(PARALLEL).collect().await
    }

    async fn remove(&mut self, job: &Job, removals: &[Removal], failures: &mut Failures) {
        let controller = &*self;
        let removed = futures::stream::iter(removals.to_vec())
            .map(|removal| async move { (removal.pod().clone(), controller.remove_one(&removal).await) });
        let results: Vec<_> = removed.buffer_unordered(PARALLEL).collect().await;
        for (pod, result) in results {
            match result {
                Ok(()) => {
                    self.expectations.deleted(pod.uid().unwrap_or_default());
                    let message = format!("Deleted pod: {}", pod.name_any());
                    self.event(job, EventKind::Normal, "SuccessfulDelete", &message).await;
                }
                Err(error) if objects::is_outdated(&error) => {}
                Err(error) => {
                    let message = format!("Error deleting: {}", Chain(&error));
                    self.event(job, EventKind::Warning, "FailedDelete", &message).await;
                    failures.keep(pod.name_any(), Err::<(), _>(error));
                }
            }
        }
    }

    async fn remove_one(&self, removal: &Removal) -> Result<(), kube::Error> {
        let pod = removal.pod();
        match removal {
            // Only as it was seen: if it has ended since, its end counts.
            Removal::Withdraw(pod) if is_tracked(pod) => {
                let mut patch = without_finalizer();
                patch["metadata"]["resourceVersion"] = json!(pod.resource_version());
                self.change_one(pod, patch).await?;
            }
            Removal::Withdraw(_) | Removal::Stop(_) => {}
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let preconditions = Some(Preconditions { uid: pod.uid(), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::background() };
        api.delete(&pod.name_any(), &params).await.map(drop)
    }

    async fn let_go(&self, pods: &[Arc<Pod>], failures: &mut Failures) {
        self.change(pods.iter(), &without_finalizer(), failures).await;
    }

    async fn change(&self, pods: impl Iterator<Item = &Arc<Pod>>, patch: &Value, failures: &mut Failures) {
        let pods: Vec<_> = pods.cloned().collect();
        let changed = futures::stream::iter(pods)
            .map(|pod| async move { (pod.name_any(), self.change_one(&pod, patch.clone()).await) });
        let results: Vec<_> = changed.buffer_unordered(PARALLEL).collect().await;
        for (name, result) in results {
            failures.keep(name, objects::settle(result));
        }
    }

    async fn change_one(&self, pod: &Pod, mut patch: Value) -> Result<(), kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        patch["metadata"]["uid"] = json!(pod.uid());
        api.patch_metadata(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await.map(drop)
    }

    /// Pods that no job will ever count: nothing else would let them go.
    async fn let_orphans_go(&self, pods: &[Arc<Pod>], adopting: &HashSet<String>, failures: &mut Failures) {
        let known: HashSet<String> = self.jobs.list().iter().filter_map(|job| job.uid()).collect();
        let mut orphans = Vec::new();
        for pod in pods.iter().filter(|pod| is_tracked(pod)) {
            let has_job = owners::controller_uid(&pod.metadata).is_some_and(|uid| known.contains(uid));
            let is_adopted = pod.metadata.uid.as_ref().is_some_and(|uid| adopting.contains(uid));
            if !has_job && !is_adopted && failures.keep(pod.name_any(), self.is_orphan(pod).await) == Some(true) {
                orphans.push(Arc::clone(pod));
            }
        }
        self.let_go(&orphans, failures).await;
    }

    /// Asked of the API: the cache may not show the job yet.
    async fn is_orphan(&self, pod: &Pod) -> Result<bool, kube::Error> {
        let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
        let Some(owner) = owner.filter(|owner| owner.kind == "Job" && owner.api_version.starts_with("batch/")) else {
            return Ok(true);
        };
        let api: Api<Job> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let read = api.get_metadata_opt(&owner.name).await?;
        Ok(read.is_none_or(|read| read.metadata.uid.as_ref() != Some(&owner.uid)))
    }

    async fn event(&self, job: &Job, kind: EventKind, reason: &str, message: &str) {
        self.recorder.event(&objects::reference(job), kind, reason, message).await;
    }
}

fn without_finalizer() -> Value {
    json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}})
}

impl Reconciler for Controller {
    const NAME: &'static str = "job";
    const SCOPE: Scope = Scope::Cluster;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        self.jobs.synced().await;
        self.pods.synced().await;
        let all = self.pods.list();
        let seen: HashSet<&str> = all.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        self.expectations.observe(&seen);
        let by_namespace = objects::by_namespace(&all);
        let (mut next, mut failures, mut adopting) = (Next::Change, Failures::default(), HashSet::new());
        let jobs = self.jobs.list();
        let known: HashSet<&str> = jobs.iter().filter_map(|job| job.metadata.uid.as_deref()).collect();
        self.memories.retain(|uid, _| known.contains(uid.as_str()));
        for job in &jobs {
            let namespace = job.namespace().unwrap_or_default();
            let pods = by_namespace.get(&namespace).map(Vec::as_slice).unwrap_or_default();
            let result = self.reconcile_one(job, pods, &mut adopting).await;
            let wanted = failures.keep(format_args!("{namespace}/{}", job.name_any()), result);
            next = next.sooner(wanted.unwrap_or(Next::Change));
        }
        self.let_orphans_go(&all, &adopting, &mut failures).await;
        failures.into_result()?;
        Ok(next)
    }
}
