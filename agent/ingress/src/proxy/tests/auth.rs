//! What the deciding Service says of a client reaches the application, and what the client says of itself does not.

use super::backend::Backend;
use super::{Running, options, status, table};
use crate::table::{self, ForwardAuth, Options, Path, Table};

/// Answers that Ann asks.
fn deciding() -> Backend {
    Backend::answering(|_, stream| {
        use std::io::Write;
        stream.write_all(b"HTTP/1.1 200 OK\r\nX-Email: ann\r\nX-Other: no\r\nContent-Length: 0\r\n\r\n")?;
        Ok(true)
    })
}

/// `/` behind the deciding Service, `/open` without it.
fn guarded(application: &Backend, deciding: &Backend) -> Table {
    let auth = ForwardAuth {
        backend: Some(1),
        host: "auth.sso.svc".to_owned(),
        path: "/verify".to_owned(),
        sign_in: None,
        headers: vec!["x-email".to_owned(), "x-groups".to_owned()],
    };
    let mut all = table(&[application.address], Options { forward_auth: Some(auth), ..options() });
    all.options.push(options());
    all.backends.push(table::Backend { endpoints: vec![deciding.address], ..all.backends[0].clone() });
    let open = Path { path: "/open".to_owned(), options: 1, ..all.hosts[0].paths[0].clone() };
    all.hosts[0].paths.insert(0, open);
    all
}

fn ask(running: &Running, path: &str, headers: &str) {
    let answer = running.raw(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n{headers}\r\n").as_bytes());
    assert_eq!(status(&answer), 200, "{headers}");
}

#[test]
fn what_the_deciding_service_says_counts() {
    let (application, decides) = (Backend::echo(), deciding());
    let running = Running::start(guarded(&application, &decides));
    let tries = [
        "",
        "Connection: X-Email\r\n",
        "Connection: close, x-email\r\nX-Email: eve\r\n",
        "X-Email: eve\r\nx-email: eve\r\nX-Groups: eve\r\n",
        "X_Email: eve\r\n",
        "x_EMAIL: eve\r\nX.Email: eve\r\nX-Email~: eve\r\n",
    ];
    for headers in tries {
        ask(&running, "/", headers);
        let head = application.last().head;
        assert!(head.contains("x-email: ann\r\n") && !head.contains("eve") && !head.contains("x-other"), "{head}");
    }
    // Who may pass without being asked for is nobody because of it.
    ask(&running, "/open", "X-Email: eve\r\nX_Groups: eve\r\nX-Mine: 1\r\n");
    let head = application.last().head;
    assert!(!head.contains("eve") && head.contains("x-mine: 1\r\n"), "{head}");
}

#[test]
fn the_deciding_service_learns_who_asks_for_what() {
    let (application, decides) = (Backend::echo(), deciding());
    let running = Running::start(guarded(&application, &decides));
    ask(&running, "/a/../b?c", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Uri: /open\r\nCookie: s=1\r\n");
    let head = decides.last().head;
    for line in ["x-forwarded-for: 127.0.0.1", "x-forwarded-uri: /b?c", "x-forwarded-method: GET", "cookie: s=1"] {
        assert!(head.contains(&format!("{line}\r\n")), "{line}: {head}");
    }
    assert!(!head.contains("6.6.6.6") && !head.contains("/open"), "{head}");
}

#[test]
fn nothing_of_the_proxy_is_said_or_removed_by_a_client() {
    let backend = Backend::echo();
    let running = Running::start(table(&[backend.address], options()));
    let ours =
        ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Real-IP", "Forwarded"];
    let others = ["X-Forwarded-User", "X-Forwarded-Prefix", "X-Original-URL", "X-Rewrite-URL", "X-Original-Method"];
    for name in ours.into_iter().chain(others) {
        for name in [name.to_owned(), name.to_lowercase(), name.replace('-', "_")] {
            for nominated in ["x", &name] {
                ask(&running, "/", &format!("Connection: close, {nominated}\r\n{name}: evil\r\n"));
                let head = backend.last().head;
                assert!(!head.contains("evil"), "{name}: {head}");
                for name in ours {
                    assert_eq!(head.matches(&format!("\n{}: ", name.to_lowercase())).count(), 1, "{name}: {head}");
                }
            }
        }
    }
}

/// Some applications put the fields after a body to those of the head.
#[test]
fn nothing_is_said_after_the_body() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let running = Running::start(table(&[listener.local_addr().unwrap()], options()));
    let received = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        while !all.windows(5).any(|bytes| bytes == b"0\r\n\r\n" || bytes.starts_with(b"eve")) {
            let mut part = [0; 1024];
            let length = stream.read(&mut part).unwrap();
            assert!(length > 0);
            all.extend(&part[..length]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        String::from_utf8(all).unwrap()
    });
    let request = "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nTrailer: X-Email\r\n\r\n\
         5\r\nhello\r\n0\r\nX-Email: eve\r\n\r\n";
    assert_eq!(status(&running.raw(request.as_bytes())), 200);
    let received = received.join().unwrap();
    assert!(received.contains("hello") && !received.to_lowercase().contains("email"), "{received}");
}
