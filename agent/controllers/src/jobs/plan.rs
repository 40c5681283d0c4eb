//! What a Job needs: pods to make, delete, adopt or let go, and its status. Pure.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use skiff_object::labels::Selector;
use skiff_reconcile::{EventKind, Next};

use super::backoff::{self, Ending, Endings, ended_at};
use super::indexes::Indexes;
use super::outcome::{Outcome, outcome};
use super::pods::{self, End, History, Place, Replacement, is_tracked};
use super::policies::{Verdict, judge};
use super::tally::{Rest, Tally, count};
use crate::expectations::UNSEEN_TIME_MAX;
use crate::objects::{self, is_deleted, is_ready};
use crate::owners::{self, Claims};

/// The controller of jobs that name none.
const OURS: &str = "kubernetes.io/job-controller";
/// Pods of one job made or deleted in one pass.
const BURST: usize = 100;

/// What is seen of a job and its pods, and what is known beyond that.
pub struct Observed<'a> {
    pub job: &'a Job,
    pub spec: &'a JobSpec,
    /// All of its namespace.
    pub pods: &'a [Arc<Pod>],
    /// How many pods were made and are not seen yet.
    pub unseen: usize,
    /// On their way out though they do not look it, by UID.
    pub leaving: HashSet<&'a str>,
    pub endings: &'a Endings,
}

/// A job with its pods, told apart.
pub struct View<'a> {
    pub job: &'a Job,
    pub spec: &'a JobSpec,
    pub old: JobStatus,
    pub now: Timestamp,
    pub all: &'a [Arc<Pod>],
    /// Its own, in order of their names.
    pub pods: Vec<Arc<Pod>>,
    /// Those that are missed least come first.
    pub active: Vec<Arc<Pod>>,
    pub terminating: Vec<Arc<Pod>>,
    /// Whether all that it has is seen.
    pub settled: bool,
    replacement: Replacement,
}

#[derive(Debug)]
pub struct Plan {
    pub adopt: Vec<Arc<Pod>>,
    pub release: Vec<Arc<Pod>>,
    /// One pod for each.
    pub create: Vec<Option<Place>>,
    pub remove: Vec<Removal>,
    /// To be written before pods are let go. The pods that are made are not in it.
    pub status: JobStatus,
    pub let_go: Vec<Arc<Pod>>,
    /// To be said once the status is written.
    pub news: Vec<News>,
    pub endings: Endings,
    pub next: Next,
}

#[derive(Clone, Debug)]
pub enum Removal {
    /// The job needs it no more: how it ends is not counted.
    Withdraw(Arc<Pod>),
    /// The job is over: how it ends is counted in the status of this plan.
    Stop(Arc<Pod>),
}

impl Removal {
    pub fn pod(&self) -> &Arc<Pod> {
        match self {
            Removal::Withdraw(pod) | Removal::Stop(pod) => pod,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub kind: EventKind,
    pub reason: String,
    pub message: String,
}

impl<'a> View<'a> {
    fn new(seen: &Observed<'a>, claims: &Claims<Pod>, now: Timestamp) -> Self {
        let mut pods: Vec<_> = claims.owned.iter().chain(&claims.adopt).cloned().collect();
        pods.sort_by_cached_key(|pod| pod.name_any());
        let leaves =
            |pod: &Pod| is_deleted(pod) || pod.metadata.uid.as_deref().is_some_and(|uid| seen.leaving.contains(uid));
        let running = pods.iter().filter(|pod| !objects::is_terminal(pod)).cloned();
        let (terminating, mut active): (Vec<_>, Vec<_>) = running.partition(|pod| leaves(pod));
        active.sort_by_cached_key(|pod| victim_rank(pod));
        let old = seen.job.status.clone().unwrap_or_default();
        let settled = seen.unseen == 0 && claims.adopt.is_empty();
        let replacement = Replacement::of(seen.spec);
        Self {
            job: seen.job,
            spec: seen.spec,
            old,
            now,
            all: seen.pods,
            pods,
            active,
            terminating,
            settled,
            replacement,
        }
    }

    /// The number of completions of a job with indexes.
    pub fn indexed(&self) -> Option<i32> {
        let is_indexed = self.spec.completion_mode.as_deref() == Some("Indexed");
        is_indexed.then(|| self.spec.completions.unwrap_or(1).max(0))
    }

    pub fn end(&self, pod: &Pod) -> End {
        pods::end(pod, self.replacement)
    }

    /// Pods that are to go, and are replaced when they have gone.
    fn waited_for(&self) -> impl Iterator<Item = &Arc<Pod>> {
        let waits = self.replacement == Replacement::Failed;
        self.terminating.iter().filter(move |pod| waits && self.end(pod) == End::NotYet)
    }

    pub fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    /// Pods that a job which goes has not released, though they are none of its selector's: they would hold each other.
    fn strays(&self) -> impl Iterator<Item = Arc<Pod>> + '_ {
        let uid = self.job.metadata.uid.as_deref().filter(|_| is_deleted(self.job));
        let is_own = move |pod: &&Arc<Pod>| uid.is_some() && owners::controller_uid(&pod.metadata) == uid;
        let is_known = |pod: &Pod| self.pods.iter().any(|own| own.metadata.uid == pod.metadata.uid);
        self.all.iter().filter(|pod| is_tracked(pod)).filter(is_own).filter(move |pod| !is_known(pod)).cloned()
    }

    fn endings(&self, known: &Endings) -> Endings {
        // One that was withdrawn says nothing of the job.
        let counts = |pod: &&Arc<Pod>| is_tracked(pod) || !is_deleted(&***pod);
        let ending = |pod: &Arc<Pod>| {
            let succeeded = match self.end(pod) {
                End::NotYet => return None,
                End::Succeeded => true,
                End::Failed => false,
            };
            Some(Ending { uid: pod.uid()?, at: ended_at(pod).min(self.now), succeeded })
        };
        known.with(self.pods.iter().filter(counts).filter_map(ending))
    }
}

/// Those that are missed least come first: not placed, not running, not ready, young.
fn victim_rank(pod: &Pod) -> impl Ord + use<> {
    let placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let created = pod.creation_timestamp().map(|time| Reverse(time.0));
    (placed, objects::phase(pod) == "Running", is_ready(pod), created, Reverse(pod.name_any()))
}

/// Whether this controller looks after the job.
pub fn is_ours(job: &Job) -> bool {
    let manager = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
    manager.is_none_or(|manager| manager == OURS)
}

/// When a job came to its end, if it did.
pub fn finished_at(job: &Job) -> Option<Timestamp> {
    let conditions = job.status.as_ref()?.conditions.as_deref()?;
    let last = conditions.iter().find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
    Some(last.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0))
}

