//! The box CA, as clients check it.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_util::sync::CancellationToken;

use super::{BoxCa, make};
use crate::certificates::renewal::Leaf;
use crate::certificates::tests::world::start_api;

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

fn ca_from(at: Timestamp) -> BoxCa {
    let (root, key) = make("Box<1>", "skiff.local", at).unwrap();
    let not_after = Leaf::read(root.as_bytes(), key.as_bytes()).unwrap().not_after;
    BoxCa::new(&root, &key, not_after).unwrap()
}

fn is_trusted(ca: &BoxCa, chain: &str, name: &str, at: Timestamp) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.root_der().to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at.as_second().unsigned_abs()));
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier.verify_server_cert(&leaf, &[], &name, &[], at).is_ok()
}

fn issue(ca: &BoxCa, name: &str, at: Timestamp) -> (String, String) {
    match name.parse::<IpAddr>() {
        Ok(address) => ca.issue(&[], &[address], at).unwrap(),
        Err(_) => ca.issue(&[name.to_owned()], &[], at).unwrap(),
    }
}

#[test]
fn clients_believe_it_for_private_names_only() {
    let ca = ca_from(now());
    let private =
        ["a.skiff.local", "x.local", "nas.internal", "a.home.arpa", "tv.lan", "192.168.1.4", "10.0.0.1", "fd00::1"];
    for name in private {
        let (chain, _) = issue(&ca, name, now());
        assert!(ca.permits(name) && is_trusted(&ca, &chain, name, now()), "{name}");
    }
    for name in ["example.org", "mylocal", "8.8.8.8", "172.32.0.1", "2001:db8::1"] {
        let (chain, _) = issue(&ca, name, now());
        assert!(!ca.permits(name) && !is_trusted(&ca, &chain, name, now()), "{name}");
    }
}

#[test]
fn a_certificate_lives_90_days_and_no_longer_than_its_root() {
    let ca = ca_from(now());
    let (chain, key) = issue(&ca, "a.local", now());
    let leaf = Leaf::read(chain.as_bytes(), key.as_bytes()).unwrap();
    assert_eq!(leaf.not_after, now() + SignedDuration::from_hours(90 * 24));
    let late = now() + SignedDuration::from_hours(3640 * 24);
    let (chain, key) = issue(&ca, "a.local", late);
    assert_eq!(Leaf::read(chain.as_bytes(), key.as_bytes()).unwrap().not_after, ca.not_after);
    assert!(is_trusted(&ca, &chain, "a.local", late));
}

#[test]
fn a_certificate_is_renewed_when_due_or_of_no_use() {
    let ca = ca_from(now());
    let names = vec!["a.local".to_owned(), "*.b.local".to_owned()];
    let addresses = ["192.168.1.4".parse().unwrap(), "fd00::1".parse().unwrap()];
    let (chain, key) = ca.issue(&names, &addresses, now()).unwrap();
    let days = |days: i64| now() + SignedDuration::from_hours(days * 24);
    assert!(!ca.needs_renewal(&chain, &key, &names, &addresses, days(58)));
    assert!(ca.needs_renewal(&chain, &key, &names, &addresses, days(61)));
    assert!(ca.needs_renewal(&chain, &key, &["c.local".to_owned()], &addresses, now()));
    assert!(ca.needs_renewal(&chain, &key, &names, &["192.168.1.5".parse().unwrap()], now()));
    assert!(ca.needs_renewal(&chain, "", &names, &addresses, now()));
    assert!(ca_from(now()).needs_renewal(&chain, &key, &names, &addresses, now()));
}

#[test]
fn the_profile_holds_the_root_and_is_always_the_same() {
    let ca = ca_from(now());
    let profile = ca.mobileconfig();
    assert_eq!(profile, ca.mobileconfig());
    assert!(profile.contains(&base64::Engine::encode(&base64::prelude::BASE64_STANDARD, ca.root_der())));
    assert!(profile.contains("<string>Skiff box CA Box&lt;1&gt; 2026-06-01</string>"));
    assert!(!profile.contains('{'), "{profile}");
    assert_ne!(profile, ca_from(now()).mobileconfig());
}

#[tokio::test]
async fn it_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let shutdown = CancellationToken::new();
    let api = start_api(dir.path(), shutdown.clone()).await;
    let client = api.client(&skiff_apiserver::Identity::Ingress);
    let (one, two) = tokio::join!(BoxCa::ensure(&client, "box", "local"), BoxCa::ensure(&client, "box", "local"));
    let one = one.unwrap();
    assert_eq!(one.root_pem(), two.unwrap().root_pem());
    assert_eq!(one.root_pem(), BoxCa::ensure(&client, "other", "local").await.unwrap().root_pem());
    shutdown.cancel();
}
