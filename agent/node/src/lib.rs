//! Placeholder until merge.
use std::sync::Arc;
use std::net::IpAddr; use std::path::PathBuf; use std::collections::BTreeMap;
pub type Body = http_body_util::combinators::BoxBody<bytes::Bytes, Box<dyn std::error::Error + Send + Sync>>;
pub struct Config { pub node_name: String, pub labels: BTreeMap<String,String>, pub data_dir: PathBuf, pub cluster_dns: Vec<IpAddr>, pub cluster_domain: String, pub cgroup_parent: String, pub node_ips: Vec<IpAddr>, pub pod_cidr: Option<String>, pub max_pods: u32, pub log_file_bytes_max: u64, pub log_files_max: u32, pub version: String, pub api_port: u16 }
impl Config { pub fn new(node_name: String, data_dir: PathBuf) -> Self { Self { node_name, data_dir, labels: Default::default(), cluster_dns: vec![], cluster_domain: String::new(), cgroup_parent: String::new(), node_ips: vec![], pod_cidr: None, max_pods: 0, log_file_bytes_max: 0, log_files_max: 0, version: String::new(), api_port: 0 } } }
pub struct Node;
impl Node { pub fn build(_c: Config, _k: kube::Client, _r: Arc<dyn skiff_cri::Runtime>) -> Arc<Self> { Arc::new(Node) } pub async fn handle(&self, _r: http::Request<Body>) -> http::Response<Body> { unimplemented!() } pub async fn run(self: Arc<Self>, s: tokio_util::sync::CancellationToken) { s.cancelled().await } }