/// When a finished job is to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    Never,
    After(Duration),
    Now,
}

pub fn expiry(job: &Job, now: Timestamp) -> Expiry {
    let ttl = job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished);
    let (Some(ttl), Some(finished), false) = (ttl, finished_at(job), is_deleted(job)) else { return Expiry::Never };
    let left = SignedDuration::from_secs(i64::from(ttl)).saturating_sub(now.duration_since(finished));
    if left.is_positive() { Expiry::After(left.unsigned_abs()) } else { Expiry::Now }
}

pub fn plan(seen: &Observed<'_>, now: Timestamp) -> Plan {
    // Without one it has no pods: an empty one would select all there are.
    let selector = seen.spec.selector.as_ref().map_or_else(Selector::nothing, objects::selector);
    let claims = owners::claim(seen.job, &selector, seen.pods);
    let view = View::new(seen, &claims, now);
    let endings = view.endings(seen.endings);
    let mut tally = Tally::of(&view);
    let outcome = outcome(&view, &tally);
    let work = match &outcome {
        _ if is_deleted(seen.job) => Work::default(),
        Outcome::Open => manage(&view, &tally, &endings),
        Outcome::Failing(_) | Outcome::Succeeding(_) => Work::stop(&view),
    };
    match &outcome {
        Outcome::Failing(_) => tally.close(&view, Rest::Failed),
        Outcome::Succeeding(_) => tally.close(&view, Rest::NotCounted),
        // They go with it, or they are let go.
        Outcome::Open if is_deleted(seen.job) => tally.close(&view, Rest::NotCounted),
        Outcome::Open => {}
    }
    let mut news = Vec::new();
    let mut status = status(&view, &tally, &work);
    outcome.write(&view, &tally, &mut status, &mut news);
    let next = work.next.sooner(outcome.next(&view, &status));
    let mut let_go = tally.let_go;
    let_go.extend(view.strays());
    let (Claims { adopt, release, .. }, Work { create, remove, .. }) = (claims, work);
    Plan { adopt, release, create, remove, status, let_go, news, endings, next }
}

/// What is to be done about the number of pods.
struct Work {
    create: Vec<Option<Place>>,
    remove: Vec<Removal>,
    next: Next,
}

impl Default for Work {
    fn default() -> Self {
        Self { create: Vec::new(), remove: Vec::new(), next: Next::Change }
    }
}

impl Work {
    fn stop(view: &View<'_>) -> Self {
        Self { remove: view.active.iter().cloned().map(Removal::Stop).collect(), ..Self::default() }
    }

    fn withdraw(pods: Vec<Arc<Pod>>) -> Self {
        Self { remove: pods.into_iter().take(BURST).map(Removal::Withdraw).collect(), ..Self::default() }
    }

    fn wait(left: Duration) -> Self {
        Self { next: Next::After(left), ..Self::default() }
    }
}

