//! A CA that speaks ACME and the zone it looks names up in: Debian's pebble and knotd, on ports of this machine.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use serde_json::json;

use crate::addresses::{LOCALHOST, free_port};
use crate::certificate::Certificate;
use crate::daemon::Daemon;
use crate::{command, wait};

const START_MAX: Duration = Duration::from_secs(20);

/// A public domain, as far as this machine is concerned.
pub const DOMAIN: &str = "skiff-tests.org";
/// At `nowhere` nothing listens on the ports of a box.
const RECORDS: &str = "\
$ORIGIN skiff-tests.org.
$TTL 5
@ SOA ns hostmaster 1 3600 600 86400 5
@ NS ns
ns A 127.0.0.1
* A 127.0.0.1
nowhere AAAA ::1
";
const TSIG_SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// `DOMAIN` on a server that takes dynamic updates.
pub struct Zone {
    pub address: SocketAddr,
    secret_file: PathBuf,
    _process: Daemon,
    _dir: tempfile::TempDir,
}

impl Zone {
    pub fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let (path, port) = (dir.path().display(), free_port()?);
        std::fs::write(dir.path().join("zone"), RECORDS)?;
        std::fs::create_dir(dir.path().join("db"))?;
        let secret_file = dir.path().join("tsig.key");
        std::fs::write(&secret_file, TSIG_SECRET)?;
        let config = format!(
            "server:\n  listen: 127.0.0.1@{port}\n  rundir: {path}\ndatabase:\n  storage: {path}/db\n\
             key:\n- id: skiff\n  algorithm: hmac-sha256\n  secret: {TSIG_SECRET}\n\
             acl:\n- id: update\n  key: skiff\n  action: update\n\
             zone:\n- domain: {DOMAIN}\n  storage: {path}\n  file: zone\n  acl: update\n"
        );
        std::fs::write(dir.path().join("knot.conf"), config)?;
        let mut command = Command::new("/usr/sbin/knotd");
        command.arg("-c").arg(dir.path().join("knot.conf"));
        let mut process = Daemon::start(command, dir.path())?;
        let address = SocketAddr::new(LOCALHOST, port);
        process.wait_ready(START_MAX, || {
            std::net::TcpStream::connect(address)?;
            Ok(())
        })?;
        Ok(Self { address, secret_file, _process: process, _dir: dir })
    }

    /// The settings of a box that may change it.
    fn settings(&self) -> String {
        format!(
            "[acme.dns]\nserver = \"{}\"\nzone = \"{DOMAIN}\"\ntsig_key = \"skiff\"\ntsig_secret_file = \"{}\"\n",
            self.address,
            self.secret_file.display()
        )
    }
}

/// What is particular about a CA.
pub struct Options {
    /// The ports that names are proved at.
    pub http_port: u16,
    pub https_port: u16,
    /// How many of a hundred good nonces it refuses.
    pub nonces_refused: u32,
    /// How long its certificates are valid.
    pub lifetime: Duration,
}

pub struct Ca {
    directory: String,
    management: String,
    certificate: Certificate,
    process: Daemon,
    dir: tempfile::TempDir,
}

impl Ca {
    pub fn start(zone: &Zone, options: &Options) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        // Its own HTTPS: a certificate that vouches for itself.
        let certificate = Certificate::create("localhost", dir.path())?;
        let (port, management) = (free_port()?, free_port()?);
        let config = json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": certificate.chain, "privateKey": certificate.key,
            "httpPort": options.http_port, "tlsPort": options.https_port,
            "ocspResponderURL": "",
            "certificateValidityPeriod": options.lifetime.as_secs(),
        }});
        std::fs::write(dir.path().join("config.json"), config.to_string())?;
        let mut command = Command::new("/usr/bin/pebble");
        command.arg("-config").arg(dir.path().join("config.json")).arg("-dnsserver").arg(zone.address.to_string());
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0");
        command.env("PEBBLE_WFE_NONCEREJECT", options.nonces_refused.to_string());
        let process = Daemon::start(command, dir.path())?;
        let directory = format!("https://localhost:{port}/dir");
        let management = format!("https://localhost:{management}");
        let ca = Self { directory, management, certificate, process, dir };
        let root = wait::until("pebble answers", START_MAX, || ca.ask("/roots/0"))?;
        ensure!(root.contains("BEGIN CERTIFICATE"), "{root}");
        std::fs::write(ca.root(), root)?;
        Ok(ca)
    }

    fn ask(&self, path: &str) -> anyhow::Result<String> {
        let trusted = self.certificate.chain.to_string_lossy();
        command::run("/usr/bin/curl", ["-sS4f", "--cacert", &trusted, &format!("{}{path}", self.management)])
    }

    /// What clients trust.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root.pem")
    }

    /// Does not answer while the work is done; what it is asked meanwhile it answers then.
    pub fn while_silent<T>(&self, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let pid = self.process.pid().to_string();
        command::run("kill", ["-STOP", &pid])?;
        let done = work();
        command::run("kill", ["-CONT", &pid])?;
        done
    }

    fn trust_root(&self) -> &Path {
        &self.certificate.chain
    }

    /// The settings of a box that orders its certificates here.
    pub fn settings(&self, zone: &Zone) -> String {
        format!(
            "[acme]\nagree_to_terms = true\ndirectory = \"{}\"\ntrust_root = \"{}\"\n{}",
            self.directory,
            self.trust_root().display(),
            zone.settings()
        )
    }
}
