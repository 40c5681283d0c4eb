//! From a checked request to the backend's answer: endpoints are tried until one takes it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version, request};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;

use super::answers::{self, Answer};
use super::balance::{self, Active, Endpoint};
use super::body::{BackendBody, ClientBody, RequestBody, ResponseBody, Verdict};
use super::compress;
use super::handle::{Context, InFlight};
use super::request::{self as checks, Client, Hop, Introduction};
use super::routes::{Backend, Host, Route};
use super::tunnel::{self, Tunnel};
use super::upstream::{self, Failed, Lease, SendError, Timeouts};
use crate::table::{Options, Protocol};

/// Endpoints a request is tried at; each takes its time to fail.
const TRIES_MAX: usize = 5;
/// Pooled connections that may turn out to be closed do not count as tries, but there is an end to it.
const STALE_MAX: usize = 4;

/// A request that may go to a backend.
pub struct Admitted<'a> {
    pub context: &'a Context,
    pub host: &'a Host,
    pub route: &'a Route,
    pub client: Client,
    pub hop: Hop,
    pub in_flight: InFlight,
}

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub async fn forward(admitted: Admitted<'_>, mut parts: request::Parts, body: Incoming) -> Answer {
    let options = &admitted.route.options.plain;
    let Some(backend) = admitted.route.backend.as_ref().filter(|b| !b.endpoints.is_empty()) else {
        return answers::error(StatusCode::SERVICE_UNAVAILABLE, "the application has no running instance");
    };
    if body.size_hint().lower() > options.body_bytes_max {
        return answers::error(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than this application allows");
    }
    let client_upgrade = admitted.hop.upgrade.as_ref().and_then(|_| parts.extensions.remove::<OnUpgrade>());
    let coding = if options.compress { compress::accepted(&parts.headers) } else { None };
    let chosen = options.session_cookie.as_deref().and_then(|name| chosen(&parts.headers, name, backend));
    let had_choice = chosen.is_some();
    let Ok(body) = settle_empty(&parts, body, options).await else {
        return answers::error(StatusCode::BAD_REQUEST, "the body is longer than its Content-Length");
    };
    let (body, verdict) = request_body(body, options, admitted.host);
    if let Err(refusal) = prepare(&admitted, &mut parts, backend.protocol) {
        return answers::refusal(refusal);
    }
    let has_length = matches!(body, RequestBody::Empty) || parts.headers.contains_key(header::CONTENT_LENGTH);
    if !has_length && backend.protocol == Protocol::Http1 {
        // Without it, the length of a GET's body would be taken for zero.
        parts.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let method = parts.method.clone();
    let sent = send(backend, chosen, Request::from_parts(parts, body), verdict.as_deref(), options, &admitted).await;
    match sent {
        Ok(sent) => {
            let cookie = options.session_cookie.as_deref().filter(|_| !had_choice);
            respond(admitted, sent, client_upgrade, coding, cookie, &method)
        }
        Err(error) => no_answer(&error, verdict.as_deref()),
    }
}

/// HTTP/2 can declare an empty body and then send one: that is seen before the request is passed on.
async fn settle_empty(parts: &request::Parts, mut body: Incoming, options: &Options) -> Result<Incoming, ()> {
    let is_declared = parts.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0");
    if !is_declared || body.is_end_stream() {
        return Ok(body);
    }
    let limit = Duration::from_millis(options.response_timeout_ms);
    match tokio::time::timeout(limit, body.frame()).await {
        Ok(None) => Ok(body),
        Ok(Some(Ok(frame))) if frame.data_ref().is_none_or(Bytes::is_empty) => Ok(body),
        Ok(Some(_)) | Err(_) => Err(()),
    }
}

fn request_body(body: Incoming, options: &Options, host: &Host) -> (RequestBody, Option<Arc<Verdict>>) {
    if body.is_end_stream() {
        return (RequestBody::Empty, None);
    }
    let idle = Duration::from_millis(options.response_timeout_ms.min(options.idle_timeout_ms));
    let (body, verdict) = ClientBody::new(body, options.body_bytes_max, idle, Arc::clone(&host.metrics));
    (RequestBody::Client(Box::new(body)), Some(verdict))
}

/// The head as the backend gets it.
fn prepare(admitted: &Admitted<'_>, parts: &mut request::Parts, protocol: Protocol) -> Result<(), checks::Refusal> {
    let context = admitted.context;
    let invalid = checks::Refusal(StatusCode::BAD_REQUEST, "the request's target is not valid");
    let authority = match parts.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).map_err(|_| invalid)?,
        None => parts.headers.get(header::HOST).cloned().unwrap_or_else(|| HeaderValue::from_static("")),
    };
    let headers = &mut parts.headers;
    join_cookies(headers);
    introduce(context, headers, &admitted.client, &authority).ok_or(invalid)?;
    if admitted.hop.takes_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = admitted.hop.upgrade.clone() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
    let target = parts.uri.path_and_query().cloned();
    let target = target.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
    match protocol {
        Protocol::Http1 => {
            if admitted.hop.takes_trailers {
                parts.headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
            }
            parts.headers.insert(header::HOST, authority);
            parts.uri = Uri::from(target);
            parts.version = Version::HTTP_11;
        }
        Protocol::H2c => {
            parts.headers.remove(header::HOST);
            parts.headers.remove(header::CONNECTION);
            let uri = Uri::builder().scheme("http").authority(authority.as_bytes()).path_and_query(target);
            parts.uri = uri.build().map_err(|_| invalid)?;
            parts.version = Version::HTTP_2;
        }
    }
    Ok(())
}

