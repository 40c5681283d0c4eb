//! How long what crashed or failed waits before it is tried again: pure. The numbers are the kubelet's.

/// How long the container's next start waits after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub delay_s: i64,
    /// When the container was last started again, in nanoseconds since the epoch.
    pub since_ns: i64,
}

pub const BACKOFF_MIN_S: i64 = 10;
pub const BACKOFF_MAX_S: i64 = 300;
/// A container that ran this long starts again at once.
pub const BACKOFF_RESET_S: i64 = 600;

pub(super) const NANOS: i64 = 1_000_000_000;

impl Backoff {
    pub(super) fn applies(self, finished_ns: i64) -> bool {
        finished_ns - self.since_ns <= BACKOFF_RESET_S * NANOS
    }

    /// What a start at `now_ns`, after an end at `finished_ns`, leaves behind.
    pub fn after_start(previous: Option<Backoff>, finished_ns: i64, now_ns: i64) -> Backoff {
        let delay_s = match previous.filter(|previous| previous.applies(finished_ns)) {
            Some(previous) => (previous.delay_s * 2).min(BACKOFF_MAX_S),
            None => BACKOFF_MIN_S,
        };
        Backoff { delay_s, since_ns: now_ns }
    }
}

/// What can fail to come up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Volumes,
    Sandbox,
    /// By name.
    Container(String),
}

/// A try that failed, and when the next one is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub delay_s: i64,
    /// Nanoseconds since the epoch.
    pub since_ns: i64,
    /// What was tried (see `hash`): something else is tried at once.
    pub of: String,
}

impl Failure {
    pub fn after(previous: Option<&Failure>, of: &str, now_ns: i64) -> Failure {
        let delay_s = match previous.filter(|previous| previous.of == of) {
            Some(previous) => (previous.delay_s * 2).min(BACKOFF_MAX_S),
            None => BACKOFF_MIN_S,
        };
        Failure { delay_s, since_ns: now_ns, of: of.to_owned() }
    }

    pub fn until(&self, now_ns: i64) -> Option<i64> {
        wait(self.since_ns, self.delay_s, now_ns)
    }
}

/// When a wait that began at `since_ns` is over; `None` if it is. A begin in the future means that the clock was set
/// back: then nobody knows, and nobody waits.
pub(super) fn wait(since_ns: i64, delay_s: i64, now_ns: i64) -> Option<i64> {
    let until = since_ns.saturating_add(delay_s * NANOS);
    (since_ns <= now_ns && now_ns < until).then_some(until)
}
