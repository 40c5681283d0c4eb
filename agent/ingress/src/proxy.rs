//! The proxy: a process of its own that serves clients. It starts as root with its listening sockets given to it, gives
//! up every privilege, and is told what to serve over its control socket. It goes on without the agent.

mod answers;
mod auth;
mod balance;
mod body;
mod certificates;
mod compress;
mod connection;
mod control;
mod forward;
mod handle;
mod io;
pub(crate) mod limits;
mod metrics;
pub(crate) mod path;
pub(crate) mod proxy_protocol;
pub(crate) mod request;
mod routes;
mod tunnel;
mod upstream;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Group, Uid, User, setgid, setgroups, setuid};
use rustls::ServerConfig;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::config::ProxyConfig;
use connection::Entry;
use handle::Shared;
use limits::Networks;
use routes::Routes;

pub use answers::CHECK_PATH;
pub(crate) use limits::is_network;

/// Made by the package and the image. Not `nobody`, whom file servers and other programs are too.
const USER: &str = "skiff-proxy";
/// Where there is no such user: numbers that systemd leaves free between those of home directories and those of dynamic
/// users, <https://systemd.io/UIDS-GIDS/>, and no distribution gives out.
const FREE_IDS: std::ops::RangeInclusive<u32> = 60_578..=61_183;
/// After a failed accept, such as for want of descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// TLS 1.3 session tickets sent to a client: it opens few connections that could use more.
const TICKETS: usize = 1;

#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("the listening sockets did not arrive")]
    Sockets(#[source] nix::Error),
    #[error("{received} listening sockets arrived instead of {expected}")]
    SocketCount { received: usize, expected: usize },
    #[error("cannot control it at {path}")]
    Control {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot give up privileges")]
    Privileges(#[source] nix::Error),
    #[error("cannot start")]
    Start(#[from] std::io::Error),
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// Listening sockets in the order of the configuration.
pub(crate) struct Sockets {
    http: Vec<TcpListener>,
    https: Vec<TcpListener>,
    metrics: Option<TcpListener>,
}

impl Sockets {
    pub(crate) fn new(config: &ProxyConfig, files: Vec<OwnedFd>) -> Result<Self, ProxyError> {
        let expected = config.http.len() + config.https.len() + usize::from(config.metrics.is_some());
        if files.len() != expected {
            return Err(ProxyError::SocketCount { received: files.len(), expected });
        }
        let mut listeners = files.into_iter().map(TcpListener::from);
        let http = listeners.by_ref().take(config.http.len()).collect();
        let https = listeners.by_ref().take(config.https.len()).collect();
        Ok(Self { http, https, metrics: listeners.next() })
    }

    fn all(&self) -> impl Iterator<Item = &TcpListener> {
        self.http.iter().chain(&self.https).chain(&self.metrics)
    }
}

/// Runs until it is told to stop. Standard input is a socket that the listening sockets come through.
pub fn run(control: &Path, config: ProxyConfig) -> Result<(), ProxyError> {
    let files = crate::control::receive_sockets(std::io::stdin().as_raw_fd()).map_err(ProxyError::Sockets)?;
    let sockets = Sockets::new(&config, files)?;
    let predecessor = UnixStream::connect(control).ok();
    let listener = bind_control(control).map_err(|source| ProxyError::Control { path: control.to_owned(), source })?;
    // Before privileges are given up: afterwards the file cannot be looked at.
    let build = crate::control::build_id();
    give_up_privileges().map_err(ProxyError::Privileges)?;
    serve(config, sockets, listener, build, predecessor)
}

/// Replaces the socket of a predecessor at once.
fn bind_control(path: &Path) -> std::io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    let new = path.with_extension("new");
    let _ = std::fs::remove_file(&new);
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

fn give_up_privileges() -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    nix::sys::prctl::set_no_new_privs()?;
    let (user, group) = identity()?;
    setgroups(&[])?;
    setgid(group)?;
    setuid(user)?;
    // The change of user allows it again, so this comes last.
    nix::sys::prctl::set_dumpable(false)
}

/// Whom the proxy runs as: somebody who has no file and no other process.
fn identity() -> nix::Result<(Uid, Gid)> {
    if let Some(user) = User::from_name(USER)?
        && !user.uid.is_root()
        && user.gid.as_raw() != 0
    {
        return Ok((user.uid, user.gid));
    }
    for id in FREE_IDS {
        let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
        if User::from_uid(user)?.is_none() && Group::from_gid(group)?.is_none() {
            return Ok((user, group));
        }
    }
    Err(nix::Error::EUSERS)
}

/// A thread that serves its share of the connections.
struct Worker {
    connections: Arc<AtomicUsize>,
    accepted: mpsc::UnboundedSender<(Accepted, Counted)>,
}

struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    entry: Entry,
}

/// Everything of a running proxy.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    drain: CancellationToken,
    sockets: Sockets,
    build: String,
    store: Mutex<certificates::Store>,
    /// Connections wait until there is something to serve.
    accepts: std::sync::Once,
    /// Told to finish as soon as this one serves: then nothing depends on the agent's seeing it through.
    predecessor: Mutex<Option<UnixStream>>,
}

fn serve(
    config: ProxyConfig,
    sockets: Sockets,
    control: UnixListener,
    build: String,
    predecessor: Option<UnixStream>,
) -> Result<(), ProxyError> {
    let proxy = Proxy::build(config, sockets, build)?;
    *proxy.predecessor.lock().unwrap_or_else(PoisonError::into_inner) = predecessor;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        control::serve(proxy, control).await?;
        Ok(())
    })
}

