//! How long a Job waits before it replaces pods that failed: longer with each failure since the last success. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::objects;

const DELAY_MIN: Duration = Duration::from_secs(10);
const DELAY_MAX: Duration = Duration::from_secs(360);
/// After fewer than these failures the delay is the longest, so that earlier ones need not be remembered.
const REMEMBERED_MAX: usize = 16;

/// How one pod ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    pub uid: String,
    pub at: Timestamp,
    pub succeeded: bool,
}

/// The failures of a job since its last success. Made anew from its pods after a restart; those that are gone by then are
/// forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endings {
    /// In order of time.
    known: Vec<Ending>,
}

impl Endings {
    /// With more of them. When a pod ended is what was seen first.
    pub fn with(&self, more: impl IntoIterator<Item = Ending>) -> Self {
        let is_new = |ending: &Ending| !self.known.iter().any(|other| other.uid == ending.uid);
        let mut known = self.known.clone();
        known.extend(more.into_iter().filter(is_new));
        known.sort_by(|a, b| (a.at, &a.uid).cmp(&(b.at, &b.uid)));
        // The last success stays: what came before it may be seen again.
        let first = known.iter().rposition(|ending| ending.succeeded).unwrap_or(0);
        let first = first.max(known.len().saturating_sub(REMEMBERED_MAX));
        Self { known: known.split_off(first) }
    }

    /// How long no pod is made yet; `None` if it is time.
    pub fn left(&self, now: Timestamp) -> Option<Duration> {
        let failures = self.known.iter().rev().take_while(|ending| !ending.succeeded).count();
        let last = self.known.last()?;
        left(failures, last.at, now)
    }
}

/// After the given number of failures in a row, of which the last was at `last`.
pub fn left(failures: usize, last: Timestamp, now: Timestamp) -> Option<Duration> {
    // A clock that was set back makes nobody wait for longer than the delay.
    let passed = now.duration_since(last).max(SignedDuration::ZERO).unsigned_abs();
    delay(failures).checked_sub(passed).filter(|left| !left.is_zero())
}

fn delay(failures: usize) -> Duration {
    let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
    let factor = u32::try_from(doublings).ok().and_then(|doublings| 2_u32.checked_pow(doublings));
    factor.and_then(|factor| DELAY_MIN.checked_mul(factor)).unwrap_or(DELAY_MAX).min(DELAY_MAX)
}

/// When a pod ended: with its last container, or else when it was told to go.
pub fn ended_at(pod: &Pod) -> Timestamp {
    let status = pod.status.as_ref();
    let containers = status.into_iter().flat_map(|status| status.container_statuses.iter().flatten());
    let of_container = |container: &ContainerStatus| {
        let terminated = container.state.as_ref()?.terminated.as_ref()?;
        terminated.finished_at.as_ref().map(|time| time.0)
    };
    let deleted = pod.metadata.deletion_timestamp.as_ref().map(|time| {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0).clamp(0, i64::from(i32::MAX));
        time.0.checked_sub(SignedDuration::from_secs(grace)).unwrap_or(time.0)
    });
    let unready = objects::condition(pod, "Ready").filter(|condition| condition.status == "False");
    containers
        .filter_map(of_container)
        .max()
        .or_else(|| unready.and_then(|condition| condition.last_transition_time.as_ref()).map(|time| time.0))
        .or(deleted)
        .or_else(|| pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("a time")
    }

    fn endings(text: &str) -> Endings {
        let ending = |(n, c): (usize, char)| Ending { uid: n.to_string(), at: at(n as i64), succeeded: c == '+' };
        Endings::default().with(text.chars().enumerate().map(ending))
    }

    #[test]
    fn the_delay_doubles_with_each_failure_since_the_last_success() {
        let check = |text: &str, expected: u64| {
            let now = at(text.len() as i64 - 1);
            let left = endings(text).left(now).unwrap_or_default();
            assert_eq!(left, Duration::from_secs(expected), "{text}");
        };
        check("-", 10);
        check("--", 20);
        check("---", 40);
        check("------", 320);
        check("-------", 360);
        check("----------------------------------------", 360);
        check("---+", 0);
        check("---+-", 10);
        check("+--", 20);
    }

    #[test]
    fn a_pod_counts_once_and_a_clock_that_was_set_back_is_not_waited_for() {
        let once = endings("---");
        assert_eq!(once.with(once.known.clone()), once);
        assert_eq!(once.left(at(-10_000)), Some(Duration::from_secs(40)));
        assert_eq!(once.left(at(2 + 40)), None);
        let old = endings("--+-");
        assert_eq!(old.with(endings("--+").known), old, "what was before a success is not taken for new");
    }

    proptest! {
        #[test]
        fn it_never_shrinks_and_has_an_end(failures in 0_usize..100_000) {
            prop_assert!(delay(failures) <= delay(failures + 1));
            prop_assert!(delay(failures) <= DELAY_MAX);
        }
    }
}
