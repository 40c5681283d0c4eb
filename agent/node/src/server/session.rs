//! What a client of exec or attach has on its side of the connection, whatever the transport: input, resizes, outputs.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use super::websocket::WebSocketSender;
use crate::spdy::{Connection, Stream, StreamSender};

/// Numbers of the channels in the WebSocket protocols.
pub(super) const STDIN: u8 = 0;
pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const RESIZE: u8 = 4;

/// Where output goes.
#[derive(Clone)]
pub(super) enum Sink {
    Channel {
        sender: WebSocketSender,
        number: u8,
    },
    Stream(StreamSender),
    /// The client does not want it.
    Nowhere,
}

impl Sink {
    /// `false` when the client is gone.
    pub(super) async fn send(&self, data: Bytes) -> bool {
        match self {
            Sink::Channel { sender, number } => sender.send(*number, &data).await,
            Sink::Stream(stream) => stream.send(data).await,
            Sink::Nowhere => true,
        }
    }

    pub(super) async fn finish(&self) {
        match self {
            // A WebSocket has no half-closed channels towards the client.
            Sink::Channel { .. } | Sink::Nowhere => {}
            Sink::Stream(stream) => stream.finish().await,
        }
    }
}

/// The client's side. A closed receiver is the end of that input.
pub(super) struct Session {
    pub stdin: Option<mpsc::Receiver<Bytes>>,
    pub resize: Option<mpsc::Receiver<Bytes>>,
    pub stdout: Sink,
    pub stderr: Sink,
    pub error: Sink,
    /// Done when the client has gone away.
    pub gone: BoxFuture<'static, ()>,
}

/// Which streams a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

impl Wanted {
    fn streams(self) -> usize {
        // The error stream is always there, resizes come with a terminal.
        1 + [self.stdin, self.stdout, self.stderr && !self.tty, self.tty].into_iter().filter(|wanted| *wanted).count()
    }
}

/// Waits for the streams that an old client opens.
pub(super) async fn from_spdy(mut connection: Connection, wanted: Wanted) -> Option<Session> {
    let mut session = Session {
        stdin: None,
        resize: None,
        stdout: Sink::Nowhere,
        stderr: Sink::Nowhere,
        error: Sink::Nowhere,
        gone: futures::future::pending().boxed(),
    };
    for _ in 0..wanted.streams() {
        let stream = connection.accept().await?;
        let kind = stream.header("streamtype").unwrap_or_default().to_owned();
        let Stream { sender, receiver, .. } = stream;
        match kind.as_str() {
            "stdin" => session.stdin = Some(receiver),
            "resize" => session.resize = Some(receiver),
            "stdout" => session.stdout = Sink::Stream(sender),
            "stderr" => session.stderr = Sink::Stream(sender),
            "error" => session.error = Sink::Stream(sender),
            other => tracing::debug!(kind = other, "a stream of unknown type"),
        }
    }
    session.gone = async move { while connection.accept().await.is_some() {} }.boxed();
    Some(session)
}
