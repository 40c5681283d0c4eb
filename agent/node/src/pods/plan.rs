//! What to do next for a pod that is to run: pure, from its spec, what the runtime has, and what is remembered about
//! probes and back-off. It follows the rules of https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container as Spec, PodSpec};

use super::observe::{Container, Observed, State};
use crate::resources::is_restartable_init;
use backoff::wait;

mod backoff;

pub use backoff::{BACKOFF_MIN_S, Backoff, Failure, Part};

/// What the worker remembers between two plans. Lost with the agent; then back-off starts anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Containers (by identifier) whose startup probe passed, or that have none and run.
    pub started: BTreeSet<String>,
    /// Containers (by identifier) that a probe wants ended, with the reason.
    pub unhealthy: BTreeMap<String, Unhealthy>,
    /// Back-off by container name.
    pub backoff: BTreeMap<String, Backoff>,
    /// Of the sandbox, when it was made anew.
    pub sandbox: Option<Backoff>,
    /// What could not be brought up at the last try.
    pub failures: BTreeMap<Part, Failure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unhealthy {
    Liveness,
    Startup,
    /// The postStart hook failed.
    PostStart,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SandboxPlan {
    Keep(String),
    /// Make a new one; all containers of the old ones are stopped first.
    Create {
        attempt: u32,
    },
    /// None is needed: the pod has done its work.
    Unneeded,
    /// One is needed, but what it takes has failed and waits for its next try.
    Held,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Init,
    Sidecar,
    Main,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    pub name: String,
    pub kind: Kind,
    /// How often it was started before.
    pub attempt: u32,
    /// A container that was made but never started, to be removed first.
    pub replace: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    pub id: String,
    pub name: String,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub sandbox: SandboxPlan,
    pub stop: Vec<Stop>,
    pub start: Vec<Start>,
    /// Containers that ended and wait for their back-off, with the time it ends.
    pub backing_off: BTreeMap<String, i64>,
    /// What failed to come up, with the time of its next try.
    pub held: BTreeMap<Part, i64>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        let settled = match &self.sandbox {
            SandboxPlan::Keep(_) | SandboxPlan::Unneeded | SandboxPlan::Held => true,
            SandboxPlan::Create { .. } => false,
        };
        settled && self.stop.is_empty() && self.start.is_empty()
    }

    /// When something is due that waits now.
    pub fn next_ns(&self) -> Option<i64> {
        self.backing_off.values().chain(self.held.values()).min().copied()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    Always,
    OnFailure,
    Never,
}

impl Restart {
    pub fn of(spec: &PodSpec) -> Self {
        match spec.restart_policy.as_deref() {
            Some("Never") => Restart::Never,
            Some("OnFailure") => Restart::OnFailure,
            _ => Restart::Always,
        }
    }

    fn again(self, container: &Container) -> bool {
        match self {
            Restart::Always => true,
            Restart::OnFailure => container.failed(),
            Restart::Never => false,
        }
    }
}

/// Changes when the container must be made anew; only the image of a running pod's container can change.
pub fn hash(spec: &Spec) -> String {
    // FNV-1a: stable over versions of the agent, unlike the standard library's.
    let text = format!("{}\0{}", spec.name, spec.image.as_deref().unwrap_or_default());
    let sum = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{sum:x}")
}

pub fn plan(spec: &PodSpec, host_network: HostNetwork, observed: &Observed, memory: &Memory, now_ns: i64) -> Plan {
    let restart = Restart::of(spec);
    let usable = observed.sandbox().filter(|s| host_network == HostNetwork::Yes || !s.ips.is_empty());
    let mut planner = Planner { restart, observed, memory, now_ns, out: empty(usable.map(|s| s.id.clone())) };
    match usable {
        Some(sandbox) => {
            planner.stop_strays(&sandbox.id);
            planner.containers(spec, &sandbox.id);
        }
        None => planner.new_sandbox(spec),
    }
    planner.hold();
    planner.out
}

/// Whether a container that has ended is started again, now or later.
pub fn comes_back(pod: &PodSpec, spec: &Spec, container: &Container) -> bool {
    let restart = Restart::of(pod);
    let is_init = pod.init_containers.iter().flatten().any(|init| init.name == spec.name);
    match (is_init, is_restartable_init(spec)) {
        (true, true) => true,
        (true, false) => container.failed() && restart != Restart::Never,
        (false, _) => restart.again(container),
    }
}

/// Pods in the host's network have no address of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostNetwork {
    Yes,
    No,
}

