//! The steps of an order, and that they end.

use expect_test::expect;

use super::{Certificate, Observed, Phase, Records, Remote, Step, next};

const PHASES: [Phase; 3] = [Phase::New, Phase::Prepared, Phase::Placed];
const REMOTES: [Remote; 7] = [
    Remote::NotAsked,
    Remote::Gone,
    Remote::Pending,
    Remote::Ready,
    Remote::Processing,
    Remote::Valid,
    Remote::Invalid,
];

fn all() -> Vec<Observed> {
    let mut all = Vec::new();
    for phase in PHASES {
        for remote in REMOTES {
            for records in [Records::None, Records::Left] {
                for certificate in [Certificate::Other, Certificate::Installed] {
                    all.push(Observed { phase, remote, records, certificate });
                }
            }
        }
    }
    all
}

/// What a step that succeeds leaves; `None` at the end.
fn apply(step: Step, was: Observed) -> Option<Observed> {
    let mut now = was;
    match step {
        Step::Prepare => now.phase = Phase::Prepared,
        Step::Place => (now.phase, now.remote) = (Phase::Placed, Remote::NotAsked),
        Step::Ask => now.remote = Remote::Pending,
        // Of DNS, with the records still there.
        Step::Prove => (now.remote, now.records) = (Remote::Ready, Records::Left),
        Step::Finalize => now.remote = Remote::Processing,
        Step::Wait => now.remote = Remote::Valid,
        Step::Install => now.certificate = Certificate::Installed,
        Step::Abandon => (now.phase, now.remote) = (Phase::Prepared, Remote::NotAsked),
        Step::RemoveRecords => now.records = Records::None,
        Step::Fail | Step::Forget => return None,
    }
    Some(now)
}

#[test]
fn the_expected_flow() {
    let mut steps = String::new();
    let mut at = Some(Observed {
        phase: Phase::New,
        remote: Remote::NotAsked,
        records: Records::None,
        certificate: Certificate::Other,
    });
    while let Some(observed) = at {
        let step = next(observed);
        steps += &format!("{step:?} ");
        at = apply(step, observed);
    }
    expect!["Prepare Place Ask Prove Finalize Wait Install RemoveRecords Forget "].assert_eq(&steps);
}

#[test]
fn every_state_comes_to_an_end() {
    for start in all() {
        let mut at = start;
        let ended = (0..20).any(|_| match apply(next(at), at) {
            Some(now) => {
                at = now;
                false
            }
            None => true,
        });
        assert!(ended, "{start:?}");
    }
}

/// What was seen is lost by a crash; what is kept is not.
#[test]
fn a_crash_after_any_step_is_recovered_from() {
    for start in all() {
        let Some(mut at) = apply(next(start), start) else { continue };
        at.remote = Remote::NotAsked;
        let ended = (0..20).any(|_| match apply(next(at), at) {
            Some(now) => {
                at = now;
                false
            }
            None => true,
        });
        assert!(ended, "{start:?}");
    }
}

#[test]
fn records_never_outlive_the_order() {
    for observed in all() {
        let ends = matches!(next(observed), Step::Forget | Step::Fail | Step::Abandon);
        assert!(!ends || observed.records == Records::None, "{observed:?}");
    }
}
