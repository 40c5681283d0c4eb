//! Namespaces that are going away: everything in them is deleted, then the namespace is let go.

use std::time::Duration;

use http::Request;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use skiff_object::kinds::{self, Kind, Scope};
use skiff_reconcile::{BoxError, Informer, Next, Reconciler};

use crate::Informers;
use crate::objects;

const FINALIZER: &str = "kubernetes";
/// How often a namespace that still holds something is looked at again: pods take their grace period to go.
const RECHECK: Duration = Duration::from_millis(500);

pub struct Controller {
    client: Client,
    namespaces: Informer<Namespace>,
}

impl Controller {
    pub fn new(client: Client, informers: &Informers) -> Self {
        Self { client, namespaces: informers.namespaces.clone() }
    }

    /// Deletes what is left in the namespace and says how much there was.
    async fn empty(&self, namespace: &str) -> Result<usize, BoxError> {
        let mut left = 0;
        for kind in kinds::built_in().kinds().filter(|k| is_contained(k)) {
            let path = collection_path(kind, namespace);
            let list: Value = self.client.request(Request::get(&path).body(Vec::new())?).await?;
            let count = list["items"].as_array().map_or(0, Vec::len);
            if count > 0 {
                let _: Value = self.client.request(Request::delete(&path).body(Vec::new())?).await?;
                left += count;
            }
        }
        Ok(left)
    }

    async fn finalize(&self, namespace: &Namespace) -> Result<(), BoxError> {
        let kept: Vec<&String> =
            namespace.spec.iter().flat_map(|s| s.finalizers.iter().flatten()).filter(|f| *f != FINALIZER).collect();
        let mut object = serde_json::to_value(namespace)?;
        object["spec"]["finalizers"] = json!(kept);
        object["metadata"]["resourceVersion"] = Value::Null;
        let path = format!("/api/v1/namespaces/{}/finalize", namespace.name_any());
        let request =
            Request::put(path).header("content-type", "application/json").body(serde_json::to_vec(&object)?)?;
        Ok(objects::settle(self.client.request::<Value>(request).await)?)
    }
}

fn is_contained(kind: &Kind) -> bool {
    let served_twice = kind.storage_version.is_some();
    matches!(kind.scope, Scope::Namespaced) && kind.is_kept() && !served_twice
}

fn collection_path(kind: &Kind, namespace: &str) -> String {
    let root = if kind.group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{}", kind.api_version()) };
    format!("{root}/namespaces/{namespace}/{}", kind.plural)
}

impl Reconciler for Controller {
    const NAME: &'static str = "namespace";

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        let mut next = Next::Change;
        for namespace in self.namespaces.list() {
            let held = namespace.spec.iter().flat_map(|s| s.finalizers.iter().flatten()).any(|f| f == FINALIZER);
            if !objects::is_deleted(&*namespace) || !held {
                continue;
            }
            if self.empty(&namespace.name_any()).await? == 0 {
                self.finalize(&namespace).await?;
            } else {
                next = Next::After(RECHECK);
            }
        }
        Ok(next)
    }
}
