//! The parts of the agent: tasks that run until the end. One that panics or ends before is logged and started again with
//! back-off, and what became of each, and of each pass of a reconciler, can be read.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The first restart comes soon: most of what goes wrong is over then.
const RESTART_DELAY_MIN: Duration = Duration::from_secs(1);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(60);
/// A part that ran this long begins with a short delay again, and its failure is no problem any more.
const SETTLED_AFTER: Duration = Duration::from_secs(300);

/// All parts of a process. Clones share them.
#[derive(Clone)]
pub struct Parts {
    known: Arc<Mutex<BTreeMap<String, Part>>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

#[derive(Clone, Debug)]
struct Part {
    state: State,
    restarts: u32,
    pass: Option<Pass>,
}

#[derive(Clone, Debug)]
enum State {
    Running {
        since: Instant,
    },
    /// It waits to be started again.
    Failed,
}

/// How the last pass of a reconciler ended.
#[derive(Clone, Debug)]
struct Pass {
    ended: Instant,
    took: Duration,
    passes: u64,
    /// What stands against it, and since when.
    failing: Option<(String, Instant)>,
    /// Why the part itself ended.
    why: Option<String>,
}

/// What is told of a part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartReport {
    pub name: String,
    pub running: bool,
    pub restarts: u32,
    /// Of a reconciler.
    pub passes: u64,
    pub last_pass_seconds_ago: Option<f64>,
    pub last_pass_ms: Option<f64>,
    /// Why it does not work.
    pub problem: Option<String>,
}

impl Parts {
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { known: Arc::default(), tasks: TaskTracker::new(), shutdown }
    }

    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Runs a part until `shutdown`: `start` is called once more each time it ends.
    pub fn run<F, T>(&self, name: impl Into<String>, start: F)
    where
        F: Fn() -> T + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let (name, parts) = (name.into(), self.clone());
        self.note(&name, |part| part.state = State::Running { since: Instant::now() });
        self.tasks.spawn(async move { parts.keep(&name, start).await });
    }

    async fn keep<F, T>(&self, name: &str, start: F)
    where
        F: Fn() -> T + Send,
        T: Future<Output = ()> + Send + 'static,
    {
        let mut delay = RESTART_DELAY_MIN;
        loop {
            let started = Instant::now();
            self.note(name, |part| part.state = State::Running { since: started });
            // A task of its own: a panic ends it alone.
            let ended = tokio::spawn(AssertUnwindSafe(start()).catch_unwind()).await;
            if self.shutdown.is_cancelled() {
                return;
            }
            let why = match ended {
                Ok(Ok(())) => "it ended".to_owned(),
                Ok(Err(panic)) => format!("it panicked: {}", message(&*panic)),
                Err(error) => format!("it was ended: {error}"),
            };
            if started.elapsed() >= SETTLED_AFTER {
                delay = RESTART_DELAY_MIN;
            }
            tracing::error!(part = name, why, again_in_s = delay.as_secs(), "a part of the agent does not run");
            self.note(name, |part| {
                part.state = State::Failed;
                part.restarts += 1;
                part.pass.get_or_insert_with(Pass::none).why = Some(why.clone());
            });
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = self.shutdown.cancelled() => return,
            }
            delay = (delay * 2).min(RESTART_DELAY_MAX);
        }
    }

    /// Notes how a pass of a reconciler ended.
    pub(crate) fn passed(&self, name: &str, took: Duration, failure: Option<String>) {
        let now = Instant::now();
        self.note(name, |part| {
            let pass = part.pass.get_or_insert_with(Pass::none);
            pass.ended = now;
            pass.took = took;
            pass.passes += 1;
            let since = pass.failing.take().map_or(now, |(_, since)| since);
            pass.failing = failure.map(|failure| (failure, since));
        });
    }

    fn note(&self, name: &str, change: impl FnOnce(&mut Part)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Part { state: State::Running { since: Instant::now() }, restarts: 0, pass: None };
        change(known.entry(name.to_owned()).or_insert_with(fresh));
    }

    /// Every part, by name.
    pub fn report(&self) -> Vec<PartReport> {
        let now = Instant::now();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(name, part)| part.report(name, now)).collect()
    }

    /// Waits until all have ended, after `shutdown`.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Pass {
    fn none() -> Self {
        Self { ended: Instant::now(), took: Duration::ZERO, passes: 0, failing: None, why: None }
    }
}

