//! One module per Kubernetes controller, and the scheduler. Scope: cluster, all of them.
//!
//! Each reads informers, plans purely and writes through the API client; none knows another. Nothing here touches the
//! machine.

mod account_tokens;
mod anything;
mod autoscalers;
mod certificates;
mod cluster_roles;
mod cron_jobs;
mod daemon_sets;
mod deployments;
mod disruption_budgets;
mod endpoints;
mod events;
mod expectations;
mod garbage;
mod jobs;
mod namespaces;
mod node_ipam;
mod nodes;
mod objects;
mod owners;
mod pod_gc;
mod refusals;
mod replica_sets;
mod replicas;
mod replication_controllers;
mod resource_quotas;
mod revisions;
mod scales;
mod scheduler;
mod service_accounts;
mod stateful_sets;
mod statuses;
mod templates;
#[cfg(test)]
mod testing;

use std::sync::Arc;

pub use certificates::{Requested, Signer};
pub use node_ipam::{NodeRanges, NodeRangesError};
use skiff_reconcile::{Caches, Changes, Feed, Parts, Reconciler, Recorder, Scope, Wake, drive, together};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What is made of the controllers' settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// What pods trust.
    pub ca_pem: String,
    /// Where the nodes' ranges of pod addresses come from.
    pub node_ranges: NodeRanges,
    /// Who signs certificates.
    pub signer: Arc<dyn Signer>,
}

/// The controllers of one start, and what they are made of.
struct Running<F> {
    tasks: JoinSet<()>,
    parts: Parts,
    client_for: F,
    caches: Caches,
}

impl<F: Fn(&str) -> kube::Client> Running<F> {
    fn start<R: Reconciler + 'static>(&mut self, reconciler: R, wakes: fn(&R) -> Vec<Changes>) {
        const { assert!(matches!(R::SCOPE, Scope::Cluster), "a controller is one of the cluster") };
        let wake = Wake::on(wakes(&reconciler));
        self.tasks.spawn(drive(reconciler, wake, self.parts.clone()));
    }

    /// One that reads what all share, and tells of what it does.
    fn start_as<R: Reconciler + 'static>(
        &mut self,
        name: &str,
        new: fn(kube::Client, Recorder, &Caches) -> R,
        wakes: fn(&R) -> Vec<Changes>,
    ) {
        let controller = new((self.client_for)(name), self.recorder(name), &self.caches);
        self.start(controller, wakes);
    }

    fn recorder(&self, component: &str) -> Recorder {
        Recorder::new((self.client_for)(component), component, "")
    }
}

/// Runs every controller until `shutdown`. `client_for` gives each its own identity.
pub async fn run(client_for: impl Fn(&str) -> kube::Client, caches: Caches, config: Config, parts: Parts) {
    // What only this start reads ends with it.
    let ending = parts.shutdown().child_token();
    let _end = ending.clone().drop_guard();
    let tasks = start(client_for, caches, config, parts.clone(), ending);
    together(tasks, parts.shutdown()).await;
}

fn start(
    client_for: impl Fn(&str) -> kube::Client,
    caches: Caches,
    config: Config,
    parts: Parts,
    ending: CancellationToken,
) -> JoinSet<()> {
    let mut running = Running { tasks: JoinSet::new(), parts, client_for: &client_for, caches: caches.clone() };
    running.start_as("deployment-controller", deployments::Controller::new, deployments::Controller::wakes);
    running.start_as("replicaset-controller", replica_sets::Controller::new, replica_sets::Controller::wakes);
    running.start_as(
        "replication-controller",
        replication_controllers::Controller::new,
        replication_controllers::Controller::wakes,
    );
    running.start_as(
        "disruption-controller",
        disruption_budgets::Controller::new,
        disruption_budgets::Controller::wakes,
    );
    running.start_as("horizontal-pod-autoscaler", autoscalers::Controller::new, autoscalers::Controller::wakes);
    running.start_as("daemon-set-controller", daemon_sets::Controller::new, daemon_sets::Controller::wakes);
    running.start_as("statefulset-controller", stateful_sets::Controller::new, stateful_sets::Controller::wakes);
    running.start_as("job-controller", jobs::Controller::new, jobs::Controller::wakes);
    running.start_as("cronjob-controller", cron_jobs::Controller::new, cron_jobs::Controller::wakes);
    running.start_as("node-controller", nodes::Controller::new, nodes::Controller::wakes);
    running.start_as("default-scheduler", scheduler::Scheduler::new, scheduler::Scheduler::wakes);

    let client = client_for("clusterrole-aggregation-controller");
    let controller = cluster_roles::Controller::spawn(client, &ending);
    running.start(controller, cluster_roles::Controller::wakes);

    let controller = endpoints::Controller::new(client_for("endpoint-controller"), &caches);
    running.start(controller, endpoints::Controller::wakes);

    let client = client_for("serviceaccount-controller");
    let controller = service_accounts::Controller::spawn(client, &caches, config.ca_pem.clone(), &ending);
    running.start(controller, service_accounts::Controller::wakes);

    let client = client_for("serviceaccount-token-controller");
    let controller = account_tokens::Controller::spawn(client, &caches, config.ca_pem, &ending);
    running.start(controller, account_tokens::Controller::wakes);

    let client = client_for("certificate-controller");
    let controller = certificates::Controller::new(client, config.signer, caches.of());
    running.start(controller, certificates::Controller::wakes);

    let controller = namespaces::Controller::new(client_for("namespace-controller"), caches.of());
    running.start(controller, namespaces::Controller::wakes);

    let name = "node-ipam-controller";
    let recorder = running.recorder(name);
    let controller = node_ipam::Controller::new(client_for(name), recorder, config.node_ranges, &caches);
    running.start(controller, node_ipam::Controller::wakes);

    let controller = pod_gc::Controller::new(client_for("pod-garbage-collector"), caches.of(), caches.of());
    running.start(controller, pod_gc::Controller::wakes);

    let controller = resource_quotas::Controller::new(client_for("resourcequota-controller"), caches.of());
    running.start(controller, resource_quotas::Controller::wakes);

    let client = client_for("generic-garbage-collector");
    let controller = garbage::Controller::new(client.clone(), Feed::spawn(client, ending));
    running.start(controller, garbage::Controller::wakes);

    running.tasks
}
