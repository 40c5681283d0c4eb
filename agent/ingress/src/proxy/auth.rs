//! Who may use an application: passwords of its own, or another Service that decides.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode, request};
use hyper::body::Incoming;
use tokio::sync::Semaphore;

use super::answers::{self, Answer};
use super::balance::{self, Active};
use super::body::{BackendBody, RequestBody, ResponseBody};
use super::metrics::HostMetrics;
use super::request::Client;
use super::routes::Options;
use super::upstream::{self, Lease, Timeouts};
use crate::table::{BasicAuth, ForwardAuth};

/// bcrypt is slow on purpose: more at once would let anybody fill the processor with wrong passwords.
const VERIFICATIONS_MAX: usize = 2;
/// Whoever tries passwords as fast as he can keeps the others waiting no longer than this.
const VERIFICATION_WAIT_MAX: Duration = Duration::from_secs(5);
/// Each step doubles the work; this takes a second on a small board, and what tools make by themselves is 10 or 12.
const COST_MAX: u32 = 14;
/// Right passwords are remembered, as browsers send them with every request.
const REMEMBERED_MAX: usize = 4096;
const FORWARD_TIMEOUT: Duration = Duration::from_secs(10);

type Digest = [u8; 32];

fn remembered() -> &'static Mutex<HashMap<Digest, ()>> {
    static REMEMBERED: OnceLock<Mutex<HashMap<Digest, ()>>> = OnceLock::new();
    REMEMBERED.get_or_init(Mutex::default)
}

