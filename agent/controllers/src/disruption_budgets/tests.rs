//! The plan by tables, its law, and a budget of a real API whose pods are evicted.

use expect_test::{Expect, expect};
use http::Request;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::Value;
use skiff_reconcile::Wake;

use super::plan::{selected, stale};
use super::sizes::SizeError;
use super::*;
use crate::testing::World;

const PODS: &str = "/api/v1/namespaces/default/pods";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).expect("a time")
}

fn budget(limit: Value, status: Value) -> PodDisruptionBudget {
    let mut spec = json!({"selector": {"matchLabels": {"app": "web"}}});
    for (field, value) in limit.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    let metadata = json!({"name": "b", "namespace": "default", "uid": "b", "generation": 2});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).expect("a budget")
}

/// A pod by its name: one that begins with `u` is not ready, with `d` it is to go.
fn pod(name: &str) -> Arc<Pod> {
    let ready = if name.starts_with('u') { "False" } else { "True" };
    let mut metadata = json!({"name": name, "namespace": "default", "labels": {"app": "web"}});
    if name.starts_with('d') {
        metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]});
    Arc::new(serde_json::from_value(json!({"metadata": metadata, "status": status})).expect("a Pod"))
}

fn sizes(wanted: &[i32]) -> Sizes {
    let wanted = wanted.iter().enumerate().map(|(n, size)| (n.to_string(), *size)).collect();
    Sizes { wanted, unmanaged: false }
}

fn shown(plan: &Plan) -> String {
    let status = &plan.status;
    let number = |number: Option<i32>| number.unwrap_or(0);
    let condition = status.conditions.as_ref().and_then(|all| all.last()).expect("a condition");
    let said: Vec<_> = plan.said.iter().map(|said| said.reason).collect();
    let going: Vec<_> = status.disrupted_pods.iter().flatten().map(|(name, _)| name.as_str()).collect();
    format!(
        "allowed {} of {} (healthy {}, wanted {}) {} {} going {going:?} said {said:?}",
        number(status.disruptions_allowed),
        number(status.expected_pods),
        number(status.current_healthy),
        number(status.desired_healthy),
        condition.status,
        condition.reason,
    )
}

fn check(limit: Value, names: &str, wanted: &[i32], expected: Expect) {
    let pods: Vec<_> = names.split_whitespace().map(pod).collect();
    expected.assert_eq(&shown(&plan(&budget(limit, Value::Null), &pods, Ok(sizes(wanted)), at(0))));
}

