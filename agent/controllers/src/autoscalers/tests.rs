//! The plan by tables and laws, and an autoscaler of a real API whose pods use much.

use std::convert::Infallible;

use expect_test::{Expect, expect};
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};
use skiff_apiserver::{Body, NodeService};
use skiff_reconcile::Wake;

use super::metrics::{Reading, Sample};
use super::*;
use crate::testing::World;

fn clock() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time")
}

fn autoscaler(spec: Value) -> HorizontalPodAutoscaler {
    let mut all = json!({"minReplicas": 1, "maxReplicas": 10,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "metrics": [{"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 50}}}]});
    for (field, value) in spec.as_object().into_iter().flatten() {
        all[field] = value.clone();
    }
    let metadata = json!({"name": "web", "namespace": "default", "uid": "h", "generation": 1});
    serde_json::from_value(json!({"metadata": metadata, "spec": all})).expect("an autoscaler")
}

/// A pod that has long been ready and requests a processor; `u…` was never ready, `n…` is new, `p…` is pending, `d…` is to
/// go, and `f…` has failed.
fn pod(name: &str) -> Arc<Pod> {
    let first = name.chars().next().unwrap_or('a');
    let (started, changed) = if first == 'n' { (60, 5) } else { (6000, 5990) };
    let at = |ago: i64| (clock() - SignedDuration::from_secs(ago)).to_string();
    let phase = match first {
        'p' => "Pending",
        'f' => "Failed",
        _ => "Running",
    };
    let mut metadata = json!({"name": name, "namespace": "default", "labels": {"app": "web"}});
    if first == 'd' {
        metadata["deletionTimestamp"] = json!(at(1));
    }
    let ready = json!({"type": "Ready", "status": if first == 'u' { "False" } else { "True" }, "lastTransitionTime": at(changed)});
    let status = json!({"phase": phase, "startTime": at(started), "conditions": [ready]});
    let container = json!({"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}});
    let pod = json!({"metadata": metadata, "spec": {"containers": [container]}, "status": status});
    Arc::new(serde_json::from_value(pod).expect("a Pod"))
}

/// Pods as `name=use`, in thousandths; `name` alone does not say.
fn pods(text: &str) -> (Vec<Arc<Pod>>, Reading) {
    let mut samples = metrics::Samples::new();
    let mut pods = Vec::new();
    for part in text.split_whitespace() {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        pods.push(pod(name));
        if let Ok(value) = value.parse() {
            let sample = Sample { value, at: clock(), window: Duration::from_secs(15) };
            samples.insert(name.to_owned(), sample);
        }
    }
    (pods, Reading::Pods(samples))
}

fn shown(plan: &Plan) -> String {
    let rescale = plan.rescale.as_ref().map_or("stays".to_owned(), |(to, why)| format!("to {to}: {why}"));
    let said: Vec<_> = plan.said.iter().map(|said| said.message.as_str()).collect();
    let said = if said.is_empty() { String::new() } else { format!(" | {}", said.join(" | ")) };
    format!("{rescale}{said}")
}

fn planned(spec: Value, wanted: i32, readings: Vec<Result<Reading, String>>, pods: &[Arc<Pod>]) -> Plan {
    let (autoscaler, scale) = (autoscaler(spec), Scale::fixed(wanted, wanted, "app=web"));
    let observed = Observed { autoscaler: &autoscaler, scale: &scale, readings, pods: Ok(pods) };
    plan::plan(observed, &History::default(), clock(), Instant::now())
}

fn check(spec: Value, wanted: i32, uses: &str, expected: Expect) {
    let (pods, reading) = pods(uses);
    expected.assert_eq(&shown(&planned(spec, wanted, vec![Ok(reading)], &pods)));
}

#[tokio::test]
async fn utilization_is_brought_to_its_target() {
    let plain = || json!({});
    check(
        plain(),
        2,
        "a=800 b=800",
        expect![[r#"to 4: cpu resource utilization (percentage of request) above target"#]],
    );
    check(plain(), 2, "a=540 b=540", expect!["stays"]);
    check(plain(), 4, "a=100 b=100 c=100 d1=900", expect!["to 1: All metrics below target"]);
    // Who does not say is taken for what makes the change smaller.
    check(plain(), 3, "a=200 b=200 c", expect!["stays"]);
    check(
        plain(),
        3,
        "a=900 b=900 c",
        expect![[r#"to 4: cpu resource utilization (percentage of request) above target"#]],
    );
    // Who has just started uses nothing if more are wanted, and is nobody if fewer are.
    check(
        plain(),
        3,
        "a=900 b=900 n1=999",
        expect![[r#"to 4: cpu resource utilization (percentage of request) above target"#]],
    );
    check(plain(), 3, "a=100 b=100 p1", expect!["to 1: All metrics below target"]);
    check(plain(), 2, "a=800 u1=1", expect!["stays"]);
    check(plain(), 2, "a=800 f1=5", expect!["stays"]);
    let unknown = expect![[
        r#"stays | failed to get cpu utilization: did not receive metrics for targeted pods (pods might be unready) | invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: failed to get cpu utilization: did not receive metrics for targeted pods (pods might be unready)"#
    ]];
    check(plain(), 1, "a", unknown);
    let none = expect![[
        r#"stays | failed to get cpu utilization: no pods returned by selector while calculating replica count | invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: failed to get cpu utilization: no pods returned by selector while calculating replica count"#
    ]];
    check(plain(), 1, "", none);
    let resource = json!([{"type": "Resource", "resource": {"name": "odd", "target": {"type": "Utilization", "averageUtilization": 50}}}]);
    let missing = expect![[
        r#"stays | failed to get odd utilization: missing request for odd in container c of Pod a | invalid metrics (1 invalid out of 1), first error is: failed to get odd resource metric value: failed to get odd utilization: missing request for odd in container c of Pod a"#
    ]];
    check(json!({"metrics": resource}), 1, "a=1", missing);
    let tolerant = json!({"behavior": {"scaleUp": {"tolerance": "0.7", "policies": [{"type": "Pods", "value": 9, "periodSeconds": 9}]}}});
    check(tolerant, 2, "a=800 b=800", expect!["stays"]);
}

#[tokio::test]
async fn bounds_come_before_metrics() {
    let told = |spec: Value, wanted: i32| {
        let plan = planned(spec, wanted, Vec::new(), &[]);
        let scale = Scale::fixed(wanted, wanted, "");
        let status = status::status(&autoscaler(json!({})), Some(&scale), plan.conditions.clone(), None, Outcome::Kept);
        let reasons = status.conditions.unwrap_or_default();
        let reasons: Vec<_> =
            reasons.iter().map(|c| format!("{}={}", c.type_, c.reason.clone().unwrap_or_default())).collect();
        format!("{} {}", shown(&plan), reasons.join(" "))
    };
    let above = expect!["to 10: Current number of replicas above Spec.MaxReplicas AbleToScale=SucceededGetScale"];
    above.assert_eq(&told(json!({}), 12));
    let below = expect!["to 3: Current number of replicas below Spec.MinReplicas AbleToScale=SucceededGetScale"];
    below.assert_eq(&told(json!({"minReplicas": 3}), 2));
    let off = expect!["stays AbleToScale=SucceededGetScale ScalingActive=ScalingDisabled"];
    off.assert_eq(&told(json!({}), 0));
}

#[tokio::test]
async fn what_is_not_of_resources_is_counted_by_its_target() {
    let metric = json!({"name": "queue", "selector": {"matchLabels": {"q": "a"}}});
    let object = json!({"kind": "Service", "name": "s"});
    let case = |metrics: Value, wanted: i32, reading: Reading, expected: Expect| {
        let (pods, _) = pods("a b u1");
        let plan = planned(json!({"metrics": [metrics]}), wanted, vec![Ok(reading)], &pods);
        let current = plan.metrics.as_ref().map(|metrics| json!(metrics[0])).unwrap_or_default();
        let current = current.as_object().into_iter().flatten().find_map(|(_, value)| value.get("current")).cloned();
        expected.assert_eq(&format!("{} {}", shown(&plan), current.unwrap_or_default()));
    };
    let external = |target: Value| json!({"type": "External", "external": {"metric": metric, "target": target}});
    let expected = expect![[r#"to 4: external metric queue(q=a) above target {"value":"20"}"#]];
    case(external(json!({"type": "Value", "value": "10"})), 2, Reading::Whole(20_000), expected);
    let expected = expect![[r#"to 4: external metric queue(q=a) above target {"averageValue":"10"}"#]];
    case(external(json!({"type": "AverageValue", "averageValue": "4"})), 2, Reading::Whole(20_000), expected);
    let of_object = |target: Value| json!({"type": "Object", "object": {"metric": metric, "describedObject": object, "target": target}});
    let expected = expect![[r#"to 1: All metrics below target {"value":"1"}"#]];
    case(of_object(json!({"type": "Value", "value": "10"})), 3, Reading::Whole(1_000), expected);
    let (_, reading) = pods("a=3000 b=5000 u1=1000");
    let of_pods =
        json!({"type": "Pods", "pods": {"metric": metric, "target": {"type": "AverageValue", "averageValue": "1"}}});
    let expected = expect![[r#"to 6: pods metric queue above target {"averageValue":"3"}"#]];
    case(of_pods, 3, reading, expected);
}

#[tokio::test]
async fn where_one_metric_is_unknown_nothing_is_taken_away() {
    let metrics = |second: &str| {
        let resource = |name: &str| json!({"type": "Resource", "resource": {"name": name, "target": {"type": "Utilization", "averageUtilization": 50}}});
        json!({"metrics": [resource("cpu"), resource(second)]})
    };
    let case = |uses: &str, expected: Expect| {
        let (pods, reading) = pods(uses);
        let plan = planned(metrics("memory"), 2, vec![Ok(reading), Err("silence".to_owned())], &pods);
        expected.assert_eq(&shown(&plan));
    };
    case(
        "a=900 b=900",
        expect![
            "to 4: cpu resource utilization (percentage of request) above target | failed to get memory utilization: silence"
        ],
    );
    case(
        "a=100 b=100",
        expect![
            "stays | failed to get memory utilization: silence | invalid metrics (1 invalid out of 2), first error is: failed to get memory resource metric value: failed to get memory utilization: silence"
        ],
    );
}

/// Plays `wishes` through, one each 15 seconds, from `current`, and returns what became of each.
async fn played(spec: Value, mut current: i32, wishes: &[i32]) -> Vec<i32> {
    let (autoscaler, mut history, mut out) = (autoscaler(spec), History::default(), Vec::new());
    for wish in wishes {
        let now = Instant::now();
        history.begin(current, now);
        let bounds = pace::Bounds { current, min: plan::min(&autoscaler), max: 10 };
        let paced = pace::paced(&autoscaler, bounds, *wish, &history, now);
        history.recommended(*wish, now);
        if paced.replicas != current {
            history.changed(paced.replicas - current, now);
        }
        current = paced.replicas;
        out.push(current);
        tokio::time::advance(PERIOD).await;
    }
    out
}

#[tokio::test(start_paused = true)]
async fn a_number_changes_no_faster_than_it_may() {
    let down = |more: Value| {
        let mut rules = json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max",
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]});
        for (field, value) in more.as_object().into_iter().flatten() {
            rules[field] = value.clone();
        }
        rules
    };
    // Without rules: at most twice as many, and fewer after five minutes.
    assert_eq!(played(json!({}), 1, &[10, 10, 10]).await, [4, 8, 10]);
    let wishes: Vec<i32> = [8].into_iter().chain([2; 22]).collect();
    let became = played(json!({}), 8, &wishes).await;
    assert_eq!((became[19], became[22]), (8, 2), "{became:?}");
    // One pod less a minute.
    let slowly = json!({"scaleDown": down(json!({"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]})), "scaleUp": {}});
    assert_eq!(played(json!({"behavior": slowly}), 6, &[1; 6]).await, [5, 5, 5, 5, 4, 4]);
    let policies = json!([{"type": "Pods", "value": 1, "periodSeconds": 15}, {"type": "Percent", "value": 50, "periodSeconds": 15}]);
    let of =
        |select: &str| json!({"behavior": {"scaleDown": down(json!({"policies": policies, "selectPolicy": select}))}});
    assert_eq!(played(of("Max"), 8, &[1, 1, 1]).await, [4, 2, 1]);
    assert_eq!(played(of("Min"), 8, &[1, 1, 1]).await, [7, 6, 5]);
    assert_eq!(played(of("Disabled"), 8, &[1, 1, 1]).await, [8, 8, 8]);
    // More only after a minute in which no less was asked for.
    let steady = json!({"behavior": {"scaleUp": {"stabilizationWindowSeconds": 60, "policies": [{"type": "Pods", "value": 9, "periodSeconds": 15}]}}});
    assert_eq!(played(steady, 2, &[5, 5, 5, 5, 5]).await, [2, 2, 2, 2, 5]);
    assert_eq!(
        played(json!({"behavior": {"scaleUp": {}, "scaleDown": {}}}), 5, &[9, 1]).await,
        [5, 5],
        "no policy, no change"
    );
}

fn rules() -> impl Strategy<Value = Value> {
    let policy = (any::<bool>(), 1_i32..200, 1_i32..1800)
        .prop_map(|(pods, value, period)| json!({"type": if pods { "Pods" } else { "Percent" }, "value": value, "periodSeconds": period}));
    let select = prop::sample::select(vec!["Max", "Min", "Disabled"]);
    (prop::collection::vec(policy, 0..3), select, 0_i32..3600).prop_map(|(policies, select, window)| {
        json!({"policies": policies, "selectPolicy": select, "stabilizationWindowSeconds": window})
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_answer_stays_within_its_bounds_and_its_rate(
        up in rules(), down in rules(), has_rules in any::<bool>(), start in 1_i32..=10,
        wishes in prop::collection::vec(prop_oneof![0_i32..20, Just(i32::MAX)], 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let spec = if has_rules { json!({"behavior": {"scaleUp": up, "scaleDown": down}}) } else { json!({}) };
        let became = runtime.block_on(played(spec, start, &wishes));
        let before = |at: usize| if at == 0 { start } else { became[at - 1] };
        for (at, count) in became.iter().enumerate() {
            prop_assert!((1..=10).contains(count), "{became:?}");
            let steps = |rules: &Value, is_up: bool| {
                let limits: Vec<i32> = rules["policies"].as_array().into_iter().flatten().map(|policy| {
                    // What it was when the longest stretch of looks within the period began.
                    let looks = usize::try_from((policy["periodSeconds"].as_i64().unwrap_or(0) - 1) / 15).unwrap_or(0);
                    let then = f64::from(before(at.saturating_sub(looks)));
                    let value = policy["value"].as_f64().unwrap_or(0.0);
                    let change = if policy["type"] == "Pods" { value } else { then * value / 100.0 };
                    if is_up { (then + change).ceil() as i32 } else { (then - change) as i32 }
                }).collect();
                limits
            };
            if has_rules && *count > before(at) {
                prop_assert!(up["selectPolicy"] != "Disabled");
                prop_assert!(steps(&up, true).iter().any(|limit| count <= limit), "{at} {became:?} {up}");
            }
            if has_rules && *count < before(at) {
                prop_assert!(down["selectPolicy"] != "Disabled");
                prop_assert!(steps(&down, false).iter().any(|limit| count >= limit), "{at} {became:?} {down}");
            }
            if !has_rules {
                prop_assert!(*count <= (before(at) * 2).max(4));
            }
        }
    }

    #[test]
    fn no_metric_makes_a_number_out_of_bounds(
        uses in prop::collection::vec(prop_oneof![0_i64..5_000, Just(i64::MAX)], 0..6), silent in 0_usize..4,
        target in 1_i32..200, wanted in 1_i32..=10,
    ) {
        let text: String = uses.iter().enumerate().map(|(n, value)| format!("a{n}={value} ")).collect();
        let silence: String = (0..silent).map(|n| format!("s{n} n{n} p{n} ")).collect();
        let (pods, reading) = pods(&format!("{text}{silence}"));
        let metrics = json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": target}}}]);
        let plan = planned(json!({"metrics": metrics}), wanted, vec![Ok(reading)], &pods);
        if let Some((to, _)) = plan.rescale {
            prop_assert!((1..=10).contains(&to) && to != wanted, "{to}");
        }
    }
}

/// A node whose only container uses one and a half processors.
struct Busy {
    uid: String,
    since: std::time::Instant,
}

impl NodeService for Busy {
    fn call(&self, _: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
        let used = u64::try_from(self.since.elapsed().as_nanos()).expect("not for long") / 2 * 3;
        let cpu = json!({"usageCoreNanoSeconds": used});
        let container = json!({"name": "c", "cpu": cpu, "memory": {"workingSetBytes": 1_048_576}});
        let pods = json!([{"podRef": {"uid": self.uid}, "containers": [container]}]);
        let summary = json!({"node": {"cpu": cpu}, "pods": pods}).to_string();
        let body = Full::from(summary).map_err(|never| match never {}).boxed();
        Box::pin(async move { Ok(Response::new(body)) })
    }
}

const AUTOSCALERS: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

/// A deployment with one pod, whose uid is returned.
async fn make_deployment(world: &World, replicas: i32) -> String {
    let labels = json!({"app": "web"});
    let container = json!({"name": "c", "image": "a", "resources": {"requests": {"cpu": "1"}}});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    let spec = json!({"replicas": replicas, "selector": {"matchLabels": labels}, "template": template});
    world.post(DEPLOYMENTS, json!({"metadata": {"name": "web"}, "spec": spec})).await;
    let pod =
        json!({"metadata": {"name": "a", "labels": labels}, "spec": {"nodeName": "box", "containers": [container]}});
    world.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    let made = world.post("/api/v1/namespaces/default/pods", pod).await;
    let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:10Z"});
    let status = json!({"phase": "Running", "startTime": "2026-01-01T00:00:00Z", "conditions": [ready]});
    world.merge("/api/v1/namespaces/default/pods/a/status", json!({"status": status})).await;
    made["metadata"]["uid"].as_str().expect("a uid").to_owned()
}

fn drive(world: &World) {
    let caches = Caches::new(world.client.clone(), world.shutdown.clone());
    let client = world.client_of("horizontal-pod-autoscaler");
    let recorder = Recorder::new(client.clone(), "horizontal-pod-autoscaler", "");
    let controller = Controller::new(client, recorder, &caches);
    let wake = Wake::on(controller.wakes());
    world.drive(controller, wake);
}

fn has(ty: &'static str, reason: &'static str) -> impl Fn(&Value) -> bool {
    move |autoscaler: &Value| {
        let conditions = autoscaler["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|condition| condition["type"] == ty && condition["reason"] == reason)
    }
}

#[tokio::test]
async fn a_target_is_scaled_through_its_scale() {
    let world = World::start().await;
    let uid = make_deployment(&world, 1).await;
    world.connect_node("box", Arc::new(Busy { uid, since: std::time::Instant::now() }));
    drive(&world);
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    // Two, however busy this machine is with something else.
    let spec = json!({"maxReplicas": 2, "scaleTargetRef": target});
    world.post(AUTOSCALERS, json!({"metadata": {"name": "web"}, "spec": spec})).await;
    let path = format!("{AUTOSCALERS}/web");
    let scaled = world.until(&path, |autoscaler| autoscaler["status"]["desiredReplicas"] == 2).await;
    assert_eq!(world.get(&format!("{DEPLOYMENTS}/web")).await["spec"]["replicas"], 2);
    let status = &scaled["status"];
    assert!(status["lastScaleTime"].is_string() && has("AbleToScale", "SucceededRescale")(&scaled), "{status}");
    let current = &status["currentMetrics"][0]["resource"]["current"];
    assert!(current["averageUtilization"].as_i64().is_some_and(|percent| percent > 100), "{status}");
    let told = |events: &Value| {
        let events = events["items"].as_array().into_iter().flatten();
        let message = "New size: 2; reason: cpu resource utilization (percentage of request) above target";
        events.into_iter().any(|event| event["reason"] == "SuccessfulRescale" && event["message"] == message)
    };
    world.until("/api/v1/namespaces/default/events", told).await;
    // Another spec is looked at at once.
    world.merge(&path, json!({"spec": {"minReplicas": 3, "maxReplicas": 3}})).await;
    world.until(&format!("{DEPLOYMENTS}/web"), |deployment| deployment["spec"]["replicas"] == 3).await;
}

#[tokio::test]
async fn what_cannot_be_known_is_said_and_changes_nothing() {
    let world = World::start().await;
    make_deployment(&world, 1).await;
    drive(&world);
    let target = |kind: &str, name: &str| json!({"apiVersion": "apps/v1", "kind": kind, "name": name});
    let metric = |kind: &str, field: &str, source: Value| json!([{"type": kind, field: source}]);
    let identifier = json!({"name": "queue"});
    let average = json!({"type": "AverageValue", "averageValue": "1"});
    let of_pods = metric("Pods", "pods", json!({"metric": identifier, "target": average}));
    let outside = metric("External", "external", json!({"metric": identifier, "target": average}));
    let make = async |name: &str, target: Value, metrics: Value| {
        let spec = json!({"maxReplicas": 3, "scaleTargetRef": target, "metrics": metrics});
        world.post(AUTOSCALERS, json!({"metadata": {"name": name}, "spec": spec})).await;
        format!("{AUTOSCALERS}/{name}")
    };
    let gone = make("gone", target("Deployment", "gone"), Value::Null).await;
    let found = world.until(&gone, has("AbleToScale", "FailedGetScale")).await;
    let why = r#"the HPA controller was unable to get the target's current scale: deployments.apps "gone" not found"#;
    assert_eq!(found["status"]["conditions"][0]["message"], why);
    for (name, metrics, reason) in [
        ("plain", Value::Null, "FailedGetResourceMetric"),
        ("pods", of_pods, "FailedGetPodsMetric"),
        ("outside", outside, "FailedGetExternalMetric"),
    ] {
        let path = make(name, target("Deployment", "web"), metrics).await;
        world.until(&path, has("ScalingActive", reason)).await;
        world.delete(&path, "Background").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(world.get(&format!("{DEPLOYMENTS}/web")).await["spec"]["replicas"], 1);
}

#[tokio::test]
async fn pods_of_two_autoscalers_are_scaled_by_neither() {
    let world = World::start().await;
    make_deployment(&world, 1).await;
    let client = world.client.clone();
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    for name in ["one", "two"] {
        let spec = json!({"maxReplicas": 3, "scaleTargetRef": target});
        world.post(AUTOSCALERS, json!({"metadata": {"name": name}, "spec": spec})).await;
    }
    let caches = Caches::new(world.client.clone(), world.shutdown.clone());
    let recorder = Recorder::new(client.clone(), "horizontal-pod-autoscaler", "");
    let mut controller = Controller::new(client, recorder, &caches);
    controller.reconcile().await.expect("no failure");
    let (first, now) = (controller.autoscalers.list()[0].clone(), Instant::now());
    controller.look(&first, now).await.expect("no failure");
    let found = world.get(&format!("{AUTOSCALERS}/{}", first.name_any())).await;
    assert!(has("ScalingActive", "AmbiguousSelector")(&found), "{found}");
}
