//! Keeps the proxy's table, the status of Ingresses and what is said about them up to date. Scope: node.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use skiff_reconcile::{Applied, BoxError, EventKind, Informer, Next, Reconciler, Recorder, Scope};

use crate::certificates::box_ca::BoxCa;
use crate::challenges::{Answer, Challenges};
use crate::config::Config;
use crate::front::{Content, Front};
use crate::held;
use crate::mdns::HostName;
use crate::own;
use crate::routes::{self, Observed, Plan, Problem};
use crate::table::{Certificate, CertificateId, Own, Table};

/// When the proxy could not be told, for example because another program has the port.
const RETRY: Duration = Duration::from_secs(5);
/// How long a certificate of the box CA is served before a new one is made; it is valid for longer.
const BOX_CERTIFICATE_AGE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// What it reads.
#[derive(Clone)]
pub struct Inputs {
    pub ingresses: Informer<Ingress>,
    pub classes: Informer<IngressClass>,
    pub services: Informer<Service>,
    pub slices: Informer<EndpointSlice>,
    pub secrets: Informer<Secret>,
    pub nodes: Informer<Node>,
    /// The name that avahi gave this machine.
    pub host_name: Arc<HostName>,
}

pub struct Controller {
    config: Config,
    client: Client,
    recorder: Recorder,
    inputs: Inputs,
    challenges: Challenges,
    box_ca: BoxCa,
    front: Front,
    held: held::Cache,
    minted: HashMap<String, Minted>,
    said: HashSet<(String, &'static str, String)>,
    failed: Option<String>,
    applied: Applied,
}

/// A certificate of the box CA.
struct Minted {
    certificate: Arc<Certificate>,
    at: std::time::Instant,
}

impl Controller {
    pub fn new(
        config: Config,
        client: Client,
        recorder: Recorder,
        inputs: Inputs,
        challenges: Challenges,
        box_ca: BoxCa,
        front: Front,
    ) -> Self {
        Self {
            applied: Applied::new(client.clone(), &config.node_name, "ingress"),
            config,
            client,
            recorder,
            inputs,
            challenges,
            box_ca,
            front,
            held: held::Cache::default(),
            minted: HashMap::new(),
            said: HashSet::new(),
            failed: None,
        }
    }

    fn plan(&mut self, slices: Vec<Arc<EndpointSlice>>) -> Plan {
        let own_names = self.own_names();
        let secrets = self.inputs.secrets.list();
        self.held.refresh(&secrets, Timestamp::now());
        let held = &self.held;
        routes::plan(&Observed {
            ingresses: self.inputs.ingresses.list(),
            classes: self.inputs.classes.list(),
            services: self.inputs.services.list(),
            slices,
            secrets,
            certificate: &|namespace, name| held.get(namespace, name),
            acme: self.config.acme.as_ref(),
            local_domain: &self.config.local_domain,
            cluster_domain: &self.config.cluster_domain,
            body_bytes_max: self.config.proxy.body_bytes_max,
            own_names: &own_names,
        })
    }

    /// The plan's table with what only this controller has: certificates of the box CA, challenges, the box's own pages.
    fn complete(&mut self, plan: &Plan) -> Result<(Table, Vec<Arc<Certificate>>), BoxError> {
        let mut table = plan.table.clone();
        let mut made = Vec::new();
        let names = self.own_names();
        self.minted.retain(|name, minted| {
            let young = minted.at.elapsed() < BOX_CERTIFICATE_AGE_MAX;
            young && (*name == names.join(" ") || plan.box_names.contains(name))
        });
        for name in &plan.box_names {
            let certificate = self.mint(name, std::slice::from_ref(name), &[])?;
            table.certificates.insert(name.clone(), certificate.id.clone());
            made.push(certificate);
        }
        let vouched: Vec<&String> = names.iter().filter(|name| self.box_ca.permits(name)).collect();
        let dns: Vec<String> = vouched.iter().filter(|n| n.parse::<IpAddr>().is_err()).map(|n| (*n).clone()).collect();
        let addresses: Vec<IpAddr> = vouched.iter().filter_map(|name| name.parse().ok()).collect();
        let console = self.config.console.map(|console| own::route_to_console(&mut table, &names, console));
        // By the names themselves: another name of the box needs another certificate.
        let own = self.mint(&names.join(" "), &dns, &addresses)?;
        table.default_certificate = Some(own.id.clone());
        for name in names.iter().filter(|n| n.parse::<IpAddr>().is_err()) {
            table.certificates.entry(name.clone()).or_insert_with(|| own.id.clone());
        }
        made.push(own);
        for answer in self.challenges.current().1 {
            match answer {
                Answer::Http { token, key_authorization } => {
                    table.http_answers.insert(token, key_authorization);
                }
                Answer::TlsAlpn { name, certificate, key } => {
                    let certificate = held::certificate(certificate, key);
                    table.alpn_answers.insert(name, certificate.id.clone());
                    made.push(Arc::new(certificate));
                }
            }
        }
        table.own = Own {
            names,
            address: self.config.node_address.to_string(),
            console,
            ca_pem: self.box_ca.root_pem().to_owned(),
            ca_profile: self.box_ca.mobileconfig(),
            cookie_key: self.box_ca.derive("session cookies"),
            check_token: self.box_ca.derive("ingress check"),
        };
        Ok((table, made))
    }

