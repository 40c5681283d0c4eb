//! The defaults that depend on other fields, one small function for each type that has them.
//!
//! Owns dependent defaults only; constants are in [`super::rows`].

use crate::{base64, meta, requests};
use serde_json::{Map, Value, json};

type Object = Map<String, Value>;
type Rule = fn(&mut Object);

/// Applied before the fields of the type are walked, so that what a rule adds gets its own defaults.
const RULES: &[(&str, Rule)] = &[
    ("core.v1.Pod", pod),
    ("core.v1.PodSpec", service_account),
    ("core.v1.Container", pull_policy),
    ("core.v1.EphemeralContainer", pull_policy),
    ("core.v1.Volume", volume),
    ("core.v1.ImageVolumeSource", image_volume),
    ("core.v1.Secret", secret),
    ("core.v1.Namespace", namespace),
    ("core.v1.NodeSpec", node_ranges),
    ("core.v1.NodeStatus", node_status),
    ("core.v1.ServiceSpec", service),
    ("core.v1.ServicePort", service_port),
    ("core.v1.ReplicationController", replication_controller),
    ("core.v1.LimitRangeItem", limit_range_item),
    ("apps.v1.DeploymentStrategy", rolling_update),
    ("apps.v1.StatefulSetUpdateStrategy", rolling_update),
    ("apps.v1.DaemonSetUpdateStrategy", rolling_update),
    ("apps.v1.StatefulSetSpec", claim_templates),
    ("batch.v1.Job", job),
    ("autoscaling.v1.HorizontalPodAutoscaler", autoscaler_v1),
    ("autoscaling.v2.HorizontalPodAutoscalerSpec", autoscaler_metrics),
    ("autoscaling.v2.HorizontalPodAutoscalerBehavior", autoscaler_behavior),
    ("networking.v1.NetworkPolicySpec", policy_types),
    ("rbac.v1.Subject", subject),
    ("storage.v1.CSIDriverSpec", csi_driver),
];

/// Applies the rule of a type, if it has one.
pub fn apply(name: &str, map: &mut Object) {
    if let Some((_, rule)) = RULES.iter().find(|(row, _)| *row == name) {
        rule(map);
    }
}

fn text<'a>(map: &'a Object, field: &str) -> &'a str {
    map.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn has_items(map: &Object, field: &str) -> bool {
    match map.get(field) {
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(inner)) => !inner.is_empty(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => false,
    }
}

fn or_insert(map: &mut Object, field: &str, value: impl Into<Value>) {
    let slot = map.entry(field).or_insert(Value::Null);
    if slot.is_null() {
        *slot = value.into();
    }
}

fn or_insert_text(map: &mut Object, field: &str, value: &str) {
    if text(map, field).is_empty() {
        map.insert(field.to_owned(), value.into());
    }
}

/// What holds for pods but not for pod templates.
fn pod(pod: &mut Object) {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    or_insert(spec, "enableServiceLinks", true);
    let host_network = spec.get("hostNetwork").and_then(Value::as_bool).unwrap_or(false);
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            requests_from_limits(container);
            if host_network {
                host_ports(container);
            }
        }
    }
    if spec.contains_key("resources") {
        whole_requests(spec);
    }
}

/// What a pod with limits of its own requests as a whole: as much as its containers do, or else up to the limit.
fn whole_requests(spec: &mut Object) {
    let limits = spec["resources"].get("limits").and_then(Value::as_object).filter(|limits| !limits.is_empty());
    let Some(limits) = limits.cloned() else {
        return;
    };
    let of_containers = requests::of_containers(&Value::Object(spec.clone()));
    let Some(resources) = spec.get_mut("resources").and_then(Value::as_object_mut) else {
        return;
    };
    let own = meta::map_mut(resources.entry("requests").or_insert(Value::Null));
    for name in ["cpu", "memory"] {
        if let (false, Some(sum)) = (own.contains_key(name), of_containers.get(name)) {
            own.insert(name.to_owned(), sum.to_string().into());
        }
    }
    for (name, limit) in limits {
        if matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-") {
            own.entry(name).or_insert(limit);
        }
    }
}

fn requests_from_limits(container: &mut Value) {
    let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut) else {
        return;
    };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).filter(|l| !l.is_empty()).cloned() else {
        return;
    };
    let requests = meta::map_mut(resources.entry("requests").or_insert(Value::Null));
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
}

