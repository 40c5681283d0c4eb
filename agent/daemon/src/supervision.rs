//! From settings to each crate's configuration: the one place where names and paths are given out.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use skiff_apiserver::{CertificateRequest, Pki};
use skiff_controllers::{Requested, Signer};
use skiff_ingress::config as ingress;
use skiff_settings::{
    AccessLog, AcmeDns, Challenge, HmacKey, LabelKey, LabelValue, Settings, TsigAlgorithm, TsigSecret,
};

use crate::circumstances::Address;
use crate::paths::Paths;

/// The settings with what they leave open worked out from the machine.
#[derive(Clone, Debug)]
pub struct Plan {
    pub settings: Settings,
    pub paths: Paths,
    pub node_name: String,
    pub address: Address,
    /// Of the addresses of all pods, those on this node: the first part until its object is known.
    pub node_range: skiff_network::Range,
    audit: Option<skiff_apiserver::AuditConfig>,
    authentication: skiff_apiserver::AuthenticationConfig,
}

/// What the file of the settings says is recorded of requests to the API.
pub fn audit_policy(settings: &Settings) -> anyhow::Result<Option<skiff_apiserver::Policy>> {
    let Some(path) = &settings.audit.policy else { return Ok(None) };
    let of = || format!("audit.policy = \"{}\"", path.display());
    let text = std::fs::read_to_string(path).with_context(of)?;
    skiff_apiserver::Policy::parse(&text).with_context(of).map(Some)
}

/// Whose tokens the API believes, as the settings or the file that they name say it.
pub fn authentication(settings: &Settings) -> anyhow::Result<skiff_apiserver::AuthenticationConfig> {
    let oidc = &settings.oidc;
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {} of [oidc]", path.display()))
    };
    if let Some(path) = &oidc.config {
        let of = || format!("oidc.config = \"{}\"", path.display());
        return skiff_apiserver::AuthenticationConfig::parse(&read(path)?).with_context(of);
    }
    let (Some(issuer), Some(client)) = (&oidc.issuer, &oidc.client_id) else { return Ok(Default::default()) };
    let source = skiff_apiserver::Source {
        url: issuer.clone(),
        certificate_authority: oidc.ca.as_ref().map(read).transpose()?,
        audiences: vec![client.clone()],
        ..Default::default()
    };
    let mapping = |claim: &str, prefix: &str| skiff_apiserver::Mapping {
        claim: claim.to_owned(),
        prefix: Some(prefix.to_owned()),
        ..Default::default()
    };
    let username = mapping(&oidc.username_claim, &oidc.username_prefix);
    let groups = mapping(&oidc.groups_claim, &oidc.groups_prefix);
    skiff_apiserver::AuthenticationConfig::of(source, username, groups).context("the settings of [oidc]")
}

fn audit(settings: &Settings, paths: &Paths) -> anyhow::Result<Option<skiff_apiserver::AuditConfig>> {
    let log = skiff_apiserver::LogConfig {
        path: settings.audit.log.clone().unwrap_or_else(|| paths.audit_log()),
        file_bytes_max: u64::from(settings.audit.file_mebibytes_max) << 20,
        files_max: settings.audit.files_max,
    };
    Ok(audit_policy(settings)?.map(|policy| skiff_apiserver::AuditConfig { policy, log }))
}

impl Plan {
    pub fn new(settings: Settings, paths: Paths) -> anyhow::Result<Self> {
        let node_name = match &settings.node.name {
            Some(name) => name.to_string(),
            None => host_name()?,
        };
        let network = &settings.network;
        let address = match (settings.node.address, skiff_host::links::primary_address(network.bridge.as_str())) {
            (Some(address), _) => Address::Chosen(address),
            (None, Some(address)) => Address::Found(address),
            (None, None) => Address::Provisional(network.pod_cidr.nth(1).into()),
        };
        let node_range = skiff_network::Range::first_of((network.pod_cidr.base, network.pod_cidr.prefix_len));
        let audit = audit(&settings, &paths)?;
        let authentication = authentication(&settings)?;
        Ok(Self { settings, paths, node_name, address, node_range, audit, authentication })
    }

    pub fn node_address(&self) -> IpAddr {
        self.address.ip()
    }

    /// With the range that the node's object says.
    pub fn with_range(&self, range: &str) -> anyhow::Result<Self> {
        let node_range = range.parse().map_err(anyhow::Error::msg).context("the node's spec.podCIDR")?;
        Ok(Self { node_range, ..self.clone() })
    }

