//! The status of a pod: pure, from its spec, what the runtime has and what the worker knows. Reasons and phases are
//! upstream's: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container as Spec, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pods::observe::{Container, Observed, State};
use crate::pods::plan::{Restart, comes_back};
use crate::resources::{Qos, containers, init_containers, is_restartable_init};

mod conditions;
pub mod patch;

pub use conditions::OURS as OUR_CONDITIONS;

/// Why a container does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: &'static str,
    pub message: String,
}

/// Of a container that the runtime lost track of; upstream's.
const LOST_EXIT: i32 = 137;

/// activeDeadlineSeconds are over.
pub const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";

/// Why the pod as a whole has ended, when its containers do not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub reason: &'static str,
    pub message: String,
}

/// What is known besides the runtime's view.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// By container name.
    pub waiting: BTreeMap<String, Waiting>,
    /// Containers (by identifier) that pass their readiness probe, or have none.
    pub ready: BTreeSet<String>,
    /// Containers (by identifier) that have started in the sense of startup probes.
    pub started: BTreeSet<String>,
    /// Last words, by container identifier.
    pub messages: BTreeMap<String, String>,
    pub ended: Option<Ended>,
    /// The pod was asked to end, so that ended containers do not come back.
    pub terminating: bool,
    pub host_ips: Vec<IpAddr>,
}

pub fn compute(pod: &Pod, observed: &Observed, known: &Known, now: Timestamp) -> PodStatus {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let old = pod.status.clone().unwrap_or_default();
    let view = View { spec, observed, known };
    let main: Vec<_> = containers(spec).map(|c| view.container(c, find(&old.container_statuses, &c.name))).collect();
    let init: Vec<_> =
        init_containers(spec).map(|c| view.container(c, find(&old.init_container_statuses, &c.name))).collect();
    let phase = view.phase(&init, &main, old.phase.as_deref());
    // A pod that was refused has no containers to tell of.
    let refused = known.ended.is_some() && observed.containers.is_empty() && old.container_statuses.is_none();
    let ips = view.ips(&old);
    let mut status = PodStatus {
        phase: Some(phase.to_owned()),
        host_ip: known.host_ips.first().map(IpAddr::to_string),
        host_ips: some(known.host_ips.iter().map(|ip| HostIP { ip: ip.to_string() }).collect()),
        pod_ip: ips.first().map(IpAddr::to_string),
        pod_ips: some(ips.iter().map(|ip| PodIP { ip: ip.to_string() }).collect()),
        start_time: old.start_time.clone().or(Some(Time(now))),
        qos_class: Some(Qos::of(spec).as_str().to_owned()),
        observed_generation: pod.metadata.generation,
        reason: known.ended.as_ref().map(|ended| ended.reason.to_owned()).or(old.reason.clone()),
        message: known.ended.as_ref().map(|ended| ended.message.clone()).or(old.message.clone()),
        container_statuses: (!refused).then_some(main),
        init_container_statuses: some(init).filter(|_| !refused),
        ..PodStatus::default()
    };
    status.conditions = Some(conditions::compute(pod, &status, observed.sandbox().is_some(), now));
    status
}

/// Lists without an entry are not written.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn find<'a>(statuses: &'a Option<Vec<ContainerStatus>>, name: &str) -> Option<&'a ContainerStatus> {
    statuses.iter().flatten().find(|status| status.name == name)
}

struct View<'a> {
    spec: &'a PodSpec,
    observed: &'a Observed,
    known: &'a Known,
}

