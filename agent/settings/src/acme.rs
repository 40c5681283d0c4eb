//! `[acme]`: where certificates for public names come from.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::values::DnsName;
use crate::{Conflict, HmacKey, TsigSecret};

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
    /// The key itself, or the file that holds it.
    pub account_hmac_key: Option<HmacKey>,
    pub account_hmac_key_file: Option<PathBuf>,
    pub fallback: Option<AcmeFallback>,
    pub dns: Option<AcmeDns>,
}

/// A second CA, for when the first does not answer or refuses.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AcmeFallback {
    /// Required; its absence is said by the check.
    #[serde(default)]
    pub directory: String,
    pub profile: Option<String>,
    pub trust_root: Option<PathBuf>,
    pub account_key_id: Option<String>,
    /// The key itself, or the file that holds it.
    pub account_hmac_key: Option<HmacKey>,
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
    /// The secret itself, or the file that holds it.
    pub tsig_secret: Option<TsigSecret>,
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
            account_hmac_key: None,
            account_hmac_key_file: None,
            fallback: None,
            dns: None,
        }
    }
}

impl Acme {
    pub(crate) fn check(&self, found: &mut Vec<Conflict>) {
        self.issuer().check(found);
        if let Some(fallback) = &self.fallback {
            fallback.issuer().check(found);
        }
        if self.email.as_ref().is_some_and(|mail| !mail.contains('@') || mail.contains([' ', ','])) {
            found.push(Conflict::new(&["acme.email"], "acme.email is not one mail address"));
        }
        match &self.dns {
            None if self.challenge == Challenge::Dns01 => found.push(Conflict::new(
                &["acme.challenge"],
                "acme.challenge = \"dns-01\" needs [acme.dns] with a server or a hook",
            )),
            None => {}
            Some(dns) => found.extend(dns.conflict()),
        }
    }

    fn issuer(&self) -> Issuer<'_> {
        Issuer {
            keys: ["acme.directory", "acme.account_key_id", "acme.account_hmac_key", "acme.account_hmac_key_file"],
            directory: &self.directory,
            has_id: self.account_key_id.is_some(),
            has_key: self.account_hmac_key.is_some(),
            has_key_file: self.account_hmac_key_file.is_some(),
        }
    }
}

impl AcmeFallback {
    fn issuer(&self) -> Issuer<'_> {
        Issuer {
            keys: [
                "acme.fallback.directory",
                "acme.fallback.account_key_id",
                "acme.fallback.account_hmac_key",
                "acme.fallback.account_hmac_key_file",
            ],
            directory: &self.directory,
            has_id: self.account_key_id.is_some(),
            has_key: self.account_hmac_key.is_some(),
            has_key_file: self.account_hmac_key_file.is_some(),
        }
    }
}

impl AcmeDns {
    fn conflict(&self) -> Option<Conflict> {
        const KEY: &str = "acme.dns.tsig_key";
        const SECRET: &str = "acme.dns.tsig_secret";
        const SECRET_FILE: &str = "acme.dns.tsig_secret_file";
        let has_secret = self.tsig_secret.is_some() || self.tsig_secret_file.is_some();
        match (&self.server, &self.hook) {
            (Some(_), Some(_)) => {
                Some(Conflict::new(&["acme.dns"], "[acme.dns] has both a server and a hook: keep one"))
            }
            (None, None) => Some(Conflict::new(&["acme.dns"], "[acme.dns] needs a server (and its zone) or a hook")),
            (Some(_), None) if self.zone.is_none() => {
                Some(Conflict::new(&["acme.dns"], "acme.dns.server needs acme.dns.zone"))
            }
            (Some(_), None) if self.tsig_secret.is_some() && self.tsig_secret_file.is_some() => {
                Some(Conflict::new(&[SECRET_FILE], format!("{SECRET} and {SECRET_FILE} are both given: keep one")))
            }
            (Some(_), None) if self.tsig_key.is_some() != has_secret => Some(Conflict::new(
                &[KEY, SECRET, SECRET_FILE],
                format!("{KEY} and {SECRET} (or {SECRET_FILE}) belong together"),
            )),
            (Some(_), None) => None,
            (None, Some(hook)) if !hook.is_absolute() => {
                Some(Conflict::new(&["acme.dns"], "acme.dns.hook is not an absolute path"))
            }
            (None, Some(_)) => None,
        }
    }
}

/// What a CA's settings have in common; the keys in the order of the fields.
struct Issuer<'a> {
    keys: [&'static str; 4],
    directory: &'a str,
    has_id: bool,
    has_key: bool,
    has_key_file: bool,
}

impl Issuer<'_> {
    fn check(&self, found: &mut Vec<Conflict>) {
        let [directory, id, key, key_file] = self.keys;
        if !self.directory.starts_with("https://") {
            // A fallback without its directory is none.
            let place = directory.strip_suffix(".directory").filter(|p| *p == "acme.fallback").unwrap_or(directory);
            let message = format!("{directory} = {:?} is not the https:// address of a CA's directory", self.directory);
            found.push(Conflict::new(&[place], message));
        }
        if self.has_key && self.has_key_file {
            found.push(Conflict::new(&[key_file], format!("{key} and {key_file} are both given: keep one")));
        }
        if self.has_id != (self.has_key || self.has_key_file) {
            let message = format!("{id} and {key} (or {key_file}) belong together");
            found.push(Conflict::new(&[id, key, key_file], message));
        }
    }
}
