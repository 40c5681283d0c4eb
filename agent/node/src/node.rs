//! Where everything is wired: the informer of this node's pods, the workers, registration, pressure, logs, and the API.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::watcher;
use skiff_cri::Runtime;
use skiff_reconcile::Informer;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Config;
use crate::context::{Context, chain};
use crate::pods::{Evictor, Pods};
use crate::server::{Body, Server};
use crate::stats::Statistics;
use crate::{files, logs, pressure, registration};

/// Between tries to learn which addresses the node's pods have.
const RANGE_RETRY: Duration = Duration::from_secs(1);

/// The node agent, built but not running.
pub struct Node {
    context: Arc<Context>,
    informer: Informer<Pod>,
    server: NodeApi,
}

/// The kubelet's paths: streams of pods, and statistics.
#[derive(Clone)]
pub struct NodeApi {
    streams: Server,
    statistics: Statistics,
}

impl NodeApi {
    /// `None`: the path is not one of a node.
    pub async fn handle(&self, request: Request<Body>) -> Option<Response<Body>> {
        let (content_type, answer) = match request.uri().path() {
            "/healthz" => ("text/plain", Ok("ok".to_owned())),
            "/stats/summary" => ("application/json", self.statistics.summary().await.map(|s| s.to_string())),
            "/metrics/resource" => ("text/plain; version=0.0.4", self.statistics.resource_metrics().await),
            _ => return self.streams.handle(request).await,
        };
        let (code, text) = match answer {
            Ok(text) => (StatusCode::OK, text),
            Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        };
        let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed();
        let response = Response::builder().status(code).header(header::CONTENT_TYPE, content_type).body(body);
        Some(response.expect("made of valid parts"))
    }
}

impl Node {
    /// Starts the watch of this node's pods, which ends with `shutdown`; nothing else runs before `run`.
    pub fn build(
        config: Config,
        client: kube::Client,
        runtime: Arc<dyn Runtime>,
        shutdown: &CancellationToken,
    ) -> Self {
        Self::build_with(Context::new(config, client, runtime, Clock::Wall), shutdown)
    }

    pub(crate) fn build_with(context: Context, shutdown: &CancellationToken) -> Self {
        let context = Arc::new(context);
        let api: Api<Pod> = Api::all(context.client.clone());
        let selector = watcher::Config::default().fields(&format!("spec.nodeName={}", context.config.node_name));
        let informer = Informer::spawn(api, selector, shutdown.clone());
        let logs_dir = context.config.data_dir.join("logs/pods");
        let server = NodeApi {
            streams: Server { runtime: Arc::clone(&context.runtime), logs_dir },
            statistics: Statistics { context: Arc::clone(&context) },
        };
        Self { context, informer, server }
    }

    /// The node's API for the API server. Clones answer the same.
    pub fn server(&self) -> NodeApi {
        self.server.clone()
    }

    /// Before the runtime is started. A failure only means that the last boot is spoken of for a moment longer.
    pub async fn begin_boot(&self) {
        if let Err(error) = registration::begin_boot(&self.context).await {
            tracing::warn!(error = chain(&error), "the node still looks as before the boot");
        }
    }

    /// The range of this node's pods, as its object says: waits until there is one that `fits`, however long the API does
    /// not answer.
    pub async fn range(&self, fits: impl Fn(&str) -> bool) -> String {
        loop {
            match registration::range(&self.context, &fits).await {
                Ok(range) => return range,
                Err(error) => tracing::warn!(error = chain(&error), "the node has no range of addresses, will retry"),
            }
            tokio::time::sleep(RANGE_RETRY).await;
        }
    }

    /// Runs until `shutdown`. Containers go on.
    pub async fn run(self, shutdown: CancellationToken) {
        // Its disk is looked at before there is a pod.
        let data_dir = &self.context.config.data_dir;
        for dir in [data_dir.clone(), data_dir.join("pods"), data_dir.join("logs"), data_dir.join("logs/pods")] {
            if let Err(error) = files::ensure_private(&dir) {
                tracing::error!(%error, path = %dir.display(), "cannot be made");
            }
        }
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
