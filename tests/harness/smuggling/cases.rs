//! The table of cases over HTTP/1.1, by what they bend: framing, header lines, the request line, forwarding.

mod forwarding;
mod framing;
mod headers;
mod lines;

use super::{Case, Expected};

/// What an attacker would like the backend to see.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: smuggle.example\r\n\r\n";

pub fn all() -> Vec<Case> {
    [framing::lengths(), framing::codings(), framing::chunks(), headers::cases(), lines::cases(), forwarding::cases()]
        .into_iter()
        .flatten()
        .collect()
}

fn raw(name: &'static str, bytes: impl AsRef<[u8]>, expected: Expected) -> Case {
    Case { name, bytes: bytes.as_ref().to_vec(), expected }
}

/// A POST with these header lines, each with its line end, and this body.
fn post(name: &'static str, headers: impl AsRef<[u8]>, body: impl AsRef<[u8]>, expected: Expected) -> Case {
    let head = b"POST /case HTTP/1.1\r\nHost: smuggle.example\r\n";
    raw(name, [head, headers.as_ref(), b"\r\n", body.as_ref()].concat(), expected)
}

/// A GET with these header lines, each with its line end.
fn get(name: &'static str, headers: impl AsRef<[u8]>, expected: Expected) -> Case {
    let head = b"GET /case HTTP/1.1\r\nHost: smuggle.example\r\n";
    raw(name, [head, headers.as_ref(), b"\r\n"].concat(), expected)
}

/// A request whose first line is this, without its line end.
fn line(name: &'static str, line: impl AsRef<[u8]>, expected: Expected) -> Case {
    raw(name, [line.as_ref(), b"\r\nHost: smuggle.example\r\n\r\n"].concat(), expected)
}

/// A GET for this Host.
fn host(name: &'static str, host: &[u8], expected: Expected) -> Case {
    raw(name, [b"GET /case HTTP/1.1\r\nHost: ", host, b"\r\n\r\n"].concat(), expected)
}
