//! The driver with paused time, and the informer over a fixed set.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use tokio_util::sync::CancellationToken;

use crate::{BoxError, Informer, Next, Parts, Reconciler, Scope, Wake, drive};

struct Counting {
    calls: Arc<AtomicU32>,
    failures_left: u32,
    next: Next,
}

impl Reconciler for Counting {
    const NAME: &'static str = "counting";
    const SCOPE: Scope = Scope::Node;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.failures_left > 0 {
            self.failures_left -= 1;
            return Err("not yet".into());
        }
        Ok(self.next)
    }
}

async fn calls_within(failures: u32, next: Next, time: Duration) -> u32 {
    let calls = Arc::new(AtomicU32::new(0));
    let shutdown = CancellationToken::new();
    let reconciler = Counting { calls: Arc::clone(&calls), failures_left: failures, next };
    let task = tokio::spawn(drive(reconciler, Wake::default(), Parts::new(shutdown.clone())));
    tokio::time::sleep(time).await;
    shutdown.cancel();
    task.await.expect("the driver ends");
    calls.load(Ordering::SeqCst)
}

#[tokio::test(start_paused = true)]
async fn runs_once_and_waits_for_a_change() {
    assert_eq!(calls_within(0, Next::Change, Duration::from_secs(3600)).await, 1);
}

#[tokio::test(start_paused = true)]
async fn runs_again_after_the_delay_it_asked_for() {
    assert_eq!(calls_within(0, Next::After(Duration::from_secs(10)), Duration::from_secs(35)).await, 4);
}

#[tokio::test(start_paused = true)]
async fn retries_with_growing_delays() {
    // 50 + 100 + 200 + 400 ms, then success and quiet.
    assert_eq!(calls_within(4, Next::Change, Duration::from_secs(3600)).await, 5);
    // In ten minutes of failure: the doubling delays up to 30 s, then one each 30 s.
    let calls = calls_within(u32::MAX, Next::Change, Duration::from_secs(600)).await;
    assert!((25..35).contains(&calls), "{calls}");
}

#[tokio::test]
async fn a_fixed_informer_is_synced_and_found_by_name() {
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some("default".to_owned());
    let informer = Informer::fixed([namespace]);
    informer.synced().await;
    assert_eq!(informer.list().len(), 1);
    assert!(informer.get(None, "default").is_some());
    assert!(informer.get(None, "other").is_none());
}
