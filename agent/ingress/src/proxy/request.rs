//! What a request has to be like to be passed on (RFC 9110, 9112, 9113), and what is changed on it.
//!
//! The parser below has refused what is malformed; here is refused what two programs might read in two ways.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri, Version, request};

use super::limits::Networks;

/// Who asks, as far as we believe it.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    pub address: IpAddr,
    /// The other end of the connection: a trusted proxy or the client itself.
    pub peer: SocketAddr,
    pub secure: bool,
}

/// A request that is not passed on: the status and one sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal(pub http::StatusCode, pub &'static str);

const fn bad(reason: &'static str) -> Refusal {
    Refusal(http::StatusCode::BAD_REQUEST, reason)
}

/// The host a request is for, in lower case, without port. RFC 9112, 3.2: one Host, and a valid one.
pub fn host(parts: &request::Parts) -> Result<Box<str>, Refusal> {
    let mut values = parts.headers.get_all(header::HOST).iter();
    let from_header = values.next();
    if values.next().is_some() {
        return Err(bad("the request has more than one Host"));
    }
    let from_header = match from_header {
        Some(value) => Some(value.to_str().map_err(|_| bad("the Host is not valid"))?),
        None => None,
    };
    let from_target = parts.uri.authority().map(http::uri::Authority::as_str);
    let name = match (from_target, from_header) {
        (Some(target), Some(header)) if !target.eq_ignore_ascii_case(header) => {
            return Err(bad("the Host and the request's target name two hosts"));
        }
        (Some(name), _) | (None, Some(name)) => name,
        (None, None) if parts.version == Version::HTTP_10 => "",
        (None, None) => return Err(bad("the request has no Host")),
    };
    without_port(name).ok_or(bad("the Host is not valid"))
}

fn without_port(authority: &str) -> Option<Box<str>> {
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, port)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port_is_good = match port.strip_prefix(':') {
        Some(digits) => digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit()),
        None => port.is_empty(),
    };
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':');
    if !port_is_good || name.len() > 253 || !name.bytes().all(good) {
        return None;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    Some(name.to_ascii_lowercase().into())
}

/// Refuses what is read in two ways.
pub fn check(parts: &request::Parts) -> Result<(), Refusal> {
    let headers = &parts.headers;
    let length = headers.contains_key(header::CONTENT_LENGTH);
    if let Some(coding) = headers.get(header::TRANSFER_ENCODING) {
        let mut all = headers.get_all(header::TRANSFER_ENCODING).iter();
        all.next();
        if length {
            return Err(bad("the request has both Content-Length and Transfer-Encoding"));
        }
        if all.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal(http::StatusCode::NOT_IMPLEMENTED, "the only known Transfer-Encoding is chunked"));
        }
    }
    if length {
        let mut all = headers.get_all(header::CONTENT_LENGTH).iter();
        let digits = |v: &HeaderValue| !v.is_empty() && v.as_bytes().iter().all(u8::is_ascii_digit);
        if !all.next().is_some_and(digits) || all.next().is_some() {
            return Err(bad("the Content-Length is not one number"));
        }
    }
    if parts.method == Method::CONNECT {
        return Err(Refusal(http::StatusCode::METHOD_NOT_ALLOWED, "this server is no proxy for CONNECT"));
    }
    if parts.method == Method::TRACE {
        return Err(Refusal(http::StatusCode::METHOD_NOT_ALLOWED, "TRACE is not allowed"));
    }
    if let Some(expect) = headers.get(header::EXPECT)
        && !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return Err(Refusal(http::StatusCode::EXPECTATION_FAILED, "the only known expectation is 100-continue"));
    }
    path(&parts.uri)
}

/// RFC 9112, 3.2: a path in origin form; an asterisk only for OPTIONS, which the parser sees to.
fn path(uri: &Uri) -> Result<(), Refusal> {
    let path = uri.path();
    if uri.scheme().is_some_and(|s| s != &http::uri::Scheme::HTTP && s != &http::uri::Scheme::HTTPS) {
        return Err(bad("the request's target is not of http or https"));
    }
    if !(path.starts_with('/') || path == "*") {
        return Err(bad("the request's path does not start with a slash"));
    }
    if path.bytes().any(|b| b <= b' ' || b == 0x7f || b == b'\\' || b == b'#') {
        return Err(bad("the request's path has characters that must be encoded"));
    }
    Ok(())
}

/// What a client asks for on its connection only.
#[derive(Debug, Default)]
pub struct Hop {
    pub upgrade: Option<HeaderValue>,
    pub takes_trailers: bool,
}

/// Takes off a request what is not to be passed on, before anything of ours is put on it: a client must not be able to
/// remove or to imitate that.
pub fn take_hop(parts: &mut request::Parts, client: &Client, trusted: &Networks) -> Hop {
    let takes_trailers = parts
        .headers
        .get(header::TE)
        .is_some_and(|te| te.to_str().is_ok_and(|te| te.split(',').any(|t| t.trim().eq_ignore_ascii_case("trailers"))));
    let hop = Hop { upgrade: upgrade(parts), takes_trailers };
    strip_hop_by_hop(&mut parts.headers);
    for name in [header::TE, header::EXPECT, header::TRAILER] {
        parts.headers.remove(name);
    }
    remove_names(&mut parts.headers, is_lookalike);
    if !trusted.contains(client.peer.ip()) {
        remove_names(&mut parts.headers, is_claim);
    }
    hop
}

