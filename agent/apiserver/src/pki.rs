//! The box's keys and certificates, in one folder readable by root alone: made at the first start, renewed in the
//! running process.
//!
//! One cluster CA signs the serving certificate and the administrator's client certificate; the service-account key
//! signs tokens; a CA of its own signs what this API shows to the API servers behind it, which believe its bearer whom it
//! asks for. Nothing here is ever overwritten but by a renewal.

mod request;

use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SignatureScheme};
use x509_parser::extensions::{GeneralName, ParsedExtension};

const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);
const LEAF_LIFETIME: Duration = Duration::from_secs(365 * 86_400);
/// A leaf is renewed when less than this is left: a box that is off for months still starts with valid certificates.
const RENEW_BEFORE: Duration = Duration::from_secs(120 * 86_400);
/// Clocks of small boxes run behind until time is synchronized.
const BACKDATE: Duration = Duration::from_secs(86_400);

/// The same of certificates by request, as upstream.
const BACKDATE_SHORT: Duration = Duration::from_secs(300);
/// What the API is called by the API servers behind it.
pub const FRONT_PROXY: &str = "front-proxy-client";

pub use request::CertificateRequest;

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("cannot read or write {path}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "{path} is not a valid certificate or key: {what}; restore it from a backup, or remove it to make a new one"
    )]
    Invalid { path: PathBuf, what: String },
    #[error("cannot make a certificate")]
    Generate(#[from] rcgen::Error),
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    #[error("cannot set up client authentication: {0}")]
    Verifier(String),
}

/// What the certificates are made for.
#[derive(Clone, Debug)]
pub struct Names {
    pub dns: Vec<String>,
    pub addresses: Vec<IpAddr>,
    /// `https://ADDRESS:PORT`, as written into the kubeconfig.
    pub server_url: String,
    pub kubeconfig: PathBuf,
}

/// The loaded keys. Serving certificates are looked up anew in each handshake, so that a renewal needs no restart.
pub struct Pki {
    dir: PathBuf,
    names: Names,
    ca_pem: String,
    ca_key: KeyPair,
    front_ca_pem: String,
    front_ca_key: KeyPair,
    front: Arc<FrontProxy>,
    service_account_key: Vec<u8>,
    serving: RwLock<Arc<CertifiedKey>>,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pki({})", self.dir.display())
    }
}

#[derive(Clone, Copy)]
enum Leaf {
    Serving,
    Admin,
    FrontProxy,
}

impl Leaf {
    fn file(&self) -> &'static str {
        match self {
            Leaf::Serving => "server",
            Leaf::Admin => "admin",
            Leaf::FrontProxy => "front-proxy",
        }
    }
}