fn host_ports(container: &mut Value) {
    for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(port) = port.as_object_mut() else {
            continue;
        };
        let unset = port.get("hostPort").and_then(Value::as_i64).unwrap_or(0) == 0;
        if let (true, Some(number)) = (unset, port.get("containerPort").cloned()) {
            port.insert("hostPort".to_owned(), number);
        }
    }
}

/// The old name of `serviceAccountName` is kept equal to the new one.
fn service_account(spec: &mut Object) {
    let name = match (text(spec, "serviceAccountName"), text(spec, "serviceAccount")) {
        ("", "") => return,
        ("", old) => old,
        (name, _) => name,
    };
    let name = name.to_owned();
    spec.insert("serviceAccountName".to_owned(), name.clone().into());
    spec.insert("serviceAccount".to_owned(), name.into());
}

fn pull_policy(container: &mut Object) {
    let policy = pull_policy_of(text(container, "image"));
    or_insert_text(container, "imagePullPolicy", policy);
}

fn image_volume(source: &mut Object) {
    let policy = pull_policy_of(text(source, "reference"));
    or_insert_text(source, "pullPolicy", policy);
}

/// Images that may change under their name are pulled each time.
fn pull_policy_of(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, false), |(name, _)| (name, true));
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        None if !digest && !image.is_empty() => "Always",
        Some(_) | None => "IfNotPresent",
    }
}

fn volume(volume: &mut Object) {
    if volume.keys().all(|key| key == "name") {
        volume.insert("emptyDir".to_owned(), Value::Object(Map::new()));
    }
}

/// `stringData` is only ever written: it becomes `data`.
fn secret(secret: &mut Object) {
    let Some(Value::Object(strings)) = secret.remove("stringData") else {
        return;
    };
    let data = meta::map_mut(secret.entry("data").or_insert(Value::Null));
    for (key, value) in strings {
        data.insert(key, base64::encode(value.as_str().unwrap_or_default().as_bytes()).into());
    }
}

fn namespace(namespace: &mut Object) {
    let metadata = meta::map_mut(namespace.entry("metadata").or_insert(Value::Null));
    let deleting = metadata.get("deletionTimestamp").is_some_and(|time| !time.is_null());
    let name = text(metadata, "name").to_owned();
    if !name.is_empty() {
        let labels = meta::map_mut(metadata.entry("labels").or_insert(Value::Null));
        labels.insert("kubernetes.io/metadata.name".to_owned(), name.into());
    }
    // A namespace that is being deleted loses its finalizers for good.
    if !deleting {
        let spec = meta::map_mut(namespace.entry("spec").or_insert(Value::Null));
        or_insert(spec, "finalizers", json!(["kubernetes"]));
        let status = meta::map_mut(namespace.entry("status").or_insert(Value::Null));
        or_insert_text(status, "phase", "Active");
    }
}

/// The older field is the first of the newer one.
fn node_ranges(spec: &mut Object) {
    let first = text(spec, "podCIDR").to_owned();
    if !first.is_empty() && !has_items(spec, "podCIDRs") {
        spec.insert("podCIDRs".to_owned(), json!([first]));
    } else if first.is_empty()
        && let Some(first) = meta::items(spec.get("podCIDRs")).first().cloned()
    {
        spec.insert("podCIDR".to_owned(), first);
    }
}

fn node_status(status: &mut Object) {
    if let (false, Some(capacity)) = (status.contains_key("allocatable"), status.get("capacity").cloned()) {
        status.insert("allocatable".to_owned(), capacity);
    }
}

