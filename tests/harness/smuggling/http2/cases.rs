//! The table of cases over HTTP/2: each is a whole connection, with the request on stream 1.

use super::frames::{END_HEADERS, END_STREAM, Kind, PADDED, PREFACE, block, frame};
use crate::smuggling::Expected::{Abort, Either, Pass, Refuse};
use crate::smuggling::{Case, Check, Expected, HOST};

type Field<'a> = (&'a [u8], &'a [u8]);

const ONE: Check = Check::requests(1);
const HELLO: Check = ONE.body(b"hello");
const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: smuggle.example\r\n\r\n";

const METHOD: Field<'static> = (b":method", b"GET");
const POST: Field<'static> = (b":method", b"POST");
const SCHEME: Field<'static> = (b":scheme", b"https");
const PATH: Field<'static> = (b":path", b"/case");
const AUTHORITY: Field<'static> = (b":authority", HOST.as_bytes());
const LENGTH: Field<'static> = (b"content-length", b"5");

pub fn all() -> Vec<Case> {
    [fields(), pseudo_headers(), lengths(), trailers(), frames()].into_iter().flatten().collect()
}

/// What every proxy passes on.
pub fn plain() -> Case {
    get("h2: plain", &[], Pass(ONE.targets(&["/case"])))
}

fn connection(name: &'static str, frames: &[Vec<u8>], expected: Expected) -> Case {
    let settings = frame(Kind::Settings, 0, 0, &[]);
    Case { name, bytes: [PREFACE.to_vec(), settings, frames.concat()].concat(), expected }
}

/// A request of exactly these fields, without a body.
fn only(name: &'static str, fields: &[Field<'_>], expected: Expected) -> Case {
    connection(name, &[frame(Kind::Headers, END_HEADERS | END_STREAM, 1, &block(fields))], expected)
}

/// A GET with these fields besides.
fn get(name: &'static str, fields: &[Field<'_>], expected: Expected) -> Case {
    only(name, &[&[METHOD, SCHEME, PATH, AUTHORITY], fields].concat(), expected)
}

fn headers(fields: &[Field<'_>]) -> Vec<u8> {
    frame(Kind::Headers, END_HEADERS, 1, &block(&[&[POST, SCHEME, PATH, AUTHORITY], fields].concat()))
}

/// A POST with these fields besides, and this body.
fn post(name: &'static str, fields: &[Field<'_>], body: &[u8], expected: Expected) -> Case {
    connection(name, &[headers(fields), frame(Kind::Data, END_STREAM, 1, body)], expected)
}

fn fields() -> Vec<Case> {
    let large = vec![b'a'; 12_000];
    let many: Vec<String> = (0..1500).map(|n| format!("x-{n}")).collect();
    let many: Vec<Field<'_>> = many.iter().map(|name| (name.as_bytes(), &b"a"[..])).collect();
    vec![
        plain(),
        get("h2: header", &[(b"x-plain", b"a b")], Pass(ONE.present(&["x-plain"]))),
        get("h2: 12 kB in one header", &[(b"x-large", &large)], Either(ONE)),
        get("h2: 1500 headers", &many, Refuse),
        get("h2: upper case", &[(b"X-Upper", b"a")], Refuse),
        get("h2: empty name", &[(b"", b"a")], Refuse),
        get("h2: space in a name", &[(b"x bad", b"a")], Refuse),
        get("h2: colon in a name", &[(b"x-bad:", b"a")], Refuse),
        get("h2: NUL in a name", &[(b"x-\0bad", b"a")], Refuse),
        get("h2: CRLF in a name", &[(b"x-a: b\r\nx-injected", b"c")], Refuse),
        get("h2: CRLF in a value", &[(b"x-a", b"b\r\nx-injected: c")], Refuse),
        get("h2: LF in a value", &[(b"x-a", b"b\nx-injected: c")], Refuse),
        get("h2: CR in a value", &[(b"x-a", b"b\rc")], Refuse),
        get("h2: NUL in a value", &[(b"x-a", b"b\0c")], Refuse),
        get("h2: request in a value", &[(b"x-a", &[b"b\r\n\r\n", SMUGGLED].concat())], Refuse),
        get("h2: space before a value", &[(b"x-a", b" b")], Either(ONE)),
        get("h2: connection", &[(b"connection", b"close")], Refuse),
        get("h2: keep-alive", &[(b"keep-alive", b"timeout=5")], Refuse),
        get("h2: proxy-connection", &[(b"proxy-connection", b"keep-alive")], Refuse),
        get("h2: upgrade", &[(b"upgrade", b"h2c")], Refuse),
        get("h2: te", &[(b"te", b"trailers")], Either(ONE)),
        get("h2: te of more than trailers", &[(b"te", b"gzip")], Refuse),
        get("h2: X-Forwarded-For", &[(b"x-forwarded-for", b"6.6.6.6")], Pass(ONE.nowhere(&["6.6.6.6"]))),
        get("h2: transfer-encoding", &[(b"transfer-encoding", b"chunked")], Refuse),
        post(
            "h2: transfer-encoding, smuggled",
            &[(b"transfer-encoding", b"chunked")],
            &[b"0\r\n\r\n", SMUGGLED].concat(),
            Refuse,
        ),
        post(
            "h2: transfer-encoding by CRLF",
            &[(b"x-a", b"b\r\ntransfer-encoding: chunked")],
            &[b"0\r\n\r\n", SMUGGLED].concat(),
            Refuse,
        ),
    ]
}

