//! Webhook configurations and admission policies.

use std::collections::BTreeSet;

use super::errors::Errors;
use super::names;
use super::node::Node;
use crate::cel::{CONDITION_VARIABLES, MUTATION_VARIABLES, POLICY_VARIABLES, Program};

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];
const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
const CONDITIONS_MAX: usize = 64;
const AUDIT_ANNOTATIONS_MAX: usize = 20;
const AUDIT_EXPRESSION_BYTES_MAX: usize = 5 * 1024;

pub fn webhooks(configuration: &Node<'_>, errors: &mut Errors) {
    let mut seen = Vec::new();
    for webhook in configuration.get("webhooks").items() {
        let name = webhook.get("name");
        errors.named(&name, names::dns_subdomain);
        if !name.text().is_empty() && name.text().split('.').count() < 3 {
            errors.invalid(&name, "should be a domain with at least three segments separated by dots");
        }
        if seen.contains(&name.text()) {
            errors.duplicate(&name);
        }
        seen.push(name.text());
        errors.optional_one_of(&webhook.get("failurePolicy"), &["Fail", "Ignore"]);
        errors.optional_one_of(&webhook.get("matchPolicy"), &["Equivalent", "Exact"]);
        errors.optional_one_of(&webhook.get("reinvocationPolicy"), &["IfNeeded", "Never"]);
        errors.one_of(&webhook.get("sideEffects"), &["None", "NoneOnDryRun"]);
        let timeout = webhook.get("timeoutSeconds");
        if timeout.int().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
            errors.invalid(&timeout, "the timeout value must be between 1 and 30 seconds");
        }
        review_versions(&webhook.get("admissionReviewVersions"), errors);
        webhook.get("rules").items().iter().for_each(|of| rule(of, errors));
        client(&webhook.get("clientConfig"), errors);
        conditions(&webhook.get("matchConditions"), errors);
    }
}

/// In which a webhook is asked.
pub fn review_versions(versions: &Node<'_>, errors: &mut Errors) {
    let all = versions.items();
    if all.is_empty() {
        errors.required(versions, "must specify one of v1, v1beta1");
    } else if !all.iter().any(|version| version.text() == "v1") {
        errors.invalid(versions, "must include at least one of v1, v1beta1");
    }
}

fn rule(rule: &Node<'_>, errors: &mut Errors) {
    for list in ["apiGroups", "apiVersions", "resources", "operations"] {
        let list = rule.get(list);
        if list.items().is_empty() {
            errors.required(&list, "");
        }
        if list.items().len() > 1 && list.items().iter().any(|item| item.text() == "*") {
            errors.invalid(&list, "if '*' is present, must not specify other items");
        }
    }
    rule.get("operations").items().iter().for_each(|operation| errors.one_of(operation, OPERATIONS));
    errors.optional_one_of(&rule.get("scope"), &["*", "Cluster", "Namespaced"]);
}

/// Where a webhook is.
pub fn client(client: &Node<'_>, errors: &mut Errors) {
    let (url, service) = (client.get("url"), client.get("service"));
    match (url.text(), service.value.is_object()) {
        ("", false) | (_, true) if url.text().is_empty() != service.value.is_object() => {
            errors.required(client, "exactly one of url or service is required");
        }
        (text, false) if !text.starts_with("https://") => {
            errors.invalid(&url, "'https' is the only allowed URL scheme; desired format: https://host[/path]");
        }
        (text, false) => {
            let host = text["https://".len()..].split('/').next().unwrap_or_default();
            let refused = [
                ('@', "user information is not permitted in the URL", host),
                ('#', "fragments are not permitted in the URL", text),
                ('?', "query parameters are not permitted in the URL", text),
            ];
            for (mark, why, part) in refused {
                if part.contains(mark) {
                    errors.invalid(&url, why);
                }
            }
        }
        (_, true) => {
            errors.set(&service.get("name"));
            errors.set(&service.get("namespace"));
            errors.in_range(&service.get("port"), 1, 65535);
            let path = service.get("path");
            if !path.text().is_empty() && !path.text().starts_with('/') {
                errors.invalid(&path, "must start with a '/'");
            }
        }
    }
}

fn conditions(conditions: &Node<'_>, errors: &mut Errors) {
    let all = conditions.items();
    if all.len() > CONDITIONS_MAX {
        errors.too_many(conditions, all.len(), CONDITIONS_MAX);
    }
    for condition in all {
        errors.named(&condition.get("name"), names::qualified_name);
        expression(&condition.get("expression"), CONDITION_VARIABLES, errors);
    }
}

fn expression(node: &Node<'_>, variables: &[&str], errors: &mut Errors) {
    if node.text().trim().is_empty() {
        errors.required(node, "");
    } else if let Err(error) = Program::compile(node.text(), variables) {
        errors.invalid(node, &error.to_string());
    }
}

pub fn policy(policy: &Node<'_>, errors: &mut Errors) {
    let spec = policy.get("spec");
    shared(&spec, POLICY_VARIABLES, errors);
    let validations = spec.get("validations");
    if validations.items().is_empty() && spec.get("auditAnnotations").items().is_empty() {
        errors.required(&validations, "validations or auditAnnotations must contain at least one item");
    }
    for validation in validations.items() {
        expression(&validation.get("expression"), POLICY_VARIABLES, errors);
        let message = validation.get("messageExpression");
        if !message.is_empty() {
            expression(&message, POLICY_VARIABLES, errors);
        }
        errors.optional_one_of(&validation.get("reason"), REASONS);
    }
    audit_annotations(policy.at(&["metadata", "name"]).text(), &spec.get("auditAnnotations"), errors);
}

