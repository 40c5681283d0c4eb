//! `[host]`: the machine below the box, where Skiff brings the system. It is applied at each boot by `skiff host apply`.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::values::{DnsName, HostInterface, HostName};
use crate::{Conflict, PasswordHash};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Host {
    /// `skiff` if absent.
    pub name: Option<HostName>,
    /// UTC if absent.
    pub timezone: Option<Timezone>,
    /// The domain the box is in: it is NAME.DOMAIN.
    pub domain: Option<DnsName>,
    /// Time servers; the system's own if empty.
    pub ntp: Vec<ServerName>,
    pub network: HostNetwork,
    pub admin: Admin,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostNetwork {
    /// Every wired one if absent.
    pub interface: Option<HostInterface>,
    /// DHCP and IPv6 router advertisements if absent.
    pub address: Option<InterfaceAddress>,
    pub gateway: Option<IpAddr>,
    /// Instead of those that the network names.
    pub dns: Vec<IpAddr>,
}

/// Who may log in as root.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    pub ssh_keys: Vec<SshKey>,
    pub password_hash: Option<PasswordHash>,
}

impl Host {
    /// The first label of the box's name.
    pub fn name(&self) -> &str {
        self.name.as_ref().map_or("skiff", HostName::as_str)
    }

    /// NAME.DOMAIN, where a domain is set.
    pub fn full_name(&self) -> Option<String> {
        self.domain.as_ref().map(|domain| format!("{}.{domain}", self.name()))
    }

    pub(crate) fn check(&self, found: &mut Vec<Conflict>) {
        found.extend(self.network.conflict());
        for (key, count) in [("host.ntp", self.ntp.len()), ("host.network.dns", self.network.dns.len())] {
            if count > SERVERS_MAX {
                found.push(Conflict::new(&[key], format!("{key} has {count} entries: at most {SERVERS_MAX} are used")));
            }
        }
        let keys = self.admin.ssh_keys.len();
        if keys > SSH_KEYS_MAX {
            let message = format!("host.admin.ssh_keys has {keys} keys: allowed are {SSH_KEYS_MAX}");
            found.push(Conflict::new(&["host.admin.ssh_keys"], message));
        }
    }
}

impl HostNetwork {
    /// Values that do not fit together.
    pub fn conflict(&self) -> Option<Conflict> {
        match (&self.address, self.gateway) {
            (None, Some(_)) => Some(Conflict::new(
                &["host.network.gateway"],
                "a gateway without an address has no effect: DHCP names the gateway; set host.network.address too, or \
                 remove host.network.gateway",
            )),
            (Some(address), Some(gateway)) if !address.reaches(gateway) => Some(Conflict::new(
                &["host.network.gateway"],
                format!(
                    "host.network.gateway = \"{gateway}\" is not in the network of host.network.address = \
                     \"{address}\": the box could not reach it"
                ),
            )),
            (Some(_), Some(_)) | (None | Some(_), None) => None,
        }
    }
}

/// More than anyone has; a list that is longer is a mistake.
const SERVERS_MAX: usize = 8;
const SSH_KEYS_MAX: usize = 100;

/// A zone of the IANA time zone database. Whether this system knows it is found out where it is applied.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timezone(String);

impl Timezone {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Timezone {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+');
        let part = |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(allowed);
        if text.len() <= 64 && text.split('/').all(part) {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is not a time zone such as \"Europe/Zurich\""))
        }
    }
}

impl From<Timezone> for String {
    fn from(zone: Timezone) -> Self {
        zone.0
    }
}

/// A server by name or address.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerName(String);

impl ServerName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ServerName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.parse::<IpAddr>().is_ok() || DnsName::try_from(text.clone()).is_ok() {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is not a server's name or address such as \"ptbtime1.ptb.de\""))
        }
    }
}

impl From<ServerName> for String {
    fn from(server: ServerName) -> Self {
        server.0
    }
}

/// An address with the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceAddress {
    pub address: IpAddr,
    pub prefix_len: u8,
}

