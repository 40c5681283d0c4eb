//! Jobs and cron jobs.
//!
//! Owns counts, policies and schedules; templates are the pods'.

mod policies;
mod schedules;

use super::errors::Errors;
use super::node::Node;
use super::{names, pods, selectors};
use crate::labels::Selector;
use std::collections::BTreeMap;

/// What a cron job appends to its name to name a job must still fit.
const CRON_JOB_NAME_MAX: usize = 52;

pub fn job(object: &Node<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    job_spec(&spec, errors);
    // The selector is generated from the uid, which the server sets after this check at the latest.
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    if selector.is_missing() {
        if spec.get("manualSelector").is_true() {
            errors.required(&selector, "");
        }
        return;
    }
    selectors::label_selector(&selector, errors);
    if let Ok(parsed) = Selector::from_label_selector(selector.value) {
        selectors::matches_template(&parsed, &template, errors);
        if !spec.get("manualSelector").is_true() {
            generated_selector(object, &parsed, errors);
        }
    }
}

/// The labels that the pods of a job are told by, unless it says that it selects them otherwise.
fn generated_selector(object: &Node<'_>, selector: &Selector, errors: &mut Errors) {
    let (uid, name) = (object.at(&["metadata", "uid"]).text(), object.at(&["metadata", "name"]).text());
    let expected = [
        ("controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ];
    let labels = object.at(&["spec", "template", "metadata", "labels"]);
    for (key, value) in expected {
        let label = labels.key(key);
        if label.is_missing() {
            errors.required(&label, &format!("must be '{value}'"));
        } else if label.text() != value {
            errors.invalid_value(&label, labels.value, &format!("must be '{value}'"));
        }
    }
    let map: BTreeMap<String, String> =
        expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    if !selector.matches(&map) {
        errors.invalid(&object.at(&["spec", "selector"]), "`selector` not auto-generated");
    }
}

/// The last pod of an indexed job has a host name with its index.
pub fn create_only(object: &Node<'_>, errors: &mut Errors) {
    let (name, spec) = (object.at(&["metadata", "name"]), object.get("spec"));
    if let ("Indexed", Some(completions @ 1..)) = (spec.get("completionMode").text(), spec.get("completions").int()) {
        let host = format!("{}-{}", name.text(), completions - 1);
        if !names::dns_label(&host).is_empty() {
            errors.invalid_text(&name, &format!("will not able to create pod with invalid DNS label: {host}"));
        }
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
const MANAGER_MAX: usize = 63;

fn job_spec(spec: &Node<'_>, errors: &mut Errors) {
    COUNTS.iter().for_each(|field| errors.non_negative(&spec.get(field)));
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        errors.required(&spec.get("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    let manager = spec.get("managedBy");
    if !manager.is_missing() {
        errors.domain_path(&manager);
        if manager.text().len() > MANAGER_MAX {
            errors.too_long(&manager.path, MANAGER_MAX);
        }
    }
    errors.optional_supported(&spec.get("completionMode"), &["NonIndexed", "Indexed"]);
    if spec.get("completionMode").text() == "Indexed" {
        indexed(spec, errors);
    } else {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"].map(|field| spec.get(field)) {
            if !field.is_missing() {
                errors.invalid(&field, "requires indexed completion mode");
            }
        }
    }
    policies::failure(spec, errors);
    policies::success(spec, errors);
    let replacement = spec.get("podReplacementPolicy");
    let replacements: &[&str] =
        if spec.has("podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    errors.optional_supported(&replacement, replacements);
    let template = spec.get("template");
    pods::template(&template, errors);
    restart_policy(spec, &template.at(&["spec", "restartPolicy"]), errors);
}

fn restart_policy(spec: &Node<'_>, policy: &Node<'_>, errors: &mut Errors) {
    match policy.text() {
        "" | "Always" => errors.required(policy, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if spec.has("podFailurePolicy") => {
            errors.invalid(policy, "only \"Never\" is supported when podFailurePolicy is specified");
        }
        "OnFailure" | "Never" => {}
        _ => errors.not_supported(policy, &["OnFailure", "Never"]),
    }
}

/// Limits of indexed jobs, lower where indexes are counted one by one and there are many.
const PARALLELISM_MAX: i64 = 100_000;
const FAILED_INDEXES_MAX: i64 = 100_000;
const COMPLETIONS_MANY: i64 = 100_000;
const PARALLELISM_OF_MANY_MAX: i64 = 10_000;
const FAILED_INDEXES_OF_MANY_MAX: i64 = 10_000;

fn indexed(spec: &Node<'_>, errors: &mut Errors) {
    let [completions, parallelism, failed] =
        ["completions", "parallelism", "maxFailedIndexes"].map(|field| spec.get(field));
    let above = |node: &Node<'_>, max: i64| node.int().is_some_and(|number| number > max);
    if completions.is_missing() {
        errors.required(&completions, "when completion mode is Indexed");
    }
    if above(&parallelism, PARALLELISM_MAX) {
        let detail = format!("must be less than or equal to {PARALLELISM_MAX} when completion mode is Indexed");
        errors.invalid(&parallelism, &detail);
    }
    if completions.int().is_some_and(|completions| above(&failed, completions)) {
        errors.invalid(&failed, "must be less than or equal to completions");
    }
    if above(&failed, FAILED_INDEXES_MAX) {
        errors.invalid(&failed, &format!("must be less than or equal to {FAILED_INDEXES_MAX}"));
    }
    if !above(&completions, COMPLETIONS_MANY) || !spec.has("backoffLimitPerIndex") {
        return;
    }
    if failed.is_missing() {
        errors.required(&failed, &format!("must be specified when completions is above {COMPLETIONS_MANY}"));
    }
    for (node, max) in [(&parallelism, PARALLELISM_OF_MANY_MAX), (&failed, FAILED_INDEXES_OF_MANY_MAX)] {
        if above(node, max) {
            let detail = format!(
                "must be less than or equal to {max} when completions are above {COMPLETIONS_MANY} and used with backoff limit per index"
            );
            errors.invalid(node, &detail);
        }
    }
}

pub fn cron_job(object: &Node<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    schedules::schedule(&spec.get("schedule"), errors);
    errors.non_negative(&spec.get("startingDeadlineSeconds"));
    schedules::zone(&spec.get("timeZone"), errors);
    errors.one_of(&spec.get("concurrencyPolicy"), &["Allow", "Forbid", "Replace"]);
    let job = spec.at(&["jobTemplate", "spec"]);
    job_spec(&job, errors);
    if job.has("selector") {
        errors.invalid(&job.get("selector"), "`selector` will be auto-generated");
    }
    if job.get("manualSelector").is_true() {
        errors.not_supported(&job.get("manualSelector"), &["nil", "false"]);
    }
    errors.non_negative(&spec.get("successfulJobsHistoryLimit"));
    errors.non_negative(&spec.get("failedJobsHistoryLimit"));
}

pub fn cron_job_name(object: &Node<'_>, errors: &mut Errors) {
    let name = object.at(&["metadata", "name"]);
    if name.text().len() > CRON_JOB_NAME_MAX {
        errors.invalid(&name, &format!("must be no more than {CRON_JOB_NAME_MAX} characters"));
    }
}
