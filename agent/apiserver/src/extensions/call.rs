//! The way to a webhook, and to others who are asked something: who it is, and one question over TLS. A service is reached
//! by its endpoints, so that it needs no rules of packets.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use skiff_object::{kinds, meta};
use skiff_store::Store;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Api;
use crate::codec;

/// An answer that is longer is none.
const ANSWER_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Who is asked, and how it is known.
pub struct Client {
    place: Place,
    path: String,
    authorities: Vec<CertificateDer<'static>>,
}

enum Place {
    Url { host: String, port: u16 },
    Service { namespace: String, name: String, port: i64 },
    Nowhere,
}

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("the client configuration names no server")]
    Nowhere,
    #[error("service {0:?} not found")]
    Service(String),
    #[error("no endpoints available for service {0:?}")]
    Endpoints(String),
    #[error("{0}")]
    Name(String),
    #[error("dial tcp {0}: {1}")]
    Connect(String, std::io::Error),
    #[error("tls: {0}")]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("the answer cannot be read: {0}")]
    Body(String),
    #[error("the server could not find the requested resource or refused it ({0})")]
    Status(StatusCode),
    #[error("context deadline exceeded")]
    Timeout,
    #[error("{0}")]
    Store(#[from] skiff_store::Error),
}

impl Client {
    pub fn read(json: &Value) -> Self {
        let bundle = BASE64_STANDARD.decode(meta::text_at(json, &["caBundle"])).unwrap_or_default();
        let authorities = CertificateDer::pem_slice_iter(&bundle).flatten().collect();
        let service = json.get("service").filter(|service| service.is_object());
        if let Some(service) = service {
            let text = |name: &str| meta::text_at(service, &[name]).to_owned();
            let path = Some(text("path")).filter(|path| path.starts_with('/')).unwrap_or_else(|| "/".to_owned());
            let port = service.get("port").and_then(Value::as_i64).unwrap_or(443);
            return Self {
                place: Place::Service { namespace: text("namespace"), name: text("name"), port },
                path,
                authorities,
            };
        }
        let uri: Option<Uri> = meta::text_at(json, &["url"]).parse().ok();
        let place = uri
            .as_ref()
            .and_then(|uri| Some(Place::Url { host: uri.host()?.to_owned(), port: uri.port_u16().unwrap_or(443) }));
        let path = uri.as_ref().and_then(Uri::path_and_query).map_or_else(|| "/".to_owned(), ToString::to_string);
        Self { place: place.unwrap_or(Place::Nowhere), path, authorities }
    }

    /// The name of the server, as its certificate has it and as errors say it.
    pub fn host(&self) -> String {
        match &self.place {
            Place::Url { host, .. } => host.trim_matches(['[', ']']).to_owned(),
            Place::Service { namespace, name, .. } => format!("{name}.{namespace}.svc"),
            Place::Nowhere => String::new(),
        }
    }

    pub fn url(&self) -> String {
        let port = match &self.place {
            Place::Url { port, .. } => i64::from(*port),
            Place::Service { port, .. } => *port,
            Place::Nowhere => 443,
        };
        format!("https://{}:{port}{}", self.host(), self.path)
    }

    /// Asks, and waits no longer than `timeout`.
    pub async fn ask<S: Store>(&self, api: &Api<S>, question: &Value, timeout: Duration) -> Result<Value, CallError> {
        let asked = tokio::time::timeout(timeout, self.ask_once(api, question)).await;
        asked.unwrap_or(Err(CallError::Timeout))
    }

    /// Reads what is there.
    pub async fn get<S: Store>(&self, api: &Api<S>, timeout: Duration) -> Result<Value, CallError> {
        let read = tokio::time::timeout(timeout, self.send(api, Method::GET, Bytes::new())).await;
        read.unwrap_or(Err(CallError::Timeout))
    }

    async fn ask_once<S: Store>(&self, api: &Api<S>, question: &Value) -> Result<Value, CallError> {
        self.send(api, Method::POST, Bytes::from(question.to_string())).await
    }

