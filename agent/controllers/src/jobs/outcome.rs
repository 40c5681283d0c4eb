//! Whether a Job is over, why, and what its conditions say. Pure.
//!
//! The reasons and messages are upstream's: <https://kubernetes.io/docs/concepts/workloads/controllers/job/>.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{JobCondition, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use skiff_reconcile::{EventKind, Next};

use super::plan::{News, View};
use super::pods::{End, is_tracked};
use super::policies::{self, Verdict, judge};
use super::tally::Tally;
use crate::objects::{self, is_deleted};

const COMPLETE: &str = "Complete";
const FAILED: &str = "Failed";
const FAILURE_TARGET: &str = "FailureTarget";
const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
const SUSPENDED: &str = "Suspended";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    reason: String,
    message: String,
}

impl Reason {
    fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into() }
    }
}

/// What was decided of a job stays so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Open,
    Failing(Reason),
    Succeeding(Reason),
}

pub fn outcome(view: &View<'_>, tally: &Tally) -> Outcome {
    let decided = |kind: &str| {
        let condition = condition(view, kind)?;
        let (reason, message) = (condition.reason.clone(), condition.message.clone());
        Some(Reason { reason: reason.unwrap_or_default(), message: message.unwrap_or_default() })
    };
    if let Some(reason) = decided(FAILURE_TARGET) {
        return Outcome::Failing(reason);
    }
    if let Some(reason) = decided(SUCCESS_CRITERIA_MET) {
        return Outcome::Succeeding(reason);
    }
    if let Some(reason) = failure(view, tally) {
        return Outcome::Failing(reason);
    }
    success(view, tally).map_or(Outcome::Open, Outcome::Succeeding)
}

fn condition<'a>(view: &'a View<'_>, kind: &str) -> Option<&'a JobCondition> {
    view.old.conditions.iter().flatten().find(|condition| condition.type_ == kind && condition.status == "True")
}

fn failure(view: &View<'_>, tally: &Tally) -> Option<Reason> {
    let policy = view.spec.pod_failure_policy.as_ref();
    // One that was withdrawn says nothing of the job.
    let failed = view.pods.iter().filter(|pod| is_tracked(pod) && view.end(pod) == End::Failed);
    let by_policy = failed.map(|pod| judge(policy, pod)).find_map(|verdict| match verdict {
        Verdict::FailJob(message) => Some(message),
        Verdict::Count | Verdict::Ignore | Verdict::FailIndex => None,
    });
    if let Some(message) = by_policy {
        return Some(Reason::new("PodFailurePolicy", message));
    }
    if tally.failed() > view.spec.backoff_limit.unwrap_or(i32::MAX) || has_restarted_too_often(view) {
        return Some(Reason::new("BackoffLimitExceeded", "Job has reached the specified backoff limit"));
    }
    // One that goes on after a pause has its time anew.
    let started = view.old.start_time.as_ref().filter(|_| condition(view, SUSPENDED).is_none());
    if deadline_left(view, started.map(|time| time.0)).is_some_and(|left| !left.is_positive()) {
        return Some(Reason::new("DeadlineExceeded", "Job was active longer than specified deadline"));
    }
    let (completions, failed) = (view.indexed()?, tally.failed_indexes.count());
    if view.spec.max_failed_indexes.is_some_and(|max| failed > max) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return Some(Reason::new("MaxFailedIndexesExceeded", message));
    }
    let is_over = failed > 0 && failed.saturating_add(tally.completed.count()) >= completions;
    is_over.then(|| Reason::new("FailedIndexes", "Job has failed indexes"))
}

/// Where containers are restarted in their pod, those restarts are the failures.
fn has_restarted_too_often(view: &View<'_>) -> bool {
    let policy = view.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    let (Some("OnFailure"), Some(limit)) = (policy, view.spec.backoff_limit) else { return false };
    let restarts = |pod: &Arc<Pod>| {
        let status = pod.status.as_ref();
        let all = status.map(|status| [&status.init_container_statuses, &status.container_statuses]);
        all.into_iter().flatten().flatten().flatten().map(|container| i64::from(container.restart_count)).sum::<i64>()
    };
    let sum: i64 = view.pods.iter().filter(|pod| !objects::is_terminal(pod)).map(restarts).sum();
    sum >= i64::from(limit.max(1))
}

/// How long a job that runs may still run.
fn deadline_left(view: &View<'_>, started: Option<Timestamp>) -> Option<SignedDuration> {
    let seconds = view.spec.active_deadline_seconds.filter(|_| !view.is_suspended())?;
    Some(SignedDuration::from_secs(seconds).saturating_sub(view.now.duration_since(started?)))
}

