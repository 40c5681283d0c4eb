//! One stream of what every object is to others: its name, owners, finalizers and whether it is to go. For garbage
//! collection, namespaces and quota, which would otherwise watch each kind.
//!
//! A change is sent only if one of these changed: a lease that is renewed or a status that is written wakes nobody. The
//! stream begins with all there is, and ends when other kinds are served: whoever reads it begins anew then.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use skiff_object::kinds::{Catalogue, Kind};
use skiff_store::{Change, Entry, ListOptions, Revision, Store, Watch};
use tokio_util::sync::CancellationToken;

use crate::body::{self, Body};
use crate::lists::{SyncStream, line};
use crate::present::Encoding;
use crate::status::{ApiError, watch_error};
use crate::{Api, codec};

pub const PATH: &str = "/skiff/v1/metadata";
/// Where upstream's layout has all objects.
const ROOT: &str = "/registry/";
/// Objects in one piece of the first list: it may be large, and is never held whole.
const CHUNK: usize = 200;

/// What is sent of an object.
#[derive(Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    uid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_timestamp: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    finalizers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    owner_references: Vec<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Head {
    metadata: Metadata,
}

/// The kinds whose objects are told of, by where they are stored.
struct Kinds {
    catalogue: Arc<Catalogue>,
    by_prefix: HashMap<String, Arc<Kind>>,
}

impl Kinds {
    fn of(catalogue: Arc<Catalogue>) -> Self {
        let mut by_prefix = HashMap::new();
        // Of several versions of one kind the first speaks for all.
        for kind in catalogue.kinds().filter(|kind| is_told(kind)) {
            by_prefix.entry(kind.prefix.to_string()).or_insert_with(|| Arc::clone(kind));
        }
        Self { catalogue, by_prefix }
    }

    fn kind(&self, key: &str) -> Option<&Arc<Kind>> {
        let (parent, _) = key.rsplit_once('/')?;
        let of_cluster = self.by_prefix.get(parent).filter(|kind| !kind.namespaced());
        of_cluster.or_else(|| {
            let (parent, _) = parent.rsplit_once('/')?;
            self.by_prefix.get(parent).filter(|kind| kind.namespaced())
        })
    }
}

/// Events own nothing and are owned by nothing, and there are many of them.
fn is_told(kind: &Kind) -> bool {
    kind.is_kept() && (kind.storage_version.is_none() || kind.custom.is_some()) && !kind.is("", "Event")
}

impl<S: Store> Api<S> {
    pub(crate) async fn feed(&self) -> Result<Response<Body>, ApiError> {
        let kinds = Kinds::of(self.catalogue());
        let failed = |error| ApiError::internal(format!("the feed cannot begin: {error}"));
        let page = self.store().list(ROOT, ListOptions::default()).await.map_err(failed)?;
        let watch = self.store().watch(ROOT, page.revision).await.map_err(failed)?;
        let running = Running {
            api: self.clone(),
            kinds,
            watch,
            state: State::Initial { left: page.entries.into_iter(), revision: page.revision },
            shutdown: self.shutdown().clone(),
        };
        let stream = futures::stream::unfold(running, Running::step);
        Ok(body::response(StatusCode::OK, "application/json", body::stream(SyncStream::new(stream))))
    }
}

enum State {
    Initial { left: std::vec::IntoIter<Entry>, revision: Revision },
    Following,
    Ended,
}

struct Running<S: Store> {
    api: Api<S>,
    kinds: Kinds,
    watch: S::Watch,
    state: State,
    shutdown: CancellationToken,
}

impl<S: Store> Running<S> {
    async fn step(mut self) -> Option<(Bytes, Self)> {
        match &mut self.state {
            State::Ended => None,
            State::Initial { left, revision } => {
                let revision = *revision;
                let chunk: Vec<Entry> = left.by_ref().take(CHUNK).collect();
                let mut out = Vec::new();
                for entry in &chunk {
                    tell(&self.kinds, &mut out, "ADDED", entry, entry.modified);
                }
                if chunk.len() < CHUNK {
                    line(&mut out, "BOOKMARK", &json!({"metadata": {"resourceVersion": revision.to_string()}}));
                    self.state = State::Following;
                }
                Some((Bytes::from(out), self))
            }
            State::Following => loop {
                let result = tokio::select! {
                    result = self.watch.next() => result,
                    () = self.shutdown.cancelled() => return None,
                };
                if !Arc::ptr_eq(&self.kinds.catalogue, &self.api.catalogue()) {
                    return None;
                }
                match result {
                    Ok((changes, _)) => {
                        let mut out = Vec::new();
                        changes.iter().for_each(|change| tell_change(&self.kinds, &mut out, change));
                        if !out.is_empty() {
                            return Some((Bytes::from(out), self));
                        }
                    }
                    Err(error) => {
                        self.state = State::Ended;
                        return Some((watch_error(&ApiError::expired(error.to_string()), Encoding::Json), self));
                    }
                }
            },
        }
    }
}

fn tell_change(kinds: &Kinds, out: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Put { entry, previous: None } => tell(kinds, out, "ADDED", entry, entry.modified),
        Change::Put { entry, previous: Some(previous) } => {
            if kinds.kind(&entry.key).is_some() && metadata(entry) != metadata(previous) {
                tell(kinds, out, "MODIFIED", entry, entry.modified);
            }
        }
        Change::Deleted { previous, revision } => tell(kinds, out, "DELETED", previous, *revision),
    }
}

fn metadata(entry: &Entry) -> Metadata {
    serde_json::from_slice::<Head>(&codec::text(entry)).unwrap_or_default().metadata
}

fn tell(kinds: &Kinds, out: &mut Vec<u8>, what: &str, entry: &Entry, revision: Revision) {
    let Some(kind) = kinds.kind(&entry.key) else { return };
    let mut metadata = json!(metadata(entry));
    metadata["resourceVersion"] = json!(revision.to_string());
    let object = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": metadata});
    line(out, what, &object);
}
