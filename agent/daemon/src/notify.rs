//! What the service manager is told (sd_notify(3)): how far the start has come, and that the agent is alive.

use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Namespace;
use sd_notify::NotifyState;
use skiff_store::{Embedded, Error, Store};
use tokio_util::sync::CancellationToken;

/// Of the watchdog's time: a sign of life may be late twice before the agent is taken for dead.
const SIGNS_IN_TIME: u32 = 3;
/// No object has this key, so that deleting it goes through the writer without writing anything.
const NO_KEY: &str = "/liveness";

pub fn status(text: &str) {
    send(&NotifyState::Status(text));
}

pub fn ready(text: &str) {
    send(&NotifyState::Ready);
    status(text);
}

pub fn stopping() {
    send(&NotifyState::Stopping);
}

fn send(state: &NotifyState<'_>) {
    // Without a service manager there is nobody to tell.
    let _ = sd_notify::notify(std::slice::from_ref(state));
}

/// Feeds the watchdog, if there is one, as long as the API answers and the store takes writes.
pub async fn feed_watchdog(client: kube::Client, store: Embedded, shutdown: CancellationToken) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return shutdown.cancelled().await };
    let alive = move || -> BoxFuture<'static, bool> {
        let (client, store) = (client.clone(), store.clone());
        Box::pin(async move { is_alive(client, &store).await })
    };
    tokio::select! {
        () = feed(limit / SIGNS_IN_TIME, alive, || send(&NotifyState::Watchdog)) => {}
        () = shutdown.cancelled() => {}
    }
}

async fn feed(interval: Duration, alive: impl Fn() -> BoxFuture<'static, bool>, tell: impl Fn()) {
    loop {
        if alive().await {
            tell();
        } else {
            tracing::error!("the agent does not work, the service manager will start it again");
        }
        tokio::time::sleep(interval).await;
    }
}

async fn is_alive(client: kube::Client, store: &Embedded) -> bool {
    let namespaces: kube::Api<Namespace> = kube::Api::all(client);
    let answers = namespaces.get_opt("default").await.is_ok();
    answers && matches!(store.delete(NO_KEY, 0).await, Err(Error::NotFound { .. }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_live_agent_is_reported() {
        let (alive, told) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (is_alive, count) = (Arc::clone(&alive), Arc::clone(&told));
        let check =
            move || -> BoxFuture<'static, bool> { Box::pin(std::future::ready(is_alive.load(Ordering::SeqCst))) };
        let feeding = tokio::spawn(feed(Duration::from_secs(60), check, move || {
            count.fetch_add(1, Ordering::SeqCst);
        }));
        tokio::time::sleep(Duration::from_secs(150)).await;
        assert_eq!(told.load(Ordering::SeqCst), 3);
        alive.store(false, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(told.load(Ordering::SeqCst), 3);
        feeding.abort();
    }

    #[tokio::test]
    async fn the_store_is_asked_without_a_write() {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(skiff_store::Config::new(dir.path())).unwrap();
        let before = store.revision();
        assert!(matches!(store.delete(NO_KEY, 0).await, Err(Error::NotFound { .. })));
        assert_eq!(store.revision(), before);
        store.close().await;
        assert!(matches!(store.delete(NO_KEY, 0).await, Err(Error::Closed)));
    }
}