fn success(view: &View<'_>, tally: &Tally) -> Option<Reason> {
    if let Some(completions) = view.indexed()
        && let Some(message) = policies::success(view.spec.success_policy.as_ref(), &tally.completed, completions)
    {
        return Some(Reason::new("SuccessPolicy", message));
    }
    let succeeded = tally.succeeded(view);
    let is_reached = match view.spec.completions {
        None => succeeded > 0,
        Some(completions) => succeeded >= completions,
    };
    let is_over = is_reached && view.settled && view.active.is_empty();
    is_over.then(|| Reason::new("CompletionsReached", "Reached expected number of succeeded pods"))
}

impl Outcome {
    /// When it may change with time alone.
    pub fn next(&self, view: &View<'_>, status: &JobStatus) -> Next {
        let started = status.start_time.as_ref().map(|time| time.0);
        match self {
            Outcome::Open => deadline_left(view, started)
                .map_or(Next::Change, |left| Next::After(left.max(SignedDuration::ZERO).unsigned_abs())),
            Outcome::Failing(_) | Outcome::Succeeding(_) => Next::Change,
        }
    }

    /// The conditions and times of the status, and what is said of their change.
    pub fn write(&self, view: &View<'_>, tally: &Tally, status: &mut JobStatus, news: &mut Vec<News>) {
        // A job is over when nothing of it is left, so that whoever waits for it may start another in its place.
        let is_over = tally.is_done() && view.settled && view.active.is_empty() && view.terminating.is_empty();
        let mut conditions = Conditions { list: status.conditions.take().unwrap_or_default(), now: view.now };
        match self {
            Outcome::Open => {
                if !view.is_suspended() {
                    status.start_time.get_or_insert_with(|| objects::time(view.now));
                }
                if view.settled && !is_deleted(view.job) {
                    suspension(view, &mut conditions, status, news);
                }
            }
            Outcome::Failing(reason) => {
                status.start_time.get_or_insert_with(|| objects::time(view.now));
                conditions.put(FAILURE_TARGET, true, reason);
                if is_over && conditions.put(FAILED, true, reason) {
                    news.push(say(EventKind::Warning, &reason.reason, &reason.message));
                }
            }
            Outcome::Succeeding(reason) => {
                status.start_time.get_or_insert_with(|| objects::time(view.now));
                conditions.put(SUCCESS_CRITERIA_MET, true, reason);
                if is_over && conditions.put(COMPLETE, true, reason) {
                    status.completion_time = Some(objects::time(view.now));
                    let wanted = view.spec.completions;
                    if wanted.is_some_and(|completions| tally.succeeded(view) > completions) {
                        let message = "Too many succeeded pods running after completion count reached";
                        news.push(say(EventKind::Warning, "TooManySucceededPods", message));
                    }
                    news.push(say(EventKind::Normal, "Completed", "Job completed"));
                }
            }
        }
        status.conditions = Some(conditions.list).filter(|list| !list.is_empty());
    }
}

/// A job that runs again starts anew: its deadline is of the time it runs in one go.
fn suspension(view: &View<'_>, conditions: &mut Conditions, status: &mut JobStatus, news: &mut Vec<News>) {
    if view.is_suspended() {
        if conditions.put(SUSPENDED, true, &Reason::new("JobSuspended", "Job suspended")) {
            news.push(say(EventKind::Normal, "Suspended", "Job suspended"));
        }
    } else if conditions.put(SUSPENDED, false, &Reason::new("JobResumed", "Job resumed")) {
        status.start_time = Some(objects::time(view.now));
        news.push(say(EventKind::Normal, "Resumed", "Job resumed"));
    }
}

fn say(kind: EventKind, reason: &str, message: &str) -> News {
    News { kind, reason: reason.to_owned(), message: message.to_owned() }
}

struct Conditions {
    list: Vec<JobCondition>,
    now: Timestamp,
}

impl Conditions {
    /// Answers whether it was otherwise. One that never was needs not be said to be false.
    fn put(&mut self, kind: &str, holds: bool, reason: &Reason) -> bool {
        let status = if holds { "True" } else { "False" };
        let at = self.list.iter().position(|condition| condition.type_ == kind);
        match at {
            Some(at) if self.list[at].status == status => return false,
            None if !holds => return false,
            Some(_) | None => {}
        }
        let condition = JobCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.reason.clone()),
            message: Some(reason.message.clone()),
            last_probe_time: Some(objects::time(self.now)),
            last_transition_time: Some(objects::time(self.now)),
        };
        match at {
            Some(at) => self.list[at] = condition,
            None => self.list.push(condition),
        }
        true
    }
}
