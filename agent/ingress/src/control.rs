//! How the agent talks to the proxy: one JSON document per line over a Unix socket, and listening sockets beside it.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Deserialize, Serialize};

use crate::config::ProxyConfig;
use crate::table::{Certificate, EndpointStatus, Table};

/// A thousand hosts make about half a megabyte; certificates go in parts.
pub const LINE_BYTES_MAX: usize = 64 << 20;
/// More listening sockets than anyone configures; the kernel's own limit for one message is 253.
pub const SOCKETS_MAX: usize = 64;

#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Who are you?
    Hello,
    /// Certificates that the next table may name.
    Certificates(Vec<Certificate>),
    Table(Box<Table>),
    Status,
    /// Hand over the listening sockets: those of `http`, `https` and `metrics`, in this order.
    Sockets,
    /// Take no new connection, let those that are open finish, then end.
    Drain,
    /// End at once.
    Stop,
}

impl Request {
    /// As it goes over the socket.
    pub fn line(&self) -> serde_json::Result<Vec<u8>> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        Ok(text)
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    Hello(Box<Hello>),
    Done,
    Status(Status),
    Refused(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Names the program's file as it was started: another build has another one.
    pub build: String,
    pub config: ProxyConfig,
    /// Certificates it has.
    pub certificates: Vec<String>,
    pub process: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub endpoints: Vec<EndpointStatus>,
    pub connections: usize,
}

/// Sends open files beside one byte, which a stream socket needs.
pub fn send_sockets(socket: RawFd, files: &[RawFd]) -> nix::Result<()> {
    let rights = [ControlMessage::ScmRights(files)];
    sendmsg::<()>(socket, &[IoSlice::new(b"s")], &rights, MsgFlags::MSG_NOSIGNAL, None).map(drop)
}

/// Receives what `send_sockets` sent; empty at the end of the stream.
pub fn receive_sockets(socket: RawFd) -> nix::Result<Vec<OwnedFd>> {
    let mut byte = [0u8; 1];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([RawFd; SOCKETS_MAX]);
    let message = recvmsg::<()>(socket, &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut received = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(files) = control {
            // SAFETY: the kernel has just made these descriptors for us, and nobody else knows them.
            received.extend(files.into_iter().map(|file| unsafe { OwnedFd::from_raw_fd(file) }));
        }
    }
    Ok(received)
}

pub fn raw(files: &[OwnedFd]) -> Vec<RawFd> {
    files.iter().map(AsRawFd::as_raw_fd).collect()
}

/// The program that runs: device, file, time and size.
pub fn build_id() -> String {
    use std::os::unix::fs::MetadataExt;
    match std::fs::metadata("/proc/self/exe") {
        Ok(file) => format!("{}-{}-{}-{}", file.dev(), file.ino(), file.mtime_nsec(), file.size()),
        Err(_) => env!("CARGO_PKG_VERSION").to_owned(),
    }
}