fn empty(sandbox: Option<String>) -> Plan {
    let sandbox = sandbox.map_or(SandboxPlan::Unneeded, SandboxPlan::Keep);
    Plan { sandbox, stop: Vec::new(), start: Vec::new(), backing_off: BTreeMap::new(), held: BTreeMap::new() }
}

struct Planner<'a> {
    restart: Restart,
    observed: &'a Observed,
    memory: &'a Memory,
    now_ns: i64,
    out: Plan,
}

/// How far a container's turn has come.
enum Progress {
    Done,
    Wait,
    /// Nothing after it will ever run.
    Failed,
}

impl Planner<'_> {
    fn new_sandbox(&mut self, spec: &PodSpec) {
        let ran = spec.containers.iter().any(|c| self.observed.container(&c.name).is_some());
        let wanted = match self.restart {
            Restart::Always => true,
            Restart::Never => self.observed.sandboxes.is_empty() || !ran && self.init_can_go_on(spec),
            Restart::OnFailure => {
                let done = |c: &Spec| self.observed.container(&c.name).is_some_and(Container::succeeded);
                !spec.containers.iter().all(done)
            }
        };
        if !wanted {
            return;
        }
        let attempt = self.observed.sandboxes.first().map_or(0, |sandbox| sandbox.attempt + 1);
        self.out.sandbox = SandboxPlan::Create { attempt };
        for container in self.observed.running() {
            self.stop(container, "Pod sandbox changed, it will be killed and re-created.".to_owned());
        }
        // The first init container, or all main ones: the rest follows when these have come far enough.
        self.containers(spec, "");
    }

    /// Without volumes nothing is started, and without a sandbox no container.
    fn hold(&mut self) {
        let creates = match self.out.sandbox {
            SandboxPlan::Create { attempt } => Some(attempt),
            SandboxPlan::Keep(_) | SandboxPlan::Unneeded | SandboxPlan::Held => None,
        };
        if creates.is_none() && self.out.start.is_empty() {
            return;
        }
        let failed = |part: &Part| self.memory.failures.get(part).and_then(|failure| failure.until(self.now_ns));
        let volumes = failed(&Part::Volumes);
        let again = self.memory.sandbox.filter(|backoff| backoff.applies(self.now_ns));
        let again = again.and_then(|backoff| wait(backoff.since_ns, backoff.delay_s, self.now_ns));
        let sandbox = failed(&Part::Sandbox).max(again.filter(|_| creates.is_some_and(|attempt| attempt > 0)));
        let held = [(Part::Volumes, volumes), (Part::Sandbox, sandbox.filter(|_| creates.is_some()))];
        let held: Vec<_> = held.into_iter().filter_map(|(part, until)| Some((part, until?))).collect();
        if held.is_empty() {
            return;
        }
        self.out.held.extend(held);
        self.out.start.clear();
        if creates.is_some() {
            self.out.sandbox = SandboxPlan::Held;
        }
    }

    fn init_can_go_on(&self, spec: &PodSpec) -> bool {
        let mut init = spec.init_containers.iter().flatten().filter(|c| !is_restartable_init(c));
        !init.any(|c| self.observed.container(&c.name).is_some_and(Container::failed))
    }

    /// Containers left over in other sandboxes.
    fn stop_strays(&mut self, sandbox: &str) {
        for container in self.observed.running().filter(|c| c.sandbox != sandbox) {
            self.stop(container, "Pod sandbox changed, it will be killed and re-created.".to_owned());
        }
    }

    fn stop(&mut self, container: &Container, message: String) {
        if !self.out.stop.iter().any(|stop| stop.id == container.id) {
            self.out.stop.push(Stop { id: container.id.clone(), name: container.name.clone(), message });
        }
    }

    fn containers(&mut self, spec: &PodSpec, sandbox: &str) {
        let main_ran = spec.containers.iter().any(|c| self.in_sandbox(&c.name, sandbox).is_some());
        for init in spec.init_containers.iter().flatten() {
            let progress = match is_restartable_init(init) {
                true => self.sidecar(init, sandbox),
                false if main_ran => Progress::Done,
                false => self.init(init, sandbox),
            };
            match progress {
                Progress::Done => {}
                Progress::Wait if main_ran => {}
                Progress::Wait | Progress::Failed => return,
            }
        }
        for container in &spec.containers {
            self.main(container, sandbox);
        }
    }

    /// The newest container of this name in the sandbox in use: what ran in another one counts only for numbering.
    fn in_sandbox(&self, name: &str, sandbox: &str) -> Option<&Container> {
        self.observed.container(name).filter(|container| container.sandbox == sandbox)
    }

    fn init(&mut self, spec: &Spec, sandbox: &str) -> Progress {
        let Some(container) = self.in_sandbox(&spec.name, sandbox).cloned() else {
            self.start(spec, Kind::Init);
            return Progress::Wait;
        };
        match container.state {
            State::Running => {
                self.judge(spec, &container);
                Progress::Wait
            }
            State::Created => {
                self.start(spec, Kind::Init);
                Progress::Wait
            }
            State::Exited if container.exit_code == 0 => Progress::Done,
            State::Exited | State::Unknown if self.restart == Restart::Never => Progress::Failed,
            State::Exited | State::Unknown => {
                self.start_unless_backing_off(spec, Kind::Init, &container);
                Progress::Wait
            }
        }
    }

    fn sidecar(&mut self, spec: &Spec, sandbox: &str) -> Progress {
        let Some(container) = self.in_sandbox(&spec.name, sandbox).cloned() else {
            self.start(spec, Kind::Sidecar);
            return Progress::Wait;
        };
        match container.state {
            State::Running => {
                self.judge(spec, &container);
                let started = self.memory.started.contains(&container.id);
                if started { Progress::Done } else { Progress::Wait }
            }
            State::Created => {
                self.start(spec, Kind::Sidecar);
                Progress::Wait
            }
            State::Exited | State::Unknown => {
                self.start_unless_backing_off(spec, Kind::Sidecar, &container);
                Progress::Wait
            }
        }
    }

    fn main(&mut self, spec: &Spec, sandbox: &str) {
        let Some(container) = self.in_sandbox(&spec.name, sandbox).cloned() else {
            // In a new sandbox: what has already done its work in the old one is not done again.
            let old = self.observed.container(&spec.name);
            if old.is_none_or(|old| old.state == State::Created || self.restart.again(old)) {
                self.start(spec, Kind::Main);
            }
            return;
        };
        match container.state {
            State::Running => self.judge(spec, &container),
            State::Created => self.start(spec, Kind::Main),
            State::Exited | State::Unknown => {
                if self.restart.again(&container) {
                    self.start_unless_backing_off(spec, Kind::Main, &container);
                }
            }
        }
    }

    /// Whether a running container must end.
    fn judge(&mut self, spec: &Spec, container: &Container) {
        let name = &spec.name;
        if container.hash != hash(spec) {
            self.stop(container, format!("Container {name} definition changed, will be restarted"));
            return;
        }
        let message = match self.memory.unhealthy.get(&container.id) {
            None => return,
            Some(Unhealthy::Liveness) => format!("Container {name} failed liveness probe, will be restarted"),
            Some(Unhealthy::Startup) => format!("Container {name} failed startup probe, will be restarted"),
            Some(Unhealthy::PostStart) => "FailedPostStartHook".to_owned(),
        };
        self.stop(container, message);
    }

    fn start(&mut self, spec: &Spec, kind: Kind) {
        let part = Part::Container(spec.name.clone());
        let failure = self.memory.failures.get(&part).filter(|failure| failure.of == hash(spec));
        if let Some(until) = failure.and_then(|failure| failure.until(self.now_ns)) {
            self.out.held.insert(part, until);
            return;
        }
        let last = self.observed.container(&spec.name);
        let unstarted = last.filter(|container| container.state == State::Created);
        let attempt = match (last, unstarted) {
            (_, Some(unstarted)) => unstarted.attempt,
            (Some(last), None) => last.attempt + 1,
            (None, None) => 0,
        };
        let replace = unstarted.map(|container| container.id.clone());
        self.out.start.push(Start { name: spec.name.clone(), kind, attempt, replace });
    }

    fn start_unless_backing_off(&mut self, spec: &Spec, kind: Kind, last: &Container) {
        let backoff = self.memory.backoff.get(&spec.name).filter(|backoff| backoff.applies(last.finished_at));
        let backoff = backoff.filter(|_| last.hash == hash(spec));
        match backoff.and_then(|backoff| wait(last.finished_at, backoff.delay_s, self.now_ns)) {
            Some(until) => {
                self.out.backing_off.insert(spec.name.clone(), until);
            }
            None => self.start(spec, kind),
        }
    }
}

#[cfg(test)]
mod tests;
