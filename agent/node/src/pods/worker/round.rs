//! One round of a pod that is to run: observe → plan → apply → publish. A status is written when there is something in it
//! that somebody could have seen: what was passed through within a moment is not.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Spec, Pod, PodSpec};
use skiff_reconcile::EventKind;
use tokio::time::Instant;

use super::super::observe::{Observed, State};
use super::super::plan::{BACKOFF_MIN_S, Backoff, HostNetwork, Part, Plan, SandboxPlan, Unhealthy, plan};
use super::super::start::{Identity, Starter, find};
use super::super::stop;
use super::{BoxError, EXIT_LAG, Worker, is_terminal, soonest};
use crate::context::chain;
use crate::status::{DEADLINE_EXCEEDED, Ended, Waiting};

/// What lasts no longer than this is not told: a start takes a tenth of a second, a pull takes longer.
const INTERIM: Duration = Duration::from_millis(500);
/// A container that crashed again and again is only said to run when it has run for this long. Upstream looks once a
/// second.
const SETTLED: Duration = Duration::from_secs(1);

impl Worker {
    /// Answers when to come again if nothing happens before.
    pub(super) async fn sync(&mut self, pod: &Arc<Pod>) -> Result<Option<Instant>, BoxError> {
        let mut observed = self.observe().await?;
        self.adopt(pod, &observed);
        self.take_eviction();
        let deadline = self.check_deadline(pod);
        if self.known.ended.is_some() || is_terminal(pod) {
            return self.finish(pod, observed).await;
        }
        self.look(pod, &observed);
        let spec = pod.spec.clone().unwrap_or_default();
        let mut plan = self.plan(pod, &spec, &observed);
        let mut next = deadline;
        let mut told = Told::Now;
        if !plan.is_empty() {
            told = self.told(&plan);
            match self.apply_and_tell(pod, &spec, &plan, &observed).await {
                Ok(again) => next = soonest(next, again),
                Err(error) => {
                    // What is known is told all the same.
                    self.publish(pod, &observed).await?;
                    return Err(error);
                }
            }
            observed = self.observe().await?;
            self.look(pod, &observed);
            stop::leftovers(&self.context, &observed).await;
            plan = self.plan(pod, &spec, &observed);
            if !plan.is_empty() {
                next = Some(Instant::now());
            }
        } else if spec.volumes.is_some() && self.volumes.ready.is_empty() && observed.running().next().is_some() {
            // Adopted: from now on its volumes are kept up to date again.
            self.refresh_volumes(pod).await;
        }
        self.probes.sync(&self.context, pod, &observed, &self.signals.wake);
        match told {
            // It goes on at once; the next round tells if it takes longer than a moment.
            Told::Later | Told::Now if !plan.is_empty() => {}
            Told::Later if plan.next_ns().is_none() => {
                next = soonest(next, Some(Instant::now() + SETTLED));
            }
            Told::Later | Told::Now => self.publish(pod, &observed).await?,
        }
        let wait_ns = plan.next_ns().map(|until| until - self.context.clock.now_ns());
        let due = wait_ns.map(|ns| Instant::now() + Duration::from_nanos(u64::try_from(ns).unwrap_or(0)));
        let lag = self.exits.lagging(&observed).then(|| Instant::now() + EXIT_LAG);
        Ok([due, lag].into_iter().fold(next, soonest))
    }

    fn plan(&mut self, pod: &Pod, spec: &PodSpec, observed: &Observed) -> Plan {
        let network = if spec.host_network == Some(true) { HostNetwork::Yes } else { HostNetwork::No };
        let plan = plan(spec, network, observed, &self.memory, self.context.clock.now_ns());
        self.note_backoff(pod, &plan, observed);
        plan
    }

    /// Whether the outcome of the plan is told at once.
    fn told(&self, plan: &Plan) -> Told {
        let crashing = |name: &String| self.memory.backoff.get(name).is_some_and(|b| b.delay_s >= BACKOFF_MIN_S);
        let only_restarts = plan.stop.is_empty() && plan.start.iter().all(|start| start.attempt > 0);
        match only_restarts && !plan.start.is_empty() && plan.start.iter().all(|start| crashing(&start.name)) {
            true => Told::Later,
            false => Told::Now,
        }
    }

    /// What the pod looks like now is told if the plan takes longer than a moment.
    async fn apply_and_tell(
        &mut self,
        pod: &Arc<Pod>,
        spec: &PodSpec,
        plan: &Plan,
        observed: &Observed,
    ) -> Result<Option<Instant>, BoxError> {
        let now = self.context.clock.now();
        let Some(write) = self.published.prepare(pod, observed, &self.known, now) else {
            return self.apply(pod, spec, plan, observed).await;
        };
        let is_new = self.published.base(pod).status.is_none_or(|status| status.start_time.is_none());
        let delay = if is_new { Duration::ZERO } else { INTERIM };
        let sending = self.published.send(&self.context, write);
        let (applied, written) = {
            let apply = self.apply(pod, spec, plan, observed);
            tokio::pin!(apply);
            tokio::select! {
                biased;
                applied = &mut apply => (applied, None),
                () = tokio::time::sleep(delay) => {
                    let (applied, written) = tokio::join!(apply, sending);
                    (applied, Some(written))
                }
            }
        };
        if let Some(written) = written {
            self.published.note(written)?;
        }
        applied
    }

