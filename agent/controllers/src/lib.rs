//! One module per Kubernetes controller, and the scheduler. Scope: cluster, all of them.
//!
//! Each reads informers, plans purely and writes through the API client; none knows another. Nothing here touches the
//! machine.

mod account_tokens;
mod anything;
mod certificates;
mod cron_jobs;
mod deployments;
mod endpoints;
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
mod resource_quotas;
mod scheduler;
mod service_accounts;
mod statuses;
mod templates;
#[cfg(test)]
mod testing;

use std::sync::Arc;

pub use certificates::{Requested, Signer};
pub use node_ipam::{NodeRanges, NodeRangesError};
use skiff_reconcile::{Caches, Changes, Feed, Parts, Reconciler, Recorder, Scope, Wake, drive, together};
use tokio::task::JoinSet;

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

/// The controllers of one start.
struct Running {
    tasks: JoinSet<()>,
    parts: Parts,
}

impl Running {
    fn start<R: Reconciler + 'static>(&mut self, reconciler: R, wakes: fn(&R) -> Vec<Changes>) {
        const { assert!(matches!(R::SCOPE, Scope::Cluster), "a controller is one of the cluster") };
        let wake = Wake::on(wakes(&reconciler));
        self.tasks.spawn(drive(reconciler, wake, self.parts.clone()));
    }
}

/// Runs every controller until `shutdown`. `client_for` gives each its own identity.
pub async fn run(client_for: impl Fn(&str) -> kube::Client, caches: Caches, config: Config, parts: Parts) {
    let recorder = |component: &str| Recorder::new(client_for(component), component, "");
    // What only this start reads ends with it.
    let ending = parts.shutdown().child_token();
    let _end = ending.clone().drop_guard();
    let mut running = Running { tasks: JoinSet::new(), parts: parts.clone() };

    let name = "deployment-controller";
    let controller = deployments::Controller::new(client_for(name), recorder(name), &caches);
    running.start(controller, deployments::Controller::wakes);

    let name = "replicaset-controller";
    let controller = replica_sets::Controller::new(client_for(name), recorder(name), &caches);
    running.start(controller, replica_sets::Controller::wakes);

    let name = "job-controller";
    let controller = jobs::Controller::new(client_for(name), recorder(name), &caches);
    running.start(controller, jobs::Controller::wakes);

    let name = "cronjob-controller";
    let controller = cron_jobs::Controller::new(client_for(name), recorder(name), &caches);
    running.start(controller, cron_jobs::Controller::wakes);

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

    let name = "node-controller";
    let controller = nodes::Controller::new(client_for(name), recorder(name), &caches);
    running.start(controller, nodes::Controller::wakes);

    let name = "node-ipam-controller";
    let controller = node_ipam::Controller::new(client_for(name), recorder(name), config.node_ranges, &caches);
    running.start(controller, node_ipam::Controller::wakes);

    let controller = pod_gc::Controller::new(client_for("pod-garbage-collector"), caches.of(), caches.of());
    running.start(controller, pod_gc::Controller::wakes);

    let controller = resource_quotas::Controller::new(client_for("resourcequota-controller"), caches.of());
    running.start(controller, resource_quotas::Controller::wakes);

    let client = client_for("generic-garbage-collector");
    let controller = garbage::Controller::new(client.clone(), Feed::spawn(client, ending));
    running.start(controller, garbage::Controller::wakes);

    let name = "default-scheduler";
    let scheduler = scheduler::Scheduler::new(client_for(name), recorder(name), &caches);
    running.start(scheduler, scheduler::Scheduler::wakes);

    together(running.tasks, parts.shutdown()).await;
}
