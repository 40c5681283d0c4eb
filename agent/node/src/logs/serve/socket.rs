//! Logs as the messages of a WebSocket, for clients that can read nothing else, browsers above all. What they send is
//! discarded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::mpsc;

use crate::server::{Body, Refusal};
use crate::streaming::upgrade::{NONE, Offer, Supported, Transport};
use crate::streaming::websocket::{Frames, WebSocket};

const PROTOCOLS: [Supported<Frames>; 3] = [
    Supported { transport: Transport::WebSocket, name: "binary.k8s.io", protocol: Frames::Binary },
    Supported { transport: Transport::WebSocket, name: "base64.binary.k8s.io", protocol: Frames::Text },
    Supported { transport: Transport::WebSocket, name: NONE, protocol: Frames::Binary },
];

pub(super) fn answer(mut request: Request<Body>, chunks: mpsc::Receiver<Bytes>) -> Result<Response<Body>, Refusal> {
    let (frames, response) = Offer::parse(request.headers())?.accept(&PROTOCOLS)?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => send(WebSocket::accept_with(upgraded, frames).await, frames, chunks).await,
            Err(error) => tracing::debug!(%error, "client of a log is gone"),
        }
    });
    Ok(response)
}

async fn send(socket: WebSocket, frames: Frames, mut chunks: mpsc::Receiver<Bytes>) {
    let (messages, mut received, link) = socket.split();
    let ended = link.ended();
    let discard = async { while received.recv().await.is_some() {} };
    let all = async {
        // An empty message first tells that the stream is there.
        let mut next = Some(Bytes::new());
        while let Some(chunk) = next {
            let data = match frames {
                Frames::Binary => chunk,
                Frames::Text => STANDARD.encode(&chunk).into(),
            };
            if messages.send(data).await.is_err() {
                return;
            }
            next = chunks.recv().await;
        }
    };
    let exchange = async {
        tokio::select! {
            () = all => {}
            () = discard => {}
        }
    };
    if ended.run_until_cancelled(exchange).await.is_some() {
        link.finish().await;
    }
}
