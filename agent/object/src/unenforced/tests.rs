//! Every field of every kind is honoured, warned about, or refused by whoever uses it; and what is said is right.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::kinds;

/// Fields of a type that are about the object itself, not about what it asks for.
fn is_asked(named: &crate::schema::Named, field: &str) -> bool {
    let is_object = named.field("metadata").is_some();
    let of_object = is_object && ["apiVersion", "kind", "metadata"].contains(&field);
    let observed = field == "status" && named.field("spec").is_some();
    !of_object && !observed
}

fn listed(list: &[(&str, &str)], ty: &str, field: &str) -> bool {
    list.iter().any(|(of, fields)| *of == ty && fields.split(' ').any(|f| f == field))
}

fn check(ty: Ty, seen: &mut BTreeSet<String>, missing: &mut Vec<String>) {
    match ty {
        Ty::List(element) | Ty::Map(element) => check(element.ty(), seen, missing),
        Ty::Ref(named) if seen.insert(named.name().to_owned()) => {
            let name = short(named.name());
            for field in named.fields().filter(|field| is_asked(&named, field.name)) {
                let row = ROWS.iter().find(|row| row.ty == name && row.field == field.name);
                let warned = row.is_some_and(|row| matches!(row.when, When::Set));
                let loud = listed(rows::LOUD, name, field.name);
                match (listed(rows::HONOURED, name, field.name), row, loud) {
                    (true, None, false) | (false, Some(_), false) | (false, None, true) => {}
                    _ => missing.push(format!("{name}.{}", field.name)),
                }
                if !warned && !loud {
                    check(field.ty, seen, missing);
                }
            }
        }
        Ty::Ref(_) | Ty::String | Ty::Int32 | Ty::Int64 | Ty::Bool | Ty::Double | Ty::IntOrString | Ty::Quantity => {}
        Ty::DateTime | Ty::MicroTime | Ty::Bytes | Ty::Any => {}
    }
}

#[test]
fn each_field_is_in_one_list() {
    let (mut seen, mut missing) = (BTreeSet::new(), Vec::new());
    let silent = |kind: &&std::sync::Arc<Kind>| !KINDS.iter().any(|(group, name, _)| kind.is(group, name));
    for kind in kinds::built_in().kinds().filter(|kind| kind.is_kept()).filter(silent) {
        check(kind.ty(), &mut seen, &mut missing);
    }
    assert!(missing.is_empty(), "say of each whether it is honoured, warned about or refused: {missing:?}");
    for row in ROWS {
        let ty = crate::schema::find(&format!("io.k8s.api.{}", row.ty)).named().map(|n| n.field(row.field).is_some());
        assert_eq!(ty, Some(true), "{}.{}", row.ty, row.field);
    }
    for (group, name, _) in KINDS {
        assert!(kinds::built_in().kinds().any(|kind| kind.is(group, name)), "{group} {name}");
    }
}

fn warned(api_version: &str, kind: &str, object: Value) -> Vec<String> {
    warnings(kinds::by_kind(api_version, kind).expect("a kind"), &object, None)
}

#[test]
fn what_looks_like_protection_is_not_silent() {
    assert_eq!(
        warned("networking.k8s.io/v1", "NetworkPolicy", json!({"spec": {"podSelector": {}}})),
        ["NetworkPolicy: this version does not enforce it: all traffic passes"]
    );
    let pod = json!({"spec": {"hostUsers": false, "runtimeClassName": "gvisor", "containers": [
        {"resources": {"limits": {"ephemeral-storage": "1Gi"}}, "volumeMounts": [{"recursiveReadOnly": "Enabled"}]}]}});
    let said = warned("v1", "Pod", pod.clone());
    for path in [
        "spec.hostUsers: ",
        "spec.runtimeClassName: ",
        "spec.containers[0].resources.limits: ",
        "spec.containers[0].volumeMounts[0].recursiveReadOnly: ",
    ] {
        assert!(said.iter().any(|warning| warning.starts_with(path)), "{path} {said:?}");
    }
    let deployment = json!({"spec": {"template": pod}});
    let said = warned("apps/v1", "Deployment", deployment);
    assert!(said.iter().any(|warning| warning.starts_with("spec.template.spec.hostUsers: ")), "{said:?}");
    let service = json!({"spec": {"externalTrafficPolicy": "Cluster", "loadBalancerSourceRanges": ["10.0.0.0/8"]}});
    assert_eq!(warned("v1", "Service", service).len(), 1);
    let plain = json!({"spec": {"hostUsers": true, "containers": [{"resources": {"limits": {"cpu": "1"}}}]}});
    assert!(warned("v1", "Pod", plain).is_empty());
}

