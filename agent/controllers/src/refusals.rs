//! What the API says to the objects that a controller makes for one owner, and when it is tried again. It is the owner's
//! own trouble, and holds up no other.

use std::time::Duration;

use skiff_reconcile::BoxError;
use tokio::time::Instant;

pub struct Refusal {
    pub why: String,
    since: Instant,
    pub delay: Duration,
}

impl Refusal {
    pub const DELAY_MIN: Duration = Duration::from_millis(100);
    pub const DELAY_MAX: Duration = Duration::from_secs(30);

    pub fn after(last: Option<&Self>, why: String) -> Self {
        let delay = last.map_or(Self::DELAY_MIN, |last| (last.delay * 2).min(Self::DELAY_MAX));
        Self { why, since: Instant::now(), delay }
    }

    /// Until it is tried again.
    pub fn left(&self) -> Option<Duration> {
        self.delay.checked_sub(self.since.elapsed()).filter(|left| !left.is_zero())
    }
}

/// Whether the request was at fault, and not whoever answered.
pub fn is_refusal(error: &BoxError) -> bool {
    let Some(kube::Error::Api(status)) = error.downcast_ref() else { return false };
    (400..500).contains(&status.code) && status.code != 429
}
