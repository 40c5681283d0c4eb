//! Which objects a controller has: those it controls, those without a controller that it adopts, and those that it lets go
//! since its selector does not match any more. As upstream's ControllerRefManager.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use skiff_object::labels::Selector;
use skiff_reconcile::Failures;

use crate::objects;

/// What a controller may claim: both it and its objects are in a namespace.
pub trait Claimable:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + Sync + 'static
{
}

impl<K> Claimable for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static
{
}

/// Who controls an object.
pub fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|o| o.controller == Some(true))
}

pub fn controller_uid(meta: &ObjectMeta) -> Option<&str> {
    controller(meta).map(|owner| owner.uid.as_str())
}

/// The reference by which `owner` controls what it makes.
pub fn controller_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.name_any(),
        uid: owner.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// What is to be done about the objects of one controller.
#[derive(Debug)]
pub struct Claims<K> {
    /// It controls them, and they match.
    pub owned: Vec<Arc<K>>,
    /// Nobody controls them, and they match.
    pub adopt: Vec<Arc<K>>,
    /// It controls them, and they do not match any more.
    pub release: Vec<Arc<K>>,
}

/// Sorts out the objects of the owner's namespace. An owner that is to go takes and releases nothing; an object that is to
/// go is not adopted.
pub fn claim<O: Resource, K: Resource>(owner: &O, selector: &Selector, objects: &[Arc<K>]) -> Claims<K> {
    let uid = owner.meta().uid.as_deref();
    let dying = objects::is_deleted(owner);
    let mut claims = Claims { owned: Vec::new(), adopt: Vec::new(), release: Vec::new() };
    for object in objects {
        let matches = selector.matches(objects::labels(&**object));
        let list = match controller_uid(object.meta()) {
            Some(controller) if Some(controller) != uid => continue,
            Some(_) if matches => &mut claims.owned,
            Some(_) if dying => continue,
            Some(_) => &mut claims.release,
            None if dying || !matches || objects::is_deleted(&**object) => continue,
            None => &mut claims.adopt,
        };
        list.push(Arc::clone(object));
    }
    claims
}

/// Adopts and releases. The next snapshot shows it.
pub async fn apply<O: Claimable, K: Claimable>(
    client: &Client,
    owner: &O,
    adopt: &[Arc<K>],
    release: &[Arc<K>],
    failures: &mut Failures,
) {
    let uid = owner.uid().unwrap_or_default();
    if !adopt.is_empty() && failures.keep(owner.name_any(), is_alive(client, owner).await) == Some(true) {
        let reference = json!(controller_reference(owner));
        for object in adopt {
            failures.keep(object.name_any(), write(client, &**object, &reference).await);
        }
    }
    for object in release {
        let reference = json!({"$patch": "delete", "uid": uid});
        failures.keep(object.name_any(), write(client, &**object, &reference).await);
    }
}

/// Whether the owner is there and stays. Asked of the API: what an owner that is gone has adopted would be collected.
async fn is_alive<O: Claimable>(client: &Client, owner: &O) -> Result<bool, kube::Error> {
    let api: Api<O> = Api::namespaced(client.clone(), &owner.namespace().unwrap_or_default());
    let read = api.get_metadata_opt(&owner.name_any()).await?;
    Ok(read.is_some_and(|read| read.metadata.uid == owner.uid() && read.metadata.deletion_timestamp.is_none()))
}

/// Adds or removes one reference and leaves those of others alone.
async fn write<K: Claimable>(client: &Client, object: &K, reference: &Value) -> Result<(), kube::Error> {
    let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let patch = json!({"metadata": {"uid": object.uid(), "ownerReferences": [reference]}});
    let patched = api.patch_metadata(&object.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await;
    objects::settle(patched)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;
    use crate::testing::{MAPS, World};

    const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";

    async fn set(world: &World) -> ReplicaSet {
        let template =
            json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
        let spec = json!({"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": template});
        serde_json::from_value(world.post(SETS, json!({"metadata": {"name": "web"}, "spec": spec})).await)
            .expect("a set")
    }

    async fn map(world: &World, name: &str, app: &str, owners: Value) -> Arc<ConfigMap> {
        let object = json!({"metadata": {"name": name, "labels": {"app": app}, "ownerReferences": owners}});
        Arc::new(serde_json::from_value(world.post(MAPS, object).await).expect("a ConfigMap"))
    }

    async fn settle(world: &World, set: &ReplicaSet, maps: &[Arc<ConfigMap>]) -> Vec<String> {
        let claims = claim(set, &objects::selector(&set.spec.selector), maps);
        let mut failures = Failures::default();
        apply(&world.client, set, &claims.adopt, &claims.release, &mut failures).await;
        failures.into_result().expect("no failure");
        claims.owned.iter().map(|map| map.name_any()).collect()
    }

    #[tokio::test]
    async fn what_matches_is_adopted_and_what_does_not_is_let_go() {
        let world = World::start().await;
        let set = set(&world).await;
        let ours = json!(controller_reference(&set));
        let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "other", "controller": true});
        let plain = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "p", "uid": "plain"});
        let maps = [
            map(&world, "owned", "web", json!([ours])).await,
            map(&world, "orphan", "web", json!([plain])).await,
            map(&world, "astray", "db", json!([plain, ours])).await,
            map(&world, "others", "web", json!([other])).await,
            map(&world, "stranger", "db", json!([])).await,
        ];
        // Somebody adds an owner meanwhile.
        let more = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "m", "uid": "more"});
        world.merge(&format!("{MAPS}/orphan"), json!({"metadata": {"ownerReferences": [plain, more]}})).await;
        assert_eq!(settle(&world, &set, &maps).await, ["owned"]);
        let mut owners = Vec::new();
        for name in ["owned", "orphan", "astray", "others", "stranger"] {
            let found = world.get(&format!("{MAPS}/{name}")).await;
            let uids = found["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
            owners.push(uids.iter().map(|o| o["uid"].clone()).collect::<Vec<_>>());
        }
        let own = json!(set.uid());
        let expected = [
            vec![own.clone()],
            vec![json!("plain"), json!("more"), own],
            vec![json!("plain")],
            vec![json!("other")],
            vec![],
        ];
        owners[1].sort_by_key(|uid| expected[1].iter().position(|e| e == uid));
        assert_eq!(owners, expected);
    }

    #[tokio::test]
    async fn an_owner_that_is_gone_adopts_nothing() {
        let world = World::start().await;
        let set = set(&world).await;
        let orphan = map(&world, "orphan", "web", json!([])).await;
        world.delete(&format!("{SETS}/web"), "Background").await;
        settle(&world, &set, &[orphan]).await;
        assert!(world.get(&format!("{MAPS}/orphan")).await["metadata"].get("ownerReferences").is_none());
    }
}
