//! Exec, attach and port-forward: the client's side in WebSocket or SPDY, the container runtime's in SPDY, and the relay
//! between them. Connections of port-forward are made here, inside the pod's network namespace.

use std::sync::Arc;

use http::{Request, Response};
use skiff_cri::{Runtime, pb};

use crate::server::{Body, Found, Query, Refusal, Target};

mod client;
mod port_forward;
mod relay;
mod spdy;
pub(crate) mod upgrade;
mod upstream;
pub(crate) mod websocket;

use client::{Client, PROTOCOLS};
pub(crate) use port_forward::port_forward;
use upgrade::Offer;
use upstream::Upstream;

/// The streams a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Wanted {
    fn parse(query: &Query) -> Result<Self, Refusal> {
        let tty = query.is_set("tty");
        let (stdin, stdout) = (query.is_set("stdin"), query.is_set("stdout"));
        // A terminal has one output.
        let stderr = query.is_set("stderr") && !tty;
        if !stdin && !stdout && !stderr {
            return Err(Refusal::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
        }
        Ok(Self { stdin, stdout, stderr, tty })
    }
}

pub(crate) async fn exec(
    runtime: &Arc<dyn Runtime>,
    target: Target<'_>,
    request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    let query = Query::of(&request);
    let wanted = Wanted::parse(&query)?;
    let cmd = query.all("command");
    if cmd.is_empty() {
        return Err(Refusal::bad_request("you must specify at least 1 command for the container"));
    }
    let offer = Offer::parse(request.headers())?;
    let container_id = running(runtime.as_ref(), target).await?;
    let Wanted { stdin, stdout, stderr, tty } = wanted;
    let url = runtime.exec(pb::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr }).await?;
    connect(&url, wanted, &offer, request).await
}

pub(crate) async fn attach(
    runtime: &Arc<dyn Runtime>,
    target: Target<'_>,
    request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    let wanted = Wanted::parse(&Query::of(&request))?;
    let offer = Offer::parse(request.headers())?;
    let container_id = running(runtime.as_ref(), target).await?;
    let Wanted { stdin, stdout, stderr, tty } = wanted;
    let url = runtime.attach(pb::AttachRequest { container_id, stdin, tty, stdout, stderr }).await?;
    connect(&url, wanted, &offer, request).await
}

async fn running(runtime: &dyn Runtime, target: Target<'_>) -> Result<String, Refusal> {
    let found = Found::find(runtime, target).await?;
    let missing = || Refusal::internal(format!("container not found (\"{}\")", target.container));
    found.running().map(|container| container.id.clone()).ok_or_else(missing)
}

/// Reaches the runtime first, so that its refusal is an answer and not a broken stream.
async fn connect(
    url: &str,
    wanted: Wanted,
    offer: &Offer,
    mut request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    let (protocol, response) = offer.accept(&PROTOCOLS)?;
    let upstream = Upstream::connect(url).await.map_err(|error| Refusal::internal(upgrade::chain(&error)))?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let result = async {
            let upgraded = upgrade.await?;
            let client = Client::accept(upgraded, protocol, wanted).await?;
            relay::run(client, upstream, wanted).await;
            Ok::<(), client::Error>(())
        };
        if let Err(error) = result.await {
            tracing::debug!(error = upgrade::chain(&error), "client of a stream is gone");
        }
    });
    Ok(response)
}

#[cfg(test)]
pub(crate) mod tests;
