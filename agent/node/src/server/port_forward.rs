//! `/portForward`: each connection of the client is a pair of SPDY streams, one for data and one for an error text. The
//! SPDY connection is the upgraded one itself or, with newer clients, tunnelled in a WebSocket.

use std::collections::HashMap;

use http::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::netns::dial;
use super::upgrade::{Agreed, Transport, agree};
use super::{Body, BoxError, Query, Refusal, Server, websocket};
use crate::spdy::{Connection, Role, Stream};

const WEBSOCKET_PROTOCOLS: [&str; 1] = ["SPDY/3.1+portforward.k8s.io"];
const SPDY_PROTOCOLS: [&str; 1] = ["portforward.k8s.io"];
const COPY_BYTES: usize = 32 << 10;
/// Streams whose partner has not come; a client opens both at once.
const HALF_OPEN_MAX: usize = 128;

impl Server {
    pub(super) async fn port_forward(
        &self,
        namespace: &str,
        pod_name: &str,
        _query: &Query,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Refusal> {
        let pod = self.pod(namespace, pod_name)?;
        let observed = self.observe(&pod).await?;
        let not_running =
            || Refusal::BadRequest(format!("unable to forward port because pod \"{pod_name}\" is not running"));
        let sandbox = observed.sandbox().ok_or_else(not_running)?;
        let pid = self.context.runtime.pod_sandbox_pid(&sandbox.id).await;
        let pid = pid.map_err(|error| Refusal::Internal(error.to_string()))?;
        let (response, agreed) = agree(&mut request, &WEBSOCKET_PROTOCOLS, &SPDY_PROTOCOLS)?;
        tokio::spawn(async move {
            if let Err(error) = serve(agreed, pid).await {
                tracing::debug!(error, "port-forward ended with an error");
            }
        });
        Ok(response)
    }
}

async fn serve(agreed: Agreed, pid: u32) -> Result<(), BoxError> {
    let upgraded = agreed.upgraded.await?;
    let mut connection = match agreed.transport {
        Transport::WebSocket => Connection::new(websocket::tunnel(upgraded).await, Role::Server),
        Transport::Spdy => Connection::new(TokioIo::new(upgraded), Role::Server),
    };
    let mut half_open: HashMap<String, Stream> = HashMap::new();
    while let Some(stream) = connection.accept().await {
        // Very old clients send no identifier; theirs come as an error stream and the data stream two numbers later.
        let first =
            if stream.header("streamtype") == Some("error") { stream.id() } else { stream.id().saturating_sub(2) };
        let key = stream.header("requestid").map_or_else(|| first.to_string(), str::to_owned);
        match half_open.remove(&key) {
            Some(other) => {
                let (data, error) = match stream.header("streamtype") {
                    Some("data") => (stream, other),
                    Some(_) | None => (other, stream),
                };
                tokio::spawn(forward(data, error, pid));
            }
            None if half_open.len() < HALF_OPEN_MAX => {
                half_open.insert(key, stream);
            }
            None => return Err("too many half-open streams".into()),
        }
    }
    Ok(())
}

async fn forward(data: Stream, error: Stream, pid: u32) {
    let port = data.header("port").unwrap_or_default().to_owned();
    let result = match port.parse::<u16>() {
        Ok(number) => copy(data, number, pid).await.map_err(|error| error.to_string()),
        Err(_) => Err("the port is not a number".to_owned()),
    };
    if let Err(reason) = result {
        let message = format!("error forwarding port {port} to pod: {reason}");
        error.sender.send(message.into()).await;
    }
    error.sender.finish().await;
}

async fn copy(data: Stream, port: u16, pid: u32) -> std::io::Result<()> {
    let Stream { sender, mut receiver, .. } = data;
    let dialled = dial(pid, port).await;
    let stream = match dialled {
        Ok(stream) => stream,
        Err(error) => {
            sender.finish().await;
            return Err(error);
        }
    };
    let (mut reader, mut writer) = stream.into_split();
    let outward = async {
        let mut buffer = bytes::BytesMut::with_capacity(COPY_BYTES);
        while reader.read_buf(&mut buffer).await? > 0 {
            if !sender.send(buffer.split().freeze()).await {
                break;
            }
            buffer.reserve(COPY_BYTES);
        }
        sender.finish().await;
        Ok(())
    };
    let inward = async {
        while let Some(piece) = receiver.recv().await {
            writer.write_all(&piece).await?;
        }
        writer.shutdown().await
    };
    let both: (std::io::Result<()>, std::io::Result<()>) = tokio::join!(outward, inward);
    both.0
}
