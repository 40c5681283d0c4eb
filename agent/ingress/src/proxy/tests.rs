//! The proxy as clients meet it: real sockets, backends of a few lines, no agent.

mod auth;
mod backend;
mod limits;
mod passing;
mod paths;
mod retries;
mod slow;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::{Proxy, Sockets, control};
use crate::annotations;
use crate::config::{AccessLog, ProxyConfig};
use crate::table::{Backend, Host, Options, Path, PathKind, Protocol, Table};

const SOON: Duration = Duration::from_secs(10);

/// A proxy in this process, on a free port of loopback.
pub struct Running {
    proxy: Arc<Proxy>,
    pub http: SocketAddr,
    pub https: SocketAddr,
}

impl Running {
    pub fn start(table: Table) -> Self {
        Self::with(table, |_| {})
    }

    pub fn with(table: Table, change: impl FnOnce(&mut ProxyConfig)) -> Self {
        let listeners: Vec<TcpListener> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let (http, https) = (listeners[0].local_addr().unwrap(), listeners[1].local_addr().unwrap());
        let mut config = ProxyConfig {
            http: vec![http],
            https: vec![https],
            metrics: None,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            access_log: AccessLog::Off,
            connections_max: 1000,
            body_bytes_max: 1 << 30,
            threads: 1,
        };
        change(&mut config);
        let sockets = Sockets::new(&config, listeners.into_iter().map(OwnedFd::from).collect()).unwrap();
        let proxy = Proxy::build(config, sockets, "test".to_owned()).unwrap();
        control::apply(&proxy, table);
        let accepting = Arc::clone(&proxy);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                accepting.accept_all().unwrap();
                accepting.drain.cancelled().await;
            });
        });
        Self { proxy, http, https }
    }

    pub fn apply(&self, table: Table) {
        control::apply(&self.proxy, table);
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream
    }

    /// Sends a request as it is and reads until the connection ends.
    pub fn raw(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub fn get(&self, path: &str) -> String {
        self.raw(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n").as_bytes())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.proxy.drain.cancel();
    }
}

pub fn options() -> Options {
    annotations::defaults(1 << 20)
}

/// Everything of `a.example` to these endpoints.
pub fn table(endpoints: &[SocketAddr], options: Options) -> Table {
    let path = Path {
        kind: PathKind::Prefix,
        path: "/".to_owned(),
        backend: Some(0),
        options: 0,
        ingress: "default/test".to_owned(),
    };
    let host = Host { name: "a.example".to_owned(), tls: false, trusted: false, paths: vec![path] };
    let backend =
        Backend { name: "default/test:80".to_owned(), protocol: Protocol::Http1, endpoints: endpoints.to_vec() };
    Table { hosts: vec![host], backends: vec![backend], options: vec![options], ..Table::default() }
}

#[track_caller]
pub fn status(answer: &str) -> u16 {
    let code = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
    code.unwrap_or_else(|| panic!("not an answer: {answer:?}"))
}