impl View<'_> {
    fn container(&self, spec: &Spec, old: Option<&ContainerStatus>) -> ContainerStatus {
        let container = self.observed.container(&spec.name);
        let mut status = ContainerStatus {
            name: spec.name.clone(),
            image: spec.image.clone().unwrap_or_default(),
            started: Some(false),
            ..ContainerStatus::default()
        };
        let Some(container) = container else {
            return self.never_ran(status, old);
        };
        status.restart_count = i32::try_from(container.attempt).unwrap_or(i32::MAX);
        status.container_id = Some(format!("containerd://{}", container.id));
        status.image_id = container.image_ref.clone();
        status.resources = spec.resources.clone();
        status.allocated_resources = spec.resources.as_ref().and_then(|resources| resources.requests.clone());
        let previous = self.observed.previous(&spec.name).map(|previous| self.terminated(previous));
        let waiting = self.known.waiting.get(&spec.name);
        match (container.state, waiting) {
            (State::Running, _) => {
                let started_at = nanos(container.started_at);
                status.state = Some(ContainerState {
                    running: Some(ContainerStateRunning { started_at }),
                    ..ContainerState::default()
                });
                status.ready = self.known.ready.contains(&container.id);
                status.started = Some(self.known.started.contains(&container.id));
                status.last_state = previous;
            }
            (State::Created, _) => {
                status.state = Some(self.waiting(&spec.name));
                status.last_state = previous;
            }
            (State::Exited | State::Unknown, Some(_))
                if !self.known.terminating && comes_back(self.spec, spec, container) =>
            {
                status.state = Some(self.waiting(&spec.name));
                status.last_state = Some(self.terminated(container));
            }
            (State::Exited | State::Unknown, _) => {
                let done = is_restartable_init(spec) || !init_containers(self.spec).any(|c| c.name == spec.name);
                status.ready = !done && container.succeeded();
                status.state = Some(self.terminated(container));
                status.last_state = previous;
            }
        }
        status.last_state = status.last_state.or_else(|| old.and_then(|old| old.last_state.clone()));
        status
    }

    /// Nothing in the runtime: either it is still to come, or it was cleaned away after its end.
    fn never_ran(&self, mut status: ContainerStatus, old: Option<&ContainerStatus>) -> ContainerStatus {
        let ended = |old: &&ContainerStatus| old.state.as_ref().is_some_and(|state| state.terminated.is_some());
        if let Some(old) = old.filter(ended) {
            return old.clone();
        }
        status.state = Some(self.waiting(&status.name));
        status.restart_count = old.map_or(0, |old| old.restart_count);
        status
    }

    fn waiting(&self, name: &str) -> ContainerState {
        let waiting = self.known.waiting.get(name).cloned().unwrap_or_else(|| {
            // Upstream does not tell which of its containers such a pod is at; kubectl does, by their ends.
            let has_init = init_containers(self.spec).next().is_some();
            let reason = if has_init { "PodInitializing" } else { "ContainerCreating" };
            Waiting { reason, message: String::new() }
        });
        let message = Some(waiting.message).filter(|message| !message.is_empty());
        let waiting = ContainerStateWaiting { reason: Some(waiting.reason.to_owned()), message };
        ContainerState { waiting: Some(waiting), ..ContainerState::default() }
    }

    fn terminated(&self, container: &Container) -> ContainerState {
        let lost = container.state == State::Unknown;
        let reason = match (container.reason.as_str(), container.exit_code) {
            _ if lost => "ContainerStatusUnknown",
            ("", 0) => "Completed",
            ("", _) => "Error",
            (reason, _) => reason,
        };
        let words = self.known.messages.get(&container.id).cloned().filter(|words| !words.is_empty());
        let terminated = ContainerStateTerminated {
            container_id: Some(format!("containerd://{}", container.id)),
            exit_code: if lost { LOST_EXIT } else { container.exit_code },
            reason: Some(reason.to_owned()),
            message: words.or_else(|| Some(container.message.clone()).filter(|message| !message.is_empty())),
            started_at: nanos(container.started_at),
            finished_at: nanos(container.finished_at),
            signal: None,
        };
        ContainerState { terminated: Some(terminated), ..ContainerState::default() }
    }

    /// The address stays in the status of a pod that has ended.
    fn ips(&self, old: &PodStatus) -> Vec<IpAddr> {
        if self.spec.host_network == Some(true) {
            return self.known.host_ips.clone();
        }
        match self.observed.sandbox() {
            Some(sandbox) => sandbox.ips.clone(),
            None => old.pod_ips.iter().flatten().filter_map(|ip| ip.ip.parse().ok()).collect(),
        }
    }

    fn phase(&self, init: &[ContainerStatus], main: &[ContainerStatus], old: Option<&str>) -> &'static str {
        match old {
            // An ended pod stays ended.
            Some("Succeeded") => return "Succeeded",
            Some("Failed") => return "Failed",
            Some(_) | None => {}
        }
        let still_runs = main.iter().chain(init).any(is_running);
        if self.known.ended.as_ref().is_some_and(|ended| ended.reason == DEADLINE_EXCEEDED) {
            // It is marked failed when its time is over; its containers end within their grace period.
            return "Failed";
        }
        if self.known.ended.is_some() {
            return if still_runs { self.phase_alive(init, main) } else { "Failed" };
        }
        if self.known.terminating && !still_runs {
            return self.phase_ended(init, main);
        }
        self.phase_alive(init, main)
    }

    fn phase_ended(&self, init: &[ContainerStatus], main: &[ContainerStatus]) -> &'static str {
        let all_ran = main.iter().all(|status| exit_code(status).is_some());
        let failed = |status: &ContainerStatus| exit_code(status).is_some_and(|code| code != 0);
        match () {
            () if main.iter().any(failed) => "Failed",
            () if all_ran => "Succeeded",
            () if init.iter().any(|status| exit_code(status).is_some()) => "Failed",
            () => "Pending",
        }
    }

    fn phase_alive(&self, init: &[ContainerStatus], main: &[ContainerStatus]) -> &'static str {
        let restart = Restart::of(self.spec);
        let waits = |status: &ContainerStatus| exit_code(status).is_none() && !is_running(status);
        let codes: Vec<i32> = main.iter().filter_map(exit_code).collect();
        let (running, waiting) = (main.iter().any(is_running), main.iter().any(waits));
        if waiting && !running && codes.is_empty() {
            let plain = init_containers(self.spec).zip(init).filter(|(spec, _)| !is_restartable_init(spec));
            let failed = plain.filter_map(|(_, status)| exit_code(status)).any(|code| code != 0);
            return if failed && restart == Restart::Never { "Failed" } else { "Pending" };
        }
        if waiting {
            // One that has never run holds back the phase of all.
            return "Pending";
        }
        match restart {
            _ if running => "Running",
            Restart::Always => "Running",
            Restart::OnFailure | Restart::Never if codes.iter().all(|code| *code == 0) => "Succeeded",
            Restart::Never => "Failed",
            Restart::OnFailure => "Running",
        }
    }
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.running.is_some())
}

/// How the container ended, also when it waits to be started again.
fn exit_code(status: &ContainerStatus) -> Option<i32> {
    let of = |state: &Option<ContainerState>| state.as_ref().and_then(|s| s.terminated.as_ref()).map(|t| t.exit_code);
    if is_running(status) { None } else { of(&status.state).or_else(|| of(&status.last_state)) }
}

/// Kubernetes' times have whole seconds.
fn nanos(nanos: i64) -> Option<Time> {
    (nanos > 0).then(|| Timestamp::from_second(nanos / 1_000_000_000).ok().map(Time)).flatten()
}

#[cfg(test)]
mod tests;
