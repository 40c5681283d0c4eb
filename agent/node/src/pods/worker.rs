//! One task per pod: observe → plan → apply → publish, whenever something about the pod changed. Slow steps (a pull, a
//! start) are given up at once when the pod is to end. What a round does is in `round` and `starts`, how a pod ends in
//! `ending`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::exits::Exits;
use super::observe::{Observed, StatusCache, observe};
use super::plan::{Memory, Part};
use super::publish::Published;
use super::start::Starter;
use crate::context::{Context, chain};
use crate::images::Pulls;
use crate::objects::Missing;
use crate::probes::Probes;
use crate::status::{Ended, Known};
use crate::volumes::{self, Sources, Tokens, Volumes};

mod ending;
mod round;
mod starts;

/// After a failure of the runtime itself or of the API: they are back in a moment, and every pod waits for them.
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
    /// What failed for want of an object.
    missing: BTreeMap<Part, Missing>,
    known: Known,
    cache: StatusCache,
    tokens: Tokens,
    volumes: Volumes,
    published: Published,
    /// Why pods cannot have a network, if so.
    network: watch::Receiver<Option<String>>,
    /// The delay of the last retry, as long as failures go on.
    retry: Option<Duration>,
    adopted: bool,
}

impl Worker {
    pub fn new(context: Arc<Context>, exits: Exits, desired: watch::Receiver<Desired>, signals: Signals) -> Self {
        let uid = desired.borrow().pod().metadata.uid.clone().unwrap_or_default();
        let known = Known { host_ips: context.config.node_ips.clone(), ..Known::default() };
        let network = context.network_trouble.subscribe();
        Self {
            context,
            exits,
            uid,
            desired,
            signals,
            probes: Probes::default(),
            pulls: Pulls::default(),
            memory: Memory::default(),
            missing: BTreeMap::new(),
            known,
            cache: StatusCache::default(),
            tokens: Tokens::default(),
            volumes: Volumes::default(),
            published: Published::default(),
            network,
            retry: None,
            adopted: false,
        }
    }

    /// Runs until the pod is gone from the machine.
    pub async fn run(mut self) {
        let mut refresh = Instant::now() + REFRESH;
        loop {
            let desired = self.desired.borrow_and_update().clone();
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

    /// Each failure doubles the delay.
    async fn failed(&mut self, error: &(dyn std::error::Error + Send + Sync + 'static)) {
        tracing::warn!(uid = self.uid, error = chain(error), "pod not in its wanted state, will retry");
        let delay = self.retry.map_or(RETRY_MIN, |delay| (delay * 2).min(RETRY_MAX));
        self.retry = Some(delay);
        let _ = tokio::time::timeout(delay, self.woken()).await;
    }

    async fn woken(&mut self) {
        tokio::select! {
            _ = self.desired.changed() => {}
            () = self.signals.wake.notified() => {}
        }
    }

    /// Waits for a change or `next`; refreshes volumes meanwhile without looking at anything else.
    async fn wait(&mut self, pod: &Arc<Pod>, next: Option<Instant>, refresh: &mut Instant) {
        self.retry = None;
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
            let came = came(&self.context, pod, &self.missing);
            let no_sandbox = self.memory.failures.contains_key(&Part::Sandbox);
            tokio::select! {
                _ = self.desired.changed() => return,
                () = self.signals.wake.notified() => return,
                () = came => {
                    // What failed for want of it is tried at once.
                    for part in std::mem::take(&mut self.missing).into_keys() {
                        self.memory.failures.remove(&part);
                    }
                    return;
                }
                Ok(()) = self.network.changed(), if no_sandbox => {
                    self.memory.failures.remove(&Part::Sandbox);
                    return;
                }
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

    async fn publish(&mut self, pod: &Pod, observed: &Observed) -> Result<(), BoxError> {
        if let Some(write) = self.published.prepare(pod, observed, &self.known, self.context.clock.now()) {
            let written = self.published.send(&self.context, write).await;
            self.published.note(written)?;
        }
        Ok(())
    }
}

/// When one of the objects that a pod lacks may have come.
fn came(
    context: &Arc<Context>,
    pod: &Pod,
    missing: &BTreeMap<Part, Missing>,
) -> impl Future<Output = ()> + Send + use<> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let watches: Vec<_> = missing
        .values()
        .cloned()
        .map(|missing| {
            let (objects, namespace) = (context.objects.clone(), namespace.clone());
            async move { objects.came(&namespace, &missing).await }.boxed()
        })
        .collect();
    async move {
        match watches.is_empty() {
            true => std::future::pending().await,
            false => drop(futures::future::select_all(watches).await),
        }
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub fn is_terminal(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
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
