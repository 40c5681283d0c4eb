//! CronJobs: a Job at each time of a schedule. Scope: cluster.
//!
//! Writes Jobs it controls and the status of CronJobs. It sleeps until a run is due.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use skiff_reconcile::{
    BoxError, Caches, Chain, Changes, EventKind, Failures, Informer, Next, Reconciler, Recorder, Scope,
};

use crate::expectations::Expectations;
use crate::refusals::{Refusal, is_refusal};
use crate::statuses::Written;
use crate::{objects, owners};

mod plan;
mod schedule;
#[cfg(test)]
mod tests;

use plan::{News, Observed, Plan, Start, plan};

pub struct Controller {
    client: Client,
    recorder: Recorder,
    cron_jobs: Informer<CronJob>,
    jobs: Informer<Job>,
    expectations: Expectations,
    /// By the UIDs of cron jobs.
    memories: HashMap<String, Memory>,
}

/// What is known of a cron job beyond what the caches show.
#[derive(Default)]
struct Memory {
    written: Written<CronJob>,
    refusal: Option<Refusal>,
    /// What is wrong is said once, for as long as it lasts.
    said: HashSet<News>,
}

impl Controller {
    pub fn new(client: Client, recorder: Recorder, caches: &Caches) -> Self {
        let (expectations, memories) = (Expectations::default(), HashMap::new());
        Self { client, recorder, cron_jobs: caches.of(), jobs: caches.of(), expectations, memories }
    }

    pub fn wakes(&self) -> Vec<Changes> {
        vec![self.cron_jobs.changes(), self.jobs.changes()]
    }

    async fn reconcile_one(&mut self, cron: &Arc<CronJob>, jobs: &[Arc<Job>]) -> Result<Next, BoxError> {
        let uid = cron.uid().unwrap_or_default();
        let cron = self.memories.entry(uid.clone()).or_default().written.latest(cron);
        let mut plan = self.plan(&cron, &uid, jobs);
        let mut failures = Failures::default();
        if let Some(start) = plan.start.take() {
            let started = self.start(&cron, &uid, start, &mut plan).await;
            failures.keep("its job", started);
        }
        let memory = self.memories.entry(uid.clone()).or_default();
        let written = memory.written.write(&self.client, &cron, &plan.status).await;
        if failures.keep("its status", written) == Some(true) {
            for news in &plan.news {
                self.event(&cron, news).await;
            }
            for job in &plan.delete {
                let deleted = self.delete(&cron, &job.name_any(), job.uid()).await;
                failures.keep(job.name_any(), deleted);
            }
        }
        self.complain(&cron, uid, plan.complaints).await;
        failures.into_result()?;
        Ok(plan.next)
    }

    fn plan(&self, cron: &CronJob, uid: &str, jobs: &[Arc<Job>]) -> Plan {
        let is_unseen = |job: &str| self.expectations.is_unseen(uid, job);
        // Upstream's default is the zone of the process.
        plan(&Observed { cron, jobs, is_unseen: &is_unseen, zone: &TimeZone::system() }, Timestamp::now())
    }

    async fn complain(&mut self, cron: &CronJob, uid: String, complaints: Vec<News>) {
        let said = std::mem::take(&mut self.memories.entry(uid.clone()).or_default().said);
        for news in complaints.iter().filter(|news| !said.contains(news)) {
            self.event(cron, news).await;
        }
        self.memories.entry(uid).or_default().said = complaints.into_iter().collect();
    }

    /// The name of the job is the lock: who finds it taken by a job of this cron job has started it before.
    async fn start(&mut self, cron: &CronJob, uid: &str, start: Start, plan: &mut Plan) -> Result<(), BoxError> {
        let memory = self.memories.entry(uid.to_owned()).or_default();
        if let Some(left) = memory.refusal.as_ref().and_then(Refusal::left) {
            plan.next = plan.next.sooner(Next::After(left));
            return Ok(());
        }
        for job in &start.replace {
            self.delete(cron, job.name.as_deref().unwrap_or_default(), job.uid.clone()).await?;
        }
        plan::replaced(&mut plan.status, &start.replace);
        let api: Api<Job> = Api::namespaced(self.client.clone(), &cron.namespace().unwrap_or_default());
        let made = match api.create(&PostParams::default(), &start.job).await {
            Ok(made) => {
                let message = format!("Created job {}", made.name_any());
                self.say(cron, EventKind::Normal, "SuccessfulCreate", &message).await;
                Some(made)
            }
            Err(error) if objects::is_conflict(&error) => {
                let found = api.get_opt(&start.job.name_any()).await?;
                found.filter(|job| owners::controller_uid(&job.metadata) == Some(uid))
            }
            // Its namespace goes.
            Err(error) if objects::is_outdated(&error) => return Ok(()),
            Err(error) => return self.refused(cron, uid, error, plan).await,
        };
        let memory = self.memories.entry(uid.to_owned()).or_default();
        memory.refusal = None;
        if let Some(made) = made {
            self.expectations.created(uid, made.uid().unwrap_or_default());
            plan::started(&mut plan.status, &made, start.at);
        } else {
            let message = format!("Error creating job: {:?} is not of this cron job", start.job.name_any());
            plan.complaints.push(News {
                kind: EventKind::Warning,
                reason: "FailedCreate",
                message,
                about: Some(start.at),
            });
        }
        Ok(())
    }

