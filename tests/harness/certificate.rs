//! Certificates for a test's hosts, made with OpenSSL: ECDSA P-256, their own issuers or of a CA that the test makes.

use std::path::{Path, PathBuf};

use crate::command;

/// Two PEM files in a directory of the caller's.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl Certificate {
    pub fn create(host: &str, dir: &Path) -> anyhow::Result<Self> {
        Self::of_host(host, dir, &[])
    }

    /// Issues one; its files have the names of those that [`Certificate::create`] makes.
    pub fn issue(&self, host: &str, dir: &Path) -> anyhow::Result<Self> {
        let (chain, key) = (self.chain.to_string_lossy(), self.key.to_string_lossy());
        Self::of_host(host, dir, &["-CA", &chain, "-CAkey", &key])
    }

    /// A CA.
    pub fn authority(name: &str, dir: &Path) -> anyhow::Result<Self> {
        let made = Self { chain: dir.join("ca.crt"), key: dir.join("ca.key") };
        made.write(name, &["-addext", "basicConstraints=critical,CA:TRUE"])
    }

    fn of_host(host: &str, dir: &Path, issuer: &[&str]) -> anyhow::Result<Self> {
        let made = Self { chain: dir.join("tls.crt"), key: dir.join("tls.key") };
        let names = format!("subjectAltName=DNS:{host}");
        // A client that is told to trust it still refuses a CA as a server.
        let extensions = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", &names];
        made.write(host, &[&extensions, issuer].concat())
    }

    fn write(self, name: &str, more: &[&str]) -> anyhow::Result<Self> {
        let subject = format!("/CN={name}");
        let (chain, key) = (self.chain.to_string_lossy(), self.key.to_string_lossy());
        let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];
        let files = ["-subj", &subject, "-out", &chain, "-keyout", &key];
        command::run("openssl", new.iter().chain(more).chain(&files))?;
        Ok(self)
    }
}
