//! The agent's side of the proxy: finds the one that runs or starts one, and tells it what to serve.
//!
//! The agent keeps the listening sockets too, so that connections wait in their queues when the proxy has to be started
//! again. A proxy of another build or configuration is replaced: the new one tells the old one to finish once it serves.

use std::collections::{HashMap, HashSet};
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::config::{Config, ProxyConfig};
use crate::control::{self, Hello, LINE_BYTES_MAX, Reply, Request, Status};
use crate::table::{Certificate, CertificateId, Table};

/// Connections that wait until they are accepted; the kernel bounds it by `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
const START_MAX: Duration = Duration::from_secs(10);
const START_POLL: Duration = Duration::from_millis(5);
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Certificates that are sent in one message.
const CERTIFICATES_AT_ONCE: usize = 100;

/// A conversation with a proxy.
pub struct Connection {
    stream: BufReader<UnixStream>,
    hello: Hello,
}

impl Connection {
    pub async fn open(path: &std::path::Path) -> Result<Self> {
        let mut stream = BufReader::new(UnixStream::connect(path).await?);
        match ask(&mut stream, &Request::Hello).await? {
            Reply::Hello(hello) => Ok(Self { stream, hello: *hello }),
            Reply::Done | Reply::Status(_) | Reply::Refused(_) => Err(unexpected()),
        }
    }

    async fn ask(&mut self, request: &Request) -> Result<Reply> {
        ask(&mut self.stream, request).await
    }

    async fn tell(&mut self, request: &Request) -> Result<()> {
        match self.ask(request).await? {
            Reply::Done => Ok(()),
            Reply::Refused(why) => Err(Error::new(ErrorKind::InvalidData, why)),
            Reply::Hello(_) | Reply::Status(_) => Err(unexpected()),
        }
    }

    pub async fn status(&mut self) -> Result<Status> {
        match self.ask(&Request::Status).await? {
            Reply::Status(status) => Ok(status),
            Reply::Done | Reply::Hello(_) | Reply::Refused(_) => Err(unexpected()),
        }
    }

    pub async fn stop(&mut self) -> Result<()> {
        self.tell(&Request::Stop).await
    }

    /// The process that answers.
    pub fn process(&self) -> u32 {
        self.hello.process
    }

    async fn sockets(&mut self) -> Result<Vec<OwnedFd>> {
        let stream = self.stream.get_mut();
        stream.write_all(&Request::Sockets.line()?).await?;
        let receive = stream.async_io(Interest::READABLE, || {
            control::receive_sockets(stream.as_raw_fd()).map_err(std::io::Error::from)
        });
        tokio::time::timeout(ANSWER_MAX, receive).await.map_err(|_| Error::from(ErrorKind::TimedOut))?
    }
}

async fn ask(stream: &mut BufReader<UnixStream>, request: &Request) -> Result<Reply> {
    let text = request.line()?;
    let exchange = async {
        stream.get_mut().write_all(&text).await?;
        let mut line = Vec::new();
        stream.take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&line)?)
    };
    tokio::time::timeout(ANSWER_MAX, exchange).await.map_err(|_| Error::from(ErrorKind::TimedOut))?
}

fn unexpected() -> Error {
    Error::new(ErrorKind::InvalidData, "the proxy gave another answer than was asked for")
}

/// What the proxy is to serve.
pub struct Content<'a> {
    pub table: &'a Table,
    pub certificate: &'a (dyn Fn(&CertificateId) -> Option<Certificate> + Sync),
}

pub struct Front {
    config: Config,
    connection: Option<Connection>,
    sockets: Vec<OwnedFd>,
    /// Of a proxy that ran before.
    inherited: HashMap<SocketAddr, OwnedFd>,
    has: HashSet<CertificateId>,
    last: Option<Table>,
    /// Whether the proxy of `connection` has gone. Its end may be seen on one connection before it is on another.
    gone: Arc<AtomicBool>,
    /// Raised when the proxy has gone.
    lost: watch::Sender<u64>,
}

