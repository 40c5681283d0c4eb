//! Protocol upgrades: which protocol a client wants, and the answer that switches to it.

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Body, Refusal, full};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    WebSocket,
    Spdy,
}

/// What was agreed on.
pub(super) struct Agreed {
    pub transport: Transport,
    /// The sub-protocol, for instance `v5.channel.k8s.io`.
    pub protocol: String,
    pub upgraded: OnUpgrade,
}

const SPDY_PROTOCOL: &str = "x-stream-protocol-version";

fn list(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(|item| item.trim().to_owned())
        .filter(|item| !item.is_empty())
        .collect()
}

/// Chooses among the protocols we speak (best first) and makes the answer.
pub(super) fn agree(
    request: &mut Request<Body>,
    websocket: &[&str],
    spdy: &[&str],
) -> Result<(Response<Body>, Agreed), Refusal> {
    let headers = request.headers().clone();
    let wanted = list(&headers, header::UPGRADE.as_str());
    let is = |name: &str| wanted.iter().any(|item| item.eq_ignore_ascii_case(name));
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    let (transport, protocol) = if is("websocket") {
        let protocol = choose(&list(&headers, "sec-websocket-protocol"), websocket)?;
        let key = headers.get("sec-websocket-key");
        let key = key.ok_or_else(|| Refusal::BadRequest("Sec-WebSocket-Key is missing".to_owned()))?;
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
        let accept = accept.map_err(|error| Refusal::Internal(error.to_string()))?;
        response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        response.headers_mut().insert("sec-websocket-accept", accept);
        set(&mut response, "sec-websocket-protocol", &protocol)?;
        (Transport::WebSocket, protocol)
    } else if is("SPDY/3.1") {
        let protocol = choose(&list(&headers, SPDY_PROTOCOL), spdy)?;
        response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        set(&mut response, SPDY_PROTOCOL, &protocol)?;
        (Transport::Spdy, protocol)
    } else {
        return Err(Refusal::BadRequest("Upgrade request required".to_owned()));
    };
    Ok((response, Agreed { transport, protocol, upgraded: hyper::upgrade::on(request) }))
}

fn set(response: &mut Response<Body>, name: &'static str, value: &str) -> Result<(), Refusal> {
    let value = HeaderValue::from_str(value).map_err(|error| Refusal::Internal(error.to_string()))?;
    response.headers_mut().insert(name, value);
    Ok(())
}

fn choose(offered: &[String], ours: &[&str]) -> Result<String, Refusal> {
    let best = ours.iter().find(|protocol| offered.iter().any(|offer| offer == *protocol));
    let refused = || {
        Refusal::BadRequest(format!(
            "unable to negotiate protocol: client supports {offered:?}, server accepts {ours:?}"
        ))
    };
    best.map(|protocol| (*protocol).to_owned()).ok_or_else(refused)
}
