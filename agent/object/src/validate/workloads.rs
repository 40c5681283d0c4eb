//! Workloads: what makes pods from templates.
//!
//! Owns selectors, strategies and counts; templates are the pods'.

use super::errors::Errors;
use super::node::Node;
use super::policies::count_or_percent;
use super::{metadata, names, pods, selectors, storage};
use crate::labels::Selector;

/// `SetName-ordinal` and the like must still be names.
const CRON_JOB_NAME_MAX: usize = 52;

pub fn pod_template(object: &Node<'_>, errors: &mut Errors) {
    pods::template(&object.get("template"), errors);
}

/// What all workloads with a label selector share. Their pods always restart.
fn workload(name: &str, spec: &Node<'_>, errors: &mut Errors) {
    errors.non_negative(&spec.get("replicas"));
    errors.non_negative(&spec.get("minReadySeconds"));
    errors.non_negative(&spec.get("revisionHistoryLimit"));
    let template = spec.get("template");
    selectors::selects_template(name, &spec.get("selector"), &template, errors);
    pods::template(&template, errors);
    always_restarts(&template, errors);
}

fn always_restarts(template: &Node<'_>, errors: &mut Errors) {
    let (policy, deadline) = (template.at(&["spec", "restartPolicy"]), template.at(&["spec", "activeDeadlineSeconds"]));
    if policy.text() != "Always" && !policy.is_empty() {
        errors.not_supported(&policy, &["Always"]);
    }
    if !deadline.is_missing() {
        errors.forbidden(&deadline, "activeDeadlineSeconds in ReplicaSet is not Supported");
    }
}

pub fn replica_set(object: &Node<'_>, errors: &mut Errors) {
    workload("replicaset", &object.get("spec"), errors);
}

pub fn replication_controller(object: &Node<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    errors.non_negative(&spec.get("replicas"));
    errors.non_negative(&spec.get("minReadySeconds"));
    metadata::labels(&selector, errors);
    match selector.value.as_object().filter(|labels| !labels.is_empty()) {
        None => errors.required(&selector, ""),
        Some(labels) => selectors::matches_template(&Selector::from_map(labels), &template, errors),
    }
    if template.is_missing() {
        errors.required(&template, "");
    } else {
        pods::template(&template, errors);
        always_restarts(&template, errors);
    }
}

pub fn deployment(object: &Node<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    workload("deployment", &spec, errors);
    let (strategy, deadline) = (spec.get("strategy"), spec.get("progressDeadlineSeconds"));
    let (ty, rolling) = (strategy.get("type"), strategy.get("rollingUpdate"));
    match ty.text() {
        "Recreate" if !rolling.is_missing() => {
            errors.forbidden(&rolling, "may not be specified when strategy `type` is 'Recreate'");
        }
        "Recreate" => {}
        "RollingUpdate" => rolling_update(&rolling, errors),
        _ => errors.not_supported(&ty, &["Recreate", "RollingUpdate"]),
    }
    errors.non_negative(&deadline);
    let ready = spec.get("minReadySeconds").int().unwrap_or(0);
    if deadline.int().is_some_and(|seconds| seconds <= ready) {
        errors.invalid(&deadline, "must be greater than minReadySeconds");
    }
}

fn is_zero(node: &Node<'_>) -> bool {
    node.int() == Some(0) || node.text() == "0%"
}

fn rolling_update(rolling: &Node<'_>, errors: &mut Errors) {
    let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
    count_or_percent(&unavailable, errors);
    errors.non_negative(&surge);
    if surge.value.is_string() {
        errors.invalid_all(&surge, names::percent(surge.text()));
    }
    if is_zero(&unavailable) && is_zero(&surge) {
        errors.invalid(&unavailable, "may not be 0 when `maxSurge` is 0");
    }
}

pub fn daemon_set(object: &Node<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    workload("daemonset", &spec, errors);
    let strategy = spec.get("updateStrategy");
    let (ty, rolling) = (strategy.get("type"), strategy.get("rollingUpdate"));
    match ty.text() {
        "OnDelete" => {}
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            count_or_percent(&unavailable, errors);
            count_or_percent(&surge, errors);
            match (is_zero(&unavailable), is_zero(&surge) || surge.is_missing()) {
                (true, true) => errors.invalid(&unavailable, "cannot be 0 when maxSurge is 0"),
                (false, false) if !unavailable.is_missing() => {
                    errors.invalid(&surge, "may not be set when maxUnavailable is non-zero");
                }
                (true | false, true | false) => {}
            }
        }
        _ => errors.not_supported(&ty, &["OnDelete", "RollingUpdate"]),
    }
}

