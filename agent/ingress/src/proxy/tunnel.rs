//! Upgraded connections (WebSocket and others): bytes both ways, until either side ends or nothing moves for too long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::balance::Active;
use super::io::Moving;
use super::upstream::Lease;

const CHECK_INTERVAL: Duration = Duration::from_secs(15);

pub struct Tunnel {
    pub client: OnUpgrade,
    pub backend: OnUpgrade,
    pub lease: Lease,
    pub active: Active,
    pub idle: Duration,
}

pub fn start(tunnel: Tunnel) {
    tokio::spawn(async move {
        let Tunnel { client, backend, lease, active, idle } = tunnel;
        lease.detach();
        let _active = active;
        let Ok((client, backend)) = tokio::try_join!(client, backend) else { return };
        let moved = Arc::new(AtomicBool::new(true));
        let mut client = Moving { stream: TokioIo::new(client), moved: Arc::clone(&moved) };
        let mut backend = Moving { stream: TokioIo::new(backend), moved: Arc::clone(&moved) };
        tokio::select! {
            biased;
            _ = copy_bidirectional(&mut client, &mut backend) => {}
            () = still(&moved, idle) => tracing::debug!("an upgraded connection was idle for too long"),
        }
    });
}

/// Ready when nothing has moved for the limit, give or take the interval of looking.
async fn still(moved: &AtomicBool, limit: Duration) {
    let mut since = Instant::now();
    while since.elapsed() < limit {
        tokio::time::sleep(CHECK_INTERVAL.min(limit)).await;
        if moved.swap(false, Ordering::Relaxed) {
            since = Instant::now();
        }
    }
}
