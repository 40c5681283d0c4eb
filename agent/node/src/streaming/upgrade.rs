//! What a client wants its HTTP connection to become, and the answer to it. Pure.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::server::{Body, Refusal, full};

pub(crate) const SPDY: &str = "SPDY/3.1";
pub(crate) const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// Stands for no protocol at all: WebSocket clients need not name one.
pub(crate) const NONE: &str = "";

/// The kind of connection asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    WebSocket,
    Spdy,
}

/// One protocol that we speak, over one kind of connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Supported<P> {
    pub transport: Transport,
    pub name: &'static str,
    pub protocol: P,
}

/// The client's side of the negotiation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    transport: Transport,
    /// In the client's order of preference.
    protocols: Vec<String>,
    /// `Sec-WebSocket-Accept`.
    accept_key: Option<String>,
}

impl Offer {
    pub fn is_websocket(headers: &HeaderMap) -> bool {
        list(headers, &header::UPGRADE).iter().any(|name| name.eq_ignore_ascii_case("websocket"))
    }

    pub fn parse(headers: &HeaderMap) -> Result<Self, Refusal> {
        let upgrade = list(headers, &header::UPGRADE);
        if Self::is_websocket(headers) {
            let key = headers.get(header::SEC_WEBSOCKET_KEY);
            let key = key.ok_or_else(|| Refusal::bad_request("Sec-WebSocket-Key is missing"))?;
            return Ok(Self {
                transport: Transport::WebSocket,
                protocols: list(headers, &header::SEC_WEBSOCKET_PROTOCOL),
                accept_key: Some(derive_accept_key(key.as_bytes())),
            });
        }
        if upgrade.iter().any(|name| name.eq_ignore_ascii_case(SPDY)) {
            let protocols = list(headers, &STREAM_PROTOCOL);
            return Ok(Self { transport: Transport::Spdy, protocols, accept_key: None });
        }
        Err(Refusal::bad_request("Upgrade request required"))
    }

    /// Chooses the client's favourite among what we speak, and says so.
    pub fn accept<P: Copy>(&self, supported: &[Supported<P>]) -> Result<(P, Response<Body>), Refusal> {
        let speaks = |name: &String| supported.iter().find(|s| s.transport == self.transport && s.name == name);
        let none = NONE.to_owned();
        let chosen = match self.protocols.is_empty() {
            true => speaks(&none),
            false => self.protocols.iter().find_map(speaks),
        };
        let chosen = chosen.ok_or_else(|| {
            let names: Vec<&str> = supported.iter().map(|s| s.name).collect();
            Refusal::forbidden(format!("unable to upgrade: offered {:?}, supported {names:?}", self.protocols))
        })?;
        Ok((chosen.protocol, self.response(chosen.name)))
    }

    fn response(&self, protocol: &'static str) -> Response<Body> {
        let mut response = Response::new(full(""));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        match self.transport {
            Transport::WebSocket => {
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                if protocol != NONE {
                    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
                }
                if let Some(Ok(key)) = self.accept_key.as_deref().map(HeaderValue::from_str) {
                    headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
                }
            }
            Transport::Spdy => {
                headers.insert(header::UPGRADE, HeaderValue::from_static(SPDY));
                headers.insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
            }
        }
        response
    }
}

/// The values of a header that may be given many times, or once with commas.
fn list(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let words = values.flat_map(|value| value.split(',')).map(str::trim).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
