//! The plan, the collector with paused time, and a pod of a node that is gone in a real API.

use std::sync::Mutex;

use kube::client::Body;
use serde_json::Value;
use skiff_reconcile::{Parts, Wake, drive};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::testing::World;

fn pod(name: &str, node: &str, phase: &str, change: impl FnOnce(&mut Value)) -> Pod {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")},
        "spec": {"containers": [{"name": "a", "image": "a"}]}, "status": {"phase": phase}});
    if !node.is_empty() {
        pod["spec"]["nodeName"] = json!(node);
    }
    change(&mut pod);
    serde_json::from_value(pod).expect("a Pod")
}

fn check(pods: Vec<Pod>, max: usize, expected: &[(&str, Reason)]) {
    let pods: Vec<_> = pods.into_iter().map(Arc::new).collect();
    let removals = plan(&pods, &HashSet::from(["gone".to_owned()]), max);
    let names: Vec<_> = removals.iter().map(|(pod, reason)| (pod.name_any(), *reason)).collect();
    let expected: Vec<_> = expected.iter().map(|(name, reason)| ((*name).to_owned(), *reason)).collect();
    assert_eq!(names, expected);
}

#[test]
fn what_nobody_else_removes_is_removed() {
    let dying = |pod: &mut Value| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let held = |pod: &mut Value| {
        dying(pod);
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        pod["metadata"]["finalizers"] = json!(["example.org/hold"]);
    };
    check(vec![pod("a", "here", "Running", dying), pod("b", "gone", "Running", |_| {})], 9, &[("b", Reason::Orphaned)]);
    check(vec![pod("a", "", "Pending", |_| {}), pod("b", "", "Pending", dying)], 9, &[("b", Reason::NeverPlaced)]);
    check(vec![pod("a", "gone", "Succeeded", |_| {})], 9, &[("a", Reason::Orphaned)]);
    check(vec![pod("a", "gone", "Failed", held)], 9, &[]);
    let aged = |name: &str, year: u32| {
        pod(name, "here", "Failed", |pod| {
            pod["metadata"]["creationTimestamp"] = json!(format!("{year}-01-01T00:00:00Z"))
        })
    };
    let evicted = pod("e", "here", "Failed", |pod| pod["status"]["reason"] = json!("Evicted"));
    let ended =
        vec![aged("old", 2001), aged("new", 2003), evicted, aged("mid", 2002), pod("r", "here", "Running", |_| {})];
    check(ended, 2, &[("e", Reason::Surplus), ("old", Reason::Surplus)]);
}

/// A client that notes what is asked, and knows no node.
fn noting() -> (Client, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    let service = tower::service_fn(move |request: http::Request<Body>| {
        noted.lock().expect("no panic").push(format!("{} {}", request.method(), request.uri().path()));
        let (code, body) = match request.uri().path().starts_with("/api/v1/nodes") {
            true => (404, r#"{"kind":"Status","status":"Failure","code":404,"reason":"NotFound","message":"none"}"#),
            false => (200, r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"}}"#),
        };
        let response = http::Response::builder().status(code).body(Body::from(body.as_bytes().to_vec()));
        async move { Ok::<_, std::convert::Infallible>(response.expect("a response")) }
    });
    (Client::new(service, "default"), asked)
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_node_that_is_gone_are_given_two_minutes() {
    let (client, asked) = noting();
    let here = serde_json::from_value(json!({"metadata": {"name": "here"}})).expect("a Node");
    let pods = [pod("stays", "here", "Running", |_| {}), pod("goes", "gone", "Running", |_| {})];
    let controller = Controller::new(client, Informer::fixed(pods), Informer::fixed([here]));
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(drive(controller, Wake::default(), Parts::new(shutdown.clone())));
    tokio::time::sleep(Duration::from_secs(119)).await;
    assert!(asked.lock().expect("no panic").is_empty());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let expected = [
        "GET /api/v1/nodes/gone",
        "PATCH /api/v1/namespaces/default/pods/goes/status",
        "DELETE /api/v1/namespaces/default/pods/goes",
    ];
    assert_eq!(*asked.lock().expect("no panic"), expected);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(asked.lock().expect("no panic").len(), 3, "nothing changed since");
    shutdown.cancel();
    task.await.expect("it ends");
}

#[tokio::test]
async fn an_orphan_says_why_it_ended_and_goes() {
    let world = World::start().await;
    let path = "/api/v1/namespaces/default/pods/p";
    world.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    let object = json!({"metadata": {"name": "p", "finalizers": ["example.org/hold"]},
        "spec": {"nodeName": "gone", "containers": [{"name": "a", "image": "a"}]}});
    world.post("/api/v1/namespaces/default/pods", object).await;
    let found: Pod = serde_json::from_value(world.get(path).await).expect("a Pod");
    let controller = Controller::new(world.client.clone(), Informer::fixed([]), Informer::fixed([]));
    controller.remove(&found, Reason::Orphaned).await.expect("removed");
    let last = world.get(path).await;
    let conditions = last["status"]["conditions"].as_array().expect("conditions");
    let why = conditions.iter().find(|c| c["type"] == "DisruptionTarget").expect("the condition");
    assert_eq!((&why["reason"], &last["status"]["phase"]), (&json!("DeletionByPodGC"), &json!("Failed")));
    assert_eq!(last["metadata"]["deletionGracePeriodSeconds"], 0);
    let pods = [Arc::new(serde_json::from_value(last).expect("a Pod"))];
    assert!(plan(&pods, &HashSet::from(["gone".to_owned()]), 9).is_empty(), "only its finalizer holds it");
    world.merge(path, json!({"metadata": {"finalizers": null}})).await;
    world.until_gone(path).await;
}
