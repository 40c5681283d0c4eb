//! The programs that put load on a proxy, and reading what they print.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use skiff_tests::command;

/// What came of it. Times are milliseconds.
pub struct Load {
    pub requests: f64,
    /// A second.
    pub rate: f64,
    pub p50: f64,
    pub p99: f64,
}

#[derive(Clone, Copy)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// Where the proxy listens, under which name, and the certificate it has.
pub struct Site<'a> {
    pub address: SocketAddr,
    pub host: &'a str,
    pub scheme: Scheme,
    pub path: &'a str,
    pub chain: &'a Path,
}

impl Site<'_> {
    fn url(&self) -> String {
        format!("{}://{}:{}{}", self.scheme.as_str(), self.host, self.address.port(), self.path)
    }
}

/// HTTP/1.1 with keep-alive over 64 connections.
pub fn wrk(site: &Site<'_>, duration: Duration) -> anyhow::Result<Load> {
    // wrk takes the server's name from the URL and looks it up: in a mount namespace of its own, the name is known.
    let hosts = tempfile::NamedTempFile::new()?;
    std::fs::write(hosts.path(), format!("{} {}\n", site.address.ip(), site.host))?;
    let script = "mount --bind \"$0\" /etc/hosts && exec wrk \"$@\"";
    let (hosts, seconds) = (hosts.path().to_string_lossy(), format!("{}s", duration.as_secs()));
    let arguments = ["--mount", "sh", "-c", script, &hosts, "-t1", "-c64", "--latency", "-d", &seconds, &site.url()];
    let text = command::run("unshare", arguments)?;
    ensure!(!text.contains("Non-2xx"), "wrk: {text}");
    let value = |name: &str| {
        let line = text.lines().map(str::trim).find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim().to_owned()).with_context(|| format!("wrk printed no {name}: {text}"))
    };
    let requests = text.lines().find_map(|line| line.split_once(" requests in ")).context("wrk printed no sum")?;
    let requests: f64 = requests.0.trim().parse()?;
    // A noisy machine may cost a few; a proxy that drops connections is not compared.
    let errors = text.lines().find(|line| line.contains("Socket errors")).unwrap_or_default();
    let errors: f64 = errors.split([' ', ',']).filter_map(|word| word.parse::<f64>().ok()).sum();
    ensure!(errors <= requests / 1000.0, "wrk: {text}");
    Ok(Load {
        requests,
        rate: value("Requests/sec:")?.parse()?,
        p50: milliseconds(&value("50%")?)?,
        p99: milliseconds(&value("99%")?)?,
    })
}

/// `17.30us`, `1.50ms`, `2.00s`.
fn milliseconds(text: &str) -> anyhow::Result<f64> {
    let (number, factor) = match (text.strip_suffix("us"), text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _, _) => (number, 0.001),
        (None, Some(number), _) => (number, 1.0),
        (None, None, Some(number)) => (number, 1000.0),
        (None, None, None) => anyhow::bail!("{text:?} is no time"),
    };
    Ok(number.parse::<f64>()? * factor)
}

/// HTTP/2 over TLS: 8 connections with 16 streams each.
pub fn h2load(site: &Site<'_>, duration: Duration) -> anyhow::Result<Load> {
    let log = tempfile::NamedTempFile::new()?;
    let (seconds, connect) = (duration.as_secs().to_string(), site.address.to_string());
    let (log_argument, connect) = (format!("--log-file={}", log.path().display()), format!("--connect-to={connect}"));
    let arguments = ["-c8", "-m16", "-t1", "-D", &seconds, &log_argument, &connect, &site.url()];
    let text = command::run("h2load", arguments)?;
    ensure!(text.contains("Application protocol: h2"), "h2load: {text}");
    // A line for each request: its start, the status, and microseconds.
    let lines = std::fs::read_to_string(log.path())?;
    let mut times = Vec::new();
    for line in lines.lines() {
        let mut fields = line.split_whitespace().skip(1);
        let (status, time) = (fields.next(), fields.next().and_then(|t| t.parse::<f64>().ok()));
        ensure!(status == Some("200"), "h2load: {line}: {text}");
        times.extend(time.map(|microseconds| microseconds / 1000.0));
    }
    let requests = times.len() as f64;
    let (p50, p99) = percentiles(times)?;
    Ok(Load { requests, rate: requests / duration.as_secs_f64(), p50, p99 })
}

/// Bytes a second of one large answer.
pub fn curl(site: &Site<'_>, bytes: u64) -> anyhow::Result<f64> {
    let resolve = format!("{}:{}:{}", site.host, site.address.port(), site.address.ip());
    let (chain, url) = (site.chain.to_string_lossy(), site.url());
    let options = ["--silent", "--show-error", "--http1.1", "--max-time", "120", "--output", "/dev/null"];
    let format = "%{http_code} %{size_download} %{speed_download}";
    let more = ["--cacert", &chain, "--resolve", &resolve, "--write-out", format, &url];
    let text = command::run("curl", options.iter().chain(&more))?;
    let fields: Vec<&str> = text.split_whitespace().collect();
    match fields[..] {
        ["200", size, speed] if size.parse::<u64>()? == bytes => Ok(speed.parse()?),
        _ => anyhow::bail!("curl: {text}"),
    }
}

/// The median and the 99th of a hundred.
pub fn percentiles(mut times: Vec<f64>) -> anyhow::Result<(f64, f64)> {
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times.get(times.len() * share / 100).copied().context("nothing was answered");
    Ok((at(50)?, at(99)?))
}
