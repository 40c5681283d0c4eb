//! A backend that writes down what reaches it: it parses each request strictly by its framing (RFC 9112) and names
//! whatever a proxy should not have let through. It knows nothing of the proxy in front of it.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;

/// How often a waiting thread looks whether it is to end.
const POLL: Duration = Duration::from_millis(100);
const HEAD_BYTES_MAX: usize = 512 * 1024;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A request as it reached the backend.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Which connection it came on, counted from the start.
    pub connection: usize,
    /// The raw head, with the empty line that ends it.
    pub head: Vec<u8>,
    pub body: Vec<u8>,
    /// Raw trailer lines after the last chunk.
    pub trailers: Vec<u8>,
    /// False while it is read, and for good if the connection ended before it did.
    pub complete: bool,
    /// What is wrong with it, in words.
    pub violations: Vec<String>,
}

impl Received {
    pub fn target(&self) -> String {
        let line = String::from_utf8_lossy(&self.head);
        line.lines().next().and_then(|l| l.split(' ').nth(1)).unwrap_or_default().to_owned()
    }

    /// Values of a header, in order.
    pub fn values(&self, name: &str) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.head);
        let fields = text.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_owned()).collect()
    }
}

type Log = Arc<Mutex<Vec<Received>>>;

/// The running backend. It ends when it is dropped.
pub struct Recorder {
    address: SocketAddr,
    log: Log,
    stop: Arc<AtomicBool>,
}

impl Recorder {
    /// Listens on a free port of this address.
    pub fn start(address: IpAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((address, 0)).context("the recorder's port")?;
        let recorder =
            Self { address: listener.local_addr()?, log: Log::default(), stop: Arc::new(AtomicBool::new(false)) };
        let (log, stop) = (Arc::clone(&recorder.log), Arc::clone(&recorder.stop));
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (log, stop) = (Arc::clone(&log), Arc::clone(&stop));
                if let Ok(stream) = stream {
                    std::thread::spawn(move || Connection::new(stream, number, log, stop).serve());
                }
            }
        });
        Ok(recorder)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many requests there are so far, for `since`.
    pub fn mark(&self) -> usize {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits until nothing more arrives: a request that its proxy gave up may still be on its way here.
    pub fn settle(&self) {
        const QUIET: std::time::Duration = std::time::Duration::from_millis(30);
        let mut before = usize::MAX;
        while before != self.mark() {
            before = self.mark();
            std::thread::sleep(QUIET);
        }
    }

    pub fn since(&self, mark: usize) -> Vec<Received> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.get(mark..).unwrap_or_default().to_vec()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let ip = if self.address.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { self.address.ip() };
        let _ = TcpStream::connect_timeout(&SocketAddr::new(ip, self.address.port()), POLL);
    }
}

/// How the end of a body is found.
enum Framing {
    None,
    Length(usize),
    Chunked,
}

struct Connection {
    stream: TcpStream,
    number: usize,
    log: Log,
    stop: Arc<AtomicBool>,
    unread: Vec<u8>,
}

/// The peer has gone, or the recorder ends.
struct Ended;

impl Connection {
    fn new(stream: TcpStream, number: usize, log: Log, stop: Arc<AtomicBool>) -> Self {
        let _ = stream.set_read_timeout(Some(POLL));
        let _ = stream.set_nodelay(true);
        Self { stream, number, log, stop, unread: Vec::new() }
    }

    fn serve(mut self) {
        while let Ok(clean) = self.request() {
            let sent = self.stream.write_all(if clean { ANSWER } else { REFUSAL });
            if sent.is_err() || !clean {
                return;
            }
        }
    }

    /// Reads one request; says whether it was without fault.
    fn request(&mut self) -> Result<bool, Ended> {
        let end = match self.find(b"\r\n\r\n", HEAD_BYTES_MAX) {
            Ok(end) => end,
            Err(Ended) => {
                self.leftover();
                return Err(Ended);
            }
        };
        let head: Vec<u8> = self.unread.drain(..end + 4).collect();
        let (framing, violations) = judge(&head);
        let clean = violations.is_empty();
        let index = self.push(Received { connection: self.number, head, violations, ..Received::default() });
        if !clean {
            self.update(index, |r| r.complete = true);
            return Ok(false);
        }
        match framing {
            Framing::None => {}
            Framing::Length(length) => {
                self.fill(length)?;
                let body: Vec<u8> = self.unread.drain(..length).collect();
                self.update(index, |r| r.body = body);
            }
            Framing::Chunked => {
                if let Err(violation) = self.chunks(index)? {
                    self.update(index, |r| r.violations.push(violation));
                    return Ok(false);
                }
            }
        }
        self.update(index, |r| r.complete = true);
        Ok(true)
    }

    /// Bytes that never became a request are worth a record: something was sent that was no head.
    fn leftover(&mut self) {
        if !self.unread.is_empty() {
            let violations = vec!["bytes that are no request".to_owned()];
            let head = std::mem::take(&mut self.unread);
            self.push(Received { connection: self.number, head, violations, ..Received::default() });
        }
    }

