//! One client's connection: PROXY protocol, TLS, the version of HTTP, and a watchman for clients that hold on to it.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::certificates::ACME_TLS;
use super::handle::{Context, Shared, handle};
use super::io::Watched;

/// For the PROXY header, the TLS handshake and the first bytes without TLS together: a handful of round trips, also for a
/// telephone at the edge of its cell.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// A request's head has to be complete after this: it fits in a few packets, and who sends it byte by byte means no good.
const HEAD_SECONDS_MAX: u32 = 20;
/// A connection without a request under way is closed after this: what browsers keep open for the next click.
const IDLE_SECONDS_MAX: u32 = 75;
/// A client that takes nothing of what is written is given up after this.
const BLOCKED_SECONDS_MAX: u32 = 60;
/// And one that takes nothing of one of its answers, while others may move, after this: what is written to it meanwhile
/// may be 400 kB, for which the slowest telephone needs minutes. Tests do not wait so long.
const UNTAKEN_SECONDS_MAX: u32 = if cfg!(test) { 10 } else { 300 };
/// How often the watchman looks. It also is how long a client may not be told that the proxy is about to end: asking
/// more often would cost every request.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);
/// While draining, a client gets this long to send a request that is already on its way.
const DRAIN_IDLE_SECONDS: u32 = 2;
const DRAIN_INTERVAL: Duration = Duration::from_millis(250);

/// A request's head, its target included; RFC 9110 asks for at least 8000 bytes of target.
const HEAD_BYTES_MAX: usize = 32 << 10;
const HEADERS_MAX: usize = 128;
/// What is read at once of a large upload.
const READ_BYTES_MAX: usize = 256 << 10;
/// Requests of one HTTP/2 connection at once.
const STREAMS_MAX: u32 = 256;
/// Uploads on their way unread, for a stream and for a connection.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Answers waiting to be written, for each stream.
const SEND_BYTES_MAX: usize = 64 << 10;

#[derive(Clone)]
pub enum Entry {
    Plain,
    Tls(TlsAcceptor),
}

/// Serves until the connection ends.
pub async fn serve(shared: Arc<Shared>, entry: Entry, mut stream: TcpStream, peer: SocketAddr) {
    let _ = stream.set_nodelay(true);
    let Ok(local) = stream.local_addr() else { return };
    let mut context = Context::new(shared, peer, local);
    let deadline = tokio::time::Instant::now() + HANDSHAKE_MAX;
    if context.shared.config.proxy_protocol && context.shared.trusted.contains(peer.ip()) {
        match tokio::time::timeout_at(deadline, super::proxy_protocol::read(&mut stream)).await {
            Ok(Ok(Some(client))) => context.peer = client,
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "the PROXY header is not valid");
                return;
            }
            Err(_) => return,
        }
    }
    match entry {
        Entry::Plain => {
            let Ok(Ok(version)) = tokio::time::timeout_at(deadline, plain_version(&stream)).await else { return };
            run(version, stream, context).await;
        }
        Entry::Tls(acceptor) => {
            let accepted = tokio::time::timeout_at(deadline, acceptor.accept(stream)).await;
            let Ok(Ok(stream)) = accepted else {
                context.shared.metrics.failed_handshakes.fetch_add(1, Ordering::Relaxed);
                return;
            };
            context.secure = true;
            let version = match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => Http::Two,
                // The CA has seen what it came for.
                Some(protocol) if protocol == ACME_TLS => return,
                Some(_) | None => Http::One,
            };
            run(version, stream, context).await;
        }
    }
}

#[derive(Clone, Copy)]
enum Http {
    One,
    Two,
}

/// HTTP/2 without TLS starts with a request that HTTP/1 does not have: RFC 9113, 3.4.
async fn plain_version(stream: &TcpStream) -> std::io::Result<Http> {
    let mut start = [0; 4];
    let length = stream.peek(&mut start).await?;
    Ok(if &start[..length] == b"PRI " { Http::Two } else { Http::One })
}

async fn run<S>(version: Http, stream: S, context: Context)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let context = Arc::new(context);
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&context.activity)));
    let of_service = Arc::clone(&context);
    let service = service_fn(move |request| handle(Arc::clone(&of_service), request));
    match version {
        Http::One => {
            let mut builder = http1::Builder::new();
            builder.max_buf_size(READ_BYTES_MAX).max_header_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
            builder.header_read_timeout(None).half_close(true);
            let connection = pin!(builder.serve_connection(io, service).with_upgrades());
            // An idle connection has nothing to lose; one with a request says "close" with its answer.
            watch(connection, |_| {}, Leave::WhenIdle, &context).await;
        }
        Http::Two => {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS_MAX)
                .max_header_list_size(HEAD_BYTES_MAX as u32)
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .max_send_buf_size(SEND_BYTES_MAX);
            let connection = pin!(builder.serve_connection(io, service));
            watch(connection, |c| c.graceful_shutdown(), Leave::WhenDone, &context).await;
        }
    }
}

/// How a connection ends that is asked to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// The protocol has no goodbye: wait until there is no request.
    WhenIdle,
    /// The client was told.
    WhenDone,
}

async fn watch<C>(mut connection: Pin<&mut C>, say_goodbye: impl Fn(Pin<&mut C>), leave: Leave, context: &Context)
where
    C: Future<Output = hyper::Result<()>>,
{
    let activity = &context.activity;
    let mut tick = pin!(tokio::time::sleep(WATCH_INTERVAL));
    let mut leaving = false;
    loop {
        tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            () = tick.as_mut() => {}
        }
        let idle = activity.idle_seconds();
        if activity.blocked_seconds() > BLOCKED_SECONDS_MAX || activity.untaken_seconds() > UNTAKEN_SECONDS_MAX {
            tracing::debug!(client = %context.peer, "the client takes nothing of its answer");
            return;
        }
        let draining = context.shared.draining.load(Ordering::Relaxed);
        let too_long = activity.is_idle() && idle > IDLE_SECONDS_MAX;
        if (draining || too_long) && !leaving {
            leaving = true;
            say_goodbye(connection.as_mut());
        }
        let over = match leave {
            Leave::WhenIdle => {
                let is_slow = activity.head_seconds() > HEAD_SECONDS_MAX;
                activity.is_idle() && (is_slow || too_long || (leaving && idle >= DRAIN_IDLE_SECONDS))
            }
            Leave::WhenDone => activity.is_idle() && idle > 2 * IDLE_SECONDS_MAX,
        };
        if over {
            return;
        }
        let next = if leaving { DRAIN_INTERVAL } else { WATCH_INTERVAL };
        tick.as_mut().reset(tokio::time::Instant::now() + next);
    }
}
