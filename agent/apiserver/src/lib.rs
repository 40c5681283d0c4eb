//! The Kubernetes API over a store: authentication, authorization, admission, objects, watches, discovery.
//!
//! [`Api::client`] is the in-process way in, [`Api::serve`] the one over TLS; both end in the same code. The crate runs
//! no controllers and touches nothing of the machine but its own keys.

mod addresses;
mod admission;
mod aggregation;
mod answer;
mod apply;
mod audit;
mod body;
mod bootstrap;
mod bootstrap_tokens;
mod certificates;
mod codec;
mod compress;
mod conversion;
mod custom_resources;
mod discovery;
mod escalation;
mod evictions;
mod extensions;
mod fairness;
mod feed;
mod follow;
mod forward;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod handlers;
mod limit_ranges;
mod lists;
mod metrics;
mod node_authorizer;
mod oidc;
mod old_openapi;
mod own_ports;
mod owners;
mod pki;
mod pod_security;
mod prepare;
mod present;
mod random;
mod rbac;
mod registry;
mod report;
mod request;
mod reserve;
mod resource_quotas;
mod reviews;
mod sealing_keys;
mod serve;
mod status;
mod strategy;
mod subresources;
#[cfg(test)]
mod tests;
mod tokens;
mod usage;
mod users;
mod write;
mod yaml;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use skiff_object::kinds::{self, Catalogue, Nature};
use skiff_store::Store;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

pub use audit::{AuditConfig, LogConfig, Policy, PolicyError};
pub use body::{Body, BoxError};
pub use discovery::git_version;
pub use forward::NodeService;
pub use oidc::{AuthenticationConfig, AuthenticationConfigError, Mapping, Source};
pub use own_ports::OwnPort;
pub use pki::{CertificateRequest, Names, Pki, PkiError, write_private};
pub use report::AgentReport;
pub use reserve::ServiceNetwork;
pub use sealing_keys::SealingKeys;
pub use status::ApiError;
pub use users::{Identity, User};

use aggregation::Aggregation;
use audit::Audit;
use extensions::Extensions;
use fairness::{Caller, Fairness};
use metrics::Metrics;
use oidc::Oidc;
use old_openapi::OldOpenApi;
use pki::FrontProxy;
use rbac::Authorizer;
use tokens::Tokens;

/// How a request was counted, as upstream tells clients.
const PRIORITY_HEADERS: [&str; 2] = ["x-kubernetes-pf-flowschema-uid", "x-kubernetes-pf-prioritylevel-uid"];

#[derive(Clone, Debug)]
pub struct Config {
    /// The node of this process: what it says of itself is taken, as the settings say it.
    pub node_name: String,
    /// Where this API is reached: the endpoint of the `kubernetes` Service.
    pub address: SocketAddr,
    pub service_network: ServiceNetwork,
    /// The network of the pods: its first address and its length.
    pub pod_network: (Ipv4Addr, u8),
    /// What the box itself listens on, and nobody else may take.
    pub own_ports: Vec<OwnPort>,
    /// What is recorded of requests, if anything is.
    pub audit: Option<AuditConfig>,
    /// Whose tokens are believed beside this server's own.
    pub authentication: AuthenticationConfig,
}

/// Prefixes of the keys that need not survive a restart, for the store's configuration.
pub fn volatile_prefixes() -> Vec<String> {
    let volatile = kinds::built_in().kinds().filter(|kind| kind.nature == Nature::Volatile);
    volatile.map(|kind| kind.key_prefix(None)).collect()
}

/// An object as it is stored, for who reads the store without this service. `None`: it is none.
pub fn stored(entry: &skiff_store::Entry) -> Option<serde_json::Value> {
    serde_json::from_slice(&codec::text(entry)).ok()
}

/// Prefixes of the keys whose values are secrets, for the store's configuration.
pub fn sealed_prefixes() -> Vec<String> {
    let secrets = kinds::by_kind("v1", "Secret").expect("a built-in kind");
    vec![secrets.key_prefix(None)]
}

/// The API service. Cheap to clone.
pub struct Api<S> {
    inner: Arc<Inner<S>>,
}

impl<S> Clone for Api<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

