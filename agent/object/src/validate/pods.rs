//! Pods and what they share with pod templates.
//!
//! Owns the pod's spec but for its containers and volumes; where it may run is in [`affinity`], as whom in
//! [`security`], what old annotations say in [`annotations`].

mod affinity;
mod annotations;
mod security;

pub use affinity::{node_selector, taint_effect, tolerations};

use super::containers::{self, Pod};
use super::errors::Errors;
use super::node::Node;
use super::{metadata, names, resources, structs, volumes};
use std::collections::BTreeSet;

const RESTART_POLICIES: &[&str] = &["Always", "OnFailure", "Never"];
const DNS_POLICIES: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
pub const PREEMPTION_POLICIES: &[&str] = &["PreemptLowerPriority", "Never"];

/// Whether a spec is a pod's own, with the pod's name, or that of pods to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of<'a> {
    Pod(&'a str),
    Template,
}

pub fn pod(pod: &Node<'_>, errors: &mut Errors) {
    let (spec, notes) = (pod.get("spec"), pod.at(&["metadata", "annotations"]));
    annotations::check(&notes, &notes.path, &spec, errors);
    self::spec(&spec, Of::Pod(pod.at(&["metadata", "name"]).text()), errors);
    if spec.get("serviceAccountName").is_empty() {
        let projected = spec.get("volumes").items().into_iter().map(|volume| volume.get("projected"));
        let sources = projected.flat_map(|projected| projected.get("sources").items());
        for token in sources.map(|source| source.get("serviceAccountToken")).filter(|token| !token.is_missing()) {
            errors.forbidden(&token, "must not be specified when serviceAccountName is not set");
        }
    }
    for list in ["containers", "initContainers"] {
        spec.get(list).items().iter().for_each(|container| containers::trimmed_image(container, errors));
    }
}

/// What may not be set when a pod is made, only later.
pub fn create_only(pod: &Node<'_>, errors: &mut Errors) {
    let spec = pod.get("spec");
    let ephemeral = spec.get("ephemeralContainers");
    if !ephemeral.is_empty() {
        errors.forbidden(&ephemeral, "cannot be set on create");
    }
    if !spec.get("nodeName").is_empty() && !spec.get("schedulingGates").is_empty() {
        errors.forbidden(&spec.get("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
    annotations::profiles_match(&pod.at(&["metadata", "annotations"]), &spec, errors);
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
    template_with(template, &[], errors);
}

/// A template whose pods have volumes of these names besides their own.
pub fn template_with(template: &Node<'_>, claims: &[Node<'_>], errors: &mut Errors) {
    let (spec, notes) = (template.get("spec"), template.at(&["metadata", "annotations"]));
    // Upstream leaves `metadata` out of these two paths.
    let named = |field: &str| Node { path: template.get(field).path, ..template.at(&["metadata", field]) };
    metadata::labels(&named("labels"), errors);
    metadata::annotations(&named("annotations"), errors);
    annotations::check(&notes, &template.get("annotations").path, &spec, errors);
    spec_with(&spec, Of::Template, claims, errors);
    annotations::profiles_match(&notes, &spec, errors);
    let ephemeral = spec.get("ephemeralContainers");
    if !ephemeral.is_empty() {
        errors.forbidden(&ephemeral, "ephemeral containers not allowed in pod template");
    }
}

fn spec(spec: &Node<'_>, of: Of<'_>, errors: &mut Errors) {
    spec_with(spec, of, &[], errors);
}

fn spec_with<'a>(spec: &Node<'a>, of: Of<'_>, claims: &[Node<'a>], errors: &mut Errors) {
    let grace = spec.get("terminationGracePeriodSeconds");
    let mut pod = Pod {
        volumes: volumes::volumes(&spec.get("volumes"), of, errors),
        claims: claim_names(spec),
        grace_seconds: grace.int(),
        restart_policy: spec.get("restartPolicy").text(),
        host_users: spec.get("hostUsers").value.as_bool() != Some(false),
    };
    pod.volumes.extend(claims.iter().map(|claim| (claim.at(&["metadata", "name"]).text(), volumes::Kind::Claim)));
    resource_claims(&spec.get("resourceClaims"), errors);
    containers::containers(spec, &pod, errors);
    containers::ephemeral(spec, &pod, errors);
    resources::pod(spec, &pod.claims, errors);
    host_network(spec, of, errors);
    errors.one_of(&spec.get("restartPolicy"), RESTART_POLICIES);
    errors.one_of(&spec.get("dnsPolicy"), DNS_POLICIES);
    metadata::labels(&spec.get("nodeSelector"), errors);
    security::context(spec, errors);
    affinity::affinity(&spec.get("affinity"), errors);
    dns(spec, errors);
    gates(spec, errors);
    affinity::spread(&spec.get("topologySpreadConstraints"), errors);
    security::host_process(spec, errors);
    security::host_users(spec, errors);
    for (field, form) in NAMED {
        errors.optional_named(&spec.get(field), *form);
    }
    errors.in_range(&spec.get("activeDeadlineSeconds"), 1, i64::from(i32::MAX));
    affinity::tolerations(&spec.get("tolerations"), errors);
    host_aliases(&spec.get("hostAliases"), errors);
    let runtime = spec.get("runtimeClassName");
    if !runtime.is_missing() {
        errors.formed(&runtime, names::dns_subdomain);
    }
    let preemption = spec.get("preemptionPolicy");
    if !preemption.is_missing() {
        errors.one_of(&preemption, PREEMPTION_POLICIES);
    }
    resources::overhead(&spec.get("overhead"), errors);
    security::os(spec, errors);
}

