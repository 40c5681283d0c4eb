//! What a CronJob needs: a job to start, jobs to delete, and its status. Pure.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use skiff_object::schedules::Schedule;
use skiff_reconcile::{EventKind, Next};

use super::schedule::{COUNTED_MAX, due, next};
use crate::objects::{self, is_deleted};
use crate::owners;

/// When a job was due, in its annotations.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// How long nobody looks at the clock at most: it may be set, as that of a box without a battery is once it reaches a time
/// server.
const LOOK_MAX: Duration = Duration::from_secs(600);
/// A job that was due later than this from now was started by a clock that was wrong.
const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(24);

/// What is seen of a cron job.
pub struct Observed<'a> {
    pub cron: &'a CronJob,
    /// Those it controls.
    pub jobs: &'a [Arc<Job>],
    /// Whether a job of this UID was made and is not seen yet.
    pub is_unseen: &'a dyn Fn(&str) -> bool,
    /// Of schedules that name no zone.
    pub zone: &'a TimeZone,
}

#[derive(Debug)]
pub struct Plan {
    pub start: Option<Start>,
    /// Without the job that is started.
    pub status: CronJobStatus,
    /// Jobs that ended and are not kept: to be deleted when the status is written.
    pub delete: Vec<Arc<Job>>,
    /// What changed.
    pub news: Vec<News>,
    /// What is wrong for now.
    pub complaints: Vec<News>,
    pub next: Next,
}

/// A run that is due.
#[derive(Debug)]
pub struct Start {
    pub at: Timestamp,
    pub job: Box<Job>,
    /// Jobs that it takes the place of.
    pub replace: Vec<ObjectReference>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct News {
    pub kind: EventKind,
    pub reason: &'static str,
    pub message: String,
    /// The run that it is about.
    pub about: Option<Timestamp>,
}

fn say(kind: EventKind, reason: &'static str, message: impl Into<String>) -> News {
    News { kind, reason, message: message.into(), about: None }
}

pub fn plan(seen: &Observed<'_>, now: Timestamp) -> Plan {
    let (cron, status) = (seen.cron, seen.cron.status.clone().unwrap_or_default());
    let mut plan =
        Plan { start: None, status, delete: Vec::new(), news: Vec::new(), complaints: Vec::new(), next: Next::Change };
    look(seen, now, &mut plan);
    if is_deleted(cron) {
        return plan;
    }
    plan.delete = surplus(seen);
    if cron.spec.suspend == Some(true) {
        return plan;
    }
    let zone = match &cron.spec.time_zone {
        None => seen.zone.clone(),
        Some(name) => match TimeZone::get(name) {
            Ok(zone) => zone,
            Err(error) => {
                let message = format!("invalid timeZone: {name:?}: {error}");
                plan.complaints.push(say(EventKind::Warning, "UnknownTimeZone", message));
                return plan;
            }
        },
    };
    match Schedule::parse(&cron.spec.schedule) {
        Ok(schedule) => start(cron, &schedule, &zone, now, &mut plan),
        Err(why) => {
            let message = format!("unparseable schedule: {:?} : {why}", cron.spec.schedule);
            plan.complaints.push(say(EventKind::Warning, "UnparseableSchedule", message));
        }
    }
    plan
}

/// How a job ended, if it did: the condition that says so.
fn finished(job: &Job) -> Option<&str> {
    let mut conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_end = |kind: &str| matches!(kind, "Complete" | "Failed");
    conditions.find(|c| is_end(&c.type_) && c.status == "True").map(|c| c.type_.as_str())
}

/// When a job was due, if it is a run of this cron job: its name says the same. One that somebody made from the cron job's
/// template by hand is none.
fn due_at(cron: &CronJob, job: &Job) -> Option<Timestamp> {
    let at: Timestamp = objects::annotation(job, SCHEDULED)?.parse().ok()?;
    (job.name_any() == name(cron, at)).then_some(at)
}

/// A run has its name from the minute that it is due at, so that it is made once.
fn name(cron: &CronJob, at: Timestamp) -> String {
    format!("{}-{}", cron.name_any(), at.as_second().div_euclid(60))
}

/// Reads from the jobs what the status is to say: also of those that were started by an agent that died before it said so.
fn look(seen: &Observed<'_>, now: Timestamp, plan: &mut Plan) {
    let known = plan.status.active.take().unwrap_or_default();
    let mut active = Vec::new();
    for reference in known {
        let uid = reference.uid.as_deref().unwrap_or_default();
        let name = reference.name.as_deref().unwrap_or_default();
        match seen.jobs.iter().find(|job| job.metadata.uid.as_deref() == Some(uid)) {
            Some(job) => match finished(job) {
                Some(condition) => {
                    let message = format!("Saw completed job: {name}, condition: {condition}");
                    plan.news.push(say(EventKind::Normal, "SawCompletedJob", message));
                }
                None => active.push(reference),
            },
            None if (seen.is_unseen)(uid) => active.push(reference),
            None => {
                let message = format!("Active job went missing: {name}");
                plan.news.push(say(EventKind::Normal, "MissingJob", message));
            }
        }
    }
    let mut running: Vec<_> = seen.jobs.iter().filter(|job| finished(job).is_none()).collect();
    running.sort_by_cached_key(|job| job.name_any());
    for job in running {
        if active.iter().any(|reference| reference.uid == job.metadata.uid) {
            continue;
        }
        if due_at(seen.cron, job).is_some() {
            active.push(objects::reference(&**job));
        } else if !is_deleted(&**job) {
            let message = format!("Saw a job that the controller did not create or forgot: {}", job.name_any());
            plan.complaints.push(say(EventKind::Warning, "UnexpectedJob", message));
        }
    }
    plan.status.active = Some(active).filter(|active| !active.is_empty());
    let succeeded = |job: &Arc<Job>| Some(job.status.as_ref()?.completion_time.as_ref()?.0);
    let times = seen.jobs.iter().filter(|job| finished(job) == Some("Complete")).filter_map(succeeded);
    let old = plan.status.last_successful_time.take().map(|time| time.0);
    plan.status.last_successful_time = times.chain(old).max().map(objects::time);
    let started = seen.jobs.iter().filter_map(|job| due_at(seen.cron, job));
    let old = plan.status.last_schedule_time.take().map(|time| time.0);
    let credible = |at: &Timestamp| at.duration_since(now) <= AHEAD_MAX;
    plan.status.last_schedule_time = started.chain(old).filter(credible).max().map(objects::time);
}

/// Jobs that ended, of each kind of end more than are to be kept: the oldest.
fn surplus(seen: &Observed<'_>) -> Vec<Arc<Job>> {
    let spec = &seen.cron.spec;
    let limits = [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)];
    let of = |(end, limit): (&str, Option<i32>)| {
        let Some(limit) = limit else { return Vec::new() };
        let ended = seen.jobs.iter().filter(|job| finished(job) == Some(end) && !is_deleted(&***job));
        let mut jobs: Vec<_> = ended.cloned().collect();
        jobs.sort_by_cached_key(|job| {
            let start = job.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
            (start, job.name_any())
        });
        jobs.truncate(jobs.len().saturating_sub(usize::try_from(limit).unwrap_or(0)));
        jobs
    };
    limits.into_iter().flat_map(of).collect()
}

