//! Large answers in gzip, for clients that take it.
//!
//! Owns when and how; what is a stream (watches, logs, what another answers) is never compressed here, since only whole
//! answers say their bytes ([`Whole`]).

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Response, header};

use crate::body::{self, Body};
use crate::lists::SyncStream;

/// Smaller answers are sent as they are, as upstream does: compressing them costs more than it saves.
pub const COMPRESSED_BYTES_MIN: usize = 128 * 1024;
/// How much is compressed at once, before others get their turn: about a millisecond's work.
const CHUNK_BYTES: usize = 128 * 1024;

/// The bytes of an answer that is large enough to be compressed.
#[derive(Clone)]
pub struct Whole(pub Bytes);

/// How many bytes an answer keeps in memory until it is sent.
#[derive(Clone)]
pub struct Kept(pub usize);

/// Whether a client reads gzip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gzip {
    Taken,
    Unknown,
}

impl Gzip {
    pub fn of(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let is_gzip = |coding: &str| {
            let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
            let weight = parameters.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
            name.trim().eq_ignore_ascii_case("gzip") && weight.is_none_or(|weight| weight > 0.0)
        };
        match accepted.flat_map(|value| value.split(',')).any(is_gzip) {
            true => Gzip::Taken,
            false => Gzip::Unknown,
        }
    }
}

/// The answer as the client takes it.
pub fn answer(mut response: Response<Body>, gzip: Gzip) -> Response<Body> {
    let Some(Whole(bytes)) = response.extensions_mut().remove::<Whole>() else { return response };
    response.extensions_mut().insert(Kept(bytes.len()));
    match gzip {
        Gzip::Unknown => {}
        Gzip::Taken => {
            *response.body_mut() = body::stream(SyncStream::new(futures::stream::iter(Compressed::new(bytes))));
            say(response.headers_mut());
        }
    }
    response
}

/// What tells clients and caches of gzip.
pub fn say(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
}

/// An answer that is compressed while it is sent: there is no second copy of it.
struct Compressed {
    rest: Bytes,
    /// Until the end is written.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Compressed {
    fn new(bytes: Bytes) -> Self {
        Self { rest: bytes, encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())) }
    }

    fn step(&mut self) -> Option<std::io::Result<Vec<u8>>> {
        let mut encoder = self.encoder.take()?;
        if self.rest.is_empty() {
            return Some(encoder.finish());
        }
        let chunk = self.rest.split_to(self.rest.len().min(CHUNK_BYTES));
        let written = encoder.write_all(&chunk).map(|()| std::mem::take(encoder.get_mut()));
        self.encoder = Some(encoder);
        Some(written)
    }
}

impl Iterator for Compressed {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        loop {
            let bytes = self.step()?.expect("writing into memory does not fail");
            // The compressor keeps some back; an empty piece would be a frame for nothing.
            if !bytes.is_empty() {
                return Some(Bytes::from(bytes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn of(value: &'static str) -> Gzip {
        Gzip::of(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]))
    }

    #[test]
    fn clients_say_whether_they_read_gzip() {
        assert_eq!(Gzip::of(&HeaderMap::new()), Gzip::Unknown);
        for taken in ["gzip", "deflate, gzip", "GZIP;q=0.5, identity"] {
            assert_eq!(of(taken), Gzip::Taken, "{taken}");
        }
        for unknown in ["", "identity", "gzip;q=0", "deflate, br", "xgzip"] {
            assert_eq!(of(unknown), Gzip::Unknown, "{unknown}");
        }
    }

    #[test]
    fn what_is_compressed_in_pieces_is_whole_again() {
        for length in [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * CHUNK_BYTES] {
            let bytes: Vec<u8> = (0..length).map(|n| (n * n % 251) as u8).collect();
            let pieces: Vec<Bytes> = Compressed::new(Bytes::from(bytes.clone())).collect();
            let mut read = Vec::new();
            flate2::read::GzDecoder::new(&*pieces.concat()).read_to_end(&mut read).expect("it is gzip");
            assert!(read == bytes, "{length}");
        }
    }
}
