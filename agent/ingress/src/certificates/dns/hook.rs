//! The user's program for DNS records: `PROGRAM present|cleanup NAME VALUE`.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::{Error, Record};
use crate::certificates::http::plainly;

/// Providers' interfaces answer in seconds; some programs wait for propagation themselves.
const RUN_TIME_MAX: Duration = Duration::from_secs(300);
/// What is quoted of what the program complains.
const COMPLAINT_BYTES_MAX: usize = 500;
/// What is read of it at all.
const COMPLAINT_READ_MAX: u64 = 64 << 10;

pub(super) async fn run(program: &Path, verb: &str, record: &Record) -> Result<(), Error> {
    let failed = |reason: String| Error::Hook { program: program.to_owned(), reason };
    let mut command = Command::new(program);
    command.args([verb, &record.name, &record.value]).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(plainly(&error)))?;
    let complaint = child.stderr.take();
    let running = async { tokio::join!(child.wait(), read(complaint)) };
    let Ok((status, complaint)) = tokio::time::timeout(RUN_TIME_MAX, running).await else {
        return Err(failed(format!("it did not end within {} seconds", RUN_TIME_MAX.as_secs())));
    };
    let status = status.map_err(|error| failed(plainly(&error)))?;
    if status.success() {
        return Ok(());
    }
    let said = quoted(&complaint);
    Err(failed(if said.is_empty() { status.to_string() } else { said }))
}

async fn read(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut text = Vec::new();
    let Some(mut pipe) = pipe else { return text };
    // What was read before an error is still worth quoting.
    let _ = (&mut pipe).take(COMPLAINT_READ_MAX).read_to_end(&mut text).await;
    // A program that goes on talking must not block on a full pipe.
    let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    text
}

/// The end of it, on one line.
fn quoted(complaint: &[u8]) -> String {
    let tail = &complaint[complaint.len().saturating_sub(COMPLAINT_BYTES_MAX)..];
    String::from_utf8_lossy(tail).split_whitespace().collect::<Vec<_>>().join(" ")
}
