//! Sends each case to a proxy, reads what it answers, and asks the backend what reached it. After each case a harmless
//! request shows whether something of the case is still between the two.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{Case, Expected, HOST, Outcome, Received, Recorder, cases};

/// How long a proxy may say nothing before that counts as its answer.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// After the answers that are due: more would come at once.
const QUIET: Duration = Duration::from_millis(60);
const POLL: Duration = Duration::from_millis(20);

/// Every case of HTTP/1.1, in order. The host is one that the proxy routes to the backend, as long as `HOST`: cases with
/// a length count it.
pub fn run_corpus(target: SocketAddr, host: &str, backend: &Recorder) -> Vec<Outcome> {
    run_cases(&cases::all(), target, host, backend)
}

pub fn run_cases(cases: &[Case], target: SocketAddr, host: &str, backend: &Recorder) -> Vec<Outcome> {
    cases.iter().enumerate().map(|(number, case)| run(number, case, target, host, backend)).collect()
}

fn run(number: usize, case: &Case, target: SocketAddr, host: &str, backend: &Recorder) -> Outcome {
    let mark = backend.mark();
    let bytes = replace(&case.bytes, HOST.as_bytes(), host.as_bytes());
    let bytes = replace(&bytes, HOST.to_uppercase().as_bytes(), host.to_uppercase().as_bytes());
    let due = match case.expected {
        Expected::Refuse | Expected::Abort => 1,
        Expected::Pass(check) | Expected::Either(check) => check.requests,
    };
    let (statuses, closed) = exchange(target, &bytes, due);
    if matches!(case.expected, Expected::Abort) {
        backend.settle();
    }
    let (reached, poisoned) = sentinel(number, target, host, backend, mark);
    Outcome::judge(case, statuses, closed, reached, poisoned)
}

/// Sends a harmless request; what reached the backend before it belongs to the case.
pub(super) fn sentinel(
    number: usize,
    target: SocketAddr,
    host: &str,
    backend: &Recorder,
    mark: usize,
) -> (Vec<Received>, Option<String>) {
    let path = format!("/sentinel-{number}");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let (statuses, _) = exchange(target, request.as_bytes(), 1);
    let mut reached = backend.since(mark);
    let arrived = reached.iter().position(|r| r.target() == path && r.violations.is_empty());
    let poisoned = match (arrived, &statuses[..]) {
        (Some(at), [200]) => {
            reached.remove(at);
            None
        }
        (_, statuses) => Some(format!("the next client's request was answered {statuses:?}")),
    };
    (reached, poisoned)
}

/// The status codes that come back, and whether the proxy closed the connection.
fn exchange(target: SocketAddr, request: &[u8], due: usize) -> (Vec<u16>, bool) {
    let Ok(mut stream) = TcpStream::connect_timeout(&target, SILENCE_MAX) else {
        return (Vec::new(), true);
    };
    let _ = stream.set_read_timeout(Some(POLL));
    let _ = stream.set_write_timeout(Some(SILENCE_MAX));
    // A proxy may refuse before it has read everything: what it says still counts.
    let _ = stream.write_all(request);
    let mut answers = Vec::new();
    let mut last = Instant::now();
    let mut buffer = [0; 16 * 1024];
    let closed = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break true,
            Ok(count) => {
                answers.extend_from_slice(&buffer[..count]);
                last = Instant::now();
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {
                let finals = statuses(&answers).iter().filter(|s| **s >= 200).count();
                let patience = if finals >= due { QUIET } else { SILENCE_MAX };
                if last.elapsed() > patience {
                    break false;
                }
            }
            Err(_) => break true,
        }
    };
    let _ = stream.shutdown(Shutdown::Both);
    (statuses(&answers), closed)
}

/// Walks over the answers by their framing.
fn statuses(mut answers: &[u8]) -> Vec<u16> {
    let mut found = Vec::new();
    while let Some(end) = position(answers, b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&answers[..end]).to_ascii_lowercase();
        answers = &answers[end + 4..];
        let Some(status) = head.split(' ').nth(1).and_then(|s| s.parse().ok()) else {
            break;
        };
        found.push(status);
        let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(|v| v.trim().to_owned());
        let body = match value("content-length:").and_then(|v| v.parse::<usize>().ok()) {
            _ if status < 200 || status == 204 || status == 304 => 0,
            Some(length) => length,
            None if value("transfer-encoding:").is_some() => {
                position(answers, b"0\r\n\r\n").map_or(answers.len(), |at| at + 5)
            }
            None => answers.len(),
        };
        answers = answers.get(body..).unwrap_or_default();
    }
    found
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|w| w == wanted)
}

pub(super) fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = position(rest, from) {
        result.extend_from_slice(&rest[..at]);
        result.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    result.extend_from_slice(rest);
    result
}

/// Whether the proxy routes this host by now.
pub fn answers(target: SocketAddr, host: &str) -> anyhow::Result<()> {
    let request = format!("GET /ready HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let (statuses, _) = exchange(target, request.as_bytes(), 1);
    anyhow::ensure!(statuses == [200], "it answered {statuses:?}");
    Ok(())
}
