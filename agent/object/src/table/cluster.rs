//! The rows of nodes, namespaces, events, accounts, bindings, quotas, priorities and leases.
//!
//! Owns what is about the cluster rather than about a workload.

use super::cells::{NONE, UNKNOWN, condition, count, int, list, scalar_or, text_or_none};
use super::{AGE, Column, NAME, Printed, age, boolean, name, number, text, wide};
use crate::quantity::Quantity;
use crate::{duration, meta};
use jiff::Timestamp;
use serde_json::Value;

pub const PRINTED: &[Printed] = &[
    ("", "Node", NODE, node),
    ("", "Namespace", &[NAME, text("Status", "The phase of the namespace."), AGE], namespace),
    ("", "Event", EVENT, core_event),
    ("events.k8s.io", "Event", EVENT, event),
    ("", "ServiceAccount", &[NAME, number("Secrets", "Number of secrets of the account."), AGE], service_account),
    (
        "",
        "ResourceQuota",
        &[NAME, text("Request", "Requests, used and allowed."), text("Limit", "Limits, used and allowed."), AGE],
        resource_quota,
    ),
    ("rbac.authorization.k8s.io", "RoleBinding", BINDING, binding),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", BINDING, binding),
    (
        "scheduling.k8s.io",
        "PriorityClass",
        &[
            NAME,
            number("Value", "The priority."),
            boolean("Global-Default", "Whether pods without a class have it."),
            AGE,
            text("PreemptionPolicy", "Whether pods make room for these."),
        ],
        priority_class,
    ),
    (
        "apiregistration.k8s.io",
        "APIService",
        &[NAME, text("Service", "The service that answers."), text("Available", "Whether it answers."), AGE],
        api_service,
    ),
    ("certificates.k8s.io", "CertificateSigningRequest", REQUEST, certificate_request),
    (
        "flowcontrol.apiserver.k8s.io",
        "FlowSchema",
        &[
            NAME,
            text("PriorityLevel", "The level of the requests."),
            number("MatchingPrecedence", "Lower ones are asked first."),
            text("DistinguisherMethod", "What tells flows from each other."),
            AGE,
        ],
        flow_schema,
    ),
    (
        "flowcontrol.apiserver.k8s.io",
        "PriorityLevelConfiguration",
        &[
            NAME,
            text("Type", "Whether requests are limited."),
            text("NominalConcurrencyShares", "Its part of all places."),
            text("Queues", "How many queues there are."),
            text("HandSize", "Queues of one flow."),
            text("QueueLengthLimit", "Requests that may wait in one."),
            AGE,
        ],
        priority_level,
    ),
    ("metrics.k8s.io", "NodeMetrics", METRICS, node_metrics),
    ("metrics.k8s.io", "PodMetrics", METRICS, pod_metrics),
    ("coordination.k8s.io", "Lease", &[NAME, text("Holder", "Who holds the lease."), AGE], lease),
    ("node.k8s.io", "RuntimeClass", &[NAME, text("Handler", "The runtime's name for it."), AGE], runtime_class),
];

const METRICS: &[Column<'static>] = &[
    NAME,
    text("cpu", "The processor time that is used a second."),
    text("memory", "The memory that is used."),
    text("Window", "The time over which it was measured."),
];

const REQUEST: &[Column<'static>] = &[
    NAME,
    AGE,
    text("SignerName", "Who is asked to sign."),
    text("Requestor", "Who asked."),
    text("RequestedDuration", "How long the certificate is to be valid."),
    text("Condition", "What became of it."),
];

fn certificate_request(request: &Value, now: Timestamp) -> Vec<Value> {
    let spec = |field: &str| meta::text_at(request, &["spec", field]).into();
    let seconds = meta::at(request, &["spec", "expirationSeconds"]).and_then(Value::as_i64);
    let lasting = seconds.map_or_else(|| NONE.to_owned(), duration::human);
    let mut said: Vec<&str> =
        ["Approved", "Denied", "Failed"].into_iter().filter(|ty| condition(request, ty).is_some()).collect();
    if said.is_empty() {
        said.push("Pending");
    }
    if !meta::text_at(request, &["status", "certificate"]).is_empty() {
        said.push("Issued");
    }
    vec![name(request), age(request, now), spec("signerName"), spec("username"), lasting.into(), said.join(",").into()]
}

fn flow_schema(schema: &Value, now: Timestamp) -> Vec<Value> {
    let precedence = int(schema, &["spec", "matchingPrecedence"]).into();
    vec![
        name(schema),
        text_or_none(schema, &["spec", "priorityLevelConfiguration", "name"]),
        precedence,
        text_or_none(schema, &["spec", "distinguisherMethod", "type"]),
        age(schema, now),
    ]
}