impl Pki {
    /// Loads what is in `dir` and makes what is missing or due.
    pub fn open(dir: &Path, names: Names) -> Result<Self, PkiError> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(file_error(dir))?;
        let ca_key = load_or_make_key(&dir.join("ca.key"))?;
        let ca_pem = load_or_make_ca(&dir.join("ca.crt"), &ca_key, "skiff-ca")?;
        let front_ca_key = load_or_make_key(&dir.join("front-proxy-ca.key"))?;
        let front_ca_pem = load_or_make_ca(&dir.join("front-proxy-ca.crt"), &front_ca_key, "skiff-front-proxy-ca")?;
        let service_account_key = load_or_make_key(&dir.join("service-account.key"))?.serialize_der();
        let mut pki = Self {
            dir: dir.to_owned(),
            names,
            ca_pem,
            ca_key,
            front_ca_pem,
            front_ca_key,
            front: Arc::new(FrontProxy(RwLock::new(Arc::new(placeholder()?)))),
            service_account_key,
            serving: RwLock::new(Arc::new(placeholder()?)),
        };
        pki.renew()?;
        let serving = pki.load(Leaf::Serving)?;
        pki.serving = RwLock::new(Arc::new(serving));
        pki.front.put(pki.load(Leaf::FrontProxy)?);
        Ok(pki)
    }

    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Who signs what this API shows to the API servers behind it.
    pub fn front_proxy_ca_pem(&self) -> &str {
        &self.front_ca_pem
    }

    /// What it shows to them.
    pub fn front_proxy(&self) -> Arc<FrontProxy> {
        Arc::clone(&self.front)
    }

    /// PKCS#8 of the key that signs service-account tokens.
    pub fn service_account_key(&self) -> &[u8] {
        &self.service_account_key
    }

    /// Makes each leaf that is missing, due, or no longer for the right names. Returns whether any was made.
    pub fn renew(&self) -> Result<bool, PkiError> {
        let mut renewed = false;
        for leaf in [Leaf::Serving, Leaf::Admin, Leaf::FrontProxy] {
            if !self.is_good(&leaf) {
                self.make(&leaf)?;
                renewed = true;
                tracing::info!(certificate = leaf.file(), "certificate made");
            }
        }
        if renewed || !self.names.kubeconfig.exists() || self.kubeconfig_is_stale() {
            write_own(&self.names.kubeconfig, self.kubeconfig()?.as_bytes())?;
        }
        Ok(renewed)
    }

    /// Renews what is due and serves it from the next handshake on.
    pub fn renew_and_reload(&self) -> Result<(), PkiError> {
        if self.renew()? {
            let serving = Arc::new(self.load(Leaf::Serving)?);
            *self.serving.write().unwrap_or_else(PoisonError::into_inner) = serving;
            self.front.put(self.load(Leaf::FrontProxy)?);
        }
        Ok(())
    }

    pub fn server_config(self: &Arc<Self>) -> Result<ServerConfig, PkiError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca_der()?)?;
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
            .allow_unauthenticated()
            .build()
            .map_err(|error| PkiError::Verifier(error.to_string()))?;
        let mut config = ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(Serving(Arc::clone(self))));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    fn ca_der(&self) -> Result<CertificateDer<'static>, PkiError> {
        CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).map_err(invalid(&self.dir.join("ca.crt")))
    }

    fn path(&self, leaf: &Leaf, extension: &str) -> PathBuf {
        self.dir.join(format!("{}.{extension}", leaf.file()))
    }

    fn is_good(&self, leaf: &Leaf) -> bool {
        let Ok(pem) = std::fs::read(self.path(leaf, "crt")) else { return false };
        let Ok(der) = CertificateDer::from_pem_slice(&pem) else { return false };
        let Ok((_, certificate)) = x509_parser::parse_x509_certificate(&der) else { return false };
        let left = certificate.validity().time_to_expiration().unwrap_or_default();
        let left = Duration::try_from(left).unwrap_or_default();
        let names = match leaf {
            Leaf::Serving => self.covers_names(&certificate),
            Leaf::Admin | Leaf::FrontProxy => true,
        };
        let key = self.path(leaf, "key").exists();
        let (ca_pem, ca_key) = self.signer(leaf);
        let ca = CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap_or_else(|_| der.clone());
        let issued_by_us = x509_parser::parse_x509_certificate(&ca)
            .is_ok_and(|(_, ca)| certificate.verify_signature_with(&ca, ca_key));
        let names_issuer = certificate
            .extensions()
            .iter()
            .any(|extension| matches!(extension.parsed_extension(), ParsedExtension::AuthorityKeyIdentifier(_)));
        key && names && issued_by_us && names_issuer && left > RENEW_BEFORE
    }

    fn signer(&self, leaf: &Leaf) -> (&str, &KeyPair) {
        match leaf {
            Leaf::Serving | Leaf::Admin => (&self.ca_pem, &self.ca_key),
            Leaf::FrontProxy => (&self.front_ca_pem, &self.front_ca_key),
        }
    }

    fn covers_names(&self, certificate: &x509_parser::certificate::X509Certificate<'_>) -> bool {
        let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
        let names = &names.value.general_names;
        let dns = |wanted: &String| names.iter().any(|n| matches!(n, GeneralName::DNSName(n) if n == wanted));
        let address = |wanted: &IpAddr| {
            let octets = match wanted {
                IpAddr::V4(a) => a.octets().to_vec(),
                IpAddr::V6(a) => a.octets().to_vec(),
            };
            names.iter().any(|n| matches!(n, GeneralName::IPAddress(n) if *n == octets))
        };
        self.names.dns.iter().all(dns) && self.names.addresses.iter().all(address)
    }

    fn make(&self, leaf: &Leaf) -> Result<(), PkiError> {
        let mut params = CertificateParams::default();
        params.not_before = (SystemTime::now() - BACKDATE).into();
        params.not_after = (SystemTime::now() + LEAF_LIFETIME).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Strict clients ask for it: Python is one.
        params.use_authority_key_identifier_extension = true;
        params.distinguished_name = DistinguishedName::new();
        match leaf {
            Leaf::Serving => {
                params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                let dns = self.names.dns.iter().map(|n| n.as_str().try_into().map(SanType::DnsName));
                params.subject_alt_names = dns.collect::<Result<_, _>>()?;
                params.subject_alt_names.extend(self.names.addresses.iter().copied().map(SanType::IpAddress));
            }
            Leaf::Admin => {
                params.distinguished_name.push(DnType::OrganizationName, "system:masters");
                params.distinguished_name.push(DnType::CommonName, "system:admin");
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }
            Leaf::FrontProxy => {
                params.distinguished_name.push(DnType::CommonName, FRONT_PROXY);
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }
        }
        let key = KeyPair::generate()?;
        let (ca_pem, ca_key) = self.signer(leaf);
        let issuer = Issuer::from_ca_cert_pem(ca_pem, ca_key)?;
        let certificate = params.signed_by(&key, &issuer)?;
        write_own(&self.path(leaf, "key"), key.serialize_pem().as_bytes())?;
        write_own(&self.path(leaf, "crt"), certificate.pem().as_bytes())
    }

    /// The certificate of a request that was approved. The usages are those of [`CertificateRequest`].
    pub fn sign_request(
        &self,
        request: &CertificateRequest,
        usages: &[String],
        lifetime: Duration,
    ) -> Result<String, String> {
        request.signed(usages, lifetime.min(LEAF_LIFETIME), &self.ca_pem, &self.ca_key)
    }

    /// Access for a node of this name: a kubeconfig with a certificate of its own, valid as long as the others. In JSON, which
    /// is YAML, too.
    pub fn node_kubeconfig(&self, name: &str, server_url: &str) -> Result<serde_json::Value, PkiError> {
        let mut params = CertificateParams::default();
        params.not_before = (SystemTime::now() - BACKDATE).into();
        params.not_after = (SystemTime::now() + LEAF_LIFETIME).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Strict clients ask for it: Python is one.
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, crate::users::NODES);
        params
            .distinguished_name
            .push(DnType::CommonName, crate::User::of(&crate::Identity::Node(name.to_owned())).name);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &Issuer::from_ca_cert_pem(&self.ca_pem, &self.ca_key)?)?;
        let encode = |pem: &str| BASE64_STANDARD.encode(pem);
        Ok(serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "skiff",
            "clusters": [{"name": "skiff", "cluster": {
                "server": server_url, "certificate-authority-data": encode(&self.ca_pem)}}],
            "users": [{"name": "skiff", "user": {
                "client-certificate-data": encode(&certificate.pem()), "client-key-data": encode(&key.serialize_pem())}}],
            "contexts": [{"name": "skiff", "context": {"cluster": "skiff", "user": "skiff"}}],
        }))
    }

    fn load(&self, leaf: Leaf) -> Result<CertifiedKey, PkiError> {
        let (crt, key) = (self.path(&leaf, "crt"), self.path(&leaf, "key"));
        let chain = vec![CertificateDer::from_pem_file(&crt).map_err(invalid(&crt))?];
        let key = PrivateKeyDer::from_pem_file(&key).map_err(invalid(&key))?;
        Ok(CertifiedKey::new(chain, rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?))
    }

    fn kubeconfig_is_stale(&self) -> bool {
        let current = std::fs::read_to_string(&self.names.kubeconfig).unwrap_or_default();
        self.kubeconfig().is_ok_and(|wanted| wanted != current)
    }

    fn kubeconfig(&self) -> Result<String, PkiError> {
        let read = |extension| {
            let path = self.path(&Leaf::Admin, extension);
            std::fs::read(&path).map(|pem| BASE64_STANDARD.encode(pem)).map_err(file_error(&path))
        };
        Ok(format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: skiff\n  cluster:\n    server: {}\n    \
             certificate-authority-data: {}\nusers:\n- name: skiff\n  user:\n    client-certificate-data: {}\n    \
             client-key-data: {}\ncontexts:\n- name: skiff\n  context:\n    cluster: skiff\n    user: skiff\n\
             current-context: skiff\n",
            self.names.server_url,
            BASE64_STANDARD.encode(&self.ca_pem),
            read("crt")?,
            read("key")?,
        ))
    }
}

