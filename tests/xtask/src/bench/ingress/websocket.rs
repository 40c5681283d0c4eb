//! Round trips over WebSockets (RFC 6455): just as much of the protocol as an echo of short frames takes.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::load::{Load, percentiles};

/// The example of RFC 6455, section 1.3: a key and what is answered to it.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const CLIENTS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(5);
/// A final text frame of 16 bytes; masked with zeros, which changes nothing.
const FRAME: &[u8] = b"\x81\x90\0\0\0\0sixteen bytes ok";
const ECHO: &[u8] = b"\x81\x10sixteen bytes ok";

pub fn read_head(reader: &mut impl Read) -> anyhow::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        reader.read_exact(&mut byte).context("the connection ended within the head")?;
        head.push(byte[0]);
        ensure!(head.len() < 64 * 1024, "the head does not end");
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Each client sends a frame and waits for it, again and again.
pub fn run(target: SocketAddr, host: &str, duration: Duration) -> anyhow::Result<Load> {
    let started = Instant::now();
    let results: Vec<anyhow::Result<Vec<f64>>> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(move || client(target, host, duration))).collect();
        clients.into_iter().map(|c| c.join().unwrap_or_else(|_| anyhow::bail!("a client panicked"))).collect()
    });
    let seconds = started.elapsed().as_secs_f64();
    let mut times = Vec::new();
    for result in results {
        times.extend(result?);
    }
    let requests = times.len() as f64;
    let (p50, p99) = percentiles(times)?;
    Ok(Load { requests, rate: requests / seconds, p50, p99 })
}

/// Milliseconds of each round trip.
fn client(target: SocketAddr, host: &str, duration: Duration) -> anyhow::Result<Vec<f64>> {
    let mut stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {KEY}\r\n\r\n"
    )?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let head = read_head(&mut reader)?;
    ensure!(head.starts_with("HTTP/1.1 101"), "no upgrade: {head}");
    let (started, mut times) = (Instant::now(), Vec::new());
    while started.elapsed() < duration {
        let sent = Instant::now();
        stream.write_all(FRAME)?;
        let mut echo = [0; ECHO.len()];
        reader.read_exact(&mut echo).context("no echo")?;
        ensure!(echo == ECHO, "the echo differs");
        times.push(sent.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(times)
}
