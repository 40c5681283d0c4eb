//! Service addresses: what is sent to a Service arrives at one of its ready pods. Scope: node.
//!
//! The nftables table is rendered whole from the objects and applied in one transaction, when it changed or when the
//! kernel's is not what was applied: after a notice of the kernel that somebody changed it, and now and then.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use skiff_host::nft;
use skiff_reconcile::{Applied as Published, BoxError, Changes, Informer, Next, Reconciler, Scope};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::reserved::Ground;
use crate::{Config, Sources, load_balancers, routes};

mod intact;
mod observe;
mod render;
#[cfg(test)]
pub(crate) mod tests;

/// The table is looked at so often also without a notice, which may be lost: one short program each time.
const CHECK_INTERVAL: Duration = Duration::from_secs(600);

pub(crate) struct Proxy {
    config: Config,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    applied: Option<Applied>,
    /// Raised when the kernel's table was changed, by us or by others.
    notices: watch::Receiver<u64>,
    published: Published,
}

struct Applied {
    script: String,
    /// The chains and sets of single Services, to remove those that are no longer wanted.
    objects: BTreeSet<render::Object>,
    /// What was found in the kernel first.
    print: Option<u64>,
    checked: Instant,
}

impl Proxy {
    pub(crate) fn new(config: Config, client: Client, sources: Sources) -> Self {
        let notices = nft::notices(&config.table).unwrap_or_else(|error| {
            tracing::warn!(%error, "changes of the packet filter by others are noticed late");
            watch::channel(0).1
        });
        let published = Published::new(client, &config.node_name, "services");
        let Sources { services, slices, pods, nodes } = sources;
        Self { config, services, slices, pods, nodes, applied: None, notices, published }
    }

    pub(crate) fn notices(&self) -> Changes {
        self.notices.clone().into()
    }

    /// Whether the kernel has what was applied, as far as there is a reason to look.
    async fn is_intact(&mut self) -> bool {
        let Some(applied) = &mut self.applied else { return false };
        let is_noticed = self.notices.has_changed().unwrap_or(false);
        if !is_noticed && applied.checked.elapsed() < CHECK_INTERVAL {
            return true;
        }
        // Before it is looked at: a later change is another notice.
        self.notices.mark_unchanged();
        applied.checked = Instant::now();
        let listed = nft::list_table(&self.config.table).await.ok().and_then(|json| intact::Listed::read(&json));
        let Some(listed) = listed else { return false };
        listed.counts == intact::Counts::of_script(&applied.script)
            && *applied.print.get_or_insert(listed.print) == listed.print
    }
}

impl Reconciler for Proxy {
    const NAME: &'static str = "service-addresses";
    const SCOPE: Scope = Scope::Node;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        let slices = self.slices.list();
        self.apply(&slices).await?;
        self.published.publish(slices.iter().map(|slice| &**slice)).await?;
        Ok(Next::After(CHECK_INTERVAL))
    }
}

impl Proxy {
    /// Makes the kernel's table what the objects say.
    async fn apply(&mut self, slices: &[Arc<EndpointSlice>]) -> Result<(), BoxError> {
        let services = self.services.list();
        let addresses = skiff_host::links::own_addresses();
        let ground = Ground { config: &self.config, addresses: &addresses };
        let (balanced, _) = load_balancers::share(&ground, &services);
        let peers = routes::peers(&self.config.node_name, &self.nodes.list());
        let routes = observe::routes(&ground, &services, &balanced, slices, &self.pods.list());
        let rendered = render::render(&self.config, &peers, &routes);
        let is_current = self.applied.as_ref().is_some_and(|applied| applied.script == rendered.script);
        if self.applied.is_some() && !self.is_intact().await {
            tracing::warn!(
                table = self.config.table,
                "another program changed the service addresses: they are set anew"
            );
            self.applied = None;
        } else if is_current {
            return Ok(());
        }
        let before = self.applied.as_ref().map(|applied| &applied.objects);
        let transaction = render::transaction(&self.config.table, &rendered, before);
        if let Err(error) = nft::apply(&transaction).await {
            // Whatever the table is now: the next try starts over.
            self.applied = None;
            return Err(error.into());
        }
        tracing::debug!(routes = routes.len(), "service addresses applied");
        let (script, objects) = (rendered.script, rendered.objects);
        self.applied = Some(Applied { script, objects, print: None, checked: Instant::now() });
        Ok(())
    }
}
