//! The server's end of a WebSocket: whole messages in and out, through bounded queues.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Clients send what one read gave them, mostly 32 KiB; some send a whole small file.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
const WRITE_BUFFER_BYTES_MAX: usize = 1 << 20;
const MESSAGES_MAX: usize = 4;
/// After our close frame the peer gets this long to read it and to answer.
const LINGER: Duration = Duration::from_secs(2);

/// The connection; ends when dropped.
pub(crate) struct WebSocket {
    /// Messages for the peer.
    pub sender: mpsc::Sender<Bytes>,
    /// Messages of the peer, text or binary. Ends with the connection.
    pub receiver: mpsc::Receiver<Bytes>,
    link: WebSocketLink,
}

/// Keeps the connection while its queues are elsewhere.
pub(crate) struct WebSocketLink {
    close: CancellationToken,
    ended: CancellationToken,
    reader: JoinHandle<()>,
    _guard: DropGuard,
}

/// What kind of messages the server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frames {
    Binary,
    /// For clients that take no bytes; the messages are in base64 already.
    Text,
}

impl Frames {
    fn message(self, data: Bytes) -> Message {
        match self {
            Frames::Binary => Message::Binary(data),
            Frames::Text => Message::Text(String::from_utf8_lossy(&data).into_owned().into()),
        }
    }
}

impl WebSocket {
    pub async fn accept(upgraded: Upgraded) -> Self {
        Self::accept_with(upgraded, Frames::Binary).await
    }

    pub async fn accept_with(upgraded: Upgraded, frames: Frames) -> Self {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX))
            .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX);
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        let (sink, stream) = socket.split();
        let (sender, outgoing) = mpsc::channel(MESSAGES_MAX);
        let (incoming, receiver) = mpsc::channel(MESSAGES_MAX);
        let (close, ended) = (CancellationToken::new(), CancellationToken::new());
        tokio::spawn(write(sink, outgoing, frames, close.clone(), ended.clone()));
        let reader = tokio::spawn(read(stream, incoming, ended.clone()));
        let guard = ended.clone().drop_guard();
        Self { sender, receiver, link: WebSocketLink { close, ended, reader, _guard: guard } }
    }

    pub fn split(self) -> (mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>, WebSocketLink) {
        (self.sender, self.receiver, self.link)
    }
}

impl WebSocketLink {
    /// Cancelled when the connection has ended.
    pub fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Sends what waits and a close frame, and lets the peer close.
    pub async fn finish(mut self) {
        self.close.cancel();
        let _ = tokio::time::timeout(LINGER, &mut self.reader).await;
    }
}

async fn read(
    mut stream: impl StreamExt<Item = tokio_tungstenite::tungstenite::Result<Message>> + Unpin,
    incoming: mpsc::Sender<Bytes>,
    ended: CancellationToken,
) {
    let all = async {
        while let Some(message) = stream.next().await {
            let data = match message? {
                Message::Binary(data) => data,
                Message::Text(text) => text.into(),
                // Pongs are sent by the stream itself; after a close frame it ends.
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => continue,
            };
            // Nobody reads any more, as we are about to close: the rest is discarded.
            let _ = incoming.send(data).await;
        }
        Ok::<(), tokio_tungstenite::tungstenite::Error>(())
    };
    if let Some(Err(error)) = ended.run_until_cancelled(all).await {
        tracing::debug!(%error, "websocket broke");
    }
    ended.cancel();
}

async fn write(
    mut sink: impl SinkExt<Message, Error = tokio_tungstenite::tungstenite::Error> + Unpin,
    mut outgoing: mpsc::Receiver<Bytes>,
    frames: Frames,
    close: CancellationToken,
    ended: CancellationToken,
) {
    let all = async {
        while let Some(Some(data)) = next(&mut outgoing, &close).await {
            sink.send(frames.message(data)).await?;
        }
        // A close without a code reads as a broken connection to kubectl.
        let done = CloseFrame { code: CloseCode::Normal, reason: String::new().into() };
        sink.send(Message::Close(Some(done))).await?;
        sink.close().await
    };
    if let Some(Err(error)) = ended.run_until_cancelled(all).await {
        tracing::debug!(%error, "websocket cannot be written");
        ended.cancel();
    }
}

/// What waits goes first, then the close.
async fn next(outgoing: &mut mpsc::Receiver<Bytes>, close: &CancellationToken) -> Option<Option<Bytes>> {
    tokio::select! {
        biased;
        data = outgoing.recv() => Some(data),
        () = close.cancelled() => None,
    }
}
