//! API servers behind this one: an `APIService` names who answers for a group and version. They are asked under the identity
//! of the front proxy, which says for whom; whether somebody may ask is decided here first, and there again.
//!
//! Owns which there are, kept in memory and made anew after any change. Without any, a request pays nothing. What this API
//! serves itself nobody else answers for, but the metrics of nodes and pods.

mod availability;
mod discovery;
mod relay;

use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use http::{Request, Response};
use serde_json::{Value, json};
use skiff_object::kinds::{self, Catalogue, Kind, Nature};
use skiff_object::meta;
use skiff_store::{ListOptions, Store};
use tokio::sync::Notify;

pub use discovery::{add_documents, add_groups, group_document};

use crate::body::Body;
use crate::extensions::Client;
use crate::handlers::cannot;
use crate::pki::FRONT_PROXY;
use crate::rbac::Attributes;
use crate::request::Parts;
use crate::status::ApiError;
use crate::users::User;
use crate::{Api, Pki, codec};

/// Where others read whom to believe, and how it is said who asks.
const AUTHENTICATION: &str = "extension-apiserver-authentication";

/// All there are.
#[derive(Default)]
pub struct Aggregation {
    services: ArcSwap<Vec<Arc<Service>>>,
    /// There are others now.
    changed: Notify,
}

/// Who answers for a group and version.
pub struct Service {
    pub name: String,
    pub group: String,
    pub version: String,
    client: Client,
    /// Whoever answers is believed.
    is_unverified: bool,
    /// Larger ones come first, of groups and of versions.
    priority: (i64, i64),
    stamp: String,
    /// The resources it had when it was asked last, as discovery lists them.
    resources: RwLock<Option<Arc<Vec<Value>>>>,
}

fn kind() -> &'static Arc<Kind> {
    kinds::by_kind("apiregistration.k8s.io/v1", "APIService").expect("a built-in kind")
}

/// Where it is said who answers.
pub fn prefixes() -> Vec<String> {
    vec![kind().key_prefix(None)]
}

impl Service {
    /// `None` where nobody else is named.
    fn read(object: &Value) -> Option<Self> {
        let spec = object.get("spec")?;
        let service = spec.get("service").filter(|service| service.is_object())?;
        let text = |name: &str| meta::text_at(spec, &[name]).to_owned();
        let number = |name: &str| spec.get(name).and_then(Value::as_i64).unwrap_or_default();
        Some(Self {
            name: meta::name(object).to_owned(),
            group: text("group"),
            version: text("version"),
            client: Client::read(&json!({"service": service, "caBundle": spec.get("caBundle")})),
            is_unverified: spec.get("insecureSkipTLSVerify") == Some(&Value::Bool(true)),
            priority: (number("groupPriorityMinimum"), number("versionPriority")),
            stamp: format!("{}-{}", meta::uid(object), spec),
            resources: RwLock::default(),
        })
    }

    fn group_version(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }

    fn resources(&self) -> Option<Arc<Vec<Value>>> {
        self.resources.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_resources(&self, resources: Option<Vec<Value>>) {
        *self.resources.write().unwrap_or_else(PoisonError::into_inner) = resources.map(Arc::new);
    }
}

impl Aggregation {
    pub async fn reload<S: Store>(&self, store: &S) -> Result<(), skiff_store::Error> {
        let page = store.list(&kind().key_prefix(None), ListOptions::default()).await?;
        let before = self.services();
        let mut services: Vec<Arc<Service>> = page
            .entries
            .iter()
            .filter_map(|entry| Service::read(&codec::decode(entry)))
            .map(|service| match before.iter().find(|known| known.stamp == service.stamp) {
                Some(known) => Arc::clone(known),
                None => Arc::new(service),
            })
            .collect();
        services.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name)));
        let is_another =
            services.len() != before.len() || !services.iter().zip(before.iter()).all(|(a, b)| Arc::ptr_eq(a, b));
        if is_another {
            self.services.store(Arc::new(services));
            self.changed.notify_one();
        }
        Ok(())
    }

    fn services(&self) -> Arc<Vec<Arc<Service>>> {
        self.services.load_full()
    }

    /// Those that answer: for nothing that this API serves itself.
    fn answering(&self, catalogue: &Catalogue) -> Vec<Arc<Service>> {
        let services = self.services();
        services.iter().filter(|service| !is_own(catalogue, &service.group, &service.version)).cloned().collect()
    }

    fn of(&self, catalogue: &Catalogue, group: &str, version: &str) -> Option<Arc<Service>> {
        let services = self.services.load();
        let found = services.iter().find(|service| service.group == group && service.version == version)?;
        (!is_own(catalogue, group, version)).then(|| Arc::clone(found))
    }

    fn is_empty(&self) -> bool {
        self.services.load().is_empty()
    }
}

/// What is computed another may compute better.
fn is_own(catalogue: &Catalogue, group: &str, version: &str) -> bool {
    let mut own = catalogue.kinds().filter(|kind| kind.group == group && kind.version == version);
    own.any(|kind| kind.nature != Nature::Computed)
}

/// What API servers behind this one read: whom to believe.
pub fn authentication(pki: &Pki) -> Value {
    json!({
        "metadata": {"name": AUTHENTICATION},
        "data": {
            "client-ca-file": pki.ca_pem(),
            "requestheader-client-ca-file": pki.front_proxy_ca_pem(),
            "requestheader-allowed-names": json!([FRONT_PROXY]).to_string(),
            "requestheader-username-headers": json!(["X-Remote-User"]).to_string(),
            "requestheader-uid-headers": json!(["X-Remote-Uid"]).to_string(),
            "requestheader-group-headers": json!(["X-Remote-Group"]).to_string(),
            "requestheader-extra-headers-prefix": json!(["X-Remote-Extra-"]).to_string(),
        },
    })
}

impl<S: Store> Api<S> {
    /// Who else answers for a path.
    pub(crate) fn behind(&self, path: &str) -> Option<Arc<Service>> {
        if self.aggregation().is_empty() {
            return None;
        }
        let documents = path.strip_prefix("/openapi/v3");
        let mut segments = documents.unwrap_or(path).strip_prefix("/apis/")?.split('/');
        let (group, version) = (segments.next()?, segments.next()?);
        // Only its document: what is below would be asked for with the right to read documents.
        if documents.is_some() && segments.any(|segment| !segment.is_empty()) {
            return None;
        }
        self.aggregation().of(&self.catalogue(), group, version)
    }

    pub(crate) async fn ask_behind(
        &self,
        service: &Service,
        user: &User,
        request: Request<Body>,
    ) -> Result<Response<Body>, ApiError> {
        self.authorize_behind(user, &request).await?;
        relay::send(self, service, user, request).await
    }

    async fn authorize_behind(&self, user: &User, request: &Request<Body>) -> Result<(), ApiError> {
        let Some(parts) = Parts::of(request) else {
            return self.authorize_path(user, request.method(), request.uri().path());
        };
        let (verb, resource) = (parts.verb(request.method())?.as_str(), parts.named_resource());
        let (group, namespace, name) = (&*parts.group, parts.namespace.as_deref(), parts.name.as_deref());
        let wanted = Attributes::Resource { verb, group, resource: &resource, namespace, name, of_node: None };
        if self.allows_and_notes(user, &wanted).await? {
            return Ok(());
        }
        let why = cannot(user, verb, &resource, group, namespace);
        Err(ApiError::forbidden(match name {
            Some(name) => format!("{}.{group} \"{name}\" is forbidden: {why}", parts.resource),
            None => format!("{}.{group} is forbidden: {why}", parts.resource),
        }))
    }
}
