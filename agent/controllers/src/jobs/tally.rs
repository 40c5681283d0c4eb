//! Which ends of pods a Job counts, each once. Pure.
//!
//! A pod that ended is first written down in the status, by its UID or its index; then its finalizer goes; then, when it is
//! seen without one, its UID is taken out and the number raised in one write. Whoever begins anew at any point finds in the
//! status and on the pod what is left to do.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::UncountedTerminatedPods;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::backoff::ended_at;
use super::indexes::Indexes;
use super::plan::View;
use super::pods::{self, End, History, is_tracked};
use super::policies::{Verdict, judge};

/// UIDs in the status at once, so that it stays small; upstream's number.
const UNCOUNTED_MAX: usize = 500;

#[derive(Debug, Default)]
pub struct Tally {
    /// What is counted for good.
    succeeded: i32,
    failed: i32,
    /// By UID, written down and still to be counted.
    uncounted_succeeded: Vec<String>,
    uncounted_failed: Vec<String>,
    pub completed: Indexes,
    pub failed_indexes: Indexes,
    /// Pods that are written down: their finalizer may go.
    pub let_go: Vec<Arc<Pod>>,
    /// The last failure of an index, kept until there is a pod to inherit how often the index failed.
    pub kept: BTreeMap<i32, Arc<Pod>>,
    /// How many of those count as failed.
    kept_failures: i32,
}

/// What becomes of the pods that have not ended, when their job is over for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    Failed,
    NotCounted,
}

impl Tally {
    pub fn of(view: &View<'_>) -> Self {
        let mut tally = Self::settled(view);
        if let Some(completions) = view.indexed() {
            tally.read_indexes(view, completions);
            tally.note_succeeded(view, completions);
            if let Some(limit) = view.spec.backoff_limit_per_index {
                tally.note_failed(view, completions, limit);
            }
        }
        for pod in view.pods.iter().filter(|pod| is_tracked(pod)) {
            tally.take(view, pod);
        }
        tally
    }

    /// What the status says, with those counted that have let go of their finalizer since.
    fn settled(view: &View<'_>) -> Self {
        let uncounted = view.old.uncounted_terminated_pods.clone().unwrap_or_default();
        let held: HashSet<&str> =
            view.all.iter().filter(|pod| is_tracked(pod)).filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        let split = |uids: Option<Vec<String>>, counted: Option<i32>| {
            let (waiting, gone): (Vec<_>, Vec<_>) =
                uids.unwrap_or_default().into_iter().partition(|uid| held.contains(uid.as_str()));
            (waiting, counted.unwrap_or(0).saturating_add(count(gone.len())))
        };
        let (uncounted_succeeded, succeeded) = split(uncounted.succeeded, view.old.succeeded);
        let (uncounted_failed, failed) = split(uncounted.failed, view.old.failed);
        Self { succeeded, failed, uncounted_succeeded, uncounted_failed, ..Self::default() }
    }

    fn read_indexes(&mut self, view: &View<'_>, completions: i32) {
        let read = |text: &Option<String>| Indexes::parse(text.as_deref().unwrap_or_default(), completions);
        self.completed = read(&view.old.completed_indexes);
        self.failed_indexes = read(&view.old.failed_indexes);
    }

    /// Of an index, the first end that is decided stays.
    fn note_succeeded(&mut self, view: &View<'_>, completions: i32) {
        for (index, pod) in self.ended(view, completions, End::Succeeded) {
            if !self.failed_indexes.contains(index) && !self.is_written(&pod) {
                self.completed.insert(index);
            }
        }
    }

    fn note_failed(&mut self, view: &View<'_>, completions: i32, limit: i32) {
        let failed = self.ended(view, completions, End::Failed);
        for (index, pod) in &failed {
            let is_over = match judge(view.spec.pod_failure_policy.as_ref(), pod) {
                Verdict::FailIndex => true,
                Verdict::Count => History::before(pod).failures >= limit,
                Verdict::Ignore | Verdict::FailJob(_) => false,
            };
            if is_over && !self.completed.contains(*index) {
                self.failed_indexes.insert(*index);
            }
        }
        for (index, pod) in failed {
            if !self.completed.contains(index) && !self.failed_indexes.contains(index) {
                self.keep(index, pod);
            }
        }
        for pod in view.pods.iter().filter(|pod| is_tracked(pod)) {
            let Some(index) = pods::index(pod) else { continue };
            let inherits = |kept: &Arc<Pod>| History::before(pod).total() > History::before(kept).total();
            if self.kept.get(&index).is_some_and(inherits) {
                self.kept.remove(&index);
            }
        }
    }

