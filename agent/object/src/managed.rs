//! Who owns which field of an object: `metadata.managedFields`, and server-side apply.
//!
//! Each writer owns what it changed, an applier what it applied. Pure: the caller says what the objects are and when it is.
//! A change takes fields from other writers; an applier is told of a conflict unless it forces its own.

mod last_applied;
mod set;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

pub use set::{FieldSet, SetError};
use walk::{Comparison, Shape};

use crate::Kind;
use crate::custom::Schema;
use crate::meta;

/// As upstream: the oldest changes beyond this become one entry, whoever made them.
const UPDATERS_MAX: usize = 10;
/// A list or map of which one writer changed more items than this is its own as a whole: what is said of each would be
/// longer than the item. An applier's items are always its own one by one.
const PARTS_MAX: usize = 1000;
/// Of what a client sends: each write reads them all.
const ENTRIES_MAX: usize = 128;
const TEXT_MAX: usize = 256;
const ANCIENT: &str = "ancient-changes";
/// Who owns what was there before anybody applied.
const BEFORE: &str = "before-first-apply";
/// What belongs to nobody: it says which object it is, or the server writes it.
const NOBODYS: &[&[&str]] = &[
    &["apiVersion"],
    &["kind"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "generateName"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

/// How a manager came to its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

/// Who writes what of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manager {
    pub operation: Operation,
    pub name: String,
    /// An applier is the same in every version.
    pub api_version: String,
    /// Empty for the object itself.
    pub subresource: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// An applier's, which is no part of who it is.
    api_version: String,
    /// Empty where nobody said it.
    time: String,
    fields: FieldSet,
}

/// All of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Managers {
    entries: BTreeMap<Manager, Entry>,
}

/// A field that another owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    pub manager: Manager,
    pub path: String,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ManagedError {
    #[error("metadata.managedFields[{0}].fieldsV1: {1}")]
    Fields(usize, SetError),
    #[error("metadata.managedFields[{0}].operation: must be \"Apply\" or \"Update\"")]
    Operation(usize),
    #[error("metadata.managedFields: there may be {ENTRIES_MAX} entries, with managers and subresources of 256 bytes")]
    TooMuch,
    #[error("{0}: the applied object has this item twice")]
    Duplicate(String),
}

/// What a write is of, beside the object.
#[derive(Debug, Clone, Copy)]
pub struct Writing<'a> {
    pub kind: &'a Kind,
    /// Of every other version in which fields are elsewhere and an owner wrote.
    pub views: &'a [View],
    pub manager: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Paths that this way of writing does not reach.
    pub untouched: &'a [&'a [&'a str]],
    /// RFC 3339, in seconds.
    pub now: &'a str,
}

/// A write as it is in another version of the kind: who wrote in that version owns what is there.
#[derive(Debug, Clone)]
pub struct View {
    pub kind: Arc<Kind>,
    pub old: Value,
    pub new: Value,
}

/// What comes of an application.
#[derive(Debug)]
pub enum Applied {
    Object(Value, Managers),
    Conflicts(Vec<Conflict>),
}

impl Managers {
    pub fn read(object: &Value) -> Result<Self, ManagedError> {
        let mut entries = BTreeMap::new();
        let all = meta::items(meta::field(object, "managedFields"));
        let is_long =
            |entry: &Value| ["manager", "subresource"].iter().any(|f| meta::text_at(entry, &[f]).len() > TEXT_MAX);
        if all.len() > ENTRIES_MAX || all.iter().any(is_long) {
            return Err(ManagedError::TooMuch);
        }
        for (index, entry) in all.iter().enumerate() {
            let text = |field: &str| meta::text_at(entry, &[field]).to_owned();
            let operation = match text("operation").as_str() {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return Err(ManagedError::Operation(index)),
            };
            let fields = FieldSet::read(entry.get("fieldsV1").unwrap_or(&json!({})));
            let fields = fields.map_err(|error| ManagedError::Fields(index, error))?;
            let manager = manager(operation, &text("manager"), &text("apiVersion"), &text("subresource"));
            entries.insert(manager, Entry { api_version: text("apiVersion"), time: text("time"), fields });
        }
        Ok(Self { entries })
    }

