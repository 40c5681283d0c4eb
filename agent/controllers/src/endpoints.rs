//! Endpoints and EndpointSlices: which pods a Service's traffic goes to. Scope: cluster.
//!
//! Writes the slices and Endpoints of Services with a selector, and mirrors hand-made Endpoints into slices.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use skiff_reconcile::{BoxError, Caches, Changes, Failures, Informer, Next, Reconciler, Scope};

use crate::objects;

mod plan;
#[cfg(test)]
mod tests;

pub struct Controller {
    client: Client,
    services: Informer<Service>,
    pods: Informer<Pod>,
    endpoints: Informer<Endpoints>,
    slices: Informer<EndpointSlice>,
}

impl Controller {
    pub fn new(client: Client, caches: &Caches) -> Self {
        Self { client, services: caches.of(), pods: caches.of(), endpoints: caches.of(), slices: caches.of() }
    }

    pub fn wakes(&self) -> Vec<Changes> {
        vec![self.services.changes(), self.pods.changes(), self.endpoints.changes(), self.slices.changes()]
    }

    async fn reconcile_service(
        &self,
        service: &Service,
        pods: &[Arc<Pod>],
        slices: &[Arc<EndpointSlice>],
    ) -> Result<(), BoxError> {
        let name = service.name_any();
        let namespace = service.namespace().unwrap_or_default();
        let current = self.endpoints.get(Some(&namespace), &name);
        let (wanted, manager) = if plan::has_selector(service) {
            let selected = plan::select(service, pods);
            self.write_endpoints(&namespace, plan::endpoints(service, &selected), current.as_deref()).await?;
            (plan::slices(service, &selected), plan::MANAGER)
        } else if let Some(hand_made) = current.as_deref().filter(|e| plan::is_mirrored(e)) {
            (plan::mirror(service, hand_made), plan::MIRRORER)
        } else {
            (Vec::new(), plan::MIRRORER)
        };
        Ok(self.write_slices(&namespace, wanted, slices, manager).await?)
    }

    async fn write_endpoints(
        &self,
        namespace: &str,
        wanted: Endpoints,
        current: Option<&Endpoints>,
    ) -> Result<(), kube::Error> {
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), namespace);
        let result = match current {
            None => api.create(&PostParams::default(), &wanted).await.map(drop),
            Some(current) if current.subsets == wanted.subsets && labels_kept(current, &wanted) => return Ok(()),
            Some(current) => {
                let patch = json!({"metadata": {"resourceVersion": current.resource_version(),
                    "labels": wanted.metadata.labels}, "subsets": wanted.subsets});
                api.patch(&wanted.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
            }
        };
        objects::settle(result)
    }

    /// Keeps the slices that are there under their names, adds and removes what is missing or left over.
    async fn write_slices(
        &self,
        namespace: &str,
        wanted: Vec<EndpointSlice>,
        current: &[Arc<EndpointSlice>],
        manager: &str,
    ) -> Result<(), kube::Error> {
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), namespace);
        let managed =
            |s: &&Arc<EndpointSlice>| objects::labels(&***s).get(plan::MANAGED_BY).is_some_and(|m| m == manager);
        let mut ours: Vec<_> = current.iter().filter(managed).cloned().collect();
        ours.sort_by_key(|s| s.name_any());
        let mut ours = ours.into_iter();
        for slice in wanted {
            match ours.next() {
                None => objects::settle(api.create(&PostParams::default(), &slice).await.map(drop))?,
                Some(old) if old.endpoints == slice.endpoints && old.ports == slice.ports => {}
                Some(old) => {
                    let patch = json!({"metadata": {"resourceVersion": old.resource_version()},
                        "endpoints": slice.endpoints, "ports": slice.ports});
                    let patched = api.patch(&old.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await;
                    objects::settle(patched.map(drop))?;
                }
            }
        }
        for left_over in ours {
            objects::settle(api.delete(&left_over.name_any(), &DeleteParams::default()).await.map(drop))?;
        }
        Ok(())
    }

    /// Endpoints whose Service is gone; slices are collected through their owner.
    async fn remove_orphans(&self, failures: &mut Failures) {
        for endpoints in self.endpoints.list() {
            let namespace = endpoints.namespace().unwrap_or_default();
            let made_here = objects::labels(&*endpoints).contains_key(plan::MADE_HERE);
            if made_here && self.services.get(Some(&namespace), &endpoints.name_any()).is_none() {
                let api: Api<Endpoints> = Api::namespaced(self.client.clone(), &namespace);
                let deleted = api.delete(&endpoints.name_any(), &DeleteParams::default()).await;
                failures.keep(format_args!("{namespace}/{}", endpoints.name_any()), objects::settle(deleted));
            }
        }
    }
}

fn labels_kept(current: &Endpoints, wanted: &Endpoints) -> bool {
    let labels = objects::labels(current);
    objects::labels(wanted).iter().all(|(key, value)| labels.get(key) == Some(value))
}

impl Reconciler for Controller {
    const NAME: &'static str = "endpoints";
    const SCOPE: Scope = Scope::Cluster;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        self.services.synced().await;
        self.pods.synced().await;
        self.endpoints.synced().await;
        self.slices.synced().await;
        let pods = objects::by_namespace(&self.pods.list());
        let mut slices: HashMap<(String, String), Vec<Arc<EndpointSlice>>> = HashMap::new();
        for slice in self.slices.list() {
            if let Some(service) = objects::labels(&*slice).get(plan::SERVICE_NAME).cloned() {
                slices.entry((slice.namespace().unwrap_or_default(), service)).or_default().push(slice);
            }
        }
        let mut failures = Failures::default();
        for service in self.services.list().into_iter().filter(|s| !objects::is_deleted(&**s)) {
            let namespace = service.namespace().unwrap_or_default();
            let pods = pods.get(&namespace).map(Vec::as_slice).unwrap_or_default();
            let name = format!("{namespace}/{}", service.name_any());
            let slices = slices.get(&(namespace, service.name_any())).map(Vec::as_slice).unwrap_or_default();
            failures.keep(name, self.reconcile_service(&service, pods, slices).await);
        }
        self.remove_orphans(&mut failures).await;
        failures.into_result()?;
        Ok(Next::Change)
    }
}
