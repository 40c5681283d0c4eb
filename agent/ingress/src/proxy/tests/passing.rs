//! What is passed on, and how it is changed.

use std::io::{Read, Write};
use std::net::SocketAddr;

use super::backend::Backend;
use super::{Running, options, status, table};
use crate::table::{Options, PathKind};

#[test]
fn the_backend_learns_who_asks() {
    let backend = Backend::echo();
    let running = Running::start(table(&[backend.address], options()));
    let answer = running.raw(
        b"GET /a/%20b?c=d HTTP/1.1\r\nHost: A.example:8080\r\nX-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 7.7.7.7\r\n\
          Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nProxy: evil\r\nKeep-Alive: 5\r\n\
          Connection: keep-alive, Host\r\nConnection: X-Private\r\nX-Private: 1\r\nTE: gzip\r\nX-App: yes\r\n\r\n",
    );
    assert_eq!(status(&answer), 200);
    let port = running.http.port();
    let expected = format!(
        "GET /a/%20b?c=d HTTP/1.1\r\nhost: A.example:8080\r\nx-app: yes\r\nx-forwarded-for: 127.0.0.1\r\n\
         x-real-ip: 127.0.0.1\r\nx-forwarded-proto: http\r\nx-forwarded-host: A.example:8080\r\n\
         x-forwarded-port: {port}\r\nforwarded: for=127.0.0.1;host=\"A.example:8080\";proto=http\r\n"
    );
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&backend.last().head), sorted(&expected));
}

#[test]
fn trusted_proxies_are_believed() {
    let backend = Backend::echo();
    let running =
        Running::with(table(&[backend.address], options()), |c| c.trusted_proxies = vec!["127.0.0.0/8".to_owned()]);
    running.raw(
        b"GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 1.1.1.1, 9.9.9.9, 127.0.0.7\r\nX-Forwarded-Proto: https\r\n\r\n",
    );
    let head = backend.last().head;
    assert!(head.contains("x-forwarded-for: 1.1.1.1, 9.9.9.9, 127.0.0.7, 127.0.0.1\r\n"), "{head}");
    assert!(head.contains("x-real-ip: 9.9.9.9\r\n") && head.contains("x-forwarded-proto: https\r\n"), "{head}");
}

