//! The one thread that writes. It takes all requests that wait, commits them in one transaction and then publishes
//! them: many writers share one sync of the disk.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::database::{Database, OpenError};
use crate::cache::Cache;
use crate::{Change, Entry, Error, Expect, Revision, Write};

/// Requests committed together: enough to amortize the sync, few enough to answer the first soon.
const BATCH_MAX: usize = 512;
/// Revisions promised to the database at once. After a crash the numbering goes on behind the promise, so that
/// revisions given to volatile keys, which leave no trace, are not used twice.
const REVISIONS_RESERVED: Revision = 100_000;

type Reply = oneshot::Sender<Result<Vec<Change>, Error>>;

pub(super) enum Request {
    Commit {
        writes: Vec<Write>,
        reply: Reply,
    },
    /// All watches and revisions so far are over: readers list anew.
    EndEra {
        reply: oneshot::Sender<Result<(), Error>>,
    },
    /// Something else with the database, such as a snapshot. Changes nothing that readers see.
    Between {
        work: Box<dyn FnOnce(&mut Database) + Send>,
    },
    /// Fold the log back and let go of the file; nothing is written afterwards.
    Close {
        reply: oneshot::Sender<()>,
    },
}

pub(super) fn spawn(
    database: Database,
    cache: Arc<Cache>,
    volatile_prefixes: Vec<String>,
    requests: mpsc::Receiver<Request>,
) -> Result<(), OpenError> {
    let revision = cache.revision();
    let writer = Writer { database, cache, volatile_prefixes, revision };
    std::thread::Builder::new()
        .name("store-writer".to_owned())
        .spawn(move || writer.run(requests))
        .map(drop)
        .map_err(OpenError::Thread)
}

struct Writer {
    database: Database,
    cache: Arc<Cache>,
    volatile_prefixes: Vec<String>,
    revision: Revision,
}

/// A batch as it takes shape: what it changes, on top of what is published.
#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    /// The state of each touched key after the changes so far.
    touched: HashMap<Arc<str>, Option<Entry>>,
    /// Refusals wait too: what they are based on may not be published yet.
    answers: Vec<(Reply, Result<Vec<Change>, Error>)>,
}

impl Writer {
    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut waiting = Vec::with_capacity(BATCH_MAX);
        while requests.blocking_recv_many(&mut waiting, BATCH_MAX) > 0 {
            let mut batch = Batch::default();
            for request in waiting.drain(..) {
                match request {
                    Request::Commit { writes, reply } => {
                        let answer = self.add(&mut batch, writes);
                        batch.answers.push((reply, answer));
                    }
                    Request::EndEra { reply } => {
                        self.finish(std::mem::take(&mut batch));
                        let _ = reply.send(self.end_era());
                    }
                    Request::Between { work } => {
                        self.finish(std::mem::take(&mut batch));
                        work(&mut self.database);
                    }
                    Request::Close { reply } => {
                        self.finish(batch);
                        self.database.close();
                        let _ = reply.send(());
                        return;
                    }
                }
            }
            self.finish(batch);
        }
        self.database.close();
    }

    /// Adds one request's writes to the batch, all or none.
    fn add(&self, batch: &mut Batch, writes: Vec<Write>) -> Result<Vec<Change>, Error> {
        let mut revision = self.revision + batch.changes.len() as Revision;
        let mut changes: Vec<Change> = Vec::with_capacity(writes.len());
        for write in writes {
            let current = match batch.touched.get(write.key()) {
                Some(entry) => entry.clone(),
                None => self.cache.get(write.key()),
            };
            if let Some(change) = plan(write, current, revision + 1)? {
                revision += 1;
                changes.push(change);
            }
        }
        for change in &changes {
            let (key, after) = match change {
                Change::Put { entry, .. } => (Arc::clone(&entry.key), Some(entry.clone())),
                Change::Deleted { previous, .. } => (Arc::clone(&previous.key), None),
            };
            batch.touched.insert(key, after);
        }
        batch.changes.extend(changes.iter().cloned());
        Ok(changes)
    }

    fn end_era(&mut self) -> Result<(), Error> {
        self.revision += 1;
        self.database.commit(std::iter::empty(), self.reserve()).map_err(|error| error.as_store_error())?;
        self.cache.end_era(self.revision);
        Ok(())
    }

    /// What is to be promised to the database before the newest revision may be seen.
    fn reserve(&self) -> Option<Revision> {
        (self.revision > self.database.reserved()).then(|| self.revision + REVISIONS_RESERVED)
    }

    /// Commits, publishes and answers. After a failed commit nothing of the batch has happened.
    fn finish(&mut self, batch: Batch) {
        if batch.changes.is_empty() {
            for (reply, answer) in batch.answers {
                let _ = reply.send(answer);
            }
            return;
        }
        let newest = batch.changes.last().map_or(self.revision, Change::revision);
        let durable = |change: &&Change| !self.volatile_prefixes.iter().any(|p| change.key().starts_with(p.as_str()));
        // Also after a failure no revision is given out again.
        self.revision = newest;
        let committed = self.database.commit(batch.changes.iter().filter(durable), self.reserve());
        if let Err(error) = committed {
            tracing::warn!(%error, "writes were refused");
            for (reply, _) in batch.answers {
                let _ = reply.send(Err(error.as_store_error()));
            }
            return;
        }
        self.cache.apply(batch.changes, self.revision);
        for (reply, answer) in batch.answers {
            let _ = reply.send(answer);
        }
    }
}

/// What a write does to a key that stands at `current`; a check does nothing.
fn plan(write: Write, current: Option<Entry>, revision: Revision) -> Result<Option<Change>, Error> {
    match write {
        Write::Put { key, value, expect } => {
            let created = match (&current, expect) {
                (None, Expect::Absent) => revision,
                (Some(_), Expect::Absent) => return Err(Error::Exists { key: key.to_string() }),
                (None, Expect::At(_)) => return Err(Error::NotFound { key: key.to_string() }),
                (Some(entry), Expect::At(expected)) => {
                    check(entry, expected)?;
                    entry.created
                }
            };
            let entry = Entry { key, value, created, modified: revision };
            Ok(Some(Change::Put { entry, previous: current }))
        }
        Write::Delete { key, expected } => {
            let previous = current.ok_or_else(|| Error::NotFound { key: key.to_string() })?;
            check(&previous, expected)?;
            Ok(Some(Change::Deleted { previous, revision }))
        }
        Write::Check { key, expect } => match (&current, expect) {
            (None, Expect::Absent) => Ok(None),
            (Some(_), Expect::Absent) => Err(Error::Exists { key: key.to_string() }),
            (None, Expect::At(_)) => Err(Error::NotFound { key: key.to_string() }),
            (Some(entry), Expect::At(expected)) => check(entry, expected).map(|()| None),
        },
    }
}

fn check(entry: &Entry, expected: Revision) -> Result<(), Error> {
    if entry.modified == expected {
        return Ok(());
    }
    Err(Error::Conflict { key: entry.key.to_string(), expected, actual: entry.modified })
}
