//! The table is consistent, and keys are laid out as upstream does.

use super::*;

#[test]
fn keys_follow_upstream() {
    let pods = by_resource("", "v1", "pods").expect("pods are served");
    assert_eq!(pods.key(Some("default"), "a"), "/registry/pods/default/a");
    assert_eq!(pods.key_prefix(None), "/registry/pods/");
    let nodes = by_kind("v1", "Node").expect("nodes are served");
    assert_eq!(nodes.key(None, "a"), "/registry/minions/a");
    let services = by_kind("v1", "Service").expect("services are served");
    assert_eq!(services.key_prefix(Some("x")), "/registry/services/specs/x/");
}

#[test]
fn names_and_versions() {
    let deployments = by_resource("apps", "v1", "deployments").expect("deployments are served");
    assert_eq!(deployments.api_version(), "apps/v1");
    assert_eq!(deployments.group_resource(), "deployments.apps");
    assert_eq!(deployments.list_kind(), "DeploymentList");
    let event = by_kind("events.k8s.io/v1", "Event").expect("events are served");
    assert_eq!(event.stored().api_version(), "v1");
}

#[test]
fn every_row_is_whole() {
    for kind in KINDS {
        assert!(!kind.kind.is_empty() && !kind.plural.is_empty() && !kind.singular.is_empty(), "{kind:?}");
        assert_eq!(kind.prefix.is_empty(), kind.virtual_, "{kind:?}");
        assert!(GROUPS.iter().any(|g| g.name == kind.group && g.versions.contains(&kind.version)), "{kind:?}");
        let same =
            KINDS.iter().filter(|k| k.group == kind.group && k.version == kind.version && k.plural == kind.plural);
        assert_eq!(same.count(), 1, "{kind:?}");
    }
}
