//! What readers see: the objects and the newest changes, in memory. A backend loads it once and then tells it of each change
//! when it is durable; reads, lists at earlier revisions and watches are served from here, whatever the backend is.

mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

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
    published: AtomicU64,
    watchers: Mutex<Watchers>,
}

/// Who waits for changes, by a number of his own.
#[derive(Default)]
struct Watchers {
    last: u64,
    all: BTreeMap<u64, Watcher>,
}

struct Watcher {
    prefix: Arc<str>,
    wake: Arc<Notify>,
}

impl Watchers {
    fn wake(&self, concerns: impl Fn(&Watcher) -> bool) {
        self.all.values().filter(|watcher| concerns(watcher)).for_each(|watcher| watcher.wake.notify_one());
    }
}

impl Cache {
    pub(crate) fn new(entries: Vec<Entry>, revision: Revision, history_max: HistoryMax) -> Self {
        let memory = Memory::new(entries, revision, history_max);
        Self { memory: Mutex::new(memory), published: AtomicU64::new(revision), watchers: Mutex::default() }
    }

    fn watchers(&self) -> MutexGuard<'_, Watchers> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.published.load(Ordering::Acquire)
    }

    /// Keys held, and the bytes of their values.
    pub(crate) fn size(&self) -> (usize, usize) {
        self.memory().size()
    }

    /// Applies changes that are durable, in order of revision, and wakes those whom they concern: a box has dozens of
    /// watchers, and most changes are about what one or two of them look at. All there is up to `revision` is known then.
    pub(crate) fn apply(&self, changes: Vec<Change>, revision: Revision) {
        let groups: BTreeSet<String> = changes.iter().map(|change| memory::group(change.key()).to_owned()).collect();
        self.memory().apply(changes);
        self.published.store(revision, Ordering::Release);
        self.watchers().wake(|watcher| groups.iter().any(|group| memory::is_below(group, &watcher.prefix)));
    }

    /// Nothing before `revision` can be asked for any more, and every watch expires.
    pub(crate) fn end_era(&self, revision: Revision) {
        self.memory().end_era(revision);
        self.published.store(revision, Ordering::Release);
        self.watchers().wake(|_| true);
    }

    pub(crate) fn watch(self: &Arc<Self>, prefix: &str, after: Revision) -> Result<CacheWatch, Error> {
        self.memory().check_revision(prefix, after)?;
        let (prefix, wake): (Arc<str>, _) = (prefix.into(), Arc::new(Notify::new()));
        let mut watchers = self.watchers();
        watchers.last += 1;
        let number = watchers.last;
        watchers.all.insert(number, Watcher { prefix: Arc::clone(&prefix), wake: Arc::clone(&wake) });
        Ok(CacheWatch { cache: Arc::clone(self), number, wake, prefix, seen: after })
    }

    #[cfg(test)]
    pub(crate) fn history_size(&self) -> (usize, usize) {
        self.memory().history_size()
    }
}

/// Reads the changes from the history: a slow watcher costs no queue, it expires.
pub struct CacheWatch {
    cache: Arc<Cache>,
    number: u64,
    wake: Arc<Notify>,
    prefix: Arc<str>,
    seen: Revision,
}

impl Drop for CacheWatch {
    fn drop(&mut self) {
        self.cache.watchers().all.remove(&self.number);
    }
}

impl Watch for CacheWatch {
    async fn next(&mut self) -> Result<(Vec<Change>, Revision), Error> {
        loop {
            let (changes, upto) = self.cache.memory().changes(&self.prefix, self.seen, WATCH_BATCH_MAX)?;
            self.seen = upto;
            if !changes.is_empty() {
                return Ok((changes, upto));
            }
            // What came since then has left its mark: none is missed.
            self.wake.notified().await;
        }
    }

    fn seen(&mut self) -> Revision {
        // Nobody is woken for what concerns him not.
        if let Ok((changes, upto)) = self.cache.memory().changes(&self.prefix, self.seen, 1)
            && changes.is_empty()
        {
            self.seen = upto;
        }
        self.seen
    }
}
