//! What a namespace on its way out says of itself: upstream's conditions, reasons and messages. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::NamespaceCondition;

use crate::objects;

/// What a pass found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub discovery_failure: Option<String>,
    /// By kind.
    pub failures: Vec<String>,
    /// Objects that are left, by group and resource.
    pub remaining: BTreeMap<(String, String), usize>,
    /// Objects that are left, by what holds them.
    pub finalizers: BTreeMap<String, usize>,
}

impl Found {
    /// Nothing is left, as far as anybody can tell.
    pub fn is_empty(&self) -> bool {
        self.discovery_failure.is_none() && self.failures.is_empty() && self.remaining.is_empty()
    }

    fn remaining(&self) -> Option<String> {
        let mut each: Vec<String> = self
            .remaining
            .iter()
            .map(|((group, resource), count)| format!("{resource}.{group} has {count} resource instances"))
            .collect();
        each.sort();
        (!each.is_empty()).then(|| format!("Some resources are remaining: {}", each.join(", ")))
    }

    fn finalizers(&self) -> Option<String> {
        let each: Vec<String> =
            self.finalizers.iter().map(|(name, count)| format!("{name} in {count} resource instances")).collect();
        let message = || format!("Some content in the namespace has finalizers remaining: {}", each.join(", "));
        (!each.is_empty()).then(message)
    }

    fn failed(&self) -> Option<String> {
        let (count, all) = (self.failures.len(), self.failures.join(", "));
        (count > 0).then(|| format!("Failed to delete all resource types, {count} remaining: {all}"))
    }
}

/// One condition: its type, and reason and message for each case.
struct Row {
    kind: &'static str,
    fine: (&'static str, &'static str),
    reason: &'static str,
    message: fn(&Found) -> Option<String>,
}

const ROWS: &[Row] = &[
    Row {
        kind: "NamespaceDeletionDiscoveryFailure",
        fine: ("ResourcesDiscovered", "All resources successfully discovered"),
        reason: "DiscoveryFailed",
        message: |found| found.discovery_failure.clone(),
    },
    Row {
        kind: "NamespaceDeletionGroupVersionParsingFailure",
        fine: ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        reason: "GroupVersionParsingFailed",
        message: |_| None,
    },
    Row {
        kind: "NamespaceDeletionContentFailure",
        fine: ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        reason: "ContentDeletionFailed",
        message: Found::failed,
    },
    Row {
        kind: "NamespaceContentRemaining",
        fine: ("ContentRemoved", "All content successfully removed"),
        reason: "SomeResourcesRemain",
        message: Found::remaining,
    },
    Row {
        kind: "NamespaceFinalizersRemaining",
        fine: ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        reason: "SomeFinalizersRemain",
        message: Found::finalizers,
    },
];

/// The conditions with what was found; those of others stay, and what says the same keeps its time.
pub fn conditions(old: &[NamespaceCondition], found: &Found, now: Timestamp) -> Vec<NamespaceCondition> {
    let mut conditions = old.to_vec();
    for row in ROWS {
        let (status, reason, message) = match (row.message)(found) {
            Some(message) => ("True", row.reason, message),
            None => ("False", row.fine.0, row.fine.1.to_owned()),
        };
        let new = NamespaceCondition {
            type_: row.kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(objects::time(now)),
        };
        match conditions.iter_mut().find(|condition| condition.type_ == row.kind) {
            None => conditions.push(new),
            Some(old) if old.status == new.status && old.reason == new.reason && old.message == new.message => {}
            Some(old) if old.status == new.status => {
                *old = NamespaceCondition { last_transition_time: old.last_transition_time.clone(), ..new };
            }
            Some(old) => *old = new,
        }
    }
    conditions
}
