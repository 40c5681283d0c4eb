//! Port-forward: each connection of the client is dialled inside the pod's network namespace. Over SPDY, plain or in a
//! WebSocket, it is a pair of streams that share a request's identifier; the other WebSocket protocol is in `channels`.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use skiff_cri::Runtime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::client::Sink;
use super::spdy::{self, Connection, Stream};
use super::upgrade::{self, Offer, Supported, Transport};
use super::websocket::WebSocket;
use crate::server::{Body, Query, Refusal, newest_sandbox};

mod channels;
mod dial;
mod tunnel;

use dial::Namespace;

const PROTOCOLS: [Supported<Protocol>; 3] = [
    Supported { transport: Transport::WebSocket, name: "SPDY/3.1+portforward.k8s.io", protocol: Protocol::Tunnel },
    Supported { transport: Transport::WebSocket, name: "v4.channel.k8s.io", protocol: Protocol::Channels },
    Supported { transport: Transport::Spdy, name: "portforward.k8s.io", protocol: Protocol::Spdy },
];

/// How the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// SPDY within a WebSocket's messages.
    Tunnel,
    /// Two channels of a WebSocket for each port in the query.
    Channels,
    Spdy,
}

/// Streams whose other half has not come yet; clients open both at once.
const HALVES_MAX: usize = 64;
const READ_BYTES: usize = 32 << 10;

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the connection was not upgraded")]
    Upgrade(#[from] hyper::Error),
    #[error("the client's streams")]
    Spdy(#[from] spdy::Error),
}

pub(crate) async fn port_forward(
    runtime: &Arc<dyn Runtime>,
    namespace: &str,
    pod: &str,
    mut request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    let (protocol, response) = Offer::parse(request.headers())?.accept(&PROTOCOLS)?;
    let ports = ports(&Query::of(&request))?;
    let sandbox = newest_sandbox(runtime.as_ref(), namespace, pod).await?;
    let pid = runtime.pod_sandbox_pid(&sandbox).await?;
    let network = Namespace::of(pid).map_err(|error| Refusal::internal(upgrade::chain(&error)))?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let result = async { serve(upgrade.await?, protocol, network, ports).await };
        if let Err(error) = result.await {
            tracing::debug!(error = upgrade::chain(&error), "client of a port-forward is gone");
        }
    });
    Ok(response)
}

fn ports(query: &Query) -> Result<Vec<u16>, Refusal> {
    let words = query.all("ports");
    let ports = words.iter().flat_map(|words| words.split(',')).map(|port| {
        port.parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| Refusal::bad_request(format!("invalid port \"{port}\"")))
    });
    ports.collect()
}

async fn serve(upgraded: Upgraded, protocol: Protocol, network: Namespace, ports: Vec<u16>) -> Result<(), Error> {
    match protocol {
        Protocol::Spdy => pairs(Connection::server(TokioIo::new(upgraded))?, network).await,
        Protocol::Tunnel => pairs(Connection::server(tunnel::open(WebSocket::accept(upgraded).await))?, network).await,
        Protocol::Channels => channels::run(WebSocket::accept(upgraded).await, &network, &ports).await,
    }
    Ok(())
}

/// Serves the client's connections until it goes away; what is still open ends then.
async fn pairs(mut connection: Connection, network: Namespace) {
    let mut waiting: HashMap<String, Stream> = HashMap::new();
    let mut forwards = JoinSet::new();
    while let Some(stream) = connection.accept().await {
        while forwards.try_join_next().is_some() {}
        let Some((request, port)) = request(&stream) else {
            let _ = stream.writer.reset().await;
            continue;
        };
        match waiting.remove(&request) {
            Some(first) => match (is_error(&first), is_error(&stream)) {
                (true, false) => drop(forwards.spawn(forward_pair(first, stream, port, network.clone()))),
                (false, true) => drop(forwards.spawn(forward_pair(stream, first, port, network.clone()))),
                (true, true) | (false, false) => {
                    let _ = (first.writer.reset().await, stream.writer.reset().await);
                }
            },
            None if waiting.len() < HALVES_MAX => drop(waiting.insert(request, stream)),
            None => drop(stream.writer.reset().await),
        }
    }
}

/// The request that a stream belongs to, and the port it is for.
fn request(stream: &Stream) -> Option<(String, u16)> {
    let port = stream.headers.get("port")?.parse().ok().filter(|port| *port > 0)?;
    let known = matches!(stream.headers.get("streamtype")?, "error" | "data");
    known.then_some((stream.headers.get("requestid")?.to_owned(), port))
}

fn is_error(stream: &Stream) -> bool {
    stream.headers.get("streamtype") == Some("error")
}

async fn forward_pair(error: Stream, data: Stream, port: u16, network: Namespace) {
    let (error, to) = (Sink::Spdy(error.writer), Sink::Spdy(data.writer));
    forward(error, to, data.reader, port, &network, Until::BothEnd).await;
}

/// When a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    BothEnd,
    /// The client has no way to end its half.
    OutputEnds,
}

/// One connection, from dial to end.
async fn forward(error: Sink, to: Sink, from: mpsc::Receiver<Bytes>, port: u16, network: &Namespace, until: Until) {
    match network.dial(port).await {
        Ok(socket) => {
            let (read, write) = TcpStream::into_split(socket);
            let (output, input) = (receive(read, to), transmit(from, write));
            match until {
                Until::BothEnd => drop(tokio::join!(output, input)),
                Until::OutputEnds => tokio::select! {
                    () = output => {}
                    () = input.then(|()| std::future::pending()) => {}
                },
            }
        }
        Err(failure) => {
            let _ = error.send(failure.to_string().into()).await;
            to.close().await;
        }
    }
    error.close().await;
}

async fn receive(mut from: OwnedReadHalf, to: Sink) {
    let mut buffer = vec![0; READ_BYTES];
    // A connection the pod has broken ends for the client, too.
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if to.send(Bytes::copy_from_slice(&buffer[..count])).await.is_err() {
            break;
        }
    }
    to.close().await;
}

async fn transmit(mut from: mpsc::Receiver<Bytes>, mut to: OwnedWriteHalf) {
    while let Some(data) = from.recv().await {
        if to.write_all(&data).await.is_err() {
            break;
        }
    }
    // The pod may have closed already.
    let _ = to.shutdown().await;
}

#[cfg(test)]
pub(super) mod tests;
