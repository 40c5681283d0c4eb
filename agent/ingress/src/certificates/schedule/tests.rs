//! What is done about a certificate.

use expect_test::{Expect, expect};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::ResourceExt;

use super::{Decision, decide, is_installed};
use crate::certificates::order::state::State;
use crate::certificates::renewal::Window;
use crate::certificates::wanted::{MANAGED_BY, Wanted};
use crate::config::Challenge;

pub(crate) fn wanted() -> Wanted {
    Wanted {
        names: vec!["a.example.org".to_owned(), "b.example.org".to_owned()],
        namespace: "default".to_owned(),
        secret: "site-tls".to_owned(),
        challenge: Challenge::Http01,
        ingress: ObjectReference::default(),
    }
}

pub(crate) fn now() -> Timestamp {
    "2026-01-31T00:00:00Z".parse().unwrap()
}

/// From 2026-01-01 for 90 days.
pub(crate) fn issued(names: &[&str]) -> Secret {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names.clone()).unwrap();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2026, 4, 1);
    params.use_authority_key_identifier_extension = true;
    let key = rcgen::KeyPair::generate().unwrap();
    let chain = params.self_signed(&key).unwrap().pem();
    let data = [("tls.crt", chain), ("tls.key", key.serialize_pem())];
    let data = data.map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())));
    let mut secret =
        Secret { data: Some(data.into()), type_: Some("kubernetes.io/tls".to_owned()), ..Secret::default() };
    secret.metadata.name = Some("site-tls".to_owned());
    secret.metadata.namespace = Some("default".to_owned());
    secret.labels_mut().insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    secret.annotations_mut().insert("ingress.skiff.dev/names".to_owned(), names.join(","));
    secret
}

pub(crate) fn order(not_before: Option<Timestamp>) -> State {
    State {
        names: wanted().names,
        issuer: "https://ca.example/dir".to_owned(),
        url: None,
        key_pem: "key".to_owned(),
        failures: 1,
        not_before,
        last_error: Some("no".to_owned()),
        records: Vec::new(),
    }
}

fn later() -> Option<Timestamp> {
    Some(now() + SignedDuration::from_mins(10))
}

fn check(secret: Option<&Secret>, order: Option<&State>, window: Option<Window>, expected: Expect) {
    expected.assert_eq(&format!("{:?}", decide(&wanted(), secret, order, window, now())));
}

#[test]
fn a_certificate_that_is_missing_is_ordered_and_one_that_failed_is_waited_for() {
    check(None, None, None, expect!["Order(Missing)"]);
    check(None, Some(&order(None)), None, expect!["Order(Missing)"]);
    check(None, Some(&order(later())), None, expect!["Wait { until: 2026-01-31T00:10:00Z }"]);
    check(None, Some(&order(Some(now()))), None, expect!["Order(Missing)"]);
}

#[test]
fn a_time_that_a_wrong_clock_wrote_is_not_waited_for() {
    let far = Some(now() + SignedDuration::from_hours(24 * 365));
    check(None, Some(&order(far)), None, expect!["Order(Missing)"]);
}

#[test]
fn a_certificate_is_kept_until_it_is_due() {
    let secret = issued(&["a.example.org", "b.example.org"]);
    check(Some(&secret), None, None, expect!["Keep { until: 2026-03-02T00:00:00Z }"]);
    let past = now() - SignedDuration::from_hours(1);
    let window = Window { start: past - SignedDuration::from_hours(1), end: past };
    check(Some(&secret), None, Some(window), expect!["Order(Due)"]);
    check(Some(&secret), Some(&order(later())), Some(window), expect!["Wait { until: 2026-01-31T00:10:00Z }"]);
    check(Some(&secret), Some(&order(None)), None, expect!["Order(Unfinished)"]);
}

#[test]
fn changed_names_do_not_wait() {
    let secret = issued(&["a.example.org"]);
    check(Some(&secret), None, None, expect!["Order(NamesChanged)"]);
    let other = State { names: vec!["a.example.org".to_owned()], ..order(later()) };
    check(Some(&secret), Some(&other), None, expect!["Order(NamesChanged)"]);
    // Fewer are another certificate as well.
    let secret = issued(&["a.example.org", "b.example.org", "c.example.org"]);
    check(Some(&secret), None, None, expect!["Order(NamesChanged)"]);
}

#[test]
fn a_certificate_that_cannot_be_used_is_ordered_again() {
    let mut secret = issued(&["a.example.org", "b.example.org"]);
    let other = issued(&["a.example.org", "b.example.org"]);
    let data = secret.data.as_mut().unwrap();
    data.insert("tls.key".to_owned(), other.data.as_ref().unwrap()["tls.key"].clone());
    check(Some(&secret), None, None, expect!["Order(Unreadable(OtherKey))"]);
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let mut secret = issued(&["a.example.org"]);
    secret.labels_mut().clear();
    assert_eq!(decide(&wanted(), Some(&secret), Some(&order(None)), None, now()), Decision::Foreign);
}

#[test]
fn an_order_knows_its_certificate_by_the_key() {
    let secret = issued(&["a.example.org"]);
    assert!(!is_installed(Some(&secret), &order(None)));
    let key = String::from_utf8(secret.data.as_ref().unwrap()["tls.key"].0.clone()).unwrap();
    assert!(is_installed(Some(&secret), &State { key_pem: key, ..order(None) }));
}
