//! Probes: one task per probe of a running container. A task asks, a pure state machine judges, and the worker is woken
//! when the verdict changes. Semantics and messages are upstream's:
//! https://kubernetes.io/docs/concepts/workloads/pods/probes/.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Spec, Pod, Probe};
use skiff_reconcile::EventKind;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::context::Context;
use crate::pods::observe::{Container, Observed};
use crate::pods::plan::Unhealthy;

pub mod check;
mod tls;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Liveness => "Liveness",
            Kind::Readiness => "Readiness",
        }
    }

    fn of(self, spec: &Spec) -> Option<&Probe> {
        match self {
            Kind::Startup => spec.startup_probe.as_ref(),
            Kind::Liveness => spec.liveness_probe.as_ref(),
            Kind::Readiness => spec.readiness_probe.as_ref(),
        }
    }
}

/// What one probe says about its container so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Too few answers yet.
    Open,
    Success,
    Failure,
}

/// The thresholds and what counts towards them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judge {
    success_threshold: u32,
    failure_threshold: u32,
    last: Option<bool>,
    in_a_row: u32,
    verdict: Verdict,
}

impl Judge {
    fn new(probe: &Probe) -> Self {
        let positive = |value: Option<i32>, default: u32| {
            value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
        };
        Self {
            success_threshold: positive(probe.success_threshold, 1),
            failure_threshold: positive(probe.failure_threshold, 3),
            last: None,
            in_a_row: 0,
            verdict: Verdict::Open,
        }
    }

    /// Takes one answer; tells the verdict after it.
    fn take(&mut self, success: bool) -> Verdict {
        self.in_a_row = if self.last == Some(success) { self.in_a_row + 1 } else { 1 };
        self.last = Some(success);
        let threshold = if success { self.success_threshold } else { self.failure_threshold };
        if self.in_a_row >= threshold {
            self.verdict = if success { Verdict::Success } else { Verdict::Failure };
        }
        self.verdict
    }
}

type Key = (String, Kind);

#[derive(Debug, Default)]
struct Shared {
    verdicts: Mutex<BTreeMap<Key, Verdict>>,
}

impl Shared {
    fn get(&self, id: &str, kind: Kind) -> Option<Verdict> {
        let verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        verdicts.get(&(id.to_owned(), kind)).copied()
    }

    fn set(&self, id: &str, kind: Kind, verdict: Verdict) -> bool {
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        verdicts.insert((id.to_owned(), kind), verdict) != Some(verdict)
    }
}

/// The probes of one pod.
#[derive(Debug, Default)]
pub struct Probes {
    tasks: BTreeMap<Key, JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Probes {
    pub fn stop(&mut self) {
        for (_, task) in std::mem::take(&mut self.tasks) {
            task.abort();
        }
    }

    /// Starts the probes of containers that run, ends those of containers that do not.
    pub fn sync(&mut self, context: &Arc<Context>, pod: &Arc<Pod>, observed: &Observed, wake: &Arc<Notify>) {
        let running: BTreeSet<&str> = observed.running().map(|container| container.id.as_str()).collect();
        self.tasks.retain(|(id, _), task| {
            let keep = running.contains(id.as_str());
            if !keep {
                task.abort();
            }
            keep
        });
        let mut verdicts = self.shared.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        verdicts.retain(|(id, _), _| running.contains(id.as_str()));
        drop(verdicts);
        let ip = observed.sandbox().and_then(|sandbox| sandbox.ips.first().copied());
        let ip = match pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true)) {
            true => context.config.node_ips.first().copied().or(Some(IpAddr::from([127, 0, 0, 1]))),
            false => ip,
        };
        for container in observed.running() {
            let Some(spec) = spec_of(pod, &container.name) else { continue };
            for kind in [Kind::Startup, Kind::Liveness, Kind::Readiness] {
                let key = (container.id.clone(), kind);
                let Some(probe) = kind.of(spec).filter(|_| !self.tasks.contains_key(&key)) else { continue };
                let task = Task {
                    context: Arc::clone(context),
                    pod: Arc::clone(pod),
                    shared: Arc::clone(&self.shared),
                    wake: Arc::clone(wake),
                    id: container.id.clone(),
                    spec: spec.clone(),
                    kind,
                    ip,
                    has_startup: spec.startup_probe.is_some(),
                };
                self.tasks.insert(key, tokio::spawn(task.run(probe.clone(), start_delay(probe, container))));
            }
        }
    }

    pub fn started(&self, spec: &Spec, container: &Container) -> bool {
        spec.startup_probe.is_none() || self.shared.get(&container.id, Kind::Startup) == Some(Verdict::Success)
    }

    pub fn ready(&self, spec: &Spec, container: &Container) -> bool {
        let passes = self.shared.get(&container.id, Kind::Readiness) == Some(Verdict::Success);
        self.started(spec, container) && (spec.readiness_probe.is_none() || passes)
    }

    /// After a restart of the agent: what the API said before still holds until a probe says otherwise.
    pub fn adopt(&self, id: &str, started: bool, ready: bool) {
        for (kind, good) in [(Kind::Startup, started), (Kind::Readiness, ready)] {
            if good {
                self.shared.set(id, kind, Verdict::Success);
            }
        }
    }

    pub fn unhealthy(&self) -> BTreeMap<String, Unhealthy> {
        let verdicts = self.shared.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = verdicts.iter().filter(|(_, verdict)| **verdict == Verdict::Failure);
        failed
            .filter_map(|((id, kind), _)| match kind {
                Kind::Startup => Some((id.clone(), Unhealthy::Startup)),
                Kind::Liveness => Some((id.clone(), Unhealthy::Liveness)),
                Kind::Readiness => None,
            })
            .collect()
    }
}

