//! The same over HTTP/2 and TLS, where a proxy translates: what HTTP/2 can say and HTTP/1.1 cannot must not become a
//! header line, a second request or another length (RFC 9113, sections 8 and 10.3). Frames are written raw; TLS is left
//! to `openssl s_client`.

mod cases;
mod frames;

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::Context;

use super::runner::{replace, sentinel};
use super::{Case, Expected, HOST, Outcome, Recorder};
use frames::Answer;

/// How long a proxy may say nothing before that counts as its answer.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// Every case of HTTP/2, in order. `http` is where the same proxy answers HTTP/1.1 for the harmless request after each
/// case; the host is as for `run_corpus`.
pub fn run_corpus(https: SocketAddr, http: SocketAddr, host: &str, backend: &Recorder) -> Vec<Outcome> {
    let cases = cases::all();
    cases.iter().enumerate().map(|(number, case)| run(number, case, (https, http), host, backend)).collect()
}

fn run(number: usize, case: &Case, (https, http): (SocketAddr, SocketAddr), host: &str, backend: &Recorder) -> Outcome {
    let mark = backend.mark();
    let bytes = replace(&case.bytes, HOST.as_bytes(), host.as_bytes());
    let answer = exchange(https, host, bytes).unwrap_or_default();
    if matches!(case.expected, Expected::Abort) {
        backend.settle();
    }
    let (reached, poisoned) = sentinel(number, http, host, backend, mark);
    Outcome::judge(case, answer.statuses, answer.closed, reached, poisoned)
}

/// Whether the proxy answers HTTP/2 for this host by now.
pub fn answers(https: SocketAddr, host: &str) -> anyhow::Result<()> {
    let bytes = replace(&cases::plain().bytes, HOST.as_bytes(), host.as_bytes());
    let statuses = exchange(https, host, bytes)?.statuses;
    anyhow::ensure!(statuses == [200], "it answered {statuses:?}");
    Ok(())
}

/// A TLS connection that speaks HTTP/2. It ends when it is dropped.
struct Connection {
    client: Child,
    answers: Receiver<Vec<u8>>,
    /// Its end would be the connection's.
    _stdin: OwnedFd,
}

impl Connection {
    fn open(target: SocketAddr, host: &str, bytes: Vec<u8>) -> anyhow::Result<Self> {
        let mut client = Command::new("openssl")
            .args(["s_client", "-quiet", "-nocommands", "-alpn", "h2", "-servername", host, "-connect"])
            .arg(target.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("openssl does not start")?;
        let (sender, answers) = mpsc::channel();
        let stdin = OwnedFd::from(client.stdin.take().context("its input is a pipe")?);
        let mut stdout = client.stdout.take().context("its output is a pipe")?;
        let mut writer = File::from(stdin.try_clone()?);
        let connection = Self { client, answers, _stdin: stdin };
        // Both threads end with the client: their pipes break.
        std::thread::spawn(move || writer.write_all(&bytes));
        std::thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Ok(connection)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

fn exchange(target: SocketAddr, host: &str, bytes: Vec<u8>) -> anyhow::Result<Answer> {
    let connection = Connection::open(target, host, bytes)?;
    let mut received = Vec::new();
    loop {
        match connection.answers.recv_timeout(SILENCE_MAX) {
            Ok(bytes) => received.extend(bytes),
            Err(RecvTimeoutError::Timeout) => return Ok(Answer::read(&received)),
            Err(RecvTimeoutError::Disconnected) => return Ok(Answer { closed: true, ..Answer::read(&received) }),
        }
        let answer = Answer::read(&received);
        if answer.closed || answer.ended {
            return Ok(answer);
        }
    }
}