#[derive(Debug)]
struct Serving(Arc<Pki>);

impl ResolvesServerCert for Serving {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.serving.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The identity that API servers behind this one believe: looked up anew in each handshake, as it is renewed.
pub struct FrontProxy(RwLock<Arc<CertifiedKey>>);

impl std::fmt::Debug for FrontProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FrontProxy(…)")
    }
}

impl FrontProxy {
    fn put(&self, key: CertifiedKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
    }
}

impl ResolvesClientCert for FrontProxy {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Whether a certificate was signed by the key that we hold.
trait VerifySignature {
    fn verify_signature_with(&self, ca: &Self, key: &KeyPair) -> bool;
}

impl VerifySignature for x509_parser::certificate::X509Certificate<'_> {
    fn verify_signature_with(&self, ca: &Self, key: &KeyPair) -> bool {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key_raw());
        let signed = self.tbs_certificate.as_ref();
        ca.subject() == self.issuer() && public.verify(signed, &self.signature_value.data).is_ok()
    }
}

/// Stands in until the real certificate is loaded, before anything is served.
fn placeholder() -> Result<CertifiedKey, PkiError> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::default().self_signed(&key)?;
    let key = PrivateKeyDer::try_from(key.serialize_der())
        .map_err(|what| PkiError::Invalid { path: PathBuf::new(), what: what.to_owned() })?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

