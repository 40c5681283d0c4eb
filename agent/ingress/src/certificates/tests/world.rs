//! An API, a CA and something that shows answers: all that a controller of certificates needs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Event, Secret};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use skiff_reconcile::{Informer, Recorder, Wake, drive};
use skiff_store::Embedded;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use super::answers::Answers;
use super::pebble::{Options, Pebble};
use crate::certificates::order::state::{self, State};
use crate::certificates::renewal::Leaf;
use crate::certificates::{Controller, Inputs, schedule};
use crate::challenges::Challenges;
use crate::config::{Acme, Challenge, Dns, Issuer};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) acme: Acme,
    challenges: Challenges,
    pub(crate) answers: Option<Answers>,
    _pebble: Pebble,
    _api: skiff_apiserver::Api<Embedded>,
    _shutdown: DropGuard,
    _dir: tempfile::TempDir,
}

impl World {
    /// `None` where pebble is not installed.
    pub(crate) async fn start(challenge: Challenge, dns: Option<Dns>, options: Options) -> Option<Self> {
        let challenges = Challenges::default();
        let answers = Answers::start(&challenges).await;
        let pebble = Pebble::start(&answers, options).await?;
        let issuer = Issuer {
            directory: pebble.directory.clone(),
            trust_root: Some(pebble.trust_root.clone()),
            external_account: None,
            profile: None,
        };
        let email = Some("admin@example.org".to_owned());
        let acme = Acme { issuers: vec![issuer], email, challenge, dns };
        let dir = tempfile::tempdir().unwrap();
        let shutdown = CancellationToken::new();
        let api = start_api(dir.path(), shutdown.clone()).await;
        Some(Self {
            client: api.client(&skiff_apiserver::Identity::Administrator),
            acme,
            challenges,
            answers: Some(answers),
            _pebble: pebble,
            _api: api,
            _shutdown: shutdown.drop_guard(),
            _dir: dir,
        })
    }

    /// A controller that runs until the result is dropped, which is a crash.
    pub(crate) fn run(&self, client: &Client) -> (AbortOnDropHandle<()>, DropGuard) {
        let shutdown = CancellationToken::new();
        let config = kube::runtime::watcher::Config::default;
        let ingresses = Informer::spawn(Api::<Ingress>::all(self.client.clone()), config(), shutdown.clone());
        let secrets = Informer::spawn(Api::<Secret>::all(self.client.clone()), config(), shutdown.clone());
        let wake = Wake::on([ingresses.changes(), secrets.changes()]);
        let controller = Controller::new(Inputs {
            acme: self.acme.clone(),
            local_domain: "home.local".to_owned(),
            class_matches: Arc::new(|ingress| ingress.name_any() != "other-class"),
            client: client.clone(),
            recorder: Recorder::new(client.clone(), "skiff-ingress", "box"),
            ingresses,
            secrets,
            challenges: self.challenges.clone(),
        });
        let task = tokio::spawn(drive(controller, wake, skiff_reconcile::Parts::new(shutdown.clone())));
        (AbortOnDropHandle::new(task), shutdown.drop_guard())
    }

    pub(crate) fn challenges(&self) -> &Challenges {
        &self.challenges
    }

    pub(crate) fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// An Ingress whose certificate belongs in the Secret `NAME-tls`.
    pub(crate) async fn ingress(&self, name: &str, hosts: &[&str]) {
        let rules: Vec<_> = hosts
            .iter()
            .map(|host| {
                json!({"host": host, "http": {"paths": [{
            "path": "/", "pathType": "Prefix",
            "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}})
            })
            .collect();
        let ingress = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": name, "annotations": {"ingress.skiff.dev/certificate": "acme"}},
            "spec": {"rules": rules, "tls": [{"hosts": hosts, "secretName": format!("{name}-tls")}]}});
        let api: Api<Ingress> = Api::namespaced(self.client.clone(), "default");
        match api.get_opt(name).await.unwrap() {
            None => api.create(&PostParams::default(), &serde_json::from_value(ingress).unwrap()).await.unwrap(),
            Some(_) => {
                let spec = json!({"spec": ingress["spec"]});
                api.patch(name, &PatchParams::default(), &Patch::Merge(spec)).await.unwrap()
            }
        };
    }

    pub(crate) async fn order(&self, name: &str) -> Option<State> {
        let secret = self.secrets().get_opt(&state::name(&format!("{name}-tls"))).await.unwrap()?;
        State::read(&secret)
    }

    pub(crate) async fn change_order(&self, name: &str, change: impl FnOnce(&mut State)) {
        let name = state::name(&format!("{name}-tls"));
        let mut secret = self.secrets().get(&name).await.unwrap();
        let mut order = State::read(&secret).unwrap();
        change(&mut order);
        secret.data = Some(order.to_data());
        self.secrets().replace(&name, &PostParams::default(), &secret).await.unwrap();
    }

    /// Whether the certificate is there and its order is at its end.
    pub(crate) async fn is_done(&self, name: &str, hosts: &[&str]) -> bool {
        let secret = self.secrets().get_opt(&format!("{name}-tls")).await.unwrap();
        let leaf: Option<Leaf> = secret.as_ref().and_then(|secret| schedule::leaf(secret).ok());
        leaf.is_some_and(|leaf| leaf.names == hosts) && self.order(name).await.is_none()
    }

    pub(crate) async fn wait_done(&self, name: &str, hosts: &[&str]) {
        let start = Instant::now();
        while !self.is_done(name, hosts).await {
            let order = self.order(name).await.and_then(|order| order.last_error);
            assert!(start.elapsed() < PATIENCE, "no certificate for {hosts:?}: {order:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn wait_failed(&self, name: &str) -> State {
        let start = Instant::now();
        loop {
            match self.order(name).await {
                Some(order) if order.last_error.is_some() => return order,
                Some(_) | None => assert!(start.elapsed() < PATIENCE, "no failure"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The messages of events with the reason, once there are any.
    pub(crate) async fn events(&self, reason: &str) -> Vec<String> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), "default");
        let start = Instant::now();
        loop {
            let events = api.list(&ListParams::default()).await.unwrap().items;
            let found = events.into_iter().filter(|event| event.reason.as_deref() == Some(reason));
            let found: Vec<String> = found.filter_map(|event| event.message).collect();
            if !found.is_empty() {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "no event {reason}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub(crate) async fn start_api(dir: &std::path::Path, shutdown: CancellationToken) -> skiff_apiserver::Api<Embedded> {
    let names = skiff_apiserver::Names {
        dns: vec!["localhost".to_owned()],
        addresses: vec![],
        server_url: "https://localhost:6443".to_owned(),
        kubeconfig: dir.join("kubeconfig.yaml"),
    };
    let pki = skiff_apiserver::Pki::open(&dir.join("pki"), names).unwrap();
    let mut config = skiff_store::Config::new(dir.join("store"));
    config.volatile_prefixes = skiff_apiserver::volatile_prefixes();
    let store = Embedded::open(config).unwrap();
    let service_network =
        skiff_apiserver::ServiceNetwork { base: [10, 43, 0, 0].into(), prefix_len: 24, node_ports: 30_000..=30_010 };
    let config = skiff_apiserver::Config {
        node_name: "box".to_owned(),
        address: ([192, 168, 0, 1], 6443).into(),
        service_network,
        pod_network: ([10, 42, 0, 0].into(), 24),
        own_ports: Vec::new(),
        audit: None,
        authentication: Default::default(),
    };
    skiff_apiserver::Api::start(config, store, &pki, shutdown).await.unwrap()
}
