//! The request line, methods and targets, and several requests in a row (RFC 9112, sections 3 and 9.3).

use super::{SMUGGLED, line, raw};
use crate::smuggling::Expected::{Either, Pass, Refuse};
use crate::smuggling::{Case, Check};

const ONE: Check = Check::requests(1);

pub fn cases() -> Vec<Case> {
    [separators_and_versions(), targets(), methods(), rows()].into_iter().flatten().collect()
}

fn separators_and_versions() -> Vec<Case> {
    vec![
        line("line: two spaces", "GET  /case HTTP/1.1", Either(ONE)),
        line("line: two spaces before the version", "GET /case  HTTP/1.1", Either(ONE)),
        line("line: space at the end", "GET /case HTTP/1.1 ", Either(ONE)),
        line("line: space before", " GET /case HTTP/1.1", Either(ONE)),
        line("line: space in the target", "GET /ca se HTTP/1.1", Refuse),
        line("line: tabs", "GET\t/case\tHTTP/1.1", Either(ONE)),
        line("line: vertical tab", "GET\u{b}/case HTTP/1.1", Refuse),
        line("line: bare CR", "GET /case\rHTTP/1.1", Refuse),
        line("line: only a method", "GET", Refuse),
        line("line: no target", "GET HTTP/1.1", Refuse),
        line("line: two versions", "GET /case HTTP/1.1 HTTP/1.1", Refuse),
        line("version: lower case", "GET /case http/1.1", Refuse),
        line("version: 1.2", "GET /case HTTP/1.2", Either(ONE)),
        line("version: 1.10", "GET /case HTTP/1.10", Refuse),
        line("version: 01.1", "GET /case HTTP/01.1", Refuse),
        line("version: 2.0", "GET /case HTTP/2.0", Refuse),
        line("version: 0.9", "GET /case HTTP/0.9", Refuse),
        line("version: 9.1", "GET /case HTTP/9.1", Refuse),
        line("version: without a minor", "GET /case HTTP/1", Refuse),
        line("version: with a comma", "GET /case HTTP/1,1", Refuse),
        line("version: with more after it", "GET /case HTTP/1.1x", Refuse),
        line("version: of another protocol", "GET /case XTTP/1.1", Refuse),
        line("version: none, with headers", "GET /case", Refuse),
        raw("version: none", "GET /case\r\n\r\n", Refuse),
        raw(
            "version: HTTP/2's preface, then no frames",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            Refuse,
        ),
    ]
}

fn targets() -> Vec<Case> {
    let long = format!("GET /{} HTTP/1.1", "a".repeat(100_000));
    vec![
        line("target: 100 kB", long, Refuse),
        line("target: no slash", "GET case HTTP/1.1", Refuse),
        line("target: only a query", "GET ?case HTTP/1.1", Refuse),
        line("target: a user", "GET @evil.example/case HTTP/1.1", Refuse),
        line("target: an asterisk on a GET", "GET * HTTP/1.1", Refuse),
        line("target: absolute", "GET http://smuggle.example/case HTTP/1.1", Either(ONE)),
        line("target: absolute with a user", "GET http://user@smuggle.example/case HTTP/1.1", Either(ONE)),
        line("target: absolute without a host", "GET http:///case HTTP/1.1", Refuse),
        line("target: absolute of another scheme", "GET ftp://smuggle.example/case HTTP/1.1", Either(ONE)),
        line("target: fragment", "GET /case#part HTTP/1.1", Either(ONE.nowhere(&["#part"]))),
        line("target: NUL", b"GET /ca\0se HTTP/1.1", Refuse),
        line("target: control byte", b"GET /ca\x01se HTTP/1.1", Refuse),
        line("target: DEL", b"GET /ca\x7fse HTTP/1.1", Refuse),
        line("target: bytes above 127", b"GET /ca\xffse HTTP/1.1", Either(ONE)),
        line("target: encoded CRLF", "GET /a%0d%0aX-Injected:%201%0d%0a HTTP/1.1", Either(ONE.absent(&["x-injected"]))),
        line("target: encoded NUL", "GET /a%00b HTTP/1.1", Either(ONE)),
        line(
            "target: encoded smuggled request",
            "GET /a%20HTTP/1.1%0d%0aHost:%20x%0d%0a%0d%0aGET%20/smuggled HTTP/1.1",
            Either(ONE),
        ),
        line("target: percent and no digits", "GET /a%zz HTTP/1.1", Either(ONE)),
        line("target: above the root", "GET /../../etc/passwd HTTP/1.1", Either(ONE)),
        line(
            "target: two slashes and a host",
            "GET //evil.example/case HTTP/1.1",
            Either(ONE.absent(&["evil.example"])),
        ),
        line("target: backslashes", "GET /a\\..\\b HTTP/1.1", Either(ONE)),
    ]
}

