//! Namespaces deleted in a real API, and what they say meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kube::client::Body;
use skiff_reconcile::Wake;
use tower::ServiceExt;

use super::*;
use crate::testing::World;

const PATH: &str = "/api/v1/namespaces/full";
const MAPS: &str = "/api/v1/namespaces/full/configmaps";

async fn world() -> World {
    let world = World::start().await;
    world.post("/api/v1/namespaces", json!({"metadata": {"name": "full"}})).await;
    world
}

fn empty_with(world: &World, client: Client) {
    let all = kube::Api::all(world.client.clone());
    let namespaces = Informer::spawn(all, kube::runtime::watcher::Config::default(), world.shutdown.clone());
    let wake = Wake::on([namespaces.changes()]);
    world.drive(Controller::new(client, namespaces), wake);
}

/// A client that counts lists and the most objects that one answer had, and fails what `fails` says.
fn counting(world: &World, fails: fn(&http::Request<Body>) -> bool) -> (Client, Arc<AtomicUsize>) {
    let (api, most) = (world.client.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&most);
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (api, counted) = (api.clone(), Arc::clone(&counted));
        async move {
            if fails(&request) {
                let failed = http::Response::builder().status(500).body(Body::empty());
                return Ok::<_, kube::Error>(failed.expect("a response"));
            }
            let is_list = request.method() == http::Method::GET && request.uri().path().ends_with("configmaps");
            let (head, body) = api.send(request).await?.into_parts();
            let bytes = http_body_util::BodyExt::collect(body).await.expect("a body").to_bytes();
            if is_list {
                let list: Value = serde_json::from_slice(&bytes).expect("a list");
                counted.fetch_max(list["items"].as_array().map_or(0, Vec::len), Ordering::SeqCst);
                assert!(list["items"].as_array().is_none_or(|all| all.iter().all(|o| o.get("data").is_none())));
            }
            Ok(http::Response::from_parts(head, Body::from(bytes.to_vec())))
        }
    });
    (Client::new(service.map_err(Box::new), "default"), most)
}

fn condition<'a>(namespace: &'a Value, kind: &str) -> &'a Value {
    let all = namespace["status"]["conditions"].as_array();
    all.and_then(|all| all.iter().find(|c| c["type"] == kind)).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn a_full_namespace_is_emptied_page_by_page() {
    let world = world().await;
    for chunk in 0..9 {
        let made = (0..50).map(|n| {
            let map = json!({"metadata": {"name": format!("m{chunk}-{n}")}, "data": {"a": "b"}});
            world.post(MAPS, map)
        });
        futures::future::join_all(made).await;
    }
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"namespace": "full"}});
    world.post("/api/v1/namespaces/full/events", event).await;
    world.delete(PATH, "Background").await;
    static PASSES: AtomicUsize = AtomicUsize::new(0);
    let count = |request: &http::Request<Body>| {
        PASSES.fetch_add(usize::from(request.uri().path() == "/apis"), Ordering::SeqCst);
        false
    };
    let (client, most) = counting(&world, count);
    empty_with(&world, client);
    world.until_gone(PATH).await;
    assert_eq!(most.load(Ordering::SeqCst), PAGE);
    assert_eq!(PASSES.load(Ordering::SeqCst), 1, "its own deletions do not stop it");
    for kind in ["configmaps", "events"] {
        let left = world.get(&format!("/api/v1/{kind}")).await;
        assert!(left["items"].as_array().is_some_and(|all| all.iter().all(|o| o["metadata"]["namespace"] != "full")));
    }
}

#[tokio::test]
async fn what_remains_is_told_and_written_once() {
    let world = world().await;
    for name in ["a", "b", "c"] {
        let held = json!({"metadata": {"name": name, "finalizers": ["example.org/hold"]}});
        world.post(MAPS, held).await;
    }
    world.delete(PATH, "Background").await;
    static PASSES: AtomicUsize = AtomicUsize::new(0);
    static WRITES: AtomicUsize = AtomicUsize::new(0);
    let count = |request: &http::Request<Body>| {
        PASSES.fetch_add(usize::from(request.uri().path() == "/apis"), Ordering::SeqCst);
        WRITES.fetch_add(usize::from(request.method() == http::Method::PATCH), Ordering::SeqCst);
        false
    };
    empty_with(&world, counting(&world, count).0);
    let remaining = "Some resources are remaining: configmaps. has 3 resource instances";
    let told = world.until(PATH, |o| condition(o, "NamespaceContentRemaining")["message"] == json!(remaining)).await;
    let held = "Some content in the namespace has finalizers remaining: example.org/hold in 3 resource instances";
    assert_eq!(condition(&told, "NamespaceFinalizersRemaining")["message"], held);
    assert_eq!(condition(&told, "NamespaceDeletionDiscoveryFailure")["status"], "False");
    world.merge(&format!("{MAPS}/a"), json!({"metadata": {"finalizers": null}})).await;
    let two = remaining.replace('3', "2");
    world.until(PATH, |o| condition(o, "NamespaceContentRemaining")["message"] == json!(two)).await;
    let passes = PASSES.load(Ordering::SeqCst);
    world.until(PATH, |_| PASSES.load(Ordering::SeqCst) >= passes + 2).await;
    assert_eq!(WRITES.load(Ordering::SeqCst), 2, "three remain, two remain");
    for name in ["b", "c"] {
        world.merge(&format!("{MAPS}/{name}"), json!({"metadata": {"finalizers": null}})).await;
    }
    world.until_gone(PATH).await;
}

#[tokio::test]
async fn failures_are_told_and_do_not_stop_the_rest() {
    let world = world().await;
    world.post(MAPS, json!({"metadata": {"name": "a"}})).await;
    let secrets = "/api/v1/namespaces/full/secrets";
    world.post(secrets, json!({"metadata": {"name": "s"}})).await;
    world.delete(PATH, "Background").await;
    let is_cursed =
        |r: &http::Request<Body>| r.method() == http::Method::DELETE && r.uri().path().ends_with("configmaps/a");
    empty_with(&world, counting(&world, is_cursed).0);
    let told = world.until(PATH, |o| condition(o, "NamespaceDeletionContentFailure")["status"] == "True").await;
    let condition = condition(&told, "NamespaceDeletionContentFailure");
    assert_eq!(condition["reason"], "ContentDeletionFailed");
    assert!(condition["message"].as_str().is_some_and(|m| m.contains("namespaces/full/configmaps/a")), "{condition}");
    world.until_gone(&format!("{secrets}/s")).await;
}

#[test]
fn a_condition_that_says_the_same_keeps_its_time() {
    let at = |second| jiff::Timestamp::from_second(second).expect("a time");
    let mut found = Found::default();
    found.remaining.insert((String::new(), "pods".to_owned()), 3);
    found.remaining.insert(("apps".to_owned(), "deployments".to_owned()), 1);
    let first = conditions::conditions(&[], &found, at(1));
    let message =
        "Some resources are remaining: deployments.apps has 1 resource instances, pods. has 3 resource instances";
    assert_eq!(first[3].message.as_deref(), Some(message));
    assert_eq!(conditions::conditions(&first, &found, at(2)), first);
    found.remaining.clear();
    let second = conditions::conditions(&first, &found, at(3));
    assert_eq!(second[3].last_transition_time, Some(objects::time(at(3))));
    assert_eq!(second[2], first[2]);
}
