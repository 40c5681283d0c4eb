//! Bodies on their way through: never gathered, only counted, bounded and watched.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::balance::Active;
use super::compress::Compressed;
use super::handle::InFlight;
use super::io::Delivery;
use super::metrics::HostMetrics;
use super::upstream::Lease;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a backend is sent.
pub enum RequestBody {
    Empty,
    Client(Box<ClientBody>),
}

/// A client's body, bounded in size and in the time between its parts.
pub struct ClientBody {
    incoming: Incoming,
    left: u64,
    metrics: Arc<HostMetrics>,
    verdict: Arc<Verdict>,
    stall: Stall,
}

/// Why a client's body was cut off: the answer then is the client's fault, not the backend's.
#[derive(Debug, Default)]
pub struct Verdict {
    pub too_large: AtomicBool,
    pub stalled: AtomicBool,
    pub broken: AtomicBool,
    /// Something of it was sent: the request cannot be repeated.
    pub touched: AtomicBool,
}

impl ClientBody {
    pub fn new(incoming: Incoming, bytes_max: u64, idle: Duration, metrics: Arc<HostMetrics>) -> (Self, Arc<Verdict>) {
        let verdict = Arc::new(Verdict::default());
        let body = Self { incoming, left: bytes_max, metrics, verdict: Arc::clone(&verdict), stall: Stall::new(idle) };
        (body, verdict)
    }

    fn poll_bounded(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.verdict.touched.store(true, Ordering::Relaxed);
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            ready!(self.stall.poll(cx));
            self.verdict.stalled.store(true, Ordering::Relaxed);
            return Poll::Ready(Some(Err("the client sent nothing for too long".into())));
        };
        self.stall.moved();
        Poll::Ready(match frame {
            // Not passed on, as with nginx: they come after everything that was checked, and some applications take them
            // for fields of the head.
            Some(Ok(frame)) if frame.is_trailers() => None,
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |d| d.len() as u64);
                self.metrics.received(bytes);
                match self.left.checked_sub(bytes) {
                    Some(left) => {
                        self.left = left;
                        Some(Ok(frame))
                    }
                    None => {
                        self.verdict.too_large.store(true, Ordering::Relaxed);
                        Some(Err("the body is larger than allowed".into()))
                    }
                }
            }
            Some(Err(error)) => {
                self.verdict.broken.store(true, Ordering::Relaxed);
                Some(Err(error.into()))
            }
            None => None,
        })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            RequestBody::Empty => Poll::Ready(None),
            RequestBody::Client(body) => body.poll_bounded(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Client(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Client(body) => body.incoming.size_hint(),
        }
    }
}

/// A timer that runs only while nothing moves, made when it is needed first.
struct Stall {
    limit: Duration,
    since: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl Stall {
    fn new(limit: Duration) -> Self {
        Self { limit, since: None, waiting: false }
    }

    fn moved(&mut self) {
        self.waiting = false;
    }

    /// Ready when nothing has moved for the limit.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let sleep = self.since.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !self.waiting {
            self.waiting = true;
            sleep.as_mut().reset(Instant::now() + limit);
        }
        sleep.as_mut().poll(cx)
    }
}

/// What a client is sent.
pub enum ResponseBody {
    Empty,
    Own(Option<Bytes>),
    Backend(Box<BackendBody>),
    Compressed(Box<Compressed>),
}

/// A backend's body. Its connection goes back to the pool with the last byte.
pub struct BackendBody {
    incoming: Incoming,
    lease: Option<Lease>,
    metrics: Arc<HostMetrics>,
    stall: Stall,
    _active: Active,
    in_flight: Option<InFlight>,
}

impl BackendBody {
    pub fn new(
        incoming: Incoming,
        lease: Lease,
        active: Active,
        in_flight: Option<InFlight>,
        metrics: Arc<HostMetrics>,
        idle: Duration,
    ) -> Self {
        let stall = Stall::new(idle);
        let mut body = Self { incoming, lease: Some(lease), metrics, stall, _active: active, in_flight };
        body.release_at_end();
        body.note(Delivery::offered);
        body
    }

    fn release_at_end(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.release();
        }
    }

    fn note(&self, event: fn(&Delivery)) {
        if let Some(delivery) = self.in_flight.as_ref().and_then(|request| request.delivery.as_ref()) {
            event(delivery);
        }
    }

    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.note(Delivery::taken);
        let polled = self.poll_backend(cx);
        if polled.is_ready() {
            self.note(Delivery::offered);
        }
        polled
    }

    fn poll_backend(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if polled.is_pending()
            && let Some(lease) = &mut self.lease
        {
            lease.drive(cx);
            polled = Pin::new(&mut self.incoming).poll_frame(cx);
        }
        let Poll::Ready(frame) = polled else {
            ready!(self.stall.poll(cx));
            return Poll::Ready(Some(Err("the backend sent nothing for too long".into())));
        };
        self.stall.moved();
        match &frame {
            Some(Ok(frame)) => {
                self.metrics.sent(frame.data_ref().map_or(0, |d| d.len() as u64));
                self.release_at_end();
            }
            // A broken connection is not used again.
            Some(Err(_)) => self.lease = None,
            None => {
                if let Some(lease) = self.lease.take() {
                    lease.release();
                }
            }
        }
        Poll::Ready(frame.map(|f| f.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            ResponseBody::Empty => Poll::Ready(None),
            ResponseBody::Own(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            ResponseBody::Backend(body) => body.poll_data(cx),
            ResponseBody::Compressed(body) => body.poll_data(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ResponseBody::Empty => true,
            ResponseBody::Own(bytes) => bytes.is_none(),
            ResponseBody::Backend(body) => body.is_end_stream(),
            ResponseBody::Compressed(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ResponseBody::Empty => SizeHint::with_exact(0),
            ResponseBody::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            ResponseBody::Backend(body) => body.incoming.size_hint(),
            ResponseBody::Compressed(_) => SizeHint::default(),
        }
    }
}
