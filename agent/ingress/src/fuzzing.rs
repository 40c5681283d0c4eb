//! Entries for the fuzz targets in `tests/fuzz`: each takes bytes and panics where something that must hold does not.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderName, HeaderValue};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::Ingress;

use crate::proxy::{limits, path as paths, proxy_protocol as header_of_balancer, request as checks};
use crate::{annotations as chosen, held, routes};

/// Lines of a head, as a lenient parser would hand them over.
pub fn request(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let mut words = first.split(|byte| *byte == b' ');
    let Ok(method) = http::Method::from_bytes(words.next().unwrap_or_default()) else { return };
    let Ok(uri) = http::Uri::try_from(words.next().unwrap_or_default()) else { return };
    let Ok(mut built) = http::Request::builder().method(method).uri(uri).body(()) else { return };
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            built.headers_mut().append(name, value);
        }
    }
    let (mut parts, ()) = built.into_parts();
    let (Ok(()), Ok(host)) = (checks::check(&parts), checks::host(&parts)) else { return };
    assert!(!host.contains(['/', '@', ' ', '?', '#']) && host.to_lowercase() == *host);
    let both =
        parts.headers.contains_key(header::CONTENT_LENGTH) && parts.headers.contains_key(header::TRANSFER_ENCODING);
    assert!(!both, "framed in two ways");
    let peer = SocketAddr::from(([192, 0, 2, 1], 1));
    let trusted = limits::Networks::parse(&["192.0.2.0/24".to_owned()]);
    let client = checks::client(&parts.headers, peer, false, &trusted);
    checks::take_hop(&mut parts, &client, &limits::Networks::default());
    for name in [header::CONNECTION, header::UPGRADE, header::TRANSFER_ENCODING] {
        assert!(!parts.headers.contains_key(&name), "{name} is for one connection");
    }
    let is_ours = |name: &HeaderName| name.as_str().contains('_') || name.as_str().starts_with("x-forwarded-");
    assert!(!parts.headers.keys().any(is_ours), "a client says what only the proxy may say");
    let authority = HeaderValue::from_static("a.example");
    if let Some(introduction) = checks::Introduction::new(&client, &authority) {
        checks::introduce_behind_proxy(&mut parts.headers, &client, &introduction, 80);
        checks::introduce(&mut parts.headers, &client, &introduction, 80);
        let address = parts.headers[&checks::X_FORWARDED_FOR].to_str().unwrap_or_default().parse::<IpAddr>();
        assert_eq!(address.ok(), Some(client.address));
    }
}

pub fn path(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(uri) = http::Uri::try_from(text) else { return };
    let Ok(read) = paths::read(uri.path()) else { return };
    if uri.path() == "*" {
        return;
    }
    let is_dots = |segment: &str| segment == "." || segment == "..";
    for text in [&*read.normal, &*read.key].into_iter().chain(read.others.iter().map(String::as_str)) {
        assert!(text.starts_with('/') && !text.split('/').any(is_dots), "{text}");
    }
    assert!(!read.normal.contains("//"), "{}", read.normal);
    match paths::read(&read.normal) {
        Ok(again) => assert_eq!((again.key, &again.normal), (read.key, &read.normal)),
        Err(refusal) => panic!("{} is refused: {}", read.normal, refusal.1),
    }
    let mut replaced = uri.clone();
    assert!(paths::replace(&mut replaced, &read.normal).is_ok());
    assert_eq!((replaced.path(), replaced.query()), (&*read.normal, uri.query()));
}

pub fn proxy_protocol(input: &[u8]) {
    if let Ok(Some((length, _))) = header_of_balancer::parse(input) {
        assert!(length <= input.len(), "a header is no longer than what arrived");
    }
}

/// The first byte chooses the annotation, the rest is its value.
pub fn annotations(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else { return };
    let Ok(value) = std::str::from_utf8(rest) else { return };
    let name = chosen::ALL[usize::from(*first) % chosen::ALL.len()].0;
    let mut ingress = Ingress::default();
    ingress.metadata.annotations = Some([(format!("{}{name}", chosen::PREFIX), value.to_owned())].into());
    let made = chosen::choose(&ingress, 1 << 30, "cluster.local");
    assert!(made.errors.len() <= 1);
    assert!(made.options.connect_timeout_ms > 0 && made.options.response_timeout_ms > 0);
}

/// Two values, separated by a zero byte.
pub fn secrets(input: &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == 0).map(|part| ByteString(part.to_vec()));
    let (one, two) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let secret = |keys: [&str; 2]| {
        let data: BTreeMap<String, ByteString> =
            [(keys[0].to_owned(), one.clone()), (keys[1].to_owned(), two.clone())].into();
        Secret { data: Some(data), ..Secret::default() }
    };
    let _ = held::read(&secret(["tls.crt", "tls.key"]));
    if let Ok(users) = routes::users(&secret(["auth", "other"])) {
        assert!(!users.is_empty());
    }
}

#[cfg(test)]
mod tests {
    /// The targets themselves, on what fuzzing began with.
    #[test]
    fn seeds() {
        super::request(
            b"GET http://a.example/x?y HTTP/1.1\nHost: a.example\nConnection: x, close\nX-Forwarded-For: 1.1.1.1",
        );
        for path in ["/a/%2e%2e/b//c?d", "http://a.example", "/%c3%a9/\u{e9};x%2F", "*", "/%zz", "/a/.."] {
            super::path(path.as_bytes());
        }
        super::proxy_protocol(b"PROXY TCP4 192.0.2.1 198.51.100.1 4000 443\r\n");
        for first in 0..=255u8 {
            super::annotations(&[first, b'1', b'0', b'/', b's']);
        }
        super::secrets(b"-----BEGIN CERTIFICATE-----\0user:$2y$05$x");
    }

    /// Noise made of what matters in paths.
    #[test]
    fn paths_of_noise() {
        const PARTS: [&str; 16] =
            ["/", "//", ".", "..", "%2e", "%2F", "%5c", "%", ";", "?", "#", "a", "%61", "%25", "%00", "\u{e9}"];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..100_000 {
            let mut path = String::from("/");
            for _ in 0..1 + state % 9 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                path.push_str(PARTS[(state >> 40) as usize % PARTS.len()]);
            }
            super::path(path.as_bytes());
        }
    }
}
