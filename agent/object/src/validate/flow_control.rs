//! Priority levels of requests, and the schemas that say which request is of which.

use super::errors::Errors;
use super::names;
use super::node::Node;

const PRECEDENCE_MAX: i64 = 10_000;
const EXEMPT: &str = "exempt";
const QUEUES_MAX: i64 = 10_000_000;

pub fn flow_schema(object: &Node<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    let precedence = spec.get("matchingPrecedence");
    let number = precedence.int().unwrap_or_default();
    if number <= 0 {
        errors.invalid(&precedence, "must be a positive value");
    } else if number > PRECEDENCE_MAX {
        errors.invalid(&precedence, &format!("must not be greater than {PRECEDENCE_MAX}"));
    } else if number == 1 && object.at(&["metadata", "name"]).text() != EXEMPT {
        errors.invalid(&precedence, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
    let level = spec.at(&["priorityLevelConfiguration", "name"]);
    match level.text() {
        "" => errors.required(&level, "must reference a priority level"),
        text => errors.invalid_all(&level, names::dns_subdomain(text)),
    }
    errors.optional_one_of(&spec.at(&["distinguisherMethod", "type"]), &["ByNamespace", "ByUser"]);
    spec.get("rules").items().iter().for_each(|of| rule(of, errors));
}

fn rule(rule: &Node<'_>, errors: &mut Errors) {
    let subjects = rule.get("subjects");
    if subjects.items().is_empty() {
        errors.required(&subjects, "subjects must contain at least one value");
    }
    for subject in subjects.items() {
        let kind = subject.get("kind");
        errors.one_of(&kind, &["Group", "ServiceAccount", "User"]);
        let (field, needed): (&str, &[&str]) = match kind.text() {
            "Group" => ("group", &["name"]),
            "ServiceAccount" => ("serviceAccount", &["name", "namespace"]),
            "User" => ("user", &["name"]),
            _ => continue,
        };
        let of = subject.get(field);
        if of.value.is_object() {
            needed.iter().for_each(|name| errors.set(&of.get(name)));
        } else {
            errors.required(&of, &format!("{field} is required when subject kind is '{}'", kind.text()));
        }
    }
    let (resources, paths) = (rule.get("resourceRules").items(), rule.get("nonResourceRules").items());
    if resources.is_empty() && paths.is_empty() {
        errors.required(rule, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    for of in resources {
        ["verbs", "apiGroups", "resources"].iter().for_each(|list| listed(&of.get(list), errors));
        let namespaces = of.get("namespaces");
        if namespaces.items().is_empty() && !of.get("clusterScope").is_true() {
            errors
                .required(&namespaces, "resource rules that are not cluster scoped must supply at least one namespace");
        }
    }
    for of in paths {
        ["verbs", "nonResourceURLs"].iter().for_each(|list| listed(&of.get(list), errors));
    }
}

fn listed(list: &Node<'_>, errors: &mut Errors) {
    let items = list.items();
    if items.is_empty() {
        errors.required(list, "");
    } else if items.len() > 1 && items.iter().any(|item| item.text() == "*") {
        errors.invalid(list, "if '*' is present, must not specify other items");
    }
}

pub fn priority_level(object: &Node<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    let (ty, limited, exempt) = (spec.get("type"), spec.get("limited"), spec.get("exempt"));
    errors.one_of(&ty, &["Exempt", "Limited"]);
    match ty.text() {
        "Exempt" if limited.value.is_object() => {
            errors.forbidden(&limited, "must be nil if the type is not Limited");
        }
        "Limited" if exempt.value.is_object() => {
            errors.forbidden(&exempt, "must be nil if the type is not Exempt");
        }
        "Limited" if !limited.value.is_object() => {
            errors.required(&limited, "must not be empty when type is Limited");
        }
        "Limited" => limit(&limited, errors),
        _ => {}
    }
}

fn limit(limited: &Node<'_>, errors: &mut Errors) {
    errors.non_negative(&limited.get("nominalConcurrencyShares"));
    errors.in_range(&limited.get("lendablePercent"), 0, 100);
    errors.non_negative(&limited.get("borrowingLimitPercent"));
    let (ty, queuing) = (limited.at(&["limitResponse", "type"]), limited.at(&["limitResponse", "queuing"]));
    errors.one_of(&ty, &["Queue", "Reject"]);
    match ty.text() {
        "Reject" if queuing.value.is_object() => {
            errors.forbidden(&queuing, "must be nil if limited.limitResponse.type is not Limited");
        }
        "Queue" if !queuing.value.is_object() => {
            errors.required(&queuing, "must not be empty if limited.limitResponse.type is Limited");
        }
        "Queue" => {
            let (queues, hand) = (queuing.get("queues"), queuing.get("handSize"));
            errors.in_range(&queues, 1, QUEUES_MAX);
            errors.positive(&queuing.get("queueLengthLimit"));
            errors.positive(&hand);
            if hand.int() > queues.int() {
                let count = queues.int().unwrap_or_default();
                errors.invalid(&hand, &format!("should not be greater than queues ({count})"));
            }
        }
        _ => {}
    }
}
