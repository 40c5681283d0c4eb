//! Python programs beside a test: servers and clients that no tool of the command line is.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::daemon::Daemon;
use crate::wait;

const PYTHON: &str = "/usr/bin/python3";
const END_MAX: Duration = Duration::from_secs(15);

/// One HTTPS connection, request after request.
pub const REQUESTS: &str = include_str!("scripts/requests.py");
/// Echoes messages of a WebSocket, and sends them.
pub const WEBSOCKET: &str = include_str!("scripts/websocket.py");
/// A gRPC service whose messages go both ways, and its client.
pub const GRPC: &str = include_str!("scripts/grpc_stream.py");
/// Takes and sends large bodies, and events.
pub const BODIES: &str = include_str!("scripts/bodies.py");

/// Makes many objects, lists and deletes them.
pub const CHURN: &str = include_str!("scripts/churn.py");

pub fn command(script: &str, arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(PYTHON);
    command.args(["-u", "-c", script]).args(arguments);
    command
}

/// A server that runs until it is dropped; it listens on `port`.
pub fn serve(script: &str, arguments: &[impl AsRef<OsStr>], port: u16, dir: &Path) -> anyhow::Result<Daemon> {
    let mut server = Daemon::start(command(script, arguments), dir)?;
    server.wait_ready(END_MAX, || {
        std::net::TcpStream::connect(("127.0.0.1", port))?;
        Ok(())
    })?;
    Ok(server)
}

/// A client that goes on until it is asked to finish, and prints a number then.
pub struct Client {
    child: Child,
}

impl Client {
    pub fn start(script: &str, arguments: &[impl AsRef<OsStr>]) -> anyhow::Result<Self> {
        let mut command = command(script, arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Self { child: command.spawn().context("python3 does not start")? })
    }

    /// Fails if it has ended, which it does when something is not as it should be.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(_) => self.result().map(drop),
        }
    }

    pub fn finish(mut self) -> anyhow::Result<u64> {
        drop(self.child.stdin.take());
        wait::until("the client has finished", END_MAX, || {
            ensure!(self.child.try_wait()?.is_some());
            Ok(())
        })?;
        self.result()
    }

    fn result(&mut self) -> anyhow::Result<u64> {
        let status = self.child.wait()?;
        let read = |pipe: Option<&mut dyn std::io::Read>| {
            let mut text = String::new();
            pipe.map_or(Ok(0), |pipe| pipe.read_to_string(&mut text)).map(|_| text)
        };
        let said = read(self.child.stdout.as_mut().map(|p| p as _))?;
        let complaint = read(self.child.stderr.as_mut().map(|p| p as _))?;
        ensure!(status.success(), "the client failed: {complaint}");
        said.trim().parse().with_context(|| format!("the client ended early: {said:?} {complaint}"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
