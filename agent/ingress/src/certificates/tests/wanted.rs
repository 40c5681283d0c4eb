//! Which certificates Ingresses ask for.

use std::sync::Arc;

use expect_test::{Expect, expect};
use k8s_openapi::api::networking::v1::Ingress;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::certificates::wanted::{is_public, wanted};
use crate::config::{Acme, Challenge};

fn ingress(name: &str, created: &str, annotations: Value, tls: Value) -> Arc<Ingress> {
    let ingress = json!({"metadata": {"name": name, "namespace": "web", "annotations": annotations,
        "creationTimestamp": created}, "spec": {"tls": tls}});
    Arc::new(serde_json::from_value(ingress).unwrap())
}

fn acme() -> Acme {
    Acme { issuers: vec![], email: None, challenge: Challenge::Http01, dns: None }
}

fn check(ingresses: &[Arc<Ingress>], expected: Expect) {
    let lines: Vec<String> = wanted(ingresses, &acme(), "home.example")
        .into_iter()
        .map(|w| {
            let told = w.ingress.name.unwrap_or_default();
            format!("{}/{} {:?} by {} for {told}\n", w.namespace, w.secret, w.names, w.challenge.as_str())
        })
        .collect();
    expected.assert_eq(&lines.concat());
}

const OLD: &str = "2026-01-01T00:00:00Z";
const NEW: &str = "2026-01-02T00:00:00Z";

#[test]
fn public_names_without_a_secret_are_ordered() {
    let tls = json!([{"hosts": ["B.Example.org", "a.example.org"]}, {"hosts": ["nas.home.example"]}, {"hosts": ["x.local"]},
        {"hosts": ["c.example.org"], "secretName": "mine"}, {}]);
    check(
        &[ingress("site", OLD, json!({}), tls)],
        expect![[r#"
            web/a.example.org-and-1-tls ["a.example.org", "b.example.org"] by http-01 for site
        "#]],
    );
}

#[test]
fn a_wildcard_is_proved_by_dns_and_an_annotation_chooses() {
    let alpn = json!({"ingress.skiff.dev/acme-challenge": "tls-alpn-01", "ingress.skiff.dev/certificate": "acme"});
    let tls = json!([{"hosts": ["*.example.org"], "secretName": "w"}, {"hosts": ["a.example.org"], "secretName": "a"}]);
    let none = json!({"ingress.skiff.dev/certificate": "box-ca"});
    check(
        &[ingress("site", OLD, alpn, tls.clone()), ingress("box", OLD, none, tls)],
        expect![[r#"
            web/a ["a.example.org"] by tls-alpn-01 for site
            web/w ["*.example.org"] by dns-01 for site
        "#]],
    );
}

#[test]
fn a_secret_that_is_shared_is_ordered_once_for_all_names() {
    let acme = json!({"ingress.skiff.dev/certificate": "acme"});
    let tls = |host: &str| json!([{"hosts": [host], "secretName": "shared"}]);
    check(
        &[ingress("new", NEW, acme.clone(), tls("b.example.org")), ingress("old", OLD, acme, tls("a.example.org"))],
        expect![[r#"
            web/shared ["a.example.org", "b.example.org"] by http-01 for old
        "#]],
    );
}

proptest! {
    #[test]
    fn names_of_the_home_are_never_public(label in "[a-z]{1,10}", domain in "(local|lan|internal|home\\.arpa|home\\.example)") {
        let (name, wildcard) = (format!("{label}.{domain}"), format!("*.{domain}"));
        prop_assert!(!is_public(&name, "home.example"));
        prop_assert!(!is_public(&wildcard, "home.example"));
        prop_assert!(!is_public(&label, "home.example"));
    }

    #[test]
    fn names_are_sorted_and_alone(hosts in proptest::collection::vec("[a-c]{1,2}\\.example\\.org", 1..6)) {
        let tls = json!([{"hosts": hosts}]);
        for one in wanted(&[ingress("site", OLD, json!({}), tls)], &acme(), "home.example") {
            prop_assert!(one.names.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
