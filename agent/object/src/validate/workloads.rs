//! Workloads: what makes pods from templates.
//!
//! Owns selectors, strategies and counts; templates are the pods', and jobs are in [`super::jobs`].

use super::errors::Errors;
use super::node::Node;
use super::policies::{count_or_percent, not_above_all};
use super::{names, pods, selectors, storage, structs};
use crate::labels::Selector;

pub fn pod_template(object: &Node<'_>, errors: &mut Errors) {
    pods::template(&object.get("template"), errors);
}

/// Pods of workloads always restart, and have no end that is known before.
fn always_restarts(workload: &str, template: &Node<'_>, errors: &mut Errors) {
    let (policy, deadline) = (template.at(&["spec", "restartPolicy"]), template.at(&["spec", "activeDeadlineSeconds"]));
    errors.supported(&policy, &["Always"]);
    if !deadline.is_missing() {
        errors.forbidden(&deadline, &format!("activeDeadlineSeconds in {workload} is not Supported"));
    }
}

/// A selector that is there, is not empty and selects the template.
fn selects(spec: &Node<'_>, emptiness: &str, errors: &mut Errors) {
    let selector = spec.get("selector");
    if selector.is_missing() {
        errors.required(&selector, "");
        selectors::matches_nothing(&spec.get("template"), errors);
    } else {
        selectors::selects_template(emptiness, &selector, &spec.get("template"), errors);
    }
}

pub fn replica_set(object: &Node<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    errors.non_negative(&spec.get("replicas"));
    errors.non_negative(&spec.get("minReadySeconds"));
    // Upstream says so of these, too.
    selects(&spec, "empty selector is invalid for deployment", errors);
    pods::template(&spec.get("template"), errors);
    always_restarts("ReplicaSet", &spec.get("template"), errors);
}

pub fn replication_controller(object: &Node<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    errors.non_negative(&spec.get("minReadySeconds"));
    let labels = selector.value.as_object().filter(|labels| !labels.is_empty());
    if labels.is_none() {
        errors.required(&selector, "");
    }
    errors.non_negative(&spec.get("replicas"));
    if template.is_missing() {
        return errors.required(&template, "");
    }
    if let Some(labels) = labels {
        selectors::matches_template(&Selector::from_map(labels), &template, errors);
    }
    pods::template(&template, errors);
    always_restarts("ReplicationController", &template, errors);
}

pub fn deployment(object: &Node<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    errors.non_negative(&spec.get("replicas"));
    selects(&spec, "empty selector is invalid for deployment", errors);
    pods::template(&spec.get("template"), errors);
    always_restarts("ReplicaSet", &spec.get("template"), errors);
    let strategy = spec.get("strategy");
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "Recreate" if !rolling.is_missing() => {
            errors.forbidden(&rolling, "may not be specified when strategy `type` is 'Recreate'");
        }
        "Recreate" => {}
        "RollingUpdate" => rolling_update(&rolling, errors),
        _ => errors.not_supported_struct(&strategy, structs::STRATEGY, &["Recreate", "RollingUpdate"]),
    }
    errors.non_negative(&spec.get("minReadySeconds"));
    errors.non_negative(&spec.get("revisionHistoryLimit"));
    let deadline = spec.get("progressDeadlineSeconds");
    errors.non_negative(&deadline);
    let ready = spec.get("minReadySeconds").int().unwrap_or(0);
    if deadline.int().is_some_and(|seconds| seconds <= ready) {
        errors.invalid(&deadline, "must be greater than minReadySeconds");
    }
}

/// Whether a count or percentage is zero, or is none at all.
fn is_zero(node: &Node<'_>) -> bool {
    match node.value.as_str() {
        Some(text) => text.strip_suffix('%').is_none_or(|number| number.bytes().all(|digit| digit == b'0')),
        None => node.int().unwrap_or(0) == 0,
    }
}

