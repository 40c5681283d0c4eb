//! Secrets of type `kubernetes.io/service-account-token`: they get their account's token, and go with it. Scope: cluster.
//!
//! Nothing makes such a secret by itself; who wants a token that lasts asks for one so.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use skiff_reconcile::{BoxError, Caches, Changes, Failures, Informer, Next, Reconciler, Scope};
use tokio_util::sync::CancellationToken;

use crate::objects;

const TYPE: &str = "kubernetes.io/service-account-token";
const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";
/// As long as a token may live: it ends with its secret.
const LIFE_SECONDS: i64 = 1 << 32;

pub struct Controller {
    client: Client,
    ca_pem: String,
    secrets: Informer<Secret>,
    accounts: Informer<ServiceAccount>,
}

/// What becomes of a secret.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Nothing,
    /// Its account is gone, or is another of that name.
    Delete,
    Fill {
        account: String,
        uid: String,
    },
}

fn plan(secret: &Secret, account: Option<&ServiceAccount>, ca_pem: &str) -> Plan {
    let annotation = |name: &str| secret.annotations().get(name).map(String::as_str).unwrap_or_default();
    if objects::is_deleted(secret) || annotation(NAME).is_empty() {
        return Plan::Nothing;
    }
    let Some(account) = account.filter(|account| !objects::is_deleted(*account)) else {
        // One that never had an account may be ahead of it.
        return if annotation(UID).is_empty() { Plan::Nothing } else { Plan::Delete };
    };
    let uid = account.uid().unwrap_or_default();
    if !annotation(UID).is_empty() && annotation(UID) != uid {
        return Plan::Delete;
    }
    let data = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    let is_whole = data("token").is_some_and(|token| !token.is_empty())
        && data("ca.crt") == Some(ca_pem.as_bytes())
        && data("namespace") == secret.namespace().as_deref().map(str::as_bytes);
    if is_whole && !annotation(UID).is_empty() {
        Plan::Nothing
    } else {
        Plan::Fill { account: account.name_any(), uid }
    }
}

impl Controller {
    pub fn spawn(client: Client, caches: &Caches, ca_pem: String, shutdown: &CancellationToken) -> Self {
        let typed = watcher::Config::default().fields(&format!("type={TYPE}"));
        let secrets = Informer::spawn(Api::all(client.clone()), typed, shutdown.clone());
        Self { secrets, accounts: caches.of(), client, ca_pem }
    }

    pub fn wakes(&self) -> Vec<Changes> {
        vec![self.secrets.changes(), self.accounts.changes()]
    }

    async fn settle(&self, secret: &Secret) -> Result<(), kube::Error> {
        let namespace = secret.namespace().unwrap_or_default();
        let name = secret.annotations().get(NAME).cloned().unwrap_or_default();
        let account = self.accounts.get(Some(&namespace), &name);
        match plan(secret, account.as_deref(), &self.ca_pem) {
            Plan::Nothing => Ok(()),
            Plan::Delete => {
                let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &namespace);
                let same = Preconditions { uid: secret.uid(), resource_version: None };
                let options = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
                objects::settle(secrets.delete(&secret.name_any(), &options).await.map(drop))
            }
            Plan::Fill { account, uid } => self.fill(secret, &namespace, &account, &uid).await,
        }
    }

    async fn fill(&self, secret: &Secret, namespace: &str, account: &str, uid: &str) -> Result<(), kube::Error> {
        let mut data: BTreeMap<&str, Value> = BTreeMap::new();
        let mut put = |key, bytes: &[u8]| drop(data.insert(key, BASE64_STANDARD.encode(bytes).into()));
        put("ca.crt", self.ca_pem.as_bytes());
        put("namespace", namespace.as_bytes());
        if secret.data.as_ref().is_none_or(|data| !data.contains_key("token")) {
            put("token", self.token(secret, namespace, account).await?.as_bytes());
        }
        let metadata =
            json!({"uid": secret.uid(), "resourceVersion": secret.resource_version(), "annotations": {UID: uid}});
        let patch = Patch::Merge(json!({"metadata": metadata, "data": data}));
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        objects::settle(secrets.patch(&secret.name_any(), &PatchParams::default(), &patch).await.map(drop))
    }

    /// A token that ends with the secret.
    async fn token(&self, secret: &Secret, namespace: &str, account: &str) -> Result<String, kube::Error> {
        let reference = BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Secret".to_owned()),
            name: Some(secret.name_any()),
            uid: secret.uid(),
        };
        let spec = TokenRequestSpec {
            bound_object_ref: Some(reference),
            expiration_seconds: Some(LIFE_SECONDS),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let made = accounts.create_token_request(account, &PostParams::default(), &request).await?;
        Ok(made.status.and_then(|status| status.token).unwrap_or_default())
    }
}

