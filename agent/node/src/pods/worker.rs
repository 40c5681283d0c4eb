//! One task per pod: observe → plan → apply → publish, whenever something about the pod changed. Slow steps (a pull, a
//! start) are given up at once when the pod is to end.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as Spec, Pod, PodSpec};
use skiff_reconcile::EventKind;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::observe::{Observed, State, StatusCache, observe};
use super::plan::{Backoff, HostNetwork, Memory, Plan, SandboxPlan, Unhealthy, plan};
use super::publish::Published;
use super::start::{Identity, Starter, find};
use super::{exits::Exits, stop};
use crate::context::{Context, chain};
use crate::images::Pulls;
use crate::probes::Probes;
use crate::status::{Ended, Known, Waiting};
use crate::volumes::{self, Sources, Tokens, Volumes};

/// After a failure of the runtime or a volume.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// How often ConfigMaps and Secrets of running pods are looked at.
const REFRESH: Duration = Duration::from_secs(60);
/// The runtime notes an end a moment after its event.
const EXIT_LAG: Duration = Duration::from_millis(20);

/// What is wanted of a pod.
#[derive(Clone, Debug)]
pub enum Desired {
    /// To run, or to end if it has a deletion time.
    Pod(Arc<Pod>),
    /// Its object is gone: end it.
    Gone(Arc<Pod>),
}

impl Desired {
    fn pod(&self) -> &Arc<Pod> {
        match self {
            Desired::Pod(pod) | Desired::Gone(pod) => pod,
        }
    }

    /// How long the pod is given to end, if it is to end.
    fn ending(&self) -> Option<Duration> {
        let pod = self.pod();
        let spec = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
        let asked = pod.metadata.deletion_grace_period_seconds;
        let seconds = match self {
            Desired::Pod(_) if pod.metadata.deletion_timestamp.is_none() => return None,
            Desired::Pod(_) => asked.unwrap_or(spec),
            Desired::Gone(_) => asked.unwrap_or(spec).min(spec),
        };
        Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    }
}

/// What a worker shares with the dispatcher.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    pub wake: Arc<Notify>,
    /// Set from outside: the pod was evicted.
    pub evicted: Arc<Mutex<Option<Ended>>>,
}

pub struct Worker {
    context: Arc<Context>,
    exits: Exits,
    uid: String,
    desired: watch::Receiver<Desired>,
    signals: Signals,
    probes: Probes,
    pulls: Pulls,
    memory: Memory,
    known: Known,
    cache: StatusCache,
    tokens: Tokens,
    volumes: Volumes,
    published: Published,
    /// The delay of the last retry, as long as failures go on.
    retry: Option<Duration>,
    failing: bool,
    adopted: bool,
}

impl Worker {
    pub fn new(context: Arc<Context>, exits: Exits, desired: watch::Receiver<Desired>, signals: Signals) -> Self {
        let uid = desired.borrow().pod().metadata.uid.clone().unwrap_or_default();
        let known = Known { host_ips: context.config.node_ips.clone(), ..Known::default() };
        Self {
            context,
            exits,
            uid,
            desired,
            signals,
            probes: Probes::default(),
            pulls: Pulls::default(),
            memory: Memory::default(),
            known,
            cache: StatusCache::default(),
            tokens: Tokens::default(),
            volumes: Volumes::default(),
            published: Published::default(),
            retry: None,
            failing: false,
            adopted: false,
        }
    }

    /// Runs until the pod is gone from the machine.
    pub async fn run(mut self) {
        let mut refresh = Instant::now() + REFRESH;
        loop {
            let desired = self.desired.borrow_and_update().clone();
            self.failing = false;
            if let Some(grace) = desired.ending() {
                match self.end(&desired, grace).await {
                    Ok(true) => return,
                    Ok(false) => continue,
                    Err(error) => self.failed(&*error).await,
                }
            } else {
                let mut watched = self.desired.clone();
                let ended = async move {
                    // The dispatcher lives as long as its workers.
                    let _ = watched.wait_for(|desired| desired.ending().is_some()).await;
                };
                let pod = Arc::clone(desired.pod());
                let synced = tokio::select! {
                    synced = self.sync(&pod) => synced,
                    () = ended => continue,
                };
                match synced {
                    Ok(next) => self.wait(&pod, next, &mut refresh).await,
                    Err(error) => self.failed(&*error).await,
                }
            }
        }
    }

