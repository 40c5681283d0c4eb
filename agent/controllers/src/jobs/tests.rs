//! What a plan does of a job, its laws under crashes, and whole jobs over a real API with a node that is played.

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::JobSpec;
use serde_json::{Value, json};
use skiff_reconcile::Wake;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::testing::World;

mod laws;

const NOW: &str = "2026-01-01T12:00:00Z";
const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

fn with(mut value: Value, more: &Value) -> Value {
    match (&mut value, more) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, more) in new {
                let old = old.entry(key.clone()).or_insert(Value::Null);
                *old = with(old.take(), more);
            }
        }
        (value, more) => *value = more.clone(),
    }
    value
}

fn job(more: &Value) -> Job {
    let plain = json!({
        "metadata": {"name": "sum", "namespace": "default", "uid": "job", "generation": 1},
        "spec": {"parallelism": 2, "completions": 3, "backoffLimit": 6, "selector": {"matchLabels": {"job": "sum"}},
            "template": {"metadata": {"labels": {"job": "sum"}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "a"}]}}},
        "status": {"startTime": "2026-01-01T11:00:00Z"},
    });
    serde_json::from_value(with(plain, more)).expect("a Job")
}

fn indexed(more: &Value) -> Job {
    job(&with(json!({"spec": {"completionMode": "Indexed"}}), more))
}

/// `name:state`, with `@index`, `#failures` before it, `-` without a finalizer, `!` to go. The state is the first letter of
/// the phase; `W` runs and is ready. Pods that ended did so a second ago.
fn pod(text: &str) -> Arc<Pod> {
    let (name, state) = text.split_once(':').expect("a state");
    let after = |mark: char| {
        let rest = &state[state.find(mark)? + 1..];
        Some(rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().to_owned())
    };
    let phase = match &state[..1] {
        "P" => "Pending",
        "S" => "Succeeded",
        "F" => "Failed",
        _ => "Running",
    };
    let owner = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "sum", "uid": "job", "controller": true}]);
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"job": "sum"},
            "creationTimestamp": "2026-01-01T11:00:00Z", "ownerReferences": owner, "annotations": {}},
        "spec": {"nodeName": "box", "containers": []},
        "status": {"phase": phase, "containerStatuses": [{"name": "a", "image": "", "imageID": "", "ready": false,
            "restartCount": 0}]},
    });
    if !state.contains('-') {
        pod["metadata"]["finalizers"] = json!([FINALIZER]);
    }
    if state.contains('!') {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T12:00:29Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    }
    if state.starts_with('W') {
        pod["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    }
    if matches!(phase, "Succeeded" | "Failed") {
        let exit = if phase == "Failed" { 42 } else { 0 };
        pod["status"]["containerStatuses"][0]["state"] =
            json!({"terminated": {"exitCode": exit, "finishedAt": "2026-01-01T11:59:59Z"}});
    }
    if let Some(index) = after('@') {
        pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"] = json!(index);
    }
    if let Some(failures) = after('#') {
        pod["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"] = json!(failures);
    }
    Arc::new(serde_json::from_value(pod).expect("a Pod"))
}

fn plan_of(job: &Job, pods: &[Arc<Pod>], unseen: usize, endings: &Endings, now: Timestamp) -> Plan {
    let spec: &JobSpec = job.spec.as_ref().expect("a spec");
    plan(&Observed { job, spec, pods, unseen, leaving: HashSet::new(), endings }, now)
}

fn names<'a>(pods: impl IntoIterator<Item = &'a Arc<Pod>>) -> String {
    pods.into_iter().map(|pod| pod.name_any()).collect::<Vec<_>>().join(" ")
}