fn rolling_update(rolling: &Node<'_>, errors: &mut Errors) {
    let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
    count_or_percent(&unavailable, errors);
    count_or_percent(&surge, errors);
    if is_zero(&unavailable) && is_zero(&surge) {
        errors.invalid(&unavailable, "may not be 0 when `maxSurge` is 0");
    }
    not_above_all(&unavailable, errors);
}

pub fn daemon_set(object: &Node<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    selectors::selects_template(
        "empty selector is invalid for daemonset",
        &spec.get("selector"),
        &spec.get("template"),
        errors,
    );
    pods::template(&spec.get("template"), errors);
    always_restarts("DaemonSet", &spec.get("template"), errors);
    errors.non_negative(&spec.get("minReadySeconds"));
    let strategy = spec.get("updateStrategy");
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "OnDelete" => {}
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            [&unavailable, &surge].iter().for_each(|node| count_or_percent(node, errors));
            [&unavailable, &surge].iter().for_each(|node| not_above_all(node, errors));
            match (is_zero(&unavailable), is_zero(&surge)) {
                (true, true) => errors.required(&unavailable, "cannot be 0 when maxSurge is 0"),
                (false, false) => errors.invalid(&surge, "may not be set when maxUnavailable is non-zero"),
                (true, false) | (false, true) => {}
            }
        }
        _ => errors.not_supported_struct(&strategy, structs::STRATEGY, &["RollingUpdate", "OnDelete"]),
    }
    errors.non_negative(&spec.get("revisionHistoryLimit"));
}

pub fn stateful_set(object: &Node<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    let management = spec.get("podManagementPolicy");
    match management.text() {
        "" => errors.required(&management, ""),
        "OrderedReady" | "Parallel" => {}
        _ => errors.invalid(&management, "must be 'OrderedReady' or 'Parallel'"),
    }
    stateful_strategy(&spec.get("updateStrategy"), errors);
    let retention = spec.get("persistentVolumeClaimRetentionPolicy");
    if !retention.is_missing() {
        for field in ["whenDeleted", "whenScaled"] {
            errors.supported(&retention.get(field), &["Retain", "Delete"]);
        }
    }
    errors.non_negative(&spec.get("replicas"));
    errors.non_negative(&spec.get("minReadySeconds"));
    errors.non_negative(&spec.at(&["ordinals", "start"]));
    errors.non_negative(&spec.get("revisionHistoryLimit"));
    selects(&spec, "empty selector is invalid for statefulset", errors);
    let claims = spec.get("volumeClaimTemplates").items();
    pods::template_with(&spec.get("template"), &claims, errors);
    always_restarts("StatefulSet", &spec.get("template"), errors);
    for claim in &claims {
        storage::claim_spec(&claim.get("spec"), errors);
    }
}

/// `SetName-ordinal` is a pod's name, and a label of its host name.
pub fn stateful_set_name(object: &Node<'_>, errors: &mut Errors) {
    let name = object.at(&["metadata", "name"]);
    if names::dns_subdomain(name.text()).is_empty() {
        errors.formed(&name, names::dns_label);
    }
}

fn stateful_strategy(strategy: &Node<'_>, errors: &mut Errors) {
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "OnDelete" if !rolling.is_missing() => {
            errors.invalid_struct(
                &rolling,
                structs::STATEFUL_ROLLING_UPDATE,
                "only allowed for updateStrategy 'RollingUpdate'",
            );
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            errors.non_negative(&rolling.get("partition"));
            let unavailable = rolling.get("maxUnavailable");
            if !unavailable.is_missing() {
                count_or_percent(&unavailable, errors);
                if is_zero(&unavailable) {
                    errors.invalid(&unavailable, "cannot be 0");
                }
                not_above_all(&unavailable, errors);
            }
        }
        "" => errors.required(strategy, ""),
        _ => errors.invalid_struct(strategy, structs::STATEFUL_STRATEGY, "must be 'RollingUpdate' or 'OnDelete'"),
    }
}

pub fn revision(object: &Node<'_>, errors: &mut Errors) {
    if !object.has("data") {
        errors.required(&object.get("data"), "data is mandatory");
    }
    errors.non_negative(&object.get("revision"));
}
