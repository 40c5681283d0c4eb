//! What a controller did that its cache does not show yet, so that a late cache makes it neither create nor delete twice.
//! In memory: a restart begins with a fresh cache.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use skiff_reconcile::Next;
use tokio::time::Instant;

/// What we made that the cache never showed was deleted before we saw it.
pub const UNSEEN_TIME_MAX: Duration = Duration::from_secs(30);

/// All by uid.
#[derive(Debug, Default)]
pub struct Expectations {
    /// By owner.
    created: HashMap<String, Vec<(String, Instant)>>,
    deleted: HashMap<String, Instant>,
}

impl Expectations {
    pub fn created(&mut self, owner: &str, uid: String) {
        self.created.entry(owner.to_owned()).or_default().push((uid, Instant::now()));
    }

    pub fn deleted(&mut self, uid: String) {
        self.deleted.insert(uid, Instant::now());
    }

    /// Forgets what a snapshot shows; `seen` are the uids of all that is in it. A plan is to be made of the same snapshot:
    /// in a later one, something would be counted twice.
    pub fn observe(&mut self, seen: &HashSet<&str>) {
        let fresh = |at: &Instant| at.elapsed() < UNSEEN_TIME_MAX;
        self.created.retain(|_, created| {
            created.retain(|(uid, at)| fresh(at) && !seen.contains(uid.as_str()));
            !created.is_empty()
        });
        self.deleted.retain(|uid, at| fresh(at) && seen.contains(uid.as_str()));
    }

    /// How many of an owner's are still to be seen.
    pub fn unseen(&self, owner: &str) -> usize {
        self.created.get(owner).map_or(0, Vec::len)
    }

    /// Whether this one of an owner's is still to be seen.
    pub fn is_unseen(&self, owner: &str, uid: &str) -> bool {
        self.created.get(owner).is_some_and(|created| created.iter().any(|(made, _)| made == uid))
    }

    /// When what was not seen is given up, where nothing else wakes the controller before.
    pub fn next(&self) -> Next {
        let all = self.created.values().flatten().map(|(_, at)| at).chain(self.deleted.values());
        all.min().map_or(Next::Change, |oldest| Next::After(UNSEEN_TIME_MAX.saturating_sub(oldest.elapsed())))
    }

    /// What is seen and on its way out.
    pub fn leaving(&self) -> HashSet<&str> {
        self.deleted.keys().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_done_counts_until_it_is_seen() {
        let mut expectations = Expectations::default();
        expectations.created("set", "a".to_owned());
        expectations.created("set", "b".to_owned());
        expectations.deleted("c".to_owned());
        expectations.observe(&HashSet::from(["c"]));
        assert_eq!((expectations.unseen("set"), expectations.leaving()), (2, HashSet::from(["c"])));
        expectations.observe(&HashSet::from(["a"]));
        assert_eq!((expectations.unseen("set"), expectations.leaving().len()), (1, 0));
        assert!(expectations.is_unseen("set", "b") && !expectations.is_unseen("set", "a"));
        assert!(matches!(expectations.next(), Next::After(UNSEEN_TIME_MAX)));
        tokio::time::sleep(UNSEEN_TIME_MAX).await;
        expectations.observe(&HashSet::new());
        assert!(matches!(expectations.next(), Next::Change));
        assert_eq!(expectations.unseen("set"), 0);
    }
}