/// A plan in a few lines: what is done, and what the status says then.
fn told(plan: &Plan) -> String {
    let mut told = String::new();
    let mut line = |name: &str, text: String| {
        if !text.is_empty() {
            let _ = writeln!(told, "{name} {text}");
        }
    };
    let place = |place: &Option<Place>| match place {
        None => "a pod".to_owned(),
        Some(Place { index, history: None }) => format!("{index}"),
        Some(Place { index, history: Some(history) }) => format!("{index}#{}+{}", history.failures, history.ignored),
    };
    line("adopt", names(&plan.adopt));
    line("release", names(&plan.release));
    line("create", plan.create.iter().map(place).collect::<Vec<_>>().join(", "));
    let (withdrawn, stopped): (Vec<_>, Vec<_>) =
        plan.remove.iter().partition(|removal| matches!(removal, Removal::Withdraw(_)));
    line("withdraw", names(withdrawn.into_iter().map(Removal::pod)));
    line("stop", names(stopped.into_iter().map(Removal::pod)));
    line("let go", names(&plan.let_go));
    let mut status = serde_json::to_value(&plan.status).expect("JSON");
    let conditions = status.as_object_mut().and_then(|status| status.remove("conditions"));
    for condition in conditions.as_ref().and_then(Value::as_array).into_iter().flatten() {
        let part = |name: &str| condition[name].as_str().unwrap_or_default().to_owned();
        line("condition", format!("{}={} {}: {}", part("type"), part("status"), part("reason"), part("message")));
    }
    line("status", status.to_string());
    for news in &plan.news {
        line("news", format!("{:?} {}: {}", news.kind, news.reason, news.message));
    }
    if let Next::After(left) = plan.next {
        line("next", format!("{left:?}"));
    }
    told
}

fn check(job: &Job, pods: &[&str], expected: Expect) {
    let pods: Vec<_> = pods.iter().map(|text| pod(text)).collect();
    expected.assert_eq(&told(&plan_of(job, &pods, 0, &Endings::default(), now())));
}

