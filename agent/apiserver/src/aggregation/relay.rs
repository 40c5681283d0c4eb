//! One request to an API server behind this one, and its answer, as they come: bodies are streams, and a connection that
//! becomes another protocol's is passed through.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use skiff_store::Store;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::Service;
use crate::Api;
use crate::body::Body;
use crate::extensions::CallError;
use crate::forward;
use crate::request::{Parts, Verb};
use crate::status::ApiError;
use crate::users::User;

/// Who does not take a connection for this long does not listen.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// As upstream: until its answer begins.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
const REMOTE: &str = "x-remote-";

pub async fn send<S: Store>(
    api: &Api<S>,
    service: &Service,
    user: &User,
    mut request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    let stream = connect(api, service).await.map_err(|error| unavailable(&error))?;
    say_who(request.headers_mut(), user)?;
    let path = request.uri().path_and_query().map_or("/", |asked| asked.as_str());
    *request.uri_mut() = path.parse().map_err(|_| ApiError::bad_request("the path is not valid"))?;
    let host = HeaderValue::from_str(&service.client.host()).map_err(|error| unavailable(&error))?;
    request.headers_mut().insert(header::HOST, host);
    let goes_on = request.headers().contains_key(header::UPGRADE) || is_watch(&request);
    let answered = forward::over(request, TokioIo::new(stream));
    if goes_on {
        return answered.await.map_err(|error| unavailable(&error));
    }
    let answered = tokio::time::timeout(ANSWER_TIME_MAX, answered).await;
    answered.map_err(|_| unavailable(&"it did not answer in time"))?.map_err(|error| unavailable(&error))
}

pub async fn connect<S: Store>(api: &Api<S>, service: &Service) -> Result<TlsStream<TcpStream>, CallError> {
    let front = api.front_proxy();
    let adapt = |config: &mut ClientConfig| {
        config.client_auth_cert_resolver = front;
        if service.is_unverified {
            config.dangerous().set_certificate_verifier(Arc::new(Unverified));
        }
    };
    let connected = tokio::time::timeout(CONNECT_TIME_MAX, service.client.connect(api, adapt)).await;
    connected.unwrap_or(Err(CallError::Timeout))
}

/// Some begin their answer with the first change.
fn is_watch(request: &Request<Body>) -> bool {
    let verb = Parts::of(request).and_then(|parts| parts.verb(request.method()).ok());
    verb == Some(Verb::Watch)
}

fn unavailable(why: &dyn std::fmt::Display) -> ApiError {
    ApiError::service_unavailable(format!("error trying to reach service: {why}"))
}

/// Nobody says it themselves, and their own credentials are for this server alone.
fn say_who(headers: &mut HeaderMap, user: &User) -> Result<(), ApiError> {
    let is_ours = |name: &HeaderName| {
        let name = name.as_str();
        let is_said = name.starts_with(REMOTE) || name.starts_with("impersonate-") || name.starts_with("proxy-");
        is_said || [header::AUTHORIZATION.as_str(), header::CONNECTION.as_str(), "te", "keep-alive"].contains(&name)
    };
    let becomes_another = headers.contains_key(header::UPGRADE);
    let ours: Vec<HeaderName> = headers.keys().filter(|name| is_ours(name)).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
    if becomes_another {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    let mut say = |name: &str, text: &str| {
        let name = HeaderName::from_bytes(format!("{REMOTE}{name}").as_bytes());
        let said = name.ok().zip(HeaderValue::from_bytes(text.as_bytes()).ok());
        // What cannot be said is not left out: it could be what somebody is refused for.
        let (name, value) = said.ok_or_else(|| ApiError::bad_request("the user cannot be told in headers"))?;
        headers.append(name, value);
        Ok::<(), ApiError>(())
    };
    say("user", &user.name)?;
    if !user.uid.is_empty() {
        say("uid", &user.uid)?;
    }
    for group in &user.groups {
        say("group", group)?;
    }
    for (key, values) in &user.extra {
        for value in values {
            say(&format!("extra-{}", escaped(key)), value)?;
        }
    }
    Ok(())
}

/// As a header's name takes it.
fn escaped(key: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
    key.bytes().map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// For who says `insecureSkipTLSVerify`.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
