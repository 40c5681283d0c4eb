//! How many pods the controllers of a budget's pods are to have: what its percentages are of.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Client, Resource, ResourceExt};
use skiff_reconcile::{Caches, Changes, Informer};

use crate::owners;
use crate::scales::{ScaleError, Scales, Target};

/// The sizes, and the pods that nobody controls.
#[derive(Debug, Default)]
pub struct Sizes {
    /// By the uid of the controller.
    pub wanted: BTreeMap<String, i32>,
    pub unmanaged: bool,
}

impl Sizes {
    pub fn total(&self) -> i32 {
        self.wanted.values().fold(0, |sum, size| sum.saturating_add(*size))
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SizeError {
    #[error("found no controllers for pod {0:?}")]
    NoController(String),
    #[error(transparent)]
    Scale(#[from] ScaleError),
}

/// Those that are known without asking, and the way to the others.
pub struct Workloads {
    deployments: Informer<Deployment>,
    replica_sets: Informer<ReplicaSet>,
    stateful_sets: Informer<StatefulSet>,
    replication_controllers: Informer<ReplicationController>,
    scales: Scales,
}

/// A controller by its uid, and how many pods it is to have.
type Size = (String, i32);

impl Workloads {
    pub fn new(client: Client, caches: &Caches) -> Self {
        Self {
            deployments: caches.of(),
            replica_sets: caches.of(),
            stateful_sets: caches.of(),
            replication_controllers: caches.of(),
            scales: Scales::new(client),
        }
    }

    pub fn wakes(&self) -> Vec<Changes> {
        vec![
            self.deployments.changes(),
            self.replica_sets.changes(),
            self.stateful_sets.changes(),
            self.replication_controllers.changes(),
        ]
    }

    pub async fn synced(&self) {
        self.deployments.synced().await;
        self.replica_sets.synced().await;
        self.stateful_sets.synced().await;
        self.replication_controllers.synced().await;
    }

    /// Of the pods' controllers, each once.
    pub async fn sizes(&mut self, pods: &[Arc<Pod>]) -> Result<Sizes, SizeError> {
        let (mut sizes, mut known) = (Sizes::default(), Vec::new());
        for pod in pods {
            let Some(owner) = owners::controller(&pod.metadata) else {
                sizes.unmanaged = true;
                continue;
            };
            if known.contains(&&owner.uid) {
                continue;
            }
            known.push(&owner.uid);
            let size = self.size(&pod.namespace().unwrap_or_default(), owner).await;
            let missing = || SizeError::NoController(pod.name_any());
            sizes.wanted.extend([size?.ok_or_else(missing)?]);
        }
        Ok(sizes)
    }

    async fn size(&mut self, namespace: &str, owner: &OwnerReference) -> Result<Option<Size>, ScaleError> {
        if let Some(known) = self.known(namespace, owner) {
            return Ok(Some(known));
        }
        let target = Target { namespace, api_version: &owner.api_version, kind: &owner.kind, name: &owner.name };
        match self.scales.read(target).await {
            Ok(scale) if scale.uid == owner.uid => Ok(Some((scale.uid, scale.wanted))),
            Ok(_) | Err(ScaleError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// As the caches have it; a set of a deployment is as large as that.
    fn known(&self, namespace: &str, owner: &OwnerReference) -> Option<Size> {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        match (group, &*owner.kind) {
            ("", "ReplicationController") => {
                let found = of_uid(&self.replication_controllers, namespace, owner)?;
                Some((owner.uid.clone(), found.spec.as_ref()?.replicas.unwrap_or(1)))
            }
            ("apps", "StatefulSet") => {
                let found = of_uid(&self.stateful_sets, namespace, owner)?;
                Some((owner.uid.clone(), found.spec.replicas.unwrap_or(1)))
            }
            ("apps" | "extensions", "ReplicaSet") => {
                let set = of_uid(&self.replica_sets, namespace, owner)?;
                match owners::controller(&set.metadata) {
                    Some(above) if above.kind == "Deployment" => {
                        let found = of_uid(&self.deployments, namespace, above)?;
                        Some((above.uid.clone(), found.spec.replicas.unwrap_or(1)))
                    }
                    Some(_) | None => Some((owner.uid.clone(), set.spec.replicas.unwrap_or(1))),
                }
            }
            (_, _) => None,
        }
    }
}

fn of_uid<K>(informer: &Informer<K>, namespace: &str, owner: &OwnerReference) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let found = informer.get(Some(namespace), &owner.name)?;
    (found.meta().uid.as_ref() == Some(&owner.uid)).then_some(found)
}