fn pseudo_headers() -> Vec<Case> {
    let with = |name, replaced: Field<'_>, expected| {
        let fields =
            [METHOD, SCHEME, PATH, AUTHORITY].map(|field| if field.0 == replaced.0 { replaced } else { field });
        only(name, &fields, expected)
    };
    vec![
        only("h2: after a header", &[METHOD, SCHEME, AUTHORITY, (b"x-a", b"b"), PATH], Refuse),
        only("h2: no method", &[SCHEME, PATH, AUTHORITY], Refuse),
        only("h2: no scheme", &[METHOD, PATH, AUTHORITY], Refuse),
        only("h2: no path", &[METHOD, SCHEME, AUTHORITY], Refuse),
        only("h2: no authority", &[METHOD, SCHEME, PATH], Refuse),
        only("h2: Host in place of the authority", &[METHOD, SCHEME, PATH, (b"host", HOST.as_bytes())], Either(ONE)),
        only("h2: two methods", &[METHOD, POST, SCHEME, PATH, AUTHORITY], Refuse),
        only("h2: two schemes", &[METHOD, SCHEME, SCHEME, PATH, AUTHORITY], Refuse),
        only("h2: two paths", &[METHOD, SCHEME, PATH, (b":path", b"/other"), AUTHORITY], Refuse),
        only("h2: two authorities", &[METHOD, SCHEME, PATH, AUTHORITY, (b":authority", b"evil.example")], Refuse),
        get("h2: unknown", &[(b":evil", b"a")], Refuse),
        get("h2: of an answer", &[(b":status", b"200")], Refuse),
        get("h2: Host alike", &[(b"host", HOST.as_bytes())], Either(ONE)),
        get("h2: Host differs", &[(b"host", b"evil.example")], Either(ONE.nowhere(&["evil.example"]))),
        get(
            "h2: two Hosts",
            &[(b"host", HOST.as_bytes()), (b"host", b"evil.example")],
            Either(ONE.nowhere(&["evil.example"])),
        ),
        with("h2: empty path", (b":path", b""), Refuse),
        with("h2: path without a slash", (b":path", b"case"), Refuse),
        with("h2: path is an asterisk", (b":path", b"*"), Refuse),
        with("h2: path with a space", (b":path", b"/case HTTP/1.1"), Refuse),
        with("h2: path with CRLF", (b":path", b"/case HTTP/1.1\r\nX-Injected: a\r\nX-B: c"), Refuse),
        with("h2: path with a request", (b":path", b"/case HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled"), Refuse),
        with("h2: path with NUL", (b":path", b"/ca\0se"), Refuse),
        with("h2: absolute path", (b":path", b"http://evil.example/case"), Either(ONE.nowhere(&["evil.example"]))),
        with("h2: path with a fragment", (b":path", b"/case#part"), Either(ONE.nowhere(&["#part"]))),
        with("h2: method with a space", (b":method", b"GET /smuggled HTTP/1.1"), Refuse),
        with("h2: method with CRLF", (b":method", b"GET / HTTP/1.1\r\nX-Injected: a\r\n\r\nGET"), Refuse),
        with("h2: empty method", (b":method", b""), Refuse),
        with("h2: CONNECT with a path", (b":method", b"CONNECT"), Refuse),
        only("h2: CONNECT", &[(b":method", b"CONNECT"), AUTHORITY], Refuse),
        only(
            "h2: CONNECT for another protocol",
            &[(b":method", b"CONNECT"), (b":protocol", b"x"), SCHEME, PATH, AUTHORITY],
            Refuse,
        ),
        with("h2: scheme with a path", (b":scheme", b"https://evil.example/"), Either(ONE.nowhere(&["evil.example"]))),
        with("h2: scheme with CRLF", (b":scheme", b"https\r\nx-injected: a"), Either(ONE.absent(&["x-injected"]))),
        with("h2: empty authority", (b":authority", b""), Refuse),
        with("h2: authority with a user", (b":authority", b"evil@smuggle.example"), Refuse),
        with("h2: authority with a slash", (b":authority", b"smuggle.example/evil"), Refuse),
        with("h2: authority with a space", (b":authority", b"smuggle.example evil"), Refuse),
        with("h2: authority with CRLF", (b":authority", b"smuggle.example\r\nx-injected: a"), Refuse),
        with("h2: authority with a port that is none", (b":authority", b"smuggle.example:x"), Refuse),
    ]
}