fn introduce(context: &Context, headers: &mut HeaderMap, client: &Client, authority: &HeaderValue) -> Option<()> {
    if context.shared.trusted.contains(context.peer.ip()) {
        let introduction = Introduction::new(client, authority)?;
        checks::introduce_behind_proxy(headers, client, &introduction, context.local.port());
        return Some(());
    }
    let known = match context.introduction.get() {
        Some(known) => known,
        None => {
            let made = Introduction::new(client, authority)?;
            context.introduction.get_or_init(|| made)
        }
    };
    if known.is_of(authority) {
        checks::introduce(headers, client, known, context.local.port());
    } else {
        checks::introduce(headers, client, &Introduction::new(client, authority)?, context.local.port());
    }
    Some(())
}

/// RFC 9113, 8.2.3: HTTP/2 splits cookies, HTTP/1 must not have them split.
fn join_cookies(headers: &mut HeaderMap) {
    let mut all = headers.get_all(header::COOKIE).iter();
    if all.next().is_none() || all.next().is_none() {
        return;
    }
    let parts: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&parts.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// The endpoint that the client's cookie names, if it is still there and well.
fn chosen(headers: &HeaderMap, name: &str, backend: &Backend) -> Option<Arc<Endpoint>> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    let mut pairs = cookies.flat_map(|v| v.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let value = pairs.find(|(key, _)| *key == name)?.1;
    backend.endpoints.iter().find(|e| e.cookie == value && e.set_aside_ms() == 0).cloned()
}

struct Sent {
    response: Response<Incoming>,
    lease: Lease,
    active: Active,
    endpoint: Arc<Endpoint>,
}

/// What is needed to send a request again that a server may have seen.
fn copy(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let repeatable = matches!(request.body(), RequestBody::Empty)
        && upstream::is_idempotent(request.method())
        && !request.headers().contains_key(header::UPGRADE);
    if !repeatable {
        return None;
    }
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

async fn send(
    backend: &Backend,
    chosen: Option<Arc<Endpoint>>,
    request: Request<RequestBody>,
    verdict: Option<&Verdict>,
    options: &Options,
    admitted: &Admitted<'_>,
) -> Result<Sent, SendError> {
    let timeouts = Timeouts {
        connect: Duration::from_millis(options.connect_timeout_ms),
        response: Duration::from_millis(options.response_timeout_ms),
    };
    let mut tried: Vec<SocketAddr> = Vec::new();
    let (mut chosen, mut request, mut stale) = (chosen, request, 0);
    loop {
        let endpoint = match chosen.take() {
            Some(endpoint) => endpoint,
            None => Arc::clone(balance::pick(&backend.endpoints, &tried).expect("the caller saw an endpoint")),
        };
        let active = Active::on(Arc::clone(&endpoint));
        let again = copy(&request);
        let sent = match backend.protocol {
            Protocol::Http1 => upstream::send(endpoint.address, request, &timeouts).await,
            Protocol::H2c => upstream::send_shared(endpoint.address, request, &timeouts).await,
        };
        let failed = match sent {
            Ok((response, lease)) => {
                endpoint.succeeded();
                return Ok(Sent { response, lease, active, endpoint });
            }
            Err(failed) => failed,
        };
        let Failed { error, request: unsent, reused } = failed;
        let client_failed =
            verdict.is_some_and(|v| v.broken.load(Ordering::Relaxed) || v.stalled.load(Ordering::Relaxed));
        let too_large = verdict.is_some_and(|v| v.too_large.load(Ordering::Relaxed));
        if client_failed || too_large || matches!(error, SendError::ResponseTimeout) {
            return Err(error);
        }
        let touched = verdict.is_some_and(|v| v.touched.load(Ordering::Relaxed));
        let Some(next) = unsent.filter(|_| !touched).or(again) else {
            note_failure(backend, &endpoint, &error, reused);
            return Err(error);
        };
        if reused && stale < STALE_MAX {
            // Closed while it was kept: most likely only this connection.
            stale += 1;
        } else {
            note_failure(backend, &endpoint, &error, false);
            tried.push(endpoint.address);
            if tried.len() >= TRIES_MAX {
                return Err(error);
            }
        }
        admitted.context.shared.metrics.retries.fetch_add(1, Ordering::Relaxed);
        request = next;
    }
}

fn note_failure(backend: &Backend, endpoint: &Endpoint, error: &SendError, reused: bool) {
    if reused {
        return;
    }
    if endpoint.set_aside_ms() == 0 {
        tracing::warn!(backend = backend.name, endpoint = %endpoint.address, %error, "endpoint set aside");
    }
    endpoint.failed(&error.to_string());
}

fn respond(
    admitted: Admitted<'_>,
    sent: Sent,
    client_upgrade: Option<OnUpgrade>,
    coding: Option<compress::Coding>,
    cookie: Option<&str>,
    method: &Method,
) -> Answer {
    let Sent { mut response, lease, active, endpoint } = sent;
    let options = &admitted.route.options.plain;
    let idle = Duration::from_millis(options.idle_timeout_ms);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client) = client_upgrade else {
            return answers::error(StatusCode::BAD_GATEWAY, "the application changed the protocol unasked");
        };
        tunnel::start(Tunnel { client, backend: hyper::upgrade::on(&mut response), lease, active, idle });
        return response.map(|_| ResponseBody::Empty);
    }
    let (mut parts, body) = response.into_parts();
    checks::strip_hop_by_hop(&mut parts.headers);
    parts.headers.remove(X_ACCEL_BUFFERING);
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    if options.hsts_seconds > 0 && admitted.client.secure && admitted.host.trusted {
        let value = HeaderValue::from_str(&format!("max-age={}", options.hsts_seconds));
        parts.headers.entry(header::STRICT_TRANSPORT_SECURITY).or_insert(value.expect("digits are valid"));
    }
    if let Some(name) = cookie {
        let secure = if admitted.client.secure { "; Secure" } else { "" };
        let value = format!("{name}={}; Path=/; HttpOnly; SameSite=Lax{secure}", endpoint.cookie);
        if let Ok(value) = HeaderValue::from_str(&value) {
            parts.headers.append(header::SET_COOKIE, value);
        }
    }
    let metrics = Arc::clone(&admitted.host.metrics);
    let body = BackendBody::new(body, lease, active, Some(admitted.in_flight), metrics, idle);
    let coding = coding.filter(|_| method != Method::HEAD && compress::is_worth_it(&parts));
    let body = match coding {
        None => ResponseBody::Backend(Box::new(body)),
        Some(coding) => match compress::compress(&mut parts, body, coding) {
            Ok(compressed) => ResponseBody::Compressed(Box::new(compressed)),
            Err(error) => {
                tracing::error!(%error, "the compressor does not start");
                return answers::error(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be compressed");
            }
        },
    };
    Response::from_parts(parts, body)
}

fn no_answer(error: &SendError, verdict: Option<&Verdict>) -> Answer {
    let is =
        |flag: fn(&Verdict) -> &std::sync::atomic::AtomicBool| verdict.is_some_and(|v| flag(v).load(Ordering::Relaxed));
    if is(|v| &v.too_large) {
        return answers::error(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than this application allows");
    }
    if is(|v| &v.stalled) {
        return answers::error(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
    }
    if is(|v| &v.broken) {
        return answers::error(StatusCode::BAD_REQUEST, "the body is not valid");
    }
    match error {
        SendError::ResponseTimeout => {
            answers::error(StatusCode::GATEWAY_TIMEOUT, "the application did not answer in time")
        }
        SendError::Connect(_) | SendError::ConnectTimeout | SendError::Unsent { .. } | SendError::NoAnswer { .. } => {
            answers::error(StatusCode::BAD_GATEWAY, "the application does not answer")
        }
    }
}