impl Front {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            connection: None,
            sockets: Vec::new(),
            inherited: HashMap::new(),
            has: HashSet::new(),
            last: None,
            gone: Arc::default(),
            lost: watch::Sender::new(0),
        }
    }

    /// Changes when the proxy has gone.
    pub fn losses(&self) -> watch::Receiver<u64> {
        self.lost.subscribe()
    }

    /// Makes the proxy serve this. A failure leaves what was served before.
    pub async fn serve(&mut self, content: &Content<'_>) -> Result<()> {
        let result = self.try_serve(content).await;
        if result.is_err() {
            // Whatever state the conversation is in: the next one starts anew.
            self.connection = None;
        }
        result
    }

    async fn try_serve(&mut self, content: &Content<'_>) -> Result<()> {
        if self.gone.load(Ordering::Relaxed) || self.connection.is_none() {
            self.connect().await?;
        }
        let connection = self.connection.as_mut().ok_or_else(unexpected)?;
        if self.last.as_ref() != Some(content.table) {
            let table = content.table;
            let named =
                table.certificates.values().chain(table.alpn_answers.values()).chain(&table.default_certificate);
            let named: HashSet<CertificateId> = named.cloned().collect();
            let missing: Vec<_> = named.difference(&self.has).filter_map(|id| (content.certificate)(id)).collect();
            for part in missing.chunks(CERTIFICATES_AT_ONCE) {
                match connection.tell(&Request::Certificates(part.to_vec())).await {
                    // One that cannot be used must not keep the others from being served.
                    Err(error) if error.kind() == ErrorKind::InvalidData => {
                        tracing::error!(%error, "the proxy cannot use a certificate");
                    }
                    told => told?,
                }
            }
            connection.tell(&Request::Table(Box::new(table.clone()))).await?;
            self.has = named;
            self.last = Some(table.clone());
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<()> {
        self.connection = None;
        self.last = None;
        self.has.clear();
        let mut before = None;
        if let Ok(mut running) = Connection::open(&self.config.control_socket).await {
            // Those of addresses that are still wanted are used again: a connection in their queues is not lost.
            let held = running.sockets().await?;
            self.inherited = addresses(&running.hello.config).zip(held).collect();
            if running.hello.config == self.config.proxy && running.hello.build == control::build_id() {
                tracing::info!(process = running.process(), "proxy adopted");
                self.sockets = self.open_sockets()?;
                return self.adopt(running);
            }
            before = Some(running.process());
        }
        if self.sockets.is_empty() {
            self.sockets = self.open_sockets()?;
        }
        self.start(before).await
    }

    fn adopt(&mut self, connection: Connection) -> Result<()> {
        self.has = connection.hello.certificates.iter().cloned().collect();
        self.connection = Some(connection);
        self.gone = Arc::default();
        let (path, gone, lost) = (self.config.control_socket.clone(), Arc::clone(&self.gone), self.lost.clone());
        tokio::spawn(async move {
            if let Ok(mut stream) = UnixStream::connect(&path).await {
                let _ = stream.read_u8().await;
            }
            gone.store(true, Ordering::Relaxed);
            lost.send_modify(|count| *count += 1);
        });
        Ok(())
    }

    fn open_sockets(&mut self) -> Result<Vec<OwnedFd>> {
        let wanted: Vec<SocketAddr> = addresses(&self.config.proxy).collect();
        let open = |address: SocketAddr| match self.inherited.remove(&address) {
            Some(socket) => Ok(socket),
            None => open_socket(address),
        };
        let opened = wanted.into_iter().map(open).collect();
        self.inherited.clear();
        opened
    }

    /// Starts a proxy; `before` is one that it replaces.
    async fn start(&mut self, before: Option<u32>) -> Result<()> {
        let config = serde_json::to_string(&self.config.proxy)?;
        if let Some(dir) = self.config.control_socket.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let mut command = Command::new(&self.config.program);
        command.args(&self.config.proxy_arguments);
        command.arg("--control").arg(&self.config.control_socket).arg("--config").arg(config);
        // A group of its own: Ctrl-C is for the agent.
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).process_group(0);
        let mut child = tokio::process::Command::from(command).kill_on_drop(false).spawn()?;
        control::send_sockets(ours.as_raw_fd(), &control::raw(&self.sockets))?;
        let deadline = tokio::time::Instant::now() + START_MAX;
        let connection = loop {
            if let Ok(connection) = Connection::open(&self.config.control_socket).await
                && Some(connection.process()) != before
            {
                break connection;
            }
            if let Some(status) = child.try_wait()? {
                return Err(Error::other(format!("the proxy ended at its start: {status}")));
            }
            if tokio::time::Instant::now() > deadline {
                let _ = child.start_kill();
                return Err(Error::new(ErrorKind::TimedOut, "the proxy did not start in time"));
            }
            tokio::time::sleep(START_POLL).await;
        };
        tracing::info!(process = connection.process(), "proxy started");
        // Waited for so that it does not stay a zombie.
        tokio::spawn(async move {
            let _ = child.wait().await;
        });
        self.adopt(connection)
    }
}

/// In the order in which sockets are handed over.
fn addresses(config: &ProxyConfig) -> impl Iterator<Item = SocketAddr> {
    config.http.iter().chain(&config.https).chain(&config.metrics).copied()
}

/// A listening socket; one of IPv6 is for IPv6 only, so that both families can be listened to.
fn open_socket(address: SocketAddr) -> Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let named = |error: nix::Error| {
        let hint = if error == nix::Error::EADDRINUSE { ": does another program use the port?" } else { "" };
        Error::other(format!("cannot listen on {address}: {}{hint}", error.desc()))
    };
    let file = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).map_err(named)?;
    setsockopt(&file, sockopt::ReuseAddr, &true).map_err(named)?;
    if address.is_ipv6() {
        setsockopt(&file, sockopt::Ipv6V6Only, &true).map_err(named)?;
    }
    bind(file.as_raw_fd(), &SockaddrStorage::from(address)).map_err(named)?;
    listen(&file, Backlog::new(BACKLOG).map_err(named)?).map_err(named)?;
    Ok(file)
}
