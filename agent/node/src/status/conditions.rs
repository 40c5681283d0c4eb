//! The conditions of a pod. Those of others (the scheduler's, custom ones) are kept as they are.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::resources::is_restartable_init;

/// The conditions written here and by nobody else.
pub const OURS: [&str; 4] = ["PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"];

/// Of a pod that the node ended to save itself.
const DISRUPTION: &str = "DisruptionTarget";

struct Verdict {
    status: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn yes() -> Self {
        Self { status: true, reason: None, message: None }
    }

    fn no(reason: &'static str, message: String) -> Self {
        let message = Some(message).filter(|message| !message.is_empty());
        Self { status: false, reason: Some(reason), message }
    }
}

pub(super) fn compute(pod: &Pod, status: &PodStatus, has_sandbox: bool, now: Timestamp) -> Vec<PodCondition> {
    let old: Vec<PodCondition> = pod.status.iter().flat_map(|status| status.conditions.clone()).flatten().collect();
    let mut all: Vec<PodCondition> = old.iter().filter(|c| !OURS.contains(&c.type_.as_str())).cloned().collect();
    let ready = containers_ready(status);
    let pod_ready = if ready.status { gates(pod, &old) } else { containers_ready(status) };
    let sandbox = Verdict { status: has_sandbox, reason: None, message: None };
    for (name, verdict) in OURS.into_iter().zip([sandbox, initialized(pod, status), ready, pod_ready]) {
        let before = old.iter().find(|condition| condition.type_ == name);
        all.push(condition(name, verdict, before, pod.metadata.generation, now));
    }
    if status.reason.as_deref() == Some("Evicted") {
        // Others may set it as well, for their own reasons.
        let message = status.message.clone().unwrap_or_default();
        let verdict = Verdict { status: true, ..Verdict::no("TerminationByKubelet", message) };
        let before = old.iter().find(|condition| condition.type_ == DISRUPTION);
        all.retain(|condition| condition.type_ != DISRUPTION);
        all.push(condition(DISRUPTION, verdict, before, pod.metadata.generation, now));
    }
    all
}

fn condition(
    name: &str,
    verdict: Verdict,
    before: Option<&PodCondition>,
    generation: Option<i64>,
    now: Timestamp,
) -> PodCondition {
    let status = if verdict.status { "True" } else { "False" };
    let since = before.filter(|before| before.status == status).and_then(|before| before.last_transition_time.clone());
    PodCondition {
        type_: name.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.map(str::to_owned),
        message: verdict.message,
        last_transition_time: since.or(Some(Time(now))),
        observed_generation: generation,
        ..PodCondition::default()
    }
}

fn initialized(pod: &Pod, status: &PodStatus) -> Verdict {
    let specs = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let statuses = status.init_container_statuses.iter().flatten();
    let done = |sidecar: bool, status: &ContainerStatus| match sidecar {
        true => status.started == Some(true),
        false => status.state.as_ref().and_then(|s| s.terminated.as_ref()).is_some_and(|t| t.exit_code == 0),
    };
    let main_ran = status.container_statuses.iter().flatten().any(|status| status.container_id.is_some());
    let open: Vec<&str> = specs
        .zip(statuses)
        .filter(|(spec, status)| !done(is_restartable_init(spec), status))
        .map(|(spec, _)| spec.name.as_str())
        .collect();
    match (open.is_empty() || main_ran, status.phase.as_deref()) {
        (true, Some("Succeeded")) => Verdict { reason: Some("PodCompleted"), ..Verdict::yes() },
        (true, _) => Verdict::yes(),
        (false, _) => {
            let message = format!("containers with incomplete status: [{}]", open.join(" "));
            Verdict::no("ContainersNotInitialized", message)
        }
    }
}

fn containers_ready(status: &PodStatus) -> Verdict {
    match status.phase.as_deref() {
        Some("Succeeded") => return Verdict::no("PodCompleted", String::new()),
        Some("Failed") => return Verdict::no("PodFailed", String::new()),
        Some(_) | None => {}
    }
    let sidecars = status.init_container_statuses.iter().flatten().filter(|status| status.started == Some(true));
    let all = || status.container_statuses.iter().flatten().chain(sidecars.clone());
    let unready: Vec<&str> = all().filter(|status| !status.ready).map(|status| status.name.as_str()).collect();
    match unready.is_empty() {
        true => Verdict::yes(),
        false => {
            let message = format!("containers with unready status: [{}]", unready.join(" "));
            Verdict::no("ContainersNotReady", message)
        }
    }
}

/// Conditions that others must set before the pod is ready.
fn gates(pod: &Pod, old: &[PodCondition]) -> Verdict {
    let wanted = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let mut messages = Vec::new();
    for gate in wanted {
        let name = &gate.condition_type;
        match old.iter().find(|condition| condition.type_ == *name) {
            Some(condition) if condition.status == "True" => {}
            Some(_) => messages.push(format!("the status of pod readiness gate \"{name}\" is not \"True\", but False")),
            None => messages.push(format!("corresponding condition of pod readiness gate \"{name}\" does not exist.")),
        }
    }
    match messages.is_empty() {
        true => Verdict::yes(),
        false => Verdict::no("ReadinessGatesNotReady", messages.join(", ")),
    }
}
