//! The pods of this node: one worker for each, started, woken and forgotten here. Pods found on the machine but not in
//! the API are removed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use nix::dir::Dir;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use skiff_cri::{Event, EventStream};
use skiff_reconcile::{EventKind, Informer};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;

use crate::context::{Context, chain};
use crate::names;
use crate::status::{Ended, OUR_CONDITIONS};

mod admission;
pub mod drain;
mod exits;
mod hooks;
pub mod observe;
pub mod plan;
pub mod publish;
pub mod start;
pub mod stop;
pub mod worker;

use exits::Exits;
use worker::{Desired, Signals, Worker, is_terminal};

/// Safety net: everything is event-driven, but events may be lost.
const RELIST: Duration = Duration::from_secs(60);

struct Handle {
    desired: watch::Sender<Desired>,
    signals: Signals,
    task: JoinHandle<()>,
}

/// Lets other parts end pods. Clones reach the same workers.
#[derive(Clone, Default)]
pub struct Evictor {
    signals: Arc<Mutex<BTreeMap<String, Signals>>>,
}

impl Evictor {
    /// Ends the pod as failed; `false` if it does not run here.
    pub fn evict(&self, uid: &str, message: String) -> bool {
        let signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(signals) = signals.get(uid) else { return false };
        let ended = Ended { reason: "Evicted", message };
        *signals.evicted.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
        signals.wake.notify_one();
        true
    }
}

pub struct Pods {
    context: Arc<Context>,
    informer: Informer<Pod>,
    evictor: Evictor,
    workers: HashMap<String, Handle>,
    orphans: HashMap<String, JoinHandle<()>>,
    exits: Exits,
    /// Sandboxes and containers with their states, at the last relist, by pod.
    fingerprints: HashMap<String, BTreeSet<(String, i32)>>,
}

impl Pods {
    pub fn new(context: Arc<Context>, informer: Informer<Pod>, evictor: Evictor) -> Self {
        Self {
            context,
            informer,
            evictor,
            workers: HashMap::new(),
            orphans: HashMap::new(),
            exits: Exits::default(),
            fingerprints: HashMap::new(),
        }
    }

