//! One client of an API server, the same for all: a connection with TLS 1.3 and the administrator's certificate, on which
//! requests follow each other in HTTP/1.1.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio_rustls::TlsConnector;

/// Where a server is, and who asks it.
#[derive(Clone)]
pub struct Target {
    address: SocketAddr,
    connector: TlsConnector,
}

/// What is asked.
#[derive(Clone)]
pub struct Ask {
    pub method: Method,
    pub path: String,
    pub content_type: &'static str,
    pub body: Bytes,
}

impl Ask {
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), content_type: "application/json", body: Bytes::new() }
    }

    pub fn delete(path: impl Into<String>) -> Self {
        Self { method: Method::DELETE, ..Self::get(path) }
    }

    pub fn create(path: impl Into<String>, body: Bytes) -> Self {
        Self { method: Method::POST, body, ..Self::get(path) }
    }

    pub fn patch(path: impl Into<String>, content_type: &'static str, body: Bytes) -> Self {
        Self { method: Method::PATCH, content_type, body, ..Self::get(path) }
    }
}

impl Target {
    /// With the certificates of a box: its peers are given the same.
    pub fn new(address: SocketAddr, pki: &Path) -> anyhow::Result<Self> {
        let file = |name: &str| pki.join(name);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(file("ca.crt"))?)?;
        let chain = vec![CertificateDer::from_pem_file(file("admin.crt"))?];
        let key = PrivateKeyDer::from_pem_file(file("admin.key"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_root_certificates(roots).with_client_auth_cert(chain, key)?;
        Ok(Self { address, connector: TlsConnector::from(Arc::new(config)) })
    }

    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = tokio::net::TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let stream = self.connector.connect(ServerName::from(self.address.ip()), stream).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Connection { sender, host: self.address.to_string() })
    }

    /// Once, on a connection of its own.
    pub async fn json(&self, ask: &Ask) -> anyhow::Result<Value> {
        let body = self.connect().await?.ask(ask).await?;
        serde_json::from_slice(&body).with_context(|| format!("{} did not answer JSON", ask.path))
    }
}

pub struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    host: String,
}

impl Connection {
    /// The whole answer; an error where it is a refusal.
    pub async fn ask(&mut self, ask: &Ask) -> anyhow::Result<Bytes> {
        let (status, body) = self.begin(ask).await?;
        let body = body.collect().await?.to_bytes();
        ensure!(status.is_success(), "{} {}: {status} {}", ask.method, ask.path, String::from_utf8_lossy(&body));
        Ok(body)
    }

    /// The answer as it comes, such as a watch.
    pub async fn begin(&mut self, ask: &Ask) -> anyhow::Result<(http::StatusCode, Incoming)> {
        let request = Request::builder().method(&ask.method).uri(&ask.path).header("host", &self.host);
        let request = request.header("content-type", ask.content_type).header("accept", "application/json");
        self.sender.ready().await?;
        let answer = self.sender.send_request(request.body(Full::new(ask.body.clone()))?).await?;
        Ok((answer.status(), answer.into_body()))
    }
}