fn priority_level(level: &Value, now: Timestamp) -> Vec<Value> {
    let limited = |path: &[&str]| scalar_or(level, &[&["spec", "limited"], path].concat(), NONE).into();
    let queuing = |field| limited(&["limitResponse", "queuing", field]);
    vec![
        name(level),
        text_or_none(level, &["spec", "type"]),
        limited(&["nominalConcurrencyShares"]),
        queuing("queues"),
        queuing("handSize"),
        queuing("queueLengthLimit"),
        age(level, now),
    ]
}

fn api_service(object: &Value, now: Timestamp) -> Vec<Value> {
    let service = |field: &str| meta::text_at(object, &["spec", "service", field]);
    let service = match service("name") {
        "" => "Local".to_owned(),
        name => format!("{}/{name}", service("namespace")),
    };
    let available = match condition(object, "Available") {
        None => UNKNOWN.to_owned(),
        Some(condition) => match (meta::text_at(condition, &["status"]), meta::text_at(condition, &["reason"])) {
            ("True", _) | (_, "") => meta::text_at(condition, &["status"]).to_owned(),
            (status, reason) => format!("{status} ({reason})"),
        },
    };
    vec![name(object), service.into(), available.into(), age(object, now)]
}

fn node_metrics(metrics: &Value, _: Timestamp) -> Vec<Value> {
    let usage = |resource: &str| meta::text_at(metrics, &["usage", resource]).into();
    vec![name(metrics), usage("cpu"), usage("memory"), meta::text_at(metrics, &["window"]).into()]
}

fn pod_metrics(metrics: &Value, _: Timestamp) -> Vec<Value> {
    let sum = |resource: &str| {
        let containers = list(metrics, &["containers"]).iter();
        let all = containers.filter_map(|one| meta::text_at(one, &["usage", resource]).parse::<Quantity>().ok());
        all.sum::<Quantity>().to_string().into()
    };
    vec![name(metrics), sum("cpu"), sum("memory"), meta::text_at(metrics, &["window"]).into()]
}

const NODE: &[Column<'static>] = &[
    NAME,
    text("Status", "The status of the node."),
    text("Roles", "The roles of the node."),
    AGE,
    text("Version", "The version of the node's agent."),
    wide("Internal-IP", "The address of the node in its network."),
    wide("External-IP", "The address of the node outside its network."),
    wide("OS-Image", "The operating system of the node."),
    wide("Kernel-Version", "The kernel of the node."),
    wide("Container-Runtime", "The runtime of the node."),
];

