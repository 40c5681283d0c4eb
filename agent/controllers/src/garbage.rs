//! Garbage collection by owner references: dependents go with their last owner, and owners that asked for it wait for
//! their dependents or let them go. Scope: cluster.
//!
//! The feed says which objects to look at. Each is read before it is written, and an owner that looks absent is asked for
//! by name before anything is deleted. Owners that wait for each other in a circle are let go together.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Client;
use kube::api::{DeleteParams, Preconditions};
use serde_json::{Value, json};
use skiff_reconcile::feed::{Follower, Uid};
use skiff_reconcile::{BoxError, Chain, Changes, Failures, Feed, Next, Reconciler, Scope, ServedKinds};

use crate::anything;
use crate::objects;

mod plan;
#[cfg(test)]
mod tests;

use plan::{FOREGROUND, ORPHAN, Policy, Standing, Step, Verdict};

/// Objects handled at once, so that many writes share one commit.
const PARALLEL: usize = 16;
/// Objects in one pass, so that what is new does not wait for a namespace full of old ones.
const PASS_MAX: usize = 500;
/// How often an object that others write to is read again in one pass.
const ATTEMPTS: usize = 5;

pub struct Controller {
    client: Client,
    feed: Feed,
    follower: Follower,
    /// To be looked at.
    open: HashSet<Uid>,
}

/// Where an object is.
struct Place {
    name: String,
    namespace: Option<String>,
    path: String,
    uid: Uid,
    owns: bool,
}

/// What one pass has found out about owners that are not in the feed.
#[derive(Default)]
struct Asked(Mutex<HashMap<(String, String), Standing>>);

struct Pass<'a> {
    client: &'a Client,
    feed: &'a Feed,
    kinds: Arc<ServedKinds>,
    asked: Asked,
}

impl Controller {
    pub fn new(client: Client, feed: Feed) -> Self {
        Self { client, follower: feed.follow(), feed, open: HashSet::new() }
    }

    pub fn wakes(&self) -> Vec<Changes> {
        vec![self.feed.changes()]
    }
}

