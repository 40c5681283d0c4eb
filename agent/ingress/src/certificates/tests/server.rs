//! An HTTPS server that answers each path with what a function says.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::pebble::write_certificates;

/// Status, Retry-After and body; `ADDRESS` in the body stands for the server's own.
pub(crate) type Said = (u16, Option<&'static str>, String);

pub(crate) struct Server {
    address: SocketAddr,
    pub(crate) trust_root: PathBuf,
    _task: AbortOnDropHandle<()>,
    _dir: tempfile::TempDir,
}

impl Server {
    pub(crate) async fn start(say: impl Fn(&str) -> Said + Clone + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let trust_root = write_certificates(dir.path());
        let chain = vec![CertificateDer::from_pem_file(dir.path().join("server.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(dir.path().join("server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let say = say.clone();
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let (status, retry_after, body) = say(request.uri().path());
                    let mut response = Response::builder().status(status);
                    if let Some(value) = retry_after {
                        response = response.header("Retry-After", value);
                    }
                    let body = body.replace("ADDRESS", &address.to_string());
                    let response = response.body(Full::<Bytes>::from(body)).unwrap();
                    std::future::ready(Ok::<_, Infallible>(response))
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        }));
        Self { address, trust_root, _task: task, _dir: dir }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }
}
