//! Runs a reconciler: once at the start, then whenever something changed or the reconciler asked to be called again.
//! A failure is logged and retried with back-off; it never ends the loop.

use std::future::Future;
use std::time::Duration;

use futures::future::{FutureExt, select_all};
use tokio::time::Instant;

use crate::Parts;
use crate::informer::Changes;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The first retry comes fast, as most failures are conflicts with another writer.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(50);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(30);

/// When a reconciler wants to run again if nothing changes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Change,
    After(Duration),
}

impl Next {
    /// The sooner of the two.
    pub fn sooner(self, other: Next) -> Next {
        match (self, other) {
            (Next::Change, next) | (next, Next::Change) => next,
            (Next::After(a), Next::After(b)) => Next::After(a.min(b)),
        }
    }
}

/// Where a reconciler runs when a cluster has several nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// On each node, for what is on that node.
    Node,
    /// Once, for all nodes.
    Cluster,
}

/// Takes a snapshot, plans, applies and publishes status, for everything it owns, each time it is called.
pub trait Reconciler: Send {
    /// Names the reconciler in logs.
    const NAME: &'static str;
    const SCOPE: Scope;

    fn reconcile(&mut self) -> impl Future<Output = Result<Next, BoxError>> + Send;
}

/// The changes that wake a reconciler.
#[derive(Debug, Default)]
pub struct Wake {
    changes: Vec<Changes>,
}

impl Wake {
    pub fn on(changes: impl IntoIterator<Item = Changes>) -> Self {
        Self { changes: changes.into_iter().collect() }
    }

    async fn next(&mut self) {
        if self.changes.is_empty() {
            return std::future::pending().await;
        }
        select_all(self.changes.iter_mut().map(|c| c.next().boxed())).await;
    }
}

/// Drives until the shutdown of `parts`, which learn how each pass ended. A reconcile under way is not cut short: its
/// writes finish first.
pub async fn drive<R: Reconciler>(mut reconciler: R, mut wake: Wake, parts: Parts) {
    let shutdown = parts.shutdown();
    let mut retry_delay = RETRY_DELAY_MIN;
    while !shutdown.is_cancelled() {
        let started = Instant::now();
        let result = reconciler.reconcile().await;
        let failure = result.as_ref().err().map(|error| Chain(&**error).to_string());
        parts.passed(R::NAME, started.elapsed(), failure);
        let next = match result {
            Ok(next) => {
                retry_delay = RETRY_DELAY_MIN;
                next
            }
            Err(error) => {
                tracing::warn!(reconciler = R::NAME, error = %Chain(&*error), "reconcile failed, will retry");
                let delay = retry_delay;
                retry_delay = (retry_delay * 2).min(RETRY_DELAY_MAX);
                tokio::select! {
                    () = tokio::time::sleep(delay) => continue,
                    () = shutdown.cancelled() => return,
                }
            }
        };
        tokio::select! {
            () = wake.next() => {}
            () = wait(next) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn wait(next: Next) {
    match next {
        Next::Change => std::future::pending().await,
        Next::After(delay) => tokio::time::sleep(delay).await,
    }
}

/// An error with its sources, on one line; what a source only says again is left out.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The client shows an API error with all its parts; its message says it all.
        if let Some(kube::Error::Api(status)) = self.0.downcast_ref::<kube::Error>() {
            return f.write_str(&status.message);
        }
        let mut said = self.0.to_string();
        let mut source = self.0.source();
        while let Some(error) = source {
            let text = error.to_string();
            if !said.contains(&text) {
                said = format!("{said}: {text}");
            }
            source = error.source();
        }
        f.write_str(&said)
    }
}
