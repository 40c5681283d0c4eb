//! One request from its head to its answer: checks, routing, limits, and then forwarding.

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use http::header::{self, HeaderValue};
use http::{Request, StatusCode, Version, request};
use hyper::body::{Body, Incoming};

use super::answers::{self, Answer};
use super::auth;
use super::forward::{self, Admitted};
use super::io::{Activity, Delivery};
use super::limits::{Connections, Networks};
use super::metrics::{HostMetrics, Metrics};
use super::path;
use super::request::{self as checks, Client, Introduction};
use super::routes::Routes;
use crate::config::{AccessLog, ProxyConfig};

/// What all connections share.
pub struct Shared {
    pub routes: Arc<ArcSwap<Routes>>,
    pub config: ProxyConfig,
    pub trusted: Networks,
    pub metrics: Metrics,
    pub connections: AtomicUsize,
    pub of_clients: Connections,
    pub draining: AtomicBool,
}

impl Shared {
    pub fn https_port(&self) -> u16 {
        self.config.https.first().map_or(443, SocketAddr::port)
    }
}

/// What the requests of one connection share.
pub struct Context {
    pub shared: Arc<Shared>,
    pub peer: SocketAddr,
    /// The box's own end of the connection.
    pub local: SocketAddr,
    pub secure: bool,
    pub activity: Arc<Activity>,
    /// What the backend is told of the client, made once.
    pub introduction: OnceLock<Introduction>,
}

impl Context {
    pub fn new(shared: Arc<Shared>, peer: SocketAddr, local: SocketAddr) -> Self {
        let (activity, introduction) = (Activity::new(), OnceLock::new());
        Self { shared, peer, local, secure: false, activity, introduction }
    }

    /// What is looked up for a host: whichever of the box's addresses it is, it means the box.
    fn named<'h>(&self, host: &'h str, own_address: &'h str) -> &'h str {
        match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
            Ok(address) if address.is_loopback() || address == self.local.ip().to_canonical() => own_address,
            Ok(_) | Err(_) => host,
        }
    }
}

/// A request under way, until the last byte of its answer.
pub struct InFlight {
    activity: Arc<Activity>,
    /// In HTTP/1 an answer that is not taken blocks the connection, which is seen there.
    pub delivery: Option<Delivery>,
}

impl InFlight {
    fn new(activity: &Arc<Activity>, version: Version) -> Self {
        activity.begin();
        let delivery = (version > Version::HTTP_11).then(|| activity.answer());
        Self { activity: Arc::clone(activity), delivery }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.activity.end();
    }
}

/// What the access log says besides the answer.
struct Entry {
    method: http::Method,
    host: Box<str>,
    path: Option<http::uri::PathAndQuery>,
    ingress: Option<Box<str>>,
    client: std::net::IpAddr,
}

pub async fn handle(context: Arc<Context>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let started = Instant::now();
    let version = request.version();
    let has_body = !request.body().is_end_stream();
    let logs = context.shared.config.access_log;
    let (parts, body) = request.into_parts();
    let client = checks::client(&parts.headers, context.peer, context.secure, &context.shared.trusted);
    let mut entry = (logs != AccessLog::Off).then(|| Entry {
        method: parts.method.clone(),
        host: "".into(),
        path: parts.uri.path_and_query().cloned(),
        ingress: None,
        client: client.address,
    });
    let routes = context.shared.routes.load_full();
    let (metrics, mut answer) = answer(&context, &routes, client, parts, body, &mut entry).await;
    let status = answer.status();
    let after = started.elapsed();
    metrics.unwrap_or(&context.shared.metrics.unknown).answered(status.as_u16(), after);
    if let Some(entry) = entry.filter(|_| logs == AccessLog::All || status.as_u16() >= 400) {
        log(&entry, &context, status, after);
    }
    // The rest of a refused body would be taken for the next request's head if the connection went on.
    let cut_off = has_body && status.as_u16() >= 400;
    if version <= Version::HTTP_11 && (cut_off || context.shared.draining.load(Ordering::Relaxed)) {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(answer)
}

async fn answer<'r>(
    context: &Context,
    routes: &'r Routes,
    client: Client,
    mut parts: request::Parts,
    body: Incoming,
    entry: &mut Option<Entry>,
) -> (Option<&'r Arc<HostMetrics>>, Answer) {
    let in_flight = InFlight::new(&context.activity, parts.version);
    let host = match checks::check(&parts).and_then(|()| checks::host(&parts)) {
        Ok(host) => host,
        Err(refusal) => return (None, answers::refusal(refusal)),
    };
    if let Some(entry) = entry {
        entry.host = host.clone();
    }
    let path = parts.uri.path();
    if !context.secure
        && let Some(answer) = answers::challenge(path, |token| routes.http_answers.get(token).cloned(), &routes.own)
    {
        return (None, answer);
    }
    let name = context.named(&host, &routes.own.address);
    if let Some(answer) = answers::box_ca(name, path, &routes.own) {
        return (None, answer);
    }
    let found = match routes.find(name, path) {
        Ok(Some(found)) => found,
        Ok(None) => {
            return (None, answers::error(StatusCode::NOT_FOUND, "no application of this box has this address"));
        }
        Err(refusal) => return (None, answers::refusal(refusal)),
    };
    let (served, route) = (found.host, found.route);
    if let Cow::Owned(path) = found.path
        && let Err(refusal) = path::replace(&mut parts.uri, &path)
    {
        return (None, answers::refusal(refusal));
    }
    if let Some(entry) = entry {
        entry.ingress = Some(route.ingress.clone());
    }
    let hop = checks::take_hop(&mut parts, &client, &context.shared.trusted);
    route.guard(&mut parts.headers);
    let admitted = Admitted { context, host: served, route, client, hop, in_flight };
    let answer = match admit(&admitted, &host, &mut parts).await {
        Ok(()) => forward::forward(admitted, parts, body).await,
        Err(answer) => answer,
    };
    (Some(&served.metrics), answer)
}

/// What the Ingress asks for before a request may pass.
async fn admit(admitted: &Admitted<'_>, host: &str, parts: &mut request::Parts) -> Result<(), Answer> {
    let (client, options) = (&admitted.client, &admitted.route.options);
    let shared = &admitted.context.shared;
    if admitted.host.tls && options.plain.ssl_redirect && !client.secure {
        let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        return Err(answers::redirect_to_https(host, shared.https_port(), target));
    }
    if !options.plain.allow.is_empty() && !options.allow.contains(client.address) {
        return Err(answers::error(StatusCode::FORBIDDEN, "your address is not allowed here"));
    }
    if let Some(limiter) = &options.rate {
        limiter.admit(client.address, Instant::now()).map_err(answers::too_many)?;
    }
    if let Some(auth) = &options.plain.basic_auth {
        auth::basic(&parts.headers, auth).await?;
        // The password is for us, not for the application.
        parts.headers.remove(header::AUTHORIZATION);
    }
    if let Some(auth) = &options.plain.forward_auth {
        auth::forward(parts, client, host, auth, options, &admitted.host.metrics).await?;
    }
    Ok(())
}

fn log(entry: &Entry, context: &Context, status: StatusCode, after: std::time::Duration) {
    let path = entry.path.as_ref().map_or("", http::uri::PathAndQuery::as_str);
    tracing::info!(
        target: "access",
        client = %entry.client,
        method = %entry.method,
        host = %entry.host,
        path,
        tls = context.secure,
        status = status.as_u16(),
        ingress = entry.ingress.as_deref().unwrap_or_default(),
        duration_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
        "request"
    );
}
