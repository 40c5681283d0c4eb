//! What the ingress is told at its start. The daemon fills it from the settings.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    /// What `status.loadBalancer` of an Ingress says.
    pub node_address: IpAddr,
    /// The name of our IngressClass.
    pub class: String,
    /// Names below it are for the home network: certificates come from the box CA, addresses from mDNS.
    pub local_domain: String,
    /// Where the name is written that the machine has in the home network.
    pub host_name_file: PathBuf,
    pub cluster_domain: String,
    pub proxy: ProxyConfig,
    /// The program that is started as the proxy, with `proxy_arguments`.
    pub program: PathBuf,
    pub proxy_arguments: Vec<String>,
    /// Where the proxy is controlled: a socket that only root may open.
    pub control_socket: PathBuf,
    /// `None`: every certificate comes from the box CA.
    pub acme: Option<Acme>,
    /// Where the box's own pages are served; its own names lead there. `None`: they lead nowhere.
    pub console: Option<SocketAddr>,
}

/// What the proxy is told when it starts; a change needs a new one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyConfig {
    pub http: Vec<SocketAddr>,
    pub https: Vec<SocketAddr>,
    pub metrics: Option<SocketAddr>,
    /// Networks, as `ADDRESS/LENGTH`, whose forwarding headers and PROXY protocol are believed.
    pub trusted_proxies: Vec<String>,
    /// Connections from trusted proxies start with a PROXY protocol header.
    pub proxy_protocol: bool,
    pub access_log: AccessLog,
    pub connections_max: u32,
    pub body_bytes_max: u64,
    /// Zero: as many as there are processors.
    pub threads: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessLog {
    Off,
    Errors,
    All,
}

/// Where certificates for public names come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// The CA to ask, and those to ask when it fails.
    pub issuers: Vec<Issuer>,
    pub email: Option<String>,
    /// What a name that says nothing else is proved with. Wildcards always use DNS.
    pub challenge: Challenge,
    pub dns: Option<Dns>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Issuer {
    /// The URL of the CA's directory.
    pub directory: String,
    /// A PEM file; the system's trust store if absent.
    pub trust_root: Option<PathBuf>,
    pub external_account: Option<ExternalAccount>,
    pub profile: Option<String>,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.directory)
    }
}

/// A customer's account that the CA wants ours bound to (RFC 8555, 7.3.4).
#[derive(Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    pub key_id: String,
    pub hmac_key: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Challenge {
    Http01,
    TlsAlpn01,
    Dns01,
}

impl Challenge {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "http-01" => Some(Challenge::Http01),
            "tls-alpn-01" => Some(Challenge::TlsAlpn01),
            "dns-01" => Some(Challenge::Dns01),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Challenge::Http01 => "http-01",
            Challenge::TlsAlpn01 => "tls-alpn-01",
            Challenge::Dns01 => "dns-01",
        }
    }
}

/// How a DNS challenge's record is published.
#[derive(Clone, PartialEq, Eq)]
pub enum Dns {
    /// RFC 2136 dynamic update, signed with TSIG (RFC 8945) if there is a key.
    Update { server: SocketAddr, zone: String, key: Option<TsigKey>, propagation_seconds: u64 },
    /// A program, called with `present|cleanup NAME VALUE`.
    Hook { program: PathBuf, propagation_seconds: u64 },
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Dns::Update { server, zone, .. } => write!(f, "update of {zone} at {server}"),
            Dns::Hook { program, .. } => write!(f, "{}", program.display()),
        }
    }
}

#[derive(Clone, PartialEq, Eq)]
pub struct TsigKey {
    pub name: String,
    pub algorithm: TsigAlgorithm,
    pub secret: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TsigAlgorithm {
    HmacSha256,
    HmacSha384,
    HmacSha512,
}
