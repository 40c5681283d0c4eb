//! What the node agent is told at its start. Nothing here changes while it runs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::requirements::Requirements;

/// When images are removed: above `high` per cent of the file system, least recently used first, down to `low`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageGc {
    pub high_percent: u64,
    pub low_percent: u64,
    /// An image younger than this is kept: it may belong to a pod that is about to start.
    pub age_min: Duration,
}

/// Below these amounts the node is under pressure and pods are evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eviction {
    pub memory_available_min_bytes: u64,
    pub disk_available_min_percent: u64,
    /// How long the node stays under pressure after the amount rose again, so that it does not flap.
    pub transition_period: Duration,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    /// Labels of the node object, besides the host name, operating system and architecture.
    pub labels: BTreeMap<String, String>,
    /// Pods' directories (`pods/UID`) and logs (`logs/pods/NAMESPACE_NAME_UID/CONTAINER/N.log`).
    pub data_dir: PathBuf,
    /// Addresses of the cluster's DNS, written to pods' resolv.conf.
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// All pods' cgroups are below this path, for instance `/skiff/kubepods`.
    pub cgroup_parent: String,
    pub node_ips: Vec<IpAddr>,
    /// Node.spec.podCIDR where the node object has none that may stay; `None` leaves it to a controller, as the
    /// API does for every node but its own.
    pub pod_cidr: Option<String>,
    pub max_pods: u32,
    pub log_file_bytes_max: u64,
    pub log_files_max: u32,
    pub image_gc: ImageGc,
    pub eviction: Eviction,
    /// Kept back from what pods may use.
    pub reserved_cpu_milli: u64,
    pub reserved_memory_bytes: u64,
    /// NodeInfo.kubeletVersion, for instance `v1.37.0+skiff1`.
    pub version: String,
    /// Never removed by image garbage collection.
    pub sandbox_image: String,
    /// Pods started at the same time: more only fight for the disk.
    pub parallel_starts_max: usize,
    /// The port of the node's API in the node object (Node.status.daemonEndpoints).
    pub api_port: u16,
    /// What is looked for on the machine; without it the node is not ready.
    pub requirements: Requirements,
    /// The host's resolver configuration, for pods with the Default DNS policy.
    pub resolv_conf: PathBuf,
}

impl Config {
    /// The usual settings.
    pub fn new(node_name: impl Into<String>, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            node_name: node_name.into(),
            labels: BTreeMap::new(),
            data_dir: data_dir.into(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            cgroup_parent: "/skiff/kubepods".to_owned(),
            node_ips: Vec::new(),
            pod_cidr: None,
            max_pods: 110,
            log_file_bytes_max: 10 << 20,
            log_files_max: 5,
            image_gc: ImageGc { high_percent: 85, low_percent: 80, age_min: Duration::from_secs(120) },
            eviction: Eviction {
                memory_available_min_bytes: 100 << 20,
                disk_available_min_percent: 5,
                transition_period: Duration::from_secs(300),
            },
            reserved_cpu_milli: 0,
            reserved_memory_bytes: 0,
            version: format!("v1.37.0+skiff{}", env!("CARGO_PKG_VERSION")),
            sandbox_image: "localhost/skiff/pause:1".to_owned(),
            parallel_starts_max: 6,
            api_port: 10250,
            requirements: Requirements::default(),
            resolv_conf: "/etc/resolv.conf".into(),
        }
    }

    /// `DIR/pods/UID`
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.data_dir.join("pods").join(uid)
    }

    /// `DIR/logs/pods/NAMESPACE_NAME_UID`
    pub fn pod_log_dir(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.data_dir.join("logs/pods").join(format!("{namespace}_{name}_{uid}"))
    }
}
