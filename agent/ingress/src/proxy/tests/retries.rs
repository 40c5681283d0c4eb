//! Endpoints that fail, and that no request is lost to them.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::Ordering;

use super::backend::{Backend, refusing};
use super::{Running, options, status, table};

#[test]
fn an_endpoint_that_refuses_is_passed_over() {
    let backend = Backend::echo();
    let running = Running::start(table(&[refusing(), backend.address, refusing()], options()));
    for n in 0..30 {
        let request = format!("POST /{n} HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(status(&running.raw(request.as_bytes())), 200, "a body that was not touched can go elsewhere");
    }
    assert_eq!(backend.count(), 30);
    let down = Running::start(table(&[refusing()], options()));
    assert_eq!(status(&down.get("/")), 502);
    let nobody = Running::start(table(&[], options()));
    assert_eq!(status(&nobody.get("/")), 503);
}

#[test]
fn a_connection_that_ends_without_an_answer_costs_no_safe_request() {
    let dying = Backend::answering(|_, stream| stream.shutdown(Shutdown::Both).map(|()| false));
    let backend = Backend::echo();
    let running = Running::start(table(&[dying.address, backend.address], options()));
    for _ in 0..20 {
        assert_eq!(status(&running.get("/")), 200);
    }
    assert!(dying.count() > 0);
    let alone = Running::start(table(&[dying.address], options()));
    let before = dying.count();
    let answer = alone.raw(b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!((status(&answer), dying.count() - before), (502, 1), "a POST that was seen is not repeated");
}

#[test]
fn a_kept_connection_that_was_closed_is_no_failure() {
    let backend = Backend::answering(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        // As a server whose keep-alive has run out: it promised nothing.
        Ok(false)
    });
    let running = Running::start(table(&[backend.address], options()));
    for n in 1..=50 {
        let answer = running.raw(b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(status(&answer), 200);
        // A POST that is under way when the connection closes is lost by right: the next waits for the end of this one.
        let started = std::time::Instant::now();
        while backend.closed.load(Ordering::Relaxed) < n {
            assert!(started.elapsed() < super::SOON, "the backend closes");
            std::thread::yield_now();
        }
    }
    assert_eq!(backend.connections.load(Ordering::Relaxed), 50);
}

#[test]
fn a_new_table_cuts_no_request() {
    let (gate, opened) = std::sync::mpsc::channel::<()>();
    let opened = std::sync::Mutex::new(opened);
    let slow = Backend::answering(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")?;
        let _ = opened.lock().unwrap().recv();
        stream.write_all(b"cd")?;
        Ok(true)
    });
    let other = Backend::echo();
    let running = Running::start(table(&[slow.address], options()));
    let mut stream = running.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    let mut answer = String::new();
    while !answer.ends_with("ab") {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0] as char);
    }
    running.apply(table(&[other.address], options()));
    assert_eq!(status(&running.get("/")), 200);
    assert_eq!(other.count(), 1);
    gate.send(()).unwrap();
    let mut rest = [0; 2];
    stream.read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b"cd");
}

#[test]
fn draining_says_goodbye_with_the_next_answer() {
    let backend = Backend::echo();
    let running = Running::start(table(&[backend.address], options()));
    let mut stream = running.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).unwrap();
    running.proxy.shared.draining.store(true, Ordering::Relaxed);
    running.proxy.drain.cancel();
    stream.write_all(b"GET /last HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("connection: close\r\n") && rest.contains("GET /last"), "{rest}");
}
