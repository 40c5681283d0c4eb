//! The pod network, service addresses and cluster DNS of this machine.
//!
//! Owns the bridge, the nftables table, the CNI configuration and the cluster DNS address. Reads Services,
//! EndpointSlices and Pods; writes the addresses of `type: LoadBalancer` Services.

mod cni;
mod dns;
mod load_balancers;
mod reserved;
mod services;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use skiff_host::{command::CommandError, links, nft, sysctl};
use skiff_reconcile::{Informer, Parts, Wake, drive, together};
use tokio::task::JoinSet;

pub use reserved::{ALWAYS as OWN_ALWAYS, OwnPort};

#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    pub node_address: IpAddr,
    pub bridge: String,
    pub table: String,
    pub mtu: u16,
    pub pod_network: (Ipv4Addr, u8),
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
    fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.pod_network.0.to_bits() + 1)
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
    links::ensure_bridge(&config.bridge, config.gateway(), config.pod_network.1, config.mtu).await?;
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
    links::remove(&config.bridge).await?;
    Ok(())
}

/// Keeps service addresses and DNS up to date until `shutdown`. What is set up stays: pods go on without the agent.
pub async fn run(
    config: Config,
    client: Client,
    services: Informer<Service>,
    pods: Informer<Pod>,
    slices: Informer<EndpointSlice>,
    parts: Parts,
) {
    if let Err(error) = dns::publish(&config, &client).await {
        tracing::warn!(%error, "the Service of cluster DNS was not made");
    }
    services.synced().await;
    pods.synced().await;
    slices.synced().await;
    let mut tasks = JoinSet::new();
    let proxy = services::Proxy::new(config.clone(), client.clone(), services.clone(), slices.clone(), pods.clone());
    let wake = Wake::on([services.changes(), slices.changes(), pods.changes(), proxy.notices()]);
    tasks.spawn(drive(proxy, wake, parts.clone()));
    let balancers = load_balancers::Controller::new(config.clone(), client, services.clone(), pods.clone());
    tasks.spawn(drive(balancers, Wake::on([services.changes(), pods.changes()]), parts.clone()));
    let wake = Wake::on([services.changes(), slices.changes(), pods.changes()]);
    tasks.spawn(dns::run(config, dns::Sources { services, slices, pods }, wake, parts.clone()));
    together(tasks, parts.shutdown()).await;
}
