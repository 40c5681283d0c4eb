//! Certificates by request (PKCS #10): what one asks for, and the certificate that comes of it, with the very subject and
//! key of the request.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{KeyPair, SigningKey};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};
use yasna::models::ObjectIdentifier;
use yasna::{DERWriter, Tag};

const ECDSA_WITH_SHA256: &[u64] = &[1, 2, 840, 10045, 4, 3, 2];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
const AUTHORITY_KEY_IDENTIFIER: &[u64] = &[2, 5, 29, 35];
const SUBJECT_ALTERNATIVE_NAME: &[u64] = &[2, 5, 29, 17];

/// Names of usages, and their bits in the extension.
const USAGES: &[(&str, usize)] = &[("digital signature", 0), ("key encipherment", 2)];
const EXTENDED_USAGES: &[(&str, &[u64])] =
    &[("server auth", &[1, 3, 6, 1, 5, 5, 7, 3, 1]), ("client auth", &[1, 3, 6, 1, 5, 5, 7, 3, 2])];

/// A request whose sender has the key, and what it asks for.
#[derive(Debug)]
pub struct CertificateRequest {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub addresses: usize,
    /// Names of other sorts.
    pub others: usize,
    subject: Vec<u8>,
    public_key: Vec<u8>,
    /// The extension's own bytes.
    names: Option<Vec<u8>>,
}

