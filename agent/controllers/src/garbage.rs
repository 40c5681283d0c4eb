//! Garbage collection by owner references: dependents go with their last owner, and owners that asked for it wait for
//! their dependents or let them go.
//!
//! The caches of different kinds run apart for moments: an owner that looks absent is asked for by name before anything
//! is deleted.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::core::{GroupVersionKind, PartialObjectMeta};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use skiff_object::kinds::{self, Kind, Scope};
use skiff_reconcile::{BoxError, Changes, Informer, Next, Reconciler};
use tokio_util::sync::CancellationToken;

use crate::objects;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// How often an owner that waits for its dependents is looked at again if nothing is heard of them.
const RECHECK: Duration = Duration::from_secs(1);

type Metadata = PartialObjectMeta<DynamicObject>;

struct Watched {
    kind: Arc<Kind>,
    objects: Informer<Metadata>,
}

pub struct Controller {
    client: Client,
    watched: Vec<Watched>,
}

/// An object, as far as ownership goes.
#[derive(Clone)]
struct Item {
    kind: Arc<Kind>,
    metadata: Arc<Metadata>,
}

impl Item {
    fn owners(&self) -> &[OwnerReference] {
        self.metadata.owner_references()
    }

    fn uid(&self) -> String {
        self.metadata.uid().unwrap_or_default()
    }

    fn has_finalizer(&self, name: &str) -> bool {
        objects_deleted(&self.metadata) && self.metadata.finalizers().iter().any(|f| f == name)
    }

    fn api(&self, client: &Client) -> Api<DynamicObject> {
        let resource = resource(&self.kind);
        match self.metadata.namespace() {
            Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        }
    }
}

fn objects_deleted(metadata: &Metadata) -> bool {
    metadata.metadata.deletion_timestamp.is_some()
}

fn resource(kind: &Kind) -> ApiResource {
    let gvk = GroupVersionKind::gvk(&kind.group, &kind.version, &kind.kind);
    ApiResource::from_gvk_with_plural(&gvk, &kind.plural)
}

/// Events own nothing and are owned by nothing; they would be most of what is cached.
fn is_watched(kind: &Kind) -> bool {
    kind.is_kept() && kind.storage_version.is_none() && !kind.is("", "Event")
}

/// Ownership needs no labels, and annotations are often larger than all the rest.
fn slim(metadata: &mut Metadata) {
    metadata.metadata.labels = None;
    metadata.metadata.annotations = None;
}

impl Controller {
    pub fn spawn(client: Client, shutdown: &CancellationToken) -> Self {
        let watched = kinds::built_in()
            .kinds()
            .filter(|kind| is_watched(kind))
            .map(|kind| {
                let api: Api<Metadata> = Api::all_with(client.clone(), &resource(kind));
                Watched {
                    kind: Arc::clone(kind),
                    objects: Informer::spawn_slim(api, watcher::Config::default(), slim, shutdown.clone()),
                }
            })
            .collect();
        Self { client, watched }
    }

    pub fn wakes(&self) -> Vec<Changes> {
        self.watched.iter().map(|w| w.objects.changes()).collect()
    }

    fn items(&self) -> Vec<Item> {
        let of = |w: &Watched| {
            w.objects
                .list()
                .into_iter()
                .map(|metadata| Item { kind: Arc::clone(&w.kind), metadata })
                .collect::<Vec<_>>()
        };
        self.watched.iter().flat_map(of).collect()
    }

