//! Service addresses: what is sent to a Service arrives at one of its ready pods.
//!
//! The nftables table is rendered whole from the objects and applied in one transaction, only when it changed.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use skiff_host::nft;
use skiff_reconcile::{BoxError, Informer, Next, Reconciler};

use crate::{Config, load_balancers};

mod observe;
mod render;
#[cfg(test)]
mod tests;

pub(crate) use observe::is_ready_endpoint;

pub(crate) struct Proxy {
    config: Config,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    pods: Informer<Pod>,
    applied: Option<Applied>,
}

struct Applied {
    script: String,
    /// The chains and sets of single Services, to remove those that are no longer wanted.
    objects: BTreeSet<render::Object>,
}

impl Proxy {
    pub(crate) fn new(
        config: Config,
        services: Informer<Service>,
        slices: Informer<EndpointSlice>,
        pods: Informer<Pod>,
    ) -> Self {
        Self { config, services, slices, pods, applied: None }
    }
}

impl Reconciler for Proxy {
    const NAME: &'static str = "service-addresses";

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        let services = self.services.list();
        let (balanced, _) = load_balancers::share(&services);
        let routes = observe::routes(&self.config, &services, &balanced, &self.slices.list(), &self.pods.list());
        let rendered = render::render(&self.config, &routes);
        if self.applied.as_ref().is_some_and(|applied| applied.script == rendered.script) {
            return Ok(Next::Change);
        }
        let before = self.applied.as_ref().map(|applied| &applied.objects);
        nft::apply(&render::transaction(&self.config.table, &rendered, before)).await?;
        tracing::debug!(routes = routes.len(), "service addresses applied");
        self.applied = Some(Applied { script: rendered.script, objects: rendered.objects });
        Ok(Next::Change)
    }
}