fn spec_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a Spec> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|container| container.name == name)
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default))
}

/// What is left of the initial delay, counted from the container's start.
fn start_delay(probe: &Probe, container: &Container) -> Duration {
    let age_ns = jiff::Timestamp::now().as_nanosecond() - i128::from(container.started_at);
    let age = Duration::from_nanos(u64::try_from(age_ns).unwrap_or(0));
    let delay = probe.initial_delay_seconds.and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
    Duration::from_secs(delay).saturating_sub(age)
}

struct Task {
    context: Arc<Context>,
    pod: Arc<Pod>,
    shared: Arc<Shared>,
    wake: Arc<Notify>,
    id: String,
    spec: Spec,
    kind: Kind,
    ip: Option<IpAddr>,
    has_startup: bool,
}

impl Task {
    async fn run(self, probe: Probe, delay: Duration) {
        let mut judge = Judge::new(&probe);
        let period = seconds(probe.period_seconds, 10);
        let mut next = Instant::now() + delay;
        loop {
            tokio::time::sleep_until(next).await;
            next = Instant::now() + period;
            if self.kind != Kind::Startup && self.has_startup && !self.startup_passed() {
                // Asked again soon, so that a container counts as ready right after its start.
                next = Instant::now() + Duration::from_secs(1).min(period);
                continue;
            }
            let answer = check::run(&self.context, &self.id, &self.spec, &probe, self.ip).await;
            if !answer.success {
                let message = format!("{} probe failed: {}", self.kind.as_str(), answer.message);
                let name = Some(self.spec.name.as_str());
                self.context.event(&self.pod, name, EventKind::Warning, "Unhealthy", message);
            }
            let verdict = judge.take(answer.success);
            if self.shared.set(&self.id, self.kind, verdict) {
                self.wake.notify_one();
            }
            let done = match (self.kind, verdict) {
                (Kind::Startup, Verdict::Success | Verdict::Failure) | (Kind::Liveness, Verdict::Failure) => true,
                (Kind::Startup | Kind::Liveness, _) | (Kind::Readiness, _) => false,
            };
            if done {
                return;
            }
        }
    }

    fn startup_passed(&self) -> bool {
        self.shared.get(&self.id, Kind::Startup) == Some(Verdict::Success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_needs_its_number_of_answers_in_a_row() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Probe::default() };
        let mut judge = Judge::new(&probe);
        let mut verdicts = Vec::new();
        for answer in [true, true, false, false, true, false, false, false, true, true] {
            verdicts.push(judge.take(answer));
        }
        use Verdict::{Failure as F, Open, Success as S};
        assert_eq!(verdicts, [Open, S, S, S, S, S, S, F, F, S]);
    }

    #[test]
    fn defaults_are_upstreams() {
        let mut judge = Judge::new(&Probe::default());
        assert_eq!(judge.take(true), Verdict::Success);
        assert_eq!([judge.take(false), judge.take(false)], [Verdict::Success; 2]);
        assert_eq!(judge.take(false), Verdict::Failure);
    }
}
