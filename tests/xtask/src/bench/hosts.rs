//! The ingress with many hosts and many connections: 1000 hosts with a certificate each, and 10 000 clients that keep a
//! connection open and ask nothing.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use skiff_tests::running_box::RunningBox;
use skiff_tests::wait;

use super::{Bench, Figure, process};

const HOSTS: usize = 1000;
const CONNECTIONS: usize = 10_000;
/// Hosts whose first request is timed.
const ASKED: usize = 200;
const PATIENCE: Duration = Duration::from_secs(120);

pub fn run(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let running = bench.start_box()?;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let mut figures = vec![];
    figures.extend(idle_connections(&running)?);
    figures.extend(many_hosts(&running)?);
    Ok(figures)
}

fn proxy(running: &RunningBox) -> anyhow::Result<u32> {
    let dir = running.data_dir().to_string_lossy().into_owned();
    let found = process::find(|_, command| command.contains("ingress-proxy") && command.contains(&dir));
    found.first().copied().context("the proxy does not run")
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Each has asked once: what a browser leaves open behind it.
fn idle_connections(running: &RunningBox) -> anyhow::Result<Vec<Figure>> {
    wait::until("the ingress answers", PATIENCE, || ask(&mut TcpStream::connect(local(running.http_port()))?, "x"))?;
    let pid = proxy(running)?;
    let mut figures = Vec::new();
    let empty = process::usage(pid)?;
    figures.push(Figure::new("proxy without clients (RSS)", "MiB", vec![mebibytes(empty.rss_bytes)]));
    figures.push(Figure::new("proxy without clients (PSS)", "MiB", vec![mebibytes(empty.pss_bytes)]));
    let before = process::usage(pid)?.rss_bytes;
    let mut held = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(local(running.http_port()))?;
        ask(&mut stream, "x")?;
        held.push(stream);
    }
    let each = (process::usage(pid)?.rss_bytes.saturating_sub(before)) as f64 / CONNECTIONS as f64 / 1024.0;
    figures.push(Figure::new("an idle connection of 10 000, plain (RSS)", "KiB", vec![each]));
    ask(held.last_mut().context("connections are held")?, "x").context("a held connection still serves")?;
    drop(held);
    wait::until("the connections are gone", PATIENCE, || connections(running, 10))?;
    let config = Arc::new(trusting());
    let before = process::usage(pid)?.rss_bytes;
    let mut held = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        held.push(encrypted(running, &config, "box.local")?);
    }
    // What the plain ones left behind in the allocator is used again.
    let each = (process::usage(pid)?.rss_bytes.saturating_sub(before)) as f64 / CONNECTIONS as f64 / 1024.0;
    figures.push(Figure::new("an idle connection of 10 000, TLS, after those (RSS)", "KiB", vec![each]));
    figures.push(Figure::new("proxy with 10 000 of TLS (RSS)", "MiB", vec![mebibytes(process::usage(pid)?.rss_bytes)]));
    drop(held);
    wait::until("the connections are gone", PATIENCE, || connections(running, 10))?;
    Ok(figures)
}

fn connections(running: &RunningBox, most: usize) -> anyhow::Result<()> {
    let done = running.skiff(&["ingress", "-o", "json"])?;
    let report: serde_json::Value = serde_json::from_str(&done.stdout).with_context(|| done.stderr.clone())?;
    let open = report["connections"].as_u64().context("connections")?;
    ensure!(open as usize <= most, "{open} connections");
    Ok(())
}

fn many_hosts(running: &RunningBox) -> anyhow::Result<Vec<Figure>> {
    let dir = tempfile::tempdir()?;
    let manifest = dir.path().join("hosts.yaml");
    let started = Instant::now();
    std::fs::write(&manifest, hosts(dir.path())?)?;
    println!("{HOSTS} certificates made in {:.0} s", started.elapsed().as_secs_f64());
    let before = process::usage(proxy(running)?)?;
    let agent = running.agent_pid().context("the agent runs")?;
    let agent_before = process::usage(agent)?;
    let started = Instant::now();
    running.kubectl(&["create", "-f", &manifest.to_string_lossy()])?;
    let applied = started.elapsed();
    let config = Arc::new(trusting());
    let last = format!("h{}.bench.example", HOSTS - 1);
    wait::until("the last host has its certificate", PATIENCE, || serves(running, &config, &last))?;
    let served = started.elapsed();
    let after = process::usage(proxy(running)?)?;
    let agent_after = process::usage(agent)?;

    let mut first: Vec<f64> = Vec::new();
    for n in (0..HOSTS).step_by(HOSTS / ASKED) {
        let before = Instant::now();
        serves(running, &config, &format!("h{n}.bench.example"))?;
        first.push(before.elapsed().as_secs_f64() * 1000.0);
    }
    first.sort_by(f64::total_cmp);
    let changes = (0..5).map(|n| change(running, n)).collect::<anyhow::Result<Vec<f64>>>()?;
    let grown = |after: u64, before: u64| vec![mebibytes(after.saturating_sub(before))];
    Ok(vec![
        Figure::new(format!("{HOSTS} hosts created by kubectl"), "s", vec![applied.as_secs_f64()]),
        Figure::new("  until the last is served with its certificate", "s", vec![served.as_secs_f64()]),
        Figure::new("  one change more: from the API to the proxy", "ms", changes),
        Figure::new("  proxy grew by (RSS)", "MiB", grown(after.rss_bytes, before.rss_bytes)),
        Figure::new("  agent grew by (RSS)", "MiB", grown(agent_after.rss_bytes, agent_before.rss_bytes)),
        Figure::new("  first request to a host, p50", "ms", vec![first[first.len() / 2]]),
        Figure::new("  first request to a host, p99", "ms", vec![first[first.len() * 99 / 100]]),
    ])
}

