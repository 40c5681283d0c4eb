//! What every object is to others (its name, owners, finalizers and whether it is to go), from the one stream in which
//! the API tells it: for garbage collection and whoever else would watch each kind. Readers look into the index; who
//! follows is told which objects may matter after a change.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt};
use http::Request;
use kube::Client;
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::informer::Changes;
use crate::resources::ServedKinds;

mod index;

pub(crate) use index::shrink_map;
pub use index::{Index, KindName, Object, Owner, Told, ToldMetadata, ToldOwner, Uid};

const PATH: &str = "/skiff/v1/metadata";
/// The stream ends when kinds come or go, and then is there at once.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(50);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(10);

/// Clones share one stream and one index.
#[derive(Clone)]
pub struct Feed {
    shared: Arc<Shared>,
}

struct Shared {
    index: RwLock<Index>,
    kinds: RwLock<Arc<ServedKinds>>,
    followers: Mutex<Vec<Weak<Touched>>>,
    generation: watch::Sender<u64>,
    synced: watch::Sender<bool>,
}

#[derive(Default)]
struct Touched {
    uids: Mutex<HashSet<Uid>>,
}

/// Hears of every object that a change may matter to.
pub struct Follower {
    touched: Arc<Touched>,
}

impl Follower {
    /// The objects since the last call.
    pub fn take(&self) -> HashSet<Uid> {
        std::mem::take(&mut *self.touched.uids.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    what: What,
    object: Told,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
enum What {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

/// Why the stream ended.
#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error("the API refuses it")]
    Refused(#[from] kube::Error),
    #[error("the stream of metadata broke")]
    Broken(#[from] std::io::Error),
    #[error("what was sent is not understood")]
    Event(#[from] serde_json::Error),
    #[error("the server ended it")]
    Ended,
}

impl Feed {
    /// Starts to read; ends with `shutdown`. A stream that ends is begun anew for ever, with back-off.
    pub fn spawn(client: Client, shutdown: CancellationToken) -> Self {
        let feed = Self::empty();
        let shared = Arc::clone(&feed.shared);
        tokio::spawn(async move {
            tokio::select! {
                () = read_for_ever(&client, &shared) => {}
                () = shutdown.cancelled() => {}
            }
        });
        feed
    }

    /// A feed over a fixed set, for tests of what reads it.
    pub fn fixed(objects: impl IntoIterator<Item = Told>, kinds: ServedKinds) -> Self {
        let feed = Self::empty();
        let mut index = Index::default();
        objects.into_iter().for_each(|told| drop(index.put(told)));
        feed.shared.replace(index, kinds);
        feed
    }

    fn empty() -> Self {
        Self {
            shared: Arc::new(Shared {
                index: RwLock::default(),
                kinds: RwLock::default(),
                followers: Mutex::default(),
                generation: watch::Sender::new(0),
                synced: watch::Sender::new(false),
            }),
        }
    }

    /// Waits until everything there is has been told once.
    pub async fn synced(&self) {
        let mut synced = self.shared.synced.subscribe();
        // The sender lives as long as `self`, so that waiting cannot fail.
        let _ = synced.wait_for(|done| *done).await;
    }

    /// Looks into the index. Nothing is told meanwhile: `look` must be quick.
    pub fn read<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        look(&self.shared.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The kinds that were served when the stream began.
    pub fn kinds(&self) -> Arc<ServedKinds> {
        Arc::clone(&self.shared.kinds.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Wakes after every change from now on; also once when everything has been told.
    pub fn changes(&self) -> Changes {
        self.shared.generation.subscribe().into()
    }

    /// Follows from now on, beginning with everything that is known.
    pub fn follow(&self) -> Follower {
        let touched = Arc::new(Touched::default());
        // Registered first: what is told between is told twice rather than never.
        self.shared.followers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&touched));
        let all: Vec<Uid> = self.read(|index| index.objects().map(|(uid, _)| uid).collect());
        touched.uids.lock().unwrap_or_else(PoisonError::into_inner).extend(all);
        Follower { touched }
    }
}

impl Shared {
    fn replace(&self, index: Index, kinds: ServedKinds) {
        let all: Vec<Uid> = index.objects().map(|(uid, _)| uid).collect();
        *self.kinds.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(kinds);
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = index;
        self.synced.send_replace(true);
        self.tell(&all);
    }

    fn change(&self, what: What, told: Told) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let touched = apply(&mut index, what, told);
        drop(index);
        self.tell(&touched);
    }

    fn tell(&self, uids: &[Uid]) {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner).retain(|follower| {
            let Some(touched) = follower.upgrade() else { return false };
            touched.uids.lock().unwrap_or_else(PoisonError::into_inner).extend(uids);
            true
        });
        self.generation.send_modify(|generation| *generation += 1);
    }
}

/// What has no identity is nothing to others.
fn apply(index: &mut Index, what: What, told: Told) -> Vec<Uid> {
    match what {
        What::Added | What::Modified if !told.metadata.uid.is_empty() => index.put(told),
        What::Deleted => index.remove(&told.metadata.uid),
        What::Added | What::Modified | What::Bookmark | What::Error => Vec::new(),
    }
}

async fn read_for_ever(client: &Client, shared: &Shared) {
    let mut delay = RETRY_DELAY_MIN;
    loop {
        let mut complete = false;
        let error = match read(client, shared, &mut complete).await {
            Ok(()) => FeedError::Ended,
            Err(error) => error,
        };
        if complete {
            delay = RETRY_DELAY_MIN;
        }
        tracing::debug!(error = %crate::Chain(&error), "the feed begins anew");
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(RETRY_DELAY_MAX);
    }
}

/// Reads one stream to its end. What it begins with replaces all that was known.
async fn read(client: &Client, shared: &Shared, complete: &mut bool) -> Result<(), FeedError> {
    let request = Request::get(PATH).header(http::header::ACCEPT_ENCODING, "identity");
    let request = request.body(Vec::new()).expect("a constant path");
    let mut lines = std::pin::pin!(client.request_stream(request).await?.lines());
    // The stream ends if other kinds are served than when it began: these are those, or it ends soon.
    let mut first = Some((Index::default(), ServedKinds::discover(client).await?));
    while let Some(line) = lines.next().await {
        let Event { what, object } = serde_json::from_str(&line?)?;
        match (what, first.take()) {
            (What::Error, _) => return Err(FeedError::Ended),
            (What::Bookmark, Some((index, kinds))) => {
                shared.replace(index, kinds);
                *complete = true;
            }
            (What::Added | What::Modified | What::Deleted, Some((mut index, kinds))) => {
                apply(&mut index, what, object);
                first = Some((index, kinds));
            }
            (What::Added | What::Modified | What::Deleted | What::Bookmark, None) => shared.change(what, object),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
