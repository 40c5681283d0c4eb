//! What was written into a namespace, as the answers said it, and whether a watcher was told just that, in its order.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Added,
    Modified,
    Deleted,
}

/// What a watcher was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub revision: u64,
    pub name: String,
    pub change: Change,
}

/// An acknowledged write. Of a deletion the answer does not say the revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    Object(Event),
    Deletion(String),
}

#[derive(Default)]
pub struct Ledger {
    written: Mutex<Vec<Written>>,
}

impl Ledger {
    pub fn note(&self, written: Written) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).push(written);
    }

    pub fn written(&self) -> Vec<Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether an object is one that a client of this load made.
pub fn is_ours(name: &str) -> bool {
    name.starts_with("of-")
}

/// The first difference between what was written and what a watcher was told from before the first write on. No name is
/// used twice.
pub fn compare(written: &[Written], log: &[Event]) -> Option<String> {
    if let Some(pair) = log.windows(2).find(|pair| pair[0].revision >= pair[1].revision) {
        return Some(format!("out of order: {:?} before {:?}", pair[0], pair[1]));
    }
    let mut expected: Vec<&Event> = written.iter().filter_map(Written::object).collect();
    expected.sort_by_key(|event| event.revision);
    let mut told = log.iter().filter(|event| event.change != Change::Deleted);
    for event in expected {
        let found = told.next();
        if found != Some(event) {
            return Some(format!("{event:?} was written, but {found:?} told"));
        }
    }
    if let Some(event) = told.next() {
        return Some(format!("{event:?} was told, but never written"));
    }
    deletions(written, log)
}

/// Each once, and after all else of its object.
fn deletions(written: &[Written], log: &[Event]) -> Option<String> {
    let mut expected: Vec<&str> = written.iter().filter_map(Written::deleted).collect();
    let mut told: Vec<&str> = log.iter().filter(|event| event.change == Change::Deleted).map(|e| &*e.name).collect();
    expected.sort_unstable();
    told.sort_unstable();
    if expected != told {
        return Some(format!("{} deletions were written, but {} told", expected.len(), told.len()));
    }
    let last: BTreeMap<&str, Change> = log.iter().map(|event| (&*event.name, event.change)).collect();
    let early = expected.into_iter().find(|name| last[name] != Change::Deleted)?;
    Some(format!("{early} was told of after its deletion"))
}

/// What is there after all that, and since when.
pub fn left(written: &[Written]) -> BTreeMap<String, u64> {
    let mut left = BTreeMap::new();
    for event in written.iter().filter_map(Written::object) {
        let revision = left.entry(event.name.clone()).or_insert(event.revision);
        *revision = event.revision.max(*revision);
    }
    for name in written.iter().filter_map(Written::deleted) {
        left.remove(name);
    }
    left
}

impl Written {
    fn object(&self) -> Option<&Event> {
        match self {
            Self::Object(event) => Some(event),
            Self::Deletion(_) => None,
        }
    }

    fn deleted(&self) -> Option<&str> {
        match self {
            Self::Object(_) => None,
            Self::Deletion(name) => Some(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(revision: u64, name: &str, change: Change) -> Event {
        Event { revision, name: name.to_owned(), change }
    }

    /// Another client's write is acknowledged out of order.
    fn written() -> Vec<Written> {
        let object = |revision, name, change| Written::Object(event(revision, name, change));
        vec![
            object(1, "a", Change::Added),
            object(4, "b", Change::Added),
            object(3, "a", Change::Modified),
            Written::Deletion("a".to_owned()),
        ]
    }

    fn log() -> Vec<Event> {
        vec![
            event(1, "a", Change::Added),
            event(3, "a", Change::Modified),
            event(4, "b", Change::Added),
            event(6, "a", Change::Deleted),
        ]
    }

    #[test]
    fn an_exact_log_has_no_fault() {
        assert_eq!(compare(&written(), &log()), None);
        assert_eq!(left(&written()), BTreeMap::from([("b".to_owned(), 4)]));
    }

    #[test]
    fn each_kind_of_fault_is_found() {
        for index in 0..4 {
            let mut lost = log();
            lost.remove(index);
            assert!(compare(&written(), &lost).is_some(), "lost {index}");
            let mut doubled = log();
            doubled.insert(index, doubled[index].clone());
            assert!(compare(&written(), &doubled).is_some(), "doubled {index}");
        }
        for index in 0..3 {
            let mut swapped = log();
            swapped.swap(index, index + 1);
            assert!(compare(&written(), &swapped).is_some(), "swapped {index}");
        }
        let mut early = log();
        early[3].revision = 2;
        early.sort_by_key(|event| event.revision);
        assert!(compare(&written(), &early).is_some(), "deleted before its change");
        let mut more = log();
        more.push(event(7, "c", Change::Added));
        assert!(compare(&written(), &more).is_some(), "never written");
    }
}
