//! Between us and a CA: the nth connection, which is the nth request, is never answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

pub(crate) struct Interposed {
    pub(crate) address: SocketAddr,
    /// Requests that are let through; those after it hang.
    pub(crate) left: Arc<AtomicUsize>,
    pub(crate) hangs: Arc<Notify>,
    _task: AbortOnDropHandle<()>,
}

impl Interposed {
    pub(crate) async fn start(ca: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (left, hangs) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(Notify::new()));
        let (counted, notified) = (Arc::clone(&left), Arc::clone(&hangs));
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut ours, _)) = listener.accept().await {
                let next = counted.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
                if next.is_err() {
                    notified.notify_one();
                    held.push(ours);
                    continue;
                }
                tokio::spawn(async move {
                    let mut theirs = TcpStream::connect(ca).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut ours, &mut theirs).await;
                });
            }
        }));
        Self { address, left, hangs, _task: task }
    }
}