#[test]
fn the_proxy_protocol_names_the_client() {
    let backend = Backend::echo();
    let running = Running::with(table(&[backend.address], options()), |c| {
        c.trusted_proxies = vec!["127.0.0.1".to_owned()];
        c.proxy_protocol = true;
    });
    running.raw(b"PROXY TCP4 192.0.2.9 127.0.0.1 5000 80\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert!(backend.last().head.contains("x-forwarded-for: 192.0.2.9\r\n"), "{}", backend.last().head);
    assert_eq!(running.raw(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"), "", "without the header");
    assert_eq!(backend.count(), 1);
}

#[test]
fn bodies_pass_in_both_framings_and_connections_are_kept() {
    let backend = Backend::echo();
    let running = Running::start(table(&[backend.address], options()));
    let mut stream = running.connect();
    let requests: &[&[u8]] = &[
        b"POST /1 HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /2 HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        b"POST /3 HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
    ];
    for request in requests {
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        while !answer.contains("forwarded: for=127.0.0.1") {
            let mut part = [0; 4096];
            let length = stream.read(&mut part).unwrap();
            assert!(length > 0, "{answer}");
            answer.push_str(&String::from_utf8_lossy(&part[..length]));
        }
    }
    let received = backend.received.lock().unwrap().clone();
    let bodies: Vec<_> = received.iter().map(|r| String::from_utf8_lossy(&r.body).into_owned()).collect();
    assert_eq!(bodies, ["hello", "hello world", "hi"]);
    assert_eq!(backend.connections.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn paths_and_hosts_choose_the_backend() {
    let (one, two) = (Backend::echo(), Backend::echo());
    let mut all = table(&[one.address], options());
    let mut second = all.backends[0].clone();
    second.endpoints = vec![two.address];
    all.backends.push(second);
    let mut path = |kind, text: &str| {
        let mut path = all.hosts[0].paths[0].clone();
        (path.kind, path.path, path.backend) = (kind, text.to_owned(), Some(1));
        all.hosts[0].paths.insert(0, path);
    };
    path(PathKind::Prefix, "/api/");
    path(PathKind::Exact, "/only");
    let mut wildcard = all.hosts[0].clone();
    wildcard.name = "*.wild.example".to_owned();
    all.hosts.push(wildcard);
    let running = Running::start(all);
    let cases = [
        ("a.example", "/api", 2),
        ("a.example", "/api/x", 2),
        ("a.example", "/apix", 1),
        ("a.example", "/only", 2),
        ("a.example", "/only/", 1),
        ("A.EXAMPLE.", "/", 1),
        ("x.wild.example", "/api", 2),
    ];
    for (host, path, expected) in cases {
        let before = (one.count(), two.count());
        let answer = running.raw(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        let asked = match (one.count() - before.0, two.count() - before.1) {
            (1, 0) => 1,
            (0, 1) => 2,
            other => panic!("{host}{path}: {other:?} {answer}"),
        };
        assert_eq!(asked, expected, "{host}{path}");
    }
    for host in ["x.y.wild.example", "wild.example", "b.example"] {
        assert_eq!(status(&running.raw(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())), 404, "{host}");
    }
}

#[test]
fn upgraded_connections_carry_bytes_both_ways() {
    let backend = Backend::answering(|request, stream| {
        assert!(request.head.contains("upgrade: websocket\r\n") && request.head.contains("connection: upgrade\r\n"));
        stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nWELCOME",
        )?;
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes)?;
        stream.write_all(&bytes)?;
        Ok(false)
    });
    let running = Running::start(table(&[backend.address], options()));
    let mut stream = running.connect();
    stream
        .write_all(b"GET /ws HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"WELCOME") {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    stream.write_all(b"ping").unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "ping");
}

#[test]
fn sessions_stay_with_their_endpoint() {
    let backends = [Backend::echo(), Backend::echo(), Backend::echo()];
    let addresses: Vec<SocketAddr> = backends.iter().map(|b| b.address).collect();
    let running = Running::start(table(&addresses, Options { session_cookie: Some("route".to_owned()), ..options() }));
    let first = running.get("/");
    let cookie = first.lines().find_map(|l| l.strip_prefix("set-cookie: route=")).unwrap();
    let cookie = cookie.split(';').next().unwrap();
    let with = |cookie: &str| {
        running.raw(format!("GET / HTTP/1.1\r\nHost: a.example\r\nCookie: a=b; route={cookie}\r\n\r\n").as_bytes())
    };
    let answers: Vec<String> = (0..20).map(|_| with(cookie)).collect();
    assert!(answers.iter().all(|a| !a.contains("set-cookie")));
    let mut counts: Vec<usize> = backends.iter().map(Backend::count).collect();
    counts.sort_unstable();
    assert_eq!(counts, [0, 0, 21]);
    assert!(with("gone").contains("set-cookie: route="));
}

#[test]
fn texts_are_compressed_for_who_takes_it() {
    let backend = Backend::answering(|_, stream| {
        let body = "all work and no play ".repeat(500);
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: \"x\"\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        Ok(true)
    });
    let running = Running::start(table(&[backend.address], options()));
    let answer = running.raw(b"GET / HTTP/1.1\r\nHost: a.example\r\nAccept-Encoding: gzip\r\n\r\n");
    let head = answer.split("\r\n\r\n").next().unwrap();
    assert!(head.contains("content-encoding: gzip") && head.contains("vary: Accept-Encoding"), "{head}");
    assert!(head.contains("etag: W/\"x\"") && !head.contains("content-length"), "{head}");
    assert!(answer.len() < 3000);
    assert!(running.get("/").len() > 10_000);
}

#[test]
fn http_is_sent_to_https_where_there_is_tls() {
    let backend = Backend::echo();
    let mut all = table(&[backend.address], options());
    all.hosts[0].tls = true;
    let running = Running::start(all.clone());
    let answer = running.get("/a?b=c");
    let port = running.https.port();
    assert_eq!(status(&answer), 308);
    assert!(answer.contains(&format!("location: https://a.example:{port}/a?b=c\r\n")), "{answer}");
    all.http_answers = [("tok".to_owned(), "tok.print".to_owned())].into();
    running.apply(all);
    assert!(running.get("/.well-known/acme-challenge/tok").ends_with("tok.print"), "not redirected");
    assert_eq!(status(&running.get("/.well-known/acme-challenge/other")), 308);
    assert_eq!(backend.count(), 0);
}

#[test]
fn many_small_parts_arrive_as_they_are_sent() {
    let backend = Backend::answering(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")?;
        let mut byte = [0; 1];
        // Ends when the client has gone: it has read the first event before the second was made.
        let _ = stream.read(&mut byte);
        Ok(false)
    });
    let running = Running::start(table(&[backend.address], options()));
    let mut stream = running.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    let mut answer = String::new();
    while !answer.contains("data: 1\n\n") {
        let mut part = [0; 512];
        let length = stream.read(&mut part).unwrap();
        assert!(length > 0, "{answer}");
        answer.push_str(&String::from_utf8_lossy(&part[..length]));
    }
}

#[test]
fn a_body_of_unknown_length_passes_with_every_method() {
    let backend = Backend::echo();
    let running = Running::start(table(&[backend.address], options()));
    for method in ["GET", "DELETE", "POST", "PATCH"] {
        let request = format!(
            "{method} / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
        );
        assert_eq!(status(&running.raw(request.as_bytes())), 200, "{method}");
        assert_eq!(backend.last().body, b"hello", "{method}");
    }
}

#[test]
fn answers_without_a_body_keep_their_head() {
    let backend = Backend::answering(|request, stream| {
        let answer = match request.head.split(' ').nth(1) {
            Some("/304") => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
            Some("/204") => "HTTP/1.1 204 No Content\r\nX-App: 1\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 50000\r\n\r\n",
        };
        stream.write_all(answer.as_bytes())?;
        Ok(true)
    });
    let running = Running::start(table(&[backend.address], options()));
    let ask = |request: &str| running.raw(format!("{request} HTTP/1.1\r\nHost: a.example\r\n\r\n").as_bytes());
    let head = ask("HEAD /");
    assert!(status(&head) == 200 && head.contains("content-length: 50000\r\n"), "{head}");
    let unchanged = ask("GET /304");
    assert!(status(&unchanged) == 304 && unchanged.contains("etag: \"x\"") && unchanged.ends_with("\r\n\r\n"));
    assert!(ask("GET /204").contains("x-app: 1\r\n"));
    assert_eq!(backend.connections.load(std::sync::atomic::Ordering::Relaxed), 1);
}
