//! Evictions: what a disruption budget has is given once, and what needs none goes without.

use super::*;

const PODS: &str = "/api/v1/namespaces/default/pods";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

/// How a pod is, as its node says it.
#[derive(Clone, Copy)]
enum State {
    Pending,
    Ready,
    NotReady,
    Ended,
}

async fn server() -> Server {
    let server = Server::start().await;
    server.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    server
}

impl Server {
    async fn make_pod(&self, name: &str, state: State) {
        let spec = json!({"nodeName": "box", "containers": [{"name": "c", "image": "localhost/c:1"}]});
        let pod = json!({"metadata": {"name": name, "labels": {"app": "web"}}, "spec": spec});
        let (code, made) = self.post(PODS, pod).await;
        assert_eq!(code, StatusCode::CREATED, "{made}");
        let (phase, ready) = match state {
            State::Pending => ("Pending", "False"),
            State::Ready => ("Running", "True"),
            State::NotReady => ("Running", "False"),
            State::Ended => ("Succeeded", "False"),
        };
        let conditions = json!([{"type": "Ready", "status": ready}]);
        let status = json!({"status": {"phase": phase, "conditions": conditions}});
        assert_eq!(self.merge(&format!("{PODS}/{name}/status"), status).await.0, StatusCode::OK);
    }

    /// A budget as its controller leaves it.
    async fn make_budget(&self, name: &str, spec: Value, status: Value) {
        let (code, made) = self.post(BUDGETS, json!({"metadata": {"name": name}, "spec": spec})).await;
        assert_eq!(code, StatusCode::CREATED, "{made}");
        let mut status = status;
        status["observedGeneration"] = json!(1);
        let (code, made) = self.merge(&format!("{BUDGETS}/{name}/status"), json!({"status": status})).await;
        assert_eq!(code, StatusCode::OK, "{made}");
    }

    async fn evict(&self, name: &str) -> (StatusCode, Value) {
        self.post(&format!("{PODS}/{name}/eviction"), json!({"metadata": {"name": name}})).await
    }

    async fn is_going(&self, name: &str) -> bool {
        let (code, pod) = self.get(&format!("{PODS}/{name}")).await;
        code == StatusCode::NOT_FOUND || pod["metadata"].get("deletionTimestamp").is_some()
    }
}

