//! Who calls: a user with groups, from a client certificate here, and from tokens by those who know them.

use std::collections::BTreeMap;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use skiff_object::kinds;
use skiff_store::Store;

use crate::status::ApiError;
use crate::tokens::{Claims, ISSUER, Tokens};
use crate::{Api, bootstrap_tokens, codec, request};

pub const MASTERS: &str = "system:masters";
const AUTHENTICATED: &str = "system:authenticated";

/// The group of all nodes, and how each of them is called.
pub const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";
/// Where the service accounts of controllers are.
pub(crate) const CONTROLLERS: &str = "kube-system";

/// Who a part of the agent is. Each has what its role in the bootstrap's tables grants, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Who holds the administrator's certificate. No part of the agent is.
    Administrator,
    /// The node agent of this name.
    Node(String),
    Scheduler,
    /// What the controllers share: their caches.
    ControllerManager,
    /// One controller, by upstream's name.
    Controller(String),
    Network,
    Ingress,
    Console,
    /// What watches over the other parts and tells how the box is.
    Agent,
}

/// An authenticated caller. In-process callers carry it as an extension of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    fn new(name: impl Into<String>, groups: impl IntoIterator<Item = String>) -> Self {
        let mut groups: Vec<String> = groups.into_iter().collect();
        groups.push(AUTHENTICATED.to_owned());
        Self { name: name.into(), uid: String::new(), groups, extra: BTreeMap::new() }
    }

    /// One who may do everything.
    pub(crate) fn master(name: &str) -> Self {
        Self::new(name, [MASTERS.to_owned()])
    }

    /// The user that a part of the agent is.
    pub fn of(identity: &Identity) -> Self {
        match identity {
            Identity::Administrator => Self::master("system:admin"),
            Identity::Node(name) => Self::new(format!("{NODE_PREFIX}{name}"), [NODES.to_owned()]),
            Identity::Scheduler => Self::new("system:kube-scheduler", []),
            Identity::ControllerManager => Self::new("system:kube-controller-manager", []),
            Identity::Controller(name) => Self::account(CONTROLLERS, name),
            Identity::Network => Self::new("system:skiff:network", []),
            Identity::Ingress => Self::new("system:skiff:ingress", []),
            Identity::Console => Self::new("system:skiff:console", []),
            Identity::Agent => Self::new("system:skiff:agent", []),
        }
    }

    fn account(namespace: &str, name: &str) -> Self {
        let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
        Self::new(format!("system:serviceaccount:{namespace}:{name}"), groups)
    }

    /// The name of the node that this user is.
    pub fn node(&self) -> Option<&str> {
        let name = self.name.strip_prefix(NODE_PREFIX).filter(|name| !name.is_empty())?;
        self.groups.iter().any(|group| group == NODES).then_some(name)
    }

    /// What a part of the agent is called as the manager of fields: a node agent as upstream's, the others by their names.
    pub fn program(&self) -> &str {
        match self.node() {
            Some(_) => "kubelet",
            None => self.name.rsplit(':').next().filter(|name| !name.is_empty()).unwrap_or("unknown"),
        }
    }

    pub fn anonymous() -> Self {
        let groups = vec!["system:unauthenticated".to_owned()];
        Self { name: "system:anonymous".to_owned(), uid: String::new(), groups, extra: BTreeMap::new() }
    }

    /// The subject of a verified certificate: CN is the name, each O a group.
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let subject = certificate.subject();
        let mut names = subject.iter_common_name();
        let name = names.next()?.as_str().ok()?.to_owned();
        // Whoever signed it may have read another.
        if names.next().is_some() {
            return None;
        }
        let groups = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned);
        Some(Self::new(name, groups.collect::<Vec<_>>()))
    }

    pub fn from_claims(claims: &Claims) -> Self {
        let namespace = &claims.kubernetes.namespace;
        let mut user = Self::account(namespace, &claims.kubernetes.serviceaccount.name);
        user.uid = claims.kubernetes.serviceaccount.uid.clone();
        let mut extra = |key: &str, value: &str| {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        };
        extra("credential-id", &format!("JTI={}", claims.jti));
        if let Some(pod) = &claims.kubernetes.pod {
            extra("pod-name", &pod.name);
            extra("pod-uid", &pod.uid);
        }
        user
    }

    /// As answers, webhooks and the audit log tell of it.
    pub fn info(&self) -> Value {
        let mut info = json!({"username": self.name, "groups": self.groups});
        if !self.uid.is_empty() {
            info["uid"] = json!(self.uid);
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }

    /// The same as one who was recognised.
    pub fn authenticated(mut self) -> Self {
        self.groups.push(AUTHENTICATED.to_owned());
        self
    }

    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|g| g == MASTERS)
    }
}

/// Whom a request asks to act as (`kubectl --as`), and what its sender has to be allowed for that.
pub struct Impersonation {
    pub user: User,
    pub rights: Vec<ImpersonationRight>,
}

/// The verb `impersonate` on one thing.
pub struct ImpersonationRight {
    pub group: &'static str,
    pub resource: String,
    pub namespace: Option<String>,
    pub name: String,
}