fn claim_names<'a>(spec: &Node<'a>) -> BTreeSet<&'a str> {
    let names = spec.get("resourceClaims").items().into_iter().map(|claim| claim.get("name").text());
    names.filter(|name| !name.is_empty()).collect()
}

/// Names of other objects and of the host: field, form.
const NAMED: &[(&str, names::Form)] = &[
    ("serviceAccountName", names::dns_subdomain),
    ("nodeName", names::dns_subdomain),
    ("hostname", names::dns_label),
    ("subdomain", names::dns_label),
    ("priorityClassName", names::dns_subdomain),
];

fn resource_claims(claims: &Node<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for claim in claims.items() {
        let name = claim.get("name");
        if !name.is_empty() && !seen.insert(name.text()) {
            errors.duplicate(&name);
        } else {
            errors.named(&name, names::dns_label);
        }
        let (direct, template) = (claim.get("resourceClaimName"), claim.get("resourceClaimTemplateName"));
        match (direct.is_missing(), template.is_missing()) {
            (false, false) => errors
                .invalid(&claim, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"),
            (true, true) => errors.invalid_struct(
                &claim,
                structs::RESOURCE_CLAIM,
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            ),
            (true, false) | (false, true) => {}
        }
        for node in [direct, template].iter().filter(|node| !node.is_missing()) {
            errors.formed(node, names::dns_subdomain);
        }
    }
}

/// With the host's network, a container's ports are the host's. Templates may leave the latter out.
fn host_network(spec: &Node<'_>, of: Of<'_>, errors: &mut Errors) {
    if !spec.get("hostNetwork").is_true() {
        return;
    }
    for port in spec.get("containers").items().iter().flat_map(|container| container.get("ports").items()) {
        let host = port.get("hostPort");
        let (number, own) = (host.int().unwrap_or(0), port.get("containerPort").int().unwrap_or(0));
        if (of != Of::Template || number != 0) && number != own {
            errors.invalid_value(&host, &number.into(), "must match `containerPort` when `hostNetwork` is true");
        }
    }
}

fn gates(spec: &Node<'_>, errors: &mut Errors) {
    for gate in spec.get("readinessGates").items() {
        errors.formed(&gate.get("conditionType"), names::qualified_name);
    }
    let mut seen = BTreeSet::new();
    for gate in spec.get("schedulingGates").items() {
        let name = Node { path: gate.path.clone(), ..gate.get("name") };
        errors.formed(&name, names::qualified_name);
        if !seen.insert(name.text()) {
            errors.duplicate(&name);
        }
    }
}

/// What a resolver takes.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;

fn dns(spec: &Node<'_>, errors: &mut Errors) {
    let config = spec.get("dnsConfig");
    let (servers, searches) = (config.get("nameservers"), config.get("searches"));
    if spec.get("dnsPolicy").text() == "None" {
        if config.is_missing() {
            return errors.required(&config, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        if servers.is_empty() {
            return errors.required(&servers, "must provide at least one DNS nameserver when `dnsPolicy` is None");
        }
    }
    if servers.items().len() > NAMESERVERS_MAX {
        errors.invalid(&servers, &format!("must not have more than {NAMESERVERS_MAX} nameservers"));
    }
    for server in servers.items() {
        errors.formed(&server, names::ip);
    }
    let items = searches.items();
    if items.len() > SEARCHES_MAX {
        errors.invalid(&searches, &format!("must not have more than {SEARCHES_MAX} search paths"));
    }
    if items.iter().map(|item| item.text().len() + 1).sum::<usize>() > SEARCH_CHARS_MAX + 1 {
        let detail =
            format!("must not have more than {SEARCH_CHARS_MAX} characters (including spaces) in the search list");
        errors.invalid(&searches, &detail);
    }
    for search in items.iter().filter(|search| search.text() != ".") {
        let text = search.text().strip_suffix('.').unwrap_or(search.text());
        for problem in names::search_domain(text) {
            errors.invalid_value(search, &text.into(), &problem);
        }
    }
    for option in config.get("options").items() {
        if option.get("name").is_empty() {
            errors.required(&option, "must not be empty");
        }
    }
}

fn host_aliases(aliases: &Node<'_>, errors: &mut Errors) {
    for alias in aliases.items() {
        errors.formed(&alias.get("ip"), names::ip);
        for name in alias.get("hostnames").items() {
            errors.formed(&name, names::dns_subdomain);
        }
    }
}