fn start(cron: &CronJob, schedule: &Schedule, zone: &TimeZone, now: Timestamp, plan: &mut Plan) {
    let coming = next(schedule, now, zone).map(|at| at.duration_since(now).max(SignedDuration::ZERO).unsigned_abs());
    plan.next = coming.map_or(Next::Change, |left| Next::After(left.min(LOOK_MAX)));
    let last = plan.status.last_schedule_time.as_ref().map(|time| time.0);
    let created = cron.creation_timestamp().map(|time| time.0);
    let since = last.or(created).unwrap_or(now);
    let Some(run) = due(schedule, since, now, zone) else { return };
    let mut complain = |kind: EventKind, reason: &'static str, message: String| {
        plan.complaints.push(News { about: Some(run.last), ..say(kind, reason, message) });
    };
    let deadline = cron.spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    if deadline.is_some_and(|deadline| now.duration_since(run.last) > deadline) {
        let at = run.last.strftime("%a, %d %b %Y %H:%M:%S +0000");
        complain(EventKind::Warning, "MissSchedule", format!("Missed scheduled time to start a job: {at}"));
        return;
    }
    let counted = deadline.map_or(since, |deadline| since.max(now.checked_sub(deadline).unwrap_or(since)));
    if run.count > COUNTED_MAX && due(schedule, counted, now, zone).is_some_and(|run| run.count > COUNTED_MAX) {
        let message =
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew".to_owned();
        complain(EventKind::Warning, "TooManyMissedTimes", message);
    }
    let active = plan.status.active.clone().unwrap_or_default();
    let replace = match cron.spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            complain(EventKind::Normal, "JobAlreadyActive", message.to_owned());
            return;
        }
        Some("Replace") => active,
        Some(_) | None => Vec::new(),
    };
    plan.start = Some(Start { at: run.last, job: Box::new(job(cron, run.last, zone)), replace });
}

/// Takes jobs out of the status that another takes the place of.
pub fn replaced(status: &mut CronJobStatus, jobs: &[ObjectReference]) {
    let active = status.active.take().unwrap_or_default();
    let left: Vec<_> = active.into_iter().filter(|job| !jobs.contains(job)).collect();
    status.active = Some(left).filter(|left| !left.is_empty());
}

/// Writes down a run that was started.
pub fn started(status: &mut CronJobStatus, job: &Job, at: Timestamp) {
    status.last_schedule_time = Some(objects::time(at));
    let active = status.active.get_or_insert_default();
    let is_known = active.iter().any(|reference| reference.uid == job.metadata.uid);
    if !is_known && finished(job).is_none() {
        active.push(objects::reference(job));
    }
    status.active.take_if(|active| active.is_empty());
}

/// The job of a run.
fn job(cron: &CronJob, at: Timestamp, zone: &TimeZone) -> Job {
    let template = cron.spec.job_template.clone();
    let from = template.metadata.unwrap_or_default();
    let mut annotations = from.annotations.unwrap_or_default();
    let offset = zone.to_offset(at);
    let scheduled = if offset.is_zero() { at.to_string() } else { at.display_with_offset(offset).to_string() };
    annotations.insert(SCHEDULED.to_owned(), scheduled);
    Job {
        metadata: ObjectMeta {
            name: Some(name(cron, at)),
            namespace: cron.namespace(),
            labels: from.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owners::controller_reference(cron)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}
