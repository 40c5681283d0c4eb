//! What a proxy removes and adds on the way: headers of one hop, upgrades, and who is said to have asked (RFC 9110,
//! section 7.6). Clients here are not trusted to say who they ask for.

use super::{get, raw};
use crate::smuggling::Expected::{Either, Pass};
use crate::smuggling::{Case, Check};

const ONE: Check = Check::requests(1);
const NOT_SPOOFED: Check = ONE.nowhere(&["6.6.6.6"]);

pub fn cases() -> Vec<Case> {
    vec![
        get("hop: nominated header", "Connection: X-Once\r\nX-Once: a\r\n", Pass(ONE.absent(&["x-once"]))),
        get("hop: nominated in a list", "Connection: close, x-once\r\nX-Once: a\r\n", Pass(ONE.absent(&["x-once"]))),
        get(
            "hop: two Connection headers",
            "Connection: close\r\nConnection: X-Once\r\nX-Once: a\r\n",
            Pass(ONE.absent(&["x-once"])),
        ),
        get("hop: Host nominated", "Connection: close, Host\r\n", Either(ONE.present(&["host"]))),
        get(
            "hop: X-Forwarded-For nominated",
            "Connection: close, X-Forwarded-For\r\n",
            Either(ONE.present(&["x-forwarded-for"])),
        ),
        get(
            "hop: X-Forwarded-Proto nominated",
            "Connection: X-Forwarded-Proto\r\n",
            Either(ONE.present(&["x-forwarded-proto"])),
        ),
        get("hop: Cookie nominated", "Connection: Cookie\r\nCookie: a=b\r\n", Either(ONE)),
        get(
            "hop: Keep-Alive",
            "Connection: keep-alive\r\nKeep-Alive: timeout=99\r\n",
            Pass(ONE.absent(&["keep-alive"])),
        ),
        get("hop: Proxy-Connection", "Proxy-Connection: keep-alive\r\n", Pass(ONE.absent(&["proxy-connection"]))),
        get("hop: TE", "TE: gzip, trailers\r\nConnection: TE\r\n", Pass(ONE.nowhere(&["gzip"]))),
        get(
            "upgrade: h2c",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
            Either(ONE.absent(&["upgrade", "http2-settings"])),
        ),
        get(
            "upgrade: h2c without HTTP2-Settings nominated",
            "Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
            Either(ONE.absent(&["upgrade"])),
        ),
        raw(
            "upgrade: refused by the backend, then a spoofed request",
            "GET /a HTTP/1.1\r\nHost: smuggle.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\
             GET /b HTTP/1.1\r\nHost: smuggle.example\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n",
            Either(Check::requests(2).at_least(1).nowhere(&["6.6.6.6"])),
        ),
        get("upgrade: not nominated", "Upgrade: websocket\r\n", Either(ONE.absent(&["upgrade"]))),
        get("spoof: X-Forwarded-For", "X-Forwarded-For: 6.6.6.6\r\n", Pass(NOT_SPOOFED.present(&["x-forwarded-for"]))),
        get(
            "spoof: X-Forwarded-For twice",
            "X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 6.6.6.6\r\n",
            Pass(NOT_SPOOFED),
        ),
        get("spoof: X-Real-IP", "X-Real-IP: 6.6.6.6\r\n", Pass(NOT_SPOOFED)),
        get("spoof: Forwarded", "Forwarded: for=6.6.6.6\r\n", Pass(NOT_SPOOFED)),
        get("spoof: X-Forwarded-Proto", "X-Forwarded-Proto: 6.6.6.6\r\n", Pass(NOT_SPOOFED)),
        get("spoof: X-Forwarded-Host", "X-Forwarded-Host: 6.6.6.6\r\n", Pass(NOT_SPOOFED)),
        get("spoof: X_Forwarded_For", "X_Forwarded_For: 6.6.6.6\r\n", Either(NOT_SPOOFED)),
        get("spoof: X-Forwarded-For and a space", "X-Forwarded-For : 6.6.6.6\r\n", Either(NOT_SPOOFED)),
        get("spoof: Proxy (httpoxy)", "Proxy: 6.6.6.6\r\n", Either(NOT_SPOOFED)),
    ]
}
