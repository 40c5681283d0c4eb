//! `[acme]`: where certificates for public names come from.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::values::DnsName;

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Acme {
    /// Nothing is ordered before the owner has agreed.
    pub agree_to_terms: bool,
    pub directory: String,
    pub email: Option<String>,
    pub challenge: Challenge,
    pub profile: Option<String>,
    /// A PEM file; the system's trust store if absent.
    pub trust_root: Option<PathBuf>,
    pub account_key_id: Option<String>,
    pub account_hmac_key_file: Option<PathBuf>,
    pub fallback: Option<AcmeFallback>,
    pub dns: Option<AcmeDns>,
}

/// A second CA, for when the first does not answer or refuses.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AcmeFallback {
    pub directory: String,
    pub profile: Option<String>,
    pub trust_root: Option<PathBuf>,
    pub account_key_id: Option<String>,
    pub account_hmac_key_file: Option<PathBuf>,
}

/// How DNS challenges are answered: by a server that takes updates, or by a program.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AcmeDns {
    pub server: Option<SocketAddr>,
    pub zone: Option<DnsName>,
    pub tsig_key: Option<DnsName>,
    #[serde(default)]
    pub tsig_algorithm: TsigAlgorithm,
    pub tsig_secret_file: Option<PathBuf>,
    pub hook: Option<PathBuf>,
    #[serde(default)]
    pub propagation_seconds: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Challenge {
    #[serde(rename = "http-01")]
    Http01,
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    #[serde(rename = "dns-01")]
    Dns01,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TsigAlgorithm {
    #[default]
    HmacSha256,
    HmacSha384,
    HmacSha512,
}

impl Default for Acme {
    fn default() -> Self {
        Self {
            agree_to_terms: false,
            directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            email: None,
            challenge: Challenge::Http01,
            profile: None,
            trust_root: None,
            account_key_id: None,
            account_hmac_key_file: None,
            fallback: None,
            dns: None,
        }
    }
}

impl Acme {
    pub(crate) fn check(&self) -> Result<(), String> {
        check_issuer("acme", &self.directory, &self.account_key_id, &self.account_hmac_key_file)?;
        if let Some(fallback) = &self.fallback {
            let (id, key) = (&fallback.account_key_id, &fallback.account_hmac_key_file);
            check_issuer("acme.fallback", &fallback.directory, id, key)?;
        }
        if self.email.as_ref().is_some_and(|mail| !mail.contains('@') || mail.contains([' ', ','])) {
            return Err("acme.email is not one mail address".to_owned());
        }
        match &self.dns {
            None if self.challenge == Challenge::Dns01 => {
                Err("acme.challenge = \"dns-01\" needs [acme.dns] with a server or a hook".to_owned())
            }
            None => Ok(()),
            Some(dns) => dns.check(),
        }
    }
}

impl AcmeDns {
    fn check(&self) -> Result<(), String> {
        match (&self.server, &self.hook) {
            (Some(_), Some(_)) => Err("[acme.dns] has both a server and a hook: keep one".to_owned()),
            (None, None) => Err("[acme.dns] needs a server (and its zone) or a hook".to_owned()),
            (Some(_), None) if self.zone.is_none() => Err("acme.dns.server needs acme.dns.zone".to_owned()),
            (Some(_), None) if self.tsig_key.is_some() != self.tsig_secret_file.is_some() => {
                Err("acme.dns.tsig_key and acme.dns.tsig_secret_file belong together".to_owned())
            }
            (Some(_), None) => Ok(()),
            (None, Some(hook)) if !hook.is_absolute() => Err("acme.dns.hook is not an absolute path".to_owned()),
            (None, Some(_)) => Ok(()),
        }
    }
}

fn check_issuer(place: &str, directory: &str, id: &Option<String>, key: &Option<PathBuf>) -> Result<(), String> {
    if !directory.starts_with("https://") {
        return Err(format!("{place}.directory = \"{directory}\" is not the https:// address of a CA's directory"));
    }
    if id.is_some() != key.is_some() {
        return Err(format!("{place}.account_key_id and {place}.account_hmac_key_file belong together"));
    }
    Ok(())
}
