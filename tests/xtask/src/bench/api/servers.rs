//! The API servers that are compared: a box, and upstream's with etcd behind it, which is given the box's certificates.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use skiff_tests::daemon::Daemon;
use skiff_tests::running_box::RunningBox;
use skiff_tests::{addresses, command};

use super::super::process::{self, Usage};
use super::client::{Ask, Target};

const ETCD: &str = "/usr/bin/etcd";
const READY_MAX: Duration = Duration::from_secs(60);

/// A server that answers, until this is dropped.
pub struct Server {
    pub name: &'static str,
    pub target: Target,
    processes: Processes,
}

enum Processes {
    Box(u32),
    /// The second one has what the first one asks for.
    Upstream {
        server: Daemon,
        etcd: Daemon,
        _dir: tempfile::TempDir,
    },
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

impl Server {
    pub fn of_box(running: &RunningBox) -> anyhow::Result<Self> {
        let target = Target::new(local(running.api_port()), &running.data_dir().join("pki"))?;
        let pid = running.agent_pid().context("the agent runs")?;
        Ok(Self { name: "skiff", target, processes: Processes::Box(pid) })
    }

    /// With the rights of the box's administrator, and its data on the same disk.
    pub fn upstream(program: &Path, pki: &Path) -> anyhow::Result<Self> {
        ensure!(program.exists(), "{} is not there", program.display());
        let dir = tempfile::tempdir_in(crate::workspace::target())?;
        let etcd_port = addresses::free_port()?;
        let etcd = start_etcd(etcd_port, dir.path())?;
        let address = local(addresses::free_port()?);
        // The box's own key for tokens is of a kind that upstream does not take.
        let key = dir.path().join("tokens.key");
        command::run(
            "openssl",
            ["ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", &key.to_string_lossy()],
        )?;
        let mut server = Daemon::start(upstream(program, address, etcd_port, pki, &key), dir.path())?;
        let target = Target::new(address, pki)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ready = target.clone();
        server.wait_ready(READY_MAX, || {
            runtime.block_on(async { ready.connect().await?.ask(&Ask::get("/readyz")).await }).map(drop)
        })?;
        Ok(Self { name: "upstream", target, processes: Processes::Upstream { server, etcd, _dir: dir } })
    }

    /// Of all that serve.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        let pids = match &self.processes {
            Processes::Box(pid) => vec![*pid],
            Processes::Upstream { server, etcd, .. } => vec![server.pid(), etcd.pid()],
        };
        let mut sum = Usage::default();
        for usage in pids.into_iter().map(process::usage) {
            let usage = usage?;
            sum.rss_bytes += usage.rss_bytes;
            sum.cpu_seconds += usage.cpu_seconds;
        }
        Ok(sum)
    }
}

fn start_etcd(port: u16, dir: &Path) -> anyhow::Result<Daemon> {
    ensure!(Path::new(ETCD).exists(), "{ETCD} is not installed");
    let (client, peer) = (format!("http://{}", local(port)), format!("http://{}", local(addresses::free_port()?)));
    let mut command = Command::new(ETCD);
    command.arg("--data-dir").arg(dir.join("etcd")).arg("--log-level=error");
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", &format!("default={peer}")]);
    let mut etcd = Daemon::start(command, dir)?;
    etcd.wait_ready(READY_MAX, || Ok(TcpStream::connect(local(port)).map(drop)?))?;
    Ok(etcd)
}

fn upstream(program: &Path, address: SocketAddr, etcd_port: u16, pki: &Path, key: &Path) -> Command {
    let mut command = Command::new(program);
    let mut option = |name: &str, value: &dyn std::fmt::Display| {
        command.arg(format!("--{name}={value}"));
    };
    option("etcd-servers", &format!("http://{}", local(etcd_port)));
    option("bind-address", &address.ip());
    option("secure-port", &address.port());
    option("service-account-key-file", &key.display());
    option("service-account-signing-key-file", &key.display());
    option("authorization-mode", &"RBAC");
    option("service-cluster-ip-range", &"10.99.0.0/16");
    option("service-account-issuer", &"https://bench.example");
    for (name, file) in
        [("client-ca-file", "ca.crt"), ("tls-cert-file", "server.crt"), ("tls-private-key-file", "server.key")]
    {
        option(name, &pki.join(file).display());
    }
    command
}
