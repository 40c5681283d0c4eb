//! A client of the API that stops before or after the nth write of a Secret, as a process that is killed there does.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use tokio::sync::Notify;
use tower::{BoxError, Service};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Before,
    After,
}

#[derive(Clone)]
pub(crate) struct Crashing {
    inner: Client,
    left: Arc<AtomicUsize>,
    side: Side,
    crashed: Arc<Notify>,
}

impl Crashing {
    /// The client, and what is notified at the crash.
    pub(crate) fn client(inner: Client, after: usize, side: Side) -> (Client, Arc<Notify>) {
        let crashed = Arc::new(Notify::new());
        let service = Self { inner, left: Arc::new(AtomicUsize::new(after)), side, crashed: Arc::clone(&crashed) };
        (Client::new(service, "default"), crashed)
    }

    /// Whether this request is the one to stop at; those after it are stopped at as well.
    fn stops(&self, request: &Request<Body>) -> bool {
        let writes = request.method() != Method::GET && request.uri().path().contains("/secrets");
        writes && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err()
    }
}

impl Service<Request<Body>> for Crashing {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let stops = service.stops(&request);
            if stops && service.side == Side::Before {
                service.crashed.notify_one();
                std::future::pending::<()>().await;
            }
            let response = service.inner.send(request).await?;
            if stops {
                service.crashed.notify_one();
                std::future::pending::<()>().await;
            }
            Ok(response)
        })
    }
}
