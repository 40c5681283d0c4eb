//! Bodies: what comes in within limits, what goes out whole or as a stream.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use http::{Response, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use serde::Serialize;

use crate::status::ApiError;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type Body = BoxBody<Bytes, BoxError>;

/// Upstream's limit on a request body.
pub const REQUEST_BYTES_MAX: usize = 3 * 1024 * 1024;
/// A body that takes longer than this is given up: a slow client must not hold a request slot for ever.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

pub fn stream(items: impl Stream<Item = Bytes> + Send + Sync + 'static) -> Body {
    use futures::StreamExt;
    BodyExt::boxed(StreamBody::new(items.map(|bytes| Ok(Frame::data(bytes)))))
}

pub fn response(code: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

pub fn json_bytes(code: StatusCode, bytes: impl Into<Bytes>) -> Response<Body> {
    response(code, "application/json", full(bytes))
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
    let limited = std::pin::pin!(Limited::new(body, REQUEST_BYTES_MAX));
    match tokio::time::timeout(REQUEST_TIME_MAX, collect(limited)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(ApiError::too_large(&format!("limit is {REQUEST_BYTES_MAX}")))
        }
        Ok(Err(error)) => Err(ApiError::bad_request(format!("the request body could not be read: {error}"))),
        Err(_) => Err(ApiError::bad_request("the request body did not arrive in time")),
    }
}

async fn collect<B>(mut body: std::pin::Pin<&mut B>) -> Result<Bytes, BoxError>
where
    B: http_body::Body<Data = Bytes, Error = BoxError>,
{
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}
