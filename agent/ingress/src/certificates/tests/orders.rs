//! Orders, at pebble.

use std::sync::atomic::Ordering;

use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::crashing::{Crashing, Side};
use super::interposed::Interposed;
use super::pebble::Options;
use super::world::World;
use crate::certificates::accounts::Accounts;
use crate::certificates::dns::tests::Knot;
use crate::certificates::http::CaClient;
use crate::certificates::order::state::State;
use crate::certificates::schedule;
use crate::certificates::schedule::tests::issued;
use crate::config::{Challenge, ExternalAccount, Issuer, TsigAlgorithm};

#[tokio::test]
async fn http_01() {
    let Some(world) = World::start(Challenge::Http01, None, Options::default()).await else { return };
    let _running = world.run(&world.client);
    world.ingress("site", &["a.example.org", "b.example.org"]).await;
    world.wait_done("site", &["a.example.org", "b.example.org"]).await;
    let events = world.events("CertificateIssued").await;
    assert!(
        events[0]
            .starts_with("the certificate for a.example.org, b.example.org is in the Secret site-tls, valid until ")
    );
    // Other names need another certificate.
    world.ingress("site", &["a.example.org", "c.example.org"]).await;
    world.wait_done("site", &["a.example.org", "c.example.org"]).await;
}

#[tokio::test]
async fn tls_alpn_01() {
    let Some(world) = World::start(Challenge::TlsAlpn01, None, Options::default()).await else { return };
    // What someone made of an order's Secret is not in the way.
    let torn = json!({"metadata": {"name": crate::certificates::order::state::name("site-tls"),
        "labels": {"app.kubernetes.io/managed-by": "skiff-ingress"}}, "stringData": {"a": "b"}});
    world.secrets().create(&PostParams::default(), &serde_json::from_value(torn).unwrap()).await.unwrap();
    let _running = world.run(&world.client);
    world.ingress("site", &["a.example.org", "b.example.org"]).await;
    world.wait_done("site", &["a.example.org", "b.example.org"]).await;
}

#[tokio::test]
async fn dns_01_with_a_wildcard() {
    let Some(knot) = Knot::start().await else { return };
    let dns = knot.dns("k256", TsigAlgorithm::HmacSha256);
    let options = Options { dns: Some(knot.address), ..Options::default() };
    let Some(world) = World::start(Challenge::Http01, Some(dns), options).await else { return };
    let _running = world.run(&world.client);
    world.ingress("site", &["*.example.org", "example.org"]).await;
    world.wait_done("site", &["*.example.org", "example.org"]).await;
    assert!(knot.values("_acme-challenge.example.org").await.is_empty());
}

#[tokio::test]
async fn nonces_that_are_refused_are_no_failure() {
    let options = Options { nonces_refused: 50, ..Options::default() };
    let Some(world) = World::start(Challenge::Http01, None, options).await else { return };
    let _running = world.run(&world.client);
    world.ingress("site", &["a.example.org"]).await;
    world.wait_done("site", &["a.example.org"]).await;
}

#[tokio::test]
async fn an_account_is_bound_to_a_customers_and_made_again_when_it_is_lost() {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let options = Options { external: json!({"kid-1": key}), ..Options::default() };
    let Some(mut world) = World::start(Challenge::Http01, None, options).await else { return };
    let hmac_key = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, key).unwrap();
    world.acme.issuers[0].external_account = Some(ExternalAccount { key_id: "kid-1".to_owned(), hmac_key });
    let running = world.run(&world.client);
    world.ingress("site", &["a.example.org"]).await;
    world.wait_done("site", &["a.example.org"]).await;
    drop(running);
    let secrets: kube::Api<k8s_openapi::api::core::v1::Secret> =
        kube::Api::namespaced(world.client.clone(), "kube-system");
    let all = secrets.list(&kube::api::ListParams::default()).await.unwrap().items;
    let is_account =
        |s: &k8s_openapi::api::core::v1::Secret| s.type_.as_deref() == Some("ingress.skiff.dev/acme-account");
    let mut account = all.into_iter().find(is_account).unwrap();
    let text = String::from_utf8(account.data.as_ref().unwrap()["account.json"].0.clone()).unwrap();
    let mut lost: serde_json::Value = serde_json::from_str(&text).unwrap();
    let id = format!("{}0", lost["id"].as_str().unwrap());
    lost["id"] = json!(id);
    let data = account.data.as_mut().unwrap();
    data.insert("account.json".to_owned(), k8s_openapi::ByteString(lost.to_string().into_bytes()));
    account.metadata.annotations.as_mut().unwrap().insert("ingress.skiff.dev/account".to_owned(), id);
    let name = account.metadata.name.clone().unwrap();
    secrets.replace(&name, &PostParams::default(), &account).await.unwrap();
    let _running = world.run(&world.client);
    world.ingress("second", &["b.example.org"]).await;
    world.wait_done("second", &["b.example.org"]).await;
}

