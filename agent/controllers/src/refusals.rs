//! What the API says to the pods of one owner (a quota, a policy, an account that is missing). It is the owner's own trouble:
//! it is tried again later and later, and holds up no other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kube::Resource;
use skiff_reconcile::{BoxError, Next};
use tokio::time::Instant;

/// By the UIDs of owners.
#[derive(Debug, Default)]
pub struct Refusals(HashMap<String, Refusal>);

#[derive(Debug)]
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

impl Refusals {
    /// How long an owner has still to wait.
    pub fn wait(&self, owner: &str) -> Option<Duration> {
        self.0.get(owner)?.left()
    }

    /// Takes what came of an owner: after a refusal, when to try again.
    pub fn note(&mut self, owner: &str, done: Result<Next, BoxError>) -> Result<Next, BoxError> {
        match done {
            Ok(next) => {
                self.0.remove(owner);
                Ok(next)
            }
            Err(error) if is_refusal(&error) => {
                let refusal = Refusal::after(self.0.get(owner), error.to_string());
                let delay = refusal.delay;
                self.0.insert(owner.to_owned(), refusal);
                Ok(Next::After(delay))
            }
            Err(error) => Err(error),
        }
    }

    /// Forgets owners that are gone.
    pub fn retain<K: Resource>(&mut self, owners: &[Arc<K>]) {
        self.0.retain(|uid, _| owners.iter().any(|owner| owner.meta().uid.as_ref() == Some(uid)));
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use kube::core::Status;

    use super::*;

    const DELAY_MIN: Duration = Refusal::DELAY_MIN;
    const DELAY_MAX: Duration = Refusal::DELAY_MAX;

    fn refused(code: StatusCode) -> Result<Next, BoxError> {
        Err(kube::Error::Api(Box::new(Status { code: code.as_u16(), ..Status::default() })).into())
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_wait_longer_and_longer() {
        let mut refusals = Refusals::default();
        let mut delays = Vec::new();
        for _ in 0..12 {
            match refusals.note("a", refused(StatusCode::FORBIDDEN)) {
                Ok(Next::After(delay)) => delays.push(delay),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((delays[0], delays[1], delays[11]), (DELAY_MIN, DELAY_MIN * 2, DELAY_MAX));
        assert_eq!((refusals.wait("a"), refusals.wait("b")), (Some(DELAY_MAX), None));
        tokio::time::sleep(DELAY_MAX).await;
        assert_eq!(refusals.wait("a"), None);
        assert!(refusals.note("a", refused(StatusCode::TOO_MANY_REQUESTS)).is_err(), "whoever answered is at fault");
        assert!(matches!(refusals.note("a", Ok(Next::Change)), Ok(Next::Change)));
        assert!(matches!(refusals.note("a", refused(StatusCode::FORBIDDEN)), Ok(Next::After(DELAY_MIN))));
    }
}
