//! When a certificate is to be renewed, from the certificate itself and what its CA suggests. Pure.

use std::net::IpAddr;

use aws_lc_rs::digest;
use instant_acme::CertificateIdentifier;
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Certificates that live longer than this are warned about at least three days before their end.
const LONG: SignedDuration = SignedDuration::from_hours(9 * 24);
const WARNING_MIN: SignedDuration = SignedDuration::from_hours(3 * 24);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("there is no certificate in it")]
    NoCertificate,
    #[error("its certificate cannot be read")]
    Certificate,
    #[error("its key cannot be read")]
    Key,
    #[error("its key is not the certificate's")]
    OtherKey,
}

/// What is of interest of the first certificate of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// Lower case, sorted.
    pub(crate) names: Vec<String>,
    /// Sorted.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) serial: Vec<u8>,
}

/// When the CA would like the certificate to be renewed (RFC 9773).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
}

impl Leaf {
    /// Reads a chain, and checks that the key is its first certificate's.
    pub(crate) fn read(chain_pem: &[u8], key_pem: &[u8]) -> Result<Self, Unreadable> {
        let certificate = first(chain_pem)?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| Unreadable::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| Unreadable::Key)?;
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(|_| Unreadable::Key)?;
        let public = key.public_key().ok_or(Unreadable::Key)?;
        if public.as_ref() != parsed.public_key().raw {
            return Err(Unreadable::OtherKey);
        }
        let time =
            |t: x509_parser::time::ASN1Time| Timestamp::from_second(t.timestamp()).map_err(|_| Unreadable::Certificate);
        Ok(Self {
            names: names(&parsed),
            addresses: addresses(&parsed),
            not_before: time(parsed.validity().not_before)?,
            not_after: time(parsed.validity().not_after)?,
            serial: parsed.raw_serial().to_vec(),
        })
    }

    fn lifetime(&self) -> SignedDuration {
        self.not_after.duration_since(self.not_before)
    }

    /// The moment to renew at; it may be past. It does not change while the window does not.
    pub(crate) fn renew_at(&self, window: Option<Window>) -> Timestamp {
        let by_lifetime = self.not_before + self.lifetime() * 2 / 3;
        match window.filter(|w| w.start < w.end) {
            // A CA that suggests what leaves no time for retries, or for a warning, is not followed.
            Some(window) => self.within(window).min(self.not_after - self.lifetime() / 4),
            None => by_lifetime,
        }
    }

    /// Spread evenly over the window, so that not everyone comes at once; the serial number is the seed.
    fn within(&self, window: Window) -> Timestamp {
        let hash = digest::digest(&digest::SHA256, &self.serial);
        let seed = hash.as_ref().iter().take(4).fold(0_i64, |seed, byte| seed << 8 | i64::from(*byte));
        let length = i128::from(window.end.duration_since(window.start).as_secs());
        let seconds = (length * i128::from(seed)) >> 32;
        window.start + SignedDuration::from_secs(i64::try_from(seconds).unwrap_or_default())
    }

    /// Whether so little is left that a person should know.
    pub(crate) fn is_expiring(&self, now: Timestamp) -> bool {
        let sixth = self.lifetime() / 6;
        let warning = if self.lifetime() > LONG { sixth.max(WARNING_MIN) } else { sixth };
        now > self.not_after - warning
    }
}

fn first(chain_pem: &[u8]) -> Result<CertificateDer<'static>, Unreadable> {
    let first = CertificateDer::pem_slice_iter(chain_pem).next().ok_or(Unreadable::NoCertificate)?;
    first.map_err(|_| Unreadable::Certificate)
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    alternatives(certificate, |name| match name {
        GeneralName::DNSName(name) => Some(name.to_lowercase()),
        _ => None,
    })
}

fn addresses(certificate: &X509Certificate<'_>) -> Vec<IpAddr> {
    alternatives(certificate, |name| match name {
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(IpAddr::from),
        },
        _ => None,
    })
}

fn alternatives<T: Ord>(certificate: &X509Certificate<'_>, of: impl Fn(&GeneralName<'_>) -> Option<T>) -> Vec<T> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names = extension.iter().flat_map(|extension| &extension.value.general_names);
    let mut found: Vec<T> = names.filter_map(of).collect();
    found.sort();
    found.dedup();
    found
}

/// What a CA calls the certificate (RFC 9773, 4.1), if it is one that a CA can be asked about.
pub(crate) fn identifier(chain_pem: &[u8]) -> Option<CertificateIdentifier<'static>> {
    let certificate = first(chain_pem).ok()?;
    CertificateIdentifier::try_from(&certificate).ok().map(CertificateIdentifier::into_owned)
}

#[cfg(test)]
mod tests;
