//! What every namespace starts with: the `default` service account and the cluster's root certificate. Scope:
//! cluster.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use skiff_reconcile::{BoxError, Caches, Changes, Failures, Informer, Next, Reconciler, Scope};
use tokio_util::sync::CancellationToken;

use crate::objects;

const ACCOUNT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";

pub struct Controller {
    client: Client,
    ca_pem: String,
    namespaces: Informer<Namespace>,
    accounts: Informer<ServiceAccount>,
    root_certificates: Informer<ConfigMap>,
}

impl Controller {
    pub fn spawn(client: Client, caches: &Caches, ca_pem: String, shutdown: &CancellationToken) -> Self {
        let named = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
        Self {
            namespaces: caches.of(),
            accounts: Informer::spawn(Api::all(client.clone()), named(ACCOUNT), shutdown.clone()),
            root_certificates: Informer::spawn(Api::all(client.clone()), named(ROOT_CA), shutdown.clone()),
            client,
            ca_pem,
        }
    }

    pub fn wakes(&self) -> Vec<Changes> {
        vec![self.namespaces.changes(), self.accounts.changes(), self.root_certificates.changes()]
    }

    async fn ensure_account(&self, namespace: &str) -> Result<(), kube::Error> {
        if self.accounts.get(Some(namespace), ACCOUNT).is_some() {
            return Ok(());
        }
        let mut account = ServiceAccount::default();
        account.metadata.name = Some(ACCOUNT.to_owned());
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        objects::settle(api.create(&PostParams::default(), &account).await.map(drop))
    }

    async fn ensure_root_certificate(&self, namespace: &str) -> Result<(), kube::Error> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let data = json!({"ca.crt": self.ca_pem});
        let result = match self.root_certificates.get(Some(namespace), ROOT_CA) {
            Some(map) if map.data.as_ref().and_then(|d| d.get("ca.crt")) == Some(&self.ca_pem) => return Ok(()),
            Some(_) => {
                let patch = Patch::Merge(json!({"data": data}));
                api.patch(ROOT_CA, &PatchParams::default(), &patch).await.map(drop)
            }
            None => {
                let mut map = ConfigMap::default();
                map.metadata.name = Some(ROOT_CA.to_owned());
                let description = "Contains a CA bundle that can be used to verify the kube-apiserver when using \
                                   internal endpoints such as the internal service IP or kubernetes.default.svc.";
                map.metadata.annotations =
                    Some([("kubernetes.io/description".to_owned(), description.to_owned())].into());
                map.data = Some([("ca.crt".to_owned(), self.ca_pem.clone())].into());
                api.create(&PostParams::default(), &map).await.map(drop)
            }
        };
        objects::settle(result)
    }
}

impl Reconciler for Controller {
    const NAME: &'static str = "serviceaccount";
    const SCOPE: Scope = Scope::Cluster;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        self.namespaces.synced().await;
        self.accounts.synced().await;
        self.root_certificates.synced().await;
        let mut failures = Failures::default();
        for namespace in self.namespaces.list().iter().filter(|n| !objects::is_deleted(&***n)) {
            let name = namespace.name_any();
            failures.keep(&name, self.ensure_account(&name).await);
            failures.keep(&name, self.ensure_root_certificate(&name).await);
        }
        failures.into_result()?;
        Ok(Next::Change)
    }
}
