//! The proxy's side of its control socket, and its metrics.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request as HttpRequest, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::Proxy;
use super::routes::Routes;
use crate::control::{Hello, LINE_BYTES_MAX, Reply, Request, Status, send_sockets};
use crate::table::{EndpointStatus, Table};

/// What is still open when a drain has taken this long is cut off.
const DRAIN_MAX: Duration = Duration::from_secs(60);
const DRAIN_POLL: Duration = Duration::from_millis(50);
/// Scrapers are few, and each asks one thing.
const METRICS_HEAD_MAX: Duration = Duration::from_secs(10);

enum After {
    Continue,
    Drain,
    Stop,
}

/// Serves until the proxy is to end.
pub async fn serve(proxy: Arc<Proxy>, listener: StdUnixListener) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let (ends, mut end) = tokio::sync::mpsc::channel(1);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                // The file's mode keeps others out; this does it where a file system knows no modes.
                if !stream.peer_cred().is_ok_and(|peer| peer.uid() == 0) {
                    continue;
                }
                tokio::spawn(converse(Arc::clone(&proxy), stream, ends.clone()));
            }
            _ = end.recv() => return Ok(()),
        }
    }
}

async fn converse(proxy: Arc<Proxy>, stream: UnixStream, ends: tokio::sync::mpsc::Sender<()>) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let bound = LINE_BYTES_MAX as u64;
        match (&mut stream).take(bound).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let request = serde_json::from_slice::<Request>(&line);
        line.shrink_to(64 << 10);
        let (reply, after) = match request {
            Ok(Request::Sockets) => {
                if give_sockets(&proxy, stream.get_ref()).await.is_err() {
                    return;
                }
                continue;
            }
            Ok(request) => answer(&proxy, request),
            Err(error) => (Reply::Refused(format!("not a request: {error}")), After::Continue),
        };
        let Ok(mut text) = serde_json::to_vec(&reply) else { return };
        text.push(b'\n');
        // Whoever asks to drain may not wait for the answer.
        let heard = stream.get_mut().write_all(&text).await.is_ok();
        match after {
            After::Continue => {}
            After::Drain => {
                tokio::spawn(drain(Arc::clone(&proxy), ends.clone()));
            }
            After::Stop => {
                let _ = ends.send(()).await;
            }
        }
        if !heard {
            return;
        }
    }
}

async fn give_sockets(proxy: &Proxy, stream: &UnixStream) -> std::io::Result<()> {
    let files: Vec<_> = proxy.sockets.all().map(AsRawFd::as_raw_fd).collect();
    stream.async_io(Interest::WRITABLE, || send_sockets(stream.as_raw_fd(), &files).map_err(std::io::Error::from)).await
}

fn answer(proxy: &Arc<Proxy>, request: Request) -> (Reply, After) {
    match request {
        Request::Hello => {
            let store = proxy.store.lock().unwrap_or_else(PoisonError::into_inner);
            let hello = Hello {
                build: proxy.build.clone(),
                config: proxy.shared.config.clone(),
                certificates: store.ids(),
                process: std::process::id(),
            };
            (Reply::Hello(Box::new(hello)), After::Continue)
        }
        Request::Certificates(list) => {
            let mut store = proxy.store.lock().unwrap_or_else(PoisonError::into_inner);
            let refused: Vec<String> =
                list.iter().filter_map(|c| store.insert(c).err().map(|error| format!("{}: {error}", c.id))).collect();
            let reply = if refused.is_empty() { Reply::Done } else { Reply::Refused(refused.join("; ")) };
            (reply, After::Continue)
        }
        Request::Table(table) => {
            apply(proxy, *table);
            let mut failed = None;
            proxy.accepts.call_once(|| failed = proxy.begin().err());
            let reply = failed.map_or(Reply::Done, |error| Reply::Refused(error.to_string()));
            (reply, After::Continue)
        }
        Request::Status => (Reply::Status(status(proxy)), After::Continue),
        Request::Drain => (Reply::Done, After::Drain),
        Request::Stop => (Reply::Done, After::Stop),
        Request::Sockets => (Reply::Refused("sockets are not sent this way".to_owned()), After::Continue),
    }
}

/// New requests see the new table; those under way finish with the old.
pub fn apply(proxy: &Proxy, table: Table) {
    let certificates = proxy.store.lock().unwrap_or_else(PoisonError::into_inner).compile(&table);
    let shared = &proxy.shared;
    let before = shared.routes.load_full();
    let routes = Routes::new(table, certificates, &before, |name| shared.metrics.host(name));
    shared.routes.store(Arc::new(routes));
    drop(before);
    shared.metrics.forget();
}

fn status(proxy: &Proxy) -> Status {
    let routes = proxy.shared.routes.load_full();
    let endpoints = routes.backends.iter().flat_map(|backend| {
        backend.endpoints.iter().map(|endpoint| EndpointStatus {
            backend: backend.name.clone(),
            address: endpoint.address,
            active: endpoint.active.load(Ordering::Relaxed),
            requests: endpoint.requests.load(Ordering::Relaxed),
            failures: endpoint.failures.load(Ordering::Relaxed),
            set_aside_ms: endpoint.set_aside_ms(),
            last_error: endpoint.last_error(),
        })
    });
    Status { endpoints: endpoints.collect(), connections: proxy.shared.connections.load(Ordering::Relaxed) }
}

async fn drain(proxy: Arc<Proxy>, ends: tokio::sync::mpsc::Sender<()>) {
    proxy.shared.draining.store(true, Ordering::Relaxed);
    proxy.drain.cancel();
    let finished = async {
        while proxy.shared.connections.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(DRAIN_POLL).await;
        }
    };
    if tokio::time::timeout(DRAIN_MAX, finished).await.is_err() {
        tracing::info!(connections = proxy.shared.connections.load(Ordering::Relaxed), "cut off after draining");
    }
    let _ = ends.send(()).await;
}

pub async fn serve_metrics(proxy: Arc<Proxy>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = proxy.drain.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else { continue };
        let proxy = Arc::clone(&proxy);
        let service = service_fn(move |request: HttpRequest<Incoming>| {
            let answer = metrics_answer(&proxy, request.uri().path());
            async move { Ok::<_, std::convert::Infallible>(answer) }
        });
        tokio::spawn(async move {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(METRICS_HEAD_MAX);
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn metrics_answer(proxy: &Proxy, path: &str) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        "/metrics" => {
            let connections = proxy.shared.connections.load(Ordering::Relaxed);
            (StatusCode::OK, proxy.shared.metrics.render(&proxy.shared.routes.load(), connections))
        }
        _ => (StatusCode::NOT_FOUND, "there is /metrics\n".to_owned()),
    };
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    answer
}
