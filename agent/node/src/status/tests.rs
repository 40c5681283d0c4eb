//! Phases, reasons and conditions for the states a pod goes through.

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;
use crate::pods::observe::Sandbox;

fn pod(spec: serde_json::Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
}

fn container(name: &str, state: State, exit_code: i32) -> Container {
    Container {
        id: name.into(),
        name: name.into(),
        sandbox: "s".into(),
        attempt: 0,
        state,
        hash: String::new(),
        image: String::new(),
        image_ref: "sha256:1".into(),
        created_at: 1,
        started_at: 1_000_000_000,
        finished_at: 2_000_000_000,
        exit_code,
        reason: String::new(),
        message: String::new(),
        log_path: String::new(),
        message_file: None,
        message_from_logs: false,
    }
}

fn observed(containers: Vec<Container>) -> Observed {
    let ips = vec!["10.0.0.9".parse().unwrap()];
    let sandbox = Sandbox { id: "s".into(), attempt: 0, ready: true, created_at: 0, ips };
    Observed { sandboxes: vec![sandbox], containers }
}

fn check(pod: &Pod, observed: &Observed, known: &Known, expected: Expect) {
    let status = compute(pod, observed, known, Timestamp::from_second(100).unwrap());
    let all = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    let mut text = status.phase.clone().unwrap();
    for status in all {
        let state = status.state.clone().unwrap_or_default();
        let reason = state.waiting.and_then(|w| w.reason).or(state.terminated.and_then(|t| t.reason));
        text += &format!("; {} {}", status.name, reason.unwrap_or_else(|| "running".to_owned()));
    }
    for condition in status.conditions.iter().flatten() {
        let reason = condition.reason.as_deref().map(|reason| format!("({reason})")).unwrap_or_default();
        text += &format!("; {}={}{reason}", condition.type_, condition.status);
    }
    expected.assert_eq(&text);
}

#[test]
fn a_pod_comes_up() {
    let pod = pod(json!({"containers": [{"name": "app"}]}));
    check(
        &pod,
        &Observed::default(),
        &Known::default(),
        expect![
            "Pending; app ContainerCreating; PodReadyToStartContainers=False; Initialized=True; ContainersReady=False(ContainersNotReady); Ready=False(ContainersNotReady)"
        ],
    );
    let running = observed(vec![container("app", State::Running, 0)]);
    let ready =
        Known { ready: BTreeSet::from(["app".into()]), started: BTreeSet::from(["app".into()]), ..Known::default() };
    check(
        &pod,
        &running,
        &ready,
        expect![
            "Running; app running; PodReadyToStartContainers=True; Initialized=True; ContainersReady=True; Ready=True"
        ],
    );
}

#[test]
fn ends_are_told_apart() {
    let never = pod(json!({"restartPolicy": "Never", "containers": [{"name": "app"}]}));
    let phase = |pod: &Pod, code: i32, known: &Known| {
        let now = observed(vec![container("app", State::Exited, code)]);
        compute(pod, &now, known, Timestamp::UNIX_EPOCH).phase.unwrap()
    };
    assert_eq!(phase(&never, 0, &Known::default()), "Succeeded");
    assert_eq!(phase(&never, 1, &Known::default()), "Failed");
    let always = pod(json!({"containers": [{"name": "app"}]}));
    assert_eq!(phase(&always, 1, &Known::default()), "Running");
    let terminating = Known { terminating: true, ..Known::default() };
    assert_eq!(phase(&always, 143, &terminating), "Failed");
    assert_eq!(phase(&always, 0, &terminating), "Succeeded");
    let evicted = Known { ended: Some(Ended { reason: "Evicted", message: "m".into() }), ..Known::default() };
    assert_eq!(phase(&always, 137, &evicted), "Failed");
}