    /// Whether a node of this cluster may have these addresses.
    pub fn fits(&self, range: &str) -> bool {
        let pods = &self.settings.network.pod_cidr;
        range.parse::<skiff_network::Range>().is_ok_and(|range| range.is_in((pods.base, pods.prefix_len)))
    }

    /// Where others reach the API.
    pub fn api_address(&self) -> SocketAddr {
        let listen = self.settings.api.listen;
        let ip = if listen.ip().is_unspecified() { self.node_address() } else { listen.ip() };
        SocketAddr::new(ip, listen.port())
    }

    /// Where this machine reaches the API: loopback unless the API listens elsewhere only.
    fn local_api_address(&self) -> SocketAddr {
        let listen = self.settings.api.listen;
        let ip = if listen.ip().is_unspecified() { IpAddr::from([127, 0, 0, 1]) } else { listen.ip() };
        SocketAddr::new(ip, listen.port())
    }

    pub fn service_network(&self) -> skiff_apiserver::ServiceNetwork {
        let network = &self.settings.network;
        skiff_apiserver::ServiceNetwork {
            base: network.service_cidr.base,
            prefix_len: network.service_cidr.prefix_len,
            node_ports: network.node_ports.first..=network.node_ports.last,
        }
    }

    pub fn api(&self) -> skiff_apiserver::Config {
        let pods = &self.settings.network.pod_cidr;
        let own_ports = skiff_network::OWN_ALWAYS.into_iter().chain(self.own_ports());
        skiff_apiserver::Config {
            node_name: self.node_name.clone(),
            address: self.api_address(),
            service_network: self.service_network(),
            pod_network: (pods.base, pods.prefix_len),
            own_ports: own_ports.map(|own| (own.protocol, own.number, own.of)).map(Into::into).collect(),
            audit: self.audit.clone(),
            authentication: self.authentication.clone(),
        }
    }

    /// A node's part of the pod network is a /24; a network that is no larger is one node's whole.
    pub fn controllers(&self, pki: &Arc<Pki>) -> Result<skiff_controllers::Config, skiff_controllers::NodeRangesError> {
        let pods = &self.settings.network.pod_cidr;
        let node_prefix_len = skiff_network::Range::first_of((pods.base, pods.prefix_len)).prefix_len;
        let node_ranges = skiff_controllers::NodeRanges::new(pods.base, pods.prefix_len, node_prefix_len)?;
        let signer = Arc::new(BoxSigner(Arc::clone(pki)));
        Ok(skiff_controllers::Config { ca_pem: pki.ca_pem().to_owned(), node_ranges, signer })
    }