impl Pass<'_> {
    /// `None` for what is gone, or of a kind that is not served any more.
    fn place(&self, uid: Uid) -> Option<Place> {
        self.feed.read(|index| {
            let object = index.get(uid)?;
            let kind = self.kinds.get(&object.kind().api_version, &object.kind().kind)?;
            Some(Place {
                path: kind.object(object.namespace(), &object.name),
                name: format!("{} {}", kind.plural, object.name),
                namespace: object.namespace().map(str::to_owned),
                owns: plan::dependents(index, uid).next().is_some(),
                uid,
            })
        })
    }

    async fn take(&self, uid: Uid, step: Step) -> Result<(), (String, BoxError)> {
        let Some(place) = self.place(uid) else { return Ok(()) };
        let taken = match step {
            Step::Collect => self.collect(&place).await,
            Step::Release => self.release(&place, FOREGROUND).await,
            Step::Orphan(dependents) => self.orphan(&place, &dependents).await,
        };
        taken.map_err(|error| (place.name, error))
    }

    /// Reads the object and writes what `change` makes of it, again if somebody else wrote meanwhile. `change` gives
    /// `None` where nothing is to be done.
    async fn rewrite(&self, place: &Place, change: impl Fn(&ObjectMeta) -> Option<Value>) -> Result<(), BoxError> {
        for _ in 0..ATTEMPTS {
            let Some(read) = self.read(place).await? else { return Ok(()) };
            let Some(mut metadata) = change(&read) else { return Ok(()) };
            metadata["resourceVersion"] = json!(read.resource_version);
            match anything::merge(self.client, &place.path, &json!({"metadata": metadata})).await {
                Err(error) if objects::is_conflict(&error) => {}
                result => return Ok(objects::settle(result)?),
            }
        }
        Err(too_busy())
    }

    /// The object as it is now; `None` if it is gone or another has its name.
    async fn read(&self, place: &Place) -> Result<Option<ObjectMeta>, kube::Error> {
        let read = anything::metadata(self.client, &place.path).await?;
        Ok(read.filter(|read| read.uid.as_deref().is_some_and(|uid| Uid::of(uid) == place.uid)))
    }

    async fn release(&self, place: &Place, finalizer: &str) -> Result<(), BoxError> {
        self.rewrite(place, |read| {
            let finalizers = read.finalizers.as_deref().unwrap_or_default();
            let kept: Vec<&String> = finalizers.iter().filter(|f| *f != finalizer).collect();
            (kept.len() < finalizers.len()).then(|| json!({"finalizers": kept}))
        })
        .await
    }

    /// All dependents are tried; the owner waits until none of them has failed.
    async fn orphan(&self, owner: &Place, dependents: &[Uid]) -> Result<(), BoxError> {
        let mut failures = Failures::default();
        for place in dependents.iter().filter_map(|uid| self.place(*uid)) {
            let orphaned = self.rewrite(&place, |read| {
                let owners = read.owner_references.as_deref().unwrap_or_default();
                let kept: Vec<_> = owners.iter().filter(|o| Uid::of(&o.uid) != owner.uid).collect();
                (kept.len() < owners.len()).then(|| json!({"ownerReferences": kept}))
            });
            failures.keep(&place.name, orphaned.await);
        }
        failures.into_result()?;
        self.release(owner, ORPHAN).await
    }

    async fn collect(&self, place: &Place) -> Result<(), BoxError> {
        for _ in 0..ATTEMPTS {
            let Some(read) = self.read(place).await? else { return Ok(()) };
            if read.deletion_timestamp.is_some() {
                return Ok(());
            }
            let mut owners = Vec::new();
            for owner in read.owner_references.iter().flatten() {
                owners.push((owner.clone(), self.standing(place, owner).await?));
            }
            let finalizers = read.finalizers.as_deref().unwrap_or_default();
            let result = match plan::judge(&owners, finalizers, place.owns) {
                Verdict::Stays => return Ok(()),
                Verdict::Keep(kept) => {
                    let metadata = json!({"resourceVersion": read.resource_version, "ownerReferences": kept});
                    anything::merge(self.client, &place.path, &json!({"metadata": metadata})).await
                }
                Verdict::Delete(policy) => self.delete(place, &read, policy).await,
            };
            match result {
                Err(error) if objects::is_conflict(&error) => {}
                result => return Ok(objects::settle(result)?),
            }
        }
        Err(too_busy())
    }

    async fn delete(&self, place: &Place, read: &ObjectMeta, policy: Policy) -> Result<(), kube::Error> {
        let params = match policy {
            Policy::Background => DeleteParams::background(),
            Policy::Foreground => DeleteParams::foreground(),
            Policy::Orphan => DeleteParams::orphan(),
        };
        // Somebody may give it another owner meanwhile.
        let preconditions = Preconditions { uid: read.uid.clone(), resource_version: read.resource_version.clone() };
        let params = DeleteParams { preconditions: Some(preconditions), ..params };
        anything::delete(self.client, &place.path, &params).await
    }

    async fn standing(&self, place: &Place, owner: &OwnerReference) -> Result<Standing, kube::Error> {
        let known = self
            .feed
            .read(|index| plan::owner(index, place.namespace.as_deref(), Uid::of(&owner.uid)).map(plan::waits));
        match known {
            Some(true) => Ok(Standing::Waiting),
            Some(false) => Ok(Standing::Solid),
            None => self.ask(place, owner).await,
        }
    }

    /// Whether an owner that is not in the feed is really gone, by asking for it.
    async fn ask(&self, place: &Place, owner: &OwnerReference) -> Result<Standing, kube::Error> {
        // A kind that is not served may come back with its definition: its dependents are left alone. So are objects of
        // the cluster that name an owner in a namespace: nobody can say which one.
        let Some(kind) = self.kinds.get(&owner.api_version, &owner.kind) else { return Ok(Standing::Solid) };
        if kind.namespaced && place.namespace.is_none() {
            return Ok(Standing::Solid);
        }
        let key = (kind.object(place.namespace.as_deref(), &owner.name), owner.uid.clone());
        if let Some(known) = self.asked.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(*known);
        }
        let found = anything::metadata(self.client, &key.0).await?;
        let there = found.is_some_and(|found| found.uid.as_deref() == Some(&*owner.uid));
        let standing = if there { Standing::Solid } else { Standing::Gone };
        self.asked.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, standing);
        Ok(standing)
    }
}

fn too_busy() -> BoxError {
    "others write to it all the time, will retry".into()
}

impl Reconciler for Controller {
    const NAME: &'static str = "garbage-collector";
    const SCOPE: Scope = Scope::Cluster;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        self.feed.synced().await;
        self.open.extend(self.follower.take());
        let pass = Pass { client: &self.client, feed: &self.feed, kinds: self.feed.kinds(), asked: Asked::default() };
        let mut steps = Vec::new();
        let mut open = std::mem::take(&mut self.open).into_iter();
        self.feed.read(|index| {
            let planned = open.by_ref().filter_map(|uid| Some((uid, plan::plan(index, uid)?)));
            steps.extend(planned.take(PASS_MAX));
        });
        let mut later: HashSet<Uid> = open.collect();
        let more = !later.is_empty();
        let pass = &pass;
        let taken = futures::stream::iter(steps).map(|(uid, step)| async move { (uid, pass.take(uid, step).await) });
        let taken: Vec<_> = taken.buffer_unordered(PARALLEL).collect().await;
        let mut failures = Failures::default();
        for (uid, result) in taken {
            if let Err((name, error)) = result {
                tracing::debug!(object = name, error = %Chain(&*error), "not collected");
                failures.keep(name, Err::<(), _>(error));
                later.insert(uid);
            }
        }
        self.open = later;
        failures.into_result()?;
        Ok(if more { Next::After(std::time::Duration::ZERO) } else { Next::Change })
    }
}
