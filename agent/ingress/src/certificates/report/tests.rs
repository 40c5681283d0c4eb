//! What the command line is told.

use std::sync::Arc;

use expect_test::{Expect, expect};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::report;
use crate::certificates::order::state::secret;
use crate::certificates::schedule::tests::{issued, now, order, wanted};

fn check(secrets: Vec<Secret>, now: Timestamp, expected: Expect) {
    let secrets: Vec<_> = secrets.into_iter().map(Arc::new).collect();
    let reports = report(&[wanted()], &secrets, now);
    let [one] = reports.as_slice() else { panic!("one") };
    let text = format!(
        "{}/{} by {:?}: {}; days {:?}, error {:?}, next {:?}",
        one.namespace, one.secret, one.issuer, one.state, one.days_left, one.last_error, one.next_attempt
    );
    expected.assert_eq(&text);
}

#[test]
fn each_state_has_its_sentence() {
    let mut valid = issued(&["a.example.org", "b.example.org"]);
    valid.annotations_mut().insert("ingress.skiff.dev/issuer".to_owned(), "https://ca.example/dir".to_owned());
    let failed = secret(&wanted(), &order(Some(now() + SignedDuration::from_mins(10))));
    check(
        vec![valid.clone()],
        now(),
        expect![[
            r#"default/site-tls by Some("https://ca.example/dir"): valid until 2026-04-01, renewed from 2026-03-02; days Some(60), error None, next Some(2026-03-02T00:00:00Z)"#
        ]],
    );
    check(
        vec![],
        now(),
        expect!["default/site-tls by None: not there yet, being ordered; days None, error None, next None"],
    );
    check(
        vec![failed],
        now(),
        expect![[
            r#"default/site-tls by Some("https://ca.example/dir"): not there yet, the last order failed, the next is at 2026-01-31 00:10 UTC; days None, error Some("no"), next Some(2026-01-31T00:10:00Z)"#
        ]],
    );
    check(
        vec![valid.clone()],
        now() + SignedDuration::from_hours(61 * 24),
        expect![[
            r#"default/site-tls by Some("https://ca.example/dir"): ended on 2026-04-01, being ordered; days Some(-1), error None, next None"#
        ]],
    );
    valid.labels_mut().clear();
    check(
        vec![valid],
        now(),
        expect![[
            r#"default/site-tls by Some("https://ca.example/dir"): the Secret site-tls was not made by Skiff and is left alone; remove it, or name another in spec.tls; days Some(60), error None, next None"#
        ]],
    );
}