#[tokio::test]
async fn a_ca_that_wants_a_customers_account_is_quoted() {
    let options = Options { external: json!({"kid-1": "zWNDZM6eQGHWpSRTPal5eA"}), ..Options::default() };
    let Some(world) = World::start(Challenge::Http01, None, options).await else { return };
    let _running = world.run(&world.client);
    world.ingress("site", &["a.example.org"]).await;
    let failed = world.wait_failed("site").await.last_error.unwrap();
    assert!(failed.contains("wants an account to be bound to a customer's"), "{failed}");
}

#[tokio::test]
async fn a_name_that_cannot_be_proved_is_said_why_and_tried_later() {
    let Some(mut world) = World::start(Challenge::Http01, None, Options::default()).await else { return };
    let http = world.answers.as_ref().unwrap().http;
    let start = jiff::Timestamp::now();
    // Nobody listens there any more, but what is asked for is still marked as served.
    world.answers = None;
    let _running = world.run(&world.client);
    let challenges = world.challenges().clone();
    let _marking = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(super::answers::mark(challenges)));
    world.ingress("site", &["a.example.org"]).await;
    let order = world.wait_failed("site").await;
    assert_eq!((order.failures, order.url), (1, None));
    let delay = order.not_before.unwrap().duration_since(start).as_secs();
    assert!((120..180).contains(&delay), "{delay}");
    let sentence = order.last_error.unwrap();
    let said = "the CA could not reach port 80 of a.example.org; check that its address is this network's";
    assert!(sentence.starts_with(said), "{sentence}");
    assert!(sentence.contains(&http.port().to_string()), "{sentence}");
    let event = world.events("CertificateFailed").await.remove(0);
    assert!(event.starts_with(&format!("no certificate for a.example.org: {said}")), "{event}");
    assert!(event.contains("; the next attempt is at 2"), "{event}");
    // An order that nobody asks for any more is forgotten.
    let ingresses: Api<Ingress> = Api::namespaced(world.client.clone(), "default");
    ingresses.delete("site", &DeleteParams::default()).await.unwrap();
    while world.order("site").await.is_some() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_certificate_that_is_due_is_replaced_and_its_end_is_told() {
    let Some(mut world) = World::start(Challenge::Http01, None, Options::default()).await else { return };
    let pebble = world.acme.issuers[0].clone();
    let mut old = issued(&["a.example.org"]);
    old.annotations_mut().insert("ingress.skiff.dev/issuer".to_owned(), pebble.directory.clone());
    let old = world.secrets().create(&PostParams::default(), &old).await.unwrap();
    let dead = format!("https://127.0.0.1:{}/dir", super::support::free_port());
    world.acme.issuers[0].directory = dead;
    let running = world.run(&world.client);
    world.ingress("site", &["a.example.org"]).await;
    let event = world.events("CertificateExpiring").await.remove(0);
    assert!(event.starts_with("the certificate for a.example.org ended at 2026-04-01 00:00 UTC; "), "{event}");
    world.wait_failed("site").await;
    drop(running);
    world.acme.issuers[0] = pebble.clone();
    // A crash left an order that the CA does not know.
    let unknown = format!("{}/my-order/unknown", pebble.directory.trim_end_matches("/dir"));
    world
        .change_order("site", |order| {
            order.not_before = None;
            order.issuer.clone_from(&pebble.directory);
            order.url = Some(unknown);
        })
        .await;
    let _running = world.run(&world.client);
    world.wait_done("site", &["a.example.org"]).await;
    let new = world.secrets().get("site-tls").await.unwrap();
    assert!(new.uid() == old.uid() && new.data != old.data);
}

#[tokio::test]
async fn another_issuer_is_asked_after_three_failures_and_is_not_waited_for() {
    let Some(mut world) = World::start(Challenge::Http01, None, Options::default()).await else { return };
    let dead = Issuer {
        directory: format!("https://127.0.0.1:{}/dir", super::support::free_port()),
        ..world.acme.issuers[0].clone()
    };
    world.acme.issuers.insert(0, dead.clone());
    let running = world.run(&world.client);
    world.ingress("site", &["a.example.org"]).await;
    let order = world.wait_failed("site").await;
    let at = dead.directory.trim_end_matches("/dir");
    assert_eq!(order.last_error, Some(format!("cannot reach the CA at {at}: connection refused")));
    drop(running);
    world.change_order("site", |order| (order.failures, order.not_before) = (3, None)).await;
    let _running = world.run(&world.client);
    world.wait_done("site", &["a.example.org"]).await;
    let secret = world.secrets().get("site-tls").await.unwrap();
    assert_eq!(secret.metadata.annotations.unwrap()["ingress.skiff.dev/issuer"], world.acme.issuers[1].directory);
}

#[tokio::test]
async fn a_secret_of_someone_else_is_left_alone() {
    let Some(world) = World::start(Challenge::Http01, None, Options::default()).await else { return };
    let theirs = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "site-tls"},
        "type": "Opaque", "stringData": {"a": "b"}});
    let theirs = serde_json::from_value(theirs).unwrap();
    let theirs = world.secrets().create(&PostParams::default(), &theirs).await.unwrap();
    let _running = world.run(&world.client);
    world.ingress("site", &["a.example.org"]).await;
    let event = world.events("CertificateFailed").await.remove(0);
    assert!(event.starts_with("the Secret site-tls was not made by Skiff and is left alone"), "{event}");
    assert_eq!(world.secrets().get("site-tls").await.unwrap(), theirs);
}

