//! From a request to a page: what is answered to whom, over which connection, with which headers.

mod request;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Body;
use hyper_util::rt::{TokioIo, TokioTimer};
use kube::Client;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::access::{Access, Answer, SESSION_TIME};
use crate::health::Health;
use crate::page::{self, Notice, State, Viewer};
use crate::{Config, keep, kubeconfig, machine};
use request::{Asked, COOKIE};

/// A code and its name make twenty bytes.
const FORM_BYTES_MAX: usize = 1024;
const FORM_TIME_MAX: Duration = Duration::from_secs(10);
/// The proxy keeps its connections; more wait.
const CONNECTIONS_MAX: usize = 64;
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// The box is asked at most so often, however many look at the page.
const HEALTH_AGE_MAX: Duration = Duration::from_secs(2);
const HEALTH_TIME_MAX: Duration = Duration::from_secs(3);

/// Nothing but our own style; no frames, no scripts, no other place that a form is sent to.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

type Page = Response<Full<Bytes>>;
type Fingerprint = Box<dyn Fn() -> Option<String> + Send + Sync>;

pub struct Server {
    pub config: Config,
    client: Client,
    fingerprint: Fingerprint,
    access: Mutex<Access>,
    health: tokio::sync::Mutex<Option<(Instant, Health)>>,
}

pub async fn serve(server: Arc<Server>, listener: TcpListener, shutdown: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let Ok((stream, _)) = stream else {
            // Out of file descriptors: some will be given back.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (server, shutdown) = (Arc::clone(&server), shutdown.clone());
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|request| {
                let server = Arc::clone(&server);
                async move { Ok::<_, Infallible>(server.answer(request, Instant::now()).await) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX).half_close(true);
            tokio::select! {
                _ = http.serve_connection(TokioIo::new(stream), service) => {}
                () = shutdown.cancelled() => {}
            }
            drop(slot);
        });
    }
}

impl Server {
    pub fn new(config: Config, client: Client, fingerprint: Fingerprint) -> Self {
        let access = Access::new(Instant::now());
        keep_code(&config, access.code());
        Self { config, client, fingerprint, access: Mutex::new(access), health: tokio::sync::Mutex::default() }
    }