    /// The first look after a start of the agent: what ran before goes on as it was.
    pub(super) fn adopt(&mut self, pod: &Pod, observed: &Observed) {
        if std::mem::replace(&mut self.adopted, true) {
            return;
        }
        let status = pod.status.clone().unwrap_or_default();
        let all = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
        for old in all {
            let Some(container) = observed.container(&old.name) else { continue };
            if old.container_id.as_deref() == Some(format!("containerd://{}", container.id).as_str()) {
                self.probes.adopt(&container.id, old.started == Some(true), old.ready);
            }
        }
        // The last start is as good a guess as any for a back-off that was under way.
        for container in observed.containers.iter().filter(|c| c.attempt > 0) {
            let guess = Backoff { delay_s: BACKOFF_MIN_S, since_ns: container.started_at };
            self.memory.backoff.entry(container.name.clone()).or_insert(guess);
        }
        if let Some(reason) = status.reason.as_deref() {
            tracing::debug!(uid = self.uid, reason, "pod had a reason before");
        }
    }

    fn take_eviction(&mut self) {
        let evicted = self.signals.evicted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(ended) = evicted {
            self.known.ended = Some(ended);
        }
    }

    /// activeDeadlineSeconds: the time it runs out, or the pod's end if it has.
    fn check_deadline(&mut self, pod: &Pod) -> Option<Instant> {
        let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
        let now = self.context.clock.now();
        let start = self.published.base(pod).status.and_then(|status| status.start_time).map(|time| time.0);
        // A pod that has no start time yet gets it in this round.
        let left = start.unwrap_or(now) + jiff::SignedDuration::from_secs(seconds) - now;
        let left = left.total(jiff::Unit::Second).unwrap_or(0.0);
        if left > 0.0 {
            return Some(Instant::now() + Duration::from_secs_f64(left));
        }
        if self.known.ended.is_none() && !is_terminal(pod) {
            let message = "Pod was active on the node longer than the specified deadline".to_owned();
            self.context.event(pod, None, EventKind::Normal, DEADLINE_EXCEEDED, message.clone());
            self.known.ended = Some(Ended { reason: DEADLINE_EXCEEDED, message });
        }
        None
    }

    /// Brings what is known about containers up to date.
    pub(super) fn look(&mut self, pod: &Pod, observed: &Observed) {
        let spec = pod.spec.as_ref();
        let of = |name: &str| spec.and_then(|spec| find(spec, name));
        let passing = |test: &dyn Fn(&Spec, &super::super::observe::Container) -> bool| -> BTreeSet<String> {
            let running = observed.running();
            running.filter(|c| of(&c.name).is_some_and(|spec| test(spec, c))).map(|c| c.id.clone()).collect()
        };
        let started = passing(&|spec, container| self.probes.started(spec, container));
        let ready = passing(&|spec, container| self.probes.ready(spec, container));
        self.known.ready = ready;
        self.known.started = started.clone();
        self.memory.started = started;
        let post_start = self.memory.unhealthy.iter().filter(|(_, why)| **why == Unhealthy::PostStart);
        let post_start: Vec<_> = post_start.map(|(id, why)| (id.clone(), *why)).collect();
        self.memory.unhealthy = self.probes.unhealthy();
        self.memory.unhealthy.extend(post_start);
        self.memory.unhealthy.retain(|id, _| observed.running().any(|container| container.id == *id));
        for container in observed.running() {
            self.known.waiting.remove(&container.name);
        }
        self.known.messages.retain(|id, _| observed.containers.iter().any(|container| container.id == *id));
        for container in observed.containers.iter().filter(|c| c.state == State::Exited) {
            if !self.known.messages.contains_key(&container.id) {
                let words = crate::logs::last_words(&self.context, pod, container);
                self.known.messages.insert(container.id.clone(), words);
            }
        }
    }

    fn note_backoff(&mut self, pod: &Pod, plan: &Plan, observed: &Observed) {
        let id = Identity::of(pod);
        let place = format!("{}_{}({})", id.name, id.namespace, id.uid);
        for name in plan.backing_off.keys() {
            let delay = self.memory.backoff.get(name).map_or(0, |backoff| backoff.delay_s);
            let message = format!("back-off {} restarting failed container={name} pod={place}", go_seconds(delay));
            let waiting = Waiting { reason: "CrashLoopBackOff", message };
            // A first start that failed is no loop yet, and its reason says more.
            let failed = self.known.waiting.get(name).is_some_and(|waiting| waiting.reason == "RunContainerError");
            if failed && delay == BACKOFF_MIN_S {
                continue;
            }
            let before = self.known.waiting.insert(name.clone(), waiting.clone());
            if before.as_ref() != Some(&waiting) && observed.container(name).is_some() {
                let message = format!("Back-off restarting failed container {name} in pod {place}");
                self.context.event(pod, Some(name), EventKind::Warning, "BackOff", message);
            }
        }
        // While it is started again it looks as before.
        let waits =
            |name: &String| plan.backing_off.contains_key(name) || plan.start.iter().any(|start| start.name == *name);
        self.known.waiting.retain(|name, waiting| waiting.reason != "CrashLoopBackOff" || waits(name));
    }

