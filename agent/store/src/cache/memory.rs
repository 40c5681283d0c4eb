//! The objects and the recent changes. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::HistoryMax;
use crate::{Change, Entry, Error, ListOptions, Page, Revision};

/// Of which it is known what was dropped.
const GROUPS_MAX: usize = 4096;

pub(super) struct Memory {
    entries: BTreeMap<Arc<str>, Entry>,
    /// The newest changes, oldest first.
    history: VecDeque<Change>,
    history_bytes: usize,
    history_max: HistoryMax,
    /// Some changes up to this revision are no longer in `history`: of what, and of which revision the last, is in `dropped`.
    compacted: Revision,
    dropped: HashMap<Box<str>, Revision>,
    /// Nothing is known of changes up to this revision.
    floor: Revision,
    revision: Revision,
    values_bytes: usize,
}

impl Memory {
    pub(super) fn new(entries: Vec<Entry>, revision: Revision, history_max: HistoryMax) -> Self {
        let values_bytes = entries.iter().map(|e| e.value.len()).sum();
        let entries = entries.into_iter().map(|e| (Arc::clone(&e.key), e)).collect();
        Self {
            entries,
            history: VecDeque::new(),
            history_bytes: 0,
            history_max,
            compacted: revision,
            dropped: HashMap::new(),
            floor: revision,
            revision,
            values_bytes,
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<Entry> {
        self.entries.get(key).cloned()
    }

    pub(super) fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.values_bytes)
    }

    #[cfg(test)]
    pub(super) fn history_size(&self) -> (usize, usize) {
        (self.history.len(), self.history_bytes)
    }

    /// Applies committed changes, in order of revision.
    pub(super) fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.revision = change.revision();
            match &change {
                Change::Put { entry, previous } => {
                    self.values_bytes += entry.value.len();
                    self.values_bytes -= previous.as_ref().map_or(0, |e| e.value.len());
                    self.entries.insert(Arc::clone(&entry.key), entry.clone());
                }
                Change::Deleted { previous, .. } => {
                    self.values_bytes -= previous.value.len();
                    self.entries.remove(&previous.key);
                }
            }
            self.history_bytes += held(&change);
            self.history.push_back(change);
        }
        let HistoryMax { count, bytes } = self.history_max;
        while self.history.len() > count || self.history_bytes > bytes {
            let Some(dropped) = self.history.pop_front() else { break };
            self.history_bytes -= held(&dropped);
            self.compacted = dropped.revision();
            self.forget(dropped.key());
        }
    }

    /// Nothing before `revision` can be asked for any more.
    pub(super) fn end_era(&mut self, revision: Revision) {
        self.history.clear();
        self.history_bytes = 0;
        self.revision = revision;
        self.compacted = revision;
        self.dropped.clear();
        self.floor = revision;
    }

    /// A change of this key is no longer in the history.
    fn forget(&mut self, key: &str) {
        let group = group(key);
        if let Some(last) = self.dropped.get_mut(group) {
            *last = self.compacted;
        } else if self.dropped.len() < GROUPS_MAX {
            self.dropped.insert(group.into(), self.compacted);
        } else {
            self.dropped.clear();
            self.floor = self.compacted;
        }
    }

    /// Whether changes under a prefix after a revision may be missing: those of others do not count, however many there were.
    fn is_expired(&self, prefix: &str, wanted: Revision) -> bool {
        let was_dropped = || self.dropped.iter().any(|(group, last)| *last > wanted && is_below(group, prefix));
        wanted < self.floor || wanted < self.compacted && was_dropped()
    }

    pub(super) fn check_revision(&self, prefix: &str, wanted: Revision) -> Result<(), Error> {
        if self.is_expired(prefix, wanted) {
            return Err(Error::Expired { wanted, oldest: self.compacted });
        }
        if wanted > self.revision {
            return Err(Error::Future { wanted, newest: self.revision });
        }
        Ok(())
    }

    /// Changes under `prefix` after `seen`, at most `max`, and the revision up to which they are complete.
    pub(super) fn changes(&self, prefix: &str, seen: Revision, max: usize) -> Result<(Vec<Change>, Revision), Error> {
        if self.is_expired(prefix, seen) {
            return Err(Error::Expired { wanted: seen, oldest: self.compacted });
        }
        let first = self.history.partition_point(|change| change.revision() <= seen);
        let mut found = Vec::new();
        for change in self.history.range(first..).filter(|change| change.key().starts_with(prefix)) {
            found.push(change.clone());
            if found.len() == max {
                return Ok((found, change.revision()));
            }
        }
        Ok((found, self.revision))
    }

    pub(super) fn list(&self, prefix: &str, options: &ListOptions) -> Result<Page, Error> {
        let revision = options.at.unwrap_or(self.revision);
        self.check_revision(prefix, revision)?;
        if revision == self.revision {
            return Ok(page(range(&self.entries, prefix, options), revision, options.limit));
        }
        let past = self.past(prefix, revision);
        Ok(page(range(&past, prefix, options), revision, options.limit))
    }

    /// The entries under `prefix` as they were at `revision`: the newer changes undone, newest first.
    fn past(&self, prefix: &str, revision: Revision) -> BTreeMap<Arc<str>, Entry> {
        let mut entries: BTreeMap<_, _> =
            range(&self.entries, prefix, &ListOptions::default()).map(|e| (Arc::clone(&e.key), e.clone())).collect();
        let newer = self.history.iter().rev().take_while(|change| change.revision() > revision);
        for change in newer.filter(|change| change.key().starts_with(prefix)) {
            match change {
                Change::Put { entry, previous: None } => {
                    entries.remove(&entry.key);
                }
                Change::Put { previous: Some(previous), .. } | Change::Deleted { previous, .. } => {
                    entries.insert(Arc::clone(&previous.key), previous.clone());
                }
            }
        }
        entries
    }
}

/// The objects that a change counts among: those of a kind, or of a kind in a namespace.
pub(super) fn group(key: &str) -> &str {
    let ends = key.char_indices().filter(|(_, c)| *c == '/').map(|(at, _)| at + 1);
    let end = ends.take(4).last().unwrap_or(0);
    &key[..end]
}

/// Whether a group has what is below a prefix.
pub(super) fn is_below(group: &str, prefix: &str) -> bool {
    group.starts_with(prefix) || prefix.starts_with(group)
}

/// What a change keeps in memory beside the entries: the value it replaced. Its own is an entry's, or the next change's.
fn held(change: &Change) -> usize {
    match change {
        Change::Put { previous, .. } => previous.as_ref().map_or(0, |entry| entry.value.len()),
        Change::Deleted { previous, .. } => previous.value.len(),
    }
}

fn range<'a>(
    entries: &'a BTreeMap<Arc<str>, Entry>,
    prefix: &'a str,
    options: &'a ListOptions,
) -> impl Iterator<Item = &'a Entry> {
    let start = match options.after.as_deref() {
        Some(after) if after >= prefix => Bound::Excluded(after),
        Some(_) | None => Bound::Included(prefix),
    };
    entries.range::<str, _>((start, Bound::Unbounded)).map(|(_, e)| e).take_while(move |e| e.key.starts_with(prefix))
}

fn page<'a>(mut entries: impl Iterator<Item = &'a Entry>, revision: Revision, limit: Option<usize>) -> Page {
    let taken = entries.by_ref().take(limit.unwrap_or(usize::MAX)).cloned().collect();
    Page { entries: taken, revision, remaining: entries.count() }
}
