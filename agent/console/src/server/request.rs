//! What is read from a request: who asks, how they call the box, and over which connection. Pure.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName};

/// `__Host-`: browsers take it over HTTPS only, for this very host only.
pub const COOKIE: &str = "__Host-skiff";

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub client: IpAddr,
    /// As the client calls the box, without the port.
    pub host: String,
    pub is_secure: bool,
    /// `https://HOST[:PORT]`
    pub secure_origin: String,
    /// The form was sent from a page of this origin, as the browser says.
    pub is_same_origin: bool,
    pub session: Option<String>,
}

impl Asked {
    /// `None`: what the proxy says on each request is missing.
    pub fn read(parts: &http::request::Parts, https_port: u16) -> Option<Self> {
        let headers = &parts.headers;
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let authority: http::uri::Authority = text(&header::HOST)?.parse().ok()?;
        let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
        // The proxy appends who it talks to: what is before comes from further away.
        let client = text(&X_FORWARDED_FOR)?.rsplit(',').next()?.trim().parse().ok()?;
        let is_secure = text(&X_FORWARDED_PROTO)? == "https";
        let shown = authority.host().to_ascii_lowercase();
        let port = if is_secure { authority.port_u16().unwrap_or(443) } else { https_port };
        let secure_origin = match port {
            443 => format!("https://{shown}"),
            port => format!("https://{shown}:{port}"),
        };
        let is_same_origin = text(&header::ORIGIN).is_some_and(|origin| origin == secure_origin);
        Some(Self { client, host, is_secure, secure_origin, is_same_origin, session: session(headers) })
    }
}

fn session(headers: &HeaderMap) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = all.flat_map(|value| value.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    cookies.find(|(name, _)| *name == COOKIE).map(|(_, value)| value.to_owned())
}

pub fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
}

/// The field `code`. A code has nothing but letters, digits and what is between them, so that the encoding of the rest
/// may be left as it is: it is wrong anyway.
pub fn code(form: &[u8]) -> Option<String> {
    let form = std::str::from_utf8(form).ok()?;
    let mut fields = form.split('&').filter_map(|field| field.split_once('='));
    let (_, value) = fields.find(|(name, _)| *name == "code")?;
    Some(value.replace(['+'], " ").replace("%20", " ").replace("%2D", "-"))
}