    /// Whether nobody owns anything. Who owns nothing is not written either.
    pub fn is_empty(&self) -> bool {
        self.entries.values().all(|entry| entry.fields.is_empty())
    }

    /// In which they wrote.
    pub fn versions(&self) -> BTreeSet<&str> {
        self.entries.values().map(|entry| &*entry.api_version).collect()
    }

    /// Puts them into an object.
    pub fn write(&self, object: &mut Value) {
        let mut all: Vec<_> = self.entries.iter().filter(|(_, entry)| !entry.fields.is_empty()).collect();
        if all.is_empty() {
            return meta::unset(object, "managedFields");
        }
        all.sort_by(|(a, x), (b, y)| (a.operation, &x.time, a).cmp(&(b.operation, &y.time, b)));
        let all = all.into_iter().map(|(manager, entry)| {
            let mut value = json!({
                "manager": manager.name,
                "operation": manager.operation.as_str(),
                "apiVersion": entry.api_version,
                "fieldsType": "FieldsV1",
                "fieldsV1": entry.fields.to_json(),
            });
            if !entry.time.is_empty() {
                value["time"] = entry.time.clone().into();
            }
            if !manager.subresource.is_empty() {
                value["subresource"] = manager.subresource.clone().into();
            }
            value
        });
        meta::set(object, "managedFields", Value::Array(all.collect()));
    }

    /// Others lose what was changed, and everybody what is gone.
    fn lose(&mut self, but: &Manager, comparisons: &Comparisons) {
        for (_, entry) in self.entries.iter_mut().filter(|(manager, _)| *manager != but) {
            let comparison = comparisons.of(entry);
            entry.fields = entry.fields.difference(&comparison.changed()).difference(&comparison.removed);
        }
        self.entries.retain(|manager, entry| manager == but || !entry.fields.is_empty());
    }

    fn conflicts(&self, with: &Manager, comparisons: &Comparisons) -> Vec<Conflict> {
        let others = self.entries.iter().filter(|(manager, _)| *manager != with);
        let of = |(manager, entry): (&Manager, &Entry)| {
            let paths = entry.fields.intersection(&comparisons.of(entry).changed()).paths();
            paths.into_iter().map(|path| Conflict { manager: manager.clone(), path }).collect::<Vec<_>>()
        };
        others.flat_map(of).collect()
    }

    /// `changed`: whether this write changed a value, or only who owns it.
    fn set(&mut self, manager: Manager, writing: &Writing<'_>, fields: FieldSet, changed: bool) {
        let api_version = writing.kind.api_version();
        match self.entries.get_mut(&manager) {
            Some(entry) if !changed && entry.fields == fields && entry.api_version == api_version => {}
            _ if fields.is_empty() => drop(self.entries.remove(&manager)),
            _ => drop(self.entries.insert(manager, Entry { api_version, time: writing.now.to_owned(), fields })),
        }
    }

    /// Joins the oldest changes where there are too many.
    fn cap(&mut self) {
        let mut updaters: Vec<(String, Manager)> = self
            .entries
            .iter()
            .filter(|(manager, _)| manager.operation == Operation::Update)
            .map(|(manager, entry)| (entry.time.clone(), manager.clone()))
            .collect();
        if updaters.len() <= UPDATERS_MAX {
            return;
        }
        updaters.sort();
        let surplus = updaters.len() - UPDATERS_MAX + 1;
        for (_, old) in updaters.into_iter().take(surplus) {
            let Some(entry) = self.entries.remove(&old) else { continue };
            let ancient = Manager { name: ANCIENT.to_owned(), subresource: String::new(), ..old };
            let joined =
                self.entries.entry(ancient).or_insert_with(|| Entry { fields: FieldSet::default(), ..entry.clone() });
            joined.fields = std::mem::take(&mut joined.fields).union(&entry.fields);
            joined.time = joined.time.clone().max(entry.time);
        }
    }
}

impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.name)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        match self.operation {
            Operation::Apply => Ok(()),
            Operation::Update => write!(f, " using {}", self.api_version),
        }
    }
}

impl Operation {
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

fn manager(operation: Operation, name: &str, api_version: &str, subresource: &str) -> Manager {
    let api_version = match operation {
        Operation::Apply => String::new(),
        Operation::Update => api_version.to_owned(),
    };
    Manager { operation, name: name.to_owned(), api_version, subresource: subresource.to_owned() }
}

fn schema_of(kind: &Kind) -> Option<Arc<Schema>> {
    kind.custom.as_ref().map(|custom| custom.schema())
}

/// What a write changed: in its own version, and in those where fields are elsewhere.
struct Comparisons {
    own: Comparison,
    elsewhere: BTreeMap<String, Comparison>,
}

impl Comparisons {
    fn of(&self, entry: &Entry) -> &Comparison {
        self.elsewhere.get(&entry.api_version).unwrap_or(&self.own)
    }
}

impl Writing<'_> {
    fn manager(&self, operation: Operation) -> Manager {
        manager(operation, self.manager, &self.kind.api_version(), self.subresource)
    }

    /// What this write cannot own.
    fn ignored(&self) -> FieldSet {
        let paths = NOBODYS.iter().chain(self.untouched);
        paths.fold(FieldSet::default(), |all, path| all.union(&FieldSet::of_fields(path)))
    }

    fn compare(&self, shape: Shape<'_>, old: &Value, new: &Value) -> Comparison {
        let all = walk::compare(shape, old, new);
        let ignored = self.ignored();
        let [added, modified, removed] = [all.added, all.modified, all.removed].map(|set| set.without(&ignored));
        Comparison { added, modified, removed }
    }

    fn compare_all(&self, shape: Shape<'_>, old: &Value, new: &Value) -> Comparisons {
        let in_view = |view: &View| {
            let schema = schema_of(&view.kind);
            let shape = Shape::of_kind(&view.kind, schema.as_deref());
            (view.kind.api_version(), self.compare(shape, &view.old, &view.new))
        };
        let elsewhere = self.views.iter().map(in_view).collect();
        Comparisons { own: self.compare(shape, old, new), elsewhere }
    }
}

/// The managers of `new`, which was written over `old` (`None`: it is new). An object of which nobody owns anything, from
/// before there were managers, stays so until somebody applies.
pub fn update(writing: &Writing<'_>, managers: Managers, old: Option<&Value>, new: &Value) -> Managers {
    if managers.is_empty() && old.is_some() {
        return managers;
    }
    let schema = schema_of(writing.kind);
    let shape = Shape::of_kind(writing.kind, schema.as_deref());
    let comparisons = writing.compare_all(shape, old.unwrap_or(&json!({})), new);
    changed(writing, managers, &comparisons)
}

fn changed(writing: &Writing<'_>, mut managers: Managers, comparisons: &Comparisons) -> Managers {
    let comparison = &comparisons.own;
    if comparison.is_same() {
        return managers;
    }
    let manager = writing.manager(Operation::Update);
    managers.lose(&manager, comparisons);
    let own = managers.entries.get(&manager).map(|entry| entry.fields.clone()).unwrap_or_default();
    let own = own.difference(&comparison.removed).union(&comparison.changed());
    managers.set(manager, writing, own.condensed(PARTS_MAX), true);
    managers.cap();
    managers
}

