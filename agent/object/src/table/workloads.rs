//! The rows of workloads.
//!
//! Owns everything that makes pods, and its budgets and scaling.

use super::cells::{
    NONE, UNKNOWN, UNSET, containers, count, flag, int, labels, list, scalar_or, selector, text_or_none,
};
use super::{AGE, Column, NAME, Printed, age, name, number, text, wide};
use crate::kinds::by_kind;
use crate::{convert, duration, meta};
use jiff::Timestamp;
use serde_json::Value;

const CONTAINERS: Column<'static> = wide("Containers", "The names of the containers in the template.");
const IMAGES: Column<'static> = wide("Images", "The images of the containers in the template.");
const SELECTOR: Column<'static> = wide("Selector", "The labels that the pods are selected by.");
const TEMPLATE: &[&str] = &["spec", "template", "spec"];

pub const PRINTED: &[Printed] = &[
    (
        "",
        "PodTemplate",
        &[
            NAME,
            text("Containers", "The names of the containers."),
            text("Images", "The images of the containers."),
            text("Pod Labels", "The labels of the pods."),
        ],
        pod_template,
    ),
    ("", "ReplicationController", REPLICAS, replication_controller),
    ("apps", "ReplicaSet", REPLICAS, replica_set),
    (
        "apps",
        "Deployment",
        &[
            NAME,
            text("Ready", "Number of the pod with ready state."),
            number("Up-to-date", "Pods of the newest template."),
            number("Available", "Pods ready for at least minReadySeconds."),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        deployment,
    ),
    (
        "apps",
        "StatefulSet",
        &[NAME, text("Ready", "Number of the pod with ready state."), AGE, CONTAINERS, IMAGES],
        stateful_set,
    ),
    (
        "apps",
        "DaemonSet",
        &[
            NAME,
            number("Desired", "Nodes that should run the pod."),
            number("Current", "Nodes that run the pod."),
            number("Ready", "Nodes whose pod is ready."),
            number("Up-to-date", "Nodes that run the newest pod."),
            number("Available", "Nodes whose pod is available."),
            text("Node Selector", "The labels of the nodes."),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        daemon_set,
    ),
    (
        "apps",
        "ControllerRevision",
        &[
            NAME,
            text("Controller", "The owner of the revision."),
            number("Revision", "The number of the revision."),
            AGE,
        ],
        controller_revision,
    ),
    (
        "batch",
        "Job",
        &[
            NAME,
            text("Status", "Status of the job."),
            text("Completions", "Pods that succeeded, of those that should."),
            text("Duration", "Time required to complete the job."),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        job,
    ),
    (
        "batch",
        "CronJob",
        &[
            NAME,
            text("Schedule", "The schedule in Cron format."),
            text("Timezone", "The time zone of the schedule."),
            super::boolean("Suspend", "Whether further runs are suspended."),
            number("Active", "Jobs that are running."),
            text("Last Schedule", "When a job was last made."),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        cron_job,
    ),
    (
        "policy",
        "PodDisruptionBudget",
        &[
            NAME,
            text("Min Available", "The minimum number of pods that must be available."),
            text("Max Unavailable", "The maximum number of pods that may be unavailable."),
            number("Allowed Disruptions", "Number of pods that may be disrupted now."),
            AGE,
        ],
        disruption_budget,
    ),
    (
        "autoscaling",
        "HorizontalPodAutoscaler",
        &[
            NAME,
            text("Reference", "What is scaled."),
            text("Targets", "Metrics, now and as they should be."),
            text("MinPods", "The least replicas."),
            text("MaxPods", "The most replicas."),
            number("Replicas", "The replicas now."),
            AGE,
        ],
        autoscaler,
    ),
];

const REPLICAS: &[Column<'static>] = &[
    NAME,
    number("Desired", "The number of desired replicas."),
    number("Current", "The number of replicas there are."),
    number("Ready", "The number of ready replicas."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn pod_template(object: &Value, _now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object, &["template", "spec"]);
    vec![name(object), names, images, labels(object, &["template", "metadata", "labels"])]
}

fn replicas(object: &Value, now: Timestamp, selector: Value) -> Vec<Value> {
    let [names, images] = containers(object, TEMPLATE);
    let status = |field: &str| int(object, &["status", field]).into();
    vec![
        name(object),
        int(object, &["spec", "replicas"]).into(),
        status("replicas"),
        status("readyReplicas"),
        age(object, now),
        names,
        images,
        selector,
    ]
}

fn replication_controller(object: &Value, now: Timestamp) -> Vec<Value> {
    replicas(object, now, labels(object, &["spec", "selector"]))
}

fn replica_set(object: &Value, now: Timestamp) -> Vec<Value> {
    replicas(object, now, selector(object, &["spec", "selector"]))
}

fn ready_of_desired(object: &Value) -> Value {
    format!("{}/{}", int(object, &["status", "readyReplicas"]), int(object, &["spec", "replicas"])).into()
}

fn deployment(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object, TEMPLATE);
    let status = |field: &str| int(object, &["status", field]).into();
    let selector = selector(object, &["spec", "selector"]);
    vec![
        name(object),
        ready_of_desired(object),
        status("updatedReplicas"),
        status("availableReplicas"),
        age(object, now),
        names,
        images,
        selector,
    ]
}

fn stateful_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object, TEMPLATE);
    vec![name(object), ready_of_desired(object), age(object, now), names, images]
}

fn daemon_set(object: &Value, now: Timestamp) -> Vec<Value> {
    const COUNTS: &[&str] = &[
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    ];
    let [names, images] = containers(object, TEMPLATE);
    let mut row = vec![name(object)];
    row.extend(COUNTS.iter().map(|field| Value::from(int(object, &["status", field]))));
    row.extend([
        labels(object, &["spec", "template", "spec", "nodeSelector"]),
        age(object, now),
        names,
        images,
        selector(object, &["spec", "selector"]),
    ]);
    row
}

fn controller_revision(object: &Value, now: Timestamp) -> Vec<Value> {
    let owner = meta::controller(object).map_or(NONE.to_owned(), |owner| {
        let (group, _) = crate::kinds::split_api_version(owner.api_version);
        let dot = if group.is_empty() { "" } else { "." };
        format!("{}{dot}{group}/{}", owner.kind.to_lowercase(), owner.name)
    });
    vec![name(object), owner.into(), int(object, &["revision"]).into(), age(object, now)]
}

/// The conditions that decide what a job's status is called, the first that is true.
const JOB_CONDITIONS: &[&str] = &["Complete", "Failed"];
const JOB_CONDITIONS_LATER: &[&str] = &["Suspended", "FailureTarget", "SuccessCriteriaMet"];

fn job_status(job: &Value) -> &'static str {
    let first = |types: &[&'static str]| types.iter().copied().find(|ty| super::cells::is_condition_true(job, ty));
    first(JOB_CONDITIONS)
        .or_else(|| meta::deletion_timestamp(job).map(|_| "Terminating"))
        .or_else(|| first(JOB_CONDITIONS_LATER))
        .unwrap_or("Running")
}

fn job(job: &Value, now: Timestamp) -> Vec<Value> {
    let succeeded = int(job, &["status", "succeeded"]);
    let completions = match (meta::at(job, &["spec", "completions"]), int(job, &["spec", "parallelism"])) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism @ 2..) => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let time = |field: &str| meta::text_at(job, &["status", field]).parse::<Timestamp>().ok();
    let taken = time("startTime").map(|start| {
        let end = time("completionTime").unwrap_or(now);
        duration::human(end.as_second() - start.as_second())
    });
    let [names, images] = containers(job, TEMPLATE);
    vec![
        name(job),
        job_status(job).into(),
        completions.into(),
        taken.unwrap_or_default().into(),
        age(job, now),
        names,
        images,
        selector(job, &["spec", "selector"]),
    ]
}

fn cron_job(object: &Value, now: Timestamp) -> Vec<Value> {
    let last = meta::at(object, &["status", "lastScheduleTime"]).and_then(Value::as_str);
    let last = last.map_or(NONE.to_owned(), |last| duration::age(Some(last), now));
    let job = &["spec", "jobTemplate", "spec"];
    let [names, images] = containers(object, &[job.as_slice(), &["template", "spec"]].concat());
    vec![
        name(object),
        meta::text_at(object, &["spec", "schedule"]).into(),
        text_or_none(object, &["spec", "timeZone"]),
        flag(object, &["spec", "suspend"]),
        count(object, &["status", "active"]).into(),
        last.into(),
        age(object, now),
        names,
        images,
        selector(object, &[job.as_slice(), &["selector"]].concat()),
    ]
}

fn disruption_budget(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = |field: &str| scalar_or(object, &["spec", field], "N/A").into();
    let allowed = int(object, &["status", "disruptionsAllowed"]).into();
    vec![name(object), spec("minAvailable"), spec("maxUnavailable"), allowed, age(object, now)]
}

fn autoscaler(object: &Value, now: Timestamp) -> Vec<Value> {
    let version = |version: &str| by_kind(version, "HorizontalPodAutoscaler");
    let converted = match (meta::text_at(object, &["apiVersion"]), version("autoscaling/v1"), version("autoscaling/v2"))
    {
        ("autoscaling/v1", Some(v1), Some(v2)) => Some(convert::convert(v1, v2, object.clone())),
        (_, _, _) => None,
    };
    let object = converted.as_ref().unwrap_or(object);
    let reference = |field: &str| meta::text_at(object, &["spec", "scaleTargetRef", field]);
    vec![
        name(object),
        format!("{}/{}", reference("kind"), reference("name")).into(),
        targets(object).into(),
        scalar_or(object, &["spec", "minReplicas"], UNSET).into(),
        scalar_or(object, &["spec", "maxReplicas"], "0").into(),
        int(object, &["status", "currentReplicas"]).into(),
        age(object, now),
    ]
}

/// `cpu: 7%/50%` for each metric, at most two of them.
fn targets(object: &Value) -> String {
    const MAX: usize = 2;
    let current = list(object, &["status", "currentMetrics"]);
    let metrics = list(object, &["spec", "metrics"]).iter().enumerate();
    let texts: Vec<String> =
        metrics.map(|(index, metric)| target(metric, current.get(index).unwrap_or(&Value::Null))).collect();
    match texts.len().checked_sub(MAX) {
        _ if texts.is_empty() => NONE.to_owned(),
        None | Some(0) => texts.join(", "),
        Some(more) => format!("{} + {more} more...", texts[..MAX].join(", ")),
    }
}

fn target(metric: &Value, current: &Value) -> String {
    /// The field of a metric of each type, and where its name is.
    const TYPES: &[(&str, &str, &[&str])] = &[
        ("Resource", "resource", &["name"]),
        ("ContainerResource", "containerResource", &["name"]),
        ("Pods", "pods", &["metric", "name"]),
        ("Object", "object", &["metric", "name"]),
        ("External", "external", &["metric", "name"]),
    ];
    let ty = meta::text_at(metric, &["type"]);
    let Some((_, field, name)) = TYPES.iter().find(|(name, _, _)| *name == ty) else {
        return "<unknown type>".to_owned();
    };
    let inner = metric.get(field).unwrap_or(&Value::Null);
    let now = current.get(field).unwrap_or(&Value::Null);
    let value = |from: &Value, part: &str| {
        let percent = scalar_or(from, &[part, "averageUtilization"], "");
        if !percent.is_empty() {
            return format!("{percent}%");
        }
        let average = scalar_or(from, &[part, "averageValue"], "");
        if average.is_empty() { scalar_or(from, &[part, "value"], UNKNOWN) } else { average }
    };
    let prefix = if ty == "Resource" || ty == "ContainerResource" {
        format!("{}: ", meta::text_at(inner, name))
    } else {
        String::new()
    };
    format!("{prefix}{}/{}", value(now, "current"), value(inner, "target"))
}
