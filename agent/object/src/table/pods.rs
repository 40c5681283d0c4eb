//! The row of a pod: what its containers' states add up to.
//!
//! Owns the status text (`CrashLoopBackOff`, `Init:0/2`, `Terminating`, …), readiness and restarts.

use super::cells::{NONE, condition, is_condition_true, list, text_or_none};
use super::{AGE, Column, NAME, Printed, age, name, text, wide};
use crate::{duration, meta};
use jiff::Timestamp;
use serde_json::Value;

const COLUMNS: &[Column<'static>] = &[
    NAME,
    text("Ready", "The aggregate readiness state of this pod for accepting traffic."),
    text("Status", "The aggregate status of the containers in this pod."),
    text(
        "Restarts",
        "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
    ),
    AGE,
    wide("IP", "The address of the pod, routable at least within the cluster."),
    wide("Node", "The node on which the pod runs."),
    wide("Nominated Node", "The node that is being freed for the pod."),
    wide("Readiness Gates", "The conditions that are true of those the pod asks for."),
];

pub const PRINTED: &[Printed] = &[("", "Pod", COLUMNS, row)];

/// What the statuses of containers add up to.
#[derive(Debug, Default)]
struct Summary {
    reason: String,
    total: usize,
    ready: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

fn row(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = summarize(pod);
    let restarts = match summary.last_restart {
        Some(last) if summary.restarts > 0 => {
            format!("{} ({} ago)", summary.restarts, duration::human(now.as_second() - last.as_second()))
        }
        Some(_) | None => summary.restarts.to_string(),
    };
    let ip = match list(pod, &["status", "podIPs"]).first() {
        Some(first) => text_or_none(first, &["ip"]),
        None => text_or_none(pod, &["status", "podIP"]),
    };
    vec![
        name(pod),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(pod, now),
        ip,
        text_or_none(pod, &["spec", "nodeName"]),
        text_or_none(pod, &["status", "nominatedNodeName"]),
        readiness_gates(pod),
    ]
}

fn readiness_gates(pod: &Value) -> Value {
    let gates = list(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return NONE.into();
    }
    let is_true = |gate: &&Value| is_condition_true(pod, meta::text_at(gate, &["conditionType"]));
    format!("{}/{}", gates.iter().filter(is_true).count(), gates.len()).into()
}

fn summarize(pod: &Value) -> Summary {
    let status = |field: &str| meta::text_at(pod, &["status", field]).to_owned();
    let phase = status("phase");
    let init = list(pod, &["spec", "initContainers"]);
    let sidecars = init.iter().filter(|container| is_sidecar(container)).count();
    let mut summary = Summary {
        reason: match status("reason") {
            reason if reason.is_empty() => phase.clone(),
            reason => reason,
        },
        total: list(pod, &["spec", "containers"]).len() + sidecars,
        ..Summary::default()
    };
    let scheduled = condition(pod, "PodScheduled").map(|scheduled| meta::text_at(scheduled, &["reason"]));
    if scheduled == Some("SchedulingGated") {
        summary.reason = "SchedulingGated".to_owned();
    }
    let (initializing, sidecar_restarts) = add_init_containers(pod, init, &mut summary);
    if !initializing || is_condition_true(pod, "Initialized") {
        summary.restarts = sidecar_restarts;
        add_containers(pod, &mut summary);
    }
    if meta::deletion_timestamp(pod).is_some() {
        if status("reason") == "NodeLost" {
            summary.reason = "Unknown".to_owned();
        } else if phase != "Succeeded" && phase != "Failed" {
            summary.reason = "Terminating".to_owned();
        }
    }
    summary
}

fn is_sidecar(container: &Value) -> bool {
    meta::text_at(container, &["restartPolicy"]) == "Always"
}

/// Adds init containers up to the first that is not done. Tells whether there is one, and the restarts of sidecars.
fn add_init_containers(pod: &Value, init: &[Value], summary: &mut Summary) -> (bool, i64) {
    let mut sidecar_restarts = 0;
    for (index, status) in list(pod, &["status", "initContainerStatuses"]).iter().enumerate() {
        let name = meta::text_at(status, &["name"]);
        let sidecar = init.iter().any(|container| meta::text_at(container, &["name"]) == name && is_sidecar(container));
        add_restarts(status, summary);
        if sidecar {
            sidecar_restarts += restarts(status);
        }
        let (terminated, waiting) = (state(status, "terminated"), state(status, "waiting"));
        let started = status.get("started").and_then(Value::as_bool).unwrap_or(false);
        let waiting_reason = waiting.map(|waiting| meta::text_at(waiting, &["reason"])).unwrap_or_default();
        summary.reason = match terminated {
            Some(terminated) if exit_code(terminated) == 0 => continue,
            _ if sidecar && started => {
                summary.ready += usize::from(is_ready(status));
                continue;
            }
            Some(terminated) => format!("Init:{}", ended(terminated)),
            None if !waiting_reason.is_empty() && waiting_reason != "PodInitializing" => {
                format!("Init:{waiting_reason}")
            }
            None => format!("Init:{index}/{}", init.len()),
        };
        return (true, sidecar_restarts);
    }
    (false, sidecar_restarts)
}

fn add_containers(pod: &Value, summary: &mut Summary) {
    let mut running = false;
    for status in list(pod, &["status", "containerStatuses"]).iter().rev() {
        add_restarts(status, summary);
        let (terminated, waiting) = (state(status, "terminated"), state(status, "waiting"));
        let waiting_reason = waiting.map(|waiting| meta::text_at(waiting, &["reason"])).unwrap_or_default();
        if !waiting_reason.is_empty() {
            summary.reason = waiting_reason.to_owned();
        } else if let Some(terminated) = terminated {
            summary.reason = ended(terminated);
        } else if is_ready(status) && state(status, "running").is_some() {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" && running {
        let reason = if is_condition_true(pod, "Ready") { "Running" } else { "NotReady" };
        summary.reason = reason.to_owned();
    }
}

fn state<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    meta::at(status, &["state", name]).filter(|state| !state.is_null())
}

fn is_ready(status: &Value) -> bool {
    status.get("ready").and_then(Value::as_bool).unwrap_or(false)
}

fn exit_code(terminated: &Value) -> i64 {
    terminated.get("exitCode").and_then(Value::as_i64).unwrap_or(0)
}

/// Why a container ended.
fn ended(terminated: &Value) -> String {
    let signal = terminated.get("signal").and_then(Value::as_i64).unwrap_or(0);
    match meta::text_at(terminated, &["reason"]) {
        "" if signal != 0 => format!("Signal:{signal}"),
        "" => format!("ExitCode:{}", exit_code(terminated)),
        reason => reason.to_owned(),
    }
}

fn restarts(status: &Value) -> i64 {
    status.get("restartCount").and_then(Value::as_i64).unwrap_or(0)
}

fn add_restarts(status: &Value, summary: &mut Summary) {
    summary.restarts += restarts(status);
    let finished = meta::text_at(status, &["lastState", "terminated", "finishedAt"]).parse::<Timestamp>().ok();
    summary.last_restart = summary.last_restart.max(finished);
}