    async fn failed(&mut self, error: &(dyn std::error::Error + Send + Sync + 'static)) {
        tracing::warn!(uid = self.uid, error = chain(error), "pod not in its wanted state, will retry");
        let until = self.retry_later();
        let _ = tokio::time::timeout_at(until, self.woken()).await;
    }

    /// Each round of failures doubles the delay, once.
    fn retry_later(&mut self) -> Instant {
        let delay = match self.retry {
            Some(delay) if self.failing => delay,
            Some(delay) => (delay * 2).min(RETRY_MAX),
            None => RETRY_MIN,
        };
        self.failing = true;
        self.retry = Some(delay);
        Instant::now() + delay
    }

    async fn woken(&mut self) {
        tokio::select! {
            _ = self.desired.changed() => {}
            () = self.signals.wake.notified() => {}
        }
    }

    /// Waits for a change or `next`; refreshes volumes meanwhile without looking at anything else.
    async fn wait(&mut self, pod: &Arc<Pod>, next: Option<Instant>, refresh: &mut Instant) {
        if !self.failing {
            self.retry = None;
        }
        loop {
            let token = self.volumes.refresh_at.map(|at| Instant::now() + until(at));
            let objects = self.volumes.from_objects.then_some(*refresh);
            let sooner = [token, objects].into_iter().fold(next, soonest);
            let slept = async {
                match sooner {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.desired.changed() => return,
                () = self.signals.wake.notified() => return,
                () = slept => {}
            }
            if next.is_some_and(|next| next <= Instant::now()) {
                return;
            }
            *refresh = Instant::now() + REFRESH;
            self.refresh_volumes(pod).await;
        }
    }

    /// A failure leaves the volumes as they are, until the next time.
    async fn refresh_volumes(&mut self, pod: &Arc<Pod>) {
        let observed = match self.observe().await {
            Ok(observed) => observed,
            Err(error) => {
                tracing::debug!(uid = self.uid, %error, "volumes not refreshed, will retry");
                return;
            }
        };
        if let Err(error) = self.ensure_volumes(pod, &observed).await {
            tracing::debug!(uid = self.uid, error = chain(&error), "volumes not refreshed, will retry");
            self.volumes.from_objects = true;
            self.volumes.refresh_at = None;
        }
    }

    async fn observe(&mut self) -> skiff_cri::Result<Observed> {
        let observed = observe(&*self.context.runtime, &self.uid, &mut self.cache).await?;
        self.exits.register(&self.uid, &observed);
        Ok(observed)
    }

    /// One round for a pod that is to run. Answers when to come again if nothing happens before.
    async fn sync(&mut self, pod: &Arc<Pod>) -> Result<Option<Instant>, BoxError> {
        let mut observed = self.observe().await?;
        self.adopt(pod, &observed);
        self.take_eviction();
        let deadline = self.check_deadline(pod);
        if self.known.ended.is_some() || is_terminal(pod) {
            return self.finish(pod, observed).await;
        }
        self.look(pod, &observed);
        let now = Timestamp::now();
        let spec = pod.spec.clone().unwrap_or_default();
        let network = if spec.host_network == Some(true) { HostNetwork::Yes } else { HostNetwork::No };
        let now_ns = i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX);
        let plan = plan(&spec, network, &observed, &self.memory, now_ns);
        self.note_backoff(pod, &plan, &observed);
        self.publish(pod, &observed, now).await?;
        let mut next = deadline;
        if !plan.is_empty() {
            let retry_at = self.apply(pod, &spec, &plan, &observed).await?;
            next = soonest(next, retry_at);
            let before = std::mem::take(&mut observed);
            observed = self.observe().await?;
            if ended_since(&before, &observed) {
                // Ended before anybody knew whose it was, so that no event will wake us.
                next = Some(Instant::now());
            }
            self.look(pod, &observed);
            self.publish(pod, &observed, Timestamp::now()).await?;
            stop::leftovers(&self.context, &observed).await;
        } else if spec.volumes.is_some() && self.volumes.paths.is_empty() && observed.running().next().is_some() {
            // Adopted: from now on its volumes are kept up to date again.
            self.refresh_volumes(pod).await;
        }
        self.probes.sync(&self.context, pod, &observed, &self.signals.wake);
        let wait_ns = plan.backing_off.values().min().map(|until| until - now_ns);
        let backoff = wait_ns.map(|ns| Instant::now() + Duration::from_nanos(u64::try_from(ns).unwrap_or(0)));
        let lag = self.exits.lagging(&observed).then(|| Instant::now() + EXIT_LAG);
        Ok([backoff, lag].into_iter().fold(next, soonest))
    }

    /// The first look after a start of the agent: what ran before goes on as it was.
    fn adopt(&mut self, pod: &Pod, observed: &Observed) {
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
            let guess = Backoff { delay_s: super::plan::BACKOFF_MIN_S, since_ns: container.started_at };
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
        let start = pod.status.as_ref()?.start_time.as_ref()?.0;
        let left = start.as_second() + seconds - Timestamp::now().as_second();
        if left > 0 {
            return Some(Instant::now() + Duration::from_secs(u64::try_from(left).unwrap_or(0)));
        }
        if self.known.ended.is_none() && !is_terminal(pod) {
            let message = "Pod was active on the node longer than the specified deadline".to_owned();
            self.context.event(pod, None, EventKind::Normal, "DeadlineExceeded", message.clone());
            self.known.ended = Some(Ended { reason: "DeadlineExceeded", message });
        }
        None
    }

    /// Brings what is known about containers up to date.
    fn look(&mut self, pod: &Pod, observed: &Observed) {
        let spec = pod.spec.as_ref();
        let of = |name: &str| spec.and_then(|spec| find(spec, name));
        let passing = |test: &dyn Fn(&Spec, &super::observe::Container) -> bool| -> BTreeSet<String> {
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
            let delay = jiff::SignedDuration::from_secs(delay);
            let message = format!("back-off {} restarting failed container={name} pod={place}", go_duration(delay));
            let waiting = Waiting { reason: "CrashLoopBackOff", message };
            let before = self.known.waiting.insert(name.clone(), waiting.clone());
            if before.as_ref() != Some(&waiting) && observed.container(name).is_some() {
                let message = format!("Back-off restarting failed container {name} in pod {place}");
                self.context.event(pod, Some(name), EventKind::Warning, "BackOff", message);
            }
        }
        let crashed = |waiting: &Waiting| waiting.reason == "CrashLoopBackOff";
        self.known.waiting.retain(|name, waiting| !crashed(waiting) || plan.backing_off.contains_key(name));
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
            return Ok(Some(self.retry_later()));
        }
        let starter = Starter { context: &context, pod, spec };
        let permit = context.starts.acquire().await?;
        let now = match &plan.sandbox {
            SandboxPlan::Keep(_) | SandboxPlan::Unneeded => observed.clone(),
            SandboxPlan::Create { attempt } => {
                if *attempt > 0 {
                    let message = "Pod sandbox changed, it will be killed and re-created.".to_owned();
                    context.event(pod, None, EventKind::Normal, "SandboxChanged", message);
                    stop::sandboxes(&context, observed).await?;
                }
                if let Err(message) = starter.sandbox(*attempt).await {
                    tracing::warn!(uid = self.uid, message, "pod sandbox not made, will retry");
                    return Ok(Some(self.retry_later()));
                }
                self.observe().await?
            }
        };
        drop(permit);
        self.apply_starts(&starter, plan, &now).await
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

    async fn apply_starts(
        &mut self,
        starter: &Starter<'_>,
        plan: &Plan,
        observed: &Observed,
    ) -> Result<Option<Instant>, BoxError> {
        let Some(sandbox) = observed.sandbox() else { return Ok(None) };
        let mut next = None;
        for start in &plan.start {
            match starter.container(start, sandbox, &self.volumes, &mut self.pulls).await {
                Ok(id) => {
                    self.known.waiting.remove(&start.name);
                    let last = observed.container(&start.name).filter(|last| last.state == State::Exited);
                    if let Some(last) = last {
                        let now_ns = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
                        let before = self.memory.backoff.get(&start.name).copied();
                        let backoff = Backoff::after_start(before, last.finished_at, now_ns);
                        self.memory.backoff.insert(start.name.clone(), backoff);
                    }
                    if !starter.post_start(&start.name, &id, sandbox).await {
                        self.memory.unhealthy.insert(id, Unhealthy::PostStart);
                        next = Some(Instant::now());
                    }
                }
                Err(waiting) => {
                    let pull = waiting.reason.ends_with("ImagePull") || waiting.reason == "ImagePullBackOff";
                    self.known.waiting.insert(start.name.clone(), waiting);
                    let at = if pull { self.pulls.next() } else { Some(self.retry_later()) };
                    next = soonest(next, at);
                }
            }
        }
        Ok(next)
    }

    async fn ensure_volumes(&mut self, pod: &Arc<Pod>, observed: &Observed) -> Result<(), volumes::SetUpError> {
        let context = Arc::clone(&self.context);
        let empty = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let starter = Starter { context: &context, pod, spec };
        let facts = starter.facts(observed.sandbox());
        let sources = Sources { client: &context.client, objects: &context.objects, pod, facts: &facts };
        self.volumes = volumes::ensure(&sources, &context.config.pod_dir(&self.uid), &mut self.tokens).await?;
        Ok(())
    }

    /// A pod that has ended for good but stays in the API: its containers are kept for their logs.
    async fn finish(&mut self, pod: &Arc<Pod>, observed: Observed) -> Result<Option<Instant>, BoxError> {
        self.probes.stop();
        let mut observed = observed;
        if observed.running().next().is_some() || observed.sandbox().is_some() {
            let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
            let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(30));
            stop::pod(&self.context, pod, &observed, grace).await?;
            observed = self.settled().await?;
        }
        self.look(pod, &observed);
        self.known.terminating = true;
        self.publish(pod, &observed, Timestamp::now()).await?;
        self.volumes = Volumes::default();
        stop::release_volumes(&self.context, &self.uid);
        Ok(None)
    }

