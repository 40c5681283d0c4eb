//! What keeps clients that only hold on to connections from keeping others out: a bound for each address, and a deadline for
//! the first bytes.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Open connections, watches included. A box has some dozens; more is a leak or an attack.
const CONNECTIONS_MAX: usize = 1000;
/// Of these from one address (of one network in IPv6): nobody alone locks everybody out. This machine's own have no bound
/// but the whole: pods reach the API from their own addresses.
const CONNECTIONS_OF_ADDRESS_MAX: usize = 200;
/// After the handshake the first bytes of a request come at once; whoever connects in advance connects again.
pub const FIRST_BYTES_TIME_MAX: Duration = Duration::from_secs(15);

/// By these the protocol is told: as many as HTTP/2's preface has.
const FIRST_BYTES: usize = 24;

/// Who has how many connections.
#[derive(Clone, Default)]
pub struct Connections {
    by_peer: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection; it is counted until this is dropped.
pub struct Connected {
    connections: Connections,
    peer: IpAddr,
}

impl Connections {
    /// The error is the bound that is reached.
    pub fn admit(&self, address: IpAddr) -> Result<Connected, usize> {
        let peer = peer(address);
        let mut by_peer = self.by_peer.lock().unwrap_or_else(PoisonError::into_inner);
        if by_peer.values().sum::<usize>() >= CONNECTIONS_MAX {
            return Err(CONNECTIONS_MAX);
        }
        let count = by_peer.entry(peer).or_default();
        if *count >= CONNECTIONS_OF_ADDRESS_MAX && !peer.is_loopback() {
            return Err(CONNECTIONS_OF_ADDRESS_MAX);
        }
        *count += 1;
        Ok(Connected { connections: self.clone(), peer })
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut by_peer = self.connections.by_peer.lock().unwrap_or_else(PoisonError::into_inner);
        if let std::collections::hash_map::Entry::Occupied(mut count) = by_peer.entry(self.peer) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// What counts as one peer: one machine has all addresses of a /64 in IPv6.
fn peer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) if v6.is_loopback() => v6.into(),
        IpAddr::V6(v6) => std::net::Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

/// A stream whose first bytes have to come within a time: hyper's own bounds begin with them.
pub struct FirstBytes<T> {
    inner: T,
    /// How many of them have not come.
    missing: usize,
    deadline: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl<T> FirstBytes<T> {
    pub fn within(time: Duration, inner: T) -> Self {
        Self { inner, missing: FIRST_BYTES, deadline: Some(Box::pin(tokio::time::sleep(time))) }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for FirstBytes<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.missing = self.missing.saturating_sub(buffer.filled().len() - before);
        if self.missing == 0 {
            self.deadline = None;
        }
        match (&mut self.deadline, read) {
            (Some(deadline), Poll::Pending) => {
                std::task::ready!(deadline.as_mut().poll(cx));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was sent")))
            }
            (Some(_) | None, read) => read,
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for FirstBytes<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn one_address_does_not_lock_out_the_others() {
        let connections = Connections::default();
        let mut held = Vec::new();
        let refused = loop {
            match connections.admit([192, 168, 0, 7].into()) {
                Ok(connected) => held.push(connected),
                Err(max) => break max,
            }
        };
        assert_eq!((refused, held.len()), (CONNECTIONS_OF_ADDRESS_MAX, CONNECTIONS_OF_ADDRESS_MAX));
        let mapped = "::ffff:192.168.0.7".parse().expect("an address");
        assert!(connections.admit(mapped).is_err(), "the same machine");
        assert!(connections.admit([192, 168, 0, 8].into()).is_ok());
        held.truncate(3);
        assert!(connections.admit([192, 168, 0, 7].into()).is_ok());
        drop(held);
        assert!(connections.by_peer.lock().expect("no panic").is_empty());
        let six = |text: &str| connections.admit(text.parse().expect("an address"));
        let held: Vec<_> = (0..CONNECTIONS_OF_ADDRESS_MAX)
            .map(|n| six(&format!("2001:db8::{n:x}")).unwrap_or_else(|max| panic!("{max}")))
            .collect();
        assert!(six("2001:db8::ffff").is_err() && six("2001:db8:0:1::1").is_ok());
        drop(held);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_sends_nothing_is_let_go() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut silent = FirstBytes::within(FIRST_BYTES_TIME_MAX, server);
        let error = silent.read_u8().await.expect_err("nothing came");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let (mut other, server) = tokio::io::duplex(64);
        let mut slow = FirstBytes::within(FIRST_BYTES_TIME_MAX, server);
        other.write_all(&[7; FIRST_BYTES]).await.expect("written");
        slow.read_exact(&mut [0; FIRST_BYTES]).await.expect("read");
        let later = tokio::time::timeout(FIRST_BYTES_TIME_MAX * 10, slow.read_u8()).await;
        assert!(later.is_err(), "what comes later has other bounds");
        let (mut half, server) = tokio::io::duplex(64);
        let mut stuck = FirstBytes::within(FIRST_BYTES_TIME_MAX, server);
        half.write_all(b"PRI * HTTP").await.expect("written");
        let error = stuck.read_exact(&mut [0; FIRST_BYTES]).await.expect_err("the rest did not come");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        client.shutdown().await.expect("closed");
    }
}