impl Part {
    fn report(&self, name: &str, now: Instant) -> PartReport {
        /// A conflict with another writer is over after the next pass.
        const FAILING_AFTER: Duration = Duration::from_secs(10);
        let (running, fresh) = match self.state {
            State::Running { since } => (true, now.duration_since(since) < SETTLED_AFTER),
            State::Failed => (false, true),
        };
        let ended = self.pass.as_ref().and_then(|pass| pass.why.as_ref()).filter(|_| fresh && self.restarts > 0);
        let failing = self.pass.as_ref().and_then(|pass| pass.failing.as_ref());
        let failing = failing.filter(|(_, since)| now.duration_since(*since) >= FAILING_AFTER).map(|(why, _)| why);
        let passed = self.pass.as_ref().filter(|pass| pass.passes > 0);
        PartReport {
            name: name.to_owned(),
            running,
            restarts: self.restarts,
            passes: passed.map_or(0, |pass| pass.passes),
            last_pass_seconds_ago: passed.map(|pass| now.duration_since(pass.ended).as_secs_f64()),
            last_pass_ms: passed.map(|pass| pass.took.as_secs_f64() * 1000.0),
            problem: ended.or(failing).cloned(),
        }
    }
}

/// Waits for tasks that make up one part. When one of them ends before the others, so does the part: a panic goes on in
/// whoever waits.
pub async fn together(mut tasks: JoinSet<()>, shutdown: &CancellationToken) {
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // At the end each finishes what it is at.
            Ok(()) | Err(_) if shutdown.is_cancelled() => {}
            Ok(()) | Err(_) => return,
        }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_panics_or_ends_is_started_again_and_told() {
        let shutdown = CancellationToken::new();
        let parts = Parts::new(shutdown.clone());
        let starts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&starts);
        let token = shutdown.clone();
        parts.run("shaky", move || {
            let (n, token) = (counted.fetch_add(1, Ordering::SeqCst), token.clone());
            async move {
                match n {
                    0 => panic!("the first time"),
                    1 => {}
                    _ => token.cancelled().await,
                }
            }
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        let report = parts.report().remove(0);
        assert!(!report.running);
        assert_eq!((report.restarts, report.problem.as_deref()), (1, Some("it panicked: the first time")));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(parts.report()[0].problem.as_deref(), Some("it ended"));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!((starts.load(Ordering::SeqCst), parts.report()[0].running), (3, true));
        assert!(parts.report()[0].problem.is_some(), "it is told for a while");
        tokio::time::sleep(SETTLED_AFTER).await;
        assert_eq!(parts.report()[0].problem, None);
        shutdown.cancel();
        parts.ended().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_again_and_again_backs_off() {
        let shutdown = CancellationToken::new();
        let parts = Parts::new(shutdown.clone());
        let starts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&starts);
        parts.run("broken", move || {
            counted.fetch_add(1, Ordering::SeqCst);
            async { panic!("again") }
        });
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let starts = starts.load(Ordering::SeqCst);
        assert!((50..80).contains(&starts), "{starts}");
        shutdown.cancel();
        parts.ended().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_reconciler_that_goes_on_failing_is_a_problem() {
        let parts = Parts::new(CancellationToken::new());
        parts.passed("r", Duration::from_millis(3), Some("no".to_owned()));
        assert_eq!(parts.report()[0].problem, None, "once is nothing");
        tokio::time::sleep(Duration::from_secs(11)).await;
        parts.passed("r", Duration::from_millis(3), Some("still no".to_owned()));
        assert_eq!(parts.report()[0].problem.as_deref(), Some("still no"));
        parts.passed("r", Duration::from_millis(3), None);
        let report = parts.report().remove(0);
        assert_eq!((report.problem, report.passes), (None, 3));
    }
}
