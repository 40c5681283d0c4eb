//! A real API in this process for tests of controllers: they write inputs and wait for outputs.

use std::time::Duration;

use http::Request;
use http::header::CONTENT_TYPE;
use kube::Client;
use serde_json::{Value, json};
use skiff_apiserver::{Api, Identity, Names, Pki, ServiceNetwork};
use skiff_reconcile::{Parts, Reconciler, Wake, drive};
use skiff_store::Embedded;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Nothing here takes long; machines that build something else at once do.
const PATIENCE: Duration = Duration::from_secs(30);
pub const MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub struct World {
    pub client: Client,
    api: Api<Embedded>,
    pub pki: Pki,
    pub shutdown: CancellationToken,
    _guard: DropGuard,
    _dir: tempfile::TempDir,
}

impl World {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let names = Names {
            dns: Vec::new(),
            addresses: Vec::new(),
            server_url: "https://localhost:6443".to_owned(),
            kubeconfig: dir.path().join("kubeconfig.yaml"),
        };
        let pki = Pki::open(&dir.path().join("pki"), names).expect("pki");
        let mut config = skiff_store::Config::new(dir.path().join("store"));
        config.volatile_prefixes = skiff_apiserver::volatile_prefixes();
        // Little, so that whoever is slow has to begin anew, as with many objects on a box.
        config.history_max = 100;
        let store = Embedded::open(config).expect("store");
        let config = skiff_apiserver::Config {
            node_name: "box".to_owned(),
            address: ([192, 168, 0, 1], 6443).into(),
            service_network: ServiceNetwork {
                base: [10, 43, 0, 0].into(),
                prefix_len: 24,
                node_ports: 30_000..=30_010,
            },
            pod_network: ([10, 42, 0, 0].into(), 24),
            own_ports: Vec::new(),
            audit: None,
            authentication: Default::default(),
        };
        let shutdown = CancellationToken::new();
        let api = Api::start(config, store, &pki, shutdown.clone()).await.expect("api");
        let client = api.client(&Identity::Administrator);
        Self { client, api, pki, _guard: shutdown.clone().drop_guard(), shutdown, _dir: dir }
    }

    /// What a controller of this name may do, and no more.
    pub fn client_of(&self, controller: &str) -> Client {
        self.api.client(&Identity::Controller(controller.to_owned()))
    }

    /// Drives until the world ends.
    pub fn drive<R: Reconciler + 'static>(&self, reconciler: R, wake: Wake) {
        tokio::spawn(drive(reconciler, wake, Parts::new(self.shutdown.clone())));
    }

    async fn call(&self, request: http::request::Builder, body: &Value) -> Result<Value, kube::Error> {
        let request = request.header(CONTENT_TYPE, "application/json").body(body.to_string().into_bytes());
        self.client.request(request.expect("a request")).await
    }

    /// Makes an object and returns it as it was stored.
    pub async fn post(&self, path: &str, object: Value) -> Value {
        self.call(Request::post(path), &object).await.expect("it is taken")
    }

    pub async fn delete(&self, path: &str, policy: &str) {
        self.call(Request::delete(path), &json!({"propagationPolicy": policy})).await.expect("it is deleted");
    }

    pub async fn merge(&self, path: &str, patch: Value) {
        let request = Request::patch(path).header(CONTENT_TYPE, "application/merge-patch+json");
        let request = request.body(patch.to_string().into_bytes()).expect("a request");
        self.client.request::<Value>(request).await.expect("it is changed");
    }

    /// `Null` if there is none.
    pub async fn get(&self, path: &str) -> Value {
        match self.client.request(Request::get(path).body(Vec::new()).expect("a request")).await {
            Ok(found) => found,
            Err(kube::Error::Api(status)) if status.code == 404 => Value::Null,
            Err(error) => panic!("GET {path}: {error}"),
        }
    }

    /// Waits until the object at `path` (`Null` if there is none) is as it should be, and returns it.
    pub async fn until(&self, path: &str, is_right: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                last = self.get(path).await;
                if is_right(&last) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        if waited.await.is_err() {
            panic!("{path} stays {last}");
        }
        last
    }

    pub async fn until_gone(&self, path: &str) {
        self.until(path, Value::is_null).await;
    }
}

/// A ConfigMap with owners, each given as it was stored.
pub fn map(name: &str, owners: &[&Value]) -> Value {
    let owners: Vec<Value> = owners.iter().map(|owner| owner_of(owner)).collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": owners}})
}

pub fn owner_of(owner: &Value) -> Value {
    json!({"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true})
}
