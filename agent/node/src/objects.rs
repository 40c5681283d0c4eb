//! ConfigMaps and Secrets that pods on this machine refer to, fetched when needed and remembered for a short time, so
//! that twenty pods with one ConfigMap cost one request. There is no copy of the cluster's secrets here.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

/// How old a copy may be for a pod that starts.
const FRESH: Duration = Duration::from_secs(2);
/// Before a watch that failed is tried again.
const WATCH_RETRY: Duration = Duration::from_secs(5);
/// Copies kept at most; the oldest go first.
const KEPT_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    ConfigMap,
    Secret,
}

impl ObjectKind {
    pub fn resource(self) -> &'static str {
        match self {
            ObjectKind::ConfigMap => "configmap",
            ObjectKind::Secret => "secret",
        }
    }
}

/// The data of a ConfigMap or Secret. Not to be logged.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Data {
    pub entries: BTreeMap<String, Vec<u8>>,
    pub secret_type: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("{kind} \"{name}\" not found", kind = kind.resource())]
    Missing { kind: ObjectKind, name: String },
    #[error("cannot read {kind} \"{name}\"", kind = kind.resource())]
    Read { kind: ObjectKind, name: String, source: Box<kube::Error> },
}

/// An object that a pod needs and that does not exist, or lacks a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub kind: ObjectKind,
    pub name: String,
    pub what: Lack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    Object,
    Key,
}

impl ObjectError {
    pub fn missing(&self) -> Option<Missing> {
        match self {
            ObjectError::Missing { kind, name } => {
                Some(Missing { kind: *kind, name: name.clone(), what: Lack::Object })
            }
            ObjectError::Read { .. } => None,
        }
    }
}

type Key = (ObjectKind, String, String);
type Kept = HashMap<Key, (Instant, Arc<Data>)>;

/// Reads objects through the API. Clones share what they remember.
#[derive(Clone)]
pub struct Objects {
    client: kube::Client,
    kept: Arc<Mutex<Kept>>,
}

impl Objects {
    pub fn new(client: kube::Client) -> Self {
        Self { client, kept: Arc::default() }
    }

    /// The object's data; `None` if it does not exist.
    pub async fn find(&self, kind: ObjectKind, namespace: &str, name: &str) -> Result<Option<Arc<Data>>, ObjectError> {
        let key = (kind, namespace.to_owned(), name.to_owned());
        if let Some(kept) = self.kept(&key) {
            return Ok(Some(kept));
        }
        let read = match kind {
            ObjectKind::ConfigMap => self.config_map(namespace, name).await,
            ObjectKind::Secret => self.secret(namespace, name).await,
        };
        let data = read
            .map_err(|source| ObjectError::Read { kind, name: name.to_owned(), source: Box::new(source) })?
            .map(Arc::new);
        // What does not exist is asked for again at once: it is usually on its way.
        if let Some(data) = &data {
            self.keep(key, Arc::clone(data));
        }
        Ok(data)
    }

    /// Returns when what is missing may have come.
    pub async fn came(&self, namespace: &str, missing: &Missing) {
        let Missing { kind, name, what } = missing;
        match kind {
            ObjectKind::ConfigMap => {
                changed::<ConfigMap>(Api::namespaced(self.client.clone(), namespace), name, *what).await
            }
            ObjectKind::Secret => changed::<Secret>(Api::namespaced(self.client.clone(), namespace), name, *what).await,
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(&(*kind, namespace.to_owned(), name.clone()));
    }

    fn kept(&self, key: &Key) -> Option<Arc<Data>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(key).filter(|(when, _)| when.elapsed() < FRESH).map(|(_, data)| Arc::clone(data))
    }

    fn keep(&self, key: Key, data: Arc<Data>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (when, _)| when.elapsed() < FRESH);
        if kept.len() < KEPT_MAX {
            kept.insert(key, (Instant::now(), data));
        }
    }

    async fn config_map(&self, namespace: &str, name: &str) -> kube::Result<Option<Data>> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        Ok(api.get_opt(name).await?.map(|object| {
            let text = object.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
            let binary = object.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
            Data { entries: text.chain(binary).collect(), secret_type: None }
        }))
    }

    async fn secret(&self, namespace: &str, name: &str) -> kube::Result<Option<Data>> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        Ok(api.get_opt(name).await?.map(|object| Data {
            entries: object.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect(),
            secret_type: object.type_,
        }))
    }
}

async fn changed<K>(api: Api<K>, name: &str, lack: Lack)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    loop {
        match next_change(&api, name, lack).await {
            Ok(true) => return,
            // The server ends watches from time to time.
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(%error, name, "object not watched, will retry");
                tokio::time::sleep(WATCH_RETRY).await;
            }
        }
    }
}

/// One watch. `false`: it has ended and nothing came.
async fn next_change<K>(api: &Api<K>, name: &str, lack: Lack) -> kube::Result<bool>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let selector = format!("metadata.name={name}");
    let list = api.list(&ListParams::default().fields(&selector)).await?;
    if lack == Lack::Object && list.items.iter().any(|object| object.name_any() == name) {
        return Ok(true);
    }
    let version = list.metadata.resource_version.unwrap_or_default();
    let mut events = api.watch(&WatchParams::default().fields(&selector), &version).await?.boxed();
    while let Some(event) = events.try_next().await? {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) if object.name_any() == name => return Ok(true),
            WatchEvent::Added(_) | WatchEvent::Modified(_) | WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
        }
    }
    Ok(false)
}