/// An upgrade to another protocol than HTTP, which is passed through. HTTP/2 is not: RFC 9113, 3.1.
fn upgrade(parts: &request::Parts) -> Option<HeaderValue> {
    let connection = parts.headers.get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok());
    let mut tokens = connection.flat_map(|v| v.split(',')).map(str::trim);
    let protocol = parts.headers.get(header::UPGRADE)?;
    let is_http = protocol.as_bytes().get(..2).is_some_and(|p| p.eq_ignore_ascii_case(b"h2"))
        || protocol.as_bytes().get(..5).is_some_and(|p| p.eq_ignore_ascii_case(b"http/"));
    (parts.version == Version::HTTP_11 && !is_http && tokens.any(|t| t.eq_ignore_ascii_case("upgrade")))
        .then(|| protocol.clone())
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Headers that must not vanish because a client names them in Connection.
const NEVER_NOMINATED: [HeaderName; 11] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::AUTHORIZATION,
    header::COOKIE,
    header::FORWARDED,
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    X_FORWARDED_PROTO,
    X_FORWARDED_PORT,
    X_REAL_IP,
];

/// RFC 9110, 7.6.1: what is meant for one connection only.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let connection = headers.get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok());
        let nominated: Vec<HeaderName> = connection
            .flat_map(|list| list.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
            .filter(|name| !NEVER_NOMINATED.contains(name))
            .collect();
        for name in nominated {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    for name in [header::TRANSFER_ENCODING, header::UPGRADE, KEEP_ALIVE, PROXY_CONNECTION, HTTP2_SETTINGS] {
        headers.remove(name);
    }
}

pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The client behind trusted proxies: the last address in `X-Forwarded-For` that is none of them.
pub fn client(headers: &HeaderMap, peer: SocketAddr, secure: bool, trusted: &Networks) -> Client {
    let direct = Client { address: peer.ip().to_canonical(), peer, secure };
    if trusted.is_empty() || !trusted.contains(peer.ip()) {
        return direct;
    }
    let listed = headers.get_all(X_FORWARDED_FOR).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    let listed: Vec<IpAddr> = listed.map_while(|text| text.trim().parse().ok()).collect();
    let address = listed.iter().rev().find(|a| !trusted.contains(**a)).or(listed.first()).copied();
    let proto = headers.get(X_FORWARDED_PROTO).map(|v| v.as_bytes().eq_ignore_ascii_case(b"https"));
    Client { address: address.unwrap_or(direct.address), peer, secure: proto.unwrap_or(secure) }
}

/// What is said of a client that comes without a trusted proxy: the same for each request of its connection to a host.
#[derive(Debug)]
pub struct Introduction {
    host: HeaderValue,
    address: HeaderValue,
    forwarded: HeaderValue,
}

impl Introduction {
    /// RFC 7239.
    pub fn new(client: &Client, host: &HeaderValue) -> Option<Self> {
        let (text, proto) = (host.to_str().ok()?, scheme(client));
        let forwarded = format!("for={};host=\"{text}\";proto={proto}", node(client.address));
        Some(Self {
            host: host.clone(),
            address: HeaderValue::from_str(&client.address.to_string()).ok()?,
            forwarded: HeaderValue::from_str(&forwarded).ok()?,
        })
    }

    pub fn is_of(&self, host: &HeaderValue) -> bool {
        self.host == *host
    }
}

fn node(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("\"[{v6}]\""),
    }
}

fn scheme(client: &Client) -> &'static str {
    if client.secure { "https" } else { "http" }
}

/// Says who asked and how, for the application. What the client said about it is replaced.
pub fn introduce(headers: &mut HeaderMap, client: &Client, introduction: &Introduction, port: u16) {
    headers.insert(X_FORWARDED_FOR, introduction.address.clone());
    headers.insert(X_REAL_IP, introduction.address.clone());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme(client)));
    headers.insert(X_FORWARDED_HOST, introduction.host.clone());
    headers.insert(X_FORWARDED_PORT, HeaderValue::from(port));
    headers.insert(header::FORWARDED, introduction.forwarded.clone());
}

/// The same behind a trusted proxy, whose words are kept and added to.
pub fn introduce_behind_proxy(headers: &mut HeaderMap, client: &Client, introduction: &Introduction, port: u16) {
    let peer = client.peer.ip().to_canonical();
    let text =
        |headers: &HeaderMap, name: &HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let chain =
        text(headers, &X_FORWARDED_FOR).and_then(|before| HeaderValue::from_str(&format!("{before}, {peer}")).ok());
    let forwarded = text(headers, &header::FORWARDED);
    let forwarded = forwarded.and_then(|before| HeaderValue::from_str(&format!("{before}, for={}", node(peer))).ok());
    let kept = [X_FORWARDED_HOST, X_FORWARDED_PORT].map(|name| (headers.get(&name).cloned(), name));
    introduce(headers, client, introduction, port);
    for (value, name) in kept.into_iter().chain([(chain, X_FORWARDED_FOR), (forwarded, header::FORWARDED)]) {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
}

fn remove_names(headers: &mut HeaderMap, is_meant: fn(&str) -> bool) {
    if headers.keys().any(|name| is_meant(name.as_str())) {
        let meant: Vec<HeaderName> = headers.keys().filter(|name| is_meant(name.as_str())).cloned().collect();
        for name in meant {
            headers.remove(name);
        }
    }
}

/// CGI and its heirs make `X_Real_Ip` and `X-Real-Ip` one, PHP `X.Real.Ip` too: as with nginx, names have letters, digits
/// and hyphens. `Proxy` would be taken for the setting `HTTP_PROXY`.
fn is_lookalike(name: &str) -> bool {
    name == "proxy" || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// What only a proxy says: who asks, and for what. Some applications believe it even of paths, past every rule for them.
fn is_claim(name: &str) -> bool {
    matches!(name, "forwarded" | "x-real-ip" | "x-rewrite-url")
        || name.starts_with("x-forwarded-")
        || name.starts_with("x-original-")
}
