//! Shows the answers to challenges as the proxy does, from `Challenges` alone.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::challenges::{Answer, Challenges};

/// Serves until dropped.
pub(crate) struct Answers {
    pub(crate) http: SocketAddr,
    pub(crate) tls: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Answers {
    pub(crate) async fn start(challenges: &Challenges) -> Self {
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tls = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = (http.local_addr().unwrap(), tls.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(mark(challenges.clone()));
        tasks.spawn(serve_http(http, challenges.clone()));
        tasks.spawn(serve_tls(tls, challenges.clone()));
        Self { http: addresses.0, tls: addresses.1, _tasks: tasks }
    }
}

pub(crate) async fn mark(challenges: Challenges) {
    let mut changes = challenges.changes();
    loop {
        challenges.mark_served(challenges.current().0);
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn find(path: &str, challenges: &Challenges) -> Option<String> {
    let asked = path.strip_prefix("/.well-known/acme-challenge/")?;
    challenges.current().1.into_iter().find_map(|answer| match answer {
        Answer::Http { token, key_authorization } => (token == asked).then_some(key_authorization),
        Answer::TlsAlpn { .. } => None,
    })
}

async fn serve_http(listener: TcpListener, challenges: Challenges) {
    while let Ok((stream, _)) = listener.accept().await {
        let challenges = challenges.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<hyper::body::Incoming>| {
                let found = find(request.uri().path(), &challenges);
                let mut response = Response::new(Full::<Bytes>::from(found.clone().unwrap_or_default()));
                if found.is_none() {
                    *response.status_mut() = http::StatusCode::NOT_FOUND;
                }
                std::future::ready(Ok::<_, std::convert::Infallible>(response))
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

#[derive(Debug)]
struct Resolver(Challenges);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name()?.to_owned();
        assert!(hello.alpn()?.any(|protocol| protocol == b"acme-tls/1"));
        self.0.current().1.into_iter().find_map(|answer| match answer {
            Answer::TlsAlpn { name, certificate, key } if name == asked => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
                Some(Arc::new(CertifiedKey::new(vec![certificate], key)))
            }
            Answer::TlsAlpn { .. } | Answer::Http { .. } => None,
        })
    }
}

async fn serve_tls(listener: TcpListener, challenges: Challenges) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(Resolver(challenges)));
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let _ = acceptor.accept(stream).await;
        });
    }
}
