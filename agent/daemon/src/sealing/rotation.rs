//! One key in the place of another. The new one is in the file, beside the old, before anything is encrypted with it; the
//! old one goes when the store says that nothing needs it. A file with two keys is a rotation that has not ended: whoever
//! finds it goes on with it, so that it may be interrupted anywhere.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use skiff_apiserver::SealingKeys;
use skiff_store::{Embedded, KeyId, KeyUse, SealedWith};
use tokio::sync::Mutex;

use super::key_file::{Key, Keys};

pub struct Rotation {
    store: Embedded,
    key_file: PathBuf,
    /// One at a time.
    turn: Mutex<()>,
}

/// What a rotation did.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotated {
    pub key_file: PathBuf,
    pub key: String,
    pub made: Timestamp,
    /// It was begun earlier, and was only gone on with.
    pub was_begun: bool,
    pub values: usize,
    pub snapshots: usize,
    pub dropped: Vec<String>,
    /// Databases that a snapshot replaced some time: the keys that are gone open them.
    pub left: Vec<PathBuf>,
}

/// What is encrypted with which key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub key_file: PathBuf,
    /// Newest first.
    pub keys: Vec<KeyStatus>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyStatus {
    pub key: String,
    pub made: Timestamp,
    pub values: usize,
    pub values_in_snapshots: usize,
}

impl Rotation {
    pub fn new(store: Embedded, key_file: PathBuf) -> Self {
        Self { store, key_file, turn: Mutex::default() }
    }

    pub async fn status(&self) -> anyhow::Result<Status> {
        let keys = self.keys()?;
        let (own, of_snapshots) = self.store.keys_in_use().await?;
        let own = by_key(&own, &keys);
        let of_snapshots = by_key(&of_snapshots, &keys);
        let status = |key: &Key| {
            let id = key.secret.id();
            let count = |counts: &BTreeMap<KeyId, usize>| counts.get(&id).copied().unwrap_or(0);
            let (values, values_in_snapshots) = (count(&own), count(&of_snapshots));
            KeyStatus { key: id.to_string(), made: key.made, values, values_in_snapshots }
        };
        let keys = std::iter::once(keys.newest()).chain(keys.older()).map(status).collect();
        Ok(Status { key_file: self.key_file.clone(), keys })
    }

    /// Goes on with a rotation that was begun, or else begins one; done when it returns.
    pub async fn rotate(&self) -> anyhow::Result<Rotated> {
        let _turn = self.turn.lock().await;
        let keys = self.keys()?;
        self.check(&keys).await?;
        if !keys.older().is_empty() {
            return self.go_on(keys, true).await;
        }
        let keys = keys.with_new(Timestamp::now());
        self.write(&keys).await?;
        self.go_on(keys, false).await
    }

    /// Goes on with a rotation if one was begun.
    pub async fn finish(&self) -> anyhow::Result<Option<Rotated>> {
        let _turn = self.turn.lock().await;
        let keys = self.keys()?;
        if keys.older().is_empty() {
            return Ok(None);
        }
        self.check(&keys).await?;
        self.go_on(keys, true).await.map(Some)
    }

    async fn go_on(&self, keys: Keys, was_begun: bool) -> anyhow::Result<Rotated> {
        let unfinished = "the rotation has not ended, and no key was dropped; it is gone on with by itself";
        let resealed = self.store.reseal(keys.secrets()).await.context(unfinished)?;
        let (own, of_snapshots) = self.store.keys_in_use().await.context(unfinished)?;
        let needs = |id| [&own, &of_snapshots].iter().any(|counts| needs(counts, id));
        let kept = keys.without(needs);
        if let Some(needed) = kept.older().first() {
            bail!("{unfinished}: something still needs the key {}", needed.secret.id());
        }
        self.write(&kept).await.context(unfinished)?;
        self.store.use_keys(kept.secrets()).await?;
        let rotated = Rotated {
            key_file: self.key_file.clone(),
            key: kept.newest().secret.id().to_string(),
            made: kept.newest().made,
            was_begun,
            values: resealed.values,
            snapshots: resealed.snapshots,
            dropped: keys.older().iter().map(|key| key.secret.id().to_string()).collect(),
            left: resealed.left,
        };
        tracing::info!(key = rotated.key, values = rotated.values, "secrets are encrypted with a new key");
        Ok(rotated)
    }

    fn keys(&self) -> anyhow::Result<Keys> {
        let keys = Keys::read(&self.key_file)?;
        keys.with_context(|| {
            format!("{} is gone: put it back from a backup. Nothing was changed", self.key_file.display())
        })
    }

    /// The file may have been exchanged since the agent started.
    async fn check(&self, keys: &Keys) -> anyhow::Result<()> {
        let used = self.store.newest_key().await?.context("the database is not encrypted")?;
        ensure!(
            keys.secrets().iter().any(|key| key.id() == used),
            "{} has not the key {used} that the running agent encrypts with: put that back. Nothing was changed",
            self.key_file.display()
        );
        Ok(())
    }

    async fn write(&self, keys: &Keys) -> anyhow::Result<()> {
        let (keys, file) = (keys.clone(), self.key_file.clone());
        let written = tokio::task::spawn_blocking(move || keys.write(&file)).await?;
        written.with_context(|| format!("cannot write {}", self.key_file.display()))
    }
}

fn needs(counts: &KeyUse, id: KeyId) -> bool {
    // What names no key may need any of them.
    counts.contains_key(&SealedWith::Key(id)) || counts.contains_key(&SealedWith::Unnamed)
}

/// What names no key was written with the oldest.
fn by_key(counts: &KeyUse, keys: &Keys) -> BTreeMap<KeyId, usize> {
    let oldest = keys.older().last().unwrap_or(keys.newest()).secret.id();
    let mut found = BTreeMap::new();
    for (with, count) in counts {
        let id = match with {
            SealedWith::Unnamed => oldest,
            SealedWith::Key(id) => *id,
        };
        *found.entry(id).or_default() += count;
    }
    found
}

/// What the API asks. A rotation goes on when its client is gone.
pub struct Asked(pub std::sync::Arc<Rotation>);

impl SealingKeys for Asked {
    fn status(&self) -> BoxFuture<'_, Result<Value, String>> {
        async { self.0.status().await.map(|status| json!(status)).map_err(|error| format!("{error:#}")) }.boxed()
    }

    fn rotate(&self) -> BoxFuture<'_, Result<Value, String>> {
        let rotation = std::sync::Arc::clone(&self.0);
        async move {
            let rotated =
                tokio::spawn(async move { rotation.rotate().await }).await.map_err(|error| error.to_string())?;
            rotated.map(|rotated| json!(rotated)).map_err(|error| format!("{error:#}"))
        }
        .boxed()
    }
}
