//! `/exec` and `/attach`: joins a client's streams with those of the container runtime.

use bytes::Bytes;
use http::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use skiff_cri::pb;
use tokio::sync::mpsc;

use super::remote::{self, Remote};
use super::session::{self, Session, Sink, Wanted};
use super::upgrade::{Agreed, Transport, agree};
use super::{Body, BoxError, Query, Refusal, Server, websocket};
use crate::spdy::{Connection, Role, Stream};

const WEBSOCKET_PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
const SPDY_PROTOCOLS: [&str; 1] = ["v4.channel.k8s.io"];
/// A `Status` is short.
const ERROR_BYTES_MAX: usize = 64 << 10;

fn wanted(query: &Query) -> Result<Wanted, Refusal> {
    // The API's own names, and those of the kubelet's API.
    let either = |a: &str, b: &str| query.is_set(a) || query.is_set(b);
    let wanted = Wanted {
        stdin: either("stdin", "input"),
        stdout: either("stdout", "output"),
        stderr: either("stderr", "error"),
        tty: query.is_set("tty"),
    };
    if !wanted.stdin && !wanted.stdout && !wanted.stderr {
        return Err(Refusal::BadRequest("you must specify at least 1 of stdin, stdout, stderr".to_owned()));
    }
    Ok(wanted)
}

impl Server {
    pub(super) async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        name: &str,
        query: &Query,
        request: Request<Body>,
    ) -> Result<Response<Body>, Refusal> {
        let wanted = wanted(query)?;
        let command = query.all("command");
        if command.is_empty() {
            return Err(Refusal::BadRequest("you must specify at least one command for the container".to_owned()));
        }
        let (_, container) = self.running(namespace, pod, name).await?;
        let asked = pb::ExecRequest {
            container_id: container.id,
            cmd: command,
            tty: wanted.tty,
            stdin: wanted.stdin,
            stdout: wanted.stdout,
            stderr: wanted.stderr && !wanted.tty,
        };
        let url = self.context.runtime.exec(asked).await.map_err(|error| Refusal::Internal(error.to_string()))?;
        join(url, wanted, request)
    }

    pub(super) async fn attach(
        &self,
        namespace: &str,
        pod_name: &str,
        name: &str,
        query: &Query,
        request: Request<Body>,
    ) -> Result<Response<Body>, Refusal> {
        let mut wanted = wanted(query)?;
        let (pod, container) = self.running(namespace, pod_name, name).await?;
        // A terminal is a property of the container, not of the request.
        let spec = pod.spec.as_ref().and_then(|spec| crate::pods::start::find(spec, name));
        wanted.tty = spec.is_some_and(|spec| spec.tty == Some(true));
        let asked = pb::AttachRequest {
            container_id: container.id,
            stdin: wanted.stdin,
            tty: wanted.tty,
            stdout: wanted.stdout,
            stderr: wanted.stderr && !wanted.tty,
        };
        let url = self.context.runtime.attach(asked).await.map_err(|error| Refusal::Internal(error.to_string()))?;
        join(url, wanted, request)
    }
}

fn join(url: String, wanted: Wanted, mut request: Request<Body>) -> Result<Response<Body>, Refusal> {
    let (response, agreed) = agree(&mut request, &WEBSOCKET_PROTOCOLS, &SPDY_PROTOCOLS)?;
    tokio::spawn(async move {
        if let Err(error) = serve(&url, wanted, agreed).await {
            tracing::debug!(error, "streams of a container ended with an error");
        }
    });
    Ok(response)
}

async fn serve(url: &str, wanted: Wanted, agreed: Agreed) -> Result<(), BoxError> {
    let upgraded = agreed.upgraded.await?;
    tracing::trace!(protocol = agreed.protocol, "streams of a container begin");
    let session = match agreed.transport {
        Transport::WebSocket => websocket::session(upgraded, wanted).await,
        Transport::Spdy => {
            let connection = Connection::new(TokioIo::new(upgraded), Role::Server);
            session::from_spdy(connection, wanted).await.ok_or("the client opened too few streams")?
        }
    };
    match remote::connect(url, wanted).await {
        Ok(remote) => relay(session, remote).await,
        Err(error) => {
            session.error.send(failure(&error.to_string())).await;
            session.error.finish().await;
        }
    }
    Ok(())
}

fn failure(message: &str) -> Bytes {
    let status = json!({
        "metadata": {}, "status": "Failure", "message": message, "reason": "InternalError", "code": 500,
    });
    status.to_string().into()
}

/// Copies until the runtime has closed all outputs, which it does when the command ends.
async fn relay(session: Session, remote: Remote) {
    let Session { stdin, resize, stdout, stderr, error, gone } = session;
    let inputs = [(stdin, remote.stdin), (resize, remote.resize)];
    let mut tasks = Vec::new();
    let mut outputs = vec![(remote.stdout, stdout), (remote.stderr, stderr)];
    for (from, to) in inputs {
        let Some(to) = to else { continue };
        let Stream { sender, receiver, .. } = to;
        // Nothing comes back on an input, but the stream must be read to its end.
        drop(receiver);
        if let Some(from) = from {
            tasks.push(tokio::spawn(async move {
                input(from, &sender).await;
            }));
        }
    }
    let mut errors = remote.error.receiver;
    let status = async {
        let mut text = Vec::new();
        while let Some(piece) = errors.recv().await {
            if text.len() + piece.len() <= ERROR_BYTES_MAX {
                text.extend_from_slice(&piece);
            }
        }
        Bytes::from(text)
    };
    let copies = outputs.drain(..).map(|(from, to)| async move {
        if let Some(from) = from {
            output(from.receiver, &to).await;
        }
        to.finish().await;
    });
    let all = async { tokio::join!(status, futures::future::join_all(copies)).0 };
    // A client that went away ends the command's streams, and with them a command that reads or writes.
    let status = tokio::select! {
        status = all => status,
        () = gone => Bytes::new(),
    };
    if !status.is_empty() {
        error.send(status).await;
    }
    error.finish().await;
    for task in tasks {
        task.abort();
    }
    drop(remote.connection);
}

async fn input(mut from: mpsc::Receiver<Bytes>, to: &crate::spdy::StreamSender) {
    while let Some(data) = from.recv().await {
        if !to.send(data).await {
            return;
        }
    }
    to.finish().await;
}

async fn output(mut from: mpsc::Receiver<Bytes>, to: &Sink) {
    while let Some(data) = from.recv().await {
        if !to.send(data).await {
            return;
        }
    }
}
