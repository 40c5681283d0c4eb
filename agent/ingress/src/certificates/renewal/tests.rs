//! When certificates are renewed.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::{Leaf, Unreadable, Window};

fn leaf(days: i64) -> Leaf {
    let not_before: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    Leaf {
        names: vec!["example.org".to_owned()],
        addresses: vec![],
        not_before,
        not_after: not_before + SignedDuration::from_hours(days * 24),
        serial: vec![1, 2, 3],
    }
}

fn window(start: &str, end: &str) -> Option<Window> {
    Some(Window { start: start.parse().unwrap(), end: end.parse().unwrap() })
}

#[test]
fn without_a_window_a_third_of_the_lifetime_is_left() {
    assert_eq!(leaf(90).renew_at(None).to_string(), "2026-03-02T00:00:00Z");
    assert_eq!(leaf(6).renew_at(None).to_string(), "2026-01-05T00:00:00Z");
}

#[test]
fn a_window_in_the_past_means_now_and_one_turned_round_is_not_believed() {
    let revoked = window("2025-12-01T00:00:00Z", "2025-12-02T00:00:00Z");
    assert!(leaf(90).renew_at(revoked) < leaf(90).not_before);
    let wrong = window("2026-02-02T00:00:00Z", "2026-02-01T00:00:00Z");
    assert_eq!(leaf(90).renew_at(wrong), leaf(90).renew_at(None));
}

#[test]
fn a_window_that_leaves_no_time_is_not_followed() {
    let late = window("2027-02-02T00:00:00Z", "2027-03-01T00:00:00Z");
    assert_eq!(leaf(90).renew_at(late).to_string(), "2026-03-09T12:00:00Z");
}

#[test]
fn little_time_left_is_warned_about() {
    let days_before = |leaf: &Leaf, days: i64| leaf.is_expiring(leaf.not_after - SignedDuration::from_hours(days * 24));
    assert!(!days_before(&leaf(90), 16) && days_before(&leaf(90), 14));
    assert!(!days_before(&leaf(10), 4) && days_before(&leaf(10), 2));
    assert!(!days_before(&leaf(6), 2) && days_before(&leaf(6), 0));
}

#[test]
fn a_chain_is_read_with_its_key_only() {
    let made =
        rcgen::generate_simple_self_signed(vec!["b.example.org".to_owned(), "*.Example.org".to_owned()]).unwrap();
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let leaf = Leaf::read(chain.as_bytes(), key.as_bytes()).unwrap();
    assert_eq!(leaf.names, ["*.example.org", "b.example.org"]);
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    assert_eq!(Leaf::read(chain.as_bytes(), other.as_bytes()), Err(Unreadable::OtherKey));
    assert_eq!(Leaf::read(chain.as_bytes(), b"x"), Err(Unreadable::Key));
    assert_eq!(Leaf::read(b"", key.as_bytes()), Err(Unreadable::NoCertificate));
    let torn = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(Leaf::read(torn.as_bytes(), key.as_bytes()), Err(Unreadable::Certificate));
}

proptest! {
    #[test]
    fn the_moment_is_stable_and_inside_the_window(serial in proptest::collection::vec(any::<u8>(), 1..20), hours in 1_i64..1000) {
        let mut leaf = leaf(90);
        leaf.serial = serial;
        let start = leaf.not_before;
        let window = Window { start, end: start + SignedDuration::from_hours(hours) };
        let at = leaf.renew_at(Some(window));
        prop_assert_eq!(at, leaf.renew_at(Some(window)));
        prop_assert!(window.start <= at && at < window.end);
    }
}