    fn access(&self) -> MutexGuard<'_, Access> {
        self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn answer<B>(&self, request: Request<B>, now: Instant) -> Page
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let Some(asked) = Asked::read(&parts, self.config.https_port) else {
            return refuse(StatusCode::BAD_REQUEST, "This request does not come through the box's front door.");
        };
        if !self.config.is_own(&asked.host) {
            return refuse(StatusCode::MISDIRECTED_REQUEST, "This is not what the box is called.");
        }
        match (&parts.method, parts.uri.path()) {
            (&Method::GET | &Method::HEAD, "/") => self.front(&asked, now).await,
            (&Method::GET | &Method::HEAD, "/console.css") => page(StatusCode::OK, "text/css", page::STYLE.to_owned()),
            (&Method::GET | &Method::HEAD, "/sign-in") if asked.is_secure => html(page::sign_in(&Notice::None)),
            (_, "/sign-in" | "/sign-out" | "/kubeconfig") if !asked.is_secure => self.elsewhere(&asked),
            (&Method::POST, "/sign-in" | "/sign-out") if !asked.is_same_origin => {
                refuse(StatusCode::FORBIDDEN, "The form was not sent from this box's own page.")
            }
            (&Method::POST, "/sign-in") => self.sign_in(&asked, &parts, body, now).await,
            (&Method::POST, "/sign-out") => self.sign_out(&asked),
            (&Method::GET | &Method::HEAD, "/kubeconfig") => self.kubeconfig(&asked, now),
            (_, "/" | "/console.css" | "/sign-in" | "/sign-out" | "/kubeconfig") => {
                refuse(StatusCode::METHOD_NOT_ALLOWED, "This page is not asked that way.")
            }
            _ => refuse(StatusCode::NOT_FOUND, "This box has no such page."),
        }
    }

    fn viewer(&self, asked: &Asked, now: Instant) -> Viewer {
        match (asked.is_secure, &asked.session) {
            (false, _) => Viewer::Plain,
            (true, Some(session)) if self.access().is_signed_in(session, &asked.host, now) => Viewer::SignedIn,
            (true, _) => Viewer::Secure,
        }
    }

    async fn front(&self, asked: &Asked, now: Instant) -> Page {
        html(page::front(&State {
            viewer: self.viewer(asked, now),
            version: &self.config.version,
            health: self.health().await,
            machine: machine::observe(&self.config.data_dir),
            fingerprint: (self.fingerprint)(),
            secure_origin: &asked.secure_origin,
        }))
    }

    /// `None`: the API does not answer.
    async fn health(&self) -> Option<Health> {
        let mut known = self.health.lock().await;
        if let Some((at, health)) = &*known
            && at.elapsed() < HEALTH_AGE_MAX
        {
            return Some(health.clone());
        }
        let read = async {
            let (nodes, pods) = futures::try_join!(self.list("/api/v1/nodes"), self.list("/api/v1/pods"))?;
            let problems = serde_json::from_value(self.list("/skiff/v1/problems").await?);
            let problems = problems.map_err(kube::Error::SerdeError)?;
            Ok::<_, kube::Error>(Health { problems, ..Health::read(&nodes, &pods) })
        };
        let health = tokio::time::timeout(HEALTH_TIME_MAX, read).await.ok()?.ok()?;
        *known = Some((Instant::now(), health.clone()));
        Some(health)
    }

    async fn list(&self, path: &str) -> Result<Value, kube::Error> {
        let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }

    fn elsewhere(&self, asked: &Asked) -> Page {
        let secure = format!("{}/sign-in", asked.secure_origin);
        let text = page::sign_in_elsewhere(&secure, (self.fingerprint)().as_deref());
        page(StatusCode::FORBIDDEN, "text/html; charset=utf-8", text)
    }

    async fn sign_in<B>(&self, asked: &Asked, parts: &http::request::Parts, body: B, now: Instant) -> Page
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if !request::is_form(&parts.headers) {
            return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "The code comes as a form.");
        }
        let body = Box::pin(Limited::new(body, FORM_BYTES_MAX).collect());
        let form = match tokio::time::timeout(FORM_TIME_MAX, body).await {
            Ok(Ok(form)) => form.to_bytes(),
            Ok(Err(_)) => return refuse(StatusCode::PAYLOAD_TOO_LARGE, "The form is larger than a code."),
            Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "The form did not come in time."),
        };
        let Some(typed) = request::code(&form) else {
            return refuse(StatusCode::BAD_REQUEST, "The form has no code.");
        };
        let mut access = self.access();
        let answer = access.sign_in(asked.client, &asked.host, &typed, now);
        let code = access.code().to_owned();
        drop(access);
        match answer {
            Answer::Right(session) => {
                keep_code(&self.config, &code);
                tracing::info!(client = %asked.client, "signed in with the one-time code");
                with_cookie(see_other("/"), &format!("{COOKIE}={session}; Max-Age={}", SESSION_TIME.as_secs()))
            }
            Answer::Wrong { is_replaced: false } => {
                tracing::warn!(client = %asked.client, "wrong one-time code");
                refuse_code("This is not the code. Look at the box's screen: it may have changed.")
            }
            Answer::Wrong { is_replaced: true } => {
                keep_code(&self.config, &code);
                tracing::warn!(client = %asked.client, "wrong one-time code, it was replaced after too many");
                refuse_code("This is not the code. There were so many wrong ones that the box has made another code.")
            }
            Answer::Wait(wait) => too_many(wait),
        }
    }

    fn sign_out(&self, asked: &Asked) -> Page {
        if let Some(session) = &asked.session {
            self.access().sign_out(session);
        }
        with_cookie(see_other("/"), &format!("{COOKIE}=; Max-Age=0"))
    }

    fn kubeconfig(&self, asked: &Asked, now: Instant) -> Page {
        match self.viewer(asked, now) {
            Viewer::SignedIn => {}
            Viewer::Plain => return self.elsewhere(asked),
            Viewer::Secure => {
                let text = page::sign_in(&Notice::Said("Sign in first: the kubeconfig is for the box's owner."));
                return page(StatusCode::UNAUTHORIZED, "text/html; charset=utf-8", text);
            }
        }
        let Ok(text) = std::fs::read_to_string(&self.config.kubeconfig) else {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "The box has no kubeconfig yet.");
        };
        let text = kubeconfig::render(&text, &asked.host, &self.config);
        let mut answer = page(StatusCode::OK, "application/yaml", text);
        let disposition = HeaderValue::from_static("attachment; filename=\"kubeconfig.yaml\"");
        answer.headers_mut().insert(header::CONTENT_DISPOSITION, disposition);
        tracing::info!(client = %asked.client, "the administrator's kubeconfig was handed out");
        answer
    }
}

fn keep_code(config: &Config, code: &str) {
    keep(&config.code_file, &format!("{code}\n"), 0o600);
}

fn html(text: String) -> Page {
    page(StatusCode::OK, "text/html; charset=utf-8", text)
}

fn page(status: StatusCode, content_type: &'static str, text: String) -> Page {
    const HEADERS: [(HeaderName, &str); 6] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn refuse(status: StatusCode, text: &str) -> Page {
    let title = status.canonical_reason().unwrap_or("Error");
    page(status, "text/html; charset=utf-8", page::message(title, text))
}

fn refuse_code(text: &str) -> Page {
    page(StatusCode::UNAUTHORIZED, "text/html; charset=utf-8", page::sign_in(&Notice::Said(text)))
}

fn too_many(wait: Duration) -> Page {
    // A part of a second more is a second more.
    let seconds = wait.as_millis().div_ceil(1000);
    let text = format!("There were too many wrong codes. Try again in {seconds} s.");
    let text = page::sign_in(&Notice::Said(&text));
    let mut answer = page(StatusCode::TOO_MANY_REQUESTS, "text/html; charset=utf-8", text);
    if let Ok(seconds) = HeaderValue::from_str(&seconds.to_string()) {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    answer
}

fn see_other(location: &'static str) -> Page {
    let mut answer = page(StatusCode::SEE_OTHER, "text/plain", String::new());
    answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static(location));
    answer
}

fn with_cookie(mut answer: Page, cookie: &str) -> Page {
    let cookie = format!("{cookie}; Path=/; Secure; HttpOnly; SameSite=Strict");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    answer
}
