//! The listener: TLS, client certificates, HTTP/1.1 and 2, and the limits that keep slow or greedy clients in bounds.

mod bounds;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use skiff_store::Store;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::{ActingFor, Peer};
use crate::body::{self, Body, BoxError};
use crate::pki::{Pki, PkiError};
use crate::present::Encoding;
use crate::rbac::Attributes;
use crate::status::ApiError;
use crate::users::{self, User};
use crate::{Api, fairness};
use bounds::{Connections, FirstBytes};

/// A handshake or the head of a request that takes longer is given up.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
const HEADER_TIME_MAX: Duration = Duration::from_secs(15);
/// Bodies that are being received, all together: they wait for no slot, and must not fill the memory instead.
pub const BODIES_BYTES_MAX: usize = 32 << 20;
/// Of a refused request this much is read and dropped, so that the client hears why.
const REFUSED_BODY_TIME_MAX: Duration = Duration::from_secs(2);
/// Streams of one HTTP/2 connection: a client-go process opens one for each watch.
const STREAMS_MAX: u32 = 250;
/// How long running requests may go on after the listener is closed.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(3);

impl<S: Store> Api<S> {
    /// Serves until `shutdown`, then lets running requests finish within a bound.
    pub async fn serve(
        self,
        listener: TcpListener,
        pki: Arc<Pki>,
        shutdown: CancellationToken,
    ) -> Result<(), PkiError> {
        let acceptor = TlsAcceptor::from(Arc::new(pki.server_config()?));
        let connections = Connections::default();
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let permit = match connections.admit(peer.ip()) {
                Ok(permit) => permit,
                Err(max) => {
                    tracing::warn!(%peer, max, "connection refused, too many are open");
                    continue;
                }
            };
            let (api, acceptor, shutdown) = (self.clone(), acceptor.clone(), shutdown.clone());
            tasks.spawn(async move {
                let _permit = permit;
                if let Err(error) = api.connection(stream, peer.ip(), acceptor, shutdown).await {
                    tracing::debug!(%error, "connection ended");
                }
            });
        }
        tasks.close();
        let _ = tokio::time::timeout(DRAIN_TIME_MAX, tasks.wait()).await;
        Ok(())
    }

    async fn connection(
        self,
        stream: TcpStream,
        peer: IpAddr,
        acceptor: TlsAcceptor,
        shutdown: CancellationToken,
    ) -> Result<(), BoxError> {
        stream.set_nodelay(true)?;
        let stream = tokio::time::timeout(HANDSHAKE_TIME_MAX, acceptor.accept(stream)).await??;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).cloned();
        let certificate = certificate.map(CertificateDer::into_owned);
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            if self.audit().is_some() {
                request.extensions_mut().insert(Peer(peer));
            }
            let (api, certificate) = (self.clone(), certificate.clone());
            async move { Ok::<_, std::convert::Infallible>(api.remote(request, certificate.as_ref()).await) }
        });
        let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIME_MAX);
        builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX);
        builder.http2().keep_alive_interval(Duration::from_secs(30)).keep_alive_timeout(Duration::from_secs(15));
        let stream = FirstBytes::within(bounds::FIRST_BYTES_TIME_MAX, stream);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            result = connection.as_mut() => return result,
            () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    }

    /// A request from the network: whoever sends it is worked out first.
    async fn remote(&self, mut request: Request<Incoming>, certificate: Option<&CertificateDer<'_>>) -> Response<Body> {
        let head_only = request.method() == http::Method::HEAD;
        let encoding = Encoding::of_errors(request.headers());
        let authenticated = self.authenticate(&request, certificate).await;
        let known = match authenticated {
            Ok(user) => match self.acting_as(&user, request.headers()) {
                Ok(acting) => Ok((user, acting)),
                Err(error) => Err((Some(user), error)),
            },
            Err(error) => Err((None, error)),
        };
        let response = match known {
            Ok((user, None)) => self.received(user, request).await,
            Ok((user, Some(acting))) => {
                request.extensions_mut().insert(ActingFor(user));
                self.received(acting, request).await
            }
            Err((user, error)) => {
                self.record_refusal(user.as_ref(), &request, &error);
                let _ = tokio::time::timeout(REFUSED_BODY_TIME_MAX, body::read(request.into_body())).await;
                error.into_response_in(encoding)
            }
        };
        if head_only { without_body(response) } else { response }
    }

    /// A body that drips in holds no slot: the request is handled when it is there.
    async fn received(&self, user: User, request: Request<Incoming>) -> Response<Body> {
        let is_empty = http_body::Body::is_end_stream(request.body());
        // Whether it lives is asked of a server above all where many ask it for more.
        if is_empty && is_public(request.uri().path()) {
            return self.handle(user, request.map(|body| body.map_err(BoxError::from).boxed())).await;
        }
        if is_empty || request.headers().contains_key(http::header::UPGRADE) || fairness::is_proxied(&request) {
            return self.limited(user, request.map(|body| body.map_err(BoxError::from).boxed())).await;
        }
        let (parts, incoming) = request.into_parts();
        match body::read_within(incoming, self.bodies()).await {
            Ok((bytes, _held)) => {
                let is_large = bytes.len() >= fairness::LARGE_BYTES;
                let request = Request::from_parts(parts, body::full(bytes));
                if is_large { self.limited_apart(user, request).await } else { self.limited(user, request).await }
            }
            Err(error) => error.into_response(),
        }
    }

    /// The user whom the request asks to act as, where the caller may.
    fn acting_as(&self, user: &User, headers: &http::HeaderMap) -> Result<Option<User>, ApiError> {
        let Some(asked) = users::impersonated(headers)? else { return Ok(None) };
        for right in &asked.rights {
            let (group, resource) = (right.group, right.resource.as_str());
            let attributes = Attributes::Resource {
                verb: "impersonate",
                group,
                resource,
                namespace: right.namespace.as_deref(),
                name: Some(&right.name),
                of_node: None,
            };
            if !self.authorizer().allows(user, &attributes) {
                return Err(ApiError::forbidden(format!(
                    "{resource} \"{}\" is forbidden: User \"{}\" cannot impersonate resource \"{resource}\" in API group \"{group}\"",
                    right.name, user.name
                )));
            }
        }
        Ok(Some(asked.user))
    }

    async fn authenticate<B>(
        &self,
        request: &Request<B>,
        certificate: Option<&CertificateDer<'_>>,
    ) -> Result<User, ApiError> {
        if let Some(token) = users::bearer(request.headers()) {
            return self.user_of_token(token, &[]).await.map(|(user, _)| user);
        }
        match certificate {
            Some(certificate) => User::from_certificate(certificate).ok_or_else(ApiError::unauthorized),
            None if is_public(request.uri().path()) => Ok(User::anonymous()),
            None => Err(ApiError::unauthorized()),
        }
    }
}

fn without_body(mut response: Response<Body>) -> Response<Body> {
    if let Some(length) = http_body::Body::size_hint(response.body()).exact() {
        response.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
    }
    *response.body_mut() = body::full("");
    response
}

/// All that is answered without authentication.
fn is_public(path: &str) -> bool {
    matches!(path.trim_end_matches('/'), "/healthz" | "/livez" | "/readyz" | "/version")
}
