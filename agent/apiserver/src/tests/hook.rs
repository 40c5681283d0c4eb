//! A webhook's server, which answers as a test says.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub type Answer = fn(&Value) -> Value;

/// A webhook's server, and what it was asked.
pub struct Hook {
    pub port: u16,
    bundle: String,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Hook {
    pub async fn start(answer: Answer) -> Self {
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).expect("a key");
        let chain = vec![CertificateDer::from(certified.cert.der().to_vec())];
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = tls.expect("versions").with_no_client_auth().with_single_cert(chain, key).expect("a certificate");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), answer, Arc::clone(&asked)));
        Self { port, bundle: BASE64_STANDARD.encode(certified.cert.pem()), asked }
    }

    pub fn url(&self, path: &str) -> Value {
        json!({"url": format!("https://localhost:{}{path}", self.port), "caBundle": self.bundle})
    }

    pub fn asked(&self) -> Vec<Value> {
        self.asked.lock().expect("a lock").clone()
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, answer: Answer, asked: Arc<Mutex<Vec<Value>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, asked) = (acceptor.clone(), Arc::clone(&asked));
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let asked = Arc::clone(&asked);
                async move {
                    let bytes = request.into_body().collect().await.expect("a body").to_bytes();
                    let review: Value = serde_json::from_slice(&bytes).expect("JSON");
                    let request = &review["request"];
                    asked.lock().expect("a lock").push(request.clone());
                    let mut response = answer(request);
                    if response["slow"] == true {
                        tokio::time::sleep(Duration::from_secs(5)).await;
                    }
                    response["uid"] = request["uid"].clone();
                    let review =
                        json!({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response});
                    Ok::<_, hyper::Error>(Response::new(Full::new(bytes::Bytes::from(review.to_string()))))
                }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
