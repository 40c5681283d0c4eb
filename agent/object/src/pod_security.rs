//! The Pod Security Standards: which pods a level of a version allows, and what is said of those it does not.
//!
//! Owns the labels of namespaces, the levels and versions, and upstream's words; the controls themselves are in `controls`.
//! Pure: a pod or a template in, violations out. <https://kubernetes.io/docs/concepts/security/pod-security-standards/>

mod controls;
#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::{Map, Value};

use crate::meta;
use crate::validate::{FieldError, FieldErrorKind};

/// What the labels begin with.
const PREFIX: &str = "pod-security.kubernetes.io/";
/// The annotations that controls read, by what their keys begin with.
const ANNOTATIONS: &[&str] = &[controls::APP_ARMOR, controls::SECCOMP_POD, controls::SECCOMP_CONTAINER];

/// In order of strictness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Level> {
        [Level::Privileged, Level::Baseline, Level::Restricted].into_iter().find(|level| level.name() == text)
    }

    fn name(self) -> &'static str {
        match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        }
    }
}

/// As of which version of Kubernetes the controls are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `v1.n`
    Minor(u32),
    Latest,
}

impl Version {
    fn parse(text: &str) -> Option<Version> {
        if text == "latest" {
            return Some(Version::Latest);
        }
        let minor = text.strip_prefix("v1.")?;
        let plain = minor.bytes().all(|byte| byte.is_ascii_digit()) && (minor == "0" || !minor.starts_with('0'));
        minor.parse().ok().filter(|_| plain).map(Version::Minor)
    }

    fn is_at_least(self, minor: u32) -> bool {
        self >= Version::Minor(minor)
    }
}

/// A level as of a version: `restricted:latest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Standard {
    pub level: Level,
    pub version: Version,
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Version::Latest => write!(f, "{}:latest", self.level.name()),
            Version::Minor(minor) => write!(f, "{}:v1.{minor}", self.level.name()),
        }
    }
}

/// What a namespace's labels ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Pods that violate it are refused.
    pub enforce: Standard,
    /// Violations are recorded.
    pub audit: Standard,
    /// Violations are answered with a warning.
    pub warn: Standard,
}

impl Policy {
    /// What is asked for, whatever is wrong with the labels; with that.
    pub fn of(labels: Option<&Map<String, Value>>) -> (Policy, Vec<FieldError>) {
        let mut errors = Vec::new();
        let mut standard = |mode: &str, otherwise: Level| {
            let level =
                read(labels, mode, Level::parse, "must be one of privileged, baseline, restricted", &mut errors);
            let mode = format!("{mode}-version");
            let version = read(labels, &mode, Version::parse, "must be \"latest\" or \"v1.x\"", &mut errors);
            Standard {
                level: level.map_or(Level::Privileged, |level| level.unwrap_or(otherwise)),
                version: version.flatten().unwrap_or(Version::Latest),
            }
        };
        // As upstream: what is enforced fails closed, what is only told of fails open.
        let enforce = standard("enforce", Level::Restricted);
        let (audit, warn) = (standard("audit", Level::Privileged), standard("warn", Level::Privileged));
        (Policy { enforce, audit, warn }, errors)
    }
}

/// The value of a label: `None` without it, `Some(None)` if it is wrong.
fn read<T>(
    labels: Option<&Map<String, Value>>,
    name: &str,
    parse: fn(&str) -> Option<T>,
    wrong: &str,
    errors: &mut Vec<FieldError>,
) -> Option<Option<T>> {
    let key = format!("{PREFIX}{name}");
    let value = labels?.get(&key)?;
    let parsed = value.as_str().and_then(parse);
    if parsed.is_none() {
        let field = format!("metadata.labels[{key}]");
        errors.push(FieldError::new(FieldErrorKind::Invalid, field, Some(value), wrong));
    }
    Some(parsed)
}

/// One control that a pod does not meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// `host namespaces`
    pub reason: String,
    /// `hostNetwork=true`
    pub detail: String,
}

/// What of a pod, or of the template of pods, is against a standard; in upstream's order.
pub fn violations(standard: Standard, pod: &Value) -> Vec<Violation> {
    let pod = controls::Pod::new(pod);
    let applies = controls::CONTROLS.iter().filter(|control| control.applies(standard));
    applies.filter_map(|control| (control.check)(&pod, standard.version)).collect()
}

/// The reasons alone, as they are said of existing pods.
pub fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|violation| violation.reason.as_str()).collect::<Vec<_>>().join(", ")
}

/// The reasons with their details, as they are said of the object that is written.
pub fn details(violations: &[Violation]) -> String {
    let each = violations.iter().map(|violation| format!("{} ({})", violation.reason, violation.detail));
    each.collect::<Vec<_>>().join(", ")
}

/// Whether a pod was changed in what is looked at. What else changes in a pod does not end it when its namespace has become
/// stricter.
pub fn is_significant(new: &Value, old: &Value) -> bool {
    let annotations = |pod: &Value| -> Vec<(String, Value)> {
        let all = meta::annotations(pod).into_iter().flatten();
        let read = all.filter(|(key, _)| ANNOTATIONS.iter().any(|prefix| key.starts_with(prefix)));
        read.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let same = |field: &str| meta::at(new, &["spec", field]) == meta::at(old, &["spec", field]);
    let pod_wide = ["hostNetwork", "hostPID", "hostIPC", "securityContext", "volumes"];
    annotations(new) != annotations(old)
        || !pod_wide.into_iter().all(same)
        || !controls::LISTS.iter().all(|list| same_containers(new, old, list))
}

/// Whether the containers of a list are as they were, what they are given of the node aside.
fn same_containers(new: &Value, old: &Value, list: &str) -> bool {
    let containers = |pod: &Value| -> Vec<Value> {
        let mut containers = meta::items(meta::at(pod, &["spec", list])).to_vec();
        containers.iter_mut().filter_map(Value::as_object_mut).for_each(|c| drop(c.remove("resources")));
        containers
    };
    containers(new) == containers(old)
}
