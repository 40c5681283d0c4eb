//! Which certificate a client is shown: by the name it asks for. Changes with the table, under open connections too.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::routes::Routes;
use crate::table::{Certificate, CertificateId, Table};

/// RFC 8737: the protocol a CA speaks to see the answer to its challenge.
pub const ACME_TLS: &[u8] = b"acme-tls/1";

#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("the certificate is not PEM: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    #[error("key and certificate do not fit: {0}")]
    Key(#[from] rustls::Error),
}

/// Certificates that were sent, by their content.
#[derive(Debug, Default)]
pub struct Store(HashMap<CertificateId, Arc<CertifiedKey>>);

impl Store {
    pub fn insert(&mut self, certificate: &Certificate) -> Result<(), CertificateError> {
        let chain = CertificateDer::pem_slice_iter(certificate.chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes())?;
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
        let certified = CertifiedKey::new(chain, signing);
        // Other errors are about what is read on the way: the extension of RFC 8737 is critical, and not known to it.
        if let Err(error @ rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) =
            certified.keys_match()
        {
            return Err(error.into());
        }
        self.0.insert(certificate.id.clone(), Arc::new(certified));
        Ok(())
    }

    pub fn ids(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// The names of a table with their certificates; what it does not name is forgotten.
    pub fn compile(&mut self, table: &Table) -> Certificates {
        let named = |names: &BTreeMap<String, CertificateId>| {
            names.iter().filter_map(|(name, id)| Some((name.as_str().into(), Arc::clone(self.0.get(id)?)))).collect()
        };
        let compiled = Certificates {
            by_name: named(&table.certificates),
            challenges: named(&table.alpn_answers),
            default: table.default_certificate.as_ref().and_then(|id| self.0.get(id)).cloned(),
        };
        let used = |id: &CertificateId| {
            let mut named = table.certificates.values().chain(table.alpn_answers.values());
            named.any(|n| n == id) || table.default_certificate.as_ref() == Some(id)
        };
        if self.0.len() > table.certificates.len() + table.alpn_answers.len() {
            self.0.retain(|id, _| used(id));
        }
        compiled
    }
}

#[derive(Debug, Default)]
pub struct Certificates {
    by_name: HashMap<Box<str>, Arc<CertifiedKey>>,
    challenges: HashMap<Box<str>, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        if let Some(found) = self.by_name.get(name) {
            return Some(found);
        }
        let (_, domain) = name.split_once('.')?;
        self.by_name.get(format!("*.{domain}").as_str())
    }
}

pub struct Resolver(pub Arc<ArcSwap<Routes>>);

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let routes = self.0.load();
        let certificates = &routes.certificates;
        let name = hello.server_name();
        if hello.alpn().is_some_and(|mut protocols| protocols.any(|p| p == ACME_TLS)) {
            return certificates.challenges.get(name?).cloned();
        }
        // The name is in lower case already: rustls sees to it.
        name.and_then(|name| certificates.find(name)).or(certificates.default.as_ref()).cloned()
    }
}
