//! The box's own certificate authority, for names that no public one issues for. It owns the Secret
//! `kube-system/box-ca`, which is made once: whoever trusts it should have to say so only once.
//!
//! It is bound to private names and addresses, so that trusting it does not mean trusting the box with the Internet.

mod mobileconfig;

use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use super::renewal::{Leaf, Unreadable};
use super::schedule;
use super::wanted::MANAGED_BY;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "box-ca";
const ROOT_LIFETIME: SignedDuration = SignedDuration::from_hours(3650 * 24);
/// Devices that do not trust the new root have as long to be told.
const ROOT_REPLACED_BEFORE: SignedDuration = SignedDuration::from_hours(90 * 24);
const LEAF_LIFETIME: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Clocks of devices at home differ.
const BACKDATED: SignedDuration = SignedDuration::from_hours(24);
/// A common name is at most so long (RFC 5280, ub-common-name).
const COMMON_NAME_MAX: usize = 64;

/// Of making the Secret, where others make it as well.
const ATTEMPTS_MAX: u32 = 10;
const ATTEMPT_DELAY: Duration = Duration::from_millis(100);

/// What the root may issue for, next to the local domain and the node's name.
const DOMAINS: &[&str] = &["local", "internal", "home.arpa", "lan"];
#[rustfmt::skip]
const NETWORKS: &[(IpAddr, u8)] = &[
    (IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 0)), 8),
    (IpAddr::V4(std::net::Ipv4Addr::new(172, 16, 0, 0)), 12),
    (IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 0, 0)), 16),
    (IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V6(std::net::Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), 7),
    (IpAddr::V6(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the Secret {NAMESPACE}/{NAME} cannot be read or written")]
    Api(#[source] kube::Error),
    #[error("the box CA in the Secret {NAMESPACE}/{NAME} is of no use, {0}; delete it, and a new one is made")]
    Unreadable(String),
    #[error("the Secret {NAMESPACE}/{NAME} is made and deleted by others all the time")]
    Contended,
    #[error("a certificate cannot be made")]
    Make(#[from] rcgen::Error),
}

/// The root and its key.
pub struct BoxCa {
    root_pem: String,
    root_der: Vec<u8>,
    not_after: Timestamp,
    issuer: rcgen::Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for BoxCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BoxCa until {}", self.not_after)
    }
}

impl BoxCa {
    /// The box CA, which is made if there is none or if it is about to end.
    pub async fn ensure(client: &Client, node_name: &str, local_domain: &str) -> Result<Self, Error> {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
        let now = Timestamp::now();
        let (root, key) = make(node_name, local_domain, now)?;
        let made = secret(root, key);
        for _ in 0..ATTEMPTS_MAX {
            if let Some(secret) = secrets.get_opt(NAME).await.map_err(Error::Api)? {
                let found = Self::read(&secret)?;
                if now + ROOT_REPLACED_BEFORE < found.not_after {
                    return Ok(found);
                }
                delete(&secrets, &secret).await?;
            }
            match secrets.create(&PostParams::default(), &made).await {
                Ok(made) => return Self::read(&made),
                // Someone else was faster; there is only one. It may take a moment until it can be read.
                Err(kube::Error::Api(status)) if status.code == 409 => tokio::time::sleep(ATTEMPT_DELAY).await,
                Err(error) => return Err(Error::Api(error)),
            }
        }
        Err(Error::Contended)
    }

    fn read(secret: &Secret) -> Result<Self, Error> {
        let unreadable = |error: Unreadable| Error::Unreadable(error.to_string());
        let leaf = schedule::leaf(secret).map_err(unreadable)?;
        let text = |key| std::str::from_utf8(schedule::data(secret, key)).unwrap_or_default();
        Self::new(text("tls.crt"), text("tls.key"), leaf.not_after)
    }

    fn new(root_pem: &str, key_pem: &str, not_after: Timestamp) -> Result<Self, Error> {
        let wrong = |error: rcgen::Error| Error::Unreadable(error.to_string());
        let key = KeyPair::from_pem(key_pem).map_err(wrong)?;
        let issuer = rcgen::Issuer::from_ca_cert_pem(root_pem, key).map_err(wrong)?;
        let der = CertificateDer::from_pem_slice(root_pem.as_bytes());
        let root_der = der.map_err(|error| Error::Unreadable(error.to_string()))?.to_vec();
        Ok(Self { root_pem: root_pem.to_owned(), root_der, not_after, issuer })
    }

    /// A certificate for a server, as its chain (without the root) and its key, both in PEM.
    pub fn issue(&self, names: &[String], addresses: &[IpAddr], now: Timestamp) -> Result<(String, String), Error> {
        let mut params = CertificateParams::new(names.to_vec())?;
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        let common = names.first().filter(|name| name.len() <= COMMON_NAME_MAX).map_or("Skiff box", String::as_str);
        params.distinguished_name = named(common);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now - BACKDATED, (now + LEAF_LIFETIME).min(self.not_after));
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Whether clients accept a certificate of ours for this name or address: one that the root must not vouch for makes
    /// them refuse the whole certificate (RFC 5280, 4.2.1.10).
    pub fn permits(&self, name: &str) -> bool {
        let Ok((_, root)) = X509Certificate::from_der(&self.root_der) else { return false };
        let Ok(Some(constraints)) = root.name_constraints() else { return true };
        let permitted = constraints.value.permitted_subtrees.iter().flatten();
        let mut bases = permitted.map(|subtree| &subtree.base);
        match name.parse::<IpAddr>() {
            Ok(address) => {
                let octets = octets(address);
                bases.any(|base| matches!(base, GeneralName::IPAddress(network) if is_within(&octets, network)))
            }
            Err(_) => bases.any(|base| matches!(base, GeneralName::DNSName(domain) if is_below(name, domain))),
        }
    }

    /// Whether another certificate is to be issued instead of this one. Pure.
    pub fn needs_renewal(
        &self,
        chain_pem: &str,
        key_pem: &str,
        names: &[String],
        addresses: &[IpAddr],
        now: Timestamp,
    ) -> bool {
        let Ok(leaf) = Leaf::read(chain_pem.as_bytes(), key_pem.as_bytes()) else { return true };
        let has_all = names.iter().all(|name| leaf.names.contains(&name.to_lowercase()))
            && addresses.iter().all(|address| leaf.addresses.contains(address));
        !has_all || leaf.renew_at(None) <= now || !self.issued(chain_pem)
    }

    fn issued(&self, chain_pem: &str) -> bool {
        let Ok(leaf) = CertificateDer::from_pem_slice(chain_pem.as_bytes()) else { return false };
        let (authority, _) = key_identifiers(&leaf);
        let (_, subject) = key_identifiers(&self.root_der);
        authority.is_some() && authority == subject
    }

    /// A secret of this box for one purpose, the same after every start, from which nothing follows about the key.
    pub fn derive(&self, purpose: &str) -> String {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &self.issuer.key().serialize_der());
        let tag = aws_lc_rs::hmac::sign(&key, purpose.as_bytes());
        tag.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    pub fn root_der(&self) -> &[u8] {
        &self.root_der
    }

    /// What Apple's devices install the root from.
    pub fn mobileconfig(&self) -> String {
        mobileconfig::render(&self.root_der, &self.common_name())
    }

    fn common_name(&self) -> String {
        let parsed = X509Certificate::from_der(&self.root_der);
        let name = parsed.ok().and_then(|(_, root)| {
            let name = root.subject().iter_common_name().next();
            name.and_then(|name| name.as_str().ok().map(str::to_owned))
        });
        name.unwrap_or_else(|| "Skiff box CA".to_owned())
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// `network` is a base address followed by its mask.
fn is_within(address: &[u8], network: &[u8]) -> bool {
    let (base, mask) = network.split_at(network.len() / 2);
    address.len() == base.len() && address.iter().zip(base).zip(mask).all(|((a, b), m)| a & m == b & m)
}

fn is_below(name: &str, domain: &str) -> bool {
    let name = name.to_lowercase();
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Deletes this very root, not one that took its place.
async fn delete(secrets: &Api<Secret>, old: &Secret) -> Result<(), Error> {
    let preconditions = Preconditions { uid: old.uid(), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match secrets.delete(NAME, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(Error::Api(error)),
    }
}

/// The identifiers of the authority's and of the certificate's own key.
fn key_identifiers(der: &[u8]) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return (None, None) };
    let (mut authority, mut own) = (None, None);
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => authority = id.key_identifier.as_ref().map(|k| k.0.to_vec()),
            ParsedExtension::SubjectKeyIdentifier(id) => own = Some(id.0.to_vec()),
            _ => {}
        }
    }
    (authority, own)
}

fn make(node_name: &str, local_domain: &str, now: Timestamp) -> Result<(String, String), Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    // The date tells an old root from a new one in a device's list.
    let mut name = format!("Skiff box CA {node_name} {}", now.strftime("%Y-%m-%d"));
    name.truncate(name.floor_char_boundary(COMMON_NAME_MAX));
    params.distinguished_name = named(&name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now - BACKDATED, now + ROOT_LIFETIME);
    let mut domains: Vec<&str> = DOMAINS.iter().copied().chain([local_domain, node_name]).collect();
    // One that is malformed would make clients refuse the whole root.
    domains.retain(|domain| is_dns_name(domain));
    domains.sort_unstable();
    domains.dedup();
    let domains = domains.into_iter().map(|domain| GeneralSubtree::DnsName(domain.to_lowercase()));
    let networks =
        NETWORKS.iter().map(|(base, length)| GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(*base, *length)));
    params.name_constraints =
        Some(NameConstraints { permitted_subtrees: domains.chain(networks).collect(), excluded_subtrees: Vec::new() });
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.len() < 64 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.split('.').all(is_label)
}

fn named(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

fn set_validity(params: &mut CertificateParams, from: Timestamp, until: Timestamp) {
    let since_1970 = |at: Timestamp| Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0));
    let start = rcgen::date_time_ymd(1970, 1, 1);
    (params.not_before, params.not_after) = (start + since_1970(from), start + since_1970(until));
}

fn secret(root: String, key: String) -> Secret {
    let mut secret = Secret { type_: Some("kubernetes.io/tls".to_owned()), ..Secret::default() };
    secret.metadata.name = Some(NAME.to_owned());
    secret.metadata.namespace = Some(NAMESPACE.to_owned());
    secret.labels_mut().insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    let data = [("tls.crt", root), ("tls.key", key)];
    secret.data = Some(data.map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes()))).into());
    secret
}

#[cfg(test)]
mod tests;