#[test]
fn as_many_may_go_as_are_more_than_must_stay() {
    let expected = expect![[r#"allowed 2 of 3 (healthy 3, wanted 1) True SufficientPods going [] said []"#]];
    check(json!({"minAvailable": 1}), "a b c", &[], expected);
    let expected = expect![[r#"allowed 0 of 4 (healthy 2, wanted 2) False InsufficientPods going [] said []"#]];
    check(json!({"minAvailable": 2}), "a b u1 d1", &[], expected);
    // Shares are of what is asked for, and rounded up.
    let expected = expect![[r#"allowed 1 of 7 (healthy 5, wanted 4) True SufficientPods going [] said []"#]];
    check(json!({"minAvailable": "50%"}), "a b c d1 e f", &[5, 2], expected);
    let expected = expect![[r#"allowed 0 of 7 (healthy 3, wanted 3) False InsufficientPods going [] said []"#]];
    check(json!({"maxUnavailable": "50%"}), "a b c", &[7], expected);
    let expected = expect![[r#"allowed 1 of 3 (healthy 3, wanted 2) True SufficientPods going [] said []"#]];
    check(json!({"maxUnavailable": 1}), "a b c", &[3], expected);
    let expected = expect![[r#"allowed 2 of 2 (healthy 2, wanted 0) True SufficientPods going [] said []"#]];
    check(json!({"maxUnavailable": 9}), "a b", &[2], expected);
    // Where none is expected none may go.
    let expected = expect![[r#"allowed 0 of 0 (healthy 0, wanted 0) False InsufficientPods going [] said ["NoPods"]"#]];
    check(json!({"maxUnavailable": 1}), "", &[], expected);
    let expected = expect![[r#"allowed 0 of 0 (healthy 2, wanted 0) False InsufficientPods going [] said []"#]];
    check(json!({}), "a b", &[], expected);
    let expected = expect![[
        r#"allowed 0 of 0 (healthy 0, wanted 0) False SyncFailed going [] said ["CalculateExpectedPodCountFailed"]"#
    ]];
    check(json!({"minAvailable": "many"}), "a", &[3], expected);
}

#[test]
fn what_cannot_be_counted_allows_nothing() {
    let old = json!({"disruptionsAllowed": 2, "currentHealthy": 3, "desiredHealthy": 1, "expectedPods": 3,
        "observedGeneration": 1});
    let budget = budget(json!({"minAvailable": "10%"}), old);
    let failed = plan(&budget, &[pod("a")], Err(SizeError::NoController("a".to_owned())), at(0));
    let expected = expect![[
        r#"allowed 0 of 3 (healthy 3, wanted 1) False SyncFailed going [] said ["NoControllers", "CalculateExpectedPodCountFailed"]"#
    ]];
    expected.assert_eq(&shown(&failed));
    assert_eq!(failed.said[0].message, r#"found no controllers for pod "a""#);
    assert_eq!(failed.status.observed_generation, Some(1));
    assert!(matches!(failed.next, Next::After(_)));
    let alone = plan(&budget, &[pod("a")], Ok(Sizes { unmanaged: true, ..Sizes::default() }), at(0));
    let expected =
        expect![[r#"allowed 0 of 0 (healthy 1, wanted 0) False InsufficientPods going [] said ["UnmanagedPods"]"#]];
    expected.assert_eq(&shown(&alone));
}

#[test]
fn a_pod_that_may_go_does_not_count_until_its_time_is_over() {
    let noted = |name: &str, seconds: i64| json!({name: at(seconds).to_string()});
    let planned = |status: Value| {
        let budget = budget(json!({"minAvailable": 1}), status);
        plan(&budget, &[pod("a"), pod("b"), pod("d1")], Ok(sizes(&[])), at(120))
    };
    let fresh = planned(json!({"disruptedPods": noted("a", 60)}));
    let expected = expect![[r#"allowed 0 of 3 (healthy 1, wanted 1) False InsufficientPods going ["a"] said []"#]];
    expected.assert_eq(&shown(&fresh));
    assert_eq!((fresh.next, fresh.stayed.len()), (Next::After(std::time::Duration::from_secs(61)), 0));
    let late = planned(json!({"disruptedPods": noted("a", -1)}));
    assert_eq!((late.status.disruptions_allowed, late.stayed.len(), late.next), (Some(1), 1, Next::Change));
    let leaving = planned(json!({"disruptedPods": noted("d1", 60)}));
    assert_eq!((leaving.status.disrupted_pods, leaving.next), (None, Next::Change));
}

#[test]
fn a_condition_keeps_its_time_until_it_is_another() {
    let time = |plan: &Plan| plan.status.conditions.clone().expect("conditions")[0].last_transition_time.0;
    let mut budget = budget(json!({"minAvailable": 1}), Value::Null);
    let first = plan(&budget, &[pod("a"), pod("b")], Ok(sizes(&[])), at(0));
    budget.status = Some(first.status.clone());
    let again = plan(&budget, &[pod("a"), pod("b")], Ok(sizes(&[])), at(50));
    assert_eq!(again.status, first.status, "nothing is written");
    let other = plan(&budget, &[pod("a")], Ok(sizes(&[])), at(50));
    assert_eq!((time(&first), time(&other)), (at(0), at(50)));
}

#[test]
fn an_empty_selector_is_about_all_pods_and_none_about_none() {
    let mut elsewhere = Pod::clone(&pod("x"));
    elsewhere.metadata.namespace = Some("other".to_owned());
    let pods = [pod("a"), Arc::new(elsewhere)];
    let count = |selector: Value| selected(&budget(json!({"selector": selector}), Value::Null), &pods).len();
    assert_eq!((count(json!({})), count(Value::Null), count(json!({"matchLabels": {"app": "x"}}))), (1, 0, 0));
}

#[test]
fn a_disruption_that_nobody_goes_on_with_is_taken_back() {
    let targeted = |name: &str, status: &str, reason: &str, seconds: i64| {
        let mut object = json!(&*pod(name));
        let condition = json!({"type": "DisruptionTarget", "status": status, "reason": reason,
            "lastTransitionTime": at(seconds).to_string()});
        object["status"]["conditions"] = json!([condition]);
        Arc::new(serde_json::from_value::<Pod>(object).expect("a Pod"))
    };
    let pods = [
        targeted("late", "True", "EvictionByEvictionAPI", -1),
        targeted("fresh", "True", "EvictionByEvictionAPI", 20),
        targeted("node", "True", "TerminationByKubelet", -999),
        targeted("done", "False", "EvictionByEvictionAPI", -999),
        targeted("dying", "True", "EvictionByEvictionAPI", -999),
        pod("plain"),
    ];
    let (stale, next) = stale(&pods, at(120));
    assert_eq!(stale.iter().map(|pod| pod.name_any()).collect::<Vec<_>>(), ["late"]);
    assert_eq!(next, Next::After(std::time::Duration::from_secs(21)));
}

/// A count, or a percentage.
fn limits() -> impl Strategy<Value = Value> {
    prop_oneof![(0_u8..20).prop_map(|count| json!(count)), (0_u8..=100).prop_map(|share| json!(format!("{share}%")))]
}

proptest! {
    #[test]
    fn a_budget_never_allows_more_than_it_may(
        limit in limits(), is_min in any::<bool>(), ready in 0_usize..12, unready in 0_usize..6, size in 0_i32..12,
    ) {
        let spec = if is_min { json!({"minAvailable": limit}) } else { json!({"maxUnavailable": limit}) };
        let mut pods: Vec<_> = (0..ready).map(|n| pod(&format!("a{n}"))).collect();
        pods.extend((0..unready).map(|n| pod(&format!("u{n}"))));
        let status = plan(&budget(spec, Value::Null), &pods, Ok(sizes(&[size])), at(0)).status;
        let allowed = status.disruptions_allowed.expect("a number");
        let healthy = i32::try_from(ready).expect("few");
        prop_assert!((0..=healthy).contains(&allowed));
        // After as many have gone, as many as must are left.
        let left = f64::from(healthy - allowed);
        let share = |total: i32| match limit.as_str() {
            Some(text) => text.trim_end_matches('%').parse::<f64>().expect("a number") / 100.0 * f64::from(total),
            None => limit.as_f64().expect("a number"),
        };
        if allowed > 0 && is_min {
            prop_assert!(left >= share(size) - 1e-9);
        }
        if allowed > 0 && !is_min {
            prop_assert!(f64::from(size) - left <= share(size).ceil() + 1e-9);
        }
    }
}

async fn make_pod(world: &World, name: &str, owner: Option<&Value>) {
    let mut metadata = json!({"name": name, "labels": {"app": "web"}});
    if let Some(set) = owner {
        metadata["ownerReferences"] = json!([{"apiVersion": set["apiVersion"], "kind": set["kind"], "controller": true,
            "name": set["metadata"]["name"], "uid": set["metadata"]["uid"]}]);
    }
    let spec = json!({"nodeName": "box", "containers": [{"name": "a", "image": "a"}]});
    world.post(PODS, json!({"metadata": metadata, "spec": spec})).await;
    let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    world.merge(&format!("{PODS}/{name}/status"), json!({"status": status})).await;
}

async fn evict(world: &World, name: &str) -> u16 {
    let request = Request::post(format!("{PODS}/{name}/eviction")).header(CONTENT_TYPE, "application/json");
    let body = json!({"metadata": {"name": name}}).to_string().into_bytes();
    match world.client.request::<Value>(request.body(body).expect("a request")).await {
        Ok(_) => 201,
        Err(kube::Error::Api(status)) => status.code,
        Err(error) => panic!("{error}"),
    }
}

async fn driven() -> World {
    let world = World::start().await;
    world.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    let caches = Caches::new(world.client.clone(), world.shutdown.clone());
    let client = world.client_of("disruption-controller");
    let recorder = Recorder::new(client.clone(), "disruption-controller", "");
    let controller = Controller::new(client, recorder, &caches);
    let wake = Wake::on(controller.wakes());
    world.drive(controller, wake);
    world
}

/// A set that its deployment wants larger than it is.
async fn make_set(world: &World) -> Value {
    let labels = json!({"app": "web"});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    let spec = |replicas: i32| json!({"replicas": replicas, "selector": {"matchLabels": labels}, "template": template});
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = world.post(deployments, json!({"metadata": {"name": "web"}, "spec": spec(4)})).await;
    let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "controller": true,
        "uid": deployment["metadata"]["uid"]});
    let set = json!({"metadata": {"name": "web-1", "ownerReferences": [owner]}, "spec": spec(2)});
    world.post("/apis/apps/v1/namespaces/default/replicasets", set).await
}

#[tokio::test]
async fn a_budget_follows_its_pods_and_their_evictions() {
    let world = driven().await;
    let set = make_set(&world).await;
    let spec = json!({"selector": {"matchLabels": {"app": "web"}}, "minAvailable": "50%"});
    world.post(BUDGETS, json!({"metadata": {"name": "web"}, "spec": spec})).await;
    for name in ["a", "b", "c"] {
        make_pod(&world, name, Some(&set)).await;
    }
    let path = format!("{BUDGETS}/web");
    let allows = |count: i64| {
        move |budget: &Value| {
            let status = &budget["status"];
            status["disruptionsAllowed"] == count && status["expectedPods"] == 4 && status["observedGeneration"] == 1
        }
    };
    world.until(&path, allows(1)).await;
    assert_eq!((evict(&world, "a").await, evict(&world, "b").await), (201, 429));
    let counted = |budget: &Value| allows(0)(budget) && budget["status"].get("disruptedPods").is_none();
    world.until(&path, counted).await;
    make_pod(&world, "d", Some(&set)).await;
    world.until(&path, allows(1)).await;
    assert_eq!(evict(&world, "b").await, 201);
}

#[tokio::test]
async fn pods_without_a_scale_fail_their_budget_and_nothing_else() {
    let world = driven().await;
    let map = world.post(crate::testing::MAPS, crate::testing::map("owner", &[])).await;
    make_pod(&world, "odd", Some(&map)).await;
    for (name, limit) in [("share", json!("10%")), ("count", json!(1))] {
        let spec = json!({"selector": {}, "minAvailable": limit});
        world.post(BUDGETS, json!({"metadata": {"name": name}, "spec": spec})).await;
    }
    let why = "configmaps does not implement the scale subresource";
    let says = |reason: &'static str, message: &'static str| {
        move |budget: &Value| {
            let condition = &budget["status"]["conditions"][0];
            condition["reason"] == reason && condition["message"] == message
        }
    };
    world.until(&format!("{BUDGETS}/share"), says("SyncFailed", why)).await;
    world.until(&format!("{BUDGETS}/count"), says("InsufficientPods", "")).await;
    let told = |events: &Value| {
        let failures = events["items"].as_array().into_iter().flatten();
        failures.filter(|event| event["reason"] == "CalculateExpectedPodCountFailed").count() == 1
    };
    world.until("/api/v1/namespaces/default/events", told).await;
}

#[tokio::test]
async fn what_an_eviction_took_is_not_given_back() {
    let world = World::start().await;
    let spec = json!({"selector": {"matchLabels": {"app": "web"}}, "minAvailable": 1});
    let made = world.post(BUDGETS, json!({"metadata": {"name": "web"}, "spec": spec})).await;
    let caches = Caches::new(world.client.clone(), world.shutdown.clone());
    let recorder = Recorder::new(world.client.clone(), "disruption-controller", "");
    let controller = Controller::new(world.client.clone(), recorder, &caches);
    let stale: PodDisruptionBudget = serde_json::from_value(made).expect("a budget");
    let taken = json!({"status": {"disruptedPods": {"a": "2026-01-01T00:00:00Z"}}});
    world.merge(&format!("{BUDGETS}/web/status"), taken).await;
    let status = plan(&stale, &[pod("a"), pod("b")], Ok(sizes(&[])), at(0)).status;
    assert!(!controller.write(&stale, &status).await.expect("no failure"));
    let budget = world.get(&format!("{BUDGETS}/web")).await;
    assert_eq!(
        (budget["status"]["disruptedPods"].get("a").is_some(), &budget["status"]["disruptionsAllowed"]),
        (true, &json!(0))
    );
}
