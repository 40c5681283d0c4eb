//! Bodies: what comes in within limits, what goes out whole or as a stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use http::{Response, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::compress::{COMPRESSED_BYTES_MIN, Whole};
use crate::present::JSON;
use crate::status::ApiError;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type Body = BoxBody<Bytes, BoxError>;

/// Upstream's limit on a request body.
pub const REQUEST_BYTES_MAX: usize = 3 * 1024 * 1024;
/// How much of a body that is too large is read and dropped.
const DISCARDED_BYTES_MAX: usize = 8 * REQUEST_BYTES_MAX;
/// A body that takes longer than this is given up: a slow client must not hold a request slot for ever.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

pub fn stream(items: impl Stream<Item = Bytes> + Send + Sync + 'static) -> Body {
    use futures::StreamExt;
    BodyExt::boxed(StreamBody::new(items.map(|bytes| Ok(Frame::data(bytes)))))
}

/// Bytes that something is held with for as long as they are in memory.
pub fn bytes_with(bytes: Bytes, guard: impl Send + 'static) -> Bytes {
    struct Held<G>(Bytes, G);
    impl<G> AsRef<[u8]> for Held<G> {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Held(bytes, guard))
}

/// A body that something is held with until all that it sends is out of memory: a server takes pieces long before their
/// reader does.
pub fn kept_with(body: Body, guard: impl Send + Sync + 'static) -> Body {
    let guard = Arc::new(guard);
    let held = body.map_frame({
        let guard = Arc::clone(&guard);
        move |frame| frame.map_data(|bytes| bytes_with(bytes, Arc::clone(&guard)))
    });
    held_with(held.boxed(), guard)
}

/// A body that something is held with until it is sent or given up.
pub fn held_with(body: Body, guard: impl Send + Sync + Unpin + 'static) -> Body {
    Guarded { body, _guard: guard }.boxed()
}

struct Guarded<G> {
    body: Body,
    _guard: G,
}

impl<G: Unpin> http_body::Body for Guarded<G> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

pub fn response(code: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

/// An answer that is there as a whole: it may be compressed.
pub fn whole(code: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let bytes = bytes.into();
    let mut response = response(code, content_type, full(bytes.clone()));
    if bytes.len() >= COMPRESSED_BYTES_MIN {
        response.extensions_mut().insert(Whole(bytes));
    }
    response
}

pub fn json_bytes(code: StatusCode, bytes: impl Into<Bytes>) -> Response<Body> {
    whole(code, JSON, bytes)
}

pub fn json(code: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => json_bytes(code, bytes),
        Err(error) => ApiError::internal(error.to_string()).into_response(),
    }
}

pub fn text(code: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    response(code, "text/plain; charset=utf-8", full(text))
}

/// The whole body of a request.
pub async fn read<B>(body: B) -> Result<Bytes, ApiError>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<BoxError>,
{
    within_time(collect(std::pin::pin!(body), None)).await
}

/// The whole body of a request, counted byte by byte against what all bodies may have until what is returned is dropped.
pub async fn read_within<B>(body: B, bodies: &Arc<Semaphore>) -> Result<(Bytes, Held), ApiError>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<BoxError>,
{
    let mut held = Held { bodies: Arc::clone(bodies), permits: Vec::new() };
    let bytes = within_time(collect(std::pin::pin!(body), Some(&mut held))).await?;
    Ok((bytes, held))
}

/// A body's part of what all bodies may have.
pub struct Held {
    bodies: Arc<Semaphore>,
    permits: Vec<OwnedSemaphorePermit>,
}

impl Held {
    /// Waits where the others have it all: the time of the whole body bounds it.
    async fn take(&mut self, bytes: usize) {
        let kibibytes = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        // It is never closed.
        self.permits.extend(Arc::clone(&self.bodies).acquire_many_owned(kibibytes).await);
    }
}

async fn within_time(reading: impl Future<Output = Result<Option<Bytes>, BoxError>>) -> Result<Bytes, ApiError> {
    match tokio::time::timeout(REQUEST_TIME_MAX, reading).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => Err(ApiError::too_large(&format!("limit is {REQUEST_BYTES_MAX}"))),
        Ok(Err(error)) => Err(ApiError::bad_request(format!("the request body could not be read: {error}"))),
        Err(_) => Err(ApiError::bad_request("the request body did not arrive in time")),
    }
}

/// `None` where the body is over the limit. What is over it is read on for a while and dropped: clients that are cut
/// off in the middle of sending do not see why.
async fn collect<B>(mut body: std::pin::Pin<&mut B>, mut held: Option<&mut Held>) -> Result<Option<Bytes>, BoxError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut bytes = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Into::into)?.into_data() else { continue };
        length += data.len();
        if length <= REQUEST_BYTES_MAX {
            if let Some(held) = &mut held {
                held.take(data.len()).await;
            }
            bytes.extend_from_slice(&data);
        } else if length > DISCARDED_BYTES_MAX {
            break;
        }
    }
    Ok((length <= REQUEST_BYTES_MAX).then(|| bytes.freeze()))
}
