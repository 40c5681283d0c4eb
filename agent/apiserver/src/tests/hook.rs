//! Servers over TLS as tests need them: any, and a webhook's, which answers as a test says.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub type Answered = BoxFuture<'static, Response<Full<Bytes>>>;

/// Serves under a name; who has a CA of clients asks them for a certificate. Its port, and its certificate in PEM.
pub async fn serve(
    name: &str,
    clients: Option<&str>,
    answer: impl Fn(Request<Incoming>) -> Answered + Clone + Send + 'static,
) -> (u16, String) {
    let certified = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).expect("a key");
    let chain = vec![CertificateDer::from(certified.cert.der().to_vec())];
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let tls = tls.expect("versions");
    let tls = match clients {
        None => tls.with_no_client_auth(),
        Some(pem) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("a CA")).expect("a root");
            let roots = Arc::new(roots);
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            tls.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    let acceptor = TlsAcceptor::from(Arc::new(tls.with_single_cert(chain, key).expect("a certificate")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request| {
                    let answered = answer(request);
                    async move { Ok::<_, hyper::Error>(answered.await) }
                });
                let http = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                let _ = http.with_upgrades().await;
            });
        }
    });
    (port, certified.cert.pem())
}

pub type Answer = fn(&Value) -> Value;

/// A webhook's server, and what it was asked.
pub struct Hook {
    pub port: u16,
    bundle: String,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Hook {
    pub async fn start(answer: Answer) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let known = Arc::clone(&asked);
        let (port, pem) = serve("localhost", None, move |request| {
            let asked = Arc::clone(&known);
            Box::pin(async move { review(request, answer, &asked).await })
        })
        .await;
        Self { port, bundle: BASE64_STANDARD.encode(pem), asked }
    }

    pub fn url(&self, path: &str) -> Value {
        json!({"url": format!("https://localhost:{}{path}", self.port), "caBundle": self.bundle})
    }

    pub fn asked(&self) -> Vec<Value> {
        self.asked.lock().expect("a lock").clone()
    }
}

async fn review(request: Request<Incoming>, answer: Answer, asked: &Mutex<Vec<Value>>) -> Response<Full<Bytes>> {
    let bytes = request.into_body().collect().await.expect("a body").to_bytes();
    let review: Value = serde_json::from_slice(&bytes).expect("JSON");
    let request = &review["request"];
    asked.lock().expect("a lock").push(request.clone());
    let mut response = answer(request);
    if response["slow"] == true {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    response["uid"] = request["uid"].clone();
    let review = json!({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response});
    Response::new(Full::from(review.to_string()))
}
