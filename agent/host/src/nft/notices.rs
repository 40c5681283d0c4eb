//! Notices of the kernel that a table of nftables was changed, by whomever: `NFNLGRP_NFTABLES` of netlink. Nothing runs
//! while nobody changes anything.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket, sockopt,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// `NFNLGRP_NFTABLES` is the seventh group of <linux/netfilter/nfnetlink.h>.
const GROUP: u32 = 1 << (7 - 1);
const SUBSYSTEM_NFTABLES: u8 = 10;
/// `nlmsghdr` and `nfgenmsg`.
const HEADER_BYTES: usize = 16;
const GENERAL_BYTES: usize = 4;
/// `NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`, `NFTA_RULE_TABLE` and so on: it is the first attribute of each.
const ATTRIBUTE_TABLE: u16 = 1;
/// The kernel sends no larger message.
const BUFFER_BYTES: usize = 64 << 10;
/// A transaction of a thousand Services is some megabytes; what does not fit counts as a change.
const RECEIVED_BYTES_MAX: usize = 1 << 20;
/// A transaction makes thousands of messages: they are one notice, and a program that goes on changing things costs little.
const GATHERED: Duration = Duration::from_secs(1);

/// Raises its number after changes of this table, until the last receiver is dropped.
pub fn notices(table: &str) -> std::io::Result<watch::Receiver<u64>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let file = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
    setsockopt(&file, sockopt::RcvBuf, &RECEIVED_BYTES_MAX)?;
    bind(file.as_raw_fd(), &NetlinkAddr::new(0, GROUP))?;
    // SAFETY: the descriptor is owned by what is registered, and lives as long.
    let file = unsafe { AsyncFd::register(file)? };
    let (sender, receiver) = watch::channel(0);
    let table = table.to_owned();
    tokio::spawn(async move {
        while !sender.is_closed() {
            let is_changed = tokio::select! {
                read = next(&file, &table) => read,
                () = sender.closed() => return,
            };
            match is_changed {
                Ok(false) => {}
                Ok(true) => {
                    tokio::time::sleep(GATHERED).await;
                    sender.send_modify(|number| *number += 1);
                }
                Err(error) => {
                    tracing::warn!(%error, "changes of the packet filter are not noticed any more");
                    return;
                }
            }
        }
    });
    Ok(receiver)
}

/// Waits for messages and reads all that are there: whether one is about the table.
async fn next(file: &AsyncFd<OwnedFd>, table: &str) -> std::io::Result<bool> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut ready = file.readable().await?;
    let mut is_changed = false;
    loop {
        match recv(file.get_ref().as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => is_changed |= is_about(&buffer[..length], table),
            // More happened than fits.
            Err(Errno::ENOBUFS) => is_changed = true,
            Err(Errno::EAGAIN) => {
                ready.clear_ready();
                return Ok(is_changed);
            }
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether a message of these is about the table.
fn is_about(mut messages: &[u8], table: &str) -> bool {
    while let Some((message, rest)) =
        split(messages, |m| Some(u32::from_ne_bytes(m.get(..4)?.try_into().ok()?) as usize))
    {
        let is_nftables = message.get(5) == Some(&SUBSYSTEM_NFTABLES);
        let attributes = message.get(HEADER_BYTES + GENERAL_BYTES..).unwrap_or_default();
        if is_nftables && table_of(attributes) == Some(table.as_bytes()) {
            return true;
        }
        messages = rest;
    }
    false
}

fn table_of(mut attributes: &[u8]) -> Option<&[u8]> {
    let length = |a: &[u8]| Some(u16::from_ne_bytes(a.get(..2)?.try_into().ok()?).into());
    while let Some((attribute, rest)) = split(attributes, length) {
        let kind = u16::from_ne_bytes(attribute.get(2..4)?.try_into().ok()?);
        if kind == ATTRIBUTE_TABLE {
            return attribute.get(4..)?.split(|byte| *byte == 0).next();
        }
        attributes = rest;
    }
    None
}

/// The first of what is in a row, each with its length in front and padded to four bytes.
fn split(bytes: &[u8], length: impl Fn(&[u8]) -> Option<usize>) -> Option<(&[u8], &[u8])> {
    let length = length(bytes).filter(|length| *length >= 4)?;
    let first = bytes.get(..length)?;
    Some((first, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(subsystem: u8, table: &str) -> Vec<u8> {
        let mut attribute = u16::try_from(4 + table.len() + 1).unwrap().to_ne_bytes().to_vec();
        attribute.extend(ATTRIBUTE_TABLE.to_ne_bytes());
        attribute.extend(table.bytes().chain([0]));
        attribute.resize(attribute.len().next_multiple_of(4), 0);
        let mut message = u32::try_from(HEADER_BYTES + GENERAL_BYTES + attribute.len()).unwrap().to_ne_bytes().to_vec();
        message.extend([0, subsystem]);
        message.resize(HEADER_BYTES + GENERAL_BYTES, 0);
        message.extend(attribute);
        message
    }

    #[test]
    fn messages_of_one_table() {
        let all = [message(10, "other"), message(1, "skiff"), message(10, "skiff2")].concat();
        assert!(!is_about(&all, "skiff"));
        assert!(is_about(&[all.clone(), message(10, "skiff")].concat(), "skiff"));
        for length in 0..all.len() {
            is_about(&all[..length], "skiff");
        }
        assert!(!is_about(&[0; 64], "skiff") && !is_about(&[255; 64], "skiff"));
    }
}