fn service(spec: &mut Object) {
    let ty = text(spec, "type").to_owned();
    match text(spec, "sessionAffinity") {
        "ClientIP" => or_insert(spec, "sessionAffinityConfig", json!({"clientIP": {}})),
        "None" => {
            spec.remove("sessionAffinityConfig");
        }
        _ => {}
    }
    let external = ty == "NodePort" || ty == "LoadBalancer" || (ty == "ClusterIP" && has_items(spec, "externalIPs"));
    if external {
        or_insert_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if ty != "ExternalName" {
        or_insert_text(spec, "internalTrafficPolicy", "Cluster");
    }
    if ty == "LoadBalancer" {
        or_insert(spec, "allocateLoadBalancerNodePorts", true);
    }
}

fn service_port(port: &mut Object) {
    let target = port.get("targetPort").unwrap_or(&Value::Null);
    let unset = target.is_null() || target.as_i64() == Some(0) || target.as_str() == Some("");
    if let (true, Some(number)) = (unset, port.get("port").cloned()) {
        port.insert("targetPort".to_owned(), number);
    }
}

fn template_labels(object: &Object) -> Option<Value> {
    let labels = meta::at(object.get("spec")?, &["template", "metadata", "labels"])?;
    Some(labels.clone()).filter(|labels| labels.as_object().is_some_and(|labels| !labels.is_empty()))
}

fn labels_from_template(object: &mut Object) {
    let Some(labels) = template_labels(object) else {
        return;
    };
    let metadata = meta::map_mut(object.entry("metadata").or_insert(Value::Null));
    if !has_items(metadata, "labels") {
        metadata.insert("labels".to_owned(), labels);
    }
}

fn replication_controller(controller: &mut Object) {
    labels_from_template(controller);
    let labels = template_labels(controller);
    if let (Some(labels), Some(spec)) = (labels, controller.get_mut("spec").and_then(Value::as_object_mut))
        && !has_items(spec, "selector")
    {
        spec.insert("selector".to_owned(), labels);
    }
}

/// Missing limits of containers follow from the maximum, missing requests from the limit or the minimum.
fn limit_range_item(item: &mut Object) {
    if text(item, "type") != "Container" {
        return;
    }
    for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
        let Some(source) = item.get(from).and_then(Value::as_object).cloned() else {
            continue;
        };
        let target = meta::map_mut(item.entry(to).or_insert(Value::Null));
        for (name, quantity) in source {
            target.entry(name).or_insert(quantity);
        }
    }
}

fn rolling_update(strategy: &mut Object) {
    if text(strategy, "type") == "RollingUpdate" {
        or_insert(strategy, "rollingUpdate", Map::new());
    }
}

/// Claim templates are whole objects.
fn claim_templates(spec: &mut Object) {
    for claim in spec.get_mut("volumeClaimTemplates").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(claim) = claim.as_object_mut() {
            or_insert_text(claim, "apiVersion", "v1");
            or_insert_text(claim, "kind", "PersistentVolumeClaim");
        }
    }
}

fn job(job: &mut Object) {
    labels_from_template(job);
    let Some(spec) = job.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
        spec.insert("completions".to_owned(), 1.into());
    }
    or_insert(spec, "parallelism", 1);
    let backoff = if spec.contains_key("backoffLimitPerIndex") { i32::MAX } else { 6 };
    or_insert(spec, "backoffLimit", backoff);
    or_insert_text(spec, "completionMode", "NonIndexed");
    or_insert(spec, "suspend", false);
    or_insert(spec, "manualSelector", false);
    let replacement = if spec.contains_key("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    or_insert_text(spec, "podReplacementPolicy", replacement);
}

/// The share of the requested CPU that autoscalers aim at when they name no metric.
const CPU_PERCENT: i64 = 80;

fn autoscaler_v1(autoscaler: &mut Object) {
    let annotations = autoscaler.get("metadata").and_then(|metadata| metadata.get("annotations"));
    let others = annotations.and_then(|a| a.get("autoscaling.alpha.kubernetes.io/metrics")).is_some();
    if let (false, Some(spec)) = (others, autoscaler.get_mut("spec").and_then(Value::as_object_mut)) {
        or_insert(spec, "targetCPUUtilizationPercentage", CPU_PERCENT);
    }
}

fn autoscaler_metrics(spec: &mut Object) {
    if !has_items(spec, "metrics") {
        let target = json!({"type": "Utilization", "averageUtilization": CPU_PERCENT});
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
        spec.insert("metrics".to_owned(), Value::Array(vec![metric]));
    }
}

fn autoscaler_behavior(behavior: &mut Object) {
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    let up = json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [pods, percent]});
    let down = json!({"selectPolicy": "Max", "policies": [percent]});
    for (direction, rules) in [("scaleUp", up), ("scaleDown", down)] {
        let target = meta::map_mut(behavior.entry(direction).or_insert(Value::Null));
        for (field, value) in rules.as_object().into_iter().flatten() {
            or_insert(target, field, value.clone());
        }
    }
}

fn policy_types(spec: &mut Object) {
    if !has_items(spec, "policyTypes") {
        let types = if has_items(spec, "egress") { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        spec.insert("policyTypes".to_owned(), types);
    }
}

fn subject(subject: &mut Object) {
    if matches!(text(subject, "kind"), "User" | "Group") {
        or_insert_text(subject, "apiGroup", "rbac.authorization.k8s.io");
    }
}

fn csi_driver(spec: &mut Object) {
    or_insert(spec, "volumeLifecycleModes", json!(["Persistent"]));
}
