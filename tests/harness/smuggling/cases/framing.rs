//! Where a body ends: Content-Length, Transfer-Encoding, and chunks (RFC 9112, sections 6 and 7).

use super::{SMUGGLED, get, post, raw};
use crate::smuggling::Expected::{Abort, Either, Pass, Refuse};
use crate::smuggling::{Case, Check};

const HELLO: Check = Check::requests(1).body(b"hello");
const ONE: Check = Check::requests(1);
const CHUNKED_HELLO: &str = "5\r\nhello\r\n0\r\n\r\n";

pub fn lengths() -> Vec<Case> {
    let plain = |name, value: &str, expected| post(name, format!("Content-Length: {value}\r\n"), "hello", expected);
    vec![
        plain("length: plain", "5", Pass(HELLO)),
        plain("length: spaces around", "  5  ", Pass(HELLO)),
        plain("length: leading zero", "05", Either(HELLO)),
        plain("length: plus", "+5", Refuse),
        plain("length: negative", "-5", Refuse),
        plain("length: hexadecimal", "0x5", Refuse),
        plain("length: fraction", "5.0", Refuse),
        plain("length: exponent", "5e0", Refuse),
        plain("length: two numbers", "5 5", Refuse),
        plain("length: empty", "", Refuse),
        plain("length: word", "five", Refuse),
        plain("length: semicolon", "5;", Refuse),
        plain("length: quoted", "\"5\"", Refuse),
        plain("length: full-width digit", "\u{ff15}", Refuse),
        plain("length: vertical tab", "5\u{b}", Refuse),
        plain("length: NUL", "5\0", Refuse),
        plain("length: 64 bits wrap to 5", "18446744073709551621", Refuse),
        plain("length: 32 bits wrap to 5, then more digits", "429496730000000000000000000005", Refuse),
        plain("length: list of one value", "5, 5", Either(HELLO)),
        plain("length: list of two values", "5, 6", Refuse),
        plain("length: list with nothing", "5,", Refuse),
        post("length: twice the same", "Content-Length: 5\r\nContent-Length: 5\r\n", "hello", Either(HELLO)),
        post("length: twice, differing", "Content-Length: 5\r\nContent-Length: 6\r\n", "hello!", Refuse),
        post("length: twice, the first zero", "Content-Length: 0\r\nContent-Length: 53\r\n", SMUGGLED, Refuse),
        post("length: twice, one with a space", "Content-Length: 5\r\nContent-Length : 6\r\n", "hello!", Refuse),
        post("length: space before the colon", "Content-Length : 5\r\n", "hello", Refuse),
        post("length: NUL in the name", b"Content-Length\0: 5\r\n", "hello", Refuse),
        post("length: folded", "Content-Length:\r\n 5\r\n", "hello", Either(HELLO)),
        post(
            "length: nominated in Connection",
            "Connection: Content-Length\r\nContent-Length: 5\r\n",
            "hello",
            Either(HELLO),
        ),
        get("length: zero on a GET", "Content-Length: 0\r\n", Pass(ONE.body(b""))),
        raw(
            "length: body on a GET",
            "GET /case HTTP/1.1\r\nHost: smuggle.example\r\nContent-Length: 5\r\n\r\nhello",
            Either(HELLO),
        ),
        raw(
            "length: body on a GET, then another request",
            format!("GET /a HTTP/1.1\r\nHost: smuggle.example\r\nContent-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len()),
            Either(ONE.targets(&["/a"])),
        ),
        post("length: no length, bytes follow", "", "hello", Either(ONE.body(b""))),
    ]
}

pub fn codings() -> Vec<Case> {
    let coded = |name, line: &str, expected| post(name, format!("{line}\r\n"), CHUNKED_HELLO, expected);
    // Where the coding is not understood, the length would end the body before the smuggled request.
    let both = |name, line: &str, expected| {
        let body = format!("0\r\n\r\n{SMUGGLED}");
        post(name, format!("Content-Length: {}\r\n{line}\r\n", body.len()), body, expected)
    };
    vec![
        coded("coding: chunked", "Transfer-Encoding: chunked", Pass(HELLO)),
        coded("coding: Chunked", "Transfer-Encoding: Chunked", Pass(HELLO)),
        coded("coding: tab before", "Transfer-Encoding:\tchunked", Pass(HELLO)),
        coded("coding: space before the colon", "Transfer-Encoding : chunked", Refuse),
        coded("coding: tab before the colon", "Transfer-Encoding\t: chunked", Refuse),
        coded("coding: xchunked", "Transfer-Encoding: xchunked", Refuse),
        coded("coding: chunked, identity", "Transfer-Encoding: chunked, identity", Refuse),
        coded("coding: identity, chunked", "Transfer-Encoding: identity, chunked", Either(HELLO)),
        coded("coding: identity", "Transfer-Encoding: identity", Refuse),
        coded("coding: gzip, chunked", "Transfer-Encoding: gzip, chunked", Refuse),
        coded("coding: gzip", "Transfer-Encoding: gzip", Refuse),
        coded("coding: chunked, chunked", "Transfer-Encoding: chunked, chunked", Refuse),
        coded("coding: chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Refuse),
        coded("coding: chunked and identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", Refuse),
        coded("coding: chunked and cow", "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow", Refuse),
        coded("coding: cow and chunked", "Transfer-Encoding: cow\r\nTransfer-Encoding: chunked", Refuse),
        coded("coding: quoted", "Transfer-Encoding: \"chunked\"", Refuse),
        coded("coding: parameter", "Transfer-Encoding: chunked;a=b", Refuse),
        coded("coding: comma before", "Transfer-Encoding: ,chunked", Either(HELLO)),
        coded("coding: comma after", "Transfer-Encoding: chunked,", Either(HELLO)),
        coded("coding: vertical tab", "Transfer-Encoding: \u{b}chunked", Refuse),
        coded("coding: NUL after", "Transfer-Encoding: chunked\0", Refuse),
        coded("coding: empty", "Transfer-Encoding:", Refuse),
        coded("coding: folded", "Transfer-Encoding:\r\n chunked", Either(HELLO)),
        coded("coding: bare CR before", "X-A: b\rTransfer-Encoding: chunked", Refuse),
        coded(
            "coding: nominated in Connection",
            "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
            Either(HELLO),
        ),
        both("coding: CL.TE", "Transfer-Encoding: chunked", Either(ONE)),
        both("coding: CL.TE, space before the colon", "Transfer-Encoding : chunked", Refuse),
        both("coding: CL.TE, xchunked", "Transfer-Encoding: xchunked", Refuse),
        both("coding: CL.TE, folded below another", "X-A: b\r\n Transfer-Encoding: chunked", Either(ONE)),
        both("coding: CL.TE, bare LF before", "X-A: b\nTransfer-Encoding: chunked", Either(ONE)),
        both(
            "coding: CL.TE, nominated in Connection",
            "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
            Either(ONE),
        ),
        post(
            "coding: TE.CL",
            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
            format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len()),
            Either(ONE),
        ),
        post("coding: CL.TE, short", "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nG", Either(ONE)),
        raw(
            "coding: HTTP/1.0",
            format!(
                "POST /case HTTP/1.0\r\nHost: smuggle.example\r\nTransfer-Encoding: chunked\r\n\r\n{CHUNKED_HELLO}"
            ),
            Either(HELLO),
        ),
        raw(
            "coding: chunked on a GET",
            format!("GET /case HTTP/1.1\r\nHost: smuggle.example\r\nTransfer-Encoding: chunked\r\n\r\n{CHUNKED_HELLO}"),
            Either(HELLO),
        ),
    ]
}

pub fn chunks() -> Vec<Case> {
    let chunked = |name, body: &[u8], expected| post(name, "Transfer-Encoding: chunked\r\n", body, expected);
    let long = [b"5;a=".to_vec(), vec![b'x'; 100_000], b"\r\nhello\r\n0\r\n\r\n".to_vec()].concat();
    let trailers = [b"0\r\n".to_vec(), b"X-A: b\r\n".repeat(20_000), b"\r\n".to_vec()].concat();
    vec![
        chunked("chunk: two", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", Pass(HELLO)),
        chunked("chunk: leading zeros", b"0005\r\nhello\r\n000\r\n\r\n", Either(HELLO)),
        chunked("chunk: extension", b"5;a=b\r\nhello\r\n0;c\r\n\r\n", Either(HELLO)),
        chunked("chunk: quoted extension", b"5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n", Either(HELLO)),
        chunked("chunk: 100 kB of extension", &long, Either(HELLO)),
        chunked("chunk: LF in an extension", b"5;a\nb\r\nhello\r\n0\r\n\r\n", Abort),
        chunked("chunk: CR in an extension", b"5;a\rb\r\nhello\r\n0\r\n\r\n", Abort),
        chunked("chunk: 64 bits wrap to 5", b"10000000000000005\r\nhello\r\n0\r\n\r\n", Abort),
        chunked("chunk: 32 bits wrap to 5 in 17 digits", b"fffffffff00000005\r\nhello\r\n0\r\n\r\n", Abort),
        chunked("chunk: negative", b"-5\r\nhello\r\n0\r\n\r\n", Abort),
        chunked("chunk: plus", b"+5\r\nhello\r\n0\r\n\r\n", Abort),
        chunked("chunk: 0x", b"0x5\r\nhello\r\n0\r\n\r\n", Abort),
        chunked("chunk: underscore", b"0_5\r\nhello\r\n0\r\n\r\n", Abort),
        chunked("chunk: no hexadecimal digit", b"g\r\nhello\r\n0\r\n\r\n", Abort),
        chunked("chunk: no size", b"\r\nhello\r\n0\r\n\r\n", Abort),
        chunked("chunk: extension without a size", b";a\r\nhello\r\n0\r\n\r\n", Abort),
        chunked("chunk: space before the size", b" 5\r\nhello\r\n0\r\n\r\n", Abort),
        chunked("chunk: space after the size", b"5 \r\nhello\r\n0\r\n\r\n", Either(HELLO)),
        chunked("chunk: words after the size", b"5 5\r\nhello\r\n0\r\n\r\n", Abort),
        chunked("chunk: NUL after the size", b"5\0\r\nhello\r\n0\r\n\r\n", Abort),
        chunked("chunk: size line ends with LF", b"5\nhello\r\n0\r\n\r\n", Abort),
        chunked("chunk: size line ends with CR", b"5\rhello\r\n0\r\n\r\n", Abort),
        chunked("chunk: no line end after the data", b"5\r\nhello0\r\n\r\n", Abort),
        chunked("chunk: LF after the data", b"5\r\nhello\n0\r\n\r\n", Abort),
        chunked("chunk: too much data", b"5\r\nhello!\r\n0\r\n\r\n", Abort),
        chunked("chunk: two bytes of anything after the data", b"5\r\nhelloXX0\r\n\r\n", Abort),
        chunked("trailer: harmless", b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", Either(HELLO)),
        chunked(
            "trailer: Content-Length",
            b"5\r\nhello\r\n0\r\nContent-Length: 99\r\n\r\n",
            Either(HELLO.nowhere(&["99"])),
        ),
        chunked(
            "trailer: Transfer-Encoding",
            b"5\r\nhello\r\n0\r\nTransfer-Encoding: cow\r\n\r\n",
            Either(HELLO.nowhere(&["cow"])),
        ),
        chunked(
            "trailer: Host",
            b"5\r\nhello\r\n0\r\nHost: evil.example\r\n\r\n",
            Either(HELLO.nowhere(&["evil.example"])),
        ),
        chunked(
            "trailer: X-Forwarded-For",
            b"5\r\nhello\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n",
            Either(HELLO.nowhere(&["6.6.6.6"])),
        ),
        chunked("trailer: no colon", b"5\r\nhello\r\n0\r\nnothing\r\n\r\n", Either(HELLO.nowhere(&["nothing"]))),
        chunked("trailer: bare CR", b"5\r\nhello\r\n0\r\nX-A: b\rc\r\n\r\n", Either(HELLO.nowhere(&["b\rc"]))),
        chunked("trailer: 160 kB", &trailers, Either(Check::requests(1).body(b""))),
    ]
}