    fn keep(&mut self, index: i32, pod: Arc<Pod>) {
        let rank = |pod: &Pod| (History::before(pod).total(), ended_at(pod), pod.name_any());
        if self.kept.get(&index).is_none_or(|other| rank(other) < rank(&pod)) {
            self.kept.insert(index, pod);
        }
    }

    /// The pods with a valid index that ended so, and are not counted.
    fn ended(&self, view: &View<'_>, completions: i32, end: End) -> Vec<(i32, Arc<Pod>)> {
        let tracked = view.pods.iter().filter(|pod| is_tracked(pod) && view.end(pod) == end);
        let indexed = tracked.filter_map(|pod| Some((pods::index(pod)?, Arc::clone(pod))));
        indexed.filter(|(index, _)| *index < completions).collect()
    }

    fn is_written(&self, pod: &Pod) -> bool {
        let uid = pod.uid().unwrap_or_default();
        self.uncounted_succeeded.contains(&uid) || self.uncounted_failed.contains(&uid)
    }

    fn is_full(&self) -> bool {
        self.uncounted_succeeded.len() + self.uncounted_failed.len() >= UNCOUNTED_MAX
    }

    fn take(&mut self, view: &View<'_>, pod: &Arc<Pod>) {
        let is_written = self.is_written(pod);
        if !is_written && self.is_full() {
            return;
        }
        match view.end(pod) {
            _ if is_written => {}
            End::NotYet => return,
            End::Succeeded if view.indexed().is_some() => {}
            End::Succeeded => self.uncounted_succeeded.push(pod.uid().unwrap_or_default()),
            End::Failed => {
                let is_kept = self.kept.values().any(|kept| kept.metadata.uid == pod.metadata.uid);
                match (is_failure(view, pod), is_kept) {
                    (counts, true) => {
                        self.kept_failures += i32::from(counts);
                        return;
                    }
                    (true, false) => self.uncounted_failed.push(pod.uid().unwrap_or_default()),
                    (false, false) => {}
                }
            }
        }
        self.let_go.push(Arc::clone(pod));
    }

    /// Lets all pods go: the job is over, or its pods are not its own any more.
    pub fn close(&mut self, view: &View<'_>, rest: Rest) {
        (self.kept, self.kept_failures) = (BTreeMap::new(), 0);
        for pod in view.pods.iter().filter(|pod| is_tracked(pod)) {
            if self.is_full() || self.let_go.iter().any(|other| other.metadata.uid == pod.metadata.uid) {
                continue;
            }
            let counts = view.end(pod) == End::Failed || rest == Rest::Failed;
            if counts && is_failure(view, pod) {
                self.uncounted_failed.push(pod.uid().unwrap_or_default());
            }
            self.let_go.push(Arc::clone(pod));
        }
    }

    /// All that succeeded, also what is not counted for good.
    pub fn succeeded(&self, view: &View<'_>) -> i32 {
        match view.indexed() {
            Some(_) => self.completed.count(),
            None => self.succeeded.saturating_add(count(self.uncounted_succeeded.len())),
        }
    }

    pub fn failed(&self) -> i32 {
        self.failed.saturating_add(count(self.uncounted_failed.len())).saturating_add(self.kept_failures)
    }

    /// Whether nothing is left to write down or to count.
    pub fn is_done(&self) -> bool {
        self.uncounted_succeeded.is_empty() && self.uncounted_failed.is_empty() && self.let_go.is_empty()
    }

    /// The part of the status that this is the owner of.
    pub fn write(&self, view: &View<'_>, status: &mut k8s_openapi::api::batch::v1::JobStatus) {
        let some = |uids: &[String]| Some(uids.to_vec()).filter(|uids| !uids.is_empty());
        let is_indexed = view.indexed().is_some();
        let succeeded = if is_indexed { self.completed.count() } else { self.succeeded };
        status.succeeded = Some(succeeded).filter(|n| *n > 0);
        status.failed = Some(self.failed).filter(|n| *n > 0);
        status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
            succeeded: some(&self.uncounted_succeeded),
            failed: some(&self.uncounted_failed),
        });
        status.completed_indexes = Some(self.completed.to_string()).filter(|text| is_indexed && !text.is_empty());
        let per_index = view.spec.backoff_limit_per_index.is_some();
        status.failed_indexes = Some(self.failed_indexes.to_string()).filter(|_| is_indexed && per_index);
    }
}

/// Whether a failed pod counts: not if it is to be ignored, or if it has no index that the job knows.
fn is_failure(view: &View<'_>, pod: &Pod) -> bool {
    let is_known = view.indexed().is_none_or(|completions| pods::index(pod).is_some_and(|index| index < completions));
    is_known && judge(view.spec.pod_failure_policy.as_ref(), pod) != Verdict::Ignore
}

pub fn count(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}
