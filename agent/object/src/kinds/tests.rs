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
    assert_eq!(built_in().stored(event).api_version(), "v1");
}

#[test]
fn every_row_is_whole() {
    for kind in built_in().kinds() {
        assert!(!kind.kind.is_empty() && !kind.plural.is_empty(), "{kind:?}");
        assert_eq!(kind.prefix.is_empty(), !kind.is_kept(), "{kind:?}");
        let listed = built_in().groups().iter().any(|g| g.name == kind.group && g.versions.contains(&kind.version));
        assert!(listed, "{kind:?}");
    }
    assert_eq!(built_in().groups().len(), table::groups().len(), "each kind's group is in the table of groups");
}

/// As a definition of a custom resource would make it.
fn boat() -> Kind {
    Kind {
        group: "fleet.example.org".into(),
        kind: "Boat".into(),
        plural: "boats".into(),
        singular: "boat".into(),
        prefix: "/registry/fleet.example.org/boats".into(),
        nature: Nature::Stored,
        type_name: "Boat".into(),
        ..(**by_kind("v1", "ConfigMap").expect("a built-in kind")).clone()
    }
}

#[test]
fn a_kind_comes() {
    let same_kind = Kind { plural: "ships".into(), ..boat() };
    let with = built_in().with([boat(), same_kind].map(Arc::new));
    let boats = with.by_resource("fleet.example.org", "v1", "boats").expect("it is served");
    assert_eq!(with.by_kind("fleet.example.org/v1", "Boat"), Some(boats));
    assert_eq!(boats.key(Some("sea"), "a"), "/registry/fleet.example.org/boats/sea/a");
    assert_eq!(with.groups().last().map(|g| &*g.name), Some("fleet.example.org"));
    assert_eq!(with.kinds().count(), built_in().kinds().count() + 1, "the first of two with a name is served");
    assert!(by_kind("fleet.example.org/v1", "Boat").is_none(), "the built-in catalogue is as it was");
}
