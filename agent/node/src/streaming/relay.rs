//! Moves bytes between a client and a process in a container, until the process ends or the client goes away.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Wanted;
use super::client::{Client, Outcome, Sink};
use super::spdy::StreamWriter;
use super::upgrade::chain;
use super::upstream::Upstream;

/// A `Status` of the runtime is some hundred bytes.
const STATUS_BYTES_MAX: usize = 64 << 10;

pub(super) async fn run(client: Client, upstream: Upstream, wanted: Wanted) {
    let Client { stdin, resize, stdout, stderr, error, outcome, link } = client;
    let ended = link.ended();
    let exchange = async {
        let process = match upstream.open(wanted).await {
            Ok(process) => process,
            Err(error) => return failure(&chain(&error)),
        };
        let input = async {
            tokio::join!(feed(stdin, process.stdin), feed(resize, process.resize));
            // Only the end of the output ends the process.
            std::future::pending::<()>().await;
        };
        let output = async {
            tokio::join!(show(process.stdout, stdout), show(process.stderr, stderr), collect(process.error)).2
        };
        let status = tokio::select! {
            status = output => status,
            () = input => Bytes::new(),
        };
        drop(process.connection);
        if status.is_empty() { failure("the stream of the container runtime has ended") } else { status }
    };
    // When the client is gone, dropping the exchange closes the runtime's side.
    if let Some(status) = ended.run_until_cancelled(exchange).await {
        if let Some(told) = tell(status, outcome) {
            let _ = ended.run_until_cancelled(error.send(told)).await;
        }
        error.close().await;
        link.finish().await;
    }
}

/// The end of the input ends the process's, too.
async fn feed(from: Option<mpsc::Receiver<Bytes>>, to: Option<StreamWriter>) {
    let (Some(mut from), Some(to)) = (from, to) else {
        return;
    };
    while let Some(data) = from.recv().await {
        if to.send(data).await.is_err() {
            break;
        }
    }
    // It may have ended already.
    let _ = to.close().await;
    // Late input is discarded, so that its sender never waits for nobody.
    while from.recv().await.is_some() {}
}

async fn show(from: Option<mpsc::Receiver<Bytes>>, to: Option<Sink>) {
    let (Some(mut from), Some(to)) = (from, to) else {
        return;
    };
    while let Some(data) = from.recv().await {
        // Whoever wants no more of it still gets the exit code.
        let _ = to.send(data).await;
    }
    to.close().await;
}

async fn collect(mut from: mpsc::Receiver<Bytes>) -> Bytes {
    let mut all = BytesMut::new();
    while let Some(data) = from.recv().await {
        let room = STATUS_BYTES_MAX.saturating_sub(all.len());
        all.extend_from_slice(&data[..data.len().min(room)]);
    }
    all.freeze()
}

pub(super) fn tell(status: Bytes, outcome: Outcome) -> Option<Bytes> {
    match outcome {
        Outcome::Status => Some(status),
        Outcome::Words => {
            let parsed: Value = serde_json::from_slice(&status).unwrap_or_default();
            let words = parsed["message"].as_str().unwrap_or("the command failed").to_owned();
            (parsed["status"] != "Success").then(|| words.into())
        }
    }
}

fn failure(message: &str) -> Bytes {
    let status = json!({
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "InternalError",
        "code": 500,
    });
    status.to_string().into()
}
