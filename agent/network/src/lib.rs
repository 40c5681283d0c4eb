//! The pod network, service addresses and cluster DNS.
//!
//! Of each node ([`prepare`], [`run`]): the bridge, the nftables table, the CNI configuration, the cluster DNS address and
//! the routes to other nodes' pods. Of the cluster ([`run_cluster`]): the addresses of `type: LoadBalancer` Services and the
//! Service of cluster DNS.

mod cni;
mod dns;
mod load_balancers;
mod range;
mod reserved;
mod routes;
mod services;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use skiff_host::{command::CommandError, links, nft, sysctl};
use skiff_reconcile::{Informer, Parts, Wake, drive, together};
use tokio::task::JoinSet;

pub use range::Range;
pub use reserved::{ALWAYS as OWN_ALWAYS, OwnPort};

#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    pub node_address: IpAddr,
    pub bridge: String,
    pub table: String,
    pub mtu: u16,
    /// Of all pods of the cluster.
    pub pod_network: (Ipv4Addr, u8),
    /// Of the pods on this node: a part of that of all, or the whole.
    pub node_range: Range,
    pub service_network: (Ipv4Addr, u8),
    pub cluster_domain: String,
    /// The address of cluster DNS, of the service network.
    pub dns_address: Ipv4Addr,
    /// Empty: the host's `/etc/resolv.conf`.
    pub upstream_dns: Vec<IpAddr>,
    /// Where the container runtime looks for the network's configuration.
    pub cni_conf_dir: PathBuf,
    /// Where the addresses given to pods are kept; forgotten at a reboot with the pods.
    pub cni_state_dir: PathBuf,
    /// What the box's programs listen on besides SSH and DNS: no Service and no pod takes these.
    pub own_ports: Vec<OwnPort>,
}

impl Config {
    /// The bridge's own address.
    fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.node_range.base.to_bits() + 1)
    }

    fn pod_cidr(&self) -> String {
        format!("{}/{}", self.pod_network.0, self.pod_network.1)
    }

    fn service_cidr(&self) -> String {
        format!("{}/{}", self.service_network.0, self.service_network.1)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("cannot set up the pod network")]
    Link(#[from] CommandError),
    #[error("cannot set up forwarding")]
    Sysctl(#[from] sysctl::SysctlError),
    #[error("the kernel cannot filter what crosses the bridge")]
    Module(#[source] CommandError),
    #[error("cannot write {path}")]
    Cni {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Makes the bridge and the CNI configuration. The first pod may start afterwards.
pub async fn prepare(config: &Config) -> Result<(), NetworkError> {
    cni::write(config)?;
    cni::remove_damaged_results(config);
    sysctl::ensure("net.ipv4.ip_forward", "1")?;
    links::ensure_bridge(&config.bridge, config.gateway(), config.node_range.prefix_len, config.mtu).await?;
    links::ensure_address(&config.bridge, config.dns_address).await?;
    links::ensure_route(&config.service_cidr(), &config.bridge, config.gateway()).await?;
    // Traffic between pods crosses the bridge without the host's routing: without this, answers from a Service's
    // pod to a neighbour would not be translated back.
    let key = "net.bridge.bridge-nf-call-iptables";
    if sysctl::ensure(key, "1").is_err() {
        // Debian loads the module only when somebody asks for it.
        skiff_host::command::run("modprobe", &["br_netfilter"], "").await.map_err(NetworkError::Module)?;
        sysctl::ensure(key, "1")?;
    }
    Ok(())
}

/// Removes everything that `prepare` and `run` made on the machine.
pub async fn remove(config: &Config) -> Result<(), NetworkError> {
    nft::remove_table(&config.table).await?;
    routes::remove(config).await?;
    links::remove(&config.bridge).await?;
    Ok(())
}

/// What the network is made of.
#[derive(Clone)]
pub struct Sources {
    pub services: Informer<Service>,
    pub slices: Informer<EndpointSlice>,
    /// At least those of this node.
    pub pods: Informer<Pod>,
    pub nodes: Informer<Node>,
}

impl Sources {
    async fn synced(&self) {
        self.services.synced().await;
        self.slices.synced().await;
        self.pods.synced().await;
        self.nodes.synced().await;
    }
}

/// Keeps this node's service addresses, routes and DNS up to date until `shutdown`. What is set up stays: pods go on
/// without the agent.
pub async fn run(config: Config, client: Client, sources: Sources, parts: Parts) {
    sources.synced().await;
    let Sources { services, slices, pods, nodes } = sources.clone();
    let mut tasks = JoinSet::new();
    let proxy = services::Proxy::new(config.clone(), client, sources);
    let wake = Wake::on([services.changes(), slices.changes(), pods.changes(), nodes.changes(), proxy.notices()]);
    tasks.spawn(drive(proxy, wake, parts.clone()));
    let routes = routes::Routes::new(config.clone(), nodes.clone());
    tasks.spawn(drive(routes, Wake::on([nodes.changes()]), parts.clone()));
    let wake = Wake::on([services.changes(), slices.changes(), pods.changes()]);
    tasks.spawn(dns::run(config, dns::Sources { services, slices, pods }, wake, parts.clone()));
    together(tasks, parts.shutdown()).await;
}

/// What one does for the whole cluster, until `shutdown`.
pub async fn run_cluster(config: Config, client: Client, sources: Sources, parts: Parts) {
    if let Err(error) = dns::publish(&config, &client).await {
        tracing::warn!(%error, "the Service of cluster DNS was not made");
    }
    sources.synced().await;
    let Sources { services, pods, nodes, .. } = sources;
    let wake = Wake::on([services.changes(), pods.changes(), nodes.changes()]);
    drive(load_balancers::Controller::new(config, client, services, pods, nodes), wake, parts).await;
}