    /// Whether the owner is really gone, by asking for it.
    async fn is_gone(&self, item: &Item, owner: &OwnerReference) -> Result<bool, kube::Error> {
        // A kind that is not served may come back with its definition: leave its dependents alone.
        let Some(kind) = kinds::by_kind(&owner.api_version, &owner.kind) else { return Ok(false) };
        let namespace = match kind.scope {
            Scope::Namespaced => item.metadata.namespace().map(|n| format!("/namespaces/{n}")).unwrap_or_default(),
            Scope::Cluster => String::new(),
        };
        let root = if kind.group.is_empty() { "/api" } else { "/apis" };
        let path = format!("{root}/{}{namespace}/{}/{}", kind.api_version(), kind.plural, owner.name);
        let request = Request::get(path).body(Vec::new()).expect("a path made of valid names");
        match self.client.request::<Value>(request).await {
            Ok(found) => Ok(found["metadata"]["uid"] != json!(owner.uid)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, item: &Item, foreground: bool) -> Result<(), BoxError> {
        let params = if foreground { DeleteParams::foreground() } else { DeleteParams::background() };
        let preconditions = Some(Preconditions { uid: Some(item.uid()), resource_version: None });
        let params = DeleteParams { preconditions, ..params };
        Ok(objects::settle(item.api(&self.client).delete(&item.metadata.name_any(), &params).await)?)
    }

    async fn patch(&self, item: &Item, mut metadata: Value) -> Result<(), BoxError> {
        metadata["resourceVersion"] = json!(item.metadata.resource_version());
        let patch = Patch::Merge(json!({"metadata": metadata}));
        Ok(objects::settle(
            item.api(&self.client).patch(&item.metadata.name_any(), &PatchParams::default(), &patch).await,
        )?)
    }

    async fn remove_finalizer(&self, item: &Item, name: &str) -> Result<(), BoxError> {
        let kept: Vec<&String> = item.metadata.finalizers().iter().filter(|f| *f != name).collect();
        self.patch(item, json!({"finalizers": kept})).await
    }

    /// An object whose owners are all gone goes too; references to some that are gone are dropped.
    async fn collect(&self, item: &Item, known: &HashSet<String>) -> Result<(), BoxError> {
        if objects_deleted(&item.metadata) {
            return Ok(());
        }
        let mut gone = HashSet::new();
        for owner in item.owners().iter().filter(|o| !known.contains(&o.uid)) {
            if self.is_gone(item, owner).await? {
                gone.insert(owner.uid.clone());
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        if gone.len() == item.owners().len() {
            return self.delete(item, false).await;
        }
        let kept: Vec<_> = item.owners().iter().filter(|o| !gone.contains(&o.uid)).collect();
        self.patch(item, json!({"ownerReferences": kept})).await
    }

    /// Deletes the dependents; lets the owner go when none that blocks it is left.
    async fn foreground(&self, owner: &Item, dependents: &[Item]) -> Result<(), BoxError> {
        let uid = owner.uid();
        let mut blocked = false;
        for dependent in dependents {
            blocked |= dependent.owners().iter().any(|o| o.uid == uid && o.block_owner_deletion == Some(true));
            if !objects_deleted(&dependent.metadata) {
                self.delete(dependent, true).await?;
            }
        }
        if blocked { Ok(()) } else { self.remove_finalizer(owner, FOREGROUND).await }
    }

    async fn orphan(&self, owner: &Item, dependents: &[Item]) -> Result<(), BoxError> {
        let uid = owner.uid();
        for dependent in dependents {
            let kept: Vec<_> = dependent.owners().iter().filter(|o| o.uid != uid).collect();
            self.patch(dependent, json!({"ownerReferences": kept})).await?;
        }
        self.remove_finalizer(owner, ORPHAN).await
    }
}

impl Reconciler for Controller {
    const NAME: &'static str = "garbage-collector";

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        for watched in &self.watched {
            watched.objects.synced().await;
        }
        let items = self.items();
        let known: HashSet<String> = items.iter().map(Item::uid).collect();
        let mut dependents: HashMap<&str, Vec<Item>> = HashMap::new();
        for item in &items {
            for owner in item.owners() {
                dependents.entry(owner.uid.as_str()).or_default().push(item.clone());
            }
        }
        let mut next = Next::Change;
        for item in &items {
            if item.owners().iter().any(|o| !known.contains(&o.uid)) {
                self.collect(item, &known).await?;
            }
            let of_item = || dependents.get(item.uid().as_str()).map(Vec::as_slice).unwrap_or_default();
            if item.has_finalizer(FOREGROUND) {
                self.foreground(item, of_item()).await?;
                next = next.sooner(Next::After(RECHECK));
            }
            if item.has_finalizer(ORPHAN) {
                self.orphan(item, of_item()).await?;
            }
        }
        Ok(next)
    }
}
