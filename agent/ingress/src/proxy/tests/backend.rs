//! A backend that answers each request with what it received, or as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Received {
    pub head: String,
    pub body: Vec<u8>,
}

type Answer = dyn Fn(&Received, &mut TcpStream) -> std::io::Result<bool> + Send + Sync;

#[derive(Clone)]
pub struct Backend {
    pub address: SocketAddr,
    pub received: Arc<Mutex<Vec<Received>>>,
    pub connections: Arc<AtomicUsize>,
    /// Connections that the backend has closed.
    pub closed: Arc<AtomicUsize>,
}

impl Backend {
    /// Answers 200 with the request's head as body.
    pub fn echo() -> Self {
        Self::answering(|request, stream| {
            let body = &request.head;
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
            Ok(true)
        })
    }

    /// `answer` says whether the connection goes on.
    pub fn answering(
        answer: impl Fn(&Received, &mut TcpStream) -> std::io::Result<bool> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let backend = Self { address, received: Arc::default(), connections: Arc::default(), closed: Arc::default() };
        let answer: Arc<Answer> = Arc::new(answer);
        let own = backend.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                own.connections.fetch_add(1, Ordering::Relaxed);
                let (own, answer) = (own.clone(), Arc::clone(&answer));
                std::thread::spawn(move || {
                    own.serve(stream, &*answer);
                    own.closed.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        backend
    }

    pub fn last(&self) -> Received {
        self.received.lock().unwrap().last().cloned().unwrap_or_default()
    }

    pub fn count(&self) -> usize {
        self.received.lock().unwrap().len()
    }

    fn serve(&self, stream: TcpStream, answer: &Answer) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        while let Some(request) = read(&mut reader, &mut stream) {
            self.received.lock().unwrap().push(request.clone());
            if !matches!(answer(&request, &mut stream), Ok(true)) {
                return;
            }
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>, stream: &mut TcpStream) -> Option<Received> {
    let mut request = Received::default();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        request.head.push_str(&line);
    }
    let lower = request.head.to_lowercase();
    let header = |name: &str| lower.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned));
    if header("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    if let Some(length) = header("content-length").and_then(|l| l.parse().ok()) {
        request.body = vec![0; length];
        reader.read_exact(&mut request.body).ok()?;
    } else if header("transfer-encoding").is_some() {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            if size == 0 {
                break;
            }
            request.body.extend(&chunk[..size]);
        }
    }
    Some(request)
}

/// An address that refuses connections.
pub fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