fn lengths() -> Vec<Case> {
    vec![
        post("h2: body", &[], b"hello", Pass(HELLO)),
        post("h2: body and its length", &[LENGTH], b"hello", Pass(HELLO)),
        post("h2: empty body", &[(b"content-length", b"0")], b"", Pass(ONE.body(b""))),
        post("h2: length 0 and a request", &[(b"content-length", b"0")], SMUGGLED, Abort),
        post("h2: length too small", &[(b"content-length", b"4")], b"hello", Abort),
        post("h2: length too large", &[(b"content-length", b"6")], b"hello", Abort),
        get("h2: length and no body", &[LENGTH], Abort),
        post("h2: two lengths", &[LENGTH, (b"content-length", b"6")], b"hello", Abort),
        post("h2: length twice the same", &[LENGTH, LENGTH], b"hello", Either(HELLO)),
        post("h2: length list", &[(b"content-length", b"5, 6")], b"hello", Abort),
        post("h2: length plus", &[(b"content-length", b"+5")], b"hello", Abort),
        post("h2: length negative", &[(b"content-length", b"-5")], b"hello", Abort),
        post("h2: length empty", &[(b"content-length", b"")], b"hello", Abort),
        post("h2: length wraps to 5", &[(b"content-length", b"18446744073709551621")], b"hello", Abort),
        post("h2: chunks in the body", &[], b"0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n", Pass(ONE)),
    ]
}

fn trailers() -> Vec<Case> {
    let trailer = |name, field: Field<'_>, expected| {
        let trailers = frame(Kind::Headers, END_HEADERS | END_STREAM, 1, &block(&[field]));
        connection(name, &[headers(&[]), frame(Kind::Data, 0, 1, b"hello"), trailers], expected)
    };
    vec![
        trailer("h2: trailer", (b"x-sum", b"1"), Either(HELLO)),
        trailer("h2: trailer Content-Length", (b"content-length", b"99"), Either(HELLO.nowhere(&["99"]))),
        trailer("h2: trailer Transfer-Encoding", (b"transfer-encoding", b"cow"), Either(HELLO.nowhere(&["cow"]))),
        trailer("h2: trailer Host", (b"host", b"evil.example"), Either(HELLO.nowhere(&["evil.example"]))),
        trailer("h2: trailer with CRLF", (b"x-a", b"b\r\nx-injected: c"), Either(HELLO.nowhere(&["injected"]))),
        trailer("h2: trailer that is a pseudo-header", (b":path", b"/other"), Either(HELLO.nowhere(&["/other"]))),
    ]
}

fn frames() -> Vec<Case> {
    let whole =
        |stream| frame(Kind::Headers, END_HEADERS | END_STREAM, stream, &block(&[METHOD, SCHEME, PATH, AUTHORITY]));
    let large = frame(Kind::Continuation, 0, 1, &block(&[(b"x-large", &[b'a'; 16_000])]));
    let empty = frame(Kind::Continuation, 0, 1, &[]);
    let begin = frame(Kind::Headers, END_STREAM, 1, &block(&[METHOD, SCHEME, PATH, AUTHORITY]));
    let first_half = block(&[METHOD, SCHEME]);
    let second_half = block(&[PATH, AUTHORITY]);
    vec![
        connection(
            "h2: header block in two frames",
            &[
                frame(Kind::Headers, END_STREAM, 1, &first_half),
                frame(Kind::Continuation, END_HEADERS, 1, &second_half),
            ],
            Pass(ONE.targets(&["/case"])),
        ),
        connection("h2: stream 0", &[whole(0)], Refuse),
        connection("h2: even stream", &[whole(2)], Refuse),
        connection("h2: data without headers", &[frame(Kind::Data, END_STREAM, 1, SMUGGLED)], Refuse),
        connection("h2: continuation of nothing", &[frame(Kind::Continuation, END_HEADERS, 1, &second_half)], Refuse),
        connection(
            "h2: another frame within a header block",
            &[begin.clone(), frame(Kind::Settings, 0, 0, &[])],
            Refuse,
        ),
        connection("h2: 4 MB of continuations", &[begin.clone(), large.repeat(256)], Refuse),
        connection("h2: 100 000 empty continuations", &[begin, empty.repeat(100_000)], Refuse),
        connection(
            "h2: index beyond the table",
            &[frame(Kind::Headers, END_HEADERS | END_STREAM, 1, &[0xff, 0xff, 0xff, 0x7f])],
            Refuse,
        ),
        connection(
            "h2: more padding than payload",
            &[headers(&[]), frame(Kind::Data, END_STREAM | PADDED, 1, &[200, b'x'])],
            Abort,
        ),
        connection("h2: settings of a bad length", &[frame(Kind::Settings, 0, 0, &[0; 5]), whole(1)], Refuse),
        connection("h2: window of zero more", &[headers(&[]), frame(Kind::WindowUpdate, 0, 1, &[0; 4])], Abort),
        connection(
            "h2: reset before the body",
            &[headers(&[LENGTH]), frame(Kind::Reset, 0, 1, &[0, 0, 0, 8]), frame(Kind::GoAway, 0, 0, &[0; 8])],
            Abort,
        ),
    ]
}
