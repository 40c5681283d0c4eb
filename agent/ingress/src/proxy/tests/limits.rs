//! What is refused, and that nothing of it reaches the backend.

use std::io::{Read, Write};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::backend::Backend;
use super::{Running, options, status, table};
use crate::table::{BasicAuth, ForwardAuth, Options, RateLimit, Table};

#[test]
fn what_two_programs_might_read_in_two_ways_is_refused() {
    let backend = Backend::echo();
    let running = Running::start(table(&[backend.address], options()));
    let cases: &[(&str, u16)] = &[
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.example@b.example\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.example:80x\r\n\r\n", 400),
        ("GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: +4\r\n\r\nabcd", 400),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd", 400),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nX: a\0b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nX: a\r\n b\r\n\r\n", 400),
        ("CONNECT a.example:80 HTTP/1.1\r\nHost: a.example:80\r\n\r\n", 405),
        ("TRACE / HTTP/1.1\r\nHost: a.example\r\n\r\n", 405),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nExpect: the-best\r\n\r\n", 417),
    ];
    for (request, expected) in cases {
        assert_eq!(status(&running.raw(request.as_bytes())), *expected, "{request:?}");
    }
    let long = format!("GET / HTTP/1.1\r\nHost: a.example\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    assert_eq!(status(&running.raw(long.as_bytes())), 431);
    let many = format!("GET / HTTP/1.1\r\nHost: a.example\r\n{}\r\n", "X: y\r\n".repeat(200));
    assert_eq!(status(&running.raw(many.as_bytes())), 431);
    assert_eq!(backend.count(), 0);
}

#[test]
fn bodies_are_bounded_in_both_framings() {
    let backend = Backend::echo();
    let running = Running::start(table(&[backend.address], Options { body_bytes_max: 10, ..options() }));
    let declared = "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 11\r\n\r\n";
    assert_eq!(status(&running.raw(declared.as_bytes())), 413, "before a byte of it is read");
    let chunked = "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n8\r\n12345678\r\n0\r\n\r\n";
    assert_eq!(status(&running.raw(chunked.as_bytes())), 413);
    let fits = "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\n1234567890";
    assert_eq!(status(&running.raw(fits.as_bytes())), 200);
}

#[test]
fn addresses_rates_and_passwords() {
    let backend = Backend::echo();
    let with = |options: Options| Running::start(table(&[backend.address], options));
    let allowed = with(Options { allow: vec!["10.0.0.0/8".to_owned()], ..options() });
    assert_eq!(status(&allowed.get("/")), 403);
    assert_eq!(backend.count(), 0);

    let limited = with(Options { rate_limit: Some(RateLimit { requests: 1, per_seconds: 60, burst: 2 }), ..options() });
    let answers: Vec<String> = (0..3).map(|_| limited.get("/")).collect();
    assert_eq!(answers.iter().map(|a| status(a)).collect::<Vec<_>>(), [200, 200, 429]);
    assert!(answers[2].contains("retry-after: 60\r\n"), "{}", answers[2]);

    let users = [("ann".to_owned(), "plain:secret".to_owned())].into();
    let closed = with(Options { basic_auth: Some(BasicAuth { realm: "home".to_owned(), users }), ..options() });
    let answer = closed.get("/");
    assert!(status(&answer) == 401 && answer.contains("www-authenticate: Basic realm=\"home\""), "{answer}");
    let credentials = BASE64_STANDARD.encode("ann:secret");
    let request = format!("GET / HTTP/1.1\r\nHost: a.example\r\nAuthorization: Basic {credentials}\r\n\r\n");
    assert_eq!(status(&closed.raw(request.as_bytes())), 200);
    assert!(!backend.last().head.contains("authorization"), "the application does not get the password");
}

fn guarded(backend: &Backend, judge: &Backend) -> Table {
    let auth = ForwardAuth {
        backend: Some(1),
        host: "sso.default.svc".to_owned(),
        path: "/verify".to_owned(),
        sign_in: Some("https://login.example/".to_owned()),
        headers: vec!["remote-user".to_owned()],
    };
    let mut all = table(&[backend.address], Options { forward_auth: Some(auth), ..options() });
    let mut second = all.backends[0].clone();
    second.endpoints = vec![judge.address];
    all.backends.push(second);
    all
}

#[test]
fn another_service_decides() {
    let backend = Backend::echo();
    let judge = Backend::answering(|request, stream| {
        let answer = match request.head.contains("cookie: session=good") {
            true => "HTTP/1.1 200 OK\r\nRemote-User: ann\r\nContent-Length: 2\r\n\r\nok",
            false => "HTTP/1.1 401 Unauthorized\r\nX-Why: cookie\r\nContent-Length: 2\r\n\r\nno",
        };
        stream.write_all(answer.as_bytes())?;
        Ok(true)
    });
    let running = Running::start(guarded(&backend, &judge));
    let ask = |headers: &str| {
        running.raw(format!("GET /x?y HTTP/1.1\r\nHost: a.example\r\nRemote-User: eve\r\n{headers}\r\n").as_bytes())
    };
    let refused = ask("");
    assert!(status(&refused) == 401 && refused.contains("x-why: cookie") && refused.ends_with("no"), "{refused}");
    let browser = ask("Accept: text/html\r\n");
    assert!(status(&browser) == 302 && browser.contains("location: https://login.example/"), "{browser}");
    assert_eq!(backend.count(), 0);
    assert_eq!(status(&ask("Cookie: session=good\r\n")), 200);
    let head = backend.last().head;
    assert!(head.contains("remote-user: ann\r\n") && !head.contains("eve"), "{head}");
    let asked = judge.last().head;
    assert!(asked.starts_with("GET /verify HTTP/1.1\r\n") && asked.contains("x-forwarded-uri: /x?y\r\n"), "{asked}");
}

#[test]
fn clients_that_hold_on_are_given_up() {
    let backend = Backend::echo();
    let fast = Options { response_timeout_ms: 300, ..options() };
    let running = Running::start(table(&[backend.address], fast.clone()));
    let mut stream = running.connect();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100\r\n\r\nhalf").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(status(&answer), 408);
    let silent = Backend::answering(|_, _| {
        std::thread::park_timeout(std::time::Duration::from_secs(5));
        Ok(false)
    });
    running.apply(table(&[silent.address], fast));
    assert_eq!(status(&running.get("/")), 504);
}

#[test]
fn connections_are_bounded() {
    let backend = Backend::echo();
    let running = Running::with(table(&[backend.address], options()), |c| c.connections_max = 2);
    let _held: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = running.connect();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
            let mut start = [0; 12];
            stream.read_exact(&mut start).unwrap();
            stream
        })
        .collect();
    let mut refused = running.connect();
    let _ = refused.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let mut answer = Vec::new();
    let _ = refused.read_to_end(&mut answer);
    assert!(answer.is_empty());
}
