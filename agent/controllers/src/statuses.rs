//! The ways in which a controller writes a status: only what differs, over the object it was made for; and again if
//! somebody else wrote to the object meanwhile, unless the status goes on from the one before.

use std::sync::Arc;

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::owners::Claimable;
use crate::{anything, objects};

/// How often somebody else may write meanwhile.
const ATTEMPTS: usize = 5;

/// Makes the status `wanted`, as far as `object` is not there yet. An object that is gone needs none.
pub async fn write<K>(client: &Client, object: &K, wanted: &impl Serialize) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Serialize,
{
    let path = format!("{}/{}", K::url_path(&(), object.namespace().as_deref()), object.name_any());
    let wanted = serde_json::to_value(wanted).map_err(kube::Error::SerdeError)?;
    let mut current = serde_json::to_value(object).map_err(kube::Error::SerdeError)?;
    for _ in 0..ATTEMPTS {
        let Some(status) = difference(&current["status"], &wanted) else { return Ok(()) };
        let metadata = json!({"uid": object.uid(), "resourceVersion": current["metadata"]["resourceVersion"]});
        let patch = json!({"metadata": metadata, "status": status});
        match anything::merge(client, &format!("{path}/status"), &patch).await {
            Err(error) if objects::is_conflict(&error) => {}
            result => return objects::settle(result),
        }
        match anything::whole(client, &path).await? {
            Some(read) if read["metadata"]["uid"].as_str() == object.uid().as_deref() => current = read,
            Some(_) | None => return Ok(()),
        }
    }
    // The next snapshot shows what is left to write.
    Ok(())
}

/// An object as its controller last wrote it, for as long as the cache shows an older one. For a status that goes on from
/// the one before, as a count does: made of an older one, it would lose or repeat what came between.
#[derive(Debug)]
pub struct Written<K> {
    last: Option<Arc<K>>,
}

impl<K> Default for Written<K> {
    fn default() -> Self {
        Self { last: None }
    }
}

impl<K: Claimable + Serialize> Written<K> {
    /// The newest of the object that is known.
    pub fn latest(&mut self, cached: &Arc<K>) -> Arc<K> {
        self.last.take_if(|last| last.uid() != cached.uid() || version(&**last) <= version(&**cached));
        Arc::clone(self.last.as_ref().unwrap_or(cached))
    }

    /// Makes the status `wanted`, over this very object and no other. Answers whether it is as wanted; if not, the next
    /// snapshot shows why.
    pub async fn write(&mut self, client: &Client, object: &K, wanted: &impl Serialize) -> Result<bool, kube::Error> {
        let wanted = serde_json::to_value(wanted).map_err(kube::Error::SerdeError)?;
        let current = serde_json::to_value(object).map_err(kube::Error::SerdeError)?;
        let Some(status) = difference(&current["status"], &wanted) else { return Ok(true) };
        let metadata = json!({"uid": object.uid(), "resourceVersion": object.resource_version()});
        let patch = Patch::Merge(json!({"metadata": metadata, "status": status}));
        let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
        match api.patch_status(&object.name_any(), &PatchParams::default(), &patch).await {
            Ok(written) => {
                self.last = Some(Arc::new(written));
                Ok(true)
            }
            Err(error) if objects::is_outdated(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn version(object: &impl Resource) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// The merge patch that makes `old` into `new`.
pub fn difference(old: &Value, new: &Value) -> Option<Value> {
    let (Some(new_fields), none) = (new.as_object(), Map::new()) else {
        return (old != new).then(|| new.clone());
    };
    let old_fields = old.as_object().unwrap_or(&none);
    let mut patch = Map::new();
    for (name, new) in new_fields {
        if let Some(change) = difference(old_fields.get(name).unwrap_or(&Value::Null), new) {
            patch.insert(name.clone(), change);
        }
    }
    let removed = old_fields.iter().filter(|(name, old)| !old.is_null() && !new_fields.contains_key(*name));
    patch.extend(removed.map(|(name, _)| (name.clone(), Value::Null)));
    (!patch.is_empty() || !old.is_object() && !old.is_null()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Namespace;

    use super::*;
    use crate::testing::World;

    #[test]
    fn only_what_differs_is_written() {
        let check = |old: Value, new: Value, expected: Option<Value>| assert_eq!(difference(&old, &new), expected);
        check(json!({"a": 1, "b": {"c": 2}}), json!({"a": 1, "b": {"c": 2}}), None);
        check(json!({"a": 1, "b": 2}), json!({"b": 3}), Some(json!({"a": null, "b": 3})));
        check(json!({"a": {"b": 1, "c": 1}}), json!({"a": {"b": 1}}), Some(json!({"a": {"c": null}})));
        check(json!({"a": [1, 2]}), json!({"a": [1]}), Some(json!({"a": [1]})));
        check(Value::Null, json!({"a": 1}), Some(json!({"a": 1})));
        check(Value::Null, json!({}), None);
    }

    #[tokio::test]
    async fn a_conflict_is_retried_and_an_unchanged_status_is_not_written() {
        let world = World::start().await;
        let made = world.post("/api/v1/namespaces", json!({"metadata": {"name": "n"}})).await;
        world.merge("/api/v1/namespaces/n", json!({"metadata": {"labels": {"a": "b"}}})).await;
        let stale: Namespace = serde_json::from_value(made).expect("a Namespace");
        let wanted = json!({"phase": "Active", "conditions": [{"type": "Odd", "status": "True"}]});
        write(&world.client, &stale, &wanted).await.expect("written");
        let written = world.get("/api/v1/namespaces/n").await;
        assert_eq!(
            (&written["status"]["conditions"], &written["metadata"]["labels"]["a"]),
            (&wanted["conditions"], &json!("b"))
        );
        write(&world.client, &stale, &wanted).await.expect("nothing to write");
        assert_eq!(
            world.get("/api/v1/namespaces/n").await["metadata"]["resourceVersion"],
            written["metadata"]["resourceVersion"]
        );
    }
}
