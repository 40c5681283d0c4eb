//! What is kept of an order.

use k8s_openapi::api::core::v1::{ObjectReference, Secret};

use super::{State, delay, issuer, secret};
use crate::certificates::dns::Record;
use crate::certificates::wanted::{Wanted, is_managed};
use crate::config::{Challenge, Issuer};

fn state() -> State {
    State {
        names: vec!["*.example.org".to_owned(), "example.org".to_owned()],
        issuer: "https://ca.example/dir".to_owned(),
        url: Some("https://ca.example/order/1".to_owned()),
        key_pem: "key\nlines\n".to_owned(),
        failures: 2,
        not_before: Some("2026-01-01T00:00:00Z".parse().unwrap()),
        last_error: Some("no".to_owned()),
        records: vec![Record { name: "_acme-challenge.example.org".to_owned(), value: "abc".to_owned() }],
    }
}

#[test]
fn what_is_kept_is_read_again() {
    let wanted = Wanted {
        names: state().names,
        namespace: "default".to_owned(),
        secret: "site-tls".to_owned(),
        challenge: Challenge::Http01,
        ingress: ObjectReference::default(),
    };
    let kept = secret(&wanted, &state());
    assert!(is_managed(&kept));
    assert!(State::read(&kept) == Some(state()));
    let bare = State { url: None, not_before: None, last_error: None, records: vec![], failures: 0, ..state() };
    assert!(State::read(&secret(&wanted, &bare)) == Some(bare));
    assert!(State::read(&Secret { type_: Some("Opaque".to_owned()), ..kept }).is_none());
}

#[test]
fn waiting_doubles_up_to_a_day() {
    let hours: Vec<_> = [1, 2, 5, 10, 11, 40, u32::MAX].map(|n| delay(n).as_mins()).to_vec();
    assert_eq!(hours, [2, 4, 32, 1024, 1440, 1440, 1440]);
}

#[test]
fn a_ca_that_asks_for_more_time_gets_it() {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let asked = "2026-01-01T05:00:00Z".parse().unwrap();
    assert_eq!(state().failed("x".to_owned(), Some(asked), now).not_before, Some(asked));
    let failed = state().failed("x".to_owned(), Some(now), now);
    assert_eq!((failed.failures, failed.not_before.unwrap().to_string().as_str()), (3, "2026-01-01T00:08:00Z"));
}

#[test]
fn after_three_failures_the_next_issuer_is_asked() {
    let make = |d: &str| Issuer { directory: d.to_owned(), trust_root: None, external_account: None, profile: None };
    let two = [make("a"), make("b")];
    let asked: String = (0..8).filter_map(|n| issuer(n, &two)).map(|i| i.directory.as_str()).collect();
    assert_eq!(asked, "aaabbbaa");
    assert!(issuer(7, &two[..1]).is_some() && issuer(0, &[]).is_none());
}