#[test]
fn a_job_begins() {
    check(
        &job(&json!({"status": null})),
        &[],
        expect![[r#"
        create a pod, a pod
        status {"ready":0,"startTime":"2026-01-01T12:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
    "#]],
    );
    check(
        &job(&json!({"status": null, "spec": {"suspend": true}})),
        &[],
        expect![[r#"
        condition Suspended=True JobSuspended: Job suspended
        status {"ready":0,"terminating":0,"uncountedTerminatedPods":{}}
        news Normal Suspended: Job suspended
    "#]],
    );
    check(
        &indexed(&json!({})),
        &["a:R@1"],
        expect![[r#"
        create 0
        status {"active":1,"ready":0,"startTime":"2026-01-01T11:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
    "#]],
    );
    check(
        &job(&json!({"spec": {"completions": null, "parallelism": 3}})),
        &["a:P"],
        expect![[r#"
        create a pod, a pod
        status {"active":1,"ready":0,"startTime":"2026-01-01T11:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
    "#]],
    );
    check(
        &job(&json!({"spec": {"completions": 0}})),
        &[],
        expect![[r#"
        condition SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods
        condition Complete=True CompletionsReached: Reached expected number of succeeded pods
        status {"completionTime":"2026-01-01T12:00:00Z","ready":0,"startTime":"2026-01-01T11:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
        news Normal Completed: Job completed
    "#]],
    );
    check(
        &job(&json!({"spec": {"parallelism": 0}})),
        &["a:R"],
        expect![[r#"
        withdraw a
        status {"ready":0,"startTime":"2026-01-01T11:00:00Z","terminating":1,"uncountedTerminatedPods":{}}
    "#]],
    );
}

#[test]
fn ends_are_written_down_before_pods_are_let_go_and_counted_after() {
    check(
        &job(&json!({})),
        &["a:S", "b:F", "c:W"],
        expect![[r#"
        let go a b
        status {"active":1,"ready":1,"startTime":"2026-01-01T11:00:00Z","terminating":0,"uncountedTerminatedPods":{"failed":["b"],"succeeded":["a"]}}
        next 9s
    "#]],
    );
    let written = json!({"status": {"uncountedTerminatedPods": {"succeeded": ["a"], "failed": ["b"]}}});
    check(
        &job(&written),
        &["a:S", "b:F-", "c:W"],
        expect![[r#"
        let go a
        status {"active":1,"failed":1,"ready":1,"startTime":"2026-01-01T11:00:00Z","terminating":0,"uncountedTerminatedPods":{"succeeded":["a"]}}
        next 9s
    "#]],
    );
    check(
        &indexed(&json!({})),
        &["a:S@0", "b:F@1", "c:S@9", "d:S"],
        expect![[r#"
        create 1, 2
        let go a b c d
        status {"completedIndexes":"0","ready":0,"startTime":"2026-01-01T11:00:00Z","succeeded":1,"terminating":0,"uncountedTerminatedPods":{"failed":["b"]}}
    "#]],
    );
}

#[test]
fn a_job_is_complete_when_nothing_of_it_is_left() {
    let written = json!({"status": {"succeeded": 2, "uncountedTerminatedPods": {"succeeded": ["c"]}}});
    check(
        &job(&written),
        &["c:S"],
        expect![[r#"
        let go c
        condition SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods
        status {"ready":0,"startTime":"2026-01-01T11:00:00Z","succeeded":2,"terminating":0,"uncountedTerminatedPods":{"succeeded":["c"]}}
    "#]],
    );
    check(
        &job(&written),
        &["c:S-", "d:R!-"],
        expect![[r#"
        condition SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods
        status {"ready":0,"startTime":"2026-01-01T11:00:00Z","succeeded":3,"terminating":1,"uncountedTerminatedPods":{}}
    "#]],
    );
    check(
        &job(&written),
        &["c:S-", "d:R"],
        expect![[r#"
        withdraw d
        status {"ready":0,"startTime":"2026-01-01T11:00:00Z","succeeded":3,"terminating":1,"uncountedTerminatedPods":{}}
    "#]],
    );
    check(
        &job(&written),
        &["c:S-"],
        expect![[r#"
        condition SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods
        condition Complete=True CompletionsReached: Reached expected number of succeeded pods
        status {"completionTime":"2026-01-01T12:00:00Z","ready":0,"startTime":"2026-01-01T11:00:00Z","succeeded":3,"terminating":0,"uncountedTerminatedPods":{}}
        news Normal Completed: Job completed
    "#]],
    );
    let queue = json!({"spec": {"completions": null}, "status": {"succeeded": 1}});
    check(
        &job(&queue),
        &["a:S-", "b:R"],
        expect![[r#"
        status {"active":1,"ready":0,"startTime":"2026-01-01T11:00:00Z","succeeded":1,"terminating":0,"uncountedTerminatedPods":{}}
    "#]],
    );
    check(
        &job(&queue),
        &["a:S-"],
        expect![[r#"
        condition SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods
        condition Complete=True CompletionsReached: Reached expected number of succeeded pods
        status {"completionTime":"2026-01-01T12:00:00Z","ready":0,"startTime":"2026-01-01T11:00:00Z","succeeded":1,"terminating":0,"uncountedTerminatedPods":{}}
        news Normal Completed: Job completed
    "#]],
    );
}

#[test]
fn a_job_fails() {
    check(
        &job(&json!({"spec": {"backoffLimit": 0}})),
        &["a:F", "b:R"],
        expect![[r#"
        stop b
        let go a b
        condition FailureTarget=True BackoffLimitExceeded: Job has reached the specified backoff limit
        status {"ready":0,"startTime":"2026-01-01T11:00:00Z","terminating":1,"uncountedTerminatedPods":{"failed":["a","b"]}}
    "#]],
    );
    let failing = json!({"status": {"failed": 2, "conditions": [{"type": "FailureTarget", "status": "True",
        "reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}]}});
    check(
        &job(&failing),
        &["a:F-", "b:R!-"],
        expect![[r#"
        condition FailureTarget=True BackoffLimitExceeded: Job has reached the specified backoff limit
        status {"failed":2,"ready":0,"startTime":"2026-01-01T11:00:00Z","terminating":1,"uncountedTerminatedPods":{}}
    "#]],
    );
    check(
        &job(&failing),
        &["a:F-"],
        expect![[r#"
        condition FailureTarget=True BackoffLimitExceeded: Job has reached the specified backoff limit
        condition Failed=True BackoffLimitExceeded: Job has reached the specified backoff limit
        status {"failed":2,"ready":0,"startTime":"2026-01-01T11:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
        news Warning BackoffLimitExceeded: Job has reached the specified backoff limit
    "#]],
    );
    check(
        &job(&json!({"spec": {"activeDeadlineSeconds": 3600}})),
        &["b:R"],
        expect![[r#"
        stop b
        let go b
        condition FailureTarget=True DeadlineExceeded: Job was active longer than specified deadline
        status {"ready":0,"startTime":"2026-01-01T11:00:00Z","terminating":1,"uncountedTerminatedPods":{"failed":["b"]}}
    "#]],
    );
    check(
        &job(&json!({"spec": {"activeDeadlineSeconds": 3660}})),
        &["b:R", "c:R"],
        expect![[r#"
        status {"active":2,"ready":0,"startTime":"2026-01-01T11:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
        next 60s
    "#]],
    );
    let codes = json!([{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]);
    check(
        &job(&json!({"spec": {"podFailurePolicy": {"rules": codes}}})),
        &["a:F", "b:R"],
        expect![[r#"
        stop b
        let go a b
        condition FailureTarget=True PodFailurePolicy: Container a for pod default/a failed with exit code 42 matching FailJob rule at index 0
        status {"ready":0,"startTime":"2026-01-01T11:00:00Z","terminating":1,"uncountedTerminatedPods":{"failed":["a","b"]}}
    "#]],
    );
    let withdrawn = json!({"spec": {"podFailurePolicy": {"rules": codes}}});
    let plan = plan_of(&job(&withdrawn), &[pod("a:F!-")], 0, &Endings::default(), now());
    assert_eq!(plan.create.len(), 2, "{plan:?}");
    let ignored = json!([{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [42]}}]);
    let policy = json!({"spec": {"backoffLimit": 0, "podFailurePolicy": {"rules": ignored}}});
    check(
        &job(&policy),
        &["a:F", "b:R"],
        expect![[r#"
        let go a
        status {"active":1,"ready":0,"startTime":"2026-01-01T11:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
        next 9s
    "#]],
    );
}

#[test]
fn indexes_fail_one_by_one() {
    let per_index = |more: Value| indexed(&with(json!({"spec": {"backoffLimitPerIndex": 1, "parallelism": 3}}), &more));
    check(
        &per_index(json!({})),
        &["a:F@0#0", "b:R@1", "c:R@2"],
        expect![[r#"
        status {"active":2,"failedIndexes":"","ready":0,"startTime":"2026-01-01T11:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
        next 9s
    "#]],
    );
    check(
        &per_index(json!({})),
        &["a:F@0#0", "d:R@0#1", "b:R@1", "c:R@2"],
        expect![[r#"
        let go a
        status {"active":3,"failedIndexes":"","ready":0,"startTime":"2026-01-01T11:00:00Z","terminating":0,"uncountedTerminatedPods":{"failed":["a"]}}
    "#]],
    );
    check(
        &per_index(json!({})),
        &["a:F@0#1", "b:R@1", "c:S@2"],
        expect![[r#"
        let go a c
        status {"active":1,"completedIndexes":"2","failedIndexes":"0","ready":0,"startTime":"2026-01-01T11:00:00Z","succeeded":1,"terminating":0,"uncountedTerminatedPods":{"failed":["a"]}}
    "#]],
    );
    check(
        &per_index(json!({"spec": {"maxFailedIndexes": 0}})),
        &["a:F@0#1", "b:R@1"],
        expect![[r#"
        stop b
        let go a b
        condition FailureTarget=True MaxFailedIndexesExceeded: Job has exceeded the specified maximal number of failed indexes
        status {"failedIndexes":"0","ready":0,"startTime":"2026-01-01T11:00:00Z","terminating":1,"uncountedTerminatedPods":{"failed":["a","b"]}}
    "#]],
    );
    check(
        &per_index(json!({"status": {"completedIndexes": "1,2"}})),
        &["a:F@0#1"],
        expect![[r#"
        let go a
        condition FailureTarget=True FailedIndexes: Job has failed indexes
        status {"completedIndexes":"1,2","failedIndexes":"0","ready":0,"startTime":"2026-01-01T11:00:00Z","succeeded":2,"terminating":0,"uncountedTerminatedPods":{"failed":["a"]}}
    "#]],
    );
    let rules = json!([{"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [42]}}]);
    check(
        &per_index(json!({"spec": {"podFailurePolicy": {"rules": rules}}})),
        &["a:F@0#0", "b:R@1"],
        expect![[r#"
        create 2#0+0
        let go a
        status {"active":1,"failedIndexes":"0","ready":0,"startTime":"2026-01-01T11:00:00Z","terminating":0,"uncountedTerminatedPods":{"failed":["a"]}}
    "#]],
    );
}

#[test]
fn some_indexes_may_be_enough() {
    let leader = json!({"spec": {"successPolicy": {"rules": [{"succeededIndexes": "0"}]}}});
    check(
        &indexed(&leader),
        &["a:S@0", "b:R@1", "c:F@2"],
        expect![[r#"
        stop b
        let go a c b
        condition SuccessCriteriaMet=True SuccessPolicy: Matched rules at index 0
        status {"completedIndexes":"0","ready":0,"startTime":"2026-01-01T11:00:00Z","succeeded":1,"terminating":1,"uncountedTerminatedPods":{"failed":["c"]}}
    "#]],
    );
}

#[test]
fn pods_are_replaced_when_the_policy_says() {
    check(
        &job(&json!({})),
        &["a:R!", "b:R"],
        expect![[r#"
        let go a
        status {"active":1,"ready":0,"startTime":"2026-01-01T11:00:00Z","terminating":1,"uncountedTerminatedPods":{"failed":["a"]}}
        next 9s
    "#]],
    );
    check(
        &job(&json!({"spec": {"podReplacementPolicy": "Failed"}})),
        &["a:R!", "b:R"],
        expect![[r#"
        status {"active":1,"ready":0,"startTime":"2026-01-01T11:00:00Z","terminating":1,"uncountedTerminatedPods":{}}
    "#]],
    );
    check(
        &job(&json!({"spec": {"podReplacementPolicy": "Failed"}})),
        &["a:P!", "b:R"],
        expect![[r#"
        let go a
        status {"active":1,"ready":0,"startTime":"2026-01-01T11:00:00Z","terminating":1,"uncountedTerminatedPods":{"failed":["a"]}}
        next 9s
    "#]],
    );
    check(
        &indexed(&json!({"spec": {"podReplacementPolicy": "Failed"}})),
        &["a:R!@0"],
        expect![[r#"
        create 1
        status {"ready":0,"startTime":"2026-01-01T11:00:00Z","terminating":1,"uncountedTerminatedPods":{}}
    "#]],
    );
}

#[test]
fn a_job_is_suspended_and_goes_on() {
    check(
        &job(&json!({"spec": {"suspend": true, "activeDeadlineSeconds": 1}})),
        &["a:W", "b:P"],
        expect![[r#"
        withdraw b a
        condition Suspended=True JobSuspended: Job suspended
        status {"ready":0,"startTime":"2026-01-01T11:00:00Z","terminating":2,"uncountedTerminatedPods":{}}
        news Normal Suspended: Job suspended
    "#]],
    );
    let suspended = json!({"spec": {"activeDeadlineSeconds": 1},
        "status": {"conditions": [{"type": "Suspended", "status": "True"}]}});
    check(
        &job(&suspended),
        &[],
        expect![[r#"
        create a pod, a pod
        condition Suspended=False JobResumed: Job resumed
        status {"ready":0,"startTime":"2026-01-01T12:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
        news Normal Resumed: Job resumed
        next 1s
    "#]],
    );
}

#[test]
fn pods_that_are_too_many_go() {
    check(
        &job(&json!({"spec": {"parallelism": 1}})),
        &["a:W", "b:P"],
        expect![[r#"
        withdraw b
        status {"active":1,"ready":1,"startTime":"2026-01-01T11:00:00Z","terminating":1,"uncountedTerminatedPods":{}}
    "#]],
    );
    let done = json!({"spec": {"parallelism": 3}, "status": {"completedIndexes": "1"}});
    check(
        &indexed(&done),
        &["a:R@1", "b:W@0", "c:R@0", "d:R@5", "e:R"],
        expect![[r#"
        withdraw a c d e
        status {"active":1,"completedIndexes":"1","ready":1,"startTime":"2026-01-01T11:00:00Z","succeeded":1,"terminating":4,"uncountedTerminatedPods":{}}
    "#]],
    );
}

#[test]
fn a_job_that_goes_lets_its_pods_go() {
    let going = json!({"metadata": {"deletionTimestamp": NOW}});
    check(
        &job(&going),
        &["a:R", "b:S"],
        expect![[r#"
        let go b a
        status {"active":1,"ready":0,"startTime":"2026-01-01T11:00:00Z","terminating":0,"uncountedTerminatedPods":{"succeeded":["b"]}}
    "#]],
    );
    let stray = json!({"metadata": {"deletionTimestamp": NOW},
        "spec": {"selector": {"matchLabels": {"job": "other"}}}});
    check(
        &job(&stray),
        &["a:R"],
        expect![[r#"
        let go a
        status {"ready":0,"startTime":"2026-01-01T11:00:00Z","terminating":0,"uncountedTerminatedPods":{}}
    "#]],
    );
}

#[test]
fn what_is_not_seen_yet_is_waited_for() {
    let pods = [pod("a:R")];
    let plan = plan_of(&job(&json!({})), &pods, 1, &Endings::default(), now());
    assert!(plan.create.is_empty() && plan.remove.is_empty(), "{plan:?}");
    let orphan = json!({"metadata": {"ownerReferences": []}});
    let orphan = with(serde_json::to_value(&*pod("o:R-")).expect("JSON"), &orphan);
    let plan = plan_of(
        &job(&json!({})),
        &[Arc::new(serde_json::from_value(orphan).expect("a Pod"))],
        0,
        &Endings::default(),
        now(),
    );
    assert_eq!((names(&plan.adopt), plan.create.len()), ("o".to_owned(), 0));
}

#[test]
fn a_job_without_a_selector_has_no_pods() {
    let orphan =
        with(serde_json::to_value(&*pod("o:R-")).expect("JSON"), &json!({"metadata": {"ownerReferences": []}}));
    let job = job(&json!({"spec": {"selector": null}}));
    let pods = [Arc::new(serde_json::from_value(orphan).expect("a Pod"))];
    let plan = plan_of(&job, &pods, 0, &Endings::default(), now());
    assert!(plan.adopt.is_empty() && plan.remove.is_empty(), "{plan:?}");
}

#[test]
fn restarts_in_a_pod_are_failures() {
    let job = job(&json!({"spec": {"backoffLimit": 2, "template": {"spec": {"restartPolicy": "OnFailure"}}}}));
    let check = |restarts: i32, expected: usize| {
        let more = json!({"status": {"containerStatuses": [{"name": "a", "image": "", "imageID": "", "ready": false,
            "restartCount": restarts}]}});
        let pod = with(serde_json::to_value(&*pod("a:R")).expect("JSON"), &more);
        let pods = [Arc::new(serde_json::from_value(pod).expect("a Pod"))];
        let plan = plan_of(&job, &pods, 0, &Endings::default(), now());
        assert_eq!(plan.remove.len(), expected, "{restarts}");
    };
    check(1, 0);
    check(2, 1);
}

#[test]
fn a_finished_job_goes_when_it_says() {
    let check = |ttl: Value, condition: &str, expected: Expiry| {
        let job = job(&json!({"spec": {"ttlSecondsAfterFinished": ttl}, "status": {"conditions": [
            {"type": condition, "status": "True", "lastTransitionTime": "2026-01-01T11:59:00Z"}]}}));
        assert_eq!(plan::expiry(&job, now()), expected, "{ttl} {condition}");
    };
    check(json!(null), "Complete", Expiry::Never);
    check(json!(60), "Suspended", Expiry::Never);
    check(json!(0), "Failed", Expiry::Now);
    check(json!(60), "Complete", Expiry::Now);
    check(json!(90), "Complete", Expiry::After(std::time::Duration::from_secs(30)));
    check(json!(i32::MAX), "Complete", Expiry::After(std::time::Duration::from_secs(i32::MAX as u64 - 60)));
}

/// A world with the account that pods need.
async fn world() -> World {
    let world = World::start().await;
    world.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    world
}

fn controller(world: &World, shutdown: &CancellationToken) -> Controller {
    let caches = Caches::new(world.client.clone(), shutdown.clone());
    let client = world.client_of("job-controller");
    Controller::new(client.clone(), Recorder::new(client, "job-controller", ""), &caches)
}

fn drive(world: &World) {
    let controller = controller(world, &world.shutdown);
    let wake = Wake::on(controller.wakes());
    world.drive(controller, wake);
}

async fn post(world: &World, more: Value) -> String {
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}});
    let job = with(json!({"metadata": {"name": "sum"}, "spec": {"template": template}}), &more);
    world.post(JOBS, job).await;
    format!("{JOBS}/sum")
}

async fn pods(world: &World) -> Vec<Value> {
    world.get(PODS).await["items"].as_array().cloned().unwrap_or_default()
}

fn is_active(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null()
        && !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

async fn until_active(world: &World, count: usize) -> Vec<String> {
    let active = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let names =
            items.iter().filter(|pod| is_active(pod)).map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned));
        names.flatten().collect()
    };
    active(&world.until(PODS, |list| active(list).len() == count).await)
}

/// What a node would say of a pod.
async fn end(world: &World, pod: &str, phase: &str) {
    world.merge(&format!("{PODS}/{pod}/status"), json!({"status": {"phase": phase}})).await;
}

fn holds(job: &Value, kind: &str) -> bool {
    let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == kind && condition["status"] == "True")
}

async fn reasons(world: &World) -> Vec<String> {
    let events = world.get("/api/v1/namespaces/default/events").await;
    let events = events["items"].as_array().cloned().unwrap_or_default();
    let mut reasons: Vec<_> = events.iter().filter_map(|event| event["reason"].as_str().map(str::to_owned)).collect();
    reasons.sort();
    reasons.dedup();
    reasons
}

#[tokio::test]
async fn a_job_runs_to_completion_and_goes_after_its_time() {
    let world = world().await;
    drive(&world);
    let path = post(&world, json!({"spec": {"completions": 3, "parallelism": 2, "completionMode": "Indexed"}})).await;
    for round in 0..3 {
        let active = until_active(&world, (3 - round).min(2)).await;
        let first = active.iter().min().expect("a pod");
        assert!(first.starts_with(&format!("sum-{round}-")), "{active:?}");
        end(&world, first, "Succeeded").await;
    }
    let job = world.until(&path, |job| holds(job, "Complete")).await;
    let status = &job["status"];
    assert_eq!((&status["succeeded"], &status["completedIndexes"]), (&json!(3), &json!("0-2")), "{status}");
    assert!(status["uncountedTerminatedPods"].as_object().is_none_or(serde_json::Map::is_empty), "{status}");
    assert!(holds(&job, "SuccessCriteriaMet") && status["completionTime"].is_string(), "{status}");
    assert!(status["active"].is_null() && status["ready"] == 0 && status["terminating"] == 0, "{status}");
    let all = pods(&world).await;
    assert!(all.len() == 3 && all.iter().all(|pod| pod["metadata"]["finalizers"].is_null()), "{all:?}");
    assert_eq!(reasons(&world).await, ["Completed", "SuccessfulCreate"]);
    world.merge(&path, json!({"spec": {"ttlSecondsAfterFinished": 0}})).await;
    let job = world.until(&path, |job| !job["metadata"]["deletionTimestamp"].is_null()).await;
    assert_eq!(job["metadata"]["finalizers"], json!(["foregroundDeletion"]));
}

#[tokio::test]
async fn a_job_that_may_not_fail_says_why_it_did() {
    let world = world().await;
    drive(&world);
    let path = post(&world, json!({"spec": {"completions": 2, "parallelism": 2, "backoffLimit": 0}})).await;
    let active = until_active(&world, 2).await;
    end(&world, &active[0], "Failed").await;
    let job = world.until(&path, |job| holds(job, "Failed")).await;
    assert_eq!(job["status"]["failed"], 2, "the other is stopped and counts: {job}");
    assert!(holds(&job, "FailureTarget") && job["status"]["completionTime"].is_null(), "{job}");
    assert_eq!(reasons(&world).await, ["BackoffLimitExceeded", "SuccessfulCreate", "SuccessfulDelete"]);
}

#[tokio::test]
async fn a_job_pauses_and_goes_on() {
    let world = world().await;
    drive(&world);
    let path = post(&world, json!({"spec": {"suspend": true}})).await;
    let job = world.until(&path, |job| holds(job, "Suspended")).await;
    assert!(job["status"]["startTime"].is_null(), "{job}");
    world.merge(&path, json!({"spec": {"suspend": false}})).await;
    let first = until_active(&world, 1).await;
    world.merge(&path, json!({"spec": {"suspend": true}})).await;
    world.until_gone(&format!("{PODS}/{}", first[0])).await;
    world.until(&path, |job| holds(job, "Suspended")).await;
    world.merge(&path, json!({"spec": {"suspend": false}})).await;
    let second = until_active(&world, 1).await;
    end(&world, &second[0], "Succeeded").await;
    let job = world.until(&path, |job| holds(job, "Complete")).await;
    assert!(job["status"]["failed"].is_null() && job["status"]["succeeded"] == 1, "{job}");
    assert!(reasons(&world).await.iter().any(|reason| reason == "Resumed"));
}

/// One pass of a controller that knows nothing but what is in the API.
async fn pass(world: &World) {
    let shutdown = CancellationToken::new();
    let _end = shutdown.clone().drop_guard();
    controller(world, &shutdown).reconcile().await.expect("no failure");
}

#[tokio::test]
async fn an_agent_that_dies_after_each_pass_counts_each_pod_once() {
    let world = world().await;
    let path = post(&world, json!({"spec": {"completions": 4, "parallelism": 3}})).await;
    for _ in 0..30 {
        pass(&world).await;
        for pod in pods(&world).await.iter().filter(|pod| is_active(pod)).take(2) {
            end(&world, pod["metadata"]["name"].as_str().expect("a name"), "Succeeded").await;
        }
        let job = world.get(&path).await;
        if holds(&job, "Complete") {
            assert_eq!(job["status"]["succeeded"], 4, "{job}");
            assert_eq!(pods(&world).await.len(), 4);
            return;
        }
    }
    panic!("{}", world.get(&path).await);
}

#[tokio::test]
async fn an_older_status_is_not_gone_on_from() {
    let world = world().await;
    let path = post(&world, json!({"spec": {"completions": 2, "parallelism": 1}})).await;
    let stale: Job = serde_json::from_value(world.get(&path).await).expect("a Job");
    pass(&world).await;
    let active = until_active(&world, 1).await;
    end(&world, &active[0], "Succeeded").await;
    pass(&world).await;
    // It is written down and let go; a controller that sees the job as it was must neither lose it nor start another.
    let pods: Vec<Pod> =
        pods(&world).await.into_iter().map(|pod| serde_json::from_value(pod).expect("a Pod")).collect();
    let mut late = controller(&world, &world.shutdown);
    (late.jobs, late.pods) = (Informer::fixed([stale]), Informer::fixed(pods));
    late.reconcile().await.expect("no failure");
    let job = world.get(&path).await;
    assert_eq!(job["status"]["uncountedTerminatedPods"]["succeeded"].as_array().map(Vec::len), Some(1), "{job}");
}

#[tokio::test]
async fn nobodys_pods_are_let_go_and_others_jobs_are_left_alone() {
    let world = world().await;
    let made = |name: &str, owner: Value| {
        json!({"metadata": {"name": name, "finalizers": [FINALIZER], "ownerReferences": owner},
            "spec": {"containers": [{"name": "a", "image": "a"}]}})
    };
    let owner = |name: &str, uid: &Value| json!([{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid, "controller": true}]);
    let path = post(&world, json!({"spec": {"managedBy": "example.org/other"}})).await;
    let other = world.get(&path).await;
    world.post(PODS, made("lone", json!([]))).await;
    world.post(PODS, made("left", owner("gone", &json!("gone")))).await;
    world.post(PODS, made("others", owner("sum", &other["metadata"]["uid"]))).await;
    drive(&world);
    for name in ["lone", "left"] {
        world.until(&format!("{PODS}/{name}"), |pod| pod["metadata"]["finalizers"].is_null()).await;
    }
    let others = world.get(&format!("{PODS}/others")).await;
    assert_eq!(others["metadata"]["finalizers"], json!([FINALIZER]));
    assert!(pods(&world).await.len() == 3 && world.get(&path).await["status"] == json!({}), "nothing is made of it");
}

#[tokio::test]
async fn pods_of_a_job_that_is_deleted_are_not_held() {
    let world = world().await;
    drive(&world);
    let path = post(&world, json!({})).await;
    let active = until_active(&world, 1).await;
    world.delete(&path, "Foreground").await;
    world.until(&format!("{PODS}/{}", active[0]), |pod| pod["metadata"]["finalizers"].is_null()).await;
}
