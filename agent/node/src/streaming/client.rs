//! The client's side of exec and attach, over WebSocket or SPDY: what it sends and what it gets, as queues.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Wanted;
use super::spdy::{self, Connection, StreamWriter};
use super::upgrade::{NONE, Supported, Transport};
use super::websocket::{WebSocket, WebSocketLink};

pub(super) const PROTOCOLS: [Supported<Protocol>; 5] = [
    Supported { transport: Transport::WebSocket, name: "v5.channel.k8s.io", protocol: Protocol::WebSocketV5 },
    Supported { transport: Transport::WebSocket, name: "v4.channel.k8s.io", protocol: Protocol::WebSocketV4 },
    Supported { transport: Transport::WebSocket, name: "channel.k8s.io", protocol: Protocol::WebSocketV1 },
    // A client that names none means the first there was.
    Supported { transport: Transport::WebSocket, name: NONE, protocol: Protocol::WebSocketV1 },
    Supported { transport: Transport::Spdy, name: "v4.channel.k8s.io", protocol: Protocol::SpdyV4 },
];

/// How the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Like v4, and either side may end one channel.
    WebSocketV5,
    WebSocketV4,
    /// As v4, but tells a failure in words and success not at all.
    WebSocketV1,
    SpdyV4,
}

/// What a client reads at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A `Status` as JSON.
    Status,
    /// The message of a failure.
    Words,
}

