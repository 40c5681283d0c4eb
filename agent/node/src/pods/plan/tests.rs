//! The rules of the pod lifecycle, one by one.

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;
use crate::pods::observe::Sandbox;

const NOW: i64 = 1_000_000 * NANOS;

fn spec(value: serde_json::Value) -> PodSpec {
    serde_json::from_value(value).unwrap()
}

fn one(restart: &str) -> PodSpec {
    spec(json!({"restartPolicy": restart, "containers": [{"name": "app", "image": "i"}]}))
}

fn sandbox(id: &str, attempt: u32, ready: bool) -> Sandbox {
    Sandbox { id: id.into(), attempt, ready, created_at: i64::from(attempt), ips: vec!["10.0.0.1".parse().unwrap()] }
}

fn container(name: &str, sandbox: &str, attempt: u32, state: State, exit_code: i32) -> Container {
    let image = "i".to_owned();
    let like = Spec { name: name.into(), image: Some(image.clone()), ..Spec::default() };
    Container {
        id: format!("{name}-{attempt}"),
        name: name.into(),
        sandbox: sandbox.into(),
        attempt,
        state,
        hash: hash(&like),
        image,
        image_ref: String::new(),
        created_at: i64::from(attempt),
        started_at: NOW - 20 * NANOS,
        finished_at: if state == State::Exited { NOW - NANOS } else { 0 },
        exit_code,
        reason: String::new(),
        message: String::new(),
        log_path: String::new(),
        message_file: None,
        message_from_logs: false,
    }
}

fn observed(containers: Vec<Container>) -> Observed {
    Observed { sandboxes: vec![sandbox("s0", 0, true)], containers }
}

fn run(spec: &PodSpec, observed: &Observed, memory: &Memory) -> Plan {
    plan(spec, HostNetwork::No, observed, memory, NOW)
}

fn check(spec: &PodSpec, observed: &Observed, memory: &Memory, expected: Expect) {
    let plan = run(spec, observed, memory);
    let mut text = match &plan.sandbox {
        SandboxPlan::Keep(id) => format!("keep {id}"),
        SandboxPlan::Create { attempt } => format!("create sandbox {attempt}"),
        SandboxPlan::Unneeded => "no sandbox".to_owned(),
    };
    for stop in &plan.stop {
        text += &format!("; stop {} ({})", stop.id, stop.message);
    }
    for start in &plan.start {
        text += &format!("; start {:?} {} {}", start.kind, start.name, start.attempt);
        text += &start.replace.as_ref().map(|id| format!(" for {id}")).unwrap_or_default();
    }
    for (name, until) in &plan.backing_off {
        text += &format!("; {name} waits {} s", (until - NOW) / NANOS);
    }
    expected.assert_eq(&text);
}

fn nothing() -> Memory {
    Memory::default()
}

#[test]
fn a_new_pod_gets_a_sandbox_and_its_containers() {
    check(&one("Always"), &Observed::default(), &nothing(), expect!["create sandbox 0; start Main app 0"]);
}

#[test]
fn a_running_pod_is_left_alone() {
    let now = observed(vec![container("app", "s0", 3, State::Running, 0)]);
    check(&one("Always"), &now, &nothing(), expect!["keep s0"]);
    assert!(run(&one("Always"), &now, &nothing()).is_empty());
}

#[test]
fn an_ended_container_starts_again_as_the_policy_says() {
    let failed = observed(vec![container("app", "s0", 0, State::Exited, 1)]);
    let done = observed(vec![container("app", "s0", 0, State::Exited, 0)]);
    check(&one("Always"), &done, &nothing(), expect!["keep s0; start Main app 1"]);
    check(&one("OnFailure"), &done, &nothing(), expect!["keep s0"]);
    check(&one("OnFailure"), &failed, &nothing(), expect!["keep s0; start Main app 1"]);
    check(&one("Never"), &failed, &nothing(), expect!["keep s0"]);
}