fn manage(view: &View<'_>, tally: &Tally, endings: &Endings) -> Work {
    if !view.settled {
        return Work::wait(UNSEEN_TIME_MAX);
    }
    if view.is_suspended() {
        return Work::withdraw(view.active.clone());
    }
    let wanted = wanted(view, tally);
    let surplus = surplus(view, tally, view.active.len().saturating_sub(wanted));
    if !surplus.is_empty() {
        return Work::withdraw(surplus);
    }
    let missing = wanted.saturating_sub(view.active.len() + view.waited_for().count()).min(BURST);
    if missing == 0 {
        return Work::default();
    }
    match (view.indexed(), view.spec.backoff_limit_per_index, endings.left(view.now)) {
        (Some(completions), Some(_), _) => places(view, tally, completions, missing),
        (_, _, Some(left)) => Work::wait(left),
        (Some(completions), None, None) => {
            let free = occupied(view, tally);
            let create = free.missing(completions).take(missing).map(|index| Some(Place { index, history: None }));
            Work { create: create.collect(), ..Work::default() }
        }
        (None, _, None) => Work { create: vec![None; missing], ..Work::default() },
    }
}

/// How many pods there should be.
fn wanted(view: &View<'_>, tally: &Tally) -> usize {
    let parallelism = view.spec.parallelism.unwrap_or(1).max(0);
    let succeeded = tally.succeeded(view);
    let wanted = match view.spec.completions {
        // After the first success the others end by themselves, and no more are made.
        None if succeeded > 0 => return view.active.len(),
        None => parallelism,
        Some(completions) => {
            completions.saturating_sub(succeeded).saturating_sub(tally.failed_indexes.count()).clamp(0, parallelism)
        }
    };
    usize::try_from(wanted).unwrap_or(0)
}

/// Pods to be removed: at least `least`, and all whose index needs none.
fn surplus(view: &View<'_>, tally: &Tally, least: usize) -> Vec<Arc<Pod>> {
    let Some(completions) = view.indexed() else { return view.active[..least].to_vec() };
    let mut taken = HashSet::new();
    let mut is_needed = |pod: &Pod| {
        let index = pods::index(pod).filter(|index| *index < completions);
        let index = index.filter(|index| !tally.completed.contains(*index) && !tally.failed_indexes.contains(*index));
        index.is_some_and(|index| taken.insert(index))
    };
    // The best of each index is met first.
    let (mut needed, mut surplus): (Vec<_>, Vec<_>) = view.active.iter().rev().cloned().partition(|pod| is_needed(pod));
    let more = least.saturating_sub(surplus.len()).min(needed.len());
    surplus.extend(needed.split_off(needed.len() - more));
    surplus
}

/// The indexes that need no pod.
fn occupied(view: &View<'_>, tally: &Tally) -> Indexes {
    let mut occupied = tally.completed.clone();
    occupied.extend(&tally.failed_indexes);
    view.active
        .iter()
        .chain(view.waited_for())
        .filter_map(|pod| pods::index(pod))
        .for_each(|index| occupied.insert(index));
    occupied
}

/// Where each index has its own number of failures, it has its own back-off, too, and holds up no other.
fn places(view: &View<'_>, tally: &Tally, completions: i32, missing: usize) -> Work {
    let mut next = Next::Change;
    let place = |index: i32| {
        let mut history = History::default();
        if let Some(last) = tally.kept.get(&index) {
            history = History::before(last);
            match judge(view.spec.pod_failure_policy.as_ref(), last) {
                Verdict::Ignore => history.ignored = history.ignored.saturating_add(1),
                Verdict::Count | Verdict::FailIndex | Verdict::FailJob(_) => {
                    history.failures = history.failures.saturating_add(1);
                }
            }
            let failures = usize::try_from(history.total()).unwrap_or(0);
            if let Some(left) = backoff::left(failures, ended_at(last).min(view.now), view.now) {
                next = next.sooner(Next::After(left));
                return None;
            }
        }
        Some(Some(Place { index, history: Some(history) }))
    };
    let create = occupied(view, tally).missing(completions).filter_map(place).take(missing).collect();
    Work { create, remove: Vec::new(), next }
}

/// The numbers of the status: of pods, with those removed that the plan removes.
fn status(view: &View<'_>, tally: &Tally, work: &Work) -> JobStatus {
    let mut status = view.old.clone();
    let removed = |pod: &&Arc<Pod>| work.remove.iter().any(|removal| removal.pod().metadata.uid == pod.metadata.uid);
    let staying: Vec<_> = view.active.iter().filter(|pod| !removed(pod)).collect();
    status.active = Some(count(staying.len())).filter(|n| *n > 0);
    status.ready = Some(count(staying.iter().filter(|pod| is_ready(pod)).count()));
    status.terminating = Some(count(view.terminating.len() + work.remove.len()));
    tally.write(view, &mut status);
    status
}