#[test]
fn a_change_is_warned_of_once() {
    let service = kinds::by_kind("v1", "Service").expect("a kind");
    let old = json!({"spec": {"loadBalancerIP": "10.0.0.1"}});
    assert!(warnings(service, &old, Some(&old)).is_empty());
    assert_eq!(warnings(service, &old, Some(&json!({"spec": {}}))).len(), 1);
}

/// The kinds whose fields the page is about.
const WORKLOADS: &[(&str, &str)] = &[
    ("", "Pod"),
    ("apps", "Deployment"),
    ("apps", "StatefulSet"),
    ("apps", "DaemonSet"),
    ("apps", "ReplicaSet"),
    ("", "ReplicationController"),
    ("batch", "Job"),
    ("batch", "CronJob"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("policy", "PodDisruptionBudget"),
    ("", "Service"),
];

fn answer(ty: &str, field: &str) -> String {
    let condition = |when: &When| match when {
        When::Set => String::new(),
        When::False => "where it is false, ".to_owned(),
        When::Is(texts) => format!("where it is {}, ", texts.join(" or ")),
        When::Not(texts) => format!("where it is not {}, ", texts.join(" or ")),
        When::HasKey(keys) => format!("of {}, ", keys.join(" and ")),
    };
    match ROWS.iter().find(|row| row.ty == ty && row.field == field) {
        Some(row) => format!("{}a warning: {}", condition(&row.when), row.said),
        None if listed(rows::LOUD, ty, field) => "no: a pod with it does not start, and its events say so".to_owned(),
        None => "yes".to_owned(),
    }
}

/// One table for each type, where it is come upon first.
fn describe(ty: Ty, seen: &mut BTreeSet<String>, page: &mut String) {
    match ty {
        Ty::List(element) | Ty::Map(element) => describe(element.ty(), seen, page),
        Ty::Ref(named) if named.name().starts_with("io.k8s.api.") && seen.insert(named.name().to_owned()) => {
            let name = short(named.name());
            let fields: Vec<_> = named.fields().filter(|field| is_asked(&named, field.name)).collect();
            page.push_str(&format!("\n## {name}\n\n| field | has effect |\n|---|---|\n"));
            for field in &fields {
                page.push_str(&format!("| {} | {} |\n", field.name, answer(name, field.name)));
            }
            fields.iter().for_each(|field| describe(field.ty, seen, page));
        }
        Ty::Ref(_) | Ty::String | Ty::Int32 | Ty::Int64 | Ty::Bool | Ty::Double | Ty::IntOrString | Ty::Quantity => {}
        Ty::DateTime | Ty::MicroTime | Ty::Bytes | Ty::Any => {}
    }
}

#[test]
fn the_page_says_what_each_field_does() {
    let mut page = "# Which fields of workloads and Services have effect\n\nMade by the tests of `unenforced` in the crate \
         `object`; they fail where this is not what is warned about. What has none is said in a `Warning` when an object \
         with it is written.\n"
        .to_owned();
    let mut seen = BTreeSet::new();
    for (group, name) in WORKLOADS {
        if let Some((_, _, said)) = KINDS.iter().find(|row| row.0 == *group && row.1 == *name) {
            page.push_str(&format!("\n## {name}\n\nNone: {said}.\n"));
            continue;
        }
        let kind = kinds::built_in().kinds().find(|kind| kind.is(group, name)).expect("a built-in kind");
        describe(kind.ty(), &mut seen, &mut page);
    }
    expect_test::expect_file!["../../docs/fields.md"].assert_eq(&page);
}