fn audit_annotations(policy: &str, annotations: &Node<'_>, errors: &mut Errors) {
    let all = annotations.items();
    if all.len() > AUDIT_ANNOTATIONS_MAX {
        errors.required(annotations, "must not have more than 20 auditAnnotations");
    }
    let mut keys = BTreeSet::new();
    for annotation in all {
        let (key, value) = (annotation.get("key"), annotation.get("valueExpression"));
        errors.invalid_all(&key, names::qualified_name(&format!("{policy}/{}", key.text())));
        if !keys.insert(key.text().to_owned()) {
            errors.duplicate(&key);
        }
        if value.text().len() > AUDIT_EXPRESSION_BYTES_MAX {
            errors.too_long(&value.path, AUDIT_EXPRESSION_BYTES_MAX);
        } else {
            expression(&value, POLICY_VARIABLES, errors);
        }
    }
}

pub fn mutating_policy(policy: &Node<'_>, errors: &mut Errors) {
    let spec = policy.get("spec");
    shared(&spec, MUTATION_VARIABLES, errors);
    errors.one_of(&spec.get("reinvocationPolicy"), &["IfNeeded", "Never"]);
    for of in spec.at(&["matchConstraints", "resourceRules"]).items() {
        for operation in of.get("operations").items().iter().filter(|operation| operation.text() == "DELETE") {
            errors.not_supported(operation, &["*", "CONNECT", "CREATE", "UPDATE"]);
        }
    }
    let mutations = spec.get("mutations");
    if mutations.items().is_empty() {
        errors.required(&mutations, "mutations must contain at least one item");
    }
    for mutation in mutations.items() {
        let ty = mutation.get("patchType");
        errors.one_of(&ty, &["ApplyConfiguration", "JSONPatch"]);
        for (name, field) in [("ApplyConfiguration", "applyConfiguration"), ("JSONPatch", "jsonPatch")] {
            let of = mutation.get(field);
            match (ty.text() == name, of.value.is_object()) {
                (true, true) => expression(&of.get("expression"), MUTATION_VARIABLES, errors),
                (true, false) => errors.required(&of, &format!("must be specified when patchType is {name:?}")),
                (false, true) => {
                    errors.forbidden(&of, &format!("must not be specified when patchType is not {name:?}"))
                }
                (false, false) => {}
            }
        }
    }
}

/// What policies that judge and those that change have in common.
fn shared(spec: &Node<'_>, variables: &[&str], errors: &mut Errors) {
    errors.optional_one_of(&spec.get("failurePolicy"), &["Fail", "Ignore"]);
    let constraints = spec.get("matchConstraints");
    if constraints.get("resourceRules").items().is_empty() {
        let missing = if constraints.value.is_object() { constraints.get("resourceRules") } else { constraints };
        errors.required(&missing, "");
    } else {
        matched(&constraints, errors);
    }
    let params = spec.get("paramKind");
    if params.value.is_object() {
        errors.set(&params.get("apiVersion"));
        errors.set(&params.get("kind"));
    }
    conditions(&spec.get("matchConditions"), errors);
    for variable in spec.get("variables").items() {
        errors.set(&variable.get("name"));
        expression(&variable.get("expression"), variables, errors);
    }
}

fn matched(resources: &Node<'_>, errors: &mut Errors) {
    errors.optional_one_of(&resources.get("matchPolicy"), &["Equivalent", "Exact"]);
    for list in ["resourceRules", "excludeResourceRules"] {
        resources.get(list).items().iter().for_each(|of| rule(of, errors));
    }
}

pub fn binding(binding: &Node<'_>, errors: &mut Errors) {
    let spec = binding.get("spec");
    errors.set(&spec.get("policyName"));
    let actions = spec.get("validationActions");
    if actions.items().is_empty() {
        errors.required(&actions, "at least one validation action is required");
    }
    actions.items().iter().for_each(|action| errors.one_of(action, ACTIONS));
    let has = |name: &str| actions.items().iter().any(|action| action.text() == name);
    if has("Deny") && has("Warn") {
        errors.invalid(&actions, "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)");
    }
    bound(&spec, errors);
}

pub fn mutating_binding(binding: &Node<'_>, errors: &mut Errors) {
    let spec = binding.get("spec");
    errors.set(&spec.get("policyName"));
    bound(&spec, errors);
}

/// Where it is bound, and with what.
fn bound(spec: &Node<'_>, errors: &mut Errors) {
    let params = spec.get("paramRef");
    if params.value.is_object() {
        let (name, selector) = (params.get("name"), params.get("selector"));
        if name.is_empty() != selector.value.is_object() {
            errors.forbidden(&name, "exactly one of name or selector must be specified");
        }
        errors.one_of(&params.get("parameterNotFoundAction"), &["Allow", "Deny"]);
    }
    matched(&spec.get("matchResources"), errors);
}
