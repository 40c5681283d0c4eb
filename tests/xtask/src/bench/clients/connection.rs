//! A client's connection to the API: HTTP/2 over TLS, with a user's token. Counts what is answered, and comes back when it
//! is told to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use serde_json::Value;
use skiff_tests::running_box::RunningBox;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::COMMON;

/// How often a request is sent again before it counts as refused.
const TRIES: usize = 100;

/// Answers by their code, of all clients.
#[derive(Default)]
pub struct Counts {
    codes: Mutex<BTreeMap<u16, u64>>,
    resumed: AtomicU64,
    milliseconds: Mutex<Vec<f64>>,
}

impl Counts {
    pub fn codes(&self) -> BTreeMap<u16, u64> {
        self.codes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn resumed(&self) -> u64 {
        self.resumed.load(Ordering::Relaxed)
    }

    pub fn count_resumed(&self) {
        self.resumed.fetch_add(1, Ordering::Relaxed);
    }

    /// How long each request took that was no watch, in order of that.
    pub fn latencies(&self) -> Vec<f64> {
        let mut sorted = self.milliseconds.lock().unwrap_or_else(PoisonError::into_inner).clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    fn took(&self, time: Duration) {
        self.milliseconds.lock().unwrap_or_else(PoisonError::into_inner).push(time.as_secs_f64() * 1000.0);
    }

    fn count(&self, code: StatusCode) {
        *self.codes.lock().unwrap_or_else(PoisonError::into_inner).entry(code.as_u16()).or_default() += 1;
    }
}

/// Where the API is, and how it is known.
pub struct Server {
    address: SocketAddr,
    tls: TlsConnector,
}

impl Server {
    pub fn of(running: &RunningBox) -> anyhow::Result<Self> {
        let authority = ["-n", COMMON, "get", "configmap", "kube-root-ca.crt", "-o", "jsonpath={.data.ca\\.crt}"];
        let pem = running.kubectl(&authority)?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).context("the box's CA")?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let address = SocketAddr::from(([127, 0, 0, 1], running.api_port()));
        Ok(Self { address, tls: TlsConnector::from(Arc::new(config)) })
    }

    pub async fn connect(&self, token: &str, counts: Arc<Counts>) -> anyhow::Result<Caller> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(ServerName::from(self.address.ip()), stream).await?;
        let io = TokioIo::new(stream);
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        let (base, authorization) = (format!("https://{}", self.address), format!("Bearer {token}"));
        Ok(Caller { sender, base, authorization, counts })
    }
}

/// What a list says: revisions by name.
pub struct Listed {
    pub revision: u64,
    pub items: BTreeMap<String, u64>,
}

/// As much of an object as is looked at.
#[derive(Deserialize)]
pub struct Object {
    #[serde(default)]
    pub metadata: Metadata,
    /// Of the refusal that comes instead.
    pub code: Option<u16>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    pub name: String,
    resource_version: String,
}

impl Metadata {
    pub fn revision(&self) -> anyhow::Result<u64> {
        self.resource_version.parse().with_context(|| format!("the revision {:?}", self.resource_version))
    }
}

#[derive(Deserialize)]
struct List {
    metadata: Metadata,
    items: Vec<Object>,
}

#[derive(Clone)]
pub struct Caller {
    sender: SendRequest<Full<Bytes>>,
    base: String,
    authorization: String,
    pub counts: Arc<Counts>,
}

pub fn path(namespace: &str, name: &str) -> String {
    let slash = if name.is_empty() { "" } else { "/" };
    format!("/api/v1/namespaces/{namespace}/configmaps{slash}{name}")
}

impl Caller {
    /// The beginning of an answer; one that says to come back later is not the answer.
    pub async fn open(&self, method: &Method, path: &str, body: Option<&Value>) -> anyhow::Result<Response<Incoming>> {
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        for _ in 0..TRIES {
            let request = Request::builder()
                .method(method)
                .uri(format!("{}{path}", self.base))
                .header(header::AUTHORIZATION, &self.authorization)
                .header(header::CONTENT_TYPE, kind)
                .body(Full::new(body.clone()))?;
            let response = self.sender.clone().send_request(request).await?;
            self.counts.count(response.status());
            if response.status() != StatusCode::TOO_MANY_REQUESTS {
                return Ok(response);
            }
            let after = response.headers().get(header::RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
            tokio::time::sleep(Duration::from_secs(after.context("429 without Retry-After")?)).await;
        }
        anyhow::bail!("{method} {path}: asked to come back {TRIES} times")
    }

    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<(StatusCode, Bytes)> {
        let started = Instant::now();
        let response = self.open(&method, path, body).await?;
        let (status, bytes) = (response.status(), response.into_body().collect().await?.to_bytes());
        self.counts.took(started.elapsed());
        Ok((status, bytes))
    }

    /// An object as it is after what was asked; `None` where another came first.
    pub async fn object(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Option<Metadata>> {
        let (status, bytes) = self.ask(method.clone(), path, body).await?;
        if status == StatusCode::CONFLICT {
            return Ok(None);
        }
        ensure!(status.is_success(), "{method} {path}: {status} {}", String::from_utf8_lossy(&bytes));
        Ok(Some(serde_json::from_slice::<Object>(&bytes)?.metadata))
    }

    pub async fn list(&self, namespace: &str) -> anyhow::Result<Listed> {
        let (status, bytes) = self.ask(Method::GET, &path(namespace, ""), None).await?;
        ensure!(status == StatusCode::OK, "list: {status} {}", String::from_utf8_lossy(&bytes));
        let list: List = serde_json::from_slice(&bytes)?;
        let items = list.items.into_iter().map(|item| Ok((item.metadata.name.clone(), item.metadata.revision()?)));
        Ok(Listed { revision: list.metadata.revision()?, items: items.collect::<anyhow::Result<_>>()? })
    }
}
