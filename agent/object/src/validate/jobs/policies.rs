//! When a job has failed or succeeded before all of its pods have ended.
//!
//! Owns the rules of the two policies.

use super::super::errors::Errors;
use super::super::names;
use super::super::node::Node;
use super::super::structs;
use std::collections::BTreeSet;

const RULES_MAX: usize = 20;
const PATTERNS_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const INDEXES_SIZE_MAX: usize = 64 * 1024;

const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: &[&str] = &["In", "NotIn"];
const STATUSES: &[&str] = &["False", "True", "Unknown"];

/// An enumerated text, whose absence is answered with what there is.
fn listed(node: &Node<'_>, supported: &[&str], errors: &mut Errors) {
    if node.is_empty() {
        let quoted: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        errors.required(node, &format!("valid values: [{}]", quoted.join(" ")));
    } else {
        errors.supported(node, supported);
    }
}

fn at_most(list: &Node<'_>, max: usize, errors: &mut Errors) {
    if list.items().len() > max {
        errors.too_many(list, list.items().len(), max);
    }
}

pub fn failure(spec: &Node<'_>, errors: &mut Errors) {
    let rules = spec.at(&["podFailurePolicy", "rules"]);
    at_most(&rules, RULES_MAX, errors);
    for rule in rules.items() {
        failure_rule(spec, &rule, errors);
    }
}

fn failure_rule(spec: &Node<'_>, rule: &Node<'_>, errors: &mut Errors) {
    let (action, codes, conditions) = (rule.get("action"), rule.get("onExitCodes"), rule.get("onPodConditions"));
    if action.text() == "FailIndex" && !spec.has("backoffLimitPerIndex") {
        errors.invalid(&action, "requires the backoffLimitPerIndex to be set");
    }
    listed(&action, ACTIONS, errors);
    if !codes.is_missing() {
        exit_codes(spec, &codes, errors);
    }
    at_most(&conditions, PATTERNS_MAX, errors);
    for pattern in conditions.items() {
        errors.formed(&pattern.get("type"), names::qualified_name);
        listed(&pattern.get("status"), STATUSES, errors);
    }
    match (codes.is_missing(), conditions.is_empty()) {
        (false, false) => {
            errors.invalid_unsaid(rule, "specifying both OnExitCodes and OnPodConditions is not supported");
        }
        (true, true) => {
            errors.invalid_unsaid(rule, "specifying one of OnExitCodes and OnPodConditions is required");
        }
        (true, false) | (false, true) => {}
    }
}

fn exit_codes(spec: &Node<'_>, codes: &Node<'_>, errors: &mut Errors) {
    let (operator, container, values) = (codes.get("operator"), codes.get("containerName"), codes.get("values"));
    listed(&operator, OPERATORS, errors);
    let template = spec.at(&["template", "spec"]);
    let containers = ["containers", "initContainers"].map(|list| template.get(list).items()).concat();
    if !container.is_missing() && !containers.iter().any(|other| other.get("name").value == container.value) {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.invalid(&container, detail);
    }
    let items = values.items();
    if items.is_empty() {
        errors.invalid(&values, "at least one value is required");
    }
    at_most(&values, EXIT_CODES_MAX, errors);
    let (mut seen, mut ordered, mut last) = (BTreeSet::new(), true, i64::MIN);
    for value in &items {
        let number = value.int().unwrap_or(0);
        if operator.text() == "In" && number == 0 {
            errors.invalid(value, "must not be 0 for the In operator");
        }
        if !seen.insert(number) {
            errors.duplicate(value);
        }
        ordered &= last <= number;
        last = number;
    }
    if !ordered {
        errors.invalid(&values, "must be ordered");
    }
}

pub fn success(spec: &Node<'_>, errors: &mut Errors) {
    let policy = spec.get("successPolicy");
    if policy.is_missing() {
        return;
    }
    if spec.get("completionMode").text() != "Indexed" {
        return errors.invalid_struct(&policy, structs::SUCCESS_POLICY, "requires indexed completion mode");
    }
    let rules = policy.get("rules");
    if rules.is_empty() {
        errors.required(&rules, "at least one rules must be specified when the successPolicy is specified");
    }
    at_most(&rules, RULES_MAX, errors);
    // Without a number of completions there is nothing to compare with; that is said elsewhere.
    if let Some(completions) = spec.get("completions").int() {
        rules.items().iter().for_each(|rule| success_rule(rule, completions, errors));
    }
}

fn success_rule(rule: &Node<'_>, completions: i64, errors: &mut Errors) {
    let (count, indexes) = (rule.get("succeededCount"), rule.get("succeededIndexes"));
    if count.is_missing() && indexes.is_missing() {
        errors.required(rule, "at least one of succeededCount or succeededIndexes must be specified");
    }
    if indexes.text().len() > INDEXES_SIZE_MAX {
        errors.too_long(&indexes.path, INDEXES_SIZE_MAX);
    }
    let total = match count_indexes(indexes.text(), completions) {
        Ok(total) => total,
        Err(why) => {
            errors.invalid(&indexes, &format!("error parsing succeededIndexes: {why}"));
            0
        }
    };
    errors.non_negative(&count);
    let Some(number) = count.int() else {
        return;
    };
    if number > completions {
        let detail = format!("must be less than or equal to {completions} (the number of specified completions)");
        errors.invalid(&count, &detail);
    }
    if !indexes.is_missing() && number > total {
        let detail = format!(
            "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        );
        errors.invalid(&count, &detail);
    }
}

/// How many indexes `1,3-5` names.
fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    let (mut total, mut last) = (0, None);
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let parts: Vec<&str> = interval.split('-').collect();
        if parts.len() > 2 {
            let rule = "violates the requirement that an index interval can have at most two parts separated by '-'";
            return Err(format!("the fragment {interval:?} {rule}"));
        }
        let index = |part: &str| match part.parse::<i64>() {
            Err(_) => Err(format!("cannot convert string to integer for index: {part:?}")),
            Ok(number) if number >= completions => Err(format!("too large index: {part:?}")),
            Ok(number) => Ok(number),
        };
        let first = index(parts[0])?;
        let end = parts.get(1).map_or(Ok(first), |part| index(part))?;
        if parts.len() > 1 && first >= end {
            return Err(format!("non-increasing order, previous: {first}, current: {end}"));
        }
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}
