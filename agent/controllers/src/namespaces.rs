//! Namespaces that are going away: everything in them is deleted, then the namespace is let go. Scope: cluster.
//!
//! Writes their conditions, which say what is left and why. Kinds are those that are served at the time; their objects are
//! read page by page, and of each the metadata alone.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use http::Request;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Preconditions};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use skiff_reconcile::{BoxError, Chain, Changes, Failures, Informer, Next, Reconciler, Scope, ServedKind, ServedKinds};

use crate::{anything, objects, statuses};

mod conditions;
#[cfg(test)]
mod tests;

use conditions::Found;

const FINALIZER: &str = "kubernetes";
/// How often a namespace that still holds something is looked at again: pods take their grace period to go.
const RECHECK: Duration = Duration::from_millis(500);
/// Objects read at once, so that a full namespace is never in memory whole.
const PAGE: usize = 200;
/// Objects deleted at once, so that many deletions share one commit.
const PARALLEL: usize = 16;

pub struct Controller {
    client: Client,
    namespaces: Informer<Namespace>,
}

impl Controller {
    pub fn new(client: Client, namespaces: Informer<Namespace>) -> Self {
        Self { client, namespaces }
    }

    pub fn wakes(&self) -> Vec<Changes> {
        vec![self.namespaces.changes()]
    }

    /// Deletes what is in the namespace and says what is left.
    async fn empty(&self, namespace: &str) -> Found {
        let mut found = Found::default();
        match ServedKinds::discover(&self.client).await {
            Ok(kinds) => {
                let contained = |kind: &&ServedKind| kind.namespaced && kind.can("list") && kind.can("delete");
                for kind in kinds.preferred().filter(contained) {
                    if let Err(error) = self.empty_of(kind, namespace, &mut found).await {
                        found.failures.push(Chain(&*error).to_string());
                    }
                }
            }
            Err(error) => found.discovery_failure = Some(Chain(&error).to_string()),
        }
        found
    }

    async fn empty_of(&self, kind: &ServedKind, namespace: &str, found: &mut Found) -> Result<(), BoxError> {
        let path = kind.collection(Some(namespace));
        let (mut seen, mut deleted, mut failures) = (false, 0, Failures::default());
        let mut pages = anything::pages(&self.client, &path, PAGE);
        loop {
            match pages.try_next().await {
                Ok(Some(page)) => {
                    seen |= !page.is_empty();
                    deleted += self.delete(&path, &page, &mut failures).await;
                }
                Ok(None) => break,
                // After so many changes, ours above all, the server has forgotten the list: what is left is shorter.
                Err(error) if objects::is_expired(&error) && deleted > 0 => {
                    (deleted, failures) = (0, Failures::default());
                    pages = anything::pages(&self.client, &path, PAGE);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if seen {
            self.count(kind, &path, found).await?;
        }
        failures.into_result()
    }

    /// Returns how many went or are to go.
    async fn delete(&self, path: &str, page: &[ObjectMeta], failures: &mut Failures) -> usize {
        let open = page.iter().filter(|metadata| metadata.deletion_timestamp.is_none());
        let deletions = open.map(|metadata| async move {
            let name = metadata.name.as_deref().unwrap_or_default();
            let preconditions = Some(Preconditions { uid: metadata.uid.clone(), resource_version: None });
            let params = DeleteParams { preconditions, ..DeleteParams::background() };
            let path = format!("{path}/{name}");
            let result = objects::settle(anything::delete(&self.client, &path, &params).await);
            (path, result)
        });
        // Collected first: a stream over what borrows would tie the lifetimes of both together.
        let deletions: Vec<_> = deletions.collect();
        let mut results = futures::stream::iter(deletions).buffer_unordered(PARALLEL);
        let mut deleted = 0;
        while let Some((path, result)) = results.next().await {
            deleted += usize::from(failures.keep(path, result).is_some());
        }
        deleted
    }

    /// What is left of a kind that there was something of.
    async fn count(&self, kind: &ServedKind, path: &str, found: &mut Found) -> Result<(), kube::Error> {
        let mut count = 0;
        let mut pages = anything::pages(&self.client, path, PAGE);
        while let Some(page) = pages.try_next().await? {
            count += page.len();
            for finalizer in page.into_iter().flat_map(|metadata| metadata.finalizers.unwrap_or_default()) {
                *found.finalizers.entry(finalizer).or_default() += 1;
            }
        }
        if count > 0 {
            found.remaining.insert((kind.group.clone(), kind.plural.clone()), count);
        }
        Ok(())
    }

    async fn reconcile_one(&self, namespace: &Namespace) -> Result<Next, BoxError> {
        let found = self.empty(&namespace.name_any()).await;
        if found.is_empty() {
            self.finalize(namespace).await?;
            return Ok(Next::Change);
        }
        let mut status = namespace.status.clone().unwrap_or_default();
        let old = status.conditions.unwrap_or_default();
        status.conditions = Some(conditions::conditions(&old, &found, objects::now()));
        statuses::write(&self.client, namespace, &status).await?;
        match found.discovery_failure.or_else(|| found.failures.into_iter().next()) {
            Some(failure) => Err(failure.into()),
            None => Ok(Next::After(RECHECK)),
        }
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

fn is_to_be_emptied(namespace: &Namespace) -> bool {
    let held = namespace.spec.iter().flat_map(|s| s.finalizers.iter().flatten()).any(|f| f == FINALIZER);
    objects::is_deleted(namespace) && held
}

impl Reconciler for Controller {
    const NAME: &'static str = "namespace";
    const SCOPE: Scope = Scope::Cluster;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        let mut next = Next::Change;
        let mut failures = Failures::default();
        for namespace in self.namespaces.list().iter().filter(|namespace| is_to_be_emptied(namespace)) {
            let result = self.reconcile_one(namespace).await;
            next = next.sooner(failures.keep(namespace.name_any(), result).unwrap_or(Next::Change));
        }
        failures.into_result()?;
        Ok(next)
    }
}