#[tokio::test]
async fn a_crash_at_any_write_is_recovered_from_with_http() {
    let Some(world) = World::start(Challenge::Http01, None, Options::default()).await else { return };
    crash_everywhere(&world, async || {}).await;
}

#[tokio::test]
async fn a_crash_at_any_write_is_recovered_from_with_dns() {
    let Some(knot) = Knot::start().await else { return };
    let dns = knot.dns("k256", TsigAlgorithm::HmacSha256);
    let options = Options { dns: Some(knot.address), ..Options::default() };
    let Some(world) = World::start(Challenge::Dns01, Some(dns), options).await else { return };
    crash_everywhere(&world, async || {
        for crash in 0..40 {
            assert!(knot.values(&format!("_acme-challenge.h{crash}.example.org")).await.is_empty());
        }
    })
    .await;
}

/// Crashes before the first request to the CA, before the second, and so on.
#[tokio::test]
async fn a_crash_at_any_request_is_recovered_from() {
    let options = Options { nonces_refused: 0, ..Options::default() };
    let Some(mut world) = World::start(Challenge::Http01, None, options).await else { return };
    let ca = world.acme.issuers[0].directory.replace("https://", "").replace("/dir", "").parse().unwrap();
    let interposed = Interposed::start(ca).await;
    world.acme.issuers[0].directory = format!("https://{}/dir", interposed.address);
    for requests in 0.. {
        interposed.left.store(requests, Ordering::SeqCst);
        let running = world.run(&world.client);
        let (name, host) = (format!("site-{requests}"), format!("h{requests}.example.org"));
        let hosts = [host.as_str()];
        world.ingress(&name, &hosts).await;
        let ended = tokio::select! {
            () = interposed.hangs.notified() => false,
            () = world.wait_done(&name, &hosts) => true,
        };
        drop(running);
        interposed.left.store(usize::MAX, Ordering::SeqCst);
        if ended {
            assert!(requests > 8, "only {requests} requests");
            return;
        }
        let kept = world.order(&name).await;
        let running = world.run(&world.client);
        world.wait_done(&name, &hosts).await;
        drop(running);
        if let Some(kept) = kept {
            gone_on_with(&world, &name, &kept).await;
        }
        let ingresses: Api<Ingress> = Api::namespaced(world.client.clone(), "default");
        ingresses.delete(&name, &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test]
async fn more_are_ordered_than_may_be_at_once() {
    let Some(world) = World::start(Challenge::Http01, None, Options::default()).await else { return };
    let _running = world.run(&world.client);
    let hosts: Vec<String> = (0..10).map(|number| format!("h{number}.example.org")).collect();
    for (number, host) in hosts.iter().enumerate() {
        world.ingress(&format!("site-{number}"), &[host]).await;
    }
    for (number, host) in hosts.iter().enumerate() {
        world.wait_done(&format!("site-{number}"), &[host]).await;
    }
}

/// Crashes before and after the first write, the second, and so on, until an order ends before it would crash.
async fn crash_everywhere(world: &World, check: impl AsyncFn()) {
    let mut crashes = 0;
    for side in [Side::Before, Side::After] {
        for writes in 0.. {
            let (client, crashed) = Crashing::client(world.client.clone(), writes, side);
            let running = world.run(&client);
            let (name, host) = (format!("site-{crashes}"), format!("h{crashes}.example.org"));
            crashes += 1;
            let hosts = [host.as_str()];
            world.ingress(&name, &hosts).await;
            let ended = tokio::select! {
                () = crashed.notified() => false,
                () = world.wait_done(&name, &hosts) => true,
            };
            drop(running);
            if ended {
                assert!(writes >= 4, "only {writes} writes");
                break;
            }
            let kept = world.order(&name).await;
            let _running = world.run(&world.client);
            world.wait_done(&name, &hosts).await;
            if let Some(kept) = kept {
                gone_on_with(world, &name, &kept).await;
            }
            check().await;
        }
    }
    assert!(crashes >= 10, "only {crashes} crashes");
}

/// The order that was kept is the one that the certificate came from.
async fn gone_on_with(world: &World, name: &str, kept: &State) {
    let secret = world.secrets().get(&format!("{name}-tls")).await.unwrap();
    assert!(schedule::data(&secret, "tls.key") == kept.key_pem.as_bytes());
    let Some(url) = kept.url.clone() else { return };
    let issuer = &world.acme.issuers[0];
    let client = CaClient::new(issuer.trust_root.as_deref()).unwrap();
    let accounts = Accounts::new(world.client.clone(), &world.acme);
    let account = accounts.existing(issuer, &client).await.unwrap().unwrap();
    let mut order = account.order(url).await.unwrap();
    assert_eq!(order.state().status, instant_acme::OrderStatus::Valid);
}