#[test]
fn an_eviction_is_a_disruption() {
    let pod = pod(json!({"containers": [{"name": "app"}]}));
    let ended = Some(Ended { reason: "Evicted", message: "the node was low on memory".into() });
    let now = observed(vec![container("app", State::Exited, 137)]);
    let status = compute(&pod, &now, &Known { ended, ..Known::default() }, Timestamp::UNIX_EPOCH);
    let conditions = status.conditions.unwrap();
    let found = conditions.iter().find(|condition| condition.type_ == "DisruptionTarget").unwrap();
    assert_eq!((found.status.as_str(), found.reason.as_deref()), ("True", Some("TerminationByKubelet")));
    assert_eq!(found.message.as_deref(), Some("the node was low on memory"));
}

#[test]
fn a_crash_loop_waits_and_keeps_the_last_end() {
    let always = pod(json!({"containers": [{"name": "app"}]}));
    let waiting = Waiting { reason: "CrashLoopBackOff", message: "back-off".into() };
    let known = Known { waiting: BTreeMap::from([("app".into(), waiting)]), ..Known::default() };
    let now = observed(vec![container("app", State::Exited, 1)]);
    let status = compute(&always, &now, &known, Timestamp::UNIX_EPOCH);
    let app = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!(app.last_state.as_ref().unwrap().terminated.as_ref().unwrap().reason.as_deref(), Some("Error"));
    assert_eq!(status.phase.as_deref(), Some("Running"));
}

#[test]
fn a_container_that_never_ran_holds_the_pod_pending() {
    let pod = pod(json!({"containers": [{"name": "app"}, {"name": "other"}]}));
    let now = observed(vec![container("app", State::Running, 0)]);
    let known = Known {
        waiting: BTreeMap::from([("other".into(), Waiting { reason: "ImagePullBackOff", message: String::new() })]),
        ..Known::default()
    };
    check(
        &pod,
        &now,
        &known,
        expect![
            "Pending; app running; other ImagePullBackOff; PodReadyToStartContainers=True; Initialized=True; ContainersReady=False(ContainersNotReady); Ready=False(ContainersNotReady)"
        ],
    );
}

#[test]
fn a_container_that_was_lost_is_said_to_be() {
    let pod = pod(json!({"restartPolicy": "Never", "containers": [{"name": "app"}]}));
    let status =
        compute(&pod, &observed(vec![container("app", State::Unknown, 0)]), &Known::default(), Timestamp::UNIX_EPOCH);
    let ended = status.container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!((ended.reason.as_deref(), ended.exit_code), (Some("ContainerStatusUnknown"), 137));
    assert_eq!(status.phase.as_deref(), Some("Failed"));
}

#[test]
fn a_pod_that_is_refused_has_no_containers() {
    let pod = pod(json!({"containers": [{"name": "app"}]}));
    let ended = Some(Ended { reason: "OutOfcpu", message: "m".into() });
    let status = compute(&pod, &Observed::default(), &Known { ended, ..Known::default() }, Timestamp::UNIX_EPOCH);
    assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("OutOfcpu")));
    assert_eq!(status.container_statuses, None);
}

#[test]
fn init_containers_come_first() {
    let pod = pod(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "app"}]}));
    let now = observed(vec![container("i", State::Running, 0)]);
    check(
        &pod,
        &now,
        &Known::default(),
        expect![
            "Pending; i running; app PodInitializing; PodReadyToStartContainers=True; Initialized=False(ContainersNotInitialized); ContainersReady=False(ContainersNotReady); Ready=False(ContainersNotReady)"
        ],
    );
}

#[test]
fn all_of_a_pod_with_init_containers_initialize() {
    let pod = pod(json!({"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "app"}]}));
    let reasons = |observed: &Observed| {
        let status = compute(&pod, observed, &Known::default(), Timestamp::UNIX_EPOCH);
        let all = [status.init_container_statuses, status.container_statuses].into_iter().flatten().flatten();
        let waiting = all.filter_map(|status| status.state?.waiting?.reason);
        waiting.collect::<Vec<_>>()
    };
    assert_eq!(reasons(&Observed::default()), ["PodInitializing"; 3]);
    assert_eq!(reasons(&observed(vec![container("i", State::Running, 0)])), ["PodInitializing"; 2]);
}
