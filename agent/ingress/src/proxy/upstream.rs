//! Connections to endpoints: made, kept for the next request, and driven by whoever uses them.
//!
//! Each worker thread has a pool of its own. A connection of HTTP/1 has no task: the request that leases it polls it,
//! so that a request costs no hop between tasks. One of HTTP/2 is shared by all requests of the thread and has a task.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::Context;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::body::RequestBody;
use super::io::Gathering;

/// Shorter than the keep-alive of common servers (5 s): then a request hardly ever meets a connection that is being
/// closed.
const IDLE_MAX: Duration = Duration::from_secs(4);
const SHARED_IDLE_MAX: Duration = Duration::from_secs(60);
const REAP_INTERVAL: Duration = Duration::from_secs(2);
/// Idle connections kept to one endpoint by one thread.
const IDLE_COUNT_MAX: usize = 256;
/// Large enough that a big download takes few reads.
const READ_BYTES_MAX: usize = 256 << 10;
/// HTTP/2 windows: what may be on its way unread, for a stream and for all streams of a connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// A silent HTTP/2 peer is asked for a sign of life, and given up without one.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// A connection of HTTP/1 with nobody's request on it, or with that of its lease.
pub struct Connection {
    sender: http1::SendRequest<RequestBody>,
    /// `None` once the connection has ended.
    driver: Option<Driver>,
}

struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

struct Shared {
    sender: http2::SendRequest<RequestBody>,
    used: Instant,
}

#[derive(Default)]
struct Pool {
    idle: HashMap<SocketAddr, Vec<Idle>>,
    shared: HashMap<SocketAddr, Shared>,
    is_reaped: bool,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// A connection while a request is on it.
pub enum Lease {
    Own { address: SocketAddr, connection: Box<Connection> },
    Shared,
}

impl Connection {
    /// Moves bytes; nothing to do afterwards but wait.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && driver.as_mut().poll(cx).is_ready()
        {
            self.driver = None;
        }
    }

    fn is_usable(&mut self) -> bool {
        let waker = std::task::Waker::noop();
        self.drive(&mut Context::from_waker(waker));
        self.driver.is_some() && self.sender.is_ready()
    }
}

impl Lease {
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        match self {
            Lease::Own { connection, .. } => connection.drive(cx),
            Lease::Shared => {}
        }
    }

    /// The request is over: the next may have the connection.
    pub fn release(self) {
        match self {
            Lease::Own { address, connection } if connection.driver.is_some() => {
                POOL.with_borrow_mut(|pool| pool.keep(address, connection));
            }
            Lease::Own { .. } | Lease::Shared => {}
        }
    }

    /// Leaves the connection to itself, as after it changed its protocol.
    pub fn detach(self) {
        match self {
            Lease::Own { mut connection, .. } => {
                if let Some(driver) = connection.driver.take() {
                    tokio::spawn(async move {
                        let _ = driver.await;
                    });
                }
            }
            Lease::Shared => {}
        }
    }
}

impl Pool {
    fn keep(&mut self, address: SocketAddr, connection: Box<Connection>) {
        let idle = self.idle.entry(address).or_default();
        if idle.len() < IDLE_COUNT_MAX {
            idle.push(Idle { connection, since: Instant::now() });
        }
        self.see_to_reaping();
    }

    fn take(&mut self, address: SocketAddr) -> Option<Box<Connection>> {
        let idle = self.idle.get_mut(&address)?;
        let now = Instant::now();
        while let Some(mut candidate) = idle.pop() {
            if now.duration_since(candidate.since) < IDLE_MAX && candidate.connection.is_usable() {
                return Some(candidate.connection);
            }
        }
        None
    }

    /// A task closes what nobody used, and ends with the last connection: an idle proxy has no timer.
    fn see_to_reaping(&mut self) {
        if std::mem::replace(&mut self.is_reaped, true) {
            return;
        }
        tokio::spawn(async {
            while POOL.with_borrow_mut(Pool::reap) {
                tokio::time::sleep(REAP_INTERVAL).await;
            }
        });
    }

    /// Whether there is more to watch.
    fn reap(&mut self) -> bool {
        let now = Instant::now();
        self.idle.retain(|_, idle| {
            idle.retain(|i| now.duration_since(i.since) < IDLE_MAX);
            !idle.is_empty()
        });
        self.shared.retain(|_, s| !s.sender.is_closed() && now.duration_since(s.used) < SHARED_IDLE_MAX);
        self.is_reaped = !(self.idle.is_empty() && self.shared.is_empty());
        self.is_reaped
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("cannot connect: no answer in time")]
    ConnectTimeout,
    /// The request did not leave: it can go elsewhere.
    #[error("the connection ended before the request was sent: {error}")]
    Unsent { error: hyper::Error },
    #[error("the connection ended before the answer: {error}")]
    NoAnswer { error: hyper::Error },
    #[error("no answer in time")]
    ResponseTimeout,
}