    async fn refused(
        &mut self,
        cron: &CronJob,
        uid: &str,
        error: kube::Error,
        plan: &mut Plan,
    ) -> Result<(), BoxError> {
        let message = format!("Error creating job: {}", Chain(&error));
        self.say(cron, EventKind::Warning, "FailedCreate", &message).await;
        let error = BoxError::from(error);
        if !is_refusal(&error) {
            return Err(error);
        }
        let memory = self.memories.entry(uid.to_owned()).or_default();
        let refusal = Refusal::after(memory.refusal.as_ref(), error.to_string());
        plan.next = plan.next.sooner(Next::After(refusal.delay));
        memory.refusal = Some(refusal);
        Ok(())
    }

    async fn delete(&mut self, cron: &CronJob, name: &str, uid: Option<String>) -> Result<(), kube::Error> {
        let api: Api<Job> = Api::namespaced(self.client.clone(), &cron.namespace().unwrap_or_default());
        let preconditions = Some(Preconditions { uid: uid.clone(), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::background() };
        match api.delete(name, &params).await {
            Ok(_) => {
                self.expectations.deleted(uid.unwrap_or_default());
                let message = format!("Deleted job {name}");
                self.say(cron, EventKind::Normal, "SuccessfulDelete", &message).await;
                Ok(())
            }
            Err(error) if objects::is_outdated(&error) => Ok(()),
            Err(error) => {
                let message = format!("Deleted job: {}", Chain(&error));
                self.say(cron, EventKind::Warning, "FailedDelete", &message).await;
                Err(error)
            }
        }
    }

    async fn event(&self, cron: &CronJob, news: &News) {
        self.say(cron, news.kind, news.reason, &news.message).await;
    }

    async fn say(&self, cron: &CronJob, kind: EventKind, reason: &str, message: &str) {
        self.recorder.event(&objects::reference(cron), kind, reason, message).await;
    }
}

impl Reconciler for Controller {
    const NAME: &'static str = "cronjob";
    const SCOPE: Scope = Scope::Cluster;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        self.cron_jobs.synced().await;
        self.jobs.synced().await;
        let cron_jobs = self.cron_jobs.list();
        let all = self.jobs.list();
        let seen: HashSet<&str> = all.iter().filter_map(|job| job.metadata.uid.as_deref()).collect();
        self.expectations.observe(&seen);
        let leaving = self.expectations.leaving();
        let mut by_owner: HashMap<&str, Vec<Arc<Job>>> = HashMap::new();
        for job in all.iter().filter(|job| !job.metadata.uid.as_ref().is_some_and(|uid| leaving.contains(uid.as_str())))
        {
            if let Some(owner) = owners::controller_uid(&job.metadata) {
                by_owner.entry(owner).or_default().push(Arc::clone(job));
            }
        }
        let known: HashSet<&str> = cron_jobs.iter().filter_map(|cron| cron.metadata.uid.as_deref()).collect();
        self.memories.retain(|uid, _| known.contains(uid.as_str()));
        let (mut next, mut failures) = (Next::Change, Failures::default());
        for cron in &cron_jobs {
            let jobs = cron.metadata.uid.as_deref().and_then(|uid| by_owner.get(uid));
            let result = self.reconcile_one(cron, jobs.map(Vec::as_slice).unwrap_or_default()).await;
            let name = format!("{}/{}", cron.namespace().unwrap_or_default(), cron.name_any());
            next = next.sooner(failures.keep(name, result).unwrap_or(Next::Change));
        }
        failures.into_result()?;
        Ok(next)
    }
}
