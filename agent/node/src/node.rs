//! Where everything is wired: the informer of this node's pods, the workers, registration, pressure, logs, and the API.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::watcher;
use skiff_cri::Runtime;
use skiff_reconcile::Informer;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::context::Context;
use crate::machine::Machine;
use crate::pods::{Evictor, Pods};
use crate::server::Server;
use crate::{logs, pressure, registration};

/// The node agent, built but not running.
pub struct Node {
    context: Arc<Context>,
    informer: Informer<Pod>,
    server: Server,
}

impl Node {
    /// Starts the watch of this node's pods, which ends with `shutdown`; nothing else runs before `run`.
    pub fn build(
        config: Config,
        client: kube::Client,
        runtime: Arc<dyn Runtime>,
        shutdown: &CancellationToken,
    ) -> Self {
        let context = Arc::new(Context::new(config, client, runtime, Machine::observe()));
        let api: Api<Pod> = Api::all(context.client.clone());
        let selector = watcher::Config::default().fields(&format!("spec.nodeName={}", context.config.node_name));
        let informer = Informer::spawn(api, selector, shutdown.clone());
        let server =
            Server { runtime: Arc::clone(&context.runtime), logs_dir: context.config.data_dir.join("logs/pods") };
        Self { context, informer, server }
    }

    /// The node's API for the API server. Clones answer the same.
    pub fn server(&self) -> Server {
        self.server.clone()
    }

    /// Runs until `shutdown`. Containers go on.
    pub async fn run(self, shutdown: CancellationToken) {
        let (sender, watch) = pressure::channel();
        let evictor = Evictor::default();
        let pods = Pods::new(Arc::clone(&self.context), self.informer.clone(), evictor.clone());
        let pressure =
            pressure::run(Arc::clone(&self.context), self.informer.clone(), evictor, sender, shutdown.clone());
        tokio::join!(
            registration::run(Arc::clone(&self.context), watch, shutdown.clone()),
            pods.run(shutdown.clone()),
            pressure,
            logs::rotate::run(Arc::clone(&self.context), shutdown),
        );
    }
}
