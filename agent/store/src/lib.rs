//! Revisioned objects and watches behind one trait.
//!
//! Keys are paths, values are opaque bytes, every write gets the next revision. What is acknowledged is durable, except
//! keys under [`Config::volatile_prefixes`], which live in memory. The store knows nothing of Kubernetes' objects.

mod cache;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod embedded;
pub mod packing;

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

pub use cache::CacheWatch;
pub use embedded::{
    Config, DamageReport, Embedded, KeyId, KeyUse, OpenError, Resealed, SealedWith, SealingKey, newest_snapshot,
    restore_snapshot,
};

/// The number of a write. Grows for ever, never reused, not even after a crash; gaps are normal.
pub type Revision = u64;

/// The largest value a key may hold: upstream's limit on a request to etcd.
pub const VALUE_BYTES_MAX: usize = 1_572_864;

/// One key as it stands at some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Arc<str>,
    /// As it was written, which may be [packed](packing).
    pub value: Bytes,
    /// The write that created the key.
    pub created: Revision,
    /// The write that gave it this value.
    pub modified: Revision,
}

/// What a write did to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put {
        entry: Entry,
        previous: Option<Entry>,
    },
    /// `modified` of the previous entry is when it was last written; the deletion itself has `revision`.
    Deleted {
        previous: Entry,
        revision: Revision,
    },
}

impl Change {
    pub fn revision(&self) -> Revision {
        match self {
            Change::Put { entry, .. } => entry.modified,
            Change::Deleted { revision, .. } => *revision,
        }
    }

    pub fn key(&self) -> &str {
        match self {
            Change::Put { entry, .. } => &entry.key,
            Change::Deleted { previous, .. } => &previous.key,
        }
    }
}

/// What must hold for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent,
    /// The key was last written at this revision.
    At(Revision),
}

/// One of several writes that happen together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    Put {
        key: Arc<str>,
        value: Bytes,
        expect: Expect,
    },
    /// Deletes a key that was last written at `expected`.
    Delete {
        key: Arc<str>,
        expected: Revision,
    },
    /// Writes nothing: the other writes happen only if this holds, such as that a leadership was not lost.
    Check {
        key: Arc<str>,
        expect: Expect,
    },
}

impl Write {
    pub fn put(key: &str, value: Bytes, expect: Expect) -> Self {
        Write::Put { key: Arc::from(key), value, expect }
    }

    pub fn delete(key: &str, expected: Revision) -> Self {
        Write::Delete { key: Arc::from(key), expected }
    }

    pub fn key(&self) -> &Arc<str> {
        match self {
            Write::Put { key, .. } | Write::Delete { key, .. } | Write::Check { key, .. } => key,
        }
    }
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub entries: Vec<Entry>,
    /// The revision the whole list is of.
    pub revision: Revision,
    /// Keys that follow this page.
    pub remaining: usize,
}

/// Which part of a list is wanted.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// As it was at this revision; now if absent.
    pub at: Option<Revision>,
    /// Only keys that sort after this one.
    pub after: Option<String>,
    /// At most this many.
    pub limit: Option<usize>,
}

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("key {key} already exists")]
    Exists { key: String },
    #[error("key {key} does not exist")]
    NotFound { key: String },
    /// Somebody else wrote first.
    #[error("key {key} was written at revision {actual}, not {expected}")]
    Conflict { key: String, expected: Revision, actual: Revision },
    #[error("revision {wanted} is older than the oldest kept, {oldest}")]
    Expired { wanted: Revision, oldest: Revision },
    #[error("revision {wanted} is in the future: the newest is {newest}")]
    Future { wanted: Revision, newest: Revision },
    #[error("a value of {size_bytes} bytes is over the limit of {VALUE_BYTES_MAX}")]
    TooLarge { size_bytes: usize },
    #[error("the disk is full")]
    Full,
    #[error("too many writes are waiting")]
    Overloaded,
    #[error("the store is closed")]
    Closed,
    #[error("the backend failed: {0}")]
    Backend(String),
}

/// Everything the API service needs of a store; each backend passes the suite in `contract`.
pub trait Store: Send + Sync + 'static {
    type Watch: Watch;

    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Entry>, Error>> + Send;
    /// Entries whose key starts with `prefix`, in order of key.
    fn list(&self, prefix: &str, options: ListOptions) -> impl Future<Output = Result<Page, Error>> + Send;
    /// All of these or none; the error names the key that stood against it. Answers what changed, in their order. No key
    /// may be written twice.
    fn commit(&self, writes: Vec<Write>) -> impl Future<Output = Result<Vec<Change>, Error>> + Send;

    fn put(&self, key: &str, value: Bytes, expect: Expect) -> impl Future<Output = Result<Entry, Error>> + Send {
        let written = self.commit(vec![Write::put(key, value, expect)]);
        async move {
            match written.await?.pop() {
                Some(Change::Put { entry, .. }) => Ok(entry),
                Some(Change::Deleted { .. }) | None => unreachable!("a put is answered as a put"),
            }
        }
    }

    /// Deletes a key that was last written at `expected`; returns what it held and the revision of the deletion.
    fn delete(&self, key: &str, expected: Revision) -> impl Future<Output = Result<(Entry, Revision), Error>> + Send {
        let written = self.commit(vec![Write::delete(key, expected)]);
        async move {
            match written.await?.pop() {
                Some(Change::Deleted { previous, revision }) => Ok((previous, revision)),
                Some(Change::Put { .. }) | None => unreachable!("a deletion is answered as a deletion"),
            }
        }
    }

    /// All changes under `prefix` with a revision above `after`, in order.
    fn watch(&self, prefix: &str, after: Revision) -> impl Future<Output = Result<Self::Watch, Error>> + Send;
    /// The newest revision.
    fn revision(&self) -> Revision;
}

/// A running watch.
pub trait Watch: Send + 'static {
    /// The next batch of changes, and the revision up to which they are complete. Cancel safe.
    /// [`Error::Expired`] when the reader fell behind what is kept.
    fn next(&mut self) -> impl Future<Output = Result<(Vec<Change>, Revision), Error>> + Send;
    /// All changes up to here have been returned: where to resume.
    fn seen(&mut self) -> Revision;
}