    /// Observes until the runtime has noted all ends that were asked for.
    async fn settled(&mut self) -> skiff_cri::Result<Observed> {
        for _ in 0..50 {
            let observed = self.observe().await?;
            if observed.running().next().is_none() {
                return Ok(observed);
            }
            tokio::time::sleep(EXIT_LAG).await;
        }
        self.observe().await
    }

    /// Ends the pod and removes it, here and in the API. `false`: the grace period was changed meanwhile.
    async fn end(&mut self, desired: &Desired, grace: Duration) -> Result<bool, BoxError> {
        let pod = Arc::clone(desired.pod());
        self.probes.stop();
        self.known.terminating = true;
        let observed = self.observe().await?;
        self.adopt(&pod, &observed);
        let mut watched = self.desired.clone();
        let hurried = async move {
            let _ = watched.wait_for(|desired| desired.ending().is_some_and(|asked| asked < grace)).await;
        };
        let stopping = async {
            if !grace.is_zero() && observed.running().next().is_some() {
                super::drain::wait(&self.context, &pod).await;
            }
            stop::pod(&self.context, &pod, &observed, grace).await
        };
        tokio::select! {
            stopped = stopping => stopped?,
            () = hurried => return Ok(false),
        }
        let observed = self.settled().await?;
        self.look(&pod, &observed);
        if let Desired::Pod(_) = desired {
            let latest = Arc::clone(self.desired.borrow().pod());
            self.publish(&latest, &observed, Timestamp::now()).await?;
        }
        stop::remove(&self.context, &self.uid, &observed).await?;
        self.exits.forget(&self.uid);
        if let Desired::Pod(_) = desired {
            super::publish::delete(&self.context, &pod).await?;
        }
        Ok(true)
    }

    async fn publish(&mut self, pod: &Pod, observed: &Observed, now: Timestamp) -> Result<(), BoxError> {
        self.published.publish(&self.context, pod, observed, &self.known, now).await?;
        Ok(())
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub fn is_terminal(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn ended_since(before: &Observed, after: &Observed) -> bool {
    let ended = |observed: &Observed| -> BTreeSet<String> {
        observed.containers.iter().filter(|c| c.state == State::Exited).map(|c| c.id.clone()).collect()
    };
    !ended(after).is_subset(&ended(before))
}

fn soonest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, None) => a,
        (None, b) => b,
    }
}

fn until(at: Timestamp) -> Duration {
    let seconds = at.as_second() - Timestamp::now().as_second();
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// `10s`, `1m20s`, `5m0s`: as Go writes durations.
fn go_duration(duration: jiff::SignedDuration) -> String {
    let seconds = duration.as_secs();
    match seconds / 60 {
        0 => format!("{seconds}s"),
        minutes => format!("{minutes}m{}s", seconds % 60),
    }
}