    pub fn names(&self) -> skiff_apiserver::Names {
        let domain = &self.settings.network.cluster_domain;
        let host = &self.settings.host;
        let mut dns = vec!["localhost".to_owned(), self.node_name.clone(), format!("{}.local", self.node_name)];
        dns.extend([self.settings.local_domain().to_string(), format!("{}.local", host.name())]);
        dns.extend(host.name.iter().map(ToString::to_string));
        dns.extend(host.full_name());
        dns.extend(["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned));
        dns.push(format!("kubernetes.default.svc.{domain}"));
        let mut addresses =
            vec![IpAddr::from([127, 0, 0, 1]), self.node_address(), self.service_network().api_address()];
        if !self.settings.api.listen.ip().is_unspecified() {
            addresses.push(self.settings.api.listen.ip());
        }
        for name in &self.settings.api.names {
            match name.as_str().parse() {
                Ok(address) => addresses.push(address),
                Err(_) => dns.push(name.to_string()),
            }
        }
        let mut seen = BTreeSet::new();
        dns.retain(|name| seen.insert(name.clone()));
        skiff_apiserver::Names {
            dns,
            addresses,
            server_url: format!("https://{}", self.local_api_address()),
            kubeconfig: self.paths.kubeconfig(),
        }
    }

    pub fn store(&self) -> skiff_store::Config {
        skiff_store::Config {
            volatile_prefixes: skiff_apiserver::volatile_prefixes(),
            sealed_prefixes: skiff_apiserver::sealed_prefixes(),
            size_bytes_max: u64::from(self.settings.store.size_mebibytes_max) << 20,
            snapshots_max: usize::try_from(self.settings.store.snapshots_max).unwrap_or(3),
            ..skiff_store::Config::new(self.paths.store())
        }
    }

    pub fn network(&self) -> skiff_network::Config {
        let network = &self.settings.network;
        skiff_network::Config {
            node_name: self.node_name.clone(),
            node_address: self.node_address(),
            bridge: network.bridge.to_string(),
            table: network.table.to_string(),
            mtu: network.mtu,
            pod_network: (network.pod_cidr.base, network.pod_cidr.prefix_len),
            node_range: self.node_range,
            service_network: (network.service_cidr.base, network.service_cidr.prefix_len),
            cluster_domain: network.cluster_domain.to_string(),
            dns_address: network.service_cidr.nth(10),
            upstream_dns: network.upstream_dns.clone(),
            cni_conf_dir: self.paths.cni_conf(),
            cni_state_dir: self.paths.cni_state(),
            own_ports: self.own_ports(),
        }
    }

    /// What others could reach on this machine, so that nothing else may be put in its place.
    fn own_ports(&self) -> Vec<skiff_network::OwnPort> {
        let ingress = &self.settings.ingress;
        let listens = |list: &[SocketAddr]| if ingress.enabled { list.to_vec() } else { Vec::new() };
        let all = [
            (vec![self.settings.api.listen], "the API"),
            (listens(&[ingress.http.clone(), ingress.https.clone()].concat()), "the ingress"),
            (listens(ingress.metrics.as_slice()), "the ingress's metrics"),
        ];
        let open = all.iter().flat_map(|(list, of)| list.iter().map(move |address| (address, *of)));
        let open = open.filter(|(address, _)| !address.ip().is_loopback());
        open.map(|(address, of)| skiff_network::OwnPort::tcp(address.port(), of)).collect()
    }

    pub fn runtime(&self) -> skiff_cri::Config {
        let paths = &self.paths;
        let binary = self.settings.runtime.containerd.clone();
        skiff_cri::Config {
            // The programs of one package belong together.
            ctr: binary.with_file_name("ctr"),
            binary,
            root: paths.containerd_root(),
            state: paths.containerd_state(),
            socket: paths.containerd_socket(),
            log_file: paths.containerd_log(),
            cni_bin_dir: self.settings.runtime.cni_bin_dir.clone(),
            cni_conf_dir: paths.cni_conf(),
            ..skiff_cri::Config::under(&paths.data_dir, &paths.run_dir)
        }
    }

    pub fn containerd(&self) -> skiff_cri::Containerd {
        let config = self.runtime();
        skiff_cri::Containerd::new(config.socket, config.ctr)
    }

    pub fn node(&self) -> skiff_node::Config {
        let role = ("node-role.kubernetes.io/control-plane".to_owned(), "true".to_owned());
        let text = |(key, value): (&LabelKey, &LabelValue)| (key.to_string(), value.to_string());
        let labels = self.settings.node.labels.iter().map(text).chain([role]).collect();
        let runtime = self.runtime();
        skiff_node::Config {
            labels,
            requirements: skiff_node::Requirements::of_box(
                &runtime.binary,
                &runtime.runtime,
                &runtime.cni_bin_dir,
                &runtime.cni_conf_dir,
            ),
            cluster_dns: vec![self.settings.network.service_cidr.nth(10).into()],
            cluster_domain: self.settings.network.cluster_domain.to_string(),
            cgroup_parent: format!("/{}", self.settings.runtime.cgroup_parent),
            node_ips: vec![self.node_address()],
            pod_cidr: Some(self.node_range.to_string()),
            max_pods: self.settings.node.max_pods,
            log_file_bytes_max: u64::from(self.settings.runtime.log_file_mebibytes_max) << 20,
            log_files_max: self.settings.runtime.log_files_max,
            version: skiff_apiserver::git_version(),
            api_port: self.settings.api.listen.port(),
            ..skiff_node::Config::new(self.node_name.clone(), self.paths.node())
        }
    }
}

impl Plan {
    /// The box's own pages, behind the ingress.
    pub fn console(&self) -> skiff_console::Config {
        let names = self.names();
        let addresses = names.addresses.iter().map(ToString::to_string);
        skiff_console::Config {
            node_name: self.node_name.clone(),
            node_address: self.node_address(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api_names: names.dns.into_iter().chain(addresses).collect(),
            api_port: self.settings.api.listen.port(),
            https_port: self.settings.ingress.https.first().map_or(443, SocketAddr::port),
            kubeconfig: self.paths.kubeconfig(),
            data_dir: self.paths.data_dir.clone(),
            code_file: self.paths.code(),
            fingerprint_file: self.paths.ca_fingerprint(),
            local_name_file: self.paths.local_name(),
        }
    }

    /// What the box is called: no Ingress gets these.
    pub fn own_names(&self) -> Vec<String> {
        let announced = std::fs::read_to_string(self.paths.local_name()).unwrap_or_default();
        let announced = Some(announced.trim()).filter(|name| !name.is_empty());
        let local = self.settings.local_domain();
        skiff_ingress::report::own_names(&self.node_name, self.node_address(), local.as_str(), announced)
    }

    /// `None`: the ingress is turned off.
    pub fn ingress(&self, console: Option<SocketAddr>) -> anyhow::Result<Option<skiff_ingress::config::Config>> {
        let settings = &self.settings.ingress;
        if !settings.enabled {
            return Ok(None);
        }
        let access_log = match settings.access_log {
            AccessLog::Off => ingress::AccessLog::Off,
            AccessLog::Errors => ingress::AccessLog::Errors,
            AccessLog::All => ingress::AccessLog::All,
        };
        let has_ipv6 = std::path::Path::new("/proc/net/if_inet6").exists();
        let here = |list: &[SocketAddr]| list.iter().copied().filter(|a| a.is_ipv4() || has_ipv6).collect();
        Ok(Some(ingress::Config {
            node_name: self.node_name.clone(),
            node_address: self.node_address(),
            class: settings.class.to_string(),
            local_domain: self.settings.local_domain().to_string(),
            host_name_file: self.paths.local_name(),
            cluster_domain: self.settings.network.cluster_domain.to_string(),
            proxy: ingress::ProxyConfig {
                http: here(&settings.http),
                https: here(&settings.https),
                metrics: settings.metrics,
                trusted_proxies: settings.trusted_proxies.clone(),
                proxy_protocol: settings.proxy_protocol,
                access_log,
                connections_max: settings.connections_max,
                body_bytes_max: u64::from(settings.body_mebibytes_max) << 20,
                threads: settings.threads.into(),
            },
            program: std::env::current_exe().context("this program's own file is not known")?,
            proxy_arguments: ["ingress-proxy", "--log", self.settings.log.level.as_str()].map(str::to_owned).to_vec(),
            control_socket: self.paths.ingress_control(),
            acme: acme(&self.settings.acme)?,
            console,
        }))
    }
}

/// `None`: the owner has not agreed to a CA's terms.
pub fn acme(settings: &skiff_settings::Acme) -> anyhow::Result<Option<ingress::Acme>> {
    if !settings.agree_to_terms {
        return Ok(None);
    }
    let issuer = |directory: &str, profile, trust_root, id: &Option<String>, key: Option<Vec<u8>>| {
        let external_account =
            id.clone().zip(key).map(|(key_id, hmac_key)| ingress::ExternalAccount { key_id, hmac_key });
        ingress::Issuer { directory: directory.to_owned(), trust_root, external_account, profile }
    };
    let (id, key) = (&settings.account_key_id, hmac_key(&settings.account_hmac_key, &settings.account_hmac_key_file)?);
    let mut issuers = vec![issuer(&settings.directory, settings.profile.clone(), settings.trust_root.clone(), id, key)];
    if let Some(second) = &settings.fallback {
        let (id, key) = (&second.account_key_id, hmac_key(&second.account_hmac_key, &second.account_hmac_key_file)?);
        issuers.push(issuer(&second.directory, second.profile.clone(), second.trust_root.clone(), id, key));
    }
    let challenge = match settings.challenge {
        Challenge::Http01 => ingress::Challenge::Http01,
        Challenge::TlsAlpn01 => ingress::Challenge::TlsAlpn01,
        Challenge::Dns01 => ingress::Challenge::Dns01,
    };
    let dns = settings.dns.as_ref().map(dns).transpose()?;
    Ok(Some(ingress::Acme { issuers, email: settings.email.clone(), challenge, dns }))
}

fn dns(settings: &AcmeDns) -> anyhow::Result<ingress::Dns> {
    let propagation_seconds = settings.propagation_seconds.into();
    match (&settings.hook, settings.server, &settings.zone) {
        (Some(program), _, _) => Ok(ingress::Dns::Hook { program: program.clone(), propagation_seconds }),
        (None, Some(server), Some(zone)) => {
            let inline = settings.tsig_secret.as_ref().map(TsigSecret::expose);
            let key = match (&settings.tsig_key, secret(inline, &settings.tsig_secret_file, &BASE64_STANDARD)?) {
                (Some(name), Some(secret)) => Some(ingress::TsigKey {
                    name: name.to_string(),
                    algorithm: match settings.tsig_algorithm {
                        TsigAlgorithm::HmacSha256 => ingress::TsigAlgorithm::HmacSha256,
                        TsigAlgorithm::HmacSha384 => ingress::TsigAlgorithm::HmacSha384,
                        TsigAlgorithm::HmacSha512 => ingress::TsigAlgorithm::HmacSha512,
                    },
                    secret,
                }),
                (Some(_) | None, _) => None,
            };
            Ok(ingress::Dns::Update { server, zone: zone.to_string(), key, propagation_seconds })
        }
        (None, _, _) => bail!("[acme.dns] needs a server with its zone, or a hook"),
    }
}

/// As CAs hand it out: base64url, RFC 8555, 7.3.4.
fn hmac_key(inline: &Option<HmacKey>, file: &Option<PathBuf>) -> anyhow::Result<Option<Vec<u8>>> {
    secret(inline.as_ref().map(HmacKey::expose), file, &BASE64_URL_SAFE_NO_PAD)
}

/// A secret from the settings, or from a file of its own, so that the settings can be shown around.
fn secret(
    inline: Option<&str>,
    file: &Option<PathBuf>,
    encoding: &impl base64::Engine,
) -> anyhow::Result<Option<Vec<u8>>> {
    match (inline, file) {
        (Some(text), _) => Ok(Some(encoding.decode(text).context("a secret of the settings is not in base64")?)),
        (None, Some(file)) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            let secret = encoding.decode(text.trim());
            Ok(Some(secret.with_context(|| format!("{} does not hold a secret in base64", file.display()))?))
        }
        (None, None) => Ok(None),
    }
}

/// The machine's name as a node's name: lower case, as upstream's kubelet takes it.
fn host_name() -> anyhow::Result<String> {
    let name = nix::unistd::gethostname().context("cannot read the host name")?;
    let name = name.to_string_lossy().trim().to_lowercase();
    match skiff_settings::NodeName::try_from(name) {
        Ok(name) => Ok(name.to_string()),
        Err(error) => bail!("the host name cannot be the node's name: {error}; set node.name in the settings"),
    }
}

/// The box's CA as it signs for others.
#[derive(Debug)]
struct BoxSigner(Arc<Pki>);

impl Signer for BoxSigner {
    fn read(&self, request: &str) -> Result<Requested, String> {
        let CertificateRequest { common_name, organizations, dns_names, addresses, others, .. } =
            CertificateRequest::read(request)?;
        Ok(Requested { common_name, organizations, dns_names, addresses, others })
    }

    fn sign(&self, request: &str, usages: &[String], lifetime: Duration) -> Result<String, String> {
        self.0.sign_request(&CertificateRequest::read(request)?, usages, lifetime)
    }
}

#[cfg(test)]
mod tests {
    use skiff_object::validate::names;

    use super::*;

    /// The settings are checked by rules of their own: what they take must be what the API takes.
    #[test]
    fn labels_are_what_the_api_takes() {
        let long = "a".repeat(63);
        for text in [
            "",
            "a",
            "room",
            "room 1",
            "room-1",
            "-a",
            "a-",
            "a_b.c",
            "Room",
            "ä",
            "a/b",
            "a/",
            "/b",
            "a/b/c",
            "a.b/c",
            "A/b",
            "a..b/c",
            "a/b c",
            &long,
            &format!("{long}a"),
            &format!("{long}/a"),
            &format!("{long}a/a"),
        ] {
            let (key, value) = (LabelKey::try_from(text.to_owned()), LabelValue::try_from(text.to_owned()));
            let of_api = (names::qualified_name(text).is_empty(), names::label_value(text).is_empty());
            // The API takes domains with labels that no DNS has.
            let of_api = (of_api.0 && !text.starts_with(&format!("{long}a")), of_api.1);
            assert_eq!((key.is_ok(), value.is_ok()), of_api, "as key and as value: {text:?}");
        }
    }

    #[test]
    fn a_label_that_is_none_is_named() {
        let parse = |text: &str| Settings::parse("skiff.toml".as_ref(), text).map(drop).map_err(|e| e.to_string());
        for (text, expected) in [
            ("[node]\nlabels = { \"room 1\" = \"x\" }\n", "\"room 1\" is not the key of a label"),
            ("[node]\nlabels = { room = \"living room\" }\n", "\"living room\" is not the value of a label"),
        ] {
            let error = parse(text).expect_err("refused");
            assert!(error.contains(expected) && error.contains("line 2"), "{error}");
        }
        assert_eq!(parse("[node]\nlabels = { \"example.org/room\" = \"1\" }\n"), Ok(()));
    }
}