    fn chunks(&mut self, index: usize) -> Result<Result<(), String>, Ended> {
        loop {
            let end = self.find(b"\r\n", HEAD_BYTES_MAX)?;
            let line: Vec<u8> = self.unread.drain(..end + 2).take(end).collect();
            let digits = line.split(|b| *b == b';').next().unwrap_or_default();
            let text = String::from_utf8_lossy(digits).into_owned();
            let hexadecimal = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
            let size = usize::from_str_radix(&text, 16).ok().filter(|_| hexadecimal);
            let Some(size) = size else { return Ok(Err(format!("chunk size {text:?}"))) };
            if size == 0 {
                break;
            }
            self.fill(size + 2)?;
            let chunk: Vec<u8> = self.unread.drain(..size).collect();
            let ending: Vec<u8> = self.unread.drain(..2).collect();
            if ending != b"\r\n" {
                return Ok(Err("a chunk does not end with CRLF".to_owned()));
            }
            self.update(index, |r| r.body.extend(chunk));
        }
        loop {
            let end = self.find(b"\r\n", HEAD_BYTES_MAX)?;
            let line: Vec<u8> = self.unread.drain(..end + 2).collect();
            if end == 0 {
                return Ok(Ok(()));
            }
            self.update(index, |r| r.trailers.extend(line));
        }
    }

    /// Where these bytes begin in what is unread.
    fn find(&mut self, wanted: &[u8], limit: usize) -> Result<usize, Ended> {
        loop {
            if let Some(at) = self.unread.windows(wanted.len()).position(|w| w == wanted) {
                return Ok(at);
            }
            if self.unread.len() > limit {
                return Err(Ended);
            }
            self.more()?;
        }
    }

    fn fill(&mut self, length: usize) -> Result<(), Ended> {
        while self.unread.len() < length {
            self.more()?;
        }
        Ok(())
    }

    fn more(&mut self) -> Result<(), Ended> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Ended),
                Ok(count) => {
                    self.unread.extend_from_slice(&buffer[..count]);
                    return Ok(());
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {
                    if self.stop.load(Ordering::SeqCst) {
                        return Err(Ended);
                    }
                }
                Err(_) => return Err(Ended),
            }
        }
    }

    fn push(&self, received: Received) -> usize {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(received);
        log.len() - 1
    }

    fn update(&self, index: usize, change: impl FnOnce(&mut Received)) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(received) = log.get_mut(index) {
            change(received);
        }
    }
}

/// The framing of a head, and everything that a strict parser refuses in it.
fn judge(head: &[u8]) -> (Framing, Vec<String>) {
    let mut violations = Vec::new();
    let inner = head.strip_suffix(b"\r\n\r\n").unwrap_or(head);
    let text = String::from_utf8_lossy(inner).into_owned();
    let mut lines = text.split("\r\n");
    let request = lines.next().unwrap_or_default();
    let parts: Vec<&str> = request.split(' ').collect();
    let line_is_good = matches!(parts[..], [method, target, "HTTP/1.0" | "HTTP/1.1"]
        if is_token(method) && !target.is_empty() && target.chars().all(|c| !c.is_control()));
    if !line_is_good {
        violations.push(format!("request line {request:?}"));
    }
    let (mut lengths, mut codings, mut hosts) = (Vec::new(), Vec::new(), 0);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            violations.push(format!("a line without a colon: {line:?}"));
            continue;
        };
        if !is_token(name) {
            violations.push(format!("header name {name:?}"));
        }
        if value.chars().any(|c| c.is_control() && c != '\t') {
            violations.push(format!("control characters in {name}: {value:?}"));
        }
        match name.trim().to_ascii_lowercase().as_str() {
            "content-length" => lengths.push(value.trim().to_owned()),
            "transfer-encoding" => codings.push(value.trim().to_ascii_lowercase()),
            "host" => hosts += 1,
            _ => {}
        }
    }
    if hosts > 1 || (hosts == 0 && request.ends_with("HTTP/1.1")) {
        violations.push(format!("{hosts} Host headers"));
    }
    if !lengths.is_empty() && !codings.is_empty() {
        violations.push("both Content-Length and Transfer-Encoding".to_owned());
    }
    if !codings.is_empty() && request.ends_with("HTTP/1.0") {
        violations.push("Transfer-Encoding in HTTP/1.0".to_owned());
    }
    let framing = match (&codings[..], &lengths[..]) {
        ([], []) => Framing::None,
        ([coding], _) if coding == "chunked" => Framing::Chunked,
        ([], [length]) if !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()) => {
            length.parse().map_or(Framing::None, Framing::Length)
        }
        (codings, lengths) => {
            violations.push(format!("framing: Transfer-Encoding {codings:?}, Content-Length {lengths:?}"));
            Framing::None
        }
    };
    (framing, violations)
}

fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