/// Applies `config` to `live` (`None`: there is none): its fields are set, those that its manager applied before and does
/// not any more are removed unless somebody else owns them, and all others stay.
pub fn apply(
    writing: &Writing<'_>,
    live: Option<&Value>,
    config: &Value,
    force: bool,
) -> Result<Applied, ManagedError> {
    let schema = schema_of(writing.kind);
    let (shape, manager) = (Shape::of_kind(writing.kind, schema.as_deref()), writing.manager(Operation::Apply));
    if let Some(path) = walk::duplicate(shape, config) {
        return Err(ManagedError::Duplicate(path));
    }
    let nothing = json!({});
    let live = live.unwrap_or(&nothing);
    let mut managers = Managers::read(live)?;
    if managers.is_empty() && live.get("metadata").is_some() {
        let before = Writing { manager: BEFORE, subresource: "", untouched: &[], views: &[], ..*writing };
        let comparisons = before.compare_all(shape, &nothing, live);
        managers = changed(&before, managers, &comparisons);
    }
    let last = managers.entries.get(&manager).map(|entry| entry.fields.clone()).unwrap_or_default();
    let own = walk::fields(shape, config).without(&writing.ignored());
    let merged = walk::merge(shape, live, config);
    let mut next = managers.clone();
    next.set(manager.clone(), writing, own.clone(), false);
    // What is applied as an empty struct is there also where all that was in it is given up.
    let mut object = walk::merge(shape, &pruned(shape, merged, &last, &next), config);
    meta::unset(&mut object, "managedFields");
    let comparisons = writing.compare_all(shape, live, &object);
    let conflicts = if force { Vec::new() } else { managers.conflicts(&manager, &comparisons) };
    if !conflicts.is_empty() {
        let of_old_way = last_applied::allowed(writing, shape, live).paths();
        if conflicts.iter().any(|conflict| !of_old_way.contains(&conflict.path)) {
            return Ok(Applied::Conflicts(conflicts));
        }
    }
    next.lose(&manager, &comparisons);
    next.set(manager, writing, own, !comparisons.own.is_same());
    if next.entries.len() + UPDATERS_MAX > ENTRIES_MAX {
        return Err(ManagedError::TooMuch);
    }
    last_applied::refresh(writing, config, &mut object);
    Ok(Applied::Object(object, next))
}

/// Why a part of an object cannot be merged into it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MergeError {
    #[error("the configuration has this item twice: {0}")]
    Duplicate(String),
    #[error("may not mutate atomic arrays, maps or structs: {0}")]
    Whole(String),
}

/// An object with a part of one merged into it as an application does, whoever owns what. What is owned as a whole cannot be
/// in it: what it leaves out would be lost.
pub fn merged(kind: &Kind, live: &Value, part: &Value) -> Result<Value, MergeError> {
    let schema = schema_of(kind);
    let shape = Shape::of_kind(kind, schema.as_deref());
    if let Some(path) = walk::duplicate(shape, part) {
        return Err(MergeError::Duplicate(path));
    }
    match walk::whole(shape, part) {
        Some(path) => Err(MergeError::Whole(path)),
        None => Ok(walk::merge(shape, live, part)),
    }
}

/// Without what the applier had and gave up, as far as nobody else has it.
fn pruned(shape: Shape<'_>, merged: Value, last: &FieldSet, managers: &Managers) -> Value {
    if last.is_empty() {
        return merged;
    }
    let named = |set: &FieldSet| walk::with_named(shape, set);
    // What is emptied on the way still counts as there: only who is left at the end decides.
    let remaining = |set: &FieldSet| named(&walk::fields(shape, &walk::remove(shape, &merged, set)));
    let of_merged = named(&walk::fields(shape, &merged));
    // What is nobody's, such as the name, is never given up: not with the last label of its applier either.
    let nobodys = NOBODYS.iter().fold(FieldSet::default(), |all, path| all.union(&FieldSet::of_fields(path)));
    let owned = managers.entries.values().fold(nobodys, |all, entry| all.union(&entry.fields));
    let without_last = remaining(&named(last));
    let with_owned = remaining(&of_merged.difference(&without_last.union(&named(&owned))));
    // What only fell because its surroundings did stays.
    let given_up = of_merged.difference(&with_owned).intersection(&named(last));
    walk::without_emptied(walk::remove(shape, &merged, &given_up), &merged)
}

#[cfg(test)]
mod tests;
