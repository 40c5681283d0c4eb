//! The settings file `skiff.toml`: versioned, strict, with every default in one place.
//!
//! An unknown key, a wrong type or an impossible value is refused with file, line, key and what is allowed. Nothing is
//! read here but the file itself: the agent works out what is left empty (host name, addresses).

mod acme;
mod host;
mod ingress;
mod secrets;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use acme::{Acme, AcmeDns, AcmeFallback, Challenge, TsigAlgorithm};
pub use host::{Admin, Host, HostNetwork, InterfaceAddress, ServerName, SshKey, Timezone};
pub use ingress::{AccessLog, Ingress};
pub use secrets::{HmacKey, PasswordHash, TsigSecret};
pub use values::{
    Cidr, DnsName, HostInterface, HostName, InterfaceName, LabelKey, LabelValue, LogLevel, NodeName, PortRange,
};

/// The version of the format; raised when a key changes its meaning.
pub const VERSION: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path}: {message}")]
    Invalid { path: PathBuf, message: String },
}

/// Values that are possible each, and impossible together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Without these the rest is possible.
    pub keys: Vec<&'static str>,
    pub message: String,
}

impl Conflict {
    pub(crate) fn new(keys: &[&'static str], message: impl Into<String>) -> Self {
        Self { keys: keys.to_vec(), message: message.into() }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub version: u32,
    pub host: Host,
    pub node: Node,
    pub api: Api,
    pub audit: Audit,
    pub oidc: Oidc,
    pub network: Network,
    pub ingress: Ingress,
    pub acme: Acme,
    pub runtime: Runtime,
    pub store: Store,
    pub log: Log,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    /// The host name if absent.
    pub name: Option<NodeName>,
    /// The address of the interface with the default route if absent.
    pub address: Option<IpAddr>,
    pub labels: BTreeMap<LabelKey, LabelValue>,
    pub max_pods: u32,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    pub listen: SocketAddr,
    /// More names and addresses for the serving certificate.
    pub names: Vec<DnsName>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// The file that says what is recorded; nothing is if absent.
    pub policy: Option<PathBuf>,
    /// `audit.log` in the data directory if absent.
    pub log: Option<PathBuf>,
    pub file_mebibytes_max: u32,
    pub files_max: u32,
}

/// Whose tokens the API believes beside its own.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Oidc {
    /// Nobody's if absent.
    pub issuer: Option<String>,
    pub client_id: Option<String>,
    pub username_claim: String,
    pub username_prefix: String,
    pub groups_claim: String,
    pub groups_prefix: String,
    /// A file with the issuer's CA; those of the system if absent.
    pub ca: Option<PathBuf>,
    /// A file in Kubernetes' own format, instead of all others.
    pub config: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    pub pod_cidr: Cidr,
    pub service_cidr: Cidr,
    pub cluster_domain: DnsName,
    pub node_ports: PortRange,
    pub bridge: InterfaceName,
    /// The nftables table that holds the service addresses.
    pub table: InterfaceName,
    pub mtu: u16,
    /// Where names outside the cluster are asked; the host's `/etc/resolv.conf` if empty.
    pub upstream_dns: Vec<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Runtime {
    pub containerd: PathBuf,
    pub cni_bin_dir: PathBuf,
    pub cgroup_parent: InterfaceName,
    pub log_file_mebibytes_max: u32,
    pub log_files_max: u32,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    pub size_mebibytes_max: u32,
    pub snapshots_max: u32,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub level: LogLevel,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            version: VERSION,
            host: Host::default(),
            node: Node::default(),
            api: Api::default(),
            audit: Audit::default(),
            oidc: Oidc::default(),
            network: Network::default(),
            ingress: Ingress::default(),
            acme: Acme::default(),
            runtime: Runtime::default(),
            store: Store::default(),
            log: Log::default(),
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self { name: None, address: None, labels: BTreeMap::new(), max_pods: 110 }
    }
}

impl Default for Api {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([0, 0, 0, 0], 6443)), names: Vec::new() }
    }
}

impl Default for Audit {
    fn default() -> Self {
        Self { policy: None, log: None, file_mebibytes_max: 10, files_max: 5 }
    }
}

impl Default for Oidc {
    fn default() -> Self {
        Self {
            issuer: None,
            client_id: None,
            username_claim: "sub".to_owned(),
            username_prefix: "oidc:".to_owned(),
            groups_claim: "groups".to_owned(),
            groups_prefix: "oidc:".to_owned(),
            ca: None,
            config: None,
        }
    }
}

impl Oidc {
    fn check(&self, found: &mut Vec<Conflict>) {
        if self.issuer.is_some() != self.client_id.is_some() {
            let message = "oidc.issuer and oidc.client_id need each other: whose tokens, and for whom they are";
            found.push(Conflict::new(&["oidc.issuer", "oidc.client_id"], message));
        }
        if self.config.is_some() && self.issuer.is_some() {
            let message = "oidc.config and oidc.issuer exclude each other: the file says all issuers";
            found.push(Conflict::new(&["oidc.issuer", "oidc.config"], message));
        }
    }
}