struct Inner<S> {
    store: S,
    config: Config,
    tokens: Tokens,
    authorizer: Arc<Authorizer>,
    extensions: Arc<Extensions>,
    aggregation: Arc<Aggregation>,
    front_proxy: Arc<FrontProxy>,
    /// The kinds that are served now.
    catalogue: ArcSwap<Catalogue>,
    nodes: RwLock<HashMap<String, Arc<dyn NodeService>>>,
    agent: RwLock<Option<Arc<dyn AgentReport>>>,
    fairness: Arc<Fairness>,
    audit: Option<Arc<Audit>>,
    sealing_keys: ArcSwapOption<Arc<dyn SealingKeys>>,
    quota_turns: resource_quotas::Turns,
    oidc: Oidc,
    old_openapi: OldOpenApi,
    /// What nodes used when they were asked last.
    usage: Mutex<usage::Samples>,
    /// For bodies that are being received, in KiB.
    bodies: Arc<Semaphore>,
    ready: AtomicBool,
    metrics: Metrics,
    shutdown: CancellationToken,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the service-account key cannot be used")]
    Key(#[from] aws_lc_rs::error::KeyRejected),
    #[error("the default objects cannot be made")]
    Bootstrap(#[source] ApiError),
    #[error("the custom resource definitions cannot be read")]
    Definitions(#[source] ApiError),
    #[error("the audit log cannot be written")]
    Audit(#[from] std::io::Error),
    #[error("roles and admission cannot be read")]
    Roles(#[from] skiff_store::Error),
}

impl<S: Store + Clone> Api<S> {
    /// Makes the default objects and starts to follow roles. Serves nothing yet.
    pub async fn start(config: Config, store: S, pki: &Pki, shutdown: CancellationToken) -> Result<Self, StartError> {
        let (authorizer, extensions) = (Arc::new(Authorizer::default()), Arc::new(Extensions::default()));
        let (aggregation, fairness) = (Arc::new(Aggregation::default()), Arc::new(Fairness::default()));
        let inner = Inner {
            tokens: Tokens::new(pki.service_account_key())?,
            authorizer: Arc::clone(&authorizer),
            extensions: Arc::clone(&extensions),
            aggregation: Arc::clone(&aggregation),
            front_proxy: pki.front_proxy(),
            catalogue: ArcSwap::from(Arc::clone(kinds::built_in())),
            nodes: RwLock::default(),
            agent: RwLock::default(),
            oidc: Oidc::new(config.authentication.clone()),
            old_openapi: OldOpenApi::default(),
            sealing_keys: ArcSwapOption::empty(),
            usage: Mutex::default(),
            fairness: Arc::clone(&fairness),
            audit: config.audit.clone().map(Audit::start).transpose()?.map(Arc::new),
            quota_turns: resource_quotas::Turns::default(),
            bodies: Arc::new(Semaphore::new(serve::BODIES_BYTES_MAX / 1024)),
            ready: AtomicBool::new(false),
            metrics: Metrics::default(),
            shutdown: shutdown.clone(),
            config,
            store: store.clone(),
        };
        let api = Self { inner: Arc::new(inner) };
        let address = api.inner.config.address;
        api.bootstrap(address.ip(), address.port()).await.map_err(StartError::Bootstrap)?;
        let authentication = aggregation::authentication(pki);
        api.ensure_data("kube-system", authentication).await.map_err(StartError::Bootstrap)?;
        authorizer.reload(&store).await?;
        extensions.reload(&store).await?;
        aggregation.reload(&store).await?;
        fairness.reload(&store).await?;
        let mut definitions = custom_resources::Definitions::default();
        api.serve_definitions(&mut definitions).await.map_err(StartError::Definitions)?;
        let reload = async move |store: &S| authorizer.reload(store).await;
        tokio::spawn(follow::follow(store.clone(), rbac::prefixes(), "roles", reload, shutdown.clone()));
        let reload = async move |store: &S| extensions.reload(store).await;
        let followed = (store.clone(), shutdown.clone());
        tokio::spawn(follow::follow(followed.0, extensions::prefixes(), "admission", reload, followed.1));
        let reload = async move |store: &S| aggregation.reload(store).await;
        let followed = (store.clone(), shutdown.clone());
        tokio::spawn(follow::follow(followed.0, aggregation::prefixes(), "API services", reload, followed.1));
        let reload = async move |store: &S| fairness.reload(store).await;
        tokio::spawn(follow::follow(store, fairness::prefixes(), "priority levels", reload, shutdown));
        tokio::spawn(api.clone().follow_services_behind());
        tokio::spawn(api.clone().keep_endpoints());
        tokio::spawn(api.clone().follow_definitions(definitions));
        api.inner.ready.store(true, Ordering::Release);
        Ok(api)
    }
}

impl<S: Store> Api<S> {
    /// A client that calls this service without a network, as a part of the agent.
    pub fn client(&self, identity: &Identity) -> kube::Client {
        kube::Client::new(InProcess { api: self.clone(), user: User::of(identity) }, "default")
    }

    /// Makes a node reachable for requests about its pods.
    pub fn connect_node(&self, name: &str, service: Arc<dyn NodeService>) {
        self.inner.nodes.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), service);
    }

    /// Lets the agent around this service say how it is.
    pub fn report_with(&self, agent: Arc<dyn AgentReport>) {
        *self.inner.agent.write().unwrap_or_else(PoisonError::into_inner) = Some(agent);
    }

    fn agent(&self) -> Option<Arc<dyn AgentReport>> {
        self.inner.agent.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The names of the nodes that are reached.
    fn nodes(&self) -> Vec<String> {
        self.inner.nodes.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    fn node(&self, name: &str) -> Option<Arc<dyn NodeService>> {
        self.inner.nodes.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn store(&self) -> &S {
        &self.inner.store
    }

    fn tokens(&self) -> &Tokens {
        &self.inner.tokens
    }

    fn fairness(&self) -> &Fairness {
        &self.inner.fairness
    }

    fn audit(&self) -> Option<&Arc<Audit>> {
        self.inner.audit.as_ref()
    }

    fn extensions(&self) -> &Extensions {
        &self.inner.extensions
    }

    fn oidc(&self) -> &Oidc {
        &self.inner.oidc
    }

    fn aggregation(&self) -> &Aggregation {
        &self.inner.aggregation
    }

    fn front_proxy(&self) -> Arc<FrontProxy> {
        Arc::clone(&self.inner.front_proxy)
    }

    fn authorizer(&self) -> &Authorizer {
        &self.inner.authorizer
    }

    fn service_network(&self) -> &ServiceNetwork {
        &self.inner.config.service_network
    }

    fn quota_turns(&self) -> &resource_quotas::Turns {
        &self.inner.quota_turns
    }

    fn bodies(&self) -> &Arc<Semaphore> {
        &self.inner.bodies
    }

    fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The kinds that are served now.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.inner.catalogue.load_full()
    }

    /// Serves other kinds from the next request on.
    fn serve_kinds(&self, catalogue: Catalogue) {
        self.inner.catalogue.store(Arc::new(catalogue));
    }

    fn shutdown(&self) -> &CancellationToken {
        &self.inner.shutdown
    }

    fn server_address(&self) -> String {
        self.inner.config.address.to_string()
    }

    fn is_ready(&self) -> bool {
        self.inner.ready.load(Ordering::Acquire)
    }

    /// Handles a request unless too many are being handled.
    async fn limited(&self, user: User, request: Request<Body>) -> Response<Body> {
        match self.inner.fairness.place(&user, &request).await {
            Ok(place) => {
                let caller = Caller::of(&user, &request);
                let response = self.handle(user, request).await;
                let mut response = self.inner.fairness.answer(&caller, response);
                for (name, uid) in PRIORITY_HEADERS.iter().zip(place.told.clone().into_iter().flatten()) {
                    response.headers_mut().insert(*name, uid);
                }
                response
            }
            Err(error) => error.into_response(),
        }
    }

    /// The same with a large body, on a thread of its own: what reads it and compares it keeps nobody waiting.
    async fn limited_apart(&self, user: User, request: Request<Body>) -> Response<Body> {
        let caller = Caller::of(&user, &request);
        let place = match self.inner.fairness.large_place(&caller).await {
            Ok(place) => place,
            Err(error) => return error.into_response(),
        };
        let (api, runtime) = (self.clone(), tokio::runtime::Handle::current());
        let handled = tokio::task::spawn_blocking(move || {
            let _place = place;
            let response = runtime.block_on(api.handle(user, request));
            api.inner.fairness.answer(&caller, response)
        });
        handled.await.unwrap_or_else(|error| ApiError::internal(error.to_string()).into_response())
    }
}

/// The service behind an in-process client.
struct InProcess<S> {
    api: Api<S>,
    user: User,
}

impl<S: Store> tower::Service<Request<kube::client::Body>> for InProcess<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let (api, user) = (self.api.clone(), self.user.clone());
        let request = request.map(|body| SyncBody(std::sync::Mutex::new(body)).map_err(BoxError::from).boxed());
        Box::pin(async move { Ok(api.handle(user, request).await) })
    }
}

/// Gives a body that only its reader polls the `Sync` that boxed bodies ask for.
struct SyncBody<B>(std::sync::Mutex<B>);

impl<B: http_body::Body + Unpin> http_body::Body for SyncBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<B::Data>, B::Error>>> {
        let inner = self.get_mut().0.get_mut().unwrap_or_else(PoisonError::into_inner);
        std::pin::Pin::new(inner).poll_frame(cx)
    }
}
