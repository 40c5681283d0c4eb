//! A byte stream within the binary messages of a WebSocket; message boundaries mean nothing.

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use crate::streaming::websocket::{WebSocket, WebSocketLink};

const BUFFER_BYTES: usize = 64 << 10;

/// The WebSocket ends when the stream is dropped.
pub(super) fn open(socket: WebSocket) -> DuplexStream {
    let (near, far) = tokio::io::duplex(BUFFER_BYTES);
    let (read, write) = tokio::io::split(far);
    let (sender, receiver, link) = socket.split();
    tokio::spawn(incoming(receiver, write));
    tokio::spawn(outgoing(read, sender, link));
    near
}

async fn incoming(mut from: mpsc::Receiver<Bytes>, mut to: WriteHalf<DuplexStream>) {
    while let Some(data) = from.recv().await {
        if to.write_all(&data).await.is_err() {
            // Read on, until the peer has closed.
            while from.recv().await.is_some() {}
        }
    }
    // The other side may be gone.
    let _ = to.shutdown().await;
}

async fn outgoing(mut from: ReadHalf<DuplexStream>, to: mpsc::Sender<Bytes>, link: WebSocketLink) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if to.send(Bytes::copy_from_slice(&buffer[..count])).await.is_err() {
            break;
        }
    }
    link.finish().await;
}
