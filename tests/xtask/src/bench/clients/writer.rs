//! What one client writes and reads: objects of its own, whose state it always knows, and those that all change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use serde_json::json;
use skiff_tests::random::Random;

use super::connection::{Caller, Metadata, path};
use super::ledger::{Change, Event, Ledger, Written};
use super::{COMMON, COMMON_OBJECTS};

/// The object that is written into a namespace when nothing follows.
pub const LAST: &str = "last";
/// Objects that a client has at a time.
const HELD_MAX: usize = 20;

pub struct Writer {
    caller: Caller,
    prefix: String,
    namespace: String,
    own: Arc<Ledger>,
    common: Arc<Ledger>,
    random: Random,
    /// Its objects, and the revision of each.
    held: BTreeMap<String, u64>,
    made: usize,
}

/// Ends a namespace's load.
pub async fn close(caller: &Caller, namespace: &str, ledger: &Ledger) -> anyhow::Result<()> {
    let body = json!({"metadata": {"name": LAST}});
    let made = caller.object(Method::POST, &path(namespace, ""), Some(&body)).await?;
    note(ledger, &made.context("it is there already")?, Change::Added).map(drop)
}

fn note(ledger: &Ledger, metadata: &Metadata, change: Change) -> anyhow::Result<u64> {
    let (revision, name) = (metadata.revision()?, metadata.name.clone());
    ledger.note(Written::Object(Event { revision, name, change }));
    Ok(revision)
}

impl Writer {
    pub fn new(caller: Caller, client: usize, namespace: String, [own, common]: [Arc<Ledger>; 2]) -> Self {
        Self {
            caller,
            prefix: format!("of-{client}-"),
            namespace,
            own,
            common,
            random: Random(client as u64),
            held: BTreeMap::new(),
            made: 0,
        }
    }

    /// Until then, and deletes what it has; what was wrong.
    pub async fn run(mut self, until: Instant) -> Option<String> {
        self.work(until).await.err().map(|error| format!("{}: {error:#}", self.namespace))
    }

    async fn work(&mut self, until: Instant) -> anyhow::Result<()> {
        while Instant::now() < until {
            match self.random.below(10) {
                0 | 1 if self.held.len() < HELD_MAX => self.create().await?,
                2 | 3 => self.delete().await?,
                4 => self.list().await?,
                5 | 6 => self.patch_common().await?,
                _ => self.patch().await?,
            }
        }
        while !self.held.is_empty() {
            self.delete().await?;
        }
        Ok(())
    }

    async fn create(&mut self) -> anyhow::Result<()> {
        let name = format!("{}{}", self.prefix, self.made);
        self.made += 1;
        let body = json!({"metadata": {"name": name}, "data": {"text": "x".repeat(200)}});
        let made = self.caller.object(Method::POST, &path(&self.namespace, ""), Some(&body)).await?;
        let revision = note(&self.own, &made.context("its name is taken")?, Change::Added)?;
        self.held.insert(name, revision);
        Ok(())
    }

    /// One of its own.
    fn any(&mut self) -> Option<String> {
        let count = u64::try_from(self.held.len()).unwrap_or(u64::MAX);
        let at = usize::try_from(self.random.below(count.max(1))).unwrap_or(0);
        self.held.keys().nth(at).cloned()
    }

    async fn patch(&mut self) -> anyhow::Result<()> {
        let Some(name) = self.any() else { return self.create().await };
        self.made += 1;
        let body = json!({"data": {"number": self.made.to_string()}});
        let changed = self.caller.object(Method::PATCH, &path(&self.namespace, &name), Some(&body)).await?;
        let revision =
            note(&self.own, &changed.context("a patch without a condition failed on one")?, Change::Modified)?;
        self.held.insert(name, revision);
        Ok(())
    }

    async fn delete(&mut self) -> anyhow::Result<()> {
        let Some(name) = self.any() else { return self.create().await };
        let (status, body) = self.caller.ask(Method::DELETE, &path(&self.namespace, &name), None).await?;
        ensure!(status == StatusCode::OK, "delete: {status} {}", String::from_utf8_lossy(&body));
        self.held.remove(&name);
        self.own.note(Written::Deletion(name));
        Ok(())
    }

    /// Its own are listed as it left them.
    async fn list(&mut self) -> anyhow::Result<()> {
        let mut listed = self.caller.list(&self.namespace).await?.items;
        listed.retain(|name, _| name.starts_with(&self.prefix));
        ensure!(listed == self.held, "listed are {listed:?}, but written were {:?}", self.held);
        Ok(())
    }

    /// One that others change, too: as it was read, or not at all.
    async fn patch_common(&mut self) -> anyhow::Result<()> {
        let at = path(COMMON, &format!("all-{}", self.random.below(COMMON_OBJECTS as u64)));
        let read = self.caller.object(Method::GET, &at, None).await?.context("a read has no conflict")?;
        self.made += 1;
        let number = format!("{}{}", self.prefix, self.made);
        let condition = json!({"resourceVersion": read.revision()?.to_string()});
        let body = json!({"metadata": condition, "data": {"number": number}});
        match self.caller.object(Method::PATCH, &at, Some(&body)).await? {
            Some(changed) => note(&self.common, &changed, Change::Modified).map(drop),
            None => Ok(()),
        }
    }
}
