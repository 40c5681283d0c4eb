//! Clients that hold on to connections: they are given up, and others are served meanwhile.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::backend::Backend;
use super::{Running, SOON, options, status, table};

/// Longer than any deadline that is tested here, shorter than the time an idle connection has.
const PATIENCE: Duration = Duration::from_secs(45);

fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = [0; 1024];
    match stream.read(&mut rest) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

/// Sends `begin` and then one of `drops` at a time, until the proxy gives up.
fn given_up_after(target: SocketAddr, begin: &[u8], mut drops: impl FnMut() -> &'static [u8]) -> Duration {
    let started = Instant::now();
    let mut stream = TcpStream::connect(target).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    stream.write_all(begin).unwrap();
    while started.elapsed() < PATIENCE && !is_closed(&mut stream) {
        let _ = stream.write_all(drops());
    }
    started.elapsed()
}

#[test]
fn who_does_not_get_on_is_given_up() {
    let backend = Backend::echo();
    let running = Running::start(table(&[backend.address], options()));
    let cases: [(&str, SocketAddr, &[u8], &'static [u8]); 5] = [
        ("nothing", running.http, b"", b""),
        ("nothing over TLS", running.https, b"", b""),
        ("a TLS handshake byte by byte", running.https, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\0"),
        ("a head byte by byte", running.http, b"GET / HTTP/1.1\r\nHost: a.example\r\nX: ", b"x"),
        ("a second head line by line", running.http, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\nGET /", b"x"),
    ];
    std::thread::scope(|scope| {
        for (name, target, begin, drop) in cases {
            scope.spawn(move || {
                let after = given_up_after(target, begin, || drop);
                assert!(after < PATIENCE, "{name}: still open after {after:?}");
            });
        }
    });
    assert_eq!(status(&running.get("/")), 200);
}

/// A client with another address of loopback.
fn from(address: [u8; 4], target: SocketAddr) -> TcpStream {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
    use std::os::fd::AsRawFd;
    let file = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let [a, b, c, d] = address;
    bind(file.as_raw_fd(), &SockaddrIn::new(a, b, c, d, 0)).unwrap();
    let SocketAddr::V4(target) = target else { panic!("a proxy on IPv4") };
    connect(file.as_raw_fd(), &SockaddrIn::from(target)).unwrap();
    let stream = TcpStream::from(file);
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

fn is_answered(mut stream: TcpStream) -> bool {
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200 ")
}

#[test]
fn one_client_does_not_take_every_connection() {
    let backend = Backend::echo();
    let running = Running::with(table(&[backend.address], options()), |c| c.connections_max = 100);
    let hold = || (0..200).map(|_| from([127, 0, 0, 9], running.http)).collect::<Vec<_>>();
    let held = hold();
    assert!(!is_answered(from([127, 0, 0, 9], running.http)), "it has what one client gets");
    for n in 10..20 {
        assert!(is_answered(from([127, 0, 0, n], running.http)), "others are served");
    }
    drop(held);
    let started = Instant::now();
    while !is_answered(from([127, 0, 0, 9], running.http)) {
        assert!(started.elapsed() < SOON, "what it gave back it gets again");
    }
}

#[test]
fn a_trusted_proxy_has_many_clients() {
    let backend = Backend::echo();
    let running = Running::with(table(&[backend.address], options()), |c| {
        c.connections_max = 100;
        c.trusted_proxies = vec![IpAddr::from(Ipv4Addr::LOCALHOST).to_string()];
    });
    let _held: Vec<_> = (0..90).map(|_| running.connect()).collect();
    assert!(is_answered(running.connect()));
}

/// An HTTP/2 client may let nothing of an answer through while the connection itself moves.
#[test]
fn who_takes_nothing_of_an_answer_is_given_up() {
    let backend = Backend::answering(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n")?;
        stream.write_all(&vec![b'x'; 10_000_000])?;
        Ok(true)
    });
    let running = Running::start(table(&[backend.address], options()));
    let target = running.http;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(target).await.unwrap();
        let mut builder = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
        builder.initial_stream_window_size(1000);
        let (mut sender, connection) =
            builder.handshake::<_, String>(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
        let mut connection = tokio::spawn(connection);
        let ask = || http::Request::get("http://a.example/").body(String::new()).unwrap();
        let held = sender.send_request(ask()).await.unwrap();
        assert_eq!(held.status(), 200);
        let (_, body) = held.into_parts();
        let ended = async {
            loop {
                tokio::select! {
                    _ = &mut connection => return,
                    // Other requests do not make it better.
                    () = tokio::time::sleep(Duration::from_secs(1)) => drop(sender.send_request(ask()).await),
                }
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.expect("the connection is closed");
        drop(body);
    });
}
