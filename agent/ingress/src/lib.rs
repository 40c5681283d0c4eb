//! The front door: routes HTTP requests by Ingress objects, ends TLS, gets and renews certificates.
//!
//! Two halves. The *agent's* half reads Ingresses, Services, EndpointSlices and Secrets, plans a table of routes and
//! hands it to the proxy; it owns the status of Ingresses and the Secrets of certificates it ordered. The *proxy* is a
//! process of its own without privileges: it owns the open connections, and goes on while the agent is restarted,
//! upgraded or killed.

pub mod annotations;
pub mod certificates;
mod challenges;
pub mod config;
mod control;
mod controller;
mod front;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod held;
mod mdns;
mod own;
pub mod proxy;
pub mod report;
pub mod routes;
pub mod table;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::IngressClass;
use kube::api::PostParams;
use kube::runtime::watcher;
use kube::{Api, Client};
use serde_json::json;
use skiff_reconcile::{Chain, Informer, Parts, Recorder, Wake, drive, together};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use certificates::box_ca::BoxCa;
use challenges::Challenges;
use config::Config;
use controller::{Controller, Inputs};
use front::Front;
use mdns::Announcer;

pub use front::Connection;

/// The API service is in this process or next door.
const RETRY: Duration = Duration::from_millis(500);

/// Keeps the front door until `shutdown`; the proxy goes on without us.
pub async fn run(
    config: Config,
    client: Client,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    nodes: Informer<Node>,
    parts: Parts,
) {
    let shutdown = parts.shutdown();
    let Some(box_ca) = prepare(&config, &client, shutdown).await else { return };
    let all = watcher::Config::default;
    let inputs = Inputs {
        ingresses: Informer::spawn(Api::all(client.clone()), all(), shutdown.clone()),
        classes: Informer::spawn(Api::all(client.clone()), all(), shutdown.clone()),
        secrets: Informer::spawn_slim(Api::all(client.clone()), all(), keep_what_is_read, shutdown.clone()),
        services,
        slices,
        nodes,
        host_name: Arc::default(),
    };
    inputs.services.synced().await;
    inputs.slices.synced().await;
    inputs.nodes.synced().await;
    inputs.ingresses.synced().await;
    inputs.classes.synced().await;
    inputs.secrets.synced().await;
    let recorder = Recorder::new(client.clone(), "ingress-controller", &config.node_name);
    let challenges = Challenges::default();
    let front = Front::new(config.clone());
    let mut changes = vec![
        inputs.ingresses.changes(),
        inputs.classes.changes(),
        inputs.secrets.changes(),
        inputs.services.changes(),
        inputs.slices.changes(),
        inputs.nodes.changes(),
    ];
    changes.extend([challenges.changes().into(), front.losses().into()]);
    let mut tasks = JoinSet::new();
    changes.push(inputs.host_name.changes().into());
    let announcer = Announcer {
        address: config.node_address,
        host_name: Arc::clone(&inputs.host_name),
        host_name_file: config.host_name_file.clone(),
        local_domain: config.local_domain.clone(),
        ingresses: inputs.ingresses.clone(),
        classes: inputs.classes.clone(),
        announced: None,
    };
    tasks.spawn(drive(announcer, Wake::on([inputs.ingresses.changes(), inputs.classes.changes()]), parts.clone()));
    if let Some(acme) = config.acme.clone() {
        let classes = inputs.classes.clone();
        let certificates = certificates::Controller::new(certificates::Inputs {
            acme,
            local_domain: config.local_domain.clone(),
            class_matches: Arc::new(move |ingress| routes::is_ours(ingress, &classes.list())),
            client: client.clone(),
            recorder: recorder.clone(),
            ingresses: inputs.ingresses.clone(),
            secrets: inputs.secrets.clone(),
            challenges: challenges.clone(),
        });
        let wake = Wake::on([inputs.ingresses.changes(), inputs.classes.changes(), inputs.secrets.changes()]);
        tasks.spawn(drive(certificates, wake, parts.clone()));
    }
    let controller = Controller::new(config, client, recorder, inputs, challenges, box_ca, front);
    tasks.spawn(drive(controller, Wake::on(changes), parts.clone()));
    together(tasks, shutdown).await;
}

/// Makes what has to be there first. `None` at the shutdown.
async fn prepare(config: &Config, client: &Client, shutdown: &CancellationToken) -> Option<BoxCa> {
    loop {
        let made = async {
            ensure_class(client, &config.class).await.map_err(|e| Chain(&e).to_string())?;
            BoxCa::ensure(client, &config.node_name, &config.local_domain).await.map_err(|e| Chain(&e).to_string())
        };
        match made.await {
            Ok(box_ca) => return Some(box_ca),
            Err(error) => tracing::warn!(error, "the ingress cannot start yet, will retry"),
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = shutdown.cancelled() => return None,
        }
    }
}

/// Our class is the default until the user says otherwise: one that is there is left as it is.
async fn ensure_class(client: &Client, name: &str) -> Result<(), kube::Error> {
    let classes: Api<IngressClass> = Api::all(client.clone());
    if classes.get_opt(name).await?.is_some() {
        return Ok(());
    }
    let class = json!({
        "metadata": {"name": name, "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
        "spec": {"controller": routes::CONTROLLER},
    });
    let class: IngressClass = serde_json::from_value(class).map_err(kube::Error::SerdeError)?;
    match classes.create(&PostParams::default(), &class).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}

/// Releases of Helm and tokens are large, and nothing here reads them.
fn keep_what_is_read(secret: &mut Secret) {
    let unread = ["helm.sh/release.v1", "kubernetes.io/service-account-token", "kubernetes.io/dockerconfigjson"];
    if secret.type_.as_deref().is_some_and(|t| unread.contains(&t)) {
        secret.data = None;
    }
}
