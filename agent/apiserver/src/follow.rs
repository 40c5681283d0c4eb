//! What is kept in memory of some kinds, made anew after any change of them. What fails is tried again: what is enforced must
//! not stay behind what is written.

use std::time::Duration;

use skiff_store::{Error, Store, Watch};
use tokio_util::sync::CancellationToken;

const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Reloads after each change below the prefixes, until `shutdown`. `what` is said where it fails.
pub async fn follow<S: Store>(
    store: S,
    prefixes: Vec<String>,
    what: &'static str,
    reload: impl AsyncFn(&S) -> Result<(), Error>,
    shutdown: CancellationToken,
) {
    let mut delay = RETRY_MIN;
    while !shutdown.is_cancelled() {
        match follow_once(&store, &prefixes, &reload, &shutdown).await {
            Ok(()) => delay = RETRY_MIN,
            // Fell behind what the store keeps: watch anew, and the reload before sees everything.
            Err(Error::Expired { .. }) => {}
            Err(error) => {
                tracing::error!(%error, "{what} could not be read: what is enforced may be old; trying again");
                delay = (delay * 2).min(RETRY_MAX);
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = shutdown.cancelled() => return,
                }
            }
        }
    }
}

/// Watches before it reads, so that no change falls between the two.
async fn follow_once<S: Store>(
    store: &S,
    prefixes: &[String],
    reload: &impl AsyncFn(&S) -> Result<(), Error>,
    shutdown: &CancellationToken,
) -> Result<(), Error> {
    let from = store.revision();
    let mut watches = Vec::new();
    for prefix in prefixes {
        watches.push(store.watch(prefix, from).await?);
    }
    loop {
        reload(store).await?;
        let changed = futures::future::select_all(watches.iter_mut().map(|watch| Box::pin(watch.next())));
        tokio::select! {
            (result, ..) = changed => drop(result?),
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}
