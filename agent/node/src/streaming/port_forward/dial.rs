//! Connects to a port of a pod from within the pod's network namespace, so that what listens on its loopback address
//! is reached. A thread of its own does it, as entering a namespace changes the whole thread.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Within a machine a connection is made at once, unless the listener's queue is full.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
#[error("cannot open the network namespace {}", path.display())]
pub(super) struct OpenError {
    path: PathBuf,
    source: io::Error,
}

/// Worded as upstream's clients know it.
#[derive(Debug, thiserror::Error)]
#[error("failed to connect to localhost:{port} inside namespace \"{}\": {reason}", path.display())]
pub(super) struct DialError {
    port: u16,
    path: PathBuf,
    reason: String,
}

/// A network namespace; stays while this does, even if all its processes end.
#[derive(Clone, Debug)]
pub(super) struct Namespace {
    path: PathBuf,
    file: Arc<File>,
}

impl Namespace {
    pub fn of(pid: u32) -> Result<Self, OpenError> {
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        match File::open(&path) {
            Ok(file) => Ok(Self { path, file: Arc::new(file) }),
            Err(source) => Err(OpenError { path, source }),
        }
    }

    pub async fn dial(&self, port: u16) -> Result<TcpStream, DialError> {
        let failed = |reason: String| DialError { port, path: self.path.clone(), reason };
        let (sender, receiver) = oneshot::channel();
        let file = Arc::clone(&self.file);
        let thread = std::thread::Builder::new().name(format!("dial-{port}"));
        // If the client has left meanwhile, nobody wants the connection.
        let spawned = thread.spawn(move || drop(sender.send(dial_in(&file, port))));
        spawned.map_err(|error| failed(error.to_string()))?;
        let socket = receiver.await.map_err(|_| failed("the dialling thread ended".to_owned()))?.map_err(failed)?;
        TcpStream::from_std(socket).map_err(|error| failed(error.to_string()))
    }
}

fn dial_in(namespace: &File, port: u16) -> Result<std::net::TcpStream, String> {
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|error| format!("cannot enter: {error}"))?;
    let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
    let connected = connect(v4, port)
        .or_else(|first| connect(v6, port).map_err(|second| format!("{v4}:{port}: {first}, [{v6}]:{port}: {second}")));
    connected.and_then(|socket| prepare(socket).map_err(|error| error.to_string()))
}

fn connect(address: IpAddr, port: u16) -> io::Result<std::net::TcpStream> {
    std::net::TcpStream::connect_timeout(&SocketAddr::new(address, port), CONNECT_TIME_MAX)
}

fn prepare(socket: std::net::TcpStream) -> io::Result<std::net::TcpStream> {
    socket.set_nonblocking(true)?;
    socket.set_nodelay(true)?;
    Ok(socket)
}
