//! Addresses and ports of this machine, for what tests listen on.

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};

use anyhow::Context;

pub const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
pub const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// This machine's own address, as it would use it towards others: pods and the ingress reach it, unlike the loopback
/// address. Nothing is sent: the other side is an address for documentation (RFC 5737).
pub fn own() -> anyhow::Result<IpAddr> {
    let socket = UdpSocket::bind((ANY, 0))?;
    socket.connect("198.51.100.1:9").context("this machine has no route")?;
    Ok(socket.local_addr()?.ip())
}

/// A port that was free on all addresses a moment ago.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((ANY, 0))?.local_addr()?.port())
}