fn load_or_make_key(path: &Path) -> Result<KeyPair, PkiError> {
    match std::fs::read_to_string(path) {
        Ok(pem) => {
            KeyPair::from_pem(&pem).map_err(|e| PkiError::Invalid { path: path.to_owned(), what: e.to_string() })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = KeyPair::generate()?;
            write_own(path, key.serialize_pem().as_bytes())?;
            Ok(key)
        }
        Err(source) => Err(PkiError::File { path: path.to_owned(), source }),
    }
}

fn load_or_make_ca(path: &Path, key: &KeyPair, name: &str) -> Result<String, PkiError> {
    match std::fs::read_to_string(path) {
        Ok(pem) => match CertificateDer::from_pem_slice(pem.as_bytes()) {
            Ok(_) => Ok(pem),
            Err(error) => Err(invalid(path)(error)),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut params = CertificateParams::default();
            params.not_before = (SystemTime::now() - BACKDATE).into();
            params.not_after = (SystemTime::now() + CA_LIFETIME).into();
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            let pem = params.self_signed(key)?.pem();
            write_own(path, pem.as_bytes())?;
            Ok(pem)
        }
        Err(source) => Err(PkiError::File { path: path.to_owned(), source }),
    }
}

/// Writes beside and renames, synced, mode 0600: the file is always whole and never readable by others.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let partial = path.with_extension("partial");
    let _ = std::fs::remove_file(&partial);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&partial, path)?;
    path.parent().map_or(Ok(()), |dir| std::fs::File::open(dir)?.sync_all())
}

fn write_own(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    write_private(path, bytes).map_err(file_error(path))
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: String = text.as_bytes().chunks(64).map(|line| format!("{}\n", String::from_utf8_lossy(line))).collect();
    format!("-----BEGIN {label}-----\n{lines}-----END {label}-----\n")
}

fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> PkiError {
    let path = path.to_owned();
    move |source| PkiError::File { path, source }
}

fn invalid(path: &Path) -> impl FnOnce(rustls::pki_types::pem::Error) -> PkiError {
    let path = path.to_owned();
    move |error| PkiError::Invalid { path, what: error.to_string() }
}
