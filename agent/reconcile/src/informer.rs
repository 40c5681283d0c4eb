//! A cached, always current copy of all objects of one kind that match a watch, shared by whoever reads them.
//!
//! Readers take snapshots and wait for changes; a change only wakes (level, not edge), it carries no data.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

use futures::StreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, utils::Backoff};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::feed::shrink_map;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    namespace: Option<String>,
    name: String,
}

impl Key {
    fn of<K: Resource>(object: &K) -> Self {
        Self { namespace: object.namespace(), name: object.name_any() }
    }
}

struct Shared<K> {
    objects: RwLock<HashMap<Key, Arc<K>>>,
    generation: watch::Sender<u64>,
    synced: watch::Sender<bool>,
}

/// A cache of one kind. Clones share the same copy.
pub struct Informer<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K> Debug for Informer<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Informer<{}>", std::any::type_name::<K>())
    }
}

impl<K> Informer<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Clone + Debug + Eq + Hash,
{
    /// Starts to list and watch; ends with `shutdown`. A failing watch is retried for ever, with back-off.
    pub fn spawn(api: Api<K>, config: watcher::Config, shutdown: CancellationToken) -> Self {
        Self::spawn_slim(api, config, |_| {}, shutdown)
    }

    /// The same, keeping of each object only what `slim` leaves.
    pub fn spawn_slim(api: Api<K>, config: watcher::Config, slim: fn(&mut K), shutdown: CancellationToken) -> Self {
        let informer = Self::empty();
        let shared = Arc::clone(&informer.shared);
        tokio::spawn(async move {
            tokio::select! {
                () = follow(api, config, slim, shared) => {}
                () = shutdown.cancelled() => {}
            }
        });
        informer
    }

    /// An informer over a fixed set of objects, for tests of what reads it.
    pub fn fixed(objects: impl IntoIterator<Item = K>) -> Self {
        let informer = Self::empty();
        informer.shared.replace(objects.into_iter().map(|o| (Key::of(&o), Arc::new(o))).collect());
        informer
    }

    fn empty() -> Self {
        Self {
            shared: Arc::new(Shared {
                objects: RwLock::default(),
                generation: watch::Sender::new(0),
                synced: watch::Sender::new(false),
            }),
        }
    }

    /// All objects, in no particular order.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.shared.objects.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// One object; `namespace` is `None` for cluster-scoped kinds.
    pub fn get(&self, namespace: Option<&str>, name: &str) -> Option<Arc<K>> {
        let key = Key { namespace: namespace.map(str::to_owned), name: name.to_owned() };
        self.shared.objects.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    /// Waits until the first complete list has arrived.
    pub async fn synced(&self) {
        let mut synced = self.shared.synced.subscribe();
        // The sender lives as long as `self`, so that waiting cannot fail.
        let _ = synced.wait_for(|done| *done).await;
    }

    /// Wakes after every change from now on; also once for the first complete list.
    pub fn changes(&self) -> Changes {
        Changes { generation: self.shared.generation.subscribe() }
    }
}

/// Wakes its owner once after any number of changes.
#[derive(Clone, Debug)]
pub struct Changes {
    generation: watch::Receiver<u64>,
}

impl From<watch::Receiver<u64>> for Changes {
    /// Of something else than objects: whatever raises a number with each change.
    fn from(generation: watch::Receiver<u64>) -> Self {
        Self { generation }
    }
}

impl Changes {
    /// Waits for a change since the last call; pending for ever once the informer is gone.
    pub async fn next(&mut self) {
        if self.generation.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl<K> Shared<K> {
    fn replace(&self, objects: HashMap<Key, Arc<K>>) {
        *self.objects.write().unwrap_or_else(PoisonError::into_inner) = objects;
        self.synced.send_replace(true);
        self.wake();
    }

    fn wake(&self) {
        self.generation.send_modify(|g| *g += 1);
    }
}

/// Delays of a retried watch: the API service is in this process or next door, so start short.
struct WatchBackoff {
    delay_ms: u64,
}

impl WatchBackoff {
    const DELAY_MS_MIN: u64 = 50;
    const DELAY_MS_MAX: u64 = 10_000;
}

impl Iterator for WatchBackoff {
    type Item = std::time::Duration;

    fn next(&mut self) -> Option<Self::Item> {
        let delay = self.delay_ms;
        self.delay_ms = (delay * 2).min(Self::DELAY_MS_MAX);
        Some(std::time::Duration::from_millis(delay))
    }
}

impl Backoff for WatchBackoff {
    fn reset(&mut self) {
        self.delay_ms = Self::DELAY_MS_MIN;
    }
}

async fn follow<K>(api: Api<K>, config: watcher::Config, slim: fn(&mut K), shared: Arc<Shared<K>>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Clone + Debug + Eq + Hash,
{
    let backoff = WatchBackoff { delay_ms: WatchBackoff::DELAY_MS_MIN };
    let mut events = watcher(api, config).backoff(backoff).boxed();
    let mut initial = HashMap::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => initial.clear(),
            Ok(Event::InitApply(object)) => {
                initial.insert(Key::of(&object), Arc::new(slimmed(object, slim)));
            }
            Ok(Event::InitDone) => shared.replace(std::mem::take(&mut initial)),
            Ok(Event::Apply(object)) => {
                let mut objects = shared.objects.write().unwrap_or_else(PoisonError::into_inner);
                objects.insert(Key::of(&object), Arc::new(slimmed(object, slim)));
                drop(objects);
                shared.wake();
            }
            Ok(Event::Delete(object)) => {
                let mut objects = shared.objects.write().unwrap_or_else(PoisonError::into_inner);
                objects.remove(&Key::of(&object));
                shrink_map(&mut objects);
                drop(objects);
                shared.wake();
            }
            Err(error) => tracing::debug!(%error, kind = std::any::type_name::<K>(), "watch failed, will retry"),
        }
    }
}

/// Field ownership is only of interest to the API service: caching it would double the size of small objects.
fn slimmed<K: Resource>(mut object: K, slim: fn(&mut K)) -> K {
    object.meta_mut().managed_fields = None;
    slim(&mut object);
    object
}