fn node(node: &Value, now: Timestamp) -> Vec<Value> {
    let info = |field: &str| match meta::text_at(node, &["status", "nodeInfo", field]) {
        "" => UNKNOWN.into(),
        text => Value::from(text),
    };
    vec![
        name(node),
        node_status(node).into(),
        roles(node).into(),
        age(node, now),
        meta::text_at(node, &["status", "nodeInfo", "kubeletVersion"]).into(),
        node_address(node, "InternalIP"),
        node_address(node, "ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn node_status(node: &Value) -> String {
    let ready = condition(node, "Ready").map(|ready| meta::text_at(ready, &["status"]));
    let ready = match ready {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = meta::at(node, &["spec", "unschedulable"]).and_then(Value::as_bool) == Some(true);
    if cordoned { format!("{ready},SchedulingDisabled") } else { ready.to_owned() }
}

fn roles(node: &Value) -> String {
    let labels = meta::labels(node).into_iter().flatten();
    let mut roles: Vec<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { NONE.to_owned() } else { roles.join(",") }
}

fn node_address(node: &Value, ty: &str) -> Value {
    let addresses = list(node, &["status", "addresses"]);
    let found = addresses.iter().find(|address| meta::text_at(address, &["type"]) == ty);
    found.map_or(NONE.into(), |address| text_or_none(address, &["address"]))
}

fn namespace(namespace: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(namespace), meta::text_at(namespace, &["status", "phase"]).into(), age(namespace, now)]
}

const EVENT: &[Column<'static>] = &[
    text("Last Seen", "How long ago it happened last."),
    text("Type", "Normal or Warning."),
    text("Reason", "What happened, in one word."),
    text("Object", "What it happened to."),
    wide("Subobject", "Which part it happened to."),
    wide("Source", "Who reports it."),
    text("Message", "What happened."),
    wide("First Seen", "How long ago it happened first."),
    wide("Count", "How often it happened."),
    Column { priority: 1, ..NAME },
];

/// Where the two versions of events keep the same: object, message, source, first, last, count, reporter.
struct EventFields {
    object: &'static str,
    message: &'static str,
    source: &'static str,
    first: &'static str,
    last: &'static str,
    count: &'static str,
    reporter: &'static str,
}

const CORE_EVENT: EventFields = EventFields {
    object: "involvedObject",
    message: "message",
    source: "source",
    first: "firstTimestamp",
    last: "lastTimestamp",
    count: "count",
    reporter: "reportingComponent",
};

const NEW_EVENT: EventFields = EventFields {
    object: "regarding",
    message: "note",
    source: "deprecatedSource",
    first: "deprecatedFirstTimestamp",
    last: "deprecatedLastTimestamp",
    count: "deprecatedCount",
    reporter: "reportingController",
};

fn core_event(event: &Value, now: Timestamp) -> Vec<Value> {
    event_row(event, &CORE_EVENT, now)
}

fn event(event: &Value, now: Timestamp) -> Vec<Value> {
    event_row(event, &NEW_EVENT, now)
}

fn event_row(event: &Value, fields: &EventFields, now: Timestamp) -> Vec<Value> {
    let time = |path: &[&str]| meta::at(event, path).and_then(Value::as_str);
    let first = time(&[fields.first]).or_else(|| time(&["eventTime"]));
    let last = time(&["series", "lastObservedTime"]).or_else(|| time(&[fields.last])).or(first);
    let times = match int(event, &["series", "count"]).max(int(event, &[fields.count])) {
        0 => 1,
        times => times,
    };
    let object = |field: &str| meta::text_at(event, &[fields.object, field]);
    let target = format!("{}/{}", object("kind").to_lowercase(), object("name"));
    let message = meta::text_at(event, &[fields.message]).trim();
    vec![
        duration::age(last, now).into(),
        meta::text_at(event, &["type"]).into(),
        meta::text_at(event, &["reason"]).into(),
        target.trim_end_matches('/').into(),
        object("fieldPath").into(),
        event_source(event, fields).into(),
        message.into(),
        duration::age(first, now).into(),
        times.into(),
        name(event),
    ]
}

fn event_source(event: &Value, fields: &EventFields) -> String {
    let source = |field: &str| meta::text_at(event, &[fields.source, field]);
    let component = match source("component") {
        "" => meta::text_at(event, &[fields.reporter]),
        component => component,
    };
    match source("host") {
        "" => component.to_owned(),
        host => format!("{component}, {host}"),
    }
}

fn service_account(account: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(account), count(account, &["secrets"]).into(), age(account, now)]
}

fn resource_quota(quota: &Value, now: Timestamp) -> Vec<Value> {
    let hard = meta::at(quota, &["status", "hard"]).and_then(Value::as_object);
    let used = |name: &str| meta::text_at(quota, &["status", "used", name]);
    let mut texts = [Vec::new(), Vec::new()];
    for (name, amount) in hard.into_iter().flatten() {
        let text = format!("{name}: {}/{}", used(name), amount.as_str().unwrap_or_default());
        texts[usize::from(name.starts_with("limits"))].push(text);
    }
    let [requests, limits] = texts.map(|texts| texts.join(", "));
    vec![name(quota), requests.into(), limits.into(), age(quota, now)]
}

const BINDING: &[Column<'static>] = &[
    NAME,
    text("Role", "The role that is given."),
    AGE,
    wide("Users", "The users that it is given to."),
    wide("Groups", "The groups that it is given to."),
    wide("ServiceAccounts", "The service accounts that it is given to."),
];

fn binding(binding: &Value, now: Timestamp) -> Vec<Value> {
    let role = |field: &str| meta::text_at(binding, &["roleRef", field]);
    let subjects = |kind: &str| -> Value {
        let of_kind = list(binding, &["subjects"]).iter().filter(|subject| meta::text_at(subject, &["kind"]) == kind);
        let texts = of_kind.map(|subject| match (kind, meta::text_at(subject, &["namespace"])) {
            ("ServiceAccount", namespace) => {
                format!("{namespace}/{}", meta::text_at(subject, &["name"]))
            }
            (_, _) => meta::text_at(subject, &["name"]).to_owned(),
        });
        texts.collect::<Vec<_>>().join(", ").into()
    };
    vec![
        name(binding),
        format!("{}/{}", role("kind"), role("name")).into(),
        age(binding, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

fn priority_class(class: &Value, now: Timestamp) -> Vec<Value> {
    let is_default = meta::at(class, &["globalDefault"]).and_then(Value::as_bool).unwrap_or(false);
    vec![
        name(class),
        int(class, &["value"]).into(),
        is_default.into(),
        age(class, now),
        meta::text_at(class, &["preemptionPolicy"]).into(),
    ]
}

fn lease(lease: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(lease), meta::text_at(lease, &["spec", "holderIdentity"]).into(), age(lease, now)]
}

fn runtime_class(class: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(class), meta::text_at(class, &["handler"]).into(), age(class, now)]
}
