//! Services of type LoadBalancer get the addresses of all nodes that are ready. Two of them cannot have the same port: the
//! older has it. Says of every Service and pod what is not served because it is the box's own. Scope: cluster.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use skiff_reconcile::{BoxError, EventKind, Informer, Next, Reconciler, Recorder, Scope};

use crate::Config;
use crate::reserved::{Ground, Refusal};

pub(crate) struct Controller {
    config: Config,
    client: Client,
    recorder: Recorder,
    services: Informer<Service>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    /// What was said of which object.
    said: HashSet<(Option<String>, String)>,
}

impl Controller {
    pub(crate) fn new(
        config: Config,
        client: Client,
        services: Informer<Service>,
        pods: Informer<Pod>,
        nodes: Informer<Node>,
    ) -> Self {
        let recorder = Recorder::new(client.clone(), "service-controller", &config.node_name);
        Self { config, client, recorder, services, pods, nodes, said: HashSet::new() }
    }

    async fn write(&self, service: &Service, addresses: &[String]) -> Result<(), kube::Error> {
        let ingress: Vec<_> = addresses.iter().map(|ip| json!({"ip": ip, "ipMode": "VIP"})).collect();
        let ingress = if ingress.is_empty() { serde_json::Value::Null } else { json!(ingress) };
        let api: Api<Service> = Api::namespaced(self.client.clone(), &service.namespace().unwrap_or_default());
        let patch = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": ingress}}}));
        match api.patch_status(&service.name_any(), &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Says each thing once for as long as it lasts.
    async fn say(&mut self, refusals: &[Refusal]) {
        let key = |refusal: &Refusal| (refusal.regarding.uid.clone(), refusal.message.clone());
        for refusal in refusals.iter().filter(|refusal| !self.said.contains(&key(refusal))) {
            self.recorder.event(&refusal.regarding, EventKind::Warning, refusal.reason, &refusal.message).await;
        }
        self.said = refusals.iter().map(key).collect();
    }

    async fn refuse(&self, service: &Service) {
        let regarding = k8s_openapi::api::core::v1::ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            name: Some(service.name_any()),
            namespace: service.namespace(),
            uid: service.uid(),
            ..Default::default()
        };
        let message =
            "a port of this Service is taken by another Service of type LoadBalancer on this box's only address";
        self.recorder.event(&regarding, EventKind::Warning, "PortConflict", message).await;
    }
}

fn current(service: &Service) -> Vec<String> {
    let status = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    status.iter().flat_map(|l| l.ingress.iter().flatten()).filter_map(|i| i.ip.clone()).collect()
}

/// The Services that have the box's address, and those that came too late for a port. Who wants a port of the box itself
/// is among neither.
pub(crate) fn share(ground: &Ground<'_>, services: &[Arc<Service>]) -> (Vec<Arc<Service>>, Vec<Arc<Service>>) {
    let is_balanced = |s: &Service| s.spec.as_ref().and_then(|s| s.type_.as_deref()) == Some("LoadBalancer");
    let wants = |s: &&Arc<Service>| is_balanced(s) && ground.reserved_port(s).is_none();
    let mut wanting: Vec<_> = services.iter().filter(wants).cloned().collect();
    wanting.sort_by_key(|s| (s.creation_timestamp().map(|t| t.0), s.namespace(), s.name_any()));
    let mut taken: HashSet<(String, i32)> = HashSet::new();
    wanting.into_iter().partition(|service| {
        let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
        let ports: Vec<_> = ports.map(|p| (p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), p.port)).collect();
        let free = ports.iter().all(|p| !taken.contains(p));
        if free {
            taken.extend(ports);
        }
        free
    })
}

impl Reconciler for Controller {
    const NAME: &'static str = "load-balancer";
    const SCOPE: Scope = Scope::Cluster;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        let services = self.services.list();
        let addresses = skiff_host::links::own_addresses();
        let config = self.config.clone();
        let ground = Ground { config: &config, addresses: &addresses };
        let (served, refused) = share(&ground, &services);
        self.say(&ground.refusals(&services, &self.pods.list())).await;
        let addresses = skiff_reconcile::node_addresses(&self.nodes.list());
        for service in &services {
            let is = |list: &[Arc<Service>]| list.iter().any(|s| s.uid() == service.uid());
            let wanted = if is(&served) { addresses.clone() } else { Vec::new() };
            if is(&refused) {
                self.refuse(service).await;
            }
            if current(service) != wanted {
                self.write(service, &wanted).await?;
            }
        }
        Ok(Next::Change)
    }
}
