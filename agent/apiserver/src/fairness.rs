//! Who is served when many ask: requests worked on at once, in all and of one caller, and those whose bodies are large, which
//! run apart. What streams gives its place back with the first byte.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::status::ApiError;
use crate::users::User;

/// Requests worked on at once, watches and streams aside; as upstream, more are asked to come back.
const REQUESTS_MAX: usize = 400;
/// Of one caller, so that none keeps all others out. Who administers the box is not counted.
const REQUESTS_OF_ONE_MAX: usize = 100;
/// A body from this size on costs so much time that other requests would wait for it.
pub const LARGE_BYTES: usize = 64 * 1024;
/// Large bodies worked on at once: each may take a processor for a second, and a hundred times its size of memory.
const LARGE_MAX: usize = 2;
/// Large bodies of one caller, those that wait included.
const LARGE_OF_ONE_MAX: usize = 4;

#[derive(Default)]
struct Flow {
    requests: usize,
    large: usize,
}

pub struct Fairness {
    places: Arc<Semaphore>,
    large: Arc<Semaphore>,
    flows: Arc<Mutex<HashMap<String, Flow>>>,
}

/// A place among the requests, until it is dropped.
pub struct Place {
    _counted: Counted,
    _permit: OwnedSemaphorePermit,
}

/// That a caller has a request, or waits with one: also who goes away while it waits is counted no longer.
struct Counted {
    flows: Arc<Mutex<HashMap<String, Flow>>>,
    caller: String,
    is_large: bool,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(flow) = flows.get_mut(&self.caller) else { return };
        *flow.count(self.is_large) -= 1;
        if flow.requests + flow.large == 0 {
            flows.remove(&self.caller);
        }
    }
}

impl Flow {
    fn count(&mut self, is_large: bool) -> &mut usize {
        if is_large { &mut self.large } else { &mut self.requests }
    }
}

impl Default for Fairness {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(REQUESTS_MAX)),
            large: Arc::new(Semaphore::new(LARGE_MAX)),
            flows: Arc::default(),
        }
    }
}

impl Fairness {
    /// A place for a request, at once or not at all.
    pub fn place(&self, user: &User) -> Result<Place, ApiError> {
        let counted = self.enter(user, false)?;
        let permit = Arc::clone(&self.places).try_acquire_owned();
        permit.map(|permit| Place { _counted: counted, _permit: permit }).map_err(|_| ApiError::too_many_requests())
    }

    /// A place for a request with a large body: one of a few, for which others of its kind may have to be waited.
    pub async fn large_place(&self, user: &User) -> Result<Place, ApiError> {
        let counted = self.enter(user, true)?;
        let permit = Arc::clone(&self.large).acquire_owned().await;
        permit.map(|permit| Place { _counted: counted, _permit: permit }).map_err(|_| ApiError::too_many_requests())
    }

    fn enter(&self, user: &User, is_large: bool) -> Result<Counted, ApiError> {
        let max = if is_large { LARGE_OF_ONE_MAX } else { REQUESTS_OF_ONE_MAX };
        let mut flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        let count = flows.entry(user.name.clone()).or_default().count(is_large);
        if *count >= max && !user.is_master() {
            return Err(ApiError::too_many_requests());
        }
        *count += 1;
        Ok(Counted { flows: Arc::clone(&self.flows), caller: user.name.clone(), is_large })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Identity;

    fn user(name: &str) -> User {
        User { name: name.to_owned(), ..User::anonymous() }
    }

    #[tokio::test]
    async fn one_caller_leaves_places_to_others() {
        let fairness = Fairness::default();
        let (greedy, other) = (user("greedy"), user("other"));
        let mut held: Vec<Place> =
            (0..REQUESTS_OF_ONE_MAX).map(|_| fairness.place(&greedy).expect("a place")).collect();
        assert_eq!(fairness.place(&greedy).err().map(|error| error.code.as_u16()), Some(429));
        held.push(fairness.place(&other).expect("others have theirs"));
        let admin = User::of(&Identity::Administrator);
        held.extend((0..REQUESTS_MAX - held.len()).map(|_| fairness.place(&admin).expect("a place")));
        assert!(fairness.place(&user("third")).is_err(), "all are taken");
        drop(held);
        assert!(fairness.place(&greedy).is_ok());
        assert!(fairness.flows.lock().expect("a lock").is_empty(), "who is gone leaves nothing");
    }

    #[tokio::test]
    async fn large_bodies_wait_for_each_other() {
        let fairness = Fairness::default();
        let one = user("one");
        let first: Vec<Place> = futures::future::try_join_all((0..LARGE_MAX).map(|_| fairness.large_place(&one)))
            .await
            .map_err(|_| ())
            .expect("places");
        // Who gives up while it waits is gone.
        let waits = tokio::time::timeout(Duration::from_millis(20), fairness.large_place(&user("two"))).await;
        assert!(waits.is_err());
        assert!(!fairness.flows.lock().expect("a lock").contains_key("two"));
        assert!(fairness.place(&one).is_ok(), "others pass");
        let two = user("two");
        let (next, ()) = tokio::join!(fairness.large_place(&two), async { drop(first) });
        assert!(next.is_ok());
    }
}
