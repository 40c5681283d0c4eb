//! What is kept of an order, as the Secret that holds it. It alone writes such Secrets' content.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::annotations::PREFIX;
use crate::certificates::dns::Record;
use crate::certificates::wanted::{MANAGED_BY, Wanted};
use crate::config::Issuer;

pub(crate) const TYPE: &str = "ingress.skiff.dev/acme-order";
/// Failures in a row before the next issuer is asked.
const FAILURES_PER_ISSUER: u32 = 3;
const DELAY_MIN: SignedDuration = SignedDuration::from_mins(1);
const DELAY_MAX: SignedDuration = SignedDuration::from_hours(24);

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) names: Vec<String>,
    /// The directory of the CA that the order is, or will be, placed at.
    pub(crate) issuer: String,
    pub(crate) url: Option<String>,
    pub(crate) key_pem: String,
    /// In a row.
    pub(crate) failures: u32,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) last_error: Option<String>,
    /// DNS records that were published, or were about to be.
    pub(crate) records: Vec<Record>,
}

impl State {
    /// Reads what `to_data` wrote; `None` if it is something else.
    pub(crate) fn read(secret: &Secret) -> Option<Self> {
        if secret.type_.as_deref() != Some(TYPE) {
            return None;
        }
        let data = secret.data.as_ref()?;
        let text = |key: &str| data.get(key).and_then(|v| std::str::from_utf8(&v.0).ok()).filter(|v| !v.is_empty());
        let lines = |key: &str| text(key).map(|v| v.lines().map(str::to_owned).collect::<Vec<_>>());
        Some(Self {
            names: lines("names")?,
            issuer: text("issuer")?.to_owned(),
            url: text("order").map(str::to_owned),
            key_pem: text("tls.key")?.to_owned(),
            failures: text("failures").and_then(|v| v.parse().ok()).unwrap_or(0),
            not_before: text("not-before").and_then(|v| v.parse().ok()),
            last_error: text("last-error").map(str::to_owned),
            records: lines("records").iter().flatten().filter_map(|line| Record::parse(line)).collect(),
        })
    }

    pub(crate) fn to_data(&self) -> BTreeMap<String, ByteString> {
        let records: Vec<String> = self.records.iter().map(ToString::to_string).collect();
        let mut data = BTreeMap::new();
        let mut put = |key: &str, value: String| {
            if !value.is_empty() {
                data.insert(key.to_owned(), ByteString(value.into_bytes()));
            }
        };
        put("names", self.names.join("\n"));
        put("issuer", self.issuer.clone());
        put("order", self.url.clone().unwrap_or_default());
        put("tls.key", self.key_pem.clone());
        put("failures", self.failures.to_string());
        put("not-before", self.not_before.map(|t| t.to_string()).unwrap_or_default());
        put("last-error", self.last_error.clone().unwrap_or_default());
        put("records", records.join("\n"));
        data
    }

    /// What is left of an order that failed.
    pub(crate) fn failed(mut self, sentence: String, retry_after: Option<Timestamp>, now: Timestamp) -> Self {
        self.failures = self.failures.saturating_add(1);
        let at = now + delay(self.failures);
        self.not_before = Some(retry_after.map_or(at, |asked| asked.max(at)));
        self.last_error = Some(sentence);
        self
    }
}

/// How long to wait after this many failures in a row.
pub(crate) fn delay(failures: u32) -> SignedDuration {
    // Larger powers are above the limit anyway.
    (DELAY_MIN * 2_i32.pow(failures.min(12))).min(DELAY_MAX)
}

/// The issuer to ask after this many failures in a row: the first, then the others in turn.
pub(crate) fn issuer(failures: u32, issuers: &[Issuer]) -> Option<&Issuer> {
    let turn = usize::try_from(failures / FAILURES_PER_ISSUER).unwrap_or(0);
    issuers.get(turn % issuers.len().max(1))
}

/// The Secret of an order for a certificate, without what only the API knows.
pub(crate) fn secret(wanted: &Wanted, state: &State) -> Secret {
    let mut secret = Secret { type_: Some(TYPE.to_owned()), data: Some(state.to_data()), ..Secret::default() };
    secret.metadata.name = Some(name(&wanted.secret));
    secret.metadata.namespace = Some(wanted.namespace.clone());
    secret.labels_mut().insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    secret.annotations_mut().insert(format!("{PREFIX}secret"), wanted.secret.clone());
    secret
}

/// The name of the Secret of the order for what belongs in the Secret `wanted`.
pub(crate) fn name(wanted: &str) -> String {
    format!("acme-order-{}", short_hash(wanted))
}

/// Ten hexadecimal digits: enough to tell apart what one box has.
pub(crate) fn short_hash(text: &str) -> String {
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    hash.as_ref().iter().take(5).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
