//! The starts of a round, one after the other, and what is remembered of those that failed.

use k8s_openapi::api::core::v1::PodSpec;
use tokio::time::Instant;

use super::super::observe::{Observed, State};
use super::super::plan::{BACKOFF_MIN_S, Backoff, Failure, Part, Plan, Start, Unhealthy, hash};
use super::super::start::{Starter, Unstarted, find};
use super::{BoxError, Worker};
use crate::objects::Missing;
use crate::status::Waiting;

impl Worker {
    pub(super) async fn apply_starts(
        &mut self,
        starter: &Starter<'_>,
        plan: &Plan,
        observed: &Observed,
    ) -> Result<Option<Instant>, BoxError> {
        let Some(sandbox) = observed.sandbox() else { return Ok(None) };
        let mut next = None;
        for start in &plan.start {
            // A try counts, whatever comes of it: a program that is not there is one that crashes at once.
            self.note_restart(&start.name, observed);
            if !self.make_way(starter.spec, start).await {
                continue;
            }
            match starter.container(start, sandbox, &self.volumes, &mut self.pulls).await {
                Ok(id) => {
                    self.mended(&Part::Container(start.name.clone()));
                    self.known.waiting.remove(&start.name);
                    if !starter.post_start(&start.name, &id, sandbox).await {
                        let message = "the postStart hook failed".to_owned();
                        let waiting = Waiting { reason: "PostStartHookError", message };
                        self.known.waiting.insert(start.name.clone(), waiting);
                        self.memory.unhealthy.insert(id, Unhealthy::PostStart);
                        next = Some(Instant::now());
                    }
                }
                Err(unstarted) => self.note_unstarted(starter.spec, &start.name, unstarted).await?,
            }
        }
        Ok(next)
    }

    /// Removes what is there of a start that was cut off. `false`: the runtime is still about it.
    async fn make_way(&mut self, spec: &PodSpec, start: &Start) -> bool {
        let Some(id) = &start.replace else { return true };
        let Err(error) = self.context.runtime.remove_container(id).await else { return true };
        tracing::info!(%error, container = start.name, "container of a start that was cut off not removed, will retry");
        let part = Part::Container(start.name.clone());
        let of = find(spec, &start.name).map(hash).unwrap_or_default();
        // It ends in a moment; if not, it is a failure like others.
        let soon = Failure { delay_s: 1, since_ns: self.context.clock.now_ns(), of: of.clone() };
        let hold = (!self.memory.failures.contains_key(&part)).then_some(soon);
        self.note_failure(part, &of, None, hold);
        false
    }

    fn note_restart(&mut self, name: &str, observed: &Observed) {
        let last = observed.container(name).filter(|last| matches!(last.state, State::Exited | State::Unknown));
        if let Some(last) = last {
            let before = self.memory.backoff.get(name).copied();
            let backoff = Backoff::after_start(before, last.finished_at, self.context.clock.now_ns());
            self.memory.backoff.insert(name.to_owned(), backoff);
        }
    }

    async fn note_unstarted(&mut self, spec: &PodSpec, name: &str, unstarted: Unstarted) -> Result<(), BoxError> {
        let Unstarted { waiting, missing, hold } = unstarted;
        let ran = waiting.reason == "RunContainerError";
        self.known.waiting.insert(name.to_owned(), waiting);
        let observed = self.observe().await?;
        let made = observed.container(name);
        if ran && made.is_some_and(|container| container.state == State::Exited) {
            // It has an end of its own, from which its back-off counts: from the first one on, as nothing has run.
            let first = Backoff { delay_s: BACKOFF_MIN_S, since_ns: self.context.clock.now_ns() };
            self.memory.backoff.entry(name.to_owned()).or_insert(first);
            return Ok(());
        }
        if let Some(left) = made.filter(|container| container.state == State::Created) {
            let removed = self.context.runtime.remove_container(&left.id).await;
            if let Err(error) = removed {
                tracing::debug!(%error, container = left.id, "container that was never started not removed, will retry");
            }
        }
        let of = find(spec, name).map(hash).unwrap_or_default();
        self.note_failure(Part::Container(name.to_owned()), &of, missing, hold);
        Ok(())
    }

    pub(super) fn note_failure(&mut self, part: Part, of: &str, missing: Option<Missing>, hold: Option<Failure>) {
        let before = self.memory.failures.get(&part);
        let failure = match hold {
            Some(hold) => Failure { of: of.to_owned(), ..hold },
            None => Failure::after(before, of, self.context.clock.now_ns()),
        };
        match missing {
            Some(missing) => drop(self.missing.insert(part.clone(), missing)),
            None => drop(self.missing.remove(&part)),
        }
        self.memory.failures.insert(part, failure);
    }

    pub(super) fn mended(&mut self, part: &Part) {
        self.memory.failures.remove(part);
        self.missing.remove(part);
    }
}