#[test]
fn back_off_delays_the_start_and_grows() {
    let failed = observed(vec![container("app", "s0", 1, State::Exited, 1)]);
    let first = Backoff::after_start(None, 0, NOW - 5 * NANOS);
    let mut memory = nothing();
    memory.backoff.insert("app".into(), first);
    check(&one("Always"), &failed, &memory, expect!["keep s0; app waits 9 s"]);
    let grown = |times: usize| {
        (0..times).fold(None, |last, _| Some(Backoff::after_start(last, NOW, NOW))).map(|backoff| backoff.delay_s)
    };
    assert_eq!([1, 2, 3, 6, 9].map(grown), [Some(10), Some(20), Some(40), Some(300), Some(300)]);
    let long_run = Backoff::after_start(Some(first), NOW + 700 * NANOS, NOW + 700 * NANOS);
    assert_eq!(long_run.delay_s, BACKOFF_MIN_S);
}

#[test]
fn a_dead_sandbox_is_replaced_with_everything_in_it() {
    let dead = Observed {
        sandboxes: vec![sandbox("s0", 0, false)],
        containers: vec![container("app", "s0", 0, State::Exited, 137)],
    };
    check(&one("Always"), &dead, &nothing(), expect!["create sandbox 1; start Main app 1"]);
    check(&one("Never"), &dead, &nothing(), expect!["no sandbox"]);
}

#[test]
fn init_containers_run_one_after_the_other() {
    let pod = spec(json!({
        "initContainers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}],
        "containers": [{"name": "app", "image": "i"}],
    }));
    let at = |containers| observed(containers);
    check(&pod, &Observed::default(), &nothing(), expect!["create sandbox 0; start Init a 0"]);
    let running = container("a", "s0", 0, State::Running, 0);
    check(&pod, &at(vec![running]), &nothing(), expect!["keep s0"]);
    let a = container("a", "s0", 0, State::Exited, 0);
    check(&pod, &at(vec![a.clone()]), &nothing(), expect!["keep s0; start Init b 0"]);
    let b = container("b", "s0", 0, State::Exited, 0);
    check(&pod, &at(vec![a.clone(), b]), &nothing(), expect!["keep s0; start Main app 0"]);
    let failed = container("b", "s0", 0, State::Exited, 1);
    check(&pod, &at(vec![a, failed]), &nothing(), expect!["keep s0; start Init b 1"]);
}

#[test]
fn a_sidecar_must_have_started_before_the_rest() {
    let pod = spec(json!({
        "initContainers": [{"name": "side", "image": "i", "restartPolicy": "Always"}],
        "containers": [{"name": "app", "image": "i"}],
    }));
    let side = container("side", "s0", 0, State::Running, 0);
    let now = observed(vec![side]);
    check(&pod, &now, &nothing(), expect!["keep s0"]);
    let mut memory = nothing();
    memory.started.insert("side-0".into());
    check(&pod, &now, &memory, expect!["keep s0; start Main app 0"]);
    let both =
        observed(vec![container("side", "s0", 0, State::Exited, 1), container("app", "s0", 0, State::Running, 0)]);
    check(&pod, &both, &memory, expect!["keep s0; start Sidecar side 1"]);
}

#[test]
fn an_unhealthy_container_is_stopped() {
    let now = observed(vec![container("app", "s0", 0, State::Running, 0)]);
    let mut memory = nothing();
    memory.unhealthy.insert("app-0".into(), Unhealthy::Liveness);
    let stop = expect!["keep s0; stop app-0 (Container app failed liveness probe, will be restarted)"];
    check(&one("Always"), &now, &memory, stop);
}

#[test]
fn a_new_image_restarts_the_container() {
    let mut old = container("app", "s0", 0, State::Running, 0);
    old.hash = "other".into();
    let stop = expect!["keep s0; stop app-0 (Container app definition changed, will be restarted)"];
    check(&one("Always"), &observed(vec![old]), &nothing(), stop);
}

#[test]
fn what_was_made_but_not_started_is_replaced() {
    let now = observed(vec![container("app", "s0", 2, State::Created, 0)]);
    check(&one("Never"), &now, &nothing(), expect!["keep s0; start Main app 2 for app-2"]);
}