/// A Secret and an Ingress for each host.
fn hosts(dir: &std::path::Path) -> anyhow::Result<String> {
    let mut text = String::from("apiVersion: v1\nkind: List\nitems:\n");
    for n in 0..HOSTS {
        let host = format!("h{n}.bench.example");
        let certificate = skiff_tests::certificate::Certificate::create(&host, dir)?;
        let indented = |path: &std::path::Path| -> anyhow::Result<String> {
            Ok(std::fs::read_to_string(path)?.lines().map(|line| format!("      {line}\n")).collect())
        };
        let (chain, private) = (indented(&certificate.chain)?, indented(&certificate.key)?);
        write!(
            text,
            "- apiVersion: v1\n  kind: Secret\n  metadata: {{name: h{n}}}\n  type: kubernetes.io/tls\n  stringData:\n    \
             tls.crt: |\n{chain}    tls.key: |\n{private}\
             - apiVersion: networking.k8s.io/v1\n  kind: Ingress\n  metadata: {{name: h{n}}}\n  spec:\n    \
             tls: [{{hosts: [{host}], secretName: h{n}}}]\n    rules:\n    - host: {host}\n      http: {{paths: [{{path: /, \
             pathType: Prefix, backend: {{service: {{name: nobody, port: {{number: 80}}}}}}}}]}}\n"
        )?;
    }
    Ok(text)
}

/// Milliseconds from the end of kubectl until a client sees the change.
fn change(running: &RunningBox, n: usize) -> anyhow::Result<f64> {
    let host = format!("new{n}.bench.example");
    let spec = format!("--rule={host}/*=nobody:80");
    running.kubectl(&["create", "ingress", &format!("new{n}"), "--class=skiff", &spec])?;
    let created = Instant::now();
    wait::until("the new host is known", PATIENCE, || {
        let status = ask(&mut TcpStream::connect(local(running.http_port()))?, &host)?;
        ensure!(status == 503, "the answer was {status}");
        Ok(())
    })?;
    Ok(created.elapsed().as_secs_f64() * 1000.0)
}

/// One request; the status of the answer.
fn ask(stream: &mut (impl Read + Write), host: &str) -> anyhow::Result<u16> {
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 2048];
    while !answer.windows(4).any(|w| w == b"\r\n\r\n") {
        let length = stream.read(&mut part)?;
        ensure!(length > 0, "the connection ended");
        answer.extend(&part[..length]);
    }
    let text = String::from_utf8_lossy(&answer);
    text.get(9..12).and_then(|code| code.parse().ok()).with_context(|| format!("not an answer: {text}"))
}

type Encrypted = StreamOwned<ClientConnection, TcpStream>;

fn encrypted(running: &RunningBox, config: &Arc<ClientConfig>, host: &str) -> anyhow::Result<Encrypted> {
    let name = ServerName::try_from(host.to_owned())?;
    let connection = ClientConnection::new(Arc::clone(config), name)?;
    let mut stream = StreamOwned::new(connection, TcpStream::connect(local(running.https_port()))?);
    ask(&mut stream, host)?;
    Ok(stream)
}

/// Whether the host's own certificate is shown.
fn serves(running: &RunningBox, config: &Arc<ClientConfig>, host: &str) -> anyhow::Result<()> {
    let stream = encrypted(running, config, host)?;
    let shown = stream.conn.peer_certificates().and_then(|c| c.first()).context("a certificate")?;
    ensure!(shown.windows(host.len()).any(|w| w == host.as_bytes()), "another certificate is shown");
    Ok(())
}

fn trusting() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let builder = builder.expect("TLS 1.3 is known").dangerous().with_custom_certificate_verifier(Arc::new(AnyName));
    let mut config = builder.with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config
}

/// Which certificate is shown is looked at afterwards.
#[derive(Debug)]
struct AnyName;

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