fn of_web(more: Value) -> Value {
    let mut spec = json!({"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    spec
}

fn status(allowed: i64, healthy: i64, wanted: i64) -> Value {
    json!({"disruptionsAllowed": allowed, "currentHealthy": healthy, "desiredHealthy": wanted, "expectedPods": healthy,
        "conditions": [{"type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
}

#[tokio::test]
async fn what_a_budget_has_is_taken_and_noted() {
    let server = server().await;
    for name in ["a", "b"] {
        server.make_pod(name, State::Ready).await;
    }
    server.make_budget("web", of_web(json!({})), status(1, 2, 1)).await;
    let dry = json!({"metadata": {"name": "a"}, "deleteOptions": {"dryRun": ["All"]}});
    assert_eq!(server.post(&format!("{PODS}/a/eviction"), dry).await.0, StatusCode::CREATED);
    assert!(!server.is_going("a").await, "only tried");
    let (code, answer) = server.evict("a").await;
    assert_eq!((code, &answer["status"]), (StatusCode::CREATED, &json!("Success")), "{answer}");
    let (_, pod) = server.get(&format!("{PODS}/a")).await;
    let target = pod["status"]["conditions"].as_array().and_then(|all| all.last()).expect("a condition");
    assert_eq!((&target["type"], &target["reason"]), (&json!("DisruptionTarget"), &json!("EvictionByEvictionAPI")));
    let (_, budget) = server.get(&format!("{BUDGETS}/web")).await;
    let status = &budget["status"];
    assert_eq!((&status["disruptionsAllowed"], status["disruptedPods"].get("a").is_some()), (&json!(0), true));
    assert_eq!(status["conditions"][0]["reason"], "InsufficientPods");
    let refused = server.evict("b").await;
    check_error(
        &refused,
        expect![[r#"429 "TooManyRequests": "Cannot evict pod as it would violate the pod's disruption budget.""#]],
    );
    let cause = "The disruption budget web needs 1 healthy pods and has 2 currently";
    let causes = json!([{"reason": "DisruptionBudget", "message": cause}]);
    assert_eq!(refused.1["details"], json!({"causes": causes}), "clients would wait in silence for a time");
    assert!(!server.is_going("b").await);
    // On its way already, it needs nothing.
    assert_eq!(server.evict("a").await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn a_budget_that_is_not_counted_yet_gives_nothing() {
    let server = server().await;
    server.make_pod("a", State::Ready).await;
    server.make_budget("web", of_web(json!({})), status(1, 2, 1)).await;
    server.merge(&format!("{BUDGETS}/web"), json!({"spec": {"minAvailable": 2}})).await;
    let (code, answer) = server.evict("a").await;
    assert_eq!((code, &answer["details"]["retryAfterSeconds"]), (StatusCode::TOO_MANY_REQUESTS, &json!(10)));
    let failed = json!({"observedGeneration": 2, "disruptionsAllowed": 0, "conditions": [{"type": "DisruptionAllowed",
        "status": "False", "reason": "SyncFailed", "message": "who knows", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    server.merge(&format!("{BUDGETS}/web/status"), json!({"status": failed})).await;
    let (_, answer) = server.evict("a").await;
    let cause = &answer["details"]["causes"][0]["message"];
    let why = "The disruption budget web does not allow evicting pods currently because it failed sync: who knows";
    assert_eq!(cause, why);
}

#[tokio::test]
async fn what_ended_or_never_ran_needs_no_budget_and_several_are_refused() {
    let server = server().await;
    server.make_budget("web", of_web(json!({})), status(0, 0, 1)).await;
    server.make_budget("all", json!({"selector": {}, "maxUnavailable": 0}), status(0, 0, 1)).await;
    server.make_budget("none", json!({"maxUnavailable": 0}), status(0, 0, 1)).await;
    for (name, state) in [("pending", State::Pending), ("ended", State::Ended)] {
        server.make_pod(name, state).await;
        assert_eq!(server.evict(name).await.0, StatusCode::CREATED);
        assert!(server.is_going(name).await, "{name}");
    }
    server.make_pod("two", State::Ready).await;
    let (code, answer) = server.evict("two").await;
    assert_eq!((code, answer.get("reason")), (StatusCode::INTERNAL_SERVER_ERROR, None), "{answer}");
    assert!(answer["message"].as_str().is_some_and(|why| why.contains("more than one PodDisruptionBudget")));
    let other = json!({"metadata": {"name": "another"}});
    assert_eq!(server.post(&format!("{PODS}/two/eviction"), other).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn pods_that_are_not_ready_go_as_their_budget_says() {
    let server = server().await;
    let check = async |name: &str, policy: Value, (allowed, healthy, wanted): (i64, i64, i64), goes: bool| {
        server.make_pod(name, State::NotReady).await;
        let spec = of_web(json!({"unhealthyPodEvictionPolicy": policy}));
        server.make_budget("web", spec, status(allowed, healthy, wanted)).await;
        let (code, answer) = server.evict(name).await;
        assert_eq!((code == StatusCode::CREATED, server.is_going(name).await), (goes, goes), "{name} {answer}");
        let (_, budget) = server.get(&format!("{BUDGETS}/web")).await;
        let left = budget["status"]["disruptionsAllowed"].as_i64();
        server.delete(&format!("{BUDGETS}/web"), json!({})).await;
        server.delete(&format!("{PODS}/{name}"), json!({"gracePeriodSeconds": 0})).await;
        left
    };
    assert_eq!(check("a", Value::Null, (0, 1, 1), true).await, Some(0), "enough others are healthy");
    assert_eq!(check("b", json!("IfHealthyBudget"), (0, 1, 2), false).await, Some(0));
    assert_eq!(check("c", json!("AlwaysAllow"), (0, 0, 2), true).await, Some(0));
    assert_eq!(check("d", json!("IfHealthyBudget"), (1, 0, 0), true).await, Some(0), "it takes what there is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_evictions_on_several_servers_get_no_more_than_there_is() {
    let server = std::sync::Arc::new(server().await);
    for n in 0..16 {
        server.make_pod(&format!("p{n}"), State::Ready).await;
    }
    server.make_budget("web", of_web(json!({})), status(5, 16, 11)).await;
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let api = if n % 2 == 0 { server.api.clone() } else { server.second.clone() };
            let (user, name) = (server.user.clone(), format!("p{n}"));
            tokio::spawn(async move {
                let request =
                    Request::post(format!("{PODS}/{name}/eviction")).header("content-type", "application/json");
                let body = json!({"metadata": {"name": name}}).to_string();
                let request = request.body(body::full(body)).expect("a request");
                read(api.handle(user, request).await).await.0
            })
        })
        .collect();
    let mut codes = Vec::new();
    for task in tasks {
        codes.push(task.await.expect("no panic"));
    }
    let count = |code: StatusCode| codes.iter().filter(|other| **other == code).count();
    assert_eq!((count(StatusCode::CREATED), count(StatusCode::TOO_MANY_REQUESTS)), (5, 11), "{codes:?}");
    let (_, budget) = server.get(&format!("{BUDGETS}/web")).await;
    let going = budget["status"]["disruptedPods"].as_object().map(|going| going.len());
    assert_eq!((&budget["status"]["disruptionsAllowed"], going), (&json!(0), Some(5)));
}
