//! A certificate for a test's host, made with OpenSSL: ECDSA P-256, its own issuer.

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
        let made = Self { chain: dir.join("tls.crt"), key: dir.join("tls.key") };
        let (subject, names) = (format!("/CN={host}"), format!("subjectAltName=DNS:{host}"));
        let (chain, key) = (made.chain.to_string_lossy(), made.key.to_string_lossy());
        let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];
        // A client that is told to trust it still refuses a CA as a server.
        let extensions = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", &names];
        let files = ["-subj", &subject, "-out", &chain, "-keyout", &key];
        command::run("openssl", new.iter().chain(&extensions).chain(&files))?;
        Ok(made)
    }
}