    async fn send<S: Store>(&self, api: &Api<S>, method: Method, body: Bytes) -> Result<Value, CallError> {
        let stream = self.connect(api, |_| {}).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::builder()
            .method(method)
            .uri(&self.path)
            .header(header::HOST, self.host())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(Full::new(body))
            .map_err(|error| CallError::Name(error.to_string()))?;
        // The connection ends with the answer, or with this future.
        let answer = async {
            let response = sender.send_request(request).await?;
            if response.status() != StatusCode::OK {
                return Err(CallError::Status(response.status()));
            }
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| CallError::Body(error.to_string()))?;
            serde_json::from_slice(&body.to_bytes()).map_err(|error| CallError::Body(error.to_string()))
        };
        let mut connection = std::pin::pin!(connection);
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            answered = &mut answer => answered,
            ended = &mut connection => {
                ended?;
                answer.await
            }
        }
    }

    fn tls(&self) -> Result<ClientConfig, rustls::Error> {
        let mut roots = RootCertStore::empty();
        if self.authorities.is_empty() {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        } else {
            roots.add_parsable_certificates(self.authorities.iter().cloned());
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }

    /// A connection to it that nobody else reads, for whoever asks otherwise than [`Client::ask`] does.
    pub async fn connect<S: Store>(
        &self,
        api: &Api<S>,
        adapt: impl FnOnce(&mut ClientConfig),
    ) -> Result<TlsStream<TcpStream>, CallError> {
        let mut config = self.tls()?;
        adapt(&mut config);
        let address = self.address(api).await?;
        let stream = TcpStream::connect(&*address).await.map_err(|error| CallError::Connect(address, error))?;
        let name = ServerName::try_from(self.host()).map_err(|error| CallError::Name(error.to_string()))?;
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await;
        stream.map_err(|error| CallError::Connect("TLS".to_owned(), error))
    }

    async fn address<S: Store>(&self, api: &Api<S>) -> Result<String, CallError> {
        match &self.place {
            Place::Url { host, port } => Ok(format!("{host}:{port}")),
            Place::Service { namespace, name, port } => endpoint(api, namespace, name, *port).await,
            Place::Nowhere => Err(CallError::Nowhere),
        }
    }
}

/// One of the endpoints that are ready.
async fn endpoint<S: Store>(api: &Api<S>, namespace: &str, name: &str, port: i64) -> Result<String, CallError> {
    let services = kinds::by_kind("v1", "Service").expect("a built-in kind");
    let slices = kinds::by_kind("discovery.k8s.io/v1", "EndpointSlice").expect("a built-in kind");
    let service = api.store().get(&services.key(Some(namespace), name)).await?;
    let service = codec::decode(&service.ok_or_else(|| CallError::Service(name.to_owned()))?);
    let ports = meta::items(meta::at(&service, &["spec", "ports"])).iter();
    let port_name = ports
        .filter(|own| own.get("port").and_then(Value::as_i64) == Some(port))
        .map(|own| meta::text_at(own, &["name"]))
        .next()
        .ok_or_else(|| CallError::Name(format!("no service port {port} found for service {name:?}")))?
        .to_owned();
    let page = api.store().list(&slices.key_prefix(Some(namespace)), skiff_store::ListOptions::default()).await?;
    let mut ready = Vec::new();
    for slice in page.entries.iter().map(codec::decode) {
        if meta::label(&slice, "kubernetes.io/service-name") != Some(name) {
            continue;
        }
        let mut own = meta::items(slice.get("ports")).iter().filter(|own| meta::text_at(own, &["name"]) == port_name);
        let Some(target) = own.next().and_then(|own| own.get("port")).and_then(Value::as_i64) else { continue };
        for endpoint in meta::items(slice.get("endpoints")) {
            let is_ready = meta::at(endpoint, &["conditions", "ready"]).and_then(Value::as_bool).unwrap_or(true);
            let address = meta::items(endpoint.get("addresses")).first().and_then(Value::as_str);
            ready.extend(address.filter(|_| is_ready).map(|address| match address.contains(':') {
                true => format!("[{address}]:{target}"),
                false => format!("{address}:{target}"),
            }));
        }
    }
    let chosen = usize::from(u16::from_ne_bytes(crate::random::bytes())) % ready.len().max(1);
    ready.into_iter().nth(chosen).ok_or_else(|| CallError::Endpoints(name.to_owned()))
}
