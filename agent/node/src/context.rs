//! What all parts of the node agent share: settings, the API client, the runtime, and how events are recorded.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use kube::Api;
use kube::api::ListParams;
use skiff_cri::Runtime;
use skiff_reconcile::{EventKind, Recorder};
use tokio::sync::{Mutex, Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cgroups::Cgroups;
use crate::clock::Clock;
use crate::config::Config;
use crate::env::service_vars;
use crate::machine::Machine;
use crate::objects::Objects;

/// How old the list of services may be for a pod that starts.
const SERVICES_FRESH: Duration = Duration::from_secs(2);

pub struct Context {
    pub config: Config,
    pub client: kube::Client,
    pub runtime: Arc<dyn Runtime>,
    pub recorder: Recorder,
    pub objects: Objects,
    pub cgroups: Cgroups,
    pub machine: Machine,
    pub clock: Clock,
    /// What the machine lacks, as it was last said.
    pub lacks: watch::Sender<Option<String>>,
    /// Why pods cannot have a network, if so.
    pub network_trouble: watch::Sender<Option<String>>,
    /// Why the API takes none of the labels in the settings.
    pub labels_refused: watch::Sender<Option<String>>,
    /// What the machine lacks, as far as it was looked at before the node runs.
    pub first_look: Mutex<Option<JoinHandle<Option<String>>>>,
    /// Something failed that may be for want of what the machine should have.
    pub doubt: Notify,
    /// Bounds how many pods start at the same time.
    pub starts: Semaphore,
    services: Mutex<Option<(Instant, Arc<[Service]>)>>,
}

impl Context {
    pub fn new(config: Config, client: kube::Client, runtime: Arc<dyn Runtime>, clock: Clock) -> Self {
        Self {
            recorder: Recorder::new(client.clone(), "kubelet", &config.node_name),
            objects: Objects::new(client.clone()),
            cgroups: Cgroups::new(&config.cgroup_parent),
            lacks: watch::Sender::new(None),
            network_trouble: watch::Sender::new(None),
            labels_refused: watch::Sender::new(None),
            first_look: Mutex::new(None),
            doubt: Notify::new(),
            starts: Semaphore::new(config.parallel_starts_max.max(1)),
            services: Mutex::new(None),
            machine: Machine::observe(),
            clock,
            config,
            client,
            runtime,
        }
    }

    /// Records in the background: a slow API must not delay a pod.
    pub fn event(&self, pod: &Pod, container: Option<&str>, kind: EventKind, reason: &'static str, message: String) {
        let reference = reference(pod, container);
        let recorder = self.recorder.clone();
        tokio::spawn(async move { recorder.event(&reference, kind, reason, &message).await });
    }

    /// About this node itself.
    pub async fn node_event(&self, kind: EventKind, reason: &str, message: &str) {
        let node = skiff_reconcile::node_reference(&self.config.node_name);
        self.recorder.event(&node, kind, reason, message).await;
    }

    /// The variables that name the services of the namespace, and the API's own.
    pub async fn service_vars(&self, pod: &Pod) -> kube::Result<Vec<(String, String)>> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let links = pod.spec.as_ref().is_none_or(|spec| spec.enable_service_links != Some(false));
        let all = self.services().await?;
        let of = |service: &&Service| {
            let (ns, name) = (service.metadata.namespace.as_deref(), service.metadata.name.as_deref());
            let api = ns == Some("default") && name == Some("kubernetes");
            api || links && ns == Some(namespace)
        };
        Ok(all.iter().filter(of).flat_map(service_vars).collect())
    }

    async fn services(&self) -> kube::Result<Arc<[Service]>> {
        let mut kept = self.services.lock().await;
        if let Some((when, services)) = kept.as_ref()
            && when.elapsed() < SERVICES_FRESH
        {
            return Ok(Arc::clone(services));
        }
        let api: Api<Service> = Api::all(self.client.clone());
        let services: Arc<[Service]> = api.list(&ListParams::default()).await?.items.into();
        *kept = Some((Instant::now(), Arc::clone(&services)));
        Ok(services)
    }
}

/// The pod, or one of its containers, as the subject of an event.
fn reference(pod: &Pod, container: Option<&str>) -> ObjectReference {
    let is_init = |name: &str| {
        pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten()).any(|container| container.name == name)
    };
    let field_path = container.map(|name| match is_init(name) {
        true => format!("spec.initContainers{{{name}}}"),
        false => format!("spec.containers{{{name}}}"),
    });
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path,
    }
}

/// An error with its sources, on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
