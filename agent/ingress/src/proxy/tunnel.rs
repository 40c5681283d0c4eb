//! Upgraded connections (WebSocket and others): bytes both ways, until either side ends or nothing moves for too long.

use std::sync::Arc;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio_util::sync::CancellationToken;

use super::balance::Active;
use super::io::{Activity, Moving};
use super::upstream::Lease;

const CHECK_INTERVAL: Duration = Duration::from_secs(15);

pub struct Tunnel {
    pub client: OnUpgrade,
    pub backend: OnUpgrade,
    pub lease: Lease,
    pub active: Active,
    pub idle: Duration,
    /// Ends tunnels that outlive a proxy that is to end.
    pub end: CancellationToken,
}

pub fn start(tunnel: Tunnel) {
    tokio::spawn(async move {
        let Tunnel { client, backend, lease, active, idle, end } = tunnel;
        lease.detach();
        let _active = active;
        let Ok((client, backend)) = tokio::try_join!(client, backend) else { return };
        let activity = Activity::new();
        let mut client = Moving { stream: TokioIo::new(client), activity: Arc::clone(&activity) };
        let mut backend = Moving { stream: TokioIo::new(backend), activity: Arc::clone(&activity) };
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut backend) => {}
            () = still(&activity, idle) => tracing::debug!("an upgraded connection was idle for too long"),
            () = end.cancelled() => {}
        }
    });
}

async fn still(activity: &Activity, limit: Duration) {
    while u64::from(activity.still_seconds()) < limit.as_secs().max(1) {
        tokio::time::sleep(CHECK_INTERVAL.min(limit)).await;
    }
}
