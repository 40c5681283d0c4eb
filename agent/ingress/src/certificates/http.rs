//! Requests to a CA: HTTPS with the trust roots of its issuer, a connection for each request, everything bounded.
//! It remembers when the CA asked to be left alone until, which the ACME library does not hand on.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Connecting across the world takes a second; more means that packets are dropped.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(15);
/// Busy CAs take half a minute to answer a finalization.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
/// A chain of certificates has a few KiB.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// A CA that asks to wait longer is asked again all the same, as the header may be wrong.
const RETRY_AFTER_MAX: SignedDuration = SignedDuration::from_hours(7 * 24);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the address {0} of the CA is not an https:// address")]
    Address(String),
    #[error("the trust roots in {path} cannot be read: {reason}")]
    TrustRoot { path: PathBuf, reason: String },
    #[error("this system has no trusted certificate authorities to check the CA with; install ca-certificates")]
    NoTrustRoots,
    #[error("cannot reach the CA at {at}: {reason}")]
    Connect { at: String, reason: String },
    #[error("cannot talk to the CA at {at}: {reason}")]
    Tls { at: String, reason: String },
    #[error("the CA at {at} did not answer: {reason}")]
    Answer { at: String, reason: String },
    #[error("the CA at {at} is out of order: it answered {status} without saying why")]
    OutOfOrder { at: String, status: StatusCode },
}

/// Clones share the connection settings and what is remembered.
#[derive(Clone)]
pub(crate) struct CaClient {
    tls: TlsConnector,
    retry_after: Arc<Mutex<Option<Timestamp>>>,
}

impl CaClient {
    pub(crate) fn new(trust_root: Option<&Path>) -> Result<Self, Error> {
        let roots = match trust_root {
            Some(path) => read_roots(path)?,
            None => system_roots()?,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider supports TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), retry_after: Arc::default() })
    }

    /// Until when the CA asked to be left alone in its last refusal; asking forgets it.
    pub(crate) fn take_retry_after(&self) -> Option<Timestamp> {
        self.retry_after.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn send(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let (request, host, port) = prepared(request)?;
        let at = if port == 443 { format!("https://{host}") } else { format!("https://{host}:{port}") };
        let connecting = self.connect(&host, port, &at);
        let tls = tokio::time::timeout(CONNECT_TIME_MAX, connecting)
            .await
            .map_err(|_| Error::Connect { at: at.clone(), reason: "no answer".to_owned() })??;
        let response = tokio::time::timeout(ANSWER_TIME_MAX, exchange(tls, request))
            .await
            .unwrap_or_else(|_| Err(format!("not within {} seconds", ANSWER_TIME_MAX.as_secs())))
            .map_err(|reason| Error::Answer { at: at.clone(), reason })?;
        self.remember(&response);
        if response.status().is_server_error() && !is_json(response.body()) {
            return Err(Error::OutOfOrder { at, status: response.status() });
        }
        Ok(BytesResponse::from(response.map(Full::new)))
    }

    async fn connect(
        &self,
        host: &str,
        port: u16,
        at: &str,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Error> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::Address(at.to_owned()))?;
        let tcp = TcpStream::connect((host, port))
            .await
            .map_err(|error| Error::Connect { at: at.to_owned(), reason: plainly(&error) })?;
        self.tls.connect(name, tcp).await.map_err(|error| Error::Tls { at: at.to_owned(), reason: plainly(&error) })
    }

    fn remember(&self, response: &Response<Bytes>) {
        if response.status().is_success() {
            return;
        }
        let value = response.headers().get(http::header::RETRY_AFTER).and_then(|v| v.to_str().ok());
        let until = value.and_then(|value| parse_retry_after(value, Timestamp::now()));
        *self.retry_after.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

impl instant_acme::HttpClient for CaClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let sending = self.clone().send(request);
        Box::pin(async move { sending.await.map_err(|error| instant_acme::Error::Other(Box::new(error))) })
    }
}

/// The request as HTTP/1.1 sends it, and where to.
fn prepared(request: Request<BodyWrapper<Bytes>>) -> Result<(Request<BodyWrapper<Bytes>>, String, u16), Error> {
    let (mut parts, body) = request.into_parts();
    let wrong = || Error::Address(parts.uri.to_string());
    let authority = parts.uri.authority().filter(|_| parts.uri.scheme_str() == Some("https")).ok_or_else(wrong)?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = authority.port_u16().unwrap_or(443);
    let header = http::HeaderValue::from_str(authority.as_str()).map_err(|_| wrong())?;
    let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
    parts.headers.insert(http::header::HOST, header);
    parts.uri = Uri::from(path);
    Ok((Request::from_parts(parts, body), host, port))
}

async fn exchange(
    tls: tokio_rustls::client::TlsStream<TcpStream>,
    request: Request<BodyWrapper<Bytes>>,
) -> Result<Response<Bytes>, String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.map_err(|e| e.to_string())?;
    let exchange = async {
        let (parts, body) = sender.send_request(request).await.map_err(|e| e.to_string())?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|e| e.to_string())?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        // The end of the connection may be seen before the last of the answer is.
        biased;
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}

fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}

/// RFC 9110, 10.2.3: seconds or a date.
fn parse_retry_after(value: &str, now: Timestamp) -> Option<Timestamp> {
    let value = value.trim();
    let until = match value.parse::<u32>() {
        Ok(seconds) => now.checked_add(SignedDuration::from_secs(seconds.into())).ok()?,
        Err(_) => jiff::fmt::rfc2822::parse(value).ok()?.timestamp(),
    };
    (until > now).then(|| until.min(now + RETRY_AFTER_MAX))
}

fn read_roots(path: &Path) -> Result<RootCertStore, Error> {
    let wrong = |reason: String| Error::TrustRoot { path: path.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))? {
        let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
        roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("there is no certificate in it".to_owned())) } else { Ok(roots) }
}

fn system_roots() -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(Error::NoTrustRoots) } else { Ok(roots) }
}

/// An error of the system without its number.
pub(crate) fn plainly(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{parse_retry_after, plainly};

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let parse = |value| parse_retry_after(value, now).map(|t| t.to_string());
        assert_eq!(parse("60").as_deref(), Some("2026-01-01T00:01:00Z"));
        assert_eq!(parse("Thu, 01 Jan 2026 02:00:00 GMT").as_deref(), Some("2026-01-01T02:00:00Z"));
        assert_eq!(parse("Wed, 31 Dec 2025 02:00:00 GMT"), None);
        assert_eq!(parse("4000000000").as_deref(), Some("2026-01-08T00:00:00Z"));
        assert_eq!(parse("soon"), None);
    }

    #[test]
    fn errors_of_the_system_are_said_plainly() {
        assert_eq!(plainly(&std::io::Error::from_raw_os_error(111)), "connection refused");
    }
}
