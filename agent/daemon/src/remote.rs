//! The API of another machine, over TLS with a client certificate: what a node agent alone uses in place of the in-process
//! service. One connection carries all requests; when it is lost, the next request opens another.

use std::path::Path;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context, bail};
use base64::prelude::{BASE64_STANDARD, Engine};
use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kube::client::Body;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

/// In a home network an answer takes milliseconds; a machine that is off gives none.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// A connection whose other end is gone is noticed by this, or the node would wait for ever for what never comes.
const ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Clones share the connection.
#[derive(Clone)]
pub struct Remote(Arc<Inner>);

struct Inner {
    authority: String,
    name: ServerName<'static>,
    tls: TlsConnector,
    sender: Mutex<Option<SendRequest<Body>>>,
}

impl Remote {
    /// From a kubeconfig as `skiff node-kubeconfig` prints it.
    pub fn open(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let parsed = serde_json::from_str(&text).map_err(anyhow::Error::from).and_then(|config| Self::parse(&config));
        parsed.with_context(|| format!("{} is no file that `skiff node-kubeconfig` printed", file.display()))
    }

    fn parse(config: &Value) -> anyhow::Result<Self> {
        let (cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
        let pem = |value: &Value, key: &str| -> anyhow::Result<Vec<u8>> {
            let text = value[key].as_str().with_context(|| format!("{key} is missing"))?;
            BASE64_STANDARD.decode(text).with_context(|| format!("{key} is not in base64"))
        };
        let server = cluster["server"].as_str().context("server is missing")?;
        let uri: Uri = server.parse().context("server is not an address")?;
        let (Some("https"), Some(host)) = (uri.scheme_str(), uri.host()) else {
            bail!("server {server:?} is not https://HOST:PORT");
        };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem(cluster, "certificate-authority-data")?)?)?;
        let chain = vec![CertificateDer::from_pem_slice(&pem(user, "client-certificate-data")?)?];
        let key = PrivateKeyDer::from_pem_slice(&pem(user, "client-key-data")?)?;
        let mut tls = ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let name = host.trim_matches(['[', ']']).to_owned();
        Ok(Self(Arc::new(Inner {
            authority: format!("{host}:{}", uri.port_u16().unwrap_or(443)),
            name: ServerName::try_from(name).context("server is neither a name nor an address")?,
            tls: TlsConnector::from(Arc::new(tls)),
            sender: Mutex::default(),
        })))
    }

    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.clone(), "default")
    }
}

impl Inner {
    async fn sender(&self) -> anyhow::Result<SendRequest<Body>> {
        let mut kept = self.sender.lock().await;
        if let Some(sender) = kept.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let opened = tokio::time::timeout(CONNECT_TIME_MAX, self.connect()).await;
        let sender = opened.with_context(|| format!("{} does not answer", self.authority))??;
        *kept = Some(sender.clone());
        Ok(sender)
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Body>> {
        let stream = tokio::net::TcpStream::connect(&self.authority)
            .await
            .with_context(|| format!("no API answers on {}", self.authority))?;
        let stream = self.tls.connect(self.name.clone(), stream).await;
        let stream = stream.with_context(|| format!("{} did not accept the connection", self.authority))?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(ALIVE_INTERVAL).keep_alive_while_idle(true);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::warn!(%error, "the connection to the API is lost");
            }
        });
        Ok(sender)
    }

    async fn send(&self, mut request: Request<Body>) -> anyhow::Result<Response<Incoming>> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() =
            Uri::builder().scheme("https").authority(self.authority.as_str()).path_and_query(path).build()?;
        Ok(self.sender().await?.send_request(request).await?)
    }
}

impl tower::Service<Request<Body>> for Remote {
    type Response = Response<Incoming>;
    type Error = tower::BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _cx: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.send(request).await.map_err(Into::into) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_kubeconfig_is_refused_with_what_it_lacks() {
        for (config, lack) in [
            (json!({}), "server is missing"),
            (json!({"clusters": [{"cluster": {"server": "http://a:1"}}]}), "is not https://HOST:PORT"),
            (json!({"clusters": [{"cluster": {"server": "https://a:1"}}]}), "certificate-authority-data is missing"),
        ] {
            let error = Remote::parse(&config).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(lack), "{error}");
        }
    }
}
