//! Which quotas are to be counted now. Pure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec};
use kube::ResourceExt;
use skiff_reconcile::Next;
use tokio::time::Instant;

/// How often each is counted, whatever is known of it; upstream's number. An idle box reads then, and writes nothing.
const RECOUNT: Duration = Duration::from_secs(300);

/// When a quota that is new or has changed is counted again: an object that was being written when it came did not know of
/// it, and no write takes as long as this.
const SETTLE: Duration = Duration::from_secs(10);

/// A count that was right.
pub struct Counted {
    spec: Option<ResourceQuotaSpec>,
    at: Instant,
    /// Whether it was counted before.
    settled: bool,
}

impl Counted {
    pub fn new(quota: &ResourceQuota, at: Instant, before: Option<&Counted>) -> Self {
        let settled = before.is_some_and(|before| before.spec == quota.spec);
        Self { spec: quota.spec.clone(), at, settled }
    }

    /// How long it holds.
    pub fn holds(&self) -> Duration {
        if self.settled { RECOUNT } else { SETTLE }
    }
}

/// Quotas that are new, have changed, say too little or were not counted for long; and when the next one is due.
pub fn due<'a>(
    quotas: &'a [Arc<ResourceQuota>],
    counted: &mut HashMap<String, Counted>,
    now: Instant,
) -> (Vec<&'a ResourceQuota>, Next) {
    counted.retain(|uid, _| quotas.iter().any(|quota| quota.metadata.uid.as_ref() == Some(uid)));
    let (mut due, mut next) = (Vec::new(), Next::Change);
    for quota in quotas {
        let known = counted.get(&quota.uid().unwrap_or_default());
        let known = known.filter(|counted| counted.spec == quota.spec && is_complete(quota));
        match known.and_then(|counted| counted.holds().checked_sub(now.duration_since(counted.at))) {
            Some(left) if !left.is_zero() => next = next.sooner(Next::After(left)),
            Some(_) | None => due.push(&**quota),
        }
    }
    (due, next)
}

/// Whether the status says of each limit what is used of it.
fn is_complete(quota: &ResourceQuota) -> bool {
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    let used = quota.status.as_ref().and_then(|status| status.used.as_ref());
    let hard = hard.into_iter().flatten();
    hard.map(|(name, _)| name).all(|name| used.is_some_and(|used| used.contains_key(name)))
}