    fn mint(&mut self, key: &str, names: &[String], addresses: &[IpAddr]) -> Result<Arc<Certificate>, BoxError> {
        if let Some(minted) = self.minted.get(key) {
            return Ok(Arc::clone(&minted.certificate));
        }
        let (chain, private) = self.box_ca.issue(names, addresses, Timestamp::now())?;
        let certificate = Arc::new(held::certificate(chain, private));
        let minted = Minted { certificate: Arc::clone(&certificate), at: std::time::Instant::now() };
        self.minted.insert(key.to_owned(), minted);
        Ok(certificate)
    }

    /// What people call the box.
    fn own_names(&self) -> Vec<String> {
        let Config { node_name, node_address, local_domain, .. } = &self.config;
        own::names(node_name, *node_address, local_domain, self.inputs.host_name.get().as_deref())
    }

    async fn write_status(&self, ingress: &Ingress) -> Result<(), kube::Error> {
        let addresses = skiff_reconcile::node_addresses(&self.inputs.nodes.list());
        let status = ingress.status.as_ref().and_then(|s| s.load_balancer.as_ref());
        let current: Vec<_> = status.iter().flat_map(|l| l.ingress.iter().flatten()).map(|i| i.ip.as_deref()).collect();
        if current.iter().copied().eq(addresses.iter().map(|address| Some(address.as_str()))) {
            return Ok(());
        }
        let api: Api<Ingress> = Api::namespaced(self.client.clone(), &ingress.namespace().unwrap_or_default());
        let entries: Vec<_> = addresses.iter().map(|address| json!({"ip": address})).collect();
        let patch = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": entries}}}));
        match api.patch_status(&ingress.name_any(), &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Says each problem once for as long as it lasts.
    async fn say(&mut self, problems: &[Problem]) {
        let key = |p: &Problem| (p.ingress.uid.clone().unwrap_or_default(), p.reason, p.message.clone());
        for problem in problems.iter().filter(|p| !self.said.contains(&key(p))) {
            let ObjectReference { namespace, name, .. } = &problem.ingress;
            tracing::warn!(
                ingress =
                    format!("{}/{}", namespace.as_deref().unwrap_or_default(), name.as_deref().unwrap_or_default()),
                reason = problem.reason,
                "{}",
                problem.message
            );
            self.recorder.event(&problem.ingress, EventKind::Warning, problem.reason, &problem.message).await;
        }
        self.said = problems.iter().map(key).collect();
    }

    /// On the node, as no Ingress is to blame.
    async fn say_failed(&mut self, error: &std::io::Error) {
        let message = format!("the ingress does not serve: {error}");
        if self.failed.as_ref() == Some(&message) {
            return;
        }
        tracing::error!(%error, "the ingress does not serve");
        let node = skiff_reconcile::node_reference(&self.config.node_name);
        self.recorder.event(&node, EventKind::Warning, "IngressFailed", &message).await;
        self.failed = Some(message);
    }
}

impl Reconciler for Controller {
    const NAME: &'static str = "ingress";
    const SCOPE: Scope = Scope::Node;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        let (version, _) = self.challenges.current();
        let slices = self.inputs.slices.list();
        let plan = self.plan(slices.clone());
        let (table, made) = self.complete(&plan)?;
        let held = &self.held;
        let find = |id: &CertificateId| {
            let own = made.iter().find(|c| c.id == *id).map(|c| Certificate::clone(c));
            own.or_else(|| held.certificate(id))
        };
        let mut next = Next::Change;
        match self.front.serve(&Content { table: &table, certificate: &find }).await {
            Ok(()) => {
                self.challenges.mark_served(version);
                self.failed = None;
                self.applied.publish(slices.iter().map(|slice| &**slice)).await?;
            }
            Err(error) => {
                self.say_failed(&error).await;
                next = Next::After(RETRY);
            }
        }
        for ingress in &plan.ours {
            self.write_status(ingress).await?;
        }
        self.say(&plan.problems).await;
        let renewal = Next::After(BOX_CERTIFICATE_AGE_MAX / 2);
        Ok(next.sooner(renewal))
    }
}
