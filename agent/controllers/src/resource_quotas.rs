//! What is used of resource quotas, counted by what there is. Scope: cluster.
//!
//! Writes their status where it is not right. The API server keeps it up with each write of an object; left for here are
//! quotas that an earlier version made, objects that came in the very moment in which their quota did, and those that went
//! with a restart.

use std::collections::HashMap;
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use skiff_object::resource_quotas::{self, Count};
use skiff_reconcile::{BoxError, Changes, Failures, Informer, Next, Reconciler, Scope, ServedKinds};
use tokio::time::Instant;

use crate::{anything, objects, statuses};

mod plan;
#[cfg(test)]
mod tests;

use plan::Counted;

/// When a count is tried again that others kept from being written.
const RETRY: Duration = Duration::from_secs(1);
/// Objects read at once, so that a full namespace is never in memory whole.
const PAGE: usize = 200;

pub struct Controller {
    client: Client,
    quotas: Informer<ResourceQuota>,
    /// What was counted of each quota last, by its uid.
    counted: HashMap<String, Counted>,
}

impl Controller {
    pub fn new(client: Client, quotas: Informer<ResourceQuota>) -> Self {
        Self { client, quotas, counted: HashMap::new() }
    }

    pub fn wakes(&self) -> Vec<Changes> {
        vec![self.quotas.changes()]
    }

    /// Counts what there is and writes what differs. `false`: something was written meanwhile that may count.
    ///
    /// Whatever changes what is used writes the quota as well. So a count that began after the quota was read, and is
    /// written over that very revision, misses nothing.
    async fn recount(&self, kinds: &ServedKinds, quota: &ResourceQuota) -> Result<bool, kube::Error> {
        let object = serde_json::to_value(quota).map_err(kube::Error::SerdeError)?;
        let status = self.count(kinds, &object, quota.namespace().as_deref()).await?;
        if resource_quotas::is_same(&status, &object["status"]) {
            return Ok(true);
        }
        let Some(change) = statuses::difference(&object["status"], &status) else { return Ok(true) };
        let metadata = json!({"uid": quota.uid(), "resourceVersion": quota.resource_version()});
        let path = format!(
            "/api/v1/namespaces/{}/resourcequotas/{}/status",
            quota.namespace().unwrap_or_default(),
            quota.name_any()
        );
        match anything::merge(&self.client, &path, &json!({"metadata": metadata, "status": change})).await {
            Err(error) if objects::is_conflict(&error) => Ok(false),
            result => objects::settle(result).map(|()| true),
        }
    }

    async fn count(&self, kinds: &ServedKinds, quota: &Value, namespace: Option<&str>) -> Result<Value, kube::Error> {
        let mut count = Count::new(quota);
        for kind in kinds.preferred().filter(|kind| kind.namespaced && kind.can("list")) {
            let resource = kind.group_resource();
            if !resource_quotas::limits(quota, &resource) {
                continue;
            }
            let path = kind.collection(namespace);
            if resource_quotas::is_weighed(&resource) {
                let mut pages = anything::whole_pages(&self.client, &path, PAGE);
                while let Some(page) = pages.try_next().await? {
                    page.iter().for_each(|object| count.add(&resource, object));
                }
            } else {
                let mut pages = anything::pages(&self.client, &path, PAGE);
                while let Some(page) = pages.try_next().await? {
                    page.iter().for_each(|_| count.add(&resource, &Value::Null));
                }
            }
        }
        Ok(count.status())
    }
}

impl Reconciler for Controller {
    const NAME: &'static str = "resource-quota";
    const SCOPE: Scope = Scope::Cluster;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        self.quotas.synced().await;
        let quotas = self.quotas.list();
        let (due, mut next) = plan::due(&quotas, &mut self.counted, Instant::now());
        if due.is_empty() {
            return Ok(next);
        }
        let kinds = ServedKinds::discover(&self.client).await?;
        let mut failures = Failures::default();
        for quota in due {
            let begun = Instant::now();
            match failures.keep(quota.name_any(), self.recount(&kinds, quota).await) {
                Some(true) => {
                    let uid = quota.uid().unwrap_or_default();
                    let counted = Counted::new(quota, begun, self.counted.get(&uid));
                    next = next.sooner(Next::After(counted.holds()));
                    self.counted.insert(uid, counted);
                }
                Some(false) => next = next.sooner(Next::After(RETRY)),
                None => {}
            }
        }
        failures.into_result()?;
        Ok(next)
    }
}
