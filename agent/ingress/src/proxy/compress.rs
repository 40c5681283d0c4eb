//! Compression of answers on their way: gzip or zstd where the client takes it and the content is worth it.
//!
//! What a backend sends is passed on at once: each part is flushed, so that nothing waits in the compressor.

use std::io::Write;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderValue, VARY,
};
use http::{StatusCode, response};
use http_body::Frame;

use super::body::{BackendBody, BoxError};

/// Below this, headers and the dictionary cost more than they save.
const BYTES_MIN: u64 = 1024;
/// Fast rather than small: a home server's processor is the narrow place, not its network.
const GZIP_LEVEL: u32 = 4;
const ZSTD_LEVEL: i32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Gzip,
    Zstd,
}

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Ended,
}

pub struct Compressed {
    body: BackendBody,
    encoder: Encoder,
}

/// What the client likes best of what we can: RFC 9110, 12.5.3.
pub fn accepted(headers: &HeaderMap) -> Option<Coding> {
    let mut best = None;
    for item in headers.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')) {
        let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
        let weight = parameters.trim().strip_prefix("q=").map_or(1.0, |q| q.trim().parse().unwrap_or(0.0));
        let coding = match name.trim().to_ascii_lowercase().as_str() {
            "zstd" => Coding::Zstd,
            "gzip" | "x-gzip" => Coding::Gzip,
            _ => continue,
        };
        let rank = (weight, coding == Coding::Zstd);
        if weight > 0.0 && best.is_none_or(|(r, _): ((f32, bool), Coding)| rank > r) {
            best = Some((rank, coding));
        }
    }
    best.map(|(_, coding)| coding)
}

/// Whether this answer gains from compression and may be changed.
pub fn is_worth_it(parts: &response::Parts) -> bool {
    let headers = &parts.headers;
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let length = text(CONTENT_LENGTH).and_then(|l| l.parse::<u64>().ok());
    let fixed = headers.contains_key(CONTENT_ENCODING) || headers.contains_key(CONTENT_RANGE);
    let forbidden = text(CACHE_CONTROL).is_some_and(|c| c.to_ascii_lowercase().contains("no-transform"));
    parts.status != StatusCode::PARTIAL_CONTENT
        && parts.status != StatusCode::NO_CONTENT
        && parts.status != StatusCode::NOT_MODIFIED
        && !fixed
        && !forbidden
        && length.is_none_or(|l| l >= BYTES_MIN)
        && text(CONTENT_TYPE).is_some_and(is_compressible)
}

/// Text and what is made of it. An event stream is left alone: its parts are too small.
fn is_compressible(content_type: &str) -> bool {
    const TYPES: &[&str] = &[
        "application/javascript",
        "application/json",
        "application/wasm",
        "application/xml",
        "application/x-javascript",
        "application/manifest+json",
        "application/vnd.ms-fontobject",
        "font/otf",
        "font/ttf",
        "image/bmp",
        "image/svg+xml",
    ];
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let structured = essence.ends_with("+json") || essence.ends_with("+xml");
    essence != "text/event-stream" && (essence.starts_with("text/") || structured || TYPES.contains(&&*essence))
}

/// Changes the head and wraps the body.
pub fn compress(parts: &mut response::Parts, body: BackendBody, coding: Coding) -> std::io::Result<Compressed> {
    let (name, encoder) = match coding {
        Coding::Gzip => ("gzip", Encoder::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL)))),
        Coding::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
            // The window bounds what the browser must keep: RFC 8878 allows no more than this for the web.
            encoder.window_log(20)?;
            ("zstd", Encoder::Zstd(encoder))
        }
    };
    let headers = &mut parts.headers;
    headers.remove(CONTENT_LENGTH);
    headers.remove(ACCEPT_RANGES);
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
    headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    weaken_etag(headers);
    Ok(Compressed { body, encoder })
}

