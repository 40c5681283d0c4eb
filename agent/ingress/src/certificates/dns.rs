//! Publishes the TXT records that prove names to a CA, and takes exactly those down again.

mod hook;
mod update;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::Dns;

/// Settings that ask for more are cut: an order would not end.
const PROPAGATION_MAX: Duration = Duration::from_secs(3600);

/// A TXT record with one value; others at the same name are not ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Record {
    /// `_acme-challenge.NAME`, without a dot at the end.
    pub(crate) name: String,
    pub(crate) value: String,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no way to publish DNS records is configured, which names like this need")]
    NotConfigured,
    #[error("{0} is not a DNS name")]
    Name(String),
    #[error("{name} is not in the DNS zone {zone} that records are published in")]
    OtherZone { name: String, zone: String },
    #[error("the DNS server {server} cannot be asked: {reason}")]
    Server { server: SocketAddr, reason: String },
    #[error("the DNS server {server} refused to change {zone}: {reason}")]
    Refused { server: SocketAddr, zone: String, reason: String },
    #[error("the DNS server {server} took the record {name} but does not show it")]
    NotShown { server: SocketAddr, name: String },
    #[error("the program {program} for DNS records failed: {reason}")]
    Hook { program: PathBuf, reason: String },
}

impl Record {
    /// The record that proves `name`, which is not a wildcard.
    pub(crate) fn new(name: &str, value: String) -> Self {
        Self { name: format!("_acme-challenge.{name}"), value }
    }

    /// The inverse of Display.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (name, value) = line.split_once(' ')?;
        Some(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.value)
    }
}

/// Returns once the records are shown by the server that took them, and its secondaries had their time.
pub(crate) async fn publish(dns: Option<&Dns>, records: &[Record]) -> Result<(), Error> {
    let propagation = match dns.ok_or(Error::NotConfigured)? {
        Dns::Update { server, zone, key, propagation_seconds } => {
            let server = update::Server { address: *server, zone, key: key.as_ref() };
            server.add(records).await?;
            server.await_shown(records).await?;
            *propagation_seconds
        }
        Dns::Hook { program, propagation_seconds } => {
            for record in records {
                hook::run(program, "present", record).await?;
            }
            *propagation_seconds
        }
    };
    tokio::time::sleep(Duration::from_secs(propagation).min(PROPAGATION_MAX)).await;
    Ok(())
}

/// Taking down what is not there succeeds.
pub(crate) async fn remove(dns: Option<&Dns>, records: &[Record]) -> Result<(), Error> {
    match dns.ok_or(Error::NotConfigured)? {
        Dns::Update { server, zone, key, .. } => {
            update::Server { address: *server, zone, key: key.as_ref() }.remove(records).await
        }
        Dns::Hook { program, .. } => {
            for record in records {
                hook::run(program, "cleanup", record).await?;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
