//! The proxies that are compared, set up alike: two threads, connections to the backend kept open, TLS 1.3, no log.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::ValueEnum;
use skiff_tests::certificate::Certificate;
use skiff_tests::daemon::Daemon;
use skiff_tests::running_box::RunningBox;
use skiff_tests::{addresses, wait};

use super::super::process;
use super::HOST;
use super::backend::Backend;
use super::load::{self, Scheme, Site};

const READY_MAX: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    Skiff,
    Nginx,
    Haproxy,
    Caddy,
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Peer::Skiff => "skiff",
            Peer::Nginx => "nginx",
            Peer::Haproxy => "haproxy",
            Peer::Caddy => "caddy",
        }
    }
}

/// What every proxy is given.
pub struct Setting<'a> {
    pub backend: &'a Backend,
    pub certificate: &'a Certificate,
}

/// A proxy that answers, until this is dropped.
pub struct Running {
    pub peer: Peer,
    pub http: SocketAddr,
    pub https: SocketAddr,
    process: Process,
}

enum Process {
    Program { daemon: Daemon, _dir: tempfile::TempDir },
    Box(Box<RunningBox>),
}

impl Running {
    /// A peer that is a program of its own.
    pub fn start(peer: Peer, program: &str, setting: &Setting<'_>) -> anyhow::Result<Self> {
        ensure!(Path::new(program).exists(), "{program} is not installed");
        let dir = tempfile::Builder::new().prefix("skiff-bench-peer-").tempdir()?;
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (http, https) = (address(addresses::free_port()?), address(addresses::free_port()?));
        let ports = Ports { http: http.port(), https: https.port() };
        let (config, arguments) = match peer {
            Peer::Nginx => (nginx(setting, &ports, dir.path()), &["-p", ".", "-c"][..]),
            Peer::Haproxy => (haproxy(setting, &ports, dir.path())?, &["-db", "-f"][..]),
            Peer::Caddy => (caddy(setting, &ports), &["run", "--adapter", "caddyfile", "--config"][..]),
            Peer::Skiff => anyhow::bail!("a box is started by itself"),
        };
        let file = dir.path().join("peer.conf");
        std::fs::write(&file, config)?;
        let mut command = Command::new(program);
        command.args(arguments).arg(&file).current_dir(dir.path());
        command.env("GOMAXPROCS", "2").env("HOME", dir.path());
        command.env("XDG_DATA_HOME", dir.path()).env("XDG_CONFIG_HOME", dir.path());
        let mut daemon = Daemon::start(command, dir.path())?;
        daemon.wait_ready(READY_MAX, || {
            TcpStream::connect(http)?;
            Ok(TcpStream::connect(https).map(drop)?)
        })?;
        Self { peer, http, https, process: Process::Program { daemon, _dir: dir } }.ready(setting)
    }

    /// A box whose ingress leads to the backend.
    pub fn start_box(running: RunningBox, setting: &Setting<'_>) -> anyhow::Result<Self> {
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (http, https) = (address(running.http_port()), address(running.https_port()));
        let (chain, key) = (setting.certificate.chain.to_string_lossy(), setting.certificate.key.to_string_lossy());
        running.kubectl(&["create", "secret", "tls", "bench", "--cert", &chain, "--key", &key])?;
        running.apply(&manifest(setting.backend))?;
        Self { peer: Peer::Skiff, http, https, process: Process::Box(Box::new(running)) }.ready(setting)
    }

    /// Waits until it leads to the backend over both.
    fn ready(self, setting: &Setting<'_>) -> anyhow::Result<Self> {
        let chain = &setting.certificate.chain;
        for (scheme, address) in [(Scheme::Http, self.http), (Scheme::Https, self.https)] {
            let site = Site { address, host: HOST, scheme, path: "/1k", chain };
            let answer = wait::until("the backend is reached", READY_MAX, || load::curl(&site, 1_000));
            answer.with_context(|| match &self.process {
                Process::Program { .. } => String::new(),
                Process::Box(running) => format!("has this agent an ingress? Its log:\n{}", running.log_tail()),
            })?;
        }
        ensure!(!self.pids().is_empty(), "its proxy is not found");
        Ok(self)
    }

    /// The processes that do its work.
    pub fn pids(&self) -> Vec<u32> {
        match &self.process {
            Process::Program { daemon, .. } => daemon.pids(),
            Process::Box(running) => {
                let agent = running.agent_pid();
                process::find(|pid, command| {
                    let ours =
                        process::parent(pid) == agent || command.contains(&*running.data_dir().to_string_lossy());
                    command.contains("ingress-proxy") && ours
                })
            }
        }
    }
}

struct Ports {
    http: u16,
    https: u16,
}