const AS_USER: &str = "impersonate-user";
const AS_GROUP: &str = "impersonate-group";
const AS_UID: &str = "impersonate-uid";
const AS_EXTRA: &str = "impersonate-extra-";
const OF_USERS: &str = "authentication.k8s.io";

/// From the headers of
/// <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation>. What cannot be read is
/// refused: whoever is not understood must not be served as who asks.
pub fn impersonated(headers: &HeaderMap) -> Result<Option<Impersonation>, ApiError> {
    let texts = |name: &str| headers.get_all(name).iter().map(header_text).collect::<Result<Vec<String>, ApiError>>();
    let right = |group, resource: &str, name: &str| {
        let (resource, name) = (resource.to_owned(), name.to_owned());
        ImpersonationRight { group, resource, namespace: None, name }
    };
    let mut groups = texts(AS_GROUP)?;
    let uid = texts(AS_UID)?.pop().unwrap_or_default();
    let extra = extra(headers)?;
    let Some(name) = texts(AS_USER)?.into_iter().next().filter(|name| !name.is_empty()) else {
        return match groups.is_empty() && uid.is_empty() && extra.is_empty() {
            true => Ok(None),
            false => {
                Err(ApiError::bad_request("groups, a UID or extra values are asked for without impersonating a user"))
            }
        };
    };
    let mut rights: Vec<_> = groups.iter().map(|group| right("", "groups", group)).collect();
    match name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
        Some((namespace, account)) => {
            rights.push(ImpersonationRight {
                namespace: Some(namespace.to_owned()),
                ..right("", "serviceaccounts", account)
            });
            if groups.is_empty() {
                groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
            }
        }
        None => rights.push(right("", "users", &name)),
    }
    if !uid.is_empty() {
        rights.push(right(OF_USERS, "uids", &uid));
    }
    for (key, values) in &extra {
        rights.extend(values.iter().map(|value| right(OF_USERS, &format!("userextras/{key}"), value)));
    }
    let user = match name.as_str() {
        "system:anonymous" => User::anonymous(),
        _ => User { uid, extra, ..User::new(name, groups) },
    };
    Ok(Some(Impersonation { user, rights }))
}

/// In UTF-8, as clients send names.
fn header_text(value: &http::HeaderValue) -> Result<String, ApiError> {
    let text = std::str::from_utf8(value.as_bytes());
    text.map(str::to_owned).map_err(|_| ApiError::bad_request("an Impersonate header is not in UTF-8"))
}

/// The keys are lower-case, and may be escaped as in a path.
fn extra(headers: &HeaderMap) -> Result<BTreeMap<String, Vec<String>>, ApiError> {
    let mut extra = BTreeMap::<String, Vec<String>>::new();
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix(AS_EXTRA) else { continue };
        let key = request::decode(key).to_lowercase();
        extra.entry(key).or_default().push(header_text(value)?);
    }
    Ok(extra)
}

/// The bearer token of a request, if it carries one.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl<S: Store> Api<S> {
    /// The user of a token, whoever made it, and whom the token is for.
    pub(crate) async fn user_of_token(&self, token: &str, audiences: &[&str]) -> Result<(User, Vec<String>), ApiError> {
        // Neither is for anybody but this server.
        if audiences.is_empty() || audiences.contains(&ISSUER) {
            if let Some((id, secret)) = bootstrap_tokens::parts(token) {
                let user = self.user_of_bootstrap_token(id, secret).await;
                return user.map(|user| (user, vec![ISSUER.to_owned()])).ok_or_else(ApiError::unauthorized);
            }
            if let Some(user) = self.user_of_oidc(token).await {
                return user.map(|user| (user, vec![ISSUER.to_owned()])).map_err(|error| {
                    tracing::debug!(%error, "token refused");
                    ApiError::unauthorized()
                });
            }
        }
        from_token(self.store(), self.tokens(), token, audiences).await.map(|(user, claims)| (user, claims.aud))
    }
}

/// Verifies a token and that what it is bound to still exists.
async fn from_token<S: Store>(
    store: &S,
    tokens: &Tokens,
    token: &str,
    audiences: &[&str],
) -> Result<(User, Claims), ApiError> {
    let audiences = if audiences.is_empty() { &[ISSUER] } else { audiences };
    let claims = tokens.verify(token, audiences).map_err(|error| {
        tracing::debug!(%error, "token refused");
        ApiError::unauthorized()
    })?;
    let bound = &claims.kubernetes;
    let account = ("ServiceAccount", Some(&bound.serviceaccount));
    for (kind, object) in [account, ("Pod", bound.pod.as_ref()), ("Secret", bound.secret.as_ref())] {
        let Some(object) = object else { continue };
        let kind = kinds::by_kind("v1", kind).expect("a kind of the core group");
        let entry = store.get(&kind.key(Some(&bound.namespace), &object.name)).await;
        let uid = entry.ok().flatten().map(|e| skiff_object::meta::uid(&codec::decode(&e)).to_owned());
        if uid.as_deref() != Some(object.uid.as_str()) {
            return Err(ApiError::unauthorized());
        }
    }
    Ok((User::from_claims(&claims), claims))
}