impl CertificateRequest {
    pub fn read(pem: &str) -> Result<Self, String> {
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes());
        let der = der.map_err(|_| "PEM block type must be CERTIFICATE REQUEST".to_owned())?;
        let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err("there is something behind it".to_owned());
        }
        request.verify_signature().map_err(|_| "its signature is not by its key".to_owned())?;
        let info = &request.certification_request_info;
        // What is not read here another may read.
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            value
                .as_str()
                .map(str::to_owned)
                .map_err(|_| "its subject has what is no text in UTF-8 or ASCII".to_owned())
        };
        let mut common_names = info.subject.iter_common_name().map(text).collect::<Result<Vec<_>, _>>()?;
        // Who reads the first and who reads the last would take it for different people.
        if common_names.len() > 1 {
            return Err("it has more than one common name".to_owned());
        }
        let mut read = Self {
            common_name: common_names.pop().unwrap_or_default(),
            organizations: info.subject.iter_organization().map(text).collect::<Result<_, _>>()?,
            dns_names: Vec::new(),
            addresses: 0,
            others: 0,
            subject: info.subject.as_raw().to_vec(),
            public_key: info.subject_pki.raw.to_vec(),
            names: None,
        };
        for attribute in info.iter_attributes() {
            let ParsedCriAttribute::ExtensionRequest(requested) = attribute.parsed_attribute() else { continue };
            for extension in &requested.extensions {
                if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
                    read.names = Some(extension.value.to_vec());
                    names.general_names.iter().for_each(|name| read.count(name));
                }
            }
        }
        Ok(read)
    }

    fn count(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::IPAddress(_) => self.addresses += 1,
            _ => self.others += 1,
        }
    }

    /// Its certificate, in PEM: from now on, for so long, by this CA.
    pub fn signed(&self, usages: &[String], lifetime: Duration, ca_pem: &str, key: &KeyPair) -> Result<String, String> {
        let ca = CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(|error| error.to_string())?;
        let (_, ca) = X509Certificate::from_der(&ca).map_err(|error| error.to_string())?;
        let authority = ca.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
            _ => None,
        });
        let now = Timestamp::now();
        let end = now + jiff::SignedDuration::try_from(lifetime).map_err(|error| error.to_string())?;
        // Not beyond its signer.
        let end = end.min(Timestamp::from_second(ca.validity().not_after.timestamp()).unwrap_or(end));
        let to_be_signed = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_tagged(Tag::context(0), |writer| writer.write_u8(2));
                writer.next().write_bigint_bytes(&serial(), true);
                writer.next().write_sequence(|writer| writer.next().write_oid(&oid(ECDSA_WITH_SHA256)));
                writer.next().write_der(ca.subject().as_raw());
                writer.next().write_sequence(|writer| {
                    writer.next().write_der(&time(now - super::BACKDATE_SHORT));
                    writer.next().write_der(&time(end));
                });
                writer.next().write_der(&self.subject);
                writer.next().write_der(&self.public_key);
                writer.next().write_tagged(Tag::context(3), |writer| {
                    self.write_extensions(writer, usages, authority);
                });
            });
        });
        let signature = key.sign(&to_be_signed).map_err(|error| error.to_string())?;
        let der = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_der(&to_be_signed);
                writer.next().write_sequence(|writer| writer.next().write_oid(&oid(ECDSA_WITH_SHA256)));
                writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
            });
        });
        Ok(super::pem("CERTIFICATE", &der))
    }

    fn write_extensions(&self, writer: DERWriter<'_>, usages: &[String], authority: Option<&[u8]>) {
        let has = |name: &str| usages.iter().any(|usage| usage == name);
        writer.write_sequence(|writer| {
            let constraints = yasna::construct_der(|writer| writer.write_sequence(|_| {}));
            extension(writer.next(), BASIC_CONSTRAINTS, true, &constraints);
            let bits: Vec<usize> = USAGES.iter().filter(|(name, _)| has(name)).map(|(_, bit)| *bit).collect();
            if let Some(last) = bits.iter().max() {
                let byte = bits.iter().fold(0_u8, |byte, bit| byte | 0x80 >> bit);
                let usage = yasna::construct_der(|writer| writer.write_bitvec_bytes(&[byte], last + 1));
                extension(writer.next(), KEY_USAGE, true, &usage);
            }
            let extended: Vec<_> = EXTENDED_USAGES.iter().filter(|(name, _)| has(name)).collect();
            if !extended.is_empty() {
                let usage = yasna::construct_der(|writer| {
                    writer.write_sequence(|writer| {
                        extended.iter().for_each(|(_, usage)| writer.next().write_oid(&oid(usage)));
                    });
                });
                extension(writer.next(), EXTENDED_KEY_USAGE, false, &usage);
            }
            if let Some(id) = authority {
                // The identifier alone, which is the first of its fields.
                let authority = yasna::construct_der(|writer| {
                    writer.write_sequence(|writer| {
                        writer.next().write_tagged_implicit(Tag::context(0), |writer| writer.write_bytes(id));
                    });
                });
                extension(writer.next(), AUTHORITY_KEY_IDENTIFIER, false, &authority);
            }
            if let Some(names) = &self.names {
                extension(writer.next(), SUBJECT_ALTERNATIVE_NAME, false, names);
            }
        });
    }
}

fn oid(parts: &[u64]) -> ObjectIdentifier {
    ObjectIdentifier::from_slice(parts)
}

fn extension(writer: DERWriter<'_>, id: &[u64], is_critical: bool, value: &[u8]) {
    writer.write_sequence(|writer| {
        writer.next().write_oid(&oid(id));
        if is_critical {
            writer.next().write_bool(true);
        }
        writer.next().write_bytes(value);
    });
}

/// Positive, and of nobody else.
fn serial() -> [u8; 16] {
    let mut bytes: [u8; 16] = crate::random::bytes();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    bytes
}

/// As certificates have times: two digits for the years until 2049.
fn time(at: Timestamp) -> Vec<u8> {
    let utc = at.to_zoned(jiff::tz::TimeZone::UTC);
    let (tag, text) = match utc.year() < 2050 {
        true => (0x17, utc.strftime("%y%m%d%H%M%SZ").to_string()),
        false => (0x18, utc.strftime("%Y%m%d%H%M%SZ").to_string()),
    };
    let length = u8::try_from(text.len()).unwrap_or_default();
    [&[tag, length], text.as_bytes()].concat()
}