pub fn stateful_set(object: &Node<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    workload("statefulset", &spec, errors);
    errors.one_of(&spec.get("podManagementPolicy"), &["OrderedReady", "Parallel"]);
    let strategy = spec.get("updateStrategy");
    let (ty, rolling) = (strategy.get("type"), strategy.get("rollingUpdate"));
    match ty.text() {
        "OnDelete" if !rolling.is_missing() => {
            errors.invalid(&rolling, "only allowed for updateStrategy 'RollingUpdate'");
        }
        "OnDelete" => {}
        "RollingUpdate" => errors.non_negative(&rolling.get("partition")),
        "" => errors.required(&ty, ""),
        _ => errors.invalid(&ty, "must be 'RollingUpdate' or 'OnDelete'"),
    }
    let retention = spec.get("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        errors.optional_one_of(&retention.get(field), &["Delete", "Retain"]);
    }
    errors.non_negative(&spec.at(&["ordinals", "start"]));
    for claim in spec.get("volumeClaimTemplates").items() {
        storage::claim_spec(&claim.get("spec"), errors);
    }
}

pub fn job(object: &Node<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    job_spec(&spec, errors);
    // The selector is generated from the uid, which the server sets after this check at the latest.
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    if let (false, Ok(parsed)) = (selector.is_missing(), Selector::from_label_selector(selector.value)) {
        selectors::label_selector(&selector, errors);
        selectors::matches_template(&parsed, &template, errors);
    }
}

fn job_spec(spec: &Node<'_>, errors: &mut Errors) {
    for field in COUNTS {
        errors.non_negative(&spec.get(field));
    }
    let (mode, completions) = (spec.get("completionMode"), spec.get("completions"));
    errors.optional_one_of(&mode, &["Indexed", "NonIndexed"]);
    if mode.text() == "Indexed" && completions.is_missing() {
        errors.required(&completions, "when completion mode is Indexed");
    }
    errors.optional_one_of(&spec.get("podReplacementPolicy"), &["Failed", "TerminatingOrFailed"]);
    let template = spec.get("template");
    pods::template(&template, errors);
    let policy = template.at(&["spec", "restartPolicy"]);
    if policy.text() == "Always" {
        errors.required(&policy, "valid values: \"OnFailure\", \"Never\"");
    }
}

/// The numbers of a job that may not be negative.
const COUNTS: &[&str] = &[
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
];

pub fn cron_job(object: &Node<'_>, errors: &mut Errors) {
    let (name, spec) = (object.at(&["metadata", "name"]), object.get("spec"));
    if name.text().len() > CRON_JOB_NAME_MAX {
        errors.invalid(&name, &format!("must be no more than {CRON_JOB_NAME_MAX} characters"));
    }
    schedule(&spec.get("schedule"), errors);
    let zone = spec.get("timeZone");
    if !zone.is_missing() && (zone.text().trim() != zone.text() || zone.is_empty() || zone.text() == "Local") {
        errors.invalid(&zone, "must be an explicit time zone");
    }
    errors.non_negative(&spec.get("startingDeadlineSeconds"));
    errors.one_of(&spec.get("concurrencyPolicy"), &["Allow", "Forbid", "Replace"]);
    errors.non_negative(&spec.get("successfulJobsHistoryLimit"));
    errors.non_negative(&spec.get("failedJobsHistoryLimit"));
    job_spec(&spec.at(&["jobTemplate", "spec"]), errors);
}

fn schedule(schedule: &Node<'_>, errors: &mut Errors) {
    const MACROS: &[&str] = &["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
    let text = schedule.text();
    let fields: Vec<&str> = text.split_whitespace().collect();
    if text.is_empty() {
        errors.required(schedule, "");
    } else if text.contains("TZ") {
        errors.invalid(schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
    } else if text.starts_with('@') {
        if !MACROS.contains(&text) && !text.starts_with("@every ") {
            errors.invalid(schedule, &format!("unrecognized descriptor: {text}"));
        }
    } else if fields.len() != 5 {
        let detail = format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" "));
        errors.invalid(schedule, &detail);
    } else {
        for field in fields.iter().zip(CRON_RANGES).filter_map(|(field, range)| cron_problem(field, *range)) {
            errors.invalid(schedule, &field);
        }
    }
}

/// Minutes, hours, days, months, weekdays.
const CRON_RANGES: &[(u32, u32)] = &[(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)];

fn cron_problem(field: &str, (min, max): (u32, u32)) -> Option<String> {
    field.split(',').find_map(|part| {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        if step.is_some_and(|step| step.parse::<u32>().is_ok_and(|step| step == 0) || step.parse::<u32>().is_err()) {
            return Some(format!("step of range should be a positive number: {field}"));
        }
        if range == "*" || range == "?" {
            return None;
        }
        let mut bounds = range.splitn(2, '-');
        bounds.find_map(|bound| match bound.parse::<u32>() {
            Ok(number) if number < min => Some(format!("beginning of range ({number}) below minimum ({min}): {part}")),
            Ok(number) if number > max => Some(format!("end of range ({number}) above maximum ({max}): {part}")),
            Ok(_) => None,
            Err(_) if bound.len() == 3 && bound.bytes().all(|b| b.is_ascii_alphabetic()) => None,
            Err(_) => {
                Some(format!("failed to parse int from {bound}: strconv.Atoi: parsing \"{bound}\": invalid syntax"))
            }
        })
    })
}