/// The bytes are others now: only a weak validator still holds.
fn weaken_etag(headers: &mut HeaderMap) {
    let strong = headers.get(ETAG).filter(|e| e.as_bytes().starts_with(b"\""));
    let weak = strong.and_then(|e| HeaderValue::from_bytes(&[b"W/", e.as_bytes()].concat()).ok());
    if let Some(weak) = weak {
        headers.insert(ETAG, weak);
    }
}

impl Encoder {
    fn push(&mut self, data: &[u8]) -> std::io::Result<Bytes> {
        match self {
            Encoder::Gzip(encoder) => {
                encoder.write_all(data)?;
                encoder.flush()?;
                Ok(std::mem::take(encoder.get_mut()).into())
            }
            Encoder::Zstd(encoder) => {
                encoder.write_all(data)?;
                encoder.flush()?;
                Ok(std::mem::take(encoder.get_mut()).into())
            }
            Encoder::Ended => Ok(Bytes::new()),
        }
    }

    fn end(&mut self) -> std::io::Result<Bytes> {
        match std::mem::replace(self, Encoder::Ended) {
            Encoder::Gzip(encoder) => Ok(encoder.finish()?.into()),
            Encoder::Zstd(encoder) => Ok(encoder.finish()?.into()),
            Encoder::Ended => Ok(Bytes::new()),
        }
    }
}

impl Compressed {
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let compressed = match ready!(self.body.poll_data(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.encoder.push(&data),
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => match self.encoder.end() {
                    Ok(rest) if rest.is_empty() => return Poll::Ready(None),
                    rest => rest,
                },
            };
            match compressed {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(value: &'static str) -> Option<Coding> {
        accepted(&HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]))
    }

    #[test]
    fn what_clients_accept() {
        assert_eq!(accepts("gzip, deflate, br, zstd"), Some(Coding::Zstd));
        assert_eq!(accepts("gzip, deflate, br"), Some(Coding::Gzip));
        assert_eq!(accepts("zstd;q=0.5, gzip;q=0.9"), Some(Coding::Gzip));
        assert_eq!(accepts("gzip;q=0, zstd; q=0"), None);
        assert_eq!(accepts("identity"), None);
        assert_eq!(accepts("gzip;q=nonsense"), None);
        assert_eq!(accepted(&HeaderMap::new()), None);
    }

    #[test]
    fn what_is_compressed() {
        let worth = |headers: &[(&'static str, &'static str)]| {
            let mut response = http::Response::builder();
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            is_worth_it(&response.body(()).unwrap().into_parts().0)
        };
        assert!(worth(&[("content-type", "text/html; charset=utf-8")]));
        assert!(worth(&[("content-type", "application/ld+json"), ("content-length", "5000")]));
        assert!(!worth(&[("content-type", "text/html"), ("content-length", "100")]));
        assert!(!worth(&[("content-type", "text/event-stream")]));
        assert!(!worth(&[("content-type", "image/jpeg")]));
        assert!(!worth(&[("content-type", "text/css"), ("content-encoding", "br")]));
        assert!(!worth(&[("content-type", "text/css"), ("cache-control", "public, no-transform")]));
        assert!(!worth(&[]));
    }

    #[test]
    fn each_part_can_be_read_at_once() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let mut encoder = match coding {
                Coding::Gzip => Encoder::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL))),
                Coding::Zstd => Encoder::Zstd(zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL).unwrap()),
            };
            let mut sent = encoder.push(b"hello, ").unwrap().to_vec();
            assert!(!sent.is_empty());
            sent.extend(encoder.push(b"world").unwrap());
            sent.extend(encoder.end().unwrap());
            assert!(encoder.end().unwrap().is_empty());
            let text = match coding {
                Coding::Gzip => std::io::read_to_string(flate2::read::GzDecoder::new(&sent[..])).unwrap(),
                Coding::Zstd => String::from_utf8(zstd::decode_all(&sent[..]).unwrap()).unwrap(),
            };
            assert_eq!(text, "hello, world");
        }
    }
}
