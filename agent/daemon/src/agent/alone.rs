//! A node agent alone: the duties of this machine as a node of a cluster whose API is elsewhere. The container runtime, the
//! node and its network; no API, no store, no controllers, no ingress.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node as NodeObject, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api as KubeApi;
use kube::runtime::watcher;
use skiff_cri::Runtime;
use skiff_node::Node;
use skiff_reconcile::{Informer, Parts};
use tokio_util::sync::CancellationToken;

use super::{STOP_TIME_MAX, lock, node, stop_on_signal, write_settings};
use crate::notify;
use crate::remote::Remote;
use crate::supervision::Plan;

const ROLE: &str = "node-role.kubernetes.io/control-plane";

/// Until a signal. Pods go on.
pub async fn run(plan: Plan, remote: Remote) -> anyhow::Result<()> {
    let _lock = lock(&plan.paths)?;
    plan.paths.prepare_run_dir()?;
    write_settings(&plan)?;
    let shutdown = CancellationToken::new();
    stop_on_signal(shutdown.clone())?;
    let parts = Parts::new(shutdown.clone());
    let started = tokio::select! {
        started = start(&plan, &remote, &parts) => started,
        () = shutdown.cancelled() => Ok(()),
    };
    if started.is_ok() {
        shutdown.cancelled().await;
    }
    notify::stopping();
    tracing::info!("stopping, pods keep running");
    shutdown.cancel();
    if tokio::time::timeout(STOP_TIME_MAX, parts.ended()).await.is_err() {
        tracing::warn!("some tasks did not end in time");
    }
    started
}

/// In the order in which they need each other.
async fn start(plan: &Plan, remote: &Remote, parts: &Parts) -> anyhow::Result<()> {
    let first = build(plan, remote, parts);
    first.begin_boot().await;
    let plan = &plan.with_range(&first.range(|range| plan.fits(range)).await)?;
    tracing::info!(node = plan.node_name, range = %plan.node_range, "the node has its range");
    skiff_network::prepare(&plan.network()).await?;
    node::runtime(plan, parts).await?;
    node::network(plan, &remote.client(), &sources(plan, remote, parts), parts);
    node::keep(first, parts, {
        let (plan, remote, all) = (plan.clone(), remote.clone(), parts.clone());
        move || build(&plan, &remote, &all)
    });
    notify::ready("The node agent runs");
    Ok(())
}

fn build(plan: &Plan, remote: &Remote, parts: &Parts) -> Node {
    let runtime: Arc<dyn Runtime> = Arc::new(plan.containerd());
    // It is no control plane, and its range is given to it.
    let mut config = skiff_node::Config { pod_cidr: None, ..plan.node() };
    config.labels.remove(ROLE);
    Node::build(config, remote.client(), runtime, parts.shutdown())
}

/// What a node may see: of pods its own.
fn sources(plan: &Plan, remote: &Remote, parts: &Parts) -> skiff_network::Sources {
    let (client, shutdown) = (remote.client(), parts.shutdown());
    let all = watcher::Config::default;
    let here = all().fields(&format!("spec.nodeName={}", plan.node_name));
    skiff_network::Sources {
        services: Informer::spawn(KubeApi::<Service>::all(client.clone()), all(), shutdown.clone()),
        slices: Informer::spawn(KubeApi::<EndpointSlice>::all(client.clone()), all(), shutdown.clone()),
        pods: Informer::spawn(KubeApi::<Pod>::all(client.clone()), here, shutdown.clone()),
        nodes: Informer::spawn(KubeApi::<NodeObject>::all(client), all(), shutdown.clone()),
    }
}
