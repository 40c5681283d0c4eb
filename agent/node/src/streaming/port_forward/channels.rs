//! Port-forward over the channels of a WebSocket: for the n-th port of the query, channel 2n carries its data and
//! channel 2n + 1 its errors. Each begins with the port's number, little-endian.

use bytes::Bytes;
use futures::future::join_all;
use tokio::sync::mpsc;

use super::dial::Namespace;
use super::{Until, forward};
use crate::streaming::client::Sink;
use crate::streaming::websocket::WebSocket;

/// As many as channel numbers allow.
const PORTS_MAX: usize = 127;
/// Chunks of one port that wait for the pod.
const CHUNKS_MAX: usize = 4;

/// Ends when all ports' connections have ended, or the client goes away.
pub(super) async fn run(socket: WebSocket, network: &Namespace, ports: &[u16]) {
    let (messages, receiver, link) = socket.split();
    let (mut queues, mut forwards) = (Vec::new(), Vec::new());
    for (channel, &port) in (0u8..).step_by(2).zip(ports.iter().take(PORTS_MAX)) {
        let data = Sink::WebSocket { channel, messages: messages.clone() };
        let error = Sink::WebSocket { channel: channel + 1, messages: messages.clone() };
        let number = Bytes::copy_from_slice(&port.to_le_bytes());
        if data.send(number.clone()).await.and(error.send(number).await).is_err() {
            return;
        }
        let (queue, from) = mpsc::channel(CHUNKS_MAX);
        queues.push(queue);
        forwards.push(forward(error, data, from, port, network, Until::OutputEnds));
    }
    let demux = async {
        sort(receiver, queues).await;
        // Input that has ended still leaves output to send.
        std::future::pending::<()>().await;
    };
    let exchange = async {
        tokio::select! {
            () = demux => {}
            _ = join_all(forwards) => {}
        }
    };
    if link.ended().run_until_cancelled(exchange).await.is_some() {
        link.finish().await;
    }
}

async fn sort(mut messages: mpsc::Receiver<Bytes>, queues: Vec<mpsc::Sender<Bytes>>) {
    while let Some(mut message) = messages.recv().await {
        if message.is_empty() {
            continue;
        }
        let channel = usize::from(message.split_to(1)[0]);
        let queue = (channel % 2 == 0).then(|| queues.get(channel / 2)).flatten();
        if let Some(queue) = queue.filter(|_| !message.is_empty()) {
            // A connection that has ended misses nothing.
            let _ = queue.send(message).await;
        }
    }
}
