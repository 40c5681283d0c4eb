//! Pods and what they share with pod templates.
//!
//! Owns the pod's spec but for its containers and volumes.

use super::containers::{self, Pod};
use super::errors::Errors;
use super::node::Node;
use super::{metadata, names, selectors, volumes};

const RESTART_POLICIES: &[&str] = &["Always", "Never", "OnFailure"];
const DNS_POLICIES: &[&str] = &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "PreferNoSchedule"];

pub fn pod(pod: &Node<'_>, errors: &mut Errors) {
    spec(&pod.get("spec"), errors);
}

/// What may not be set when a pod is made, only later.
pub fn create_only(pod: &Node<'_>, errors: &mut Errors) {
    let ephemeral = pod.at(&["spec", "ephemeralContainers"]);
    if !ephemeral.is_empty() {
        errors.forbidden(&ephemeral, "cannot be set on create");
    }
}

/// Ephemeral containers are only ever added.
pub fn ephemeral_update(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    const FIELD: [&str; 2] = ["spec", "ephemeralContainers"];
    let (list, before) = (new.at(&FIELD), old.at(&FIELD));
    for container in before.items() {
        let name = container.get("name");
        match list.items().iter().find(|new| new.get("name").text() == name.text()) {
            Some(same) if same.value == container.value => {}
            Some(_) => {
                errors.forbidden(&list, &format!("existing ephemeral containers {:?} may not be changed", name.text()))
            }
            None => {
                errors.forbidden(&list, &format!("existing ephemeral containers {:?} may not be removed", name.text()))
            }
        }
    }
}

/// A template: labels, annotations and spec of pods to be.
pub fn template(template: &Node<'_>, errors: &mut Errors) {
    metadata::labels(&template.at(&["metadata", "labels"]), errors);
    metadata::annotations(&template.at(&["metadata", "annotations"]), errors);
    let pod_spec = template.get("spec");
    spec(&pod_spec, errors);
    let ephemeral = pod_spec.get("ephemeralContainers");
    if !ephemeral.is_empty() {
        errors.forbidden(&ephemeral, "ephemeral containers not allowed in pod template");
    }
}

fn spec(spec: &Node<'_>, errors: &mut Errors) {
    let pod = Pod {
        volumes: volumes::volumes(&spec.get("volumes"), errors),
        host_network: spec.get("hostNetwork").is_true(),
    };
    containers::containers(spec, &pod, errors);
    containers::ephemeral(spec, &pod, errors);
    errors.one_of(&spec.get("restartPolicy"), RESTART_POLICIES);
    errors.one_of(&spec.get("dnsPolicy"), DNS_POLICIES);
    dns(spec, errors);
    metadata::labels(&spec.get("nodeSelector"), errors);
    for (field, form) in NAMED {
        errors.optional_named(&spec.get(field), *form);
    }
    for secret in spec.get("imagePullSecrets").items() {
        if secret.get("name").is_empty() {
            errors.required(&secret.get("name"), "");
        }
    }
    errors.in_range(&spec.get("activeDeadlineSeconds"), 1, i64::from(i32::MAX));
    errors.non_negative(&spec.get("terminationGracePeriodSeconds"));
    tolerations(&spec.get("tolerations"), errors);
    affinity(&spec.get("affinity"), errors);
    spread(&spec.get("topologySpreadConstraints"), errors);
    security_context(spec, errors);
    for alias in spec.get("hostAliases").items() {
        errors.invalid_all(&alias.get("ip"), names::ip(alias.get("ip").text()));
        for name in alias.get("hostnames").items() {
            errors.invalid_all(&name, names::dns_subdomain(name.text()));
        }
    }
    for gate in spec.get("readinessGates").items() {
        errors.invalid_all(&gate.get("conditionType"), names::qualified_name(gate.get("conditionType").text()));
    }
    for gate in spec.get("schedulingGates").items() {
        errors.invalid_all(&gate.get("name"), names::qualified_name(gate.get("name").text()));
    }
    errors.optional_one_of(&spec.at(&["os", "name"]), &["linux", "windows"]);
    errors.optional_one_of(&spec.get("preemptionPolicy"), &["Never", "PreemptLowerPriority"]);
}

/// Names of other objects and of the host: field, form.
const NAMED: &[(&str, names::Form)] = &[
    ("serviceAccountName", names::dns_subdomain),
    ("nodeName", names::dns_subdomain),
    ("hostname", names::dns_label),
    ("subdomain", names::dns_label),
    ("priorityClassName", names::dns_subdomain),
    ("runtimeClassName", names::dns_subdomain),
    ("schedulerName", names::dns_subdomain),
];

/// What a resolver takes.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;

fn dns(spec: &Node<'_>, errors: &mut Errors) {
    let config = spec.get("dnsConfig");
    let (servers, searches) = (config.get("nameservers"), config.get("searches"));
    if spec.get("dnsPolicy").text() == "None" && servers.is_empty() {
        errors.required(&servers, "must provide at least one DNS nameserver when `dnsPolicy` is None");
    }
    if servers.items().len() > NAMESERVERS_MAX {
        errors.invalid(&servers, &format!("must not have more than {NAMESERVERS_MAX} nameservers"));
    }
    for server in servers.items() {
        errors.invalid_all(&server, names::ip(server.text()));
    }
    if searches.items().len() > SEARCHES_MAX {
        errors.invalid(&searches, &format!("must not have more than {SEARCHES_MAX} search paths"));
    }
    for option in config.get("options").items() {
        if option.get("name").is_empty() {
            errors.required(&option.get("name"), "must not be empty");
        }
    }
}

