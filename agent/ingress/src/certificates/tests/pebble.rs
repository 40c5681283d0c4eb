//! Debian's pebble, a CA for tests, on free ports of this machine.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::{Value, json};

use super::answers::Answers;
use super::support::{Process, free_port, wait_for};

const PROGRAM: &str = "/usr/bin/pebble";
const DNS_PROGRAM: &str = "/usr/bin/pebble-challtestsrv";

pub(crate) struct Pebble {
    pub(crate) directory: String,
    pub(crate) trust_root: PathBuf,
    _processes: Vec<Process>,
    _dir: tempfile::TempDir,
}

pub(crate) struct Options {
    /// How many of a hundred good nonces it refuses.
    pub(crate) nonces_refused: u32,
    /// A server that knows the names; one that says 127.0.0.1 for all is started if there is none.
    pub(crate) dns: Option<SocketAddr>,
    /// Customers' accounts that ours must be bound to: key ID and base64url key.
    pub(crate) external: Value,
}

impl Default for Options {
    fn default() -> Self {
        Self { nonces_refused: 5, dns: None, external: json!({}) }
    }
}

impl Pebble {
    /// `None`, with a message, where pebble is not installed.
    pub(crate) async fn start(answers: &Answers, options: Options) -> Option<Self> {
        if !Path::new(PROGRAM).exists() || !Path::new(DNS_PROGRAM).exists() {
            eprintln!("skipped: pebble is not installed");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let trust_root = write_certificates(dir.path());
        let mut processes = Vec::new();
        let dns = options.dns.unwrap_or_else(|| {
            let dns = SocketAddr::from(([127, 0, 0, 1], free_port()));
            let mut command = Command::new(DNS_PROGRAM);
            command.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]);
            command.args(["-dns01", &dns.to_string(), "-management", &format!("127.0.0.1:{}", free_port())]);
            processes.push(Process::start(command));
            dns
        });
        let port = free_port();
        let config = json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{}", free_port()),
            "certificate": dir.path().join("server.pem"),
            "privateKey": dir.path().join("server.key"),
            "httpPort": answers.http.port(),
            "tlsPort": answers.tls.port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": options.external != json!({}),
            "externalAccountMACKeys": options.external,
        }});
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("-config").arg(dir.path().join("config.json")).args(["-dnsserver", &dns.to_string()]);
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0");
        command.env("PEBBLE_WFE_NONCEREJECT", options.nonces_refused.to_string());
        processes.push(Process::start(command));
        wait_for("pebble", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
        let directory = format!("https://127.0.0.1:{port}/dir");
        Some(Self { directory, trust_root, _processes: processes, _dir: dir })
    }
}

/// What a CA's own HTTPS is served with; returns the root that is to be trusted.
pub(crate) fn write_certificates(dir: &Path) -> PathBuf {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = rcgen::CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &root).unwrap();
    std::fs::write(dir.join("server.pem"), leaf.pem()).unwrap();
    std::fs::write(dir.join("server.key"), key.serialize_pem()).unwrap();
    std::fs::write(dir.join("root.pem"), root.pem()).unwrap();
    dir.join("root.pem")
}