impl InterfaceAddress {
    fn network(address: IpAddr, prefix_len: u8) -> u128 {
        match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits().checked_shr(32 - u32::from(prefix_len)).unwrap_or(0)),
            IpAddr::V6(v6) => v6.to_bits().checked_shr(128 - u32::from(prefix_len)).unwrap_or(0),
        }
    }

    fn reaches(&self, gateway: IpAddr) -> bool {
        let link_local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let same = Self::network(self.address, self.prefix_len) == Self::network(gateway, self.prefix_len);
        self.address.is_ipv4() == gateway.is_ipv4() && self.address != gateway && (link_local || same)
    }
}

impl TryFrom<String> for InterfaceAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad = || format!("{text:?} is not an address with its network's length such as \"192.168.1.10/24\"");
        let Some((address, length)) = text.split_once('/') else {
            let hint =
                if text.parse::<IpAddr>().is_ok_and(|a| a.is_ipv4()) { "; at home it is mostly /24" } else { "" };
            return Err(format!("{}{hint}", bad()));
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix_len = length.parse().ok().filter(|l| (1..=longest).contains(l)).ok_or_else(bad)?;
        let host_bits = u32::from(longest - prefix_len);
        let own = match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let ends = 1u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1);
        let is_network = host_bits > 1 && own & ends == 0;
        let is_broadcast = host_bits > 1 && address.is_ipv4() && own & ends == ends;
        if address.is_loopback() || address.is_multicast() || address.is_unspecified() || is_network || is_broadcast {
            return Err(format!("{text:?} is not an address that a box can have: choose one of its network's hosts"));
        }
        Ok(Self { address, prefix_len })
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl From<InterfaceAddress> for String {
    fn from(address: InterfaceAddress) -> Self {
        address.to_string()
    }
}

/// A public key as `ssh-keygen` prints it: type, base64, comment. Options are refused: this file is for keys that may do
/// everything.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct SshKey(String);

impl SshKey {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What OpenSSH of Debian stable takes in its defaults; DSA is gone.
const SSH_KEY_TYPES: &[&str] = &[
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];
/// An RSA key of 16384 bits with a long comment fits.
const SSH_KEY_BYTES_MAX: usize = 8192;

impl TryFrom<String> for SshKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let text = text.trim();
        if text.contains("PRIVATE KEY") {
            return Err("this is a private key: never copy it anywhere; use the file that ends in .pub".to_owned());
        }
        if text.chars().any(char::is_control) || text.len() > SSH_KEY_BYTES_MAX {
            return Err("a public key is one line of a .pub file, such as \"ssh-ed25519 AAAA… you@laptop\"".to_owned());
        }
        let mut words = text.split_ascii_whitespace();
        let (kind, data) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if !SSH_KEY_TYPES.contains(&kind) {
            return Err(unknown_key_type(text, kind));
        }
        let blob =
            base64(data).ok_or_else(|| format!("the public key \"{kind} …\" is not complete: copy the line again"))?;
        // RFC 4253, 6.6: a key begins with its own type.
        let named = blob.get(4..4 + kind.len()) == Some(kind.as_bytes())
            && blob.get(..4) == Some(&u32::try_from(kind.len()).unwrap_or(0).to_be_bytes());
        if named && blob.len() > 4 + kind.len() + 4 {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("the public key \"{kind} …\" is damaged: copy the line of the .pub file again"))
        }
    }
}

fn unknown_key_type(text: &str, kind: &str) -> String {
    let after_options = text.split_ascii_whitespace().skip(1).any(|word| SSH_KEY_TYPES.contains(&word));
    if after_options {
        return "a key with options before it is not taken: remove what is before the key's type".to_owned();
    }
    let shown: String = kind.chars().take(40).collect();
    format!("{shown:?} is not a type of public key: allowed are {}", SSH_KEY_TYPES.join(", "))
}

fn base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.decode(text).ok()
}

impl From<SshKey> for String {
    fn from(key: SshKey) -> Self {
        key.0
    }
}
