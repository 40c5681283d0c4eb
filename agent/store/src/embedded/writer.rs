//! The one thread that writes. It takes all requests that wait, commits them in one transaction and then publishes
//! them: many writers share one sync of the disk.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::database::{Database, OpenError};
use super::snapshots;
use crate::{Change, Entry, Error, Expect, Revision};

/// Requests committed together: enough to amortize the sync, few enough to answer the first soon.
const BATCH_MAX: usize = 512;
/// Revisions promised to the database at once. After a crash the numbering goes on behind the promise, so that
/// revisions given to volatile keys, which leave no trace, are not used twice.
const REVISIONS_RESERVED: Revision = 100_000;

pub(super) enum Operation {
    Put { value: Bytes, expect: Expect },
    Delete { expected: Revision },
}

pub(super) enum Outcome {
    Put(Entry),
    Deleted(Entry, Revision),
}

type Reply = oneshot::Sender<Result<Outcome, Error>>;

pub(super) enum Request {
    Write {
        key: Arc<str>,
        operation: Operation,
        reply: Reply,
    },
    Snapshot {
        snapshots_max: usize,
        reply: oneshot::Sender<Result<Option<PathBuf>, Error>>,
    },
    /// Fold the log back and let go of the file; nothing is written afterwards.
    Close {
        reply: oneshot::Sender<()>,
    },
}

pub(super) fn spawn(
    database: Database,
    shared: Arc<Shared>,
    volatile_prefixes: Vec<String>,
    requests: mpsc::Receiver<Request>,
) -> Result<(), OpenError> {
    let revision = *shared.published.borrow();
    let writer = Writer { database, shared, volatile_prefixes, revision };
    std::thread::Builder::new()
        .name("store-writer".to_owned())
        .spawn(move || writer.run(requests))
        .map(drop)
        .map_err(OpenError::Thread)
}

struct Writer {
    database: Database,
    shared: Arc<Shared>,
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
    answers: Vec<(Reply, Result<Outcome, Error>)>,
}

impl Writer {
    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut waiting = Vec::with_capacity(BATCH_MAX);
        while requests.blocking_recv_many(&mut waiting, BATCH_MAX) > 0 {
            let mut batch = Batch::default();
            for request in waiting.drain(..) {
                match request {
                    Request::Write { key, operation, reply } => self.add(&mut batch, key, operation, reply),
                    Request::Snapshot { snapshots_max, reply } => {
                        self.finish(std::mem::take(&mut batch));
                        let result = snapshots::take(&mut self.database, snapshots_max)
                            .map_err(|error| Error::Backend(error.to_string()));
                        let _ = reply.send(result);
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

    fn add(&mut self, batch: &mut Batch, key: Arc<str>, operation: Operation, reply: Reply) {
        let current = match batch.touched.get(&key) {
            Some(entry) => entry.clone(),
            None => self.shared.memory().get(&key),
        };
        match plan(key, current, operation, self.revision + 1) {
            Ok((change, outcome)) => {
                self.revision += 1;
                let (key, after) = match &change {
                    Change::Put { entry, .. } => (Arc::clone(&entry.key), Some(entry.clone())),
                    Change::Deleted { previous, .. } => (Arc::clone(&previous.key), None),
                };
                batch.touched.insert(key, after);
                batch.changes.push(change);
                batch.answers.push((reply, Ok(outcome)));
            }
            Err(error) => batch.answers.push((reply, Err(error))),
        }
    }

    /// Commits, publishes and answers. After a failed commit nothing of the batch has happened.
    fn finish(&mut self, batch: Batch) {
        if batch.changes.is_empty() {
            for (reply, answer) in batch.answers {
                let _ = reply.send(answer);
            }
            return;
        }
        let durable = |change: &&Change| !self.volatile_prefixes.iter().any(|p| change.key().starts_with(p.as_str()));
        let reserve = (self.revision > self.database.reserved()).then(|| self.revision + REVISIONS_RESERVED);
        let committed = self.database.commit(batch.changes.iter().filter(durable), reserve);
        if let Err(error) = committed {
            tracing::warn!(%error, "writes were refused");
            for (reply, _) in batch.answers {
                let _ = reply.send(Err(error.as_store_error()));
            }
            return;
        }
        self.shared.memory().apply(batch.changes);
        self.shared.published.send_replace(self.revision);
        for (reply, answer) in batch.answers {
            let _ = reply.send(answer);
        }
    }
}

fn plan(
    key: Arc<str>,
    current: Option<Entry>,
    operation: Operation,
    revision: Revision,
) -> Result<(Change, Outcome), Error> {
    match operation {
        Operation::Put { value, expect } => {
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
            Ok((Change::Put { entry: entry.clone(), previous: current }, Outcome::Put(entry)))
        }
        Operation::Delete { expected } => {
            let entry = current.ok_or_else(|| Error::NotFound { key: key.to_string() })?;
            check(&entry, expected)?;
            Ok((Change::Deleted { previous: entry.clone(), revision }, Outcome::Deleted(entry, revision)))
        }
    }
}

fn check(entry: &Entry, expected: Revision) -> Result<(), Error> {
    if entry.modified == expected {
        return Ok(());
    }
    Err(Error::Conflict { key: entry.key.to_string(), expected, actual: entry.modified })
}
