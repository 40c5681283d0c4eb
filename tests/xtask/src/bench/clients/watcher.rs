//! One who watches a namespace until it is told of the last object, over as many watches as that takes: each goes on where
//! the one before has ended.

use std::time::Duration;

use anyhow::{bail, ensure};
use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde::Deserialize;

use super::COMMON_WATCHED_BY;
use super::connection::{Caller, Object, path};
use super::ledger::{Change, Event};
use super::writer::LAST;

/// Seconds of the shortest watch; those of others are up to twice as many.
const WATCH_SECONDS: usize = 5;
/// Longer than any watch, in which at least bookmarks come: who hears nothing is not served.
const SILENCE_MAX: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Told {
    #[serde(rename = "type")]
    what: String,
    object: Object,
}

pub struct Watcher {
    caller: Caller,
    namespace: String,
    seconds: usize,
    since: u64,
    log: Vec<Event>,
}

impl Watcher {
    /// From what is there on.
    pub async fn start(caller: Caller, namespace: String, client: usize) -> anyhow::Result<Self> {
        let since = caller.list(&namespace).await?.revision;
        Ok(Self {
            caller,
            namespace,
            seconds: WATCH_SECONDS + client / COMMON_WATCHED_BY % WATCH_SECONDS,
            since,
            log: Vec::new(),
        })
    }

    /// The namespace, and all that was told of it, or what was wrong.
    pub async fn run(mut self) -> (String, Result<Vec<Event>, String>) {
        loop {
            let fault = match tokio::time::timeout(SILENCE_MAX, self.watch()).await {
                Ok(Ok(())) if self.has_heard_all() => return (self.namespace, Ok(self.log)),
                Ok(Ok(())) => {
                    self.caller.counts.count_resumed();
                    continue;
                }
                Ok(Err(error)) => format!("a watch from {} on: {error:#}", self.since),
                Err(_) => format!("a watch from {} on does not end", self.since),
            };
            return (self.namespace, Err(fault));
        }
    }

    fn has_heard_all(&self) -> bool {
        self.log.last().is_some_and(|event| event.name == LAST)
    }

    async fn watch(&mut self) -> anyhow::Result<()> {
        let (collection, since, seconds) = (path(&self.namespace, ""), self.since, self.seconds);
        let options = format!("watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={since}");
        let response = self.caller.open(&Method::GET, &format!("{collection}?{options}"), None).await?;
        ensure!(response.status() == StatusCode::OK, "{}", response.status());
        let (mut body, mut rest) = (response.into_body(), BytesMut::new());
        while let Some(frame) = body.frame().await {
            rest.extend_from_slice(&frame?.into_data().unwrap_or_else(|_| Bytes::new()));
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                self.hear(&rest.split_to(end + 1))?;
            }
            if self.has_heard_all() {
                return Ok(());
            }
        }
        ensure!(rest.is_empty(), "the watch ended within an event");
        Ok(())
    }

    fn hear(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let told: Told = serde_json::from_slice(line)?;
        let change = match &*told.what {
            "ADDED" => Some(Change::Added),
            "MODIFIED" => Some(Change::Modified),
            "DELETED" => Some(Change::Deleted),
            "BOOKMARK" => None,
            other => bail!("{other} {:?}", told.object.code),
        };
        let revision = told.object.metadata.revision()?;
        match change {
            Some(change) => self.log.push(Event { revision, name: told.object.metadata.name, change }),
            None => ensure!(revision >= self.since, "a bookmark of {revision} after {}", self.since),
        }
        self.since = revision;
        Ok(())
    }
}