    /// Runs until shutdown; containers go on.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut changes = self.informer.changes();
        let mut events = self.context.runtime.events();
        tokio::select! {
            () = self.informer.synced() => {}
            () = shutdown.cancelled() => return,
        }
        self.sync();
        let mut relist = interval_at(Instant::now() + RELIST, RELIST);
        self.relist().await;
        loop {
            tokio::select! {
                () = changes.next() => self.sync(),
                event = next_event(&mut events) => self.happened(event),
                _ = relist.tick() => self.relist().await,
                () = shutdown.cancelled() => break,
            }
        }
        for handle in self.workers.values() {
            handle.task.abort();
        }
    }

    /// Brings the set of workers in line with the API.
    fn sync(&mut self) {
        self.workers.retain(|_, handle| !handle.task.is_finished());
        let pods = self.informer.list();
        let ours: Vec<_> = pods.into_iter().filter(|pod| !is_mirror(pod)).collect();
        let present: BTreeSet<String> = ours.iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
        for (uid, handle) in &self.workers {
            if !present.contains(uid) {
                handle.desired.send_if_modified(|desired| match desired {
                    Desired::Pod(pod) => {
                        *desired = Desired::Gone(Arc::clone(pod));
                        true
                    }
                    Desired::Gone(_) => false,
                });
            }
        }
        for pod in &ours {
            let Some(uid) = pod.metadata.uid.clone() else { continue };
            if let Err(message) = names::check(pod) {
                self.refuse(pod, message);
                continue;
            }
            match self.workers.get(&uid) {
                Some(handle) => update(handle, pod),
                None => self.add(&uid, pod, &ours),
            }
        }
        let workers = &self.workers;
        let mut signals = self.evictor.signals.lock().unwrap_or_else(PoisonError::into_inner);
        signals.retain(|uid, _| workers.contains_key(uid));
        for (uid, handle) in workers {
            signals.entry(uid.clone()).or_insert_with(|| handle.signals.clone());
        }
    }

    fn add(&mut self, uid: &str, pod: &Arc<Pod>, all: &[Arc<Pod>]) {
        let is_new = pod.status.as_ref().is_none_or(|status| status.start_time.is_none());
        let signals = Signals::default();
        if is_new && pod.metadata.deletion_timestamp.is_none() {
            let active =
                all.iter().filter(|other| self.workers.contains_key(other.metadata.uid.as_deref().unwrap_or("")));
            let active: Vec<_> = active.filter(|other| !is_terminal(other)).cloned().collect();
            if let Err(ended) = admission::admit(&self.context, pod, &active) {
                tracing::info!(uid, reason = ended.reason, "pod refused");
                self.context.event(pod, None, EventKind::Warning, ended.reason, ended.message.clone());
                *signals.evicted.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
            }
        }
        let (desired, receiver) = watch::channel(Desired::Pod(Arc::clone(pod)));
        let worker = Worker::new(Arc::clone(&self.context), self.exits.clone(), receiver, signals.clone());
        let task = tokio::spawn(worker.run());
        self.workers.insert(uid.to_owned(), Handle { desired, signals, task });
    }

    /// Nothing on the machine is touched for such a pod, not even to end it.
    fn refuse(&self, pod: &Arc<Pod>, message: String) {
        self.context.event(pod, None, EventKind::Warning, "FailedValidation", message);
        if pod.metadata.deletion_timestamp.is_some() {
            let (context, pod) = (Arc::clone(&self.context), Arc::clone(pod));
            tokio::spawn(async move {
                if let Err(error) = publish::delete(&context, &pod).await {
                    tracing::warn!(error = chain(&error), "refused pod not deleted, will retry with its next change");
                }
            });
        }
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Exited { id, .. } => {
                if let Some(handle) = self.exits.ended(&id).and_then(|uid| self.workers.get(&uid)) {
                    handle.signals.wake.notify_one();
                }
            }
            // We start everything ourselves, and a container killed for want of memory exits as well.
            Event::Started { .. } | Event::OutOfMemory { .. } => {}
            Event::Lost => {
                for handle in self.workers.values() {
                    handle.signals.wake.notify_one();
                }
            }
        }
    }

    /// Wakes the workers whose pods look different in the runtime, and removes what belongs to nobody.
    async fn relist(&mut self) {
        let labels = HashMap::new;
        let runtime = &self.context.runtime;
        let lists = futures::try_join!(runtime.list_pod_sandboxes(labels()), runtime.list_containers(labels()));
        let (sandboxes, containers) = match lists {
            Ok(lists) => lists,
            Err(error) => {
                tracing::debug!(%error, "container runtime not listed, will retry");
                return;
            }
        };
        let mut found: HashMap<String, BTreeSet<(String, i32)>> = HashMap::new();
        let uid = |labels: &HashMap<String, String>| labels.get(names::POD_UID).cloned();
        for sandbox in &sandboxes {
            let Some(uid) = uid(&sandbox.labels) else { continue };
            found.entry(uid).or_default().insert((sandbox.id.clone(), sandbox.state));
        }
        for container in &containers {
            let Some(uid) = uid(&container.labels) else { continue };
            found.entry(uid).or_default().insert((container.id.clone(), container.state));
        }
        for (uid, handle) in &self.workers {
            if found.get(uid) != self.fingerprints.get(uid) {
                handle.signals.wake.notify_one();
            }
        }
        let on_disk =
            names_in(&self.context.config.data_dir.join("pods")).into_iter().chain(self.context.cgroups.pods());
        let suspects: BTreeSet<String> = found.keys().cloned().chain(on_disk).collect();
        self.fingerprints = found;
        self.remove_orphans(suspects);
    }

    fn remove_orphans(&mut self, suspects: BTreeSet<String>) {
        self.orphans.retain(|_, task| !task.is_finished());
        let known = self.informer.list();
        let in_api = |uid: &str| known.iter().any(|pod| pod.metadata.uid.as_deref() == Some(uid));
        for uid in suspects {
            if !names::is_component(&uid)
                || self.workers.contains_key(&uid)
                || self.orphans.contains_key(&uid)
                || in_api(&uid)
            {
                continue;
            }
            tracing::info!(uid, "removing a pod that the API does not know");
            let (context, owned) = (Arc::clone(&self.context), uid.clone());
            let task = tokio::spawn(async move {
                if let Err(error) = stop::orphan(&context, &owned).await {
                    tracing::warn!(%error, uid = owned, "unknown pod not removed, will retry");
                }
            });
            self.orphans.insert(uid, task);
        }
    }
}

async fn next_event(events: &mut EventStream) -> Event {
    match events.next().await {
        Some(event) => event,
        None => std::future::pending().await,
    }
}

fn update(handle: &Handle, pod: &Arc<Pod>) {
    handle.desired.send_if_modified(|desired| {
        let same = match desired {
            Desired::Pod(old) => old.metadata.resource_version == pod.metadata.resource_version,
            Desired::Gone(_) => false,
        };
        if same {
            return false;
        }
        // A status that we wrote ourselves is no reason to look at the pod again.
        let only_status = match desired {
            Desired::Pod(old) => only_status_differs(old, pod),
            Desired::Gone(_) => false,
        };
        *desired = Desired::Pod(Arc::clone(pod));
        !only_status
    });
}

fn only_status_differs(old: &Pod, new: &Pod) -> bool {
    let same_meta = old.metadata.labels == new.metadata.labels
        && old.metadata.annotations == new.metadata.annotations
        && old.metadata.deletion_timestamp == new.metadata.deletion_timestamp
        && old.metadata.deletion_grace_period_seconds == new.metadata.deletion_grace_period_seconds;
    let foreign = |pod: &Pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.clone()).flatten();
        let others = conditions.filter(|condition| !OUR_CONDITIONS.contains(&condition.type_.as_str()));
        (others.map(|condition| (condition.type_, condition.status)).collect::<Vec<_>>(), is_terminal(pod))
    };
    same_meta && old.spec == new.spec && foreign(old) == foreign(new)
}

fn is_mirror(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(names::MIRROR_POD))
}

/// What is in a directory, read without its access time being written.
fn names_in(dir: &std::path::Path) -> Vec<String> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOATIME;
    let entries = Dir::open(dir, flags, Mode::empty()).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().to_str().map(str::to_owned).ok());
    names.filter(|name| name != "." && name != "..").collect()
}

#[cfg(test)]
mod tests;
