//! The store of one box: SQLite for what must survive, the cache for reads and watches.
//!
//! `writer` is the only thread that changes either, the cache after SQLite has committed; `database` is every touch of
//! SQLite; `snapshots` keeps copies to fall back to; `resealing` exchanges the key of what is encrypted.

mod database;
mod log;
mod resealing;
mod sealing;
mod snapshots;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::cache::{Cache, CacheWatch, HistoryMax};
use crate::{Change, Entry, Error, ListOptions, Page, Revision, Store, VALUE_BYTES_MAX, Write};
use database::Database;
use writer::Request;

pub use database::{DamageReport, OpenError};
pub use resealing::Resealed;
pub use sealing::{KeyId, KeyUse, SealedWith, SealingKey};
pub use snapshots::{newest as newest_snapshot, restore as restore_snapshot};

/// Writes that may wait for the writer thread; more are refused, so that a stuck disk cannot fill the memory.
const QUEUE_MAX: usize = 4096;

#[derive(Clone, Debug)]
pub struct Config {
    /// The folder of the database and its snapshots.
    pub dir: PathBuf,
    /// Keys that live in memory only.
    pub volatile_prefixes: Vec<String>,
    /// Keys whose values are encrypted in the database and its snapshots; what is read from here is plain.
    pub sealed_prefixes: Vec<String>,
    /// Kept apart from the folder: without them a copy of the folder does not give sealed values away. The first seals,
    /// the others open what was sealed before; without one nothing is sealed.
    pub sealing_keys: Vec<SealingKey>,
    /// Changes kept for watchers that resume and lists at an older revision, as many and as large as these.
    pub history_max: usize,
    pub history_bytes_max: usize,
    /// The database may grow to this; a write beyond it is refused as on a full disk.
    pub size_bytes_max: u64,
    pub snapshots_max: usize,
}

impl Config {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            volatile_prefixes: Vec::new(),
            sealed_prefixes: Vec::new(),
            sealing_keys: Vec::new(),
            history_max: 2000,
            // A few of the largest objects; on an ordinary box all 2000 changes are smaller than this.
            history_bytes_max: 16 << 20,
            size_bytes_max: 1 << 30,
            snapshots_max: 3,
        }
    }
}

/// Cheap to clone; the writer thread ends with the last clone.
#[derive(Clone)]
pub struct Embedded {
    cache: Arc<Cache>,
    requests: mpsc::Sender<Request>,
    config: Arc<Config>,
}

impl Embedded {
    /// Opens or creates the database, checks every row of it and loads it. Blocks.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        let (database, loaded) = Database::open(&config)?;
        let history_max = HistoryMax { count: config.history_max, bytes: config.history_bytes_max };
        let cache = Arc::new(Cache::new(loaded.entries, loaded.revision, history_max));
        let (requests, receiver) = mpsc::channel(QUEUE_MAX);
        writer::spawn(database, Arc::clone(&cache), config.volatile_prefixes.clone(), receiver)?;
        Ok(Self { cache, requests, config: Arc::new(config) })
    }

    /// Writes a snapshot beside the database while writes go on, and removes the oldest beyond the limit.
    /// Returns `None` where nothing changed since the newest one.
    pub async fn snapshot(&self) -> Result<Option<PathBuf>, Error> {
        let snapshots_max = self.config.snapshots_max;
        self.between_writes(move |database| {
            let taken = snapshots::take(database, snapshots_max).map_err(|error| Error::Backend(error.to_string()));
            database.fill_log();
            taken
        })
        .await
    }

    /// Has the writer thread do something with the database when what came before is committed.
    async fn between_writes<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let work = Box::new(move |database: &mut Database| drop(reply.send(work(database))));
        self.requests.send(Request::Between { work }).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Finishes what waits, folds the log back and closes the file. Later writes are answered with [`Error::Closed`].
    pub async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.requests.send(Request::Close { reply }).await.is_ok() {
            let _ = answer.await;
        }
    }

    pub fn dir(&self) -> &Path {
        &self.config.dir
    }

    /// Keys held, and the bytes of their values.
    pub fn size(&self) -> (usize, usize) {
        self.cache.size()
    }

    /// Ends all watches, and lists at earlier revisions: they are answered with [`Error::Expired`], so that readers list
    /// anew. For when what is stored was exchanged as a whole.
    pub async fn end_era(&self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::EndEra { reply }).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

impl Store for Embedded {
    type Watch = CacheWatch;

    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        Ok(self.cache.get(key))
    }

    async fn list(&self, prefix: &str, options: ListOptions) -> Result<Page, Error> {
        self.cache.list(prefix, &options)
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Change>, Error> {
        let sizes = writes.iter().map(|write| match write {
            Write::Put { value, .. } => value.len(),
            Write::Delete { .. } | Write::Check { .. } => 0,
        });
        if let Some(size_bytes) = sizes.max().filter(|size| *size > VALUE_BYTES_MAX) {
            return Err(Error::TooLarge { size_bytes });
        }
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(Request::Commit { writes, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Error::Closed,
        })?;
        answer.await.map_err(|_| Error::Closed)?
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<CacheWatch, Error> {
        self.cache.watch(prefix, after)
    }

    fn revision(&self) -> Revision {
        self.cache.revision()
    }
}