    async fn apply(
        &mut self,
        pod: &Arc<Pod>,
        spec: &PodSpec,
        plan: &Plan,
        observed: &Observed,
    ) -> Result<Option<Instant>, BoxError> {
        let context = Arc::clone(&self.context);
        self.apply_stops(pod, spec, plan, observed).await?;
        if !plan.stop.is_empty() {
            // What is to start again follows once these have ended.
            return Ok(Some(Instant::now()));
        }
        if let Err(error) = self.ensure_volumes(pod, observed).await {
            context.event(pod, None, EventKind::Warning, "FailedMount", chain(&error));
            self.note_failure(Part::Volumes, "", error.source.missing(), None);
            return Ok(None);
        }
        self.mended(&Part::Volumes);
        let starter = Starter { context: &context, pod, spec };
        let now = match &plan.sandbox {
            SandboxPlan::Keep(_) | SandboxPlan::Unneeded | SandboxPlan::Held => observed.clone(),
            SandboxPlan::Create { attempt } => {
                let permit = context.starts.acquire().await?;
                let made = self.apply_sandbox(&starter, *attempt, observed).await?;
                drop(permit);
                match made {
                    Some(observed) => observed,
                    None => return Ok(None),
                }
            }
        };
        self.apply_starts(&starter, plan, &now).await
    }

    /// `None`: it could not be made.
    async fn apply_sandbox(
        &mut self,
        starter: &Starter<'_>,
        attempt: u32,
        observed: &Observed,
    ) -> Result<Option<Observed>, BoxError> {
        let context = Arc::clone(&self.context);
        if attempt > 0 {
            let message = "Pod sandbox changed, it will be killed and re-created.".to_owned();
            context.event(starter.pod, None, EventKind::Normal, "SandboxChanged", message);
            stop::sandboxes(&context, observed).await?;
            let now_ns = context.clock.now_ns();
            self.memory.sandbox = Some(Backoff::after_start(self.memory.sandbox, now_ns, now_ns));
        }
        let trouble = self.network.borrow_and_update().clone();
        if let Some(trouble) = trouble.filter(|_| starter.spec.host_network != Some(true)) {
            context.event(
                starter.pod,
                None,
                EventKind::Warning,
                "NetworkNotReady",
                format!("network is not ready: {trouble}"),
            );
            self.note_failure(Part::Sandbox, "", None, None);
            return Ok(None);
        }
        let made = starter.sandbox(attempt).await;
        let observed = self.observe().await?;
        match made {
            Ok(()) => {
                self.mended(&Part::Sandbox);
                Ok(Some(observed))
            }
            Err(message) => {
                tracing::warn!(uid = self.uid, message, "pod sandbox not made, will retry");
                context.doubt.notify_one();
                self.note_failure(Part::Sandbox, "", None, None);
                stop::failed_sandboxes(&context, &observed).await;
                Ok(None)
            }
        }
    }

    async fn apply_stops(
        &self,
        pod: &Pod,
        spec: &PodSpec,
        plan: &Plan,
        observed: &Observed,
    ) -> Result<(), skiff_cri::Error> {
        let seconds = spec.termination_grace_period_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(30);
        let stops = plan.stop.iter().filter_map(|stop| {
            let container = observed.containers.iter().find(|container| container.id == stop.id)?;
            let own = find(spec, &stop.name).and_then(|spec| match self.memory.unhealthy.get(&stop.id)? {
                Unhealthy::Liveness => spec.liveness_probe.as_ref()?.termination_grace_period_seconds,
                Unhealthy::Startup => spec.startup_probe.as_ref()?.termination_grace_period_seconds,
                Unhealthy::PostStart => None,
            });
            let grace = Duration::from_secs(own.and_then(|s| u64::try_from(s).ok()).unwrap_or(seconds));
            Some(stop::container(&self.context, pod, container, &stop.message, grace))
        });
        futures::future::try_join_all(stops).await.map(drop)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Now,
    /// When it has lasted for a moment.
    Later,
}

/// `10s`, `1m20s`, `5m0s`: as Go writes durations.
fn go_seconds(seconds: i64) -> String {
    match seconds / 60 {
        0 => format!("{seconds}s"),
        minutes => format!("{minutes}m{}s", seconds % 60),
    }
}
