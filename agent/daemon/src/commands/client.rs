//! A small client of the running box's API, with the administrator's certificate.

use std::sync::Arc;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio_rustls::TlsConnector;

use crate::paths::Paths;

pub struct Client {
    sender: hyper::client::conn::http1::SendRequest<Empty<Bytes>>,
    authority: String,
}

impl Client {
    pub async fn connect(paths: &Paths) -> anyhow::Result<Self> {
        let authority = server(paths)?;
        let stream = tokio::net::TcpStream::connect(&authority)
            .await
            .with_context(|| format!("no box answers on {authority}: start it with `skiff up`"))?;
        let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
        let name = ServerName::try_from(host.to_owned()).context("the kubeconfig's server is not an address")?;
        let connector = TlsConnector::from(Arc::new(tls(paths)?));
        let stream = connector.connect(name, stream).await.context("the box did not accept the connection")?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, authority })
    }

    pub async fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        self.ask(http::Method::GET, path).await
    }

    pub async fn post(&mut self, path: &str) -> anyhow::Result<Value> {
        self.ask(http::Method::POST, path).await
    }

    async fn ask(&mut self, method: http::Method, path: &str) -> anyhow::Result<Value> {
        let request = http::Request::builder().method(method).uri(path);
        let request = request.header("host", &self.authority).body(Empty::new())?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        let value: Value = serde_json::from_slice(&body).with_context(|| format!("{path} did not answer JSON"))?;
        if !status.is_success() {
            bail!("{path}: {}", value["message"].as_str().unwrap_or("unknown error"));
        }
        Ok(value)
    }
}

fn server(paths: &Paths) -> anyhow::Result<String> {
    let path = paths.kubeconfig();
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}: is the box set up, and are you root?", path.display()))?;
    let server = text.lines().find_map(|line| line.trim().strip_prefix("server: https://"));
    server.map(str::to_owned).with_context(|| format!("{} names no server", path.display()))
}

fn tls(paths: &Paths) -> anyhow::Result<ClientConfig> {
    let file = |name: &str| paths.pki().join(name);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file("ca.crt"))?)?;
    let chain = vec![CertificateDer::from_pem_file(file("admin.crt"))?];
    let key = PrivateKeyDer::from_pem_file(file("admin.key"))?;
    Ok(ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key)?)
}
