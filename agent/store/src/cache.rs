//! What readers see: the objects and the newest changes, in memory. A backend loads it once and then tells it of each change
//! when it is durable; reads, lists at earlier revisions and watches are served from here, whatever the backend is.

mod memory;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::{Change, Entry, Error, ListOptions, Page, Revision, Watch};
use memory::Memory;

/// Changes given to a watcher at once.
const WATCH_BATCH_MAX: usize = 256;

/// How many of the newest changes are kept, for watchers that resume and lists at an earlier revision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HistoryMax {
    pub count: usize,
    /// Of the values that they replaced.
    pub bytes: usize,
}

pub(crate) struct Cache {
    memory: Mutex<Memory>,
    /// The newest revision that readers may see.
    published: watch::Sender<Revision>,
}

impl Cache {
    pub(crate) fn new(entries: Vec<Entry>, revision: Revision, history_max: HistoryMax) -> Self {
        let memory = Memory::new(entries, revision, history_max);
        Self { memory: Mutex::new(memory), published: watch::Sender::new(revision) }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, key: &str) -> Option<Entry> {
        self.memory().get(key)
    }

    pub(crate) fn list(&self, prefix: &str, options: &ListOptions) -> Result<Page, Error> {
        self.memory().list(prefix, options)
    }

    pub(crate) fn revision(&self) -> Revision {
        *self.published.borrow()
    }

    /// Keys held, and the bytes of their values.
    pub(crate) fn size(&self) -> (usize, usize) {
        self.memory().size()
    }

    /// Applies changes that are durable, in order of revision, and wakes watchers. All there is up to `revision` is known
    /// then.
    pub(crate) fn apply(&self, changes: Vec<Change>, revision: Revision) {
        self.memory().apply(changes);
        self.published.send_replace(revision);
    }

    /// Nothing before `revision` can be asked for any more, and every watch expires.
    pub(crate) fn end_era(&self, revision: Revision) {
        self.memory().end_era(revision);
        self.published.send_replace(revision);
    }

    pub(crate) fn watch(self: &Arc<Self>, prefix: &str, after: Revision) -> Result<CacheWatch, Error> {
        let published = self.published.subscribe();
        self.memory().check_revision(prefix, after)?;
        Ok(CacheWatch { cache: Arc::clone(self), published, prefix: prefix.to_owned(), seen: after })
    }

    #[cfg(test)]
    pub(crate) fn history_size(&self) -> (usize, usize) {
        self.memory().history_size()
    }
}

/// Reads the changes from the history: a slow watcher costs no queue, it expires.
pub struct CacheWatch {
    cache: Arc<Cache>,
    published: watch::Receiver<Revision>,
    prefix: String,
    seen: Revision,
}

impl Watch for CacheWatch {
    async fn next(&mut self) -> Result<(Vec<Change>, Revision), Error> {
        loop {
            let seen = self.seen;
            if self.published.wait_for(|newest| *newest > seen).await.is_err() {
                return Err(Error::Closed);
            }
            let (changes, upto) = self.cache.memory().changes(&self.prefix, seen, WATCH_BATCH_MAX)?;
            self.seen = upto;
            if !changes.is_empty() {
                return Ok((changes, upto));
            }
        }
    }

    fn seen(&self) -> Revision {
        self.seen
    }
}
