//! Everything of the agent but the API: the controllers, and this machine as a node. Each is a part of its own.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use skiff_apiserver::{Api, Identity, Pki};
use skiff_cri::{Runtime, Supervisor};
use skiff_node::Node;
use skiff_reconcile::{Caches, Parts};
use skiff_store::Embedded;

use crate::containerd_unit;
use crate::paths::Paths;
use crate::supervision::Plan;

/// Starts them in the order in which they need each other.
pub async fn start(plan: &Plan, api: &Api<Embedded>, pki: &Arc<Pki>, parts: &Parts) -> anyhow::Result<()> {
    let client = api.client(&Identity::ControllerManager);
    let caches = Caches::new(client, parts.shutdown().clone());
    controllers(api, caches.clone(), plan.controllers(pki)?, parts);
    let node = first_node(plan, api, parts).await;
    let plan = &plan.with_range(&node.range(|range| plan.fits(range)).await)?;
    skiff_network::prepare(&plan.network()).await?;
    runtime(plan, parts).await?;
    let client = api.client(&Identity::Network);
    let sources =
        skiff_network::Sources { services: caches.of(), slices: caches.of(), pods: caches.of(), nodes: caches.of() };
    network(plan, &client, &sources, parts);
    parts.run("load balancers", {
        let (config, parts) = (plan.network(), parts.clone());
        move || skiff_network::run_cluster(config.clone(), client.clone(), sources.clone(), parts.clone())
    });
    front_door(plan, api, &caches, parts).await?;
    run_node(plan, api, node, parts);
    Ok(())
}

fn controllers(api: &Api<Embedded>, caches: Caches, config: skiff_controllers::Config, parts: &Parts) {
    let (api, all) = (api.clone(), parts.clone());
    parts.run("controllers", move || {
        let api = api.clone();
        let client_for = move |name: &str| api.client(&controller(name));
        skiff_controllers::run(client_for, caches.clone(), config.clone(), all.clone())
    });
}

/// The network of this node.
pub(super) fn network(plan: &Plan, client: &kube::Client, sources: &skiff_network::Sources, parts: &Parts) {
    let (config, client, sources, all) = (plan.network(), client.clone(), sources.clone(), parts.clone());
    parts.run("network", move || skiff_network::run(config.clone(), client.clone(), sources.clone(), all.clone()));
}

/// Who a controller is, by the name it records events under.
fn controller(name: &str) -> Identity {
    match name {
        "default-scheduler" => Identity::Scheduler,
        "serviceaccount-controller" => Identity::Controller("service-account-controller".to_owned()),
        name => Identity::Controller(name.to_owned()),
    }
}

/// As it is told of before its runtime is there.
async fn first_node(plan: &Plan, api: &Api<Embedded>, parts: &Parts) -> Node {
    let node = build_node(plan, api, parts);
    node.begin_boot().await;
    node
}

fn build_node(plan: &Plan, api: &Api<Embedded>, parts: &Parts) -> Node {
    let runtime: Arc<dyn Runtime> = Arc::new(plan.containerd());
    let client = api.client(&Identity::Node(plan.node_name.clone()));
    Node::build(plan.node(), client, runtime, parts.shutdown())
}

fn run_node(plan: &Plan, api: &Api<Embedded>, first: Node, parts: &Parts) {
    let connect = {
        let (api, name) = (api.clone(), plan.node_name.clone());
        move |node: Node| {
            api.connect_node(&name, Arc::new(InProcessNode(node.server())));
            node
        }
    };
    let again = {
        let (plan, api, all, connect) = (plan.clone(), api.clone(), parts.clone(), connect.clone());
        move || connect(build_node(&plan, &api, &all))
    };
    keep(connect(first), parts, again);
}

/// Runs a node, and one made anew when it ends.
pub(super) fn keep(first: Node, parts: &Parts, again: impl Fn() -> Node + Send + 'static) {
    let (first, shutdown) = (Mutex::new(Some(first)), parts.shutdown().clone());
    parts.run("node", move || {
        let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.unwrap_or_else(&again).run(shutdown.clone())
    });
}

/// The container runtime. As long as its supervisor lives, it is started again when it dies.
pub(super) async fn runtime(plan: &Plan, parts: &Parts) -> anyhow::Result<()> {
    let supervisor = Supervisor::start(plan.runtime(), containerd_unit::find(plan).await)
        .await
        .context("the container runtime did not start")?;
    let (supervisor, shutdown) = (Arc::new(supervisor), parts.shutdown().clone());
    parts.run("container runtime's supervisor", move || {
        let (supervisor, shutdown) = (Arc::clone(&supervisor), shutdown.clone());
        async move {
            shutdown.cancelled().await;
            drop(supervisor);
        }
    });
    Ok(())
}

/// The ingress, and behind it the box's own pages.
async fn front_door(plan: &Plan, api: &Api<Embedded>, caches: &Caches, parts: &Parts) -> anyhow::Result<()> {
    let pages = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    pages.set_nonblocking(true)?;
    let Some(config) = plan.ingress(Some(pages.local_addr()?))? else {
        stop_proxy(&plan.paths).await;
        return Ok(());
    };
    parts.run("console", {
        let (console, client) = (plan.console(), api.client(&Identity::Console));
        let shutdown = parts.shutdown().clone();
        move || {
            let pages = pages.try_clone().and_then(tokio::net::TcpListener::from_std);
            let (console, client, shutdown) = (console.clone(), client.clone(), shutdown.clone());
            async move {
                match pages {
                    Ok(pages) => skiff_console::run(console, client, pages, shutdown).await,
                    Err(error) => tracing::error!(%error, "the box's pages cannot be served"),
                }
            }
        }
    });
    let client = api.client(&Identity::Ingress);
    let (caches, all) = (caches.clone(), parts.clone());
    parts.run("ingress", move || {
        skiff_ingress::run(config.clone(), client.clone(), caches.of(), caches.of(), caches.of(), all.clone())
    });
    Ok(())
}

/// Ends the ingress's proxy, if there is one.
pub async fn stop_proxy(paths: &Paths) {
    if let Ok(mut proxy) = skiff_ingress::Connection::open(&paths.ingress_control()).await
        && let Err(error) = proxy.stop().await
    {
        tracing::warn!(%error, "the proxy was not stopped");
    }
}

/// The node of this process, as the API calls it.
struct InProcessNode(skiff_node::NodeApi);

impl skiff_apiserver::NodeService for InProcessNode {
    fn call(
        &self,
        request: http::Request<skiff_apiserver::Body>,
    ) -> futures::future::BoxFuture<'static, Result<http::Response<skiff_apiserver::Body>, std::convert::Infallible>>
    {
        let node = self.0.clone();
        Box::pin(async move {
            let answer = node.handle(request).await;
            Ok(answer.unwrap_or_else(|| skiff_apiserver::ApiError::path_not_found().into_response()))
        })
    }
}
