//! What TLS Secrets hold: read once for each version of a Secret.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::routes::Held;
use crate::table::{Certificate, CertificateId};

/// A certificate under a name made from its content.
pub fn certificate(chain: String, key: String) -> Certificate {
    Certificate { id: identify(chain.as_bytes(), key.as_bytes()), chain, key }
}

fn identify(chain: &[u8], key: &[u8]) -> CertificateId {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(chain);
    context.update(key);
    context.finish().as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Entry {
    version: Option<String>,
    secret: Arc<Secret>,
    read: Result<Read, String>,
}

pub(crate) struct Read {
    id: CertificateId,
    names: Vec<String>,
    not_before: i64,
    not_after: i64,
}

/// By namespace and name.
#[derive(Default)]
pub struct Cache {
    entries: HashMap<(String, String), Entry>,
    by_id: HashMap<CertificateId, (String, String)>,
    now: i64,
}

impl Cache {
    pub fn refresh(&mut self, secrets: &[Arc<Secret>], now: Timestamp) {
        self.now = now.as_second();
        let mut before = std::mem::take(&mut self.entries);
        self.by_id.clear();
        for secret in secrets.iter().filter(|s| s.type_.as_deref() == Some("kubernetes.io/tls")) {
            let key = (secret.namespace().unwrap_or_default(), secret.name_any());
            let known = before.remove(&key).filter(|e| e.version == secret.resource_version());
            let entry = known.unwrap_or_else(|| Entry {
                version: secret.resource_version(),
                secret: Arc::clone(secret),
                read: read(secret),
            });
            if let Ok(read) = &entry.read {
                self.by_id.insert(read.id.clone(), key.clone());
            }
            self.entries.insert(key, entry);
        }
    }

    pub fn get(&self, namespace: &str, name: &str) -> Held {
        match self.entries.get(&(namespace.to_owned(), name.to_owned())).map(|e| &e.read) {
            None => Held::Missing,
            Some(Err(why)) => Held::Broken(why.clone()),
            Some(Ok(read)) => {
                let date =
                    |seconds| Timestamp::from_second(seconds).map(|t| t.strftime("%F").to_string()).unwrap_or_default();
                let expired = if read.not_after < self.now {
                    Some(format!("was valid until {}", date(read.not_after)))
                } else if read.not_before > self.now {
                    Some(format!("is valid from {} on", date(read.not_before)))
                } else {
                    None
                };
                Held::Certificate { id: read.id.clone(), names: read.names.clone(), expired }
            }
        }
    }

    pub fn certificate(&self, id: &CertificateId) -> Option<Certificate> {
        let entry = self.entries.get(self.by_id.get(id)?)?;
        let text = |key| field(&entry.secret, key).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        Some(Certificate { id: id.clone(), chain: text("tls.crt")?, key: text("tls.key")? })
    }
}

fn field<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    secret.data.as_ref().and_then(|d| d.get(key)).map(|bytes| bytes.0.as_slice()).filter(|b| !b.is_empty())
}

pub(crate) fn read(secret: &Secret) -> Result<Read, String> {
    let (chain, key) = match (field(secret, "tls.crt"), field(secret, "tls.key")) {
        (Some(chain), Some(key)) => (chain, key),
        (None, _) => return Err("\"tls.crt\" is empty".to_owned()),
        (_, None) => return Err("\"tls.key\" is empty".to_owned()),
    };
    let certificates = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
    let first =
        certificates.ok().and_then(|all| all.into_iter().next()).ok_or("\"tls.crt\" is not certificates in PEM")?;
    let (_, parsed) = X509Certificate::from_der(&first).map_err(|_| "\"tls.crt\" is not an X.509 certificate")?;
    let private = PrivateKeyDer::from_pem_slice(key).map_err(|_| "\"tls.key\" is not a private key in PEM")?;
    let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&private)
        .map_err(|_| "\"tls.key\" is of a kind that TLS does not use")?;
    let certified = rustls::sign::CertifiedKey::new(vec![first.clone()], signing);
    if certified.keys_match() == Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) {
        return Err("\"tls.key\" is not the key of \"tls.crt\"".to_owned());
    }
    Ok(Read {
        id: identify(chain, key),
        names: names(&parsed),
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
    })
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.iter().flat_map(|extension| &extension.value.general_names);
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_lowercase()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(chain: &str, key: &str) -> Secret {
        let data = [("tls.crt", chain), ("tls.key", key)];
        let data = data.map(|(name, text)| (name.to_owned(), ByteString(text.as_bytes().to_vec())));
        Secret { data: Some(data.into()), ..Secret::default() }
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_said() {
        let make = || rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let (one, two) = (make(), make());
        let (chain, key) = (one.cert.pem(), one.signing_key.serialize_pem());
        let good = read(&secret(&format!("{chain}{}", two.cert.pem()), &key)).ok().unwrap();
        assert_eq!(good.names, ["a.example"]);
        let torn = format!("{chain}-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n");
        let junk = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        let bad = [
            ("", key.as_str()),
            (chain.as_str(), ""),
            ("text", key.as_str()),
            (torn.as_str(), key.as_str()),
            (junk, key.as_str()),
            (chain.as_str(), "text"),
            (chain.as_str(), &two.signing_key.serialize_pem()),
        ];
        let said: Vec<String> = bad.iter().filter_map(|(chain, key)| read(&secret(chain, key)).err()).collect();
        expect![[r#"
            "tls.crt" is empty
            "tls.key" is empty
            "tls.crt" is not certificates in PEM
            "tls.crt" is not certificates in PEM
            "tls.crt" is not an X.509 certificate
            "tls.key" is not a private key in PEM
            "tls.key" is not the key of "tls.crt""#]]
        .assert_eq(&said.join("\n"));
        assert_eq!(said.len(), bad.len());
    }
}
