//! Other proxies in front of a `Recorder`, set up as one would with care: routed by host, forwarding headers replaced.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::addresses;
use crate::certificate::Certificate;
use crate::daemon::Daemon;

use super::HOST;

const READY_MAX: Duration = Duration::from_secs(10);

pub const NGINX: &str = "/usr/sbin/nginx";
pub const HAPROXY: &str = "/usr/sbin/haproxy";

/// A proxy that runs until this is dropped.
pub struct Peer {
    pub http: SocketAddr,
    /// Only with a certificate.
    pub https: SocketAddr,
    _daemon: Daemon,
    _dir: tempfile::TempDir,
}

/// nginx before a backend on this port of the loopback address, if it is installed.
pub fn nginx(backend: u16, certificate: Option<&Certificate>) -> anyhow::Result<Option<Peer>> {
    let Some((http, https, dir)) = prepare(NGINX)? else { return Ok(None) };
    let at = dir.path().display();
    let tls = certificate.map_or_else(String::new, |c| {
        let (chain, key) = (c.chain.display(), c.key.display());
        format!("listen {https} ssl http2 default_server; ssl_certificate {chain}; ssl_certificate_key {key};")
    });
    let listen = if tls.is_empty() { String::new() } else { format!("listen {https} ssl http2;") };
    let config = format!(
        "daemon off;\nmaster_process off;\npid {at}/pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\n  access_log off;\n  client_body_temp_path {at}/body;\n  proxy_temp_path {at}/proxy;\n\
         fastcgi_temp_path {at}/fastcgi;\n  uwsgi_temp_path {at}/uwsgi;\n  scgi_temp_path {at}/scgi;\n\
         upstream backend {{ server 127.0.0.1:{backend} max_fails=0; keepalive 4; }}\n\
         server {{ listen {http} default_server; {tls} return 404; }}\n\
         server {{\n    listen {http}; {listen}\n    {files}\n    server_name {HOST};\n    location / {{\n      proxy_pass http://backend;\n\
         proxy_http_version 1.1;\n      proxy_set_header Host $host;\n      proxy_set_header Connection \"\";\n\
         proxy_set_header X-Forwarded-For $remote_addr;\n      proxy_set_header X-Forwarded-Proto $scheme;\n\
         proxy_set_header X-Forwarded-Host $host;\n      proxy_set_header X-Real-IP $remote_addr;\n    }}\n  }}\n}}\n",
        files = certificate.map_or_else(String::new, |c| {
            format!("ssl_certificate {}; ssl_certificate_key {};", c.chain.display(), c.key.display())
        }),
    );
    let file = dir.path().join("nginx.conf");
    std::fs::write(&file, config)?;
    let mut command = Command::new(NGINX);
    command.arg("-p").arg(dir.path()).arg("-c").arg(&file);
    start(command, http, https, dir).map(Some)
}

/// HAProxy before a backend on this port of the loopback address, if it is installed.
pub fn haproxy(backend: u16, certificate: Option<&Certificate>) -> anyhow::Result<Option<Peer>> {
    let Some((http, https, dir)) = prepare(HAPROXY)? else { return Ok(None) };
    let tls = match certificate {
        None => String::new(),
        Some(c) => {
            let both = dir.path().join("both.pem");
            std::fs::write(&both, [std::fs::read(&c.chain)?, std::fs::read(&c.key)?].concat())?;
            format!("  bind {https} ssl crt {} alpn h2,http/1.1\n", both.display())
        }
    };
    let config = format!(
        "global\n  nbthread 1\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
         frontend front\n  bind {http}\n{tls}  option forwardfor\n\
         http-request del-header X-Forwarded-For\n\
         http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]\n\
         http-request set-header X-Forwarded-Host %[req.hdr(host)]\n  http-request set-header X-Real-IP %[src]\n\
         http-request return status 404 unless {{ hdr(host),field(1,:) -i {HOST} }}\n  default_backend back\n\
         backend back\n  http-reuse always\n  server a 127.0.0.1:{backend}\n"
    );
    let file = dir.path().join("haproxy.cfg");
    std::fs::write(&file, config)?;
    let mut command = Command::new(HAPROXY);
    command.arg("-db").arg("-f").arg(&file);
    start(command, http, https, dir).map(Some)
}

/// Two addresses and a directory, or nothing where the program is missing.
fn prepare(program: &str) -> anyhow::Result<Option<(SocketAddr, SocketAddr, tempfile::TempDir)>> {
    if !Path::new(program).exists() {
        return Ok(None);
    }
    let (http, https) = (addresses::free_port()?, addresses::free_port()?);
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Ok(Some((address(http), address(https), tempfile::Builder::new().prefix("skiff-peer-").tempdir()?)))
}

fn start(command: Command, http: SocketAddr, https: SocketAddr, dir: tempfile::TempDir) -> anyhow::Result<Peer> {
    let mut daemon = Daemon::start(command, dir.path())?;
    daemon.wait_ready(READY_MAX, || Ok(TcpStream::connect(http).map(drop)?))?;
    Ok(Peer { http, https, _daemon: daemon, _dir: dir })
}