impl Default for Network {
    fn default() -> Self {
        Self {
            pod_cidr: Cidr::constant([10, 42, 0, 0], 16),
            service_cidr: Cidr::constant([10, 43, 0, 0], 16),
            cluster_domain: DnsName::constant("cluster.local"),
            node_ports: PortRange { first: 30_000, last: 32_767 },
            bridge: InterfaceName::constant("skiff0"),
            table: InterfaceName::constant("skiff"),
            mtu: 1500,
            upstream_dns: Vec::new(),
        }
    }
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            containerd: PathBuf::from("/usr/bin/containerd"),
            cni_bin_dir: PathBuf::from("/usr/lib/cni"),
            cgroup_parent: InterfaceName::constant("skiff"),
            log_file_mebibytes_max: 10,
            log_files_max: 5,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self { size_mebibytes_max: 1024, snapshots_max: 3 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: LogLevel::Info }
    }
}

impl Settings {
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Parses `text`; `path` only names it in errors.
    pub fn parse(path: &Path, text: &str) -> Result<Self, SettingsError> {
        let invalid = |message: String| SettingsError::Invalid { path: path.to_owned(), message };
        let settings: Self = toml::from_str(text).map_err(|error| invalid(describe(text, &error)))?;
        match settings.conflicts().into_iter().next() {
            Some(conflict) => Err(invalid(conflict.message)),
            None => Ok(settings),
        }
    }

    /// The text of a file that means the same.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings are tables of plain values")
    }

    /// The domain of names in the home network.
    pub fn local_domain(&self) -> DnsName {
        match (&self.ingress.local_domain, &self.host.name) {
            (Some(domain), _) => domain.clone(),
            (None, Some(_)) => DnsName::constant(&format!("{}.local", self.host.name())),
            (None, None) => DnsName::constant("skiff.local"),
        }
    }

    /// What no single value shows.
    pub fn conflicts(&self) -> Vec<Conflict> {
        let mut found = Vec::new();
        if self.version != VERSION {
            let message = format!(
                "version = {} is not known: this program reads version {VERSION}; a newer file needs a newer program",
                self.version
            );
            found.push(Conflict::new(&["version"], message));
        }
        self.host.check(&mut found);
        self.network.check(&mut found);
        self.oidc.check(&mut found);
        self.ingress.check(&mut found);
        self.acme.check(&mut found);
        let bounds: [(&'static str, u64, u64, u64); 10] = [
            ("node.max_pods", self.node.max_pods.into(), 1, 1000),
            ("audit.file_mebibytes_max", self.audit.file_mebibytes_max.into(), 1, 1024),
            ("audit.files_max", self.audit.files_max.into(), 1, 100),
            ("network.mtu", self.network.mtu.into(), 576, 9216),
            ("ingress.body_mebibytes_max", self.ingress.body_mebibytes_max.into(), 1, 1 << 24),
            ("ingress.connections_max", self.ingress.connections_max.into(), 16, 1 << 20),
            ("runtime.log_file_mebibytes_max", self.runtime.log_file_mebibytes_max.into(), 1, 1024),
            ("runtime.log_files_max", self.runtime.log_files_max.into(), 2, 20),
            ("store.size_mebibytes_max", self.store.size_mebibytes_max.into(), 16, 16_384),
            ("store.snapshots_max", self.store.snapshots_max.into(), 1, 100),
        ];
        for (key, value, low, high) in bounds {
            if !(low..=high).contains(&value) {
                let message = format!("{key} = {value} is out of range: allowed are {low} to {high}");
                found.push(Conflict::new(&[key], message));
            }
        }
        found
    }
}

/// What is wrong and where, with the line; but a line that may hold a secret is not shown.
fn describe(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count());
    let is_secret = |line: &str| ["password_hash", "hmac_key", "tsig_secret"].iter().any(|key| line.contains(key));
    if !text.lines().nth(line).is_some_and(is_secret) {
        return error.to_string().trim_end().to_owned();
    }
    let message = match error.message() {
        // It names the value.
        message if message.starts_with("invalid type") => "a secret is a text in quotes",
        message => message,
    };
    format!("line {}: {message}", line + 1)
}

impl Network {
    fn check(&self, found: &mut Vec<Conflict>) {
        if self.pod_cidr.overlaps(&self.service_cidr) {
            let message = format!(
                "network.pod_cidr = \"{}\" and network.service_cidr = \"{}\" overlap: choose two separate networks",
                self.pod_cidr, self.service_cidr
            );
            found.push(Conflict::new(&["network.pod_cidr", "network.service_cidr"], message));
        }
        let ranges = [
            ("network.pod_cidr", self.pod_cidr.prefix_len, 8, 28),
            ("network.service_cidr", self.service_cidr.prefix_len, 12, 28),
        ];
        for (key, length, low, high) in ranges {
            if !(low..=high).contains(&length) {
                let message = format!("{key}: a prefix of /{length} is not possible: allowed are /{low} to /{high}");
                found.push(Conflict::new(&[key], message));
            }
        }
    }
}