fn nginx(setting: &Setting<'_>, ports: &Ports, dir: &Path) -> String {
    let (Backend { files, echo, .. }, Certificate { chain, key }) = (setting.backend, setting.certificate);
    let (at, chain, key) = (dir.display(), chain.display(), key.display());
    let Ports { http, https } = ports;
    format!(
        "daemon off;\nuser root;\nworker_processes 2;\npid {at}/pid;\nerror_log stderr crit;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n  access_log off;\n  client_body_temp_path {at}/body;\n  proxy_temp_path {at}/proxy;\n\
         fastcgi_temp_path {at}/fastcgi;\n  uwsgi_temp_path {at}/uwsgi;\n  scgi_temp_path {at}/scgi;\n\
         keepalive_requests 1000000;\n  proxy_max_temp_file_size 0;\n\
         proxy_buffer_size 64k;\n  proxy_buffers 16 64k;\n  proxy_busy_buffers_size 512k;\n\
         upstream files {{ server {files}; keepalive 128; keepalive_requests 1000000; }}\n\
         upstream echo {{ server {echo}; }}\n\
         server {{\n    listen 127.0.0.1:{http} backlog=4096;\n    listen 127.0.0.1:{https} ssl http2 backlog=4096;\n\
         server_name {HOST};\n    ssl_certificate {chain};\n    ssl_certificate_key {key};\n    ssl_protocols TLSv1.3;\n\
         proxy_http_version 1.1;\n    proxy_set_header Host $host;\n\
         proxy_set_header X-Forwarded-For $remote_addr;\n    proxy_set_header X-Forwarded-Proto $scheme;\n\
         location / {{ proxy_pass http://files; proxy_set_header Host $host; proxy_set_header Connection \"\"; }}\n\
         location /ws {{ proxy_pass http://echo; proxy_set_header Upgrade $http_upgrade;\n\
         proxy_set_header Connection upgrade; }}\n  }}\n}}\n"
    )
}

fn haproxy(setting: &Setting<'_>, ports: &Ports, dir: &Path) -> anyhow::Result<String> {
    let (Backend { files, echo, .. }, Certificate { chain, key }) = (setting.backend, setting.certificate);
    let both = dir.join("both.pem");
    std::fs::write(&both, [std::fs::read(chain)?, std::fs::read(key)?].concat())?;
    let Ports { http, https } = ports;
    Ok(format!(
        "global\n  nbthread 2\n  maxconn 4096\n  ssl-default-bind-options ssl-min-ver TLSv1.3\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         timeout tunnel 60s\n\
         frontend front\n  bind 127.0.0.1:{http}\n  bind 127.0.0.1:{https} ssl crt {} alpn h2,http/1.1\n\
         option forwardfor\n  http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]\n\
         use_backend echo if {{ path /ws }}\n  default_backend files\n\
         backend files\n  http-reuse always\n  server a {files}\nbackend echo\n  server a {echo}\n",
        both.display()
    ))
}

fn caddy(setting: &Setting<'_>, ports: &Ports) -> String {
    let (Backend { files, echo, .. }, Certificate { chain, key }) = (setting.backend, setting.certificate);
    let (Ports { http, https }, chain, key) = (ports, chain.display(), key.display());
    let routes = format!(
        "  bind 127.0.0.1\n  reverse_proxy /ws {echo}\n  reverse_proxy {files} {{\n    transport http {{\n\
         keepalive_idle_conns_per_host 128\n    }}\n  }}\n"
    );
    format!(
        "{{\n  admin off\n  auto_https off\n  log {{\n    level ERROR\n  }}\n\
         servers {{\n    protocols h1 h2\n  }}\n}}\n\
         http://{HOST}:{http} {{\n{routes}}}\n\
         https://{HOST}:{https} {{\n  tls {chain} {key} {{\n    protocols tls1.3\n  }}\n{routes}}}\n"
    )
}

/// The backend as Services without a selector, and the Ingress.
fn manifest(backend: &Backend) -> String {
    let service = |name: &str, address: SocketAddr| {
        format!(
            "apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  ports: [{{name: http, port: 80}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-1
  labels: {{kubernetes.io/service-name: {name}}}
addressType: IPv4
ports: [{{name: http, port: {}, protocol: TCP}}]
endpoints:
- {{addresses: [\"{}\"], conditions: {{ready: true}}}}
---
",
            address.port(),
            address.ip()
        )
    };
    let (files, echo) = (service("files", backend.files), service("echo", backend.echo));
    format!(
        "{files}{echo}apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: bench
  annotations: {{ingress.skiff.dev/ssl-redirect: \"false\"}}
spec:
  ingressClassName: skiff
  tls:
  - {{hosts: [{HOST}], secretName: bench}}
  rules:
  - host: {HOST}
    http:
      paths:
      - {{path: /ws, pathType: Exact, backend: {{service: {{name: echo, port: {{number: 80}}}}}}}}
      - {{path: /, pathType: Prefix, backend: {{service: {{name: files, port: {{number: 80}}}}}}}}
"
    )
}