fn tolerations(tolerations: &Node<'_>, errors: &mut Errors) {
    for toleration in tolerations.items() {
        let (key, operator, value) = (toleration.get("key"), toleration.get("operator"), toleration.get("value"));
        let effect = toleration.get("effect");
        errors.optional_named(&key, names::qualified_name);
        if key.is_empty() && operator.text() != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid_value(&operator, &operator.text().into(), detail);
        }
        if toleration.has("tolerationSeconds") && effect.text() != "NoExecute" {
            errors.invalid_value(
                &effect,
                &effect.text().into(),
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        }
        match operator.text() {
            "" | "Equal" => errors.invalid_all(&value, names::label_value(value.text())),
            "Exists" if !value.is_empty() => {
                errors.invalid_value(&operator, value.value, "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            _ => errors.not_supported(&operator, &["Equal", "Exists"]),
        }
        errors.optional_one_of(&effect, EFFECTS);
    }
}

fn affinity(affinity: &Node<'_>, errors: &mut Errors) {
    let node = affinity.get("nodeAffinity");
    let required = node.get("requiredDuringSchedulingIgnoredDuringExecution");
    let terms = required.get("nodeSelectorTerms");
    if !required.is_missing() && terms.is_empty() {
        errors.required(&terms, "must have at least one node selector term");
    }
    for term in terms.items() {
        node_term(&term, errors);
    }
    for preferred in node.get("preferredDuringSchedulingIgnoredDuringExecution").items() {
        weight(&preferred.get("weight"), errors);
        node_term(&preferred.get("preference"), errors);
    }
    for pods in ["podAffinity", "podAntiAffinity"].map(|name| affinity.get(name)) {
        for term in pods.get("requiredDuringSchedulingIgnoredDuringExecution").items() {
            pod_term(&term, errors);
        }
        for preferred in pods.get("preferredDuringSchedulingIgnoredDuringExecution").items() {
            weight(&preferred.get("weight"), errors);
            pod_term(&preferred.get("podAffinityTerm"), errors);
        }
    }
}

fn weight(weight: &Node<'_>, errors: &mut Errors) {
    if !(1..=100).contains(&weight.int().unwrap_or(0)) {
        errors.invalid_value(weight, &weight.int().unwrap_or(0).into(), "must be in the range 1-100");
    }
}

fn node_term(term: &Node<'_>, errors: &mut Errors) {
    for expression in term.get("matchExpressions").items() {
        let (operator, values) = (expression.get("operator"), expression.get("values"));
        match (operator.text(), values.items().len()) {
            ("In" | "NotIn", 0) => errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'"),
            ("Exists" | "DoesNotExist", 1..) => {
                errors.forbidden(&values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            ("Gt" | "Lt", 0 | 2..) => {
                errors.required(&values, "must be specified single value when `operator` is 'Lt' or 'Gt'")
            }
            ("In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt", _) => {}
            (_, _) => errors.invalid_value(&operator, &operator.text().into(), "not a valid selector operator"),
        }
        errors.invalid_all(&expression.get("key"), names::qualified_name(expression.get("key").text()));
    }
}

fn pod_term(term: &Node<'_>, errors: &mut Errors) {
    let topology = term.get("topologyKey");
    if topology.is_empty() {
        errors.required(&topology, "can not be empty");
    }
    errors.optional_named(&topology, names::qualified_name);
    selectors::label_selector(&term.get("labelSelector"), errors);
    selectors::label_selector(&term.get("namespaceSelector"), errors);
    for namespace in term.get("namespaces").items() {
        errors.invalid_all(&namespace, names::dns_label(namespace.text()));
    }
}

fn spread(constraints: &Node<'_>, errors: &mut Errors) {
    for constraint in constraints.items() {
        let (skew, topology) = (constraint.get("maxSkew"), constraint.get("topologyKey"));
        if skew.int().unwrap_or(0) <= 0 {
            errors.invalid_value(&skew, &skew.int().unwrap_or(0).into(), "must be greater than zero");
        }
        if topology.is_empty() {
            errors.required(&topology, "can not be empty");
        }
        let unsatisfiable = constraint.get("whenUnsatisfiable");
        if !["DoNotSchedule", "ScheduleAnyway"].contains(&unsatisfiable.text()) {
            errors.not_supported(&unsatisfiable, &["DoNotSchedule", "ScheduleAnyway"]);
        }
        selectors::label_selector(&constraint.get("labelSelector"), errors);
    }
}

fn security_context(spec: &Node<'_>, errors: &mut Errors) {
    let context = spec.get("securityContext");
    containers::ids(&context, &["fsGroup", "runAsUser", "runAsGroup"], errors);
    for group in context.get("supplementalGroups").items() {
        errors.in_range(&group, 0, i64::from(i32::MAX));
    }
    containers::seccomp(&context.get("seccompProfile"), errors);
    errors.optional_one_of(&context.get("fsGroupChangePolicy"), &["Always", "OnRootMismatch"]);
    for sysctl in context.get("sysctls").items() {
        if sysctl.get("name").is_empty() {
            errors.required(&sysctl.get("name"), "");
        }
    }
    let shared = spec.get("shareProcessNamespace");
    if shared.is_true() && spec.get("hostPID").is_true() {
        errors.invalid(&shared, "ShareProcessNamespace and HostPID cannot both be enabled");
    }
}
