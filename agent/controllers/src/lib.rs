//! One module per Kubernetes controller, and the scheduler.
//!
//! Each reads informers, plans purely and writes through the API client; none knows another. Nothing here touches the
//! machine.

mod anything;
mod deployments;
mod endpoints;
mod garbage;
mod namespaces;
mod nodes;
mod objects;
mod replica_sets;
mod scheduler;
mod service_accounts;
mod statuses;
#[cfg(test)]
mod testing;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use kube::Api;
use kube::runtime::watcher;
use skiff_reconcile::{Feed, Informer, Parts, Recorder, Wake, drive, together};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The caches that controllers share.
#[derive(Clone)]
pub struct Informers {
    pub deployments: Informer<Deployment>,
    pub replica_sets: Informer<ReplicaSet>,
    pub pods: Informer<Pod>,
    pub services: Informer<Service>,
    pub nodes: Informer<Node>,
    pub namespaces: Informer<Namespace>,
}

impl Informers {
    pub fn spawn(client: &kube::Client, shutdown: &CancellationToken) -> Self {
        let config = watcher::Config::default;
        Self {
            deployments: Informer::spawn(Api::all(client.clone()), config(), shutdown.clone()),
            replica_sets: Informer::spawn(Api::all(client.clone()), config(), shutdown.clone()),
            pods: Informer::spawn(Api::all(client.clone()), config(), shutdown.clone()),
            services: Informer::spawn(Api::all(client.clone()), config(), shutdown.clone()),
            nodes: Informer::spawn(Api::all(client.clone()), config(), shutdown.clone()),
            namespaces: Informer::spawn(Api::all(client.clone()), config(), shutdown.clone()),
        }
    }

    async fn synced(&self) {
        self.deployments.synced().await;
        self.replica_sets.synced().await;
        self.pods.synced().await;
        self.services.synced().await;
        self.nodes.synced().await;
        self.namespaces.synced().await;
    }
}

/// Runs every controller until `shutdown`. `client_for` gives each its own identity; `ca_pem` is what pods trust.
pub async fn run(client_for: impl Fn(&str) -> kube::Client, informers: Informers, ca_pem: String, parts: Parts) {
    let shutdown = parts.shutdown();
    informers.synced().await;
    let mut tasks = JoinSet::new();
    let recorder = |component: &str| Recorder::new(client_for(component), component, "");
    let parts = || parts.clone();
    let i = &informers;

    let controller =
        deployments::Controller::new(client_for("deployment-controller"), recorder("deployment-controller"), i);
    let wake = Wake::on([i.deployments.changes(), i.replica_sets.changes(), i.pods.changes()]);
    tasks.spawn(drive(controller, wake, parts()));

    let controller =
        replica_sets::Controller::new(client_for("replicaset-controller"), recorder("replicaset-controller"), i);
    tasks.spawn(drive(controller, Wake::on([i.replica_sets.changes(), i.pods.changes()]), parts()));

    let controller = endpoints::Controller::spawn(client_for("endpoint-controller"), i, shutdown);
    let wake = Wake::on(controller.wakes());
    tasks.spawn(drive(controller, wake, parts()));

    let controller = service_accounts::Controller::spawn(client_for("serviceaccount-controller"), i, ca_pem, shutdown);
    let wake = Wake::on(controller.wakes());
    tasks.spawn(drive(controller, wake, parts()));

    let controller = namespaces::Controller::new(client_for("namespace-controller"), i.namespaces.clone());
    tasks.spawn(drive(controller, Wake::on([i.namespaces.changes()]), parts()));

    let controller = nodes::Controller::spawn(client_for("node-controller"), recorder("node-controller"), i, shutdown);
    let wake = Wake::on([i.nodes.changes()]);
    tasks.spawn(drive(controller, wake, parts()));

    let client = client_for("generic-garbage-collector");
    let feed = Feed::spawn(client.clone(), shutdown.clone());
    let controller = garbage::Controller::new(client, feed);
    let wake = Wake::on(controller.wakes());
    tasks.spawn(drive(controller, wake, parts()));

    let scheduler = scheduler::Scheduler::new(client_for("default-scheduler"), recorder("default-scheduler"), i);
    tasks.spawn(drive(scheduler, Wake::on([i.pods.changes(), i.nodes.changes()]), parts()));

    together(tasks, shutdown).await;
}