impl Reconciler for Controller {
    const NAME: &'static str = "serviceaccount-token";
    const SCOPE: Scope = Scope::Cluster;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        self.secrets.synced().await;
        self.accounts.synced().await;
        let mut failures = Failures::default();
        for secret in self.secrets.list() {
            failures.keep(secret.name_any(), self.settle(&secret).await);
        }
        failures.into_result()?;
        Ok(Next::Change)
    }
}

#[cfg(test)]
mod tests {
    use skiff_reconcile::Wake;

    use super::*;
    use crate::testing::World;

    fn secret(annotations: &[(&str, &str)], data: &[(&str, &str)]) -> Secret {
        let encoded: BTreeMap<_, _> = data.iter().map(|(key, text)| (*key, BASE64_STANDARD.encode(text))).collect();
        let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
        serde_json::from_value(
            json!({"metadata": {"name": "s", "namespace": "n", "annotations": annotations}, "type": TYPE,
            "data": encoded}),
        )
        .expect("a secret")
    }

    #[test]
    fn a_secret_is_filled_and_goes_with_its_account() {
        let account: ServiceAccount =
            serde_json::from_value(json!({"metadata": {"name": "a", "namespace": "n", "uid": "u"}}))
                .expect("an account");
        let of = |secret: &Secret, account: Option<&ServiceAccount>| plan(secret, account, "CA");
        let fill = Plan::Fill { account: "a".to_owned(), uid: "u".to_owned() };
        assert_eq!(of(&secret(&[(NAME, "a")], &[]), Some(&account)), fill);
        assert_eq!(of(&secret(&[(NAME, "a")], &[]), None), Plan::Nothing, "its account may come");
        assert_eq!(of(&secret(&[(NAME, "a"), (UID, "u")], &[]), None), Plan::Delete);
        assert_eq!(of(&secret(&[(NAME, "a"), (UID, "other")], &[]), Some(&account)), Plan::Delete);
        let whole = [("token", "t"), ("ca.crt", "CA"), ("namespace", "n")];
        assert_eq!(of(&secret(&[(NAME, "a"), (UID, "u")], &whole), Some(&account)), Plan::Nothing);
        assert_eq!(of(&secret(&[(NAME, "a"), (UID, "u")], &whole[..2]), Some(&account)), fill);
        assert_eq!(of(&secret(&[], &[]), Some(&account)), Plan::Nothing);
    }

    #[tokio::test]
    async fn the_token_is_the_accounts() {
        let world = World::start().await;
        let caches = Caches::new(world.client.clone(), world.shutdown.clone());
        let controller = Controller::spawn(world.client.clone(), &caches, "CA".to_owned(), &world.shutdown);
        let wake = Wake::on(controller.wakes());
        world.drive(controller, wake);
        let secrets = "/api/v1/namespaces/default/secrets";
        let named = json!({"metadata": {"name": "t", "annotations": {NAME: "late"}}, "type": TYPE});
        world.post(secrets, named).await;
        world.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "late"}})).await;
        let filled = world.until(&format!("{secrets}/t"), |secret| secret["data"]["token"].is_string()).await;
        let token = BASE64_STANDARD.decode(filled["data"]["token"].as_str().expect("a text")).expect("base64");
        let review = json!({"spec": {"token": String::from_utf8(token).expect("text")}});
        let review = world.post("/apis/authentication.k8s.io/v1/tokenreviews", review).await;
        assert_eq!(review["status"]["user"]["username"], "system:serviceaccount:default:late", "{review}");
        world.delete("/api/v1/namespaces/default/serviceaccounts/late", "Background").await;
        world.until_gone(&format!("{secrets}/t")).await;
    }
}
