//! WebSockets: the channel protocols of exec and attach (`v5.channel.k8s.io`, `v4.channel.k8s.io`), and a plain byte
//! stream in binary messages, in which newer clients tunnel SPDY for port-forward.

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{FutureExt, SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::session::{ERROR, RESIZE, STDERR, STDIN, STDOUT, Session, Sink, Wanted};

/// In v5, a message on this channel names a channel that its sender has closed.
const CLOSE: u8 = 255;
/// Clients send 32 KiB.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
const MESSAGES_MAX: usize = 32;
const TUNNEL_BYTES: usize = 64 << 10;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Sends on the channels of one WebSocket.
#[derive(Clone)]
pub(super) struct WebSocketSender(mpsc::Sender<Message>);

impl WebSocketSender {
    pub(super) async fn send(&self, channel: u8, data: &[u8]) -> bool {
        let mut message = BytesMut::with_capacity(1 + data.len());
        message.put_u8(channel);
        message.put_slice(data);
        self.0.send(Message::Binary(message.freeze())).await.is_ok()
    }
}

async fn accept(upgraded: Upgraded) -> Socket {
    let config =
        WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES_MAX)).max_frame_size(Some(MESSAGE_BYTES_MAX));
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await
}

/// The client's side of exec or attach. The socket is closed when all senders are gone.
pub(super) async fn session(upgraded: Upgraded, wanted: Wanted) -> Session {
    let (sink, stream) = accept(upgraded).await.split();
    let (sender, outgoing) = mpsc::channel(MESSAGES_MAX);
    let (stdin_sender, stdin) = mpsc::channel(MESSAGES_MAX);
    let (resize_sender, resize) = mpsc::channel(MESSAGES_MAX);
    let pongs = sender.downgrade();
    tokio::spawn(write(sink, outgoing));
    let reading = tokio::spawn(read(stream, stdin_sender, resize_sender, pongs));
    let channel = |number: u8| Sink::Channel { sender: WebSocketSender(sender.clone()), number };
    Session {
        stdin: wanted.stdin.then_some(stdin),
        resize: wanted.tty.then_some(resize),
        stdout: if wanted.stdout { channel(STDOUT) } else { Sink::Nowhere },
        stderr: if wanted.stderr { channel(STDERR) } else { Sink::Nowhere },
        error: channel(ERROR),
        gone: reading.map(drop).boxed(),
    }
}

async fn write(mut sink: SplitSink<Socket, Message>, mut outgoing: mpsc::Receiver<Message>) {
    while let Some(message) = outgoing.recv().await {
        if sink.send(message).await.is_err() {
            return;
        }
    }
    let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let _ = sink.send(Message::Close(Some(normal))).await;
    let _ = sink.close().await;
}

async fn read(
    mut stream: SplitStream<Socket>,
    stdin: mpsc::Sender<Bytes>,
    resize: mpsc::Sender<Bytes>,
    pongs: mpsc::WeakSender<Message>,
) {
    let mut stdin = Some(stdin);
    while let Some(Ok(message)) = stream.next().await {
        let data = match message {
            Message::Binary(data) => data,
            Message::Ping(data) => {
                if let Some(sender) = pongs.upgrade() {
                    let _ = sender.send(Message::Pong(data)).await;
                }
                continue;
            }
            Message::Close(_) => return,
            Message::Text(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        match (data.first(), data.get(1)) {
            (Some(&CLOSE), Some(&STDIN)) => stdin = None,
            (Some(&STDIN), _) => {
                if let Some(sender) = &stdin {
                    // A command that reads nothing more only loses what is sent to it.
                    let _ = sender.send(data.slice(1..)).await;
                }
            }
            (Some(&RESIZE), _) => {
                let _ = resize.send(data.slice(1..)).await;
            }
            (Some(_), _) | (None, _) => {}
        }
    }
}

/// The bytes in the messages of a WebSocket, as one stream.
pub(super) async fn tunnel(upgraded: Upgraded) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(TUNNEL_BYTES);
    let (mut sink, mut stream) = accept(upgraded).await.split();
    let (mut from_us, mut to_us) = tokio::io::split(ours);
    tokio::spawn(async move {
        while let Some(Ok(message)) = stream.next().await {
            let data = match message {
                Message::Binary(data) => data,
                Message::Close(_) => break,
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            if to_us.write_all(&data).await.is_err() {
                break;
            }
        }
        let _ = to_us.shutdown().await;
    });
    tokio::spawn(async move {
        let mut buffer = BytesMut::with_capacity(TUNNEL_BYTES);
        while from_us.read_buf(&mut buffer).await.is_ok_and(|count| count > 0) {
            if sink.send(Message::Binary(buffer.split().freeze())).await.is_err() {
                return;
            }
            buffer.reserve(TUNNEL_BYTES);
        }
        let _ = sink.send(Message::Close(None)).await;
        let _ = sink.close().await;
    });
    theirs
}