/// An error, and the request where it can be sent again.
pub struct Failed {
    pub error: SendError,
    pub request: Option<Request<RequestBody>>,
    /// The connection had been used before: its end says little about the endpoint.
    pub reused: bool,
}

pub struct Timeouts {
    pub connect: Duration,
    pub response: Duration,
}

async fn connect(address: SocketAddr, limit: Duration) -> Result<TcpStream, SendError> {
    let stream = tokio::time::timeout(limit, TcpStream::connect(address)).await;
    let stream = stream.map_err(|_| SendError::ConnectTimeout)?.map_err(SendError::Connect)?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

fn refused(error: SendError, request: Request<RequestBody>) -> Failed {
    Failed { error, request: Some(request), reused: false }
}

fn failed(mut error: TrySendError<Request<RequestBody>>, reused: bool) -> Failed {
    match error.take_message() {
        Some(request) => {
            Failed { error: SendError::Unsent { error: error.into_error() }, request: Some(request), reused }
        }
        None => Failed { error: SendError::NoAnswer { error: error.into_error() }, request: None, reused },
    }
}

/// Sends a request of HTTP/1 and waits for the answer's head.
pub async fn send(
    address: SocketAddr,
    request: Request<RequestBody>,
    timeouts: &Timeouts,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let kept = POOL.with_borrow_mut(|pool| pool.take(address));
    let reused = kept.is_some();
    let mut connection = match kept {
        Some(connection) => connection,
        None => match open(address, timeouts.connect).await {
            Ok(connection) => connection,
            Err(error) => return Err(refused(error, request)),
        },
    };
    let answer = {
        let mut sent = pin!(connection.sender.try_send_request(request));
        let driver = &mut connection.driver;
        let exchange = std::future::poll_fn(|cx| {
            if let Some(running) = driver.as_mut()
                && running.as_mut().poll(cx).is_ready()
            {
                *driver = None;
            }
            sent.as_mut().poll(cx)
        });
        tokio::time::timeout(timeouts.response, exchange).await
    };
    match answer {
        Ok(Ok(response)) => Ok((response, Lease::Own { address, connection })),
        Ok(Err(error)) => Err(failed(error, reused)),
        Err(_) => Err(Failed { error: SendError::ResponseTimeout, request: None, reused }),
    }
}

async fn open(address: SocketAddr, limit: Duration) -> Result<Box<Connection>, SendError> {
    let stream = connect(address, limit).await?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(READ_BYTES_MAX);
    let (sender, driver) =
        builder.handshake(TokioIo::new(Gathering(stream))).await.map_err(|error| SendError::Unsent { error })?;
    Ok(Box::new(Connection { sender, driver: Some(Box::pin(driver.with_upgrades())) }))
}

/// The same over HTTP/2 without TLS.
pub async fn send_shared(
    address: SocketAddr,
    request: Request<RequestBody>,
    timeouts: &Timeouts,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let kept = POOL.with_borrow_mut(|pool| {
        let shared = pool.shared.get_mut(&address).filter(|s| !s.sender.is_closed())?;
        shared.used = Instant::now();
        Some(shared.sender.clone())
    });
    let reused = kept.is_some();
    let mut sender = match kept {
        Some(sender) => sender,
        None => match open_shared(address, timeouts.connect).await {
            Ok(sender) => sender,
            Err(error) => return Err(refused(error, request)),
        },
    };
    match tokio::time::timeout(timeouts.response, sender.try_send_request(request)).await {
        Ok(Ok(response)) => Ok((response, Lease::Shared)),
        Ok(Err(error)) => {
            POOL.with_borrow_mut(|pool| pool.shared.retain(|a, s| *a != address || !s.sender.is_closed()));
            Err(failed(error, reused))
        }
        Err(_) => Err(Failed { error: SendError::ResponseTimeout, request: None, reused }),
    }
}

async fn open_shared(address: SocketAddr, limit: Duration) -> Result<http2::SendRequest<RequestBody>, SendError> {
    let stream = connect(address, limit).await?;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let handshake = tokio::time::timeout(limit, builder.handshake(TokioIo::new(stream))).await;
    let (sender, connection) =
        handshake.map_err(|_| SendError::ConnectTimeout)?.map_err(|error| SendError::Unsent { error })?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let shared = Shared { sender: sender.clone(), used: Instant::now() };
    POOL.with_borrow_mut(|pool| {
        pool.shared.insert(address, shared);
        pool.see_to_reaping();
    });
    Ok(sender)
}

/// Whether the request may be repeated although a server may have seen it: RFC 9110, 9.2.2.
pub fn is_idempotent(method: &http::Method) -> bool {
    use http::Method;
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE].contains(method)
}
