//! Which pod a container or sandbox belongs to, and which ones ended according to the runtime's events. The runtime's
//! own state follows an event by a moment, so that an end is remembered until it shows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::observe::{Observed, State};

/// An end that has not shown by then never will: the container was removed.
const REMEMBERED: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Shared {
    /// Container or sandbox → pod.
    owners: HashMap<String, String>,
    ended: HashMap<String, Instant>,
}

#[derive(Clone, Debug, Default)]
pub struct Exits {
    shared: Arc<Mutex<Shared>>,
}

impl Exits {
    /// Notes whose these are.
    pub fn register(&self, uid: &str, observed: &Observed) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.owners.retain(|_, owner| owner != uid);
        let sandboxes = observed.sandboxes.iter().filter(|sandbox| sandbox.ready).map(|sandbox| &sandbox.id);
        let ids = observed.running().map(|container| &container.id).chain(sandboxes);
        for id in ids {
            shared.owners.insert(id.clone(), uid.to_owned());
        }
        let done = observed.containers.iter().filter(|container| container.state != State::Running).map(|c| &c.id);
        let done: Vec<String> =
            done.chain(observed.sandboxes.iter().filter(|s| !s.ready).map(|s| &s.id)).cloned().collect();
        for id in done {
            shared.ended.remove(&id);
        }
    }

    pub fn forget(&self, uid: &str) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.owners.retain(|_, owner| owner != uid);
    }

    /// Notes an end; answers the pod it concerns.
    pub fn ended(&self, id: &str) -> Option<String> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.ended.retain(|_, when| when.elapsed() < REMEMBERED);
        shared.ended.insert(id.to_owned(), Instant::now());
        shared.owners.get(id).cloned()
    }

    /// Whether the runtime still shows something as running that has ended.
    pub fn lagging(&self, observed: &Observed) -> bool {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |id: &String| shared.ended.get(id).is_some_and(|when| when.elapsed() < REMEMBERED);
        observed.running().any(|container| fresh(&container.id))
            || observed.sandboxes.iter().any(|sandbox| sandbox.ready && fresh(&sandbox.id))
    }
}