fn digest(user: &str, password: &str, hash: &str) -> Digest {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in [user, password, hash] {
        context.update(&part.len().to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut digest = Digest::default();
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// RFC 7617.
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// Whether the request carries a user's right password.
pub async fn basic(headers: &HeaderMap, auth: &BasicAuth) -> Result<(), Answer> {
    let denied = || {
        let mut answer = answers::error(StatusCode::UNAUTHORIZED, "a user name and a password are needed");
        let realm = auth.realm.replace(['"', '\\'], "");
        if let Ok(value) = HeaderValue::from_str(&format!("Basic realm=\"{realm}\", charset=\"UTF-8\"")) {
            answer.headers_mut().insert(WWW_AUTHENTICATE, value);
        }
        answer
    };
    let (user, password) = credentials(headers).ok_or_else(denied)?;
    let Some(hash) = auth.users.get(&user) else {
        // The time of the answer must not tell which users there are.
        if let Some(decoy) = auth.users.values().find(|hash| !hash.starts_with("plain:")) {
            verify(password, decoy.clone()).await;
        }
        return Err(denied());
    };
    if let Some(plain) = hash.strip_prefix("plain:") {
        let same = aws_lc_rs::constant_time::verify_slices_are_equal(plain.as_bytes(), password.as_bytes());
        return same.map_err(|_| denied());
    }
    let key = digest(&user, &password, hash);
    if remembered().lock().unwrap_or_else(PoisonError::into_inner).contains_key(&key) {
        return Ok(());
    }
    if !verify(password, hash.clone()).await {
        return Err(denied());
    }
    let mut known = remembered().lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= REMEMBERED_MAX {
        known.clear();
    }
    known.insert(key, ());
    Ok(())
}

/// `$2y$10$…`: 10.
fn cost(hash: &str) -> Option<u32> {
    hash.split('$').nth(2)?.parse().ok()
}

async fn verify(password: String, hash: String) -> bool {
    static TURN: Semaphore = Semaphore::const_new(VERIFICATIONS_MAX);
    if cost(&hash).is_none_or(|cost| cost > COST_MAX) {
        tracing::warn!(max = COST_MAX, "a password is not verified: its bcrypt hash costs too much, or is none");
        return false;
    }
    let Ok(Ok(_turn)) = tokio::time::timeout(VERIFICATION_WAIT_MAX, TURN.acquire()).await else { return false };
    let verified = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash).unwrap_or(false));
    verified.await.unwrap_or(false)
}

/// Headers of the request that the deciding Service gets.
const PASSED: [HeaderName; 5] =
    [header::AUTHORIZATION, header::COOKIE, header::ACCEPT, header::USER_AGENT, header::ORIGIN];

/// Asks the Service that decides. On a yes the headers it wants the application to see replace those of the client.
pub async fn forward(
    parts: &mut request::Parts,
    client: &Client,
    host: &str,
    auth: &ForwardAuth,
    options: &Options,
    metrics: &std::sync::Arc<HostMetrics>,
) -> Result<(), Answer> {
    let unavailable = |why: &str| {
        answers::error(StatusCode::SERVICE_UNAVAILABLE, &format!("the service that decides on access {why}"))
    };
    let endpoints = options.auth_backend.as_ref().map(|b| b.endpoints.as_slice()).unwrap_or_default();
    let mut tried = Vec::new();
    let (response, lease, active) = loop {
        let Some(endpoint) = balance::pick(endpoints, &tried) else { return Err(unavailable("has no endpoints")) };
        let active = Active::on(std::sync::Arc::clone(endpoint));
        let request = question(parts, client, host, auth).map_err(|_| unavailable("cannot be asked this"))?;
        let timeouts =
            Timeouts { connect: Duration::from_millis(options.plain.connect_timeout_ms), response: FORWARD_TIMEOUT };
        match upstream::send(endpoint.address, request, &timeouts).await {
            Ok((response, lease)) => break (response, lease, active),
            Err(failed) => {
                if !failed.reused {
                    endpoint.failed(&failed.error.to_string());
                    tried.push(endpoint.address);
                }
                if tried.len() >= endpoints.len().min(3) {
                    return Err(unavailable("does not answer"));
                }
            }
        }
    };
    decide(parts, response, lease, active, auth, metrics).map_err(|answer| *answer)
}

fn question(
    parts: &request::Parts,
    client: &Client,
    host: &str,
    auth: &ForwardAuth,
) -> http::Result<Request<RequestBody>> {
    let proto = if client.secure { "https" } else { "http" };
    let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut request = Request::get(auth.path.as_str())
        .header(header::HOST, auth.host.as_str())
        .header("x-forwarded-method", parts.method.as_str())
        .header("x-forwarded-proto", proto)
        .header("x-forwarded-host", host)
        .header("x-forwarded-uri", target)
        .header("x-original-url", format!("{proto}://{host}{target}"))
        .header(super::request::X_FORWARDED_FOR, client.address.to_string())
        .header("x-real-ip", client.address.to_string())
        .body(RequestBody::Empty)?;
    for name in PASSED {
        for value in parts.headers.get_all(&name) {
            request.headers_mut().append(&name, value.clone());
        }
    }
    Ok(request)
}

fn decide(
    parts: &mut request::Parts,
    response: Response<Incoming>,
    lease: Lease,
    active: Active,
    auth: &ForwardAuth,
    metrics: &std::sync::Arc<HostMetrics>,
) -> Result<(), Box<Answer>> {
    for name in &auth.headers {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
        parts.headers.remove(&name);
        if response.status().is_success() {
            for value in response.headers().get_all(&name) {
                parts.headers.append(&name, value.clone());
            }
        }
    }
    if response.status().is_success() {
        return Ok(());
    }
    let wants_page =
        parts.headers.get(header::ACCEPT).and_then(|a| a.to_str().ok()).is_some_and(|a| a.contains("html"));
    if let (StatusCode::UNAUTHORIZED, true, Some(sign_in)) = (response.status(), wants_page, &auth.sign_in) {
        return Err(Box::new(answers::redirect(StatusCode::FOUND, sign_in)));
    }
    let (mut head, body) = response.into_parts();
    super::request::strip_hop_by_hop(&mut head.headers);
    let body = BackendBody::new(body, lease, active, None, std::sync::Arc::clone(metrics), FORWARD_TIMEOUT);
    Err(Box::new(Response::from_parts(head, ResponseBody::Backend(Box::new(body)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(user: &str, password: &str) -> HeaderMap {
        let value = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(&value).unwrap())])
    }

    #[tokio::test]
    async fn unknown_users_take_as_long_and_no_hash_takes_for_ever() {
        let hash = bcrypt::hash("secret", 9).unwrap();
        let of = |users: &[(&str, &str)]| BasicAuth {
            realm: "r".to_owned(),
            users: users.iter().map(|(user, hash)| ((*user).to_owned(), (*hash).to_owned())).collect(),
        };
        let auth = of(&[("ann", &hash)]);
        let mut fastest = [Duration::MAX; 2];
        for _ in 0..5 {
            for (user, fastest) in ["ann", "nobody"].iter().zip(&mut fastest) {
                let started = std::time::Instant::now();
                assert!(basic(&with(user, "wrong"), &auth).await.is_err());
                *fastest = started.elapsed().min(*fastest);
            }
        }
        assert!(fastest[1] > fastest[0] / 2, "{fastest:?}");
        let costly = hash.replace("$09$", "$31$");
        let started = std::time::Instant::now();
        assert!(basic(&with("ann", "wrong"), &of(&[("ann", &costly)])).await.is_err());
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn passwords() {
        let hash = bcrypt::hash("secret", 4).unwrap();
        let users = [("ann".to_owned(), hash), ("bob".to_owned(), "plain:pass:word".to_owned())];
        let auth = BasicAuth { realm: "a \"b\"".into(), users: users.into() };
        for _ in 0..2 {
            assert!(basic(&with("ann", "secret"), &auth).await.is_ok());
        }
        assert!(basic(&with("bob", "pass:word"), &auth).await.is_ok());
        for (user, password) in [("ann", "wrong"), ("bob", "secret"), ("eve", "secret"), ("", "")] {
            assert!(basic(&with(user, password), &auth).await.is_err());
        }
        for value in ["Basic", "Basic !!!", "Bearer x", "Basic YQ=="] {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))]);
            let denied = basic(&headers, &auth).await.err().unwrap();
            assert_eq!(denied.headers()[WWW_AUTHENTICATE], "Basic realm=\"a b\", charset=\"UTF-8\"");
        }
    }
}
