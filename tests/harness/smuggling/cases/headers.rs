//! Header lines: their names, values and ends, and the Host (RFC 9112, sections 2, 3.2 and 5).

use super::{get, host, raw};
use crate::smuggling::Expected::{Either, Pass, Refuse};
use crate::smuggling::{Case, Check};

const ONE: Check = Check::requests(1);

pub fn cases() -> Vec<Case> {
    let mut cases = names_and_values();
    cases.extend(hosts());
    cases
}

fn names_and_values() -> Vec<Case> {
    let many: String = (0..5000).map(|n| format!("X-{n}: a\r\n")).collect();
    let large = format!("X-Large: {}\r\n", "a".repeat(1_000_000));
    let long_name = format!("{}: a\r\n", "X".repeat(100_000));
    vec![
        get("header: plain", "X-Plain: a b\tc\r\n", Pass(ONE.present(&["x-plain"]))),
        get("header: empty value", "X-Empty:\r\n", Pass(ONE.present(&["x-empty"]))),
        get("header: NUL in a value", b"X-Bad: a\0b\r\n", Either(ONE)),
        get("header: CR in a value", "X-Bad: a\rb\r\n", Either(ONE)),
        get("header: control byte in a value", b"X-Bad: a\x01b\r\n", Either(ONE)),
        get("header: DEL in a value", b"X-Bad: a\x7fb\r\n", Either(ONE)),
        get("header: bytes above 127 in a value", b"X-Text: \xff\xfe\r\n", Either(ONE)),
        get("header: NUL in a name", b"X-B\0ad: a\r\n", Refuse),
        get("header: control byte in a name", b"X-B\x01ad: a\r\n", Either(ONE)),
        get("header: bytes above 127 in a name", b"X-\xe9: a\r\n", Either(ONE)),
        get("header: brackets in a name", "X(Bad): a\r\n", Either(ONE)),
        get("header: space in a name", "X Bad: a\r\n", Either(ONE)),
        get("header: space before the colon", "X-Bad : a\r\n", Refuse),
        get("header: tab before the colon", "X-Bad\t: a\r\n", Refuse),
        get("header: empty name", ": a\r\n", Refuse),
        get("header: no colon", "nothing\r\n", Either(ONE)),
        get("header: folded", "X-Folded: a\r\n b\r\n", Either(ONE)),
        get("header: folded with a tab", "X-Folded: a\r\n\tb\r\n", Either(ONE)),
        get("header: folded and empty", "X-Folded: a\r\n \r\n", Either(ONE)),
        raw(
            "header: space before the first",
            "GET /case HTTP/1.1\r\n X-Leading: a\r\nHost: smuggle.example\r\n\r\n",
            Either(ONE.absent(&["x-leading"])),
        ),
        raw("header: LF ends each line", "GET /case HTTP/1.1\nHost: smuggle.example\n\n", Either(ONE)),
        get("header: LF ends one line", "X-A: b\nX-C: d\r\n", Either(ONE)),
        raw("header: CR ends each line", "GET /case HTTP/1.1\rHost: smuggle.example\r\r\r\n\r\n", Refuse),
        get("header: CR CR LF ends one line", "X-A: b\r\r\n", Either(ONE)),
        get("header: 5000 lines", many, Refuse),
        get("header: 1 MB in one line", large, Refuse),
        get("header: 100 kB of a name", long_name, Refuse),
        raw(
            "header: Expect: 100-continue",
            "POST /case HTTP/1.1\r\nHost: smuggle.example\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
            Pass(ONE.body(b"hello")),
        ),
        raw(
            "header: Expect: something else",
            "POST /case HTTP/1.1\r\nHost: smuggle.example\r\nExpect: 200-maybe\r\nContent-Length: 5\r\n\r\nhello",
            Either(ONE.body(b"hello")),
        ),
    ]
}

fn hosts() -> Vec<Case> {
    let two = |name, hosts: &str, expected| raw(name, format!("GET /case HTTP/1.1\r\n{hosts}\r\n"), expected);
    vec![
        host("host: upper case", b"SMUGGLE.EXAMPLE", Pass(ONE)),
        host("host: with a port", b"smuggle.example:80", Pass(ONE)),
        host("host: empty port", b"smuggle.example:", Either(ONE)),
        host("host: final dot", b"smuggle.example.", Either(ONE)),
        host("host: user", b"evil@smuggle.example", Refuse),
        host("host: user that looks like a host", b"smuggle.example@evil", Refuse),
        host("host: slash", b"smuggle.example/evil", Refuse),
        host("host: backslash", b"smuggle.example\\evil", Refuse),
        host("host: question mark", b"smuggle.example?evil", Refuse),
        host("host: fragment", b"smuggle.example#evil", Refuse),
        host("host: space", b"smuggle.example evil", Refuse),
        host("host: tab", b"smuggle.example\tevil", Refuse),
        host("host: comma", b"smuggle.example,evil", Refuse),
        host("host: NUL", b"smuggle.example\0", Refuse),
        host("host: bytes above 127", b"smuggle.example\xff", Refuse),
        host("host: port that is none", b"smuggle.example:abc", Refuse),
        host("host: two ports", b"smuggle.example:80:80", Refuse),
        host("host: port with a user", b"smuggle.example:80@evil", Refuse),
        host("host: percent", b"smuggle.example%00", Refuse),
        host("host: empty", b"", Either(ONE)),
        two("host: missing", "", Refuse),
        two("host: twice the same", "Host: smuggle.example\r\nHost: smuggle.example\r\n", Refuse),
        two("host: twice, differing", "Host: smuggle.example\r\nHost: evil.example\r\n", Refuse),
        two("host: twice, in another case", "Host: smuggle.example\r\nhOST: evil.example\r\n", Refuse),
        two("host: space before the colon", "Host : smuggle.example\r\n", Refuse),
        two("host: two, one with a space", "Host: smuggle.example\r\nHost : evil.example\r\n", Refuse),
        two("host: folded", "Host: smuggle.example\r\n evil.example\r\n", Either(ONE.nowhere(&["evil"]))),
        raw("host: missing in HTTP/1.0", "GET /case HTTP/1.0\r\n\r\n", Either(ONE)),
        raw(
            "host: the target names it, the header another",
            "GET http://smuggle.example/case HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            Either(ONE.nowhere(&["evil.example"])),
        ),
        raw(
            "host: the header names it, the target another",
            "GET http://evil.example/case HTTP/1.1\r\nHost: smuggle.example\r\n\r\n",
            Refuse,
        ),
    ]
}