/// Upstream waits this long for a client to open its streams.
const STREAMS_TIME_MAX: Duration = Duration::from_secs(30);
/// Chunks of one stream that wait for the runtime.
const CHUNKS_MAX: usize = 4;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Names, in v5, a channel that the peer has ended.
const CLOSE: u8 = 255;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the connection was not upgraded")]
    Upgrade(#[from] hyper::Error),
    #[error("the client's streams")]
    Spdy(#[from] spdy::Error),
    #[error("the client did not open its streams in time")]
    Timeout,
    #[error("the client left before it opened its streams")]
    Gone,
}

/// Nobody is there to receive any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// What one client sends and gets. Streams it did not ask for are missing.
pub(super) struct Client {
    pub stdin: Option<mpsc::Receiver<Bytes>>,
    pub resize: Option<mpsc::Receiver<Bytes>>,
    pub stdout: Option<Sink>,
    pub stderr: Option<Sink>,
    pub error: Sink,
    pub outcome: Outcome,
    pub link: Link,
}

/// One stream to the client.
pub(super) enum Sink {
    WebSocket { channel: u8, messages: mpsc::Sender<Bytes> },
    Spdy(StreamWriter),
}

/// The connection beneath the streams.
pub(super) enum Link {
    WebSocket(WebSocketLink),
    Spdy(Connection),
}

impl Client {
    pub async fn accept(upgraded: Upgraded, protocol: Protocol, wanted: Wanted) -> Result<Self, Error> {
        match protocol {
            Protocol::WebSocketV5 | Protocol::WebSocketV4 | Protocol::WebSocketV1 => {
                Ok(Self::websocket(WebSocket::accept(upgraded).await, protocol, wanted).await)
            }
            Protocol::SpdyV4 => {
                let connection = Connection::server(TokioIo::new(upgraded))?;
                tokio::time::timeout(STREAMS_TIME_MAX, Self::spdy(connection, wanted))
                    .await
                    .map_err(|_| Error::Timeout)?
            }
        }
    }

    async fn websocket(socket: WebSocket, protocol: Protocol, wanted: Wanted) -> Self {
        let (messages, receiver, link) = socket.split();
        let sink = |channel| Sink::WebSocket { channel, messages: messages.clone() };
        let (stdin_sender, stdin) = mpsc::channel(CHUNKS_MAX);
        let (resize_sender, resize) = mpsc::channel(CHUNKS_MAX);
        let demux = Demux {
            stdin: wanted.stdin.then_some(stdin_sender),
            resize: wanted.tty.then_some(resize_sender),
            protocol,
        };
        tokio::spawn(demux.run(receiver));
        let client = Self {
            stdin: wanted.stdin.then_some(stdin),
            resize: wanted.tty.then_some(resize),
            stdout: wanted.stdout.then(|| sink(STDOUT)),
            stderr: wanted.stderr.then(|| sink(STDERR)),
            error: sink(ERROR),
            outcome: match protocol {
                Protocol::WebSocketV1 => Outcome::Words,
                Protocol::WebSocketV5 | Protocol::WebSocketV4 | Protocol::SpdyV4 => Outcome::Status,
            },
            link: Link::WebSocket(link),
        };
        // Clients may wait for an empty message as a sign that the streams are there.
        let lowest = client.stdout.as_ref().or(client.stderr.as_ref()).unwrap_or(&client.error);
        let _ = lowest.send(Bytes::new()).await;
        client
    }

    async fn spdy(mut connection: Connection, wanted: Wanted) -> Result<Self, Error> {
        let (mut stdin, mut stdout, mut stderr, mut resize, mut error) = (None, None, None, None, None);
        let is_complete = |has: [bool; 5]| has == [wanted.stdin, wanted.stdout, wanted.stderr, wanted.tty, true];
        while !is_complete([stdin.is_some(), stdout.is_some(), stderr.is_some(), resize.is_some(), error.is_some()]) {
            let stream = connection.accept().await.ok_or(Error::Gone)?;
            match stream.headers.get("streamtype") {
                Some("stdin") if wanted.stdin => stdin = Some(stream.reader),
                Some("stdout") if wanted.stdout => stdout = Some(Sink::Spdy(stream.writer)),
                Some("stderr") if wanted.stderr => stderr = Some(Sink::Spdy(stream.writer)),
                Some("resize") if wanted.tty => resize = Some(stream.reader),
                Some("error") => error = Some(Sink::Spdy(stream.writer)),
                Some(_) | None => stream.writer.reset().await?,
            }
        }
        let error = error.ok_or(Error::Gone)?;
        Ok(Self { stdin, resize, stdout, stderr, error, outcome: Outcome::Status, link: Link::Spdy(connection) })
    }
}

impl Sink {
    /// Why it went is of no use to whoever sends; the end of the whole connection shows at the link.
    pub async fn send(&self, data: Bytes) -> Result<(), Gone> {
        match self {
            Sink::WebSocket { channel, messages } => {
                let mut message = BytesMut::with_capacity(1 + data.len());
                message.put_u8(*channel);
                message.put_slice(&data);
                messages.send(message.freeze()).await.map_err(|_| Gone)
            }
            Sink::Spdy(writer) => writer.send(data).await.map_err(|_| Gone),
        }
    }

    pub async fn close(self) {
        match self {
            // Ends with the connection.
            Sink::WebSocket { .. } => {}
            Sink::Spdy(writer) => drop(writer.close().await),
        }
    }
}

impl Link {
    pub fn ended(&self) -> CancellationToken {
        match self {
            Link::WebSocket(link) => link.ended(),
            Link::Spdy(connection) => connection.ended(),
        }
    }

    pub async fn finish(self) {
        match self {
            Link::WebSocket(link) => link.finish().await,
            Link::Spdy(connection) => connection.finish().await,
        }
    }
}

/// Sorts a WebSocket's messages by channel.
struct Demux {
    stdin: Option<mpsc::Sender<Bytes>>,
    resize: Option<mpsc::Sender<Bytes>>,
    protocol: Protocol,
}

/// What one message of the client is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Message {
    Stdin(Bytes),
    Resize(Bytes),
    EndOfStdin,
    /// For channels that clients do not write.
    Ignored,
}

impl Message {
    fn parse(mut message: Bytes, protocol: Protocol) -> Self {
        if message.is_empty() {
            return Self::Ignored;
        }
        let channel = message.split_to(1)[0];
        match channel {
            STDIN => Self::Stdin(message),
            RESIZE => Self::Resize(message),
            CLOSE if protocol == Protocol::WebSocketV5 && message.first() == Some(&STDIN) => Self::EndOfStdin,
            _ => Self::Ignored,
        }
    }
}

impl Demux {
    async fn run(mut self, mut messages: mpsc::Receiver<Bytes>) {
        while let Some(message) = messages.recv().await {
            // Who does not read its stream any more misses nothing.
            match Message::parse(message, self.protocol) {
                Message::Stdin(data) => drop(send(self.stdin.as_ref(), data).await),
                Message::Resize(data) => drop(send(self.resize.as_ref(), data).await),
                Message::EndOfStdin => self.stdin = None,
                Message::Ignored => {}
            }
        }
    }
}

async fn send(queue: Option<&mpsc::Sender<Bytes>>, data: Bytes) -> Option<()> {
    queue.filter(|_| !data.is_empty())?.send(data).await.ok()
}

#[cfg(test)]
mod tests;
