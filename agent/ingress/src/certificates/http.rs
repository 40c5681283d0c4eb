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
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Connecting across the world takes a second; more means that packets are dropped.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(15);
/// A CA has a few addresses of each kind.
const ADDRESSES_MAX: usize = 4;
const ADDRESS_TIME_MAX: Duration = Duration::from_secs(3);
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
        Ok(BytesResponse::from(with_problem(response).map(Full::new)))
    }

    async fn connect(
        &self,
        host: &str,
        port: u16,
        at: &str,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Error> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::Address(at.to_owned()))?;
        let tcp =
            open(host, port).await.map_err(|error| Error::Connect { at: at.to_owned(), reason: plainly(&error) })?;
        let refused = |error: io::Error| Error::Tls { at: at.to_owned(), reason: tls_reason(&error) };
        self.tls.connect(name, tcp).await.map_err(refused)
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

/// Tries each address: at home, IPv6 often looks as if it worked.
async fn open(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failure = io::Error::other("it has no address");
    for address in tokio::net::lookup_host((host, port)).await?.take(ADDRESSES_MAX) {
        match tokio::time::timeout(ADDRESS_TIME_MAX, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::Error::other("no answer"),
        }
    }
    Err(failure)
}

fn tls_reason(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => certificate_reason(why),
        Some(other) => other.to_string(),
        None => plainly(error),
    }
}

fn certificate_reason(why: &CertificateError) -> String {
    match why {
        // The signature is another's where an authority of the same name is trusted.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its server's certificate is from an authority that is not trusted here; set trust_root".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("its server's certificate is not valid yet; it is {} by this box's clock", Timestamp::now())
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("its server's certificate has ended; it is {} by this box's clock", Timestamp::now())
        }
        other => format!("its server's certificate is not accepted: {other}"),
    }
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

/// Gives a refusal that does not say why (RFC 8555, 6.7 only says that it should) the form of one that does.
fn with_problem(response: Response<Bytes>) -> Response<Bytes> {
    let status = response.status();
    if !status.is_client_error() || is_json(response.body()) {
        return response;
    }
    response.map(|_| serde_json::json!({"status": status.as_u16(), "detail": status.to_string()}).to_string().into())
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
mod tests;