impl Proxy {
    pub(crate) fn build(config: ProxyConfig, sockets: Sockets, build: String) -> Result<Arc<Self>, ProxyError> {
        let routes: Arc<ArcSwap<Routes>> = Arc::default();
        let threads = match config.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let shared = Arc::new(Shared {
            routes,
            trusted: Networks::parse(&config.trusted_proxies),
            config,
            metrics: metrics::Metrics::default(),
            connections: AtomicUsize::new(0),
            of_clients: limits::Connections::default(),
            draining: false.into(),
        });
        let drain = CancellationToken::new();
        let workers = (0..threads).map(|n| Worker::start(n, &shared)).collect::<Result<_, _>>()?;
        Ok(Arc::new(Self {
            shared,
            workers,
            drain,
            sockets,
            build,
            store: Mutex::default(),
            predecessor: Mutex::default(),
            accepts: std::sync::Once::new(),
        }))
    }

    fn accept_all(self: &Arc<Self>) -> Result<(), ProxyError> {
        let tls = Entry::Tls(TlsAcceptor::from(Arc::new(self.tls()?)));
        let of = |list: &[TcpListener], entry: &Entry| -> std::io::Result<()> {
            for listener in list {
                let listener = listener.try_clone()?;
                listener.set_nonblocking(true)?;
                // SAFETY: a listener owns its descriptor and keeps it for as long as it lives.
                let listener = unsafe { AsyncFd::register(listener)? };
                tokio::spawn(Arc::clone(self).accept(listener, entry.clone()));
            }
            Ok(())
        };
        of(&self.sockets.http, &Entry::Plain)?;
        of(&self.sockets.https, &tls)?;
        if let Some(listener) = &self.sockets.metrics {
            let listener = listener.try_clone()?;
            listener.set_nonblocking(true)?;
            tokio::spawn(control::serve_metrics(Arc::clone(self), tokio::net::TcpListener::from_std(listener)?));
        }
        Ok(())
    }

    /// Serves: whoever did before may finish.
    fn begin(self: &Arc<Self>) -> Result<(), ProxyError> {
        self.accept_all()?;
        let predecessor = self.predecessor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut predecessor) = predecessor {
            let told = crate::control::Request::Drain.line().map_err(std::io::Error::from);
            let told = told.and_then(|line| std::io::Write::write_all(&mut predecessor, &line));
            if let Err(error) = told {
                tracing::warn!(%error, "the proxy before this one was not told to finish");
            }
        }
        Ok(())
    }

    fn tls(&self) -> Result<ServerConfig, ProxyError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let resolver = certificates::Resolver(Arc::clone(&self.shared.routes));
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), certificates::ACME_TLS.to_vec()];
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        config.send_tls13_tickets = TICKETS;
        Ok(config)
    }

    async fn accept(self: Arc<Self>, listener: AsyncFd<TcpListener>, entry: Entry) {
        loop {
            let accepted = tokio::select! {
                accepted = accept_one(&listener) => accepted,
                () = self.drain.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => self.give(Accepted { stream, peer, entry: entry.clone() }),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    /// To the worker with the fewest connections.
    fn give(&self, accepted: Accepted) {
        let least = self.workers.iter().min_by_key(|w| w.connections.load(Ordering::Relaxed));
        let Some((worker, counted)) = least.and_then(|worker| Some((worker, self.count(worker, accepted.peer)?)))
        else {
            self.shared.metrics.refused_connections.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let _ = worker.accepted.send((accepted, counted));
    }

    /// `None`: there are too many, of all or of this client.
    fn count(&self, worker: &Worker, peer: SocketAddr) -> Option<Counted> {
        let shared = &self.shared;
        let limit = shared.config.connections_max as usize;
        if shared.connections.load(Ordering::Relaxed) >= limit {
            return None;
        }
        // A trusted proxy has many clients behind it.
        let client = (!shared.trusted.contains(peer.ip())).then(|| peer.ip());
        if client.is_some_and(|client| !shared.of_clients.open(client, limit)) {
            return None;
        }
        worker.connections.fetch_add(1, Ordering::Relaxed);
        shared.connections.fetch_add(1, Ordering::Relaxed);
        Some(Counted { shared: Arc::clone(shared), of_worker: Arc::clone(&worker.connections), client })
    }
}

async fn accept_one(listener: &AsyncFd<TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    loop {
        let mut ready = listener.readable().await?;
        if let Ok(accepted) = ready.try_io(|listener| listener.get_ref().accept()) {
            let (stream, peer) = accepted?;
            stream.set_nonblocking(true)?;
            return Ok((stream, peer));
        }
    }
}

/// Counts a connection as long as it lives.
struct Counted {
    shared: Arc<Shared>,
    of_worker: Arc<AtomicUsize>,
    client: Option<IpAddr>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        self.of_worker.fetch_sub(1, Ordering::Relaxed);
        if let Some(client) = self.client {
            self.shared.of_clients.close(client);
        }
    }
}

impl Worker {
    fn start(number: usize, shared: &Arc<Shared>) -> std::io::Result<Self> {
        let (sender, mut receiver) = mpsc::unbounded_channel::<(Accepted, Counted)>();
        let connections = Arc::new(AtomicUsize::new(0));
        let shared = Arc::clone(shared);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name(format!("proxy-{number}")).spawn(move || {
            runtime.block_on(async move {
                while let Some((Accepted { stream, peer, entry }, counted)) = receiver.recv().await {
                    let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { continue };
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move {
                        connection::serve(shared, entry, stream, peer).await;
                        drop(counted);
                    });
                }
            });
        })?;
        Ok(Self { connections, accepted: sender })
    }
}
