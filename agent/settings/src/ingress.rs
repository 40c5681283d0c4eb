//! `[ingress]`: where applications are reached.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::Conflict;
use crate::values::DnsName;

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ingress {
    pub enabled: bool,
    pub http: Vec<SocketAddr>,
    pub https: Vec<SocketAddr>,
    /// Prometheus metrics; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// The name of the IngressClass.
    pub class: DnsName,
    /// The host's name below `local` if absent: [`crate::Settings::local_domain`].
    pub local_domain: Option<DnsName>,
    /// Addresses and networks.
    pub trusted_proxies: Vec<String>,
    pub proxy_protocol: bool,
    pub access_log: AccessLog,
    pub body_mebibytes_max: u32,
    pub connections_max: u32,
    /// Zero: one for each processor.
    pub threads: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLog {
    Off,
    Errors,
    All,
}

impl Default for Ingress {
    fn default() -> Self {
        let any = |port| vec![SocketAddr::from(([0, 0, 0, 0], port)), SocketAddr::from(([0u16; 8], port))];
        Self {
            enabled: true,
            http: any(80),
            https: any(443),
            metrics: None,
            class: DnsName::constant("skiff"),
            local_domain: None,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            access_log: AccessLog::Off,
            body_mebibytes_max: 10_240,
            connections_max: 20_000,
            threads: 0,
        }
    }
}

impl Ingress {
    pub(crate) fn check(&self, found: &mut Vec<Conflict>) {
        if let Some(bad) = self.trusted_proxies.iter().find(|network| !is_network(network)) {
            found.push(Conflict::new(&["ingress.trusted_proxies"], bad_network(bad)));
        }
        if self.proxy_protocol && self.trusted_proxies.is_empty() {
            let why = "only what ingress.trusted_proxies names may say who its client is";
            let message = format!("ingress.proxy_protocol = true has no effect: {why}");
            found.push(Conflict::new(&["ingress.proxy_protocol"], message));
        }
        if self.enabled && self.http.is_empty() && self.https.is_empty() {
            found.push(Conflict::new(
                &["ingress.http", "ingress.https"],
                "ingress.http and ingress.https are both empty: set ingress.enabled = false instead",
            ));
        }
    }
}

fn is_network(text: &str) -> bool {
    let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
    let most = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.is_none_or(|l| l.parse::<u8>().is_ok_and(|l| l <= most))
}

fn bad_network(text: &str) -> String {
    format!("ingress.trusted_proxies: \"{text}\" is not an address or a network such as \"192.168.1.0/24\"")
}
