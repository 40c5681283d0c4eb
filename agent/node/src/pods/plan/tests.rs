//! The rules of the pod lifecycle, one by one.

use expect_test::{Expect, expect};
use serde_json::json;

use super::backoff::NANOS;
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
        SandboxPlan::Held => "sandbox held".to_owned(),
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
    for (part, until) in &plan.held {
        text += &format!("; {part:?} held for {} s", (until - NOW) / NANOS);
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

fn failure(delay_s: i64, ago_s: i64) -> Failure {
    Failure { delay_s, since_ns: NOW - ago_s * NANOS, of: String::new() }
}

#[test]
fn what_failed_is_held_until_its_time() {
    let mut memory = nothing();
    memory.failures.insert(Part::Sandbox, failure(10, 4));
    check(&one("Always"), &Observed::default(), &memory, expect!["sandbox held; Sandbox held for 6 s"]);
    let running = observed(vec![container("app", "s0", 0, State::Running, 0)]);
    check(&one("Always"), &running, &memory, expect!["keep s0"]);
    memory.failures.insert(Part::Volumes, failure(20, 1));
    let ended = observed(vec![container("app", "s0", 0, State::Exited, 1)]);
    check(&one("Always"), &ended, &memory, expect!["keep s0; Volumes held for 19 s"]);
    memory.failures = [(Part::Sandbox, failure(10, 10)), (Part::Volumes, failure(20, 21))].into();
    check(&one("Always"), &Observed::default(), &memory, expect!["create sandbox 0; start Main app 0"]);
}

#[test]
fn a_container_that_cannot_be_made_holds_what_comes_after_it() {
    let pod = spec(json!({
        "initContainers": [{"name": "a", "image": "i"}], "containers": [{"name": "app", "image": "i"}],
    }));
    let mut memory = nothing();
    let of = hash(&pod.init_containers.as_ref().unwrap()[0]);
    memory.failures.insert(Part::Container("a".into()), Failure { of, ..failure(40, 1) });
    check(&pod, &observed(vec![]), &memory, expect![[r#"keep s0; Container("a") held for 39 s"#]]);
    // Another image is tried at once.
    memory.failures.insert(Part::Container("a".into()), failure(40, 1));
    check(&pod, &observed(vec![]), &memory, expect!["keep s0; start Init a 0"]);
}

#[test]
fn a_sandbox_that_dies_again_and_again_waits() {
    let dead = Observed { sandboxes: vec![sandbox("s1", 1, false)], containers: vec![] };
    let memory = Memory { sandbox: Some(Backoff { delay_s: 10, since_ns: NOW - 3 * NANOS }), ..nothing() };
    check(&one("Always"), &dead, &memory, expect!["sandbox held; Sandbox held for 7 s"]);
    let later = Memory { sandbox: Some(Backoff { delay_s: 10, since_ns: NOW - 11 * NANOS }), ..nothing() };
    check(&one("Always"), &dead, &later, expect!["create sandbox 2; start Main app 0"]);
}

#[test]
fn the_delay_doubles_up_to_its_bound_and_starts_anew_for_something_else() {
    let mut last = None;
    let delays: Vec<i64> = (0..7)
        .map(|_| {
            let next = Failure::after(last.as_ref(), "x", NOW);
            last = Some(next.clone());
            next.delay_s
        })
        .collect();
    assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(Failure::after(last.as_ref(), "y", NOW).delay_s, 10);
}

proptest::proptest! {
    /// Whatever the clock does, nobody waits longer than the delay.
    #[test]
    fn a_wait_is_never_longer_than_its_delay(ago_s in -100_000_i64..100_000, times in 0_usize..10) {
        let grown = (0..times).fold(failure(10, ago_s), |last, _| {
            Failure { since_ns: last.since_ns, ..Failure::after(Some(&last), "", NOW) }
        });
        if let Some(until) = grown.until(NOW) {
            proptest::prop_assert!(until > NOW && until - NOW <= grown.delay_s * NANOS);
        }
    }

    /// A container is either started or waits, never both, and never forgotten.
    #[test]
    fn an_ended_container_starts_or_waits(ago_s in 0_i64..700, delay_s in 10_i64..300, held_s in 0_i64..700) {
        let mut ended = container("app", "s0", 1, State::Exited, 1);
        ended.finished_at = NOW - ago_s * NANOS;
        let mut memory = nothing();
        memory.backoff.insert("app".into(), Backoff { delay_s, since_ns: ended.finished_at - NANOS });
        let of = hash(&one("Always").containers[0]);
        memory.failures.insert(Part::Container("app".into()), Failure { of, ..failure(delay_s, held_s) });
        let plan = run(&one("Always"), &observed(vec![ended]), &memory);
        let ways = plan.start.len() + plan.backing_off.len() + plan.held.len();
        proptest::prop_assert_eq!(ways, 1);
        proptest::prop_assert!(plan.next_ns().is_none_or(|next| next > NOW));
        proptest::prop_assert_eq!(plan.is_empty(), plan.start.is_empty());
    }
}