fn methods() -> Vec<Case> {
    let long = format!("{} /case HTTP/1.1", "A".repeat(100_000));
    vec![
        raw("method: CONNECT", "CONNECT smuggle.example:443 HTTP/1.1\r\nHost: smuggle.example:443\r\n\r\n", Refuse),
        line("method: CONNECT with a path", "CONNECT /case HTTP/1.1", Refuse),
        line("method: TRACE", "TRACE /case HTTP/1.1", Either(ONE)),
        line("method: OPTIONS *", "OPTIONS * HTTP/1.1", Either(ONE)),
        line("method: lower case", "get /case HTTP/1.1", Either(ONE)),
        line("method: of one's own", "FROB /case HTTP/1.1", Either(ONE)),
        line("method: bracket", "GE(T /case HTTP/1.1", Refuse),
        line("method: colon", "GET: /case HTTP/1.1", Refuse),
        line("method: NUL", b"GE\0T /case HTTP/1.1", Refuse),
        line("method: 100 kB", long, Refuse),
    ]
}

/// Several requests on a connection.
fn rows() -> Vec<Case> {
    let first = "GET /a HTTP/1.1\r\nHost: smuggle.example\r\n";
    let second = "GET /b HTTP/1.1\r\nHost: smuggle.example\r\n\r\n";
    vec![
        raw("row: two", format!("{first}\r\n{second}"), Pass(Check::requests(2).targets(&["/a", "/b"]))),
        raw(
            "row: a body between",
            format!("POST /a HTTP/1.1\r\nHost: smuggle.example\r\nContent-Length: 5\r\n\r\nhello{second}"),
            Pass(Check::requests(2).targets(&["/a", "/b"]).body(b"hello")),
        ),
        raw(
            "row: chunks between",
            format!(
                "POST /a HTTP/1.1\r\nHost: smuggle.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{second}"
            ),
            Pass(Check::requests(2).targets(&["/a", "/b"]).body(b"hello")),
        ),
        raw(
            "row: the body looks like a request",
            format!(
                "POST /a HTTP/1.1\r\nHost: smuggle.example\r\nContent-Length: {}\r\n\r\n{SMUGGLED}",
                SMUGGLED.len()
            ),
            Pass(ONE.targets(&["/a"])),
        ),
        raw("row: empty lines before", format!("\r\n\r\n{first}\r\n"), Either(ONE)),
        raw(
            "row: after Connection: close",
            format!("{first}Connection: close\r\n\r\n{second}"),
            Pass(ONE.targets(&["/a"])),
        ),
        raw(
            "row: the second is malformed",
            format!("{first}\r\nGET /b HTTP/1.1\r\nHost : smuggle.example\r\n\r\n"),
            Pass(ONE.targets(&["/a"])),
        ),
        raw(
            "row: the second follows a refused one",
            format!("POST /a HTTP/1.1\r\nHost: smuggle.example\r\nContent-Length: x\r\n\r\n{second}"),
            Refuse,
        ),
    ]
}
