//! Pod Security: what the labels of a namespace ask of the pods in it. Pods that violate the level that is enforced are
//! refused, others are warned of, and so are templates of pods and pods that are there when a namespace becomes stricter. What
//! is only to be audited goes to the agent's log: there is no other record of requests.
//!
//! Which pod violates what is `object::pod_security`'s.

use std::collections::BTreeMap;

use serde_json::Value;
use skiff_object::pod_security::{self, Level, Policy, Standard, Violation};
use skiff_object::validate::FieldError;
use skiff_object::{kinds, meta};
use skiff_store::{ListOptions, Store};

use crate::status::ApiError;
use crate::strategy::{Part, PodSecurity, Strategy};
use crate::write::{Effect, Write};
use crate::{Api, audit, codec};

/// Existing pods that are looked at when a namespace becomes stricter; upstream's number.
const PODS_MAX: usize = 3000;

/// One write of an object, as far as this is about it.
#[derive(Clone, Copy)]
pub struct Reviewed<'a> {
    pub write: &'a Write<'a>,
    pub part: Part,
    pub new: &'a Value,
    pub old: Option<&'a Value>,
}

/// Refuses what the namespace forbids and adds to `errors` what is wrong with the object; answers with warnings.
pub async fn check<S: Store>(
    api: &Api<S>,
    reviewed: Reviewed<'_>,
    errors: &mut Vec<FieldError>,
) -> Result<Vec<String>, ApiError> {
    let Reviewed { write, part, new, old } = reviewed;
    match (Strategy::of(write.kind).pod_security, part) {
        (PodSecurity::Namespace, Part::Main | Part::Status) => check_namespace(api, new, old, errors).await,
        (PodSecurity::Pod, Part::Main | Part::EphemeralContainers) => {
            if old.is_some_and(|old| !pod_security::is_significant(new, old)) {
                return Ok(Vec::new());
            }
            let policy = policy_of(api, write.namespace).await?;
            let violations = violations(policy.enforce, new);
            if !violations.is_empty() {
                let why =
                    format!("violates PodSecurity \"{}\": {}", policy.enforce, pod_security::details(&violations));
                return Err(ApiError::forbidden_object(write.kind, meta::name(new), &why));
            }
            Ok(tell(&policy, write, new, new))
        }
        (PodSecurity::Template(path), Part::Main) if write.author.subresource.is_empty() => {
            let Some(template) = meta::at(new, path).filter(|template| template.is_object()) else {
                return Ok(Vec::new());
            };
            Ok(tell(&policy_of(api, write.namespace).await?, write, new, template))
        }
        (PodSecurity::Nothing | PodSecurity::Namespace | PodSecurity::Pod | PodSecurity::Template(_), _) => {
            Ok(Vec::new())
        }
    }
}

async fn policy_of<S: Store>(api: &Api<S>, namespace: Option<&str>) -> Result<Policy, ApiError> {
    let namespaces = kinds::by_kind("v1", "Namespace").expect("a built-in kind");
    // What is left of a namespace that is gone must still be able to go.
    let found = api.read(namespaces, None, namespace.unwrap_or("default")).await?;
    Ok(Policy::of(found.as_ref().and_then(meta::labels)).0)
}

fn violations(standard: Standard, pod: &Value) -> Vec<Violation> {
    match standard.level {
        Level::Privileged => Vec::new(),
        Level::Baseline | Level::Restricted => pod_security::violations(standard, pod),
    }
}

/// Logs what is to be audited, and answers with what is to be warned of.
fn tell(policy: &Policy, write: &Write<'_>, object: &Value, pod: &Value) -> Vec<String> {
    let audited = violations(policy.audit, pod);
    let text = |standard, found: &[Violation]| {
        format!("would violate PodSecurity \"{standard}\": {}", pod_security::details(found))
    };
    if !audited.is_empty() {
        audit::annotate("pod-security.kubernetes.io/audit-violations", text(policy.audit, &audited));
    }
    if !audited.is_empty() && write.author.effect == Effect::Store {
        tracing::info!(
            kind = &*write.kind.kind,
            namespace = write.namespace,
            name = meta::name(object),
            user = write.author.user.name,
            standard = %policy.audit,
            violations = pod_security::details(&audited),
            "pod security audit"
        );
    }
    let warned = violations(policy.warn, pod);
    if warned.is_empty() { Vec::new() } else { vec![text(policy.warn, &warned)] }
}

async fn check_namespace<S: Store>(
    api: &Api<S>,
    new: &Value,
    old: Option<&Value>,
    errors: &mut Vec<FieldError>,
) -> Result<Vec<String>, ApiError> {
    let (policy, wrong) = Policy::of(meta::labels(new));
    let before = old.map(|old| Policy::of(meta::labels(old)));
    // What was wrong before does not keep the rest of a namespace from being changed.
    if before.as_ref().is_none_or(|(_, known)| *known != wrong) {
        errors.extend(wrong);
    }
    match before {
        Some((before, _)) if errors.is_empty() && is_stricter(policy.enforce, before.enforce) => {
            existing(api, meta::name(new), policy.enforce).await
        }
        Some(_) | None => Ok(Vec::new()),
    }
}

/// Whether pods may violate a standard that did not violate the one before.
fn is_stricter(new: Standard, old: Standard) -> bool {
    new.level > Level::Privileged && (new.version != old.version || new.level > old.level)
}

/// What is said of the pods that are in a namespace already. They stay.
async fn existing<S: Store>(api: &Api<S>, namespace: &str, standard: Standard) -> Result<Vec<String>, ApiError> {
    let pods = kinds::by_kind("v1", "Pod").expect("a built-in kind");
    let options = ListOptions { limit: Some(PODS_MAX), ..ListOptions::default() };
    let page = api.store().list(&pods.key_prefix(Some(namespace)), options).await;
    let page = page.map_err(|error| ApiError::from_store(error, pods, ""))?;
    let pods: Vec<Value> = page.entries.iter().map(codec::decode).collect();
    let mut warnings = Vec::new();
    if page.remaining > 0 {
        let (checked, all) = (pods.len(), pods.len() + page.remaining);
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {checked} of {all} existing pods"
        ));
    }
    let lines = lines(standard, &pods);
    if !lines.is_empty() {
        let what = "violate the new PodSecurity enforce level";
        warnings.push(format!("existing pods in namespace \"{namespace}\" {what} \"{standard}\""));
    }
    warnings.extend(lines);
    Ok(warnings)
}

/// One line for each set of reasons, with the pods that have it.
fn lines(standard: Standard, pods: &[Value]) -> Vec<String> {
    let mut by_reasons = BTreeMap::<String, Vec<&str>>::new();
    for pod in pods {
        let violations = violations(standard, pod);
        if !violations.is_empty() {
            by_reasons.entry(pod_security::reasons(&violations)).or_default().push(meta::name(pod));
        }
    }
    let line = |(reasons, names): (String, Vec<&str>)| {
        let first = names.iter().min().copied().unwrap_or_default();
        match names.len() {
            0 | 1 => format!("{first}: {reasons}"),
            2 => format!("{first} (and 1 other pod): {reasons}"),
            count => format!("{first} (and {} other pods): {reasons}", count - 1),
        }
    };
    let mut lines: Vec<String> = by_reasons.into_iter().map(line).collect();
    lines.sort();
    lines
}
