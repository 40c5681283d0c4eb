//! Custom resources as they are served: follows the definitions, makes the catalogue of them, writes what their statuses
//! say, and empties those that are to go. What a definition means is `skiff_object::custom`'s.
//!
//! Every API server does all of it; what another wrote already is not written again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use skiff_object::custom::{definition, names};
use skiff_object::kinds::{self, Kind};
use skiff_object::meta;
use skiff_store::{Entry, ListOptions, Revision, Store, Watch};

use crate::prepare::{self, DeleteOptions};
use crate::status::ApiError;
use crate::strategy::Part;
use crate::write::{Author, Operation, Write};
use crate::{Api, codec, discovery, usage};

/// Objects that hold a definition are looked at again so often.
const EMPTIED_AGAIN: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_secs(1);

/// What was made of the definitions when they were read last, by their names. Nothing is read twice.
#[derive(Default)]
pub struct Definitions {
    known: HashMap<String, Known>,
    /// Some are gone whose kinds are still served.
    went: bool,
}

struct Known {
    modified: Revision,
    /// Without the schemas, which are most of it.
    head: Value,
    served: Option<Served>,
}

/// The kinds of a definition, and what they were made of.
struct Served {
    of: Value,
    kinds: Vec<Arc<Kind>>,
}

fn definitions() -> &'static Arc<Kind> {
    kinds::by_kind("apiextensions.k8s.io/v1", definition::KIND).expect("a built-in kind")
}

impl<S: Store + Clone> Api<S> {
    /// Until the shutdown. What fails is tried again: what is served must not stay behind what is written.
    pub(crate) async fn follow_definitions(self, mut known: Definitions) {
        while !self.shutdown().is_cancelled() {
            if let Err(error) = self.follow_definitions_once(&mut known).await {
                tracing::warn!(%error, "custom resource definitions could not be followed, will retry");
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = self.shutdown().cancelled() => {}
                }
            }
        }
    }

    async fn follow_definitions_once(&self, known: &mut Definitions) -> Result<(), ApiError> {
        let failed = |error| ApiError::from_store(error, definitions(), "");
        let from = self.store().revision();
        let mut watch = self.store().watch(&definitions().key_prefix(None), from).await.map_err(failed)?;
        loop {
            let decided = self.serve_definitions(known).await?;
            for decision in &decided {
                self.write_status(known, decision).await?;
            }
            let held = self.empty_definitions(known).await?;
            tokio::select! {
                changed = watch.next() => drop(changed.map_err(failed)?),
                () = tokio::time::sleep(EMPTIED_AGAIN), if held => {}
                () = self.shutdown().cancelled() => return Ok(()),
            }
        }
    }
}

impl<S: Store> Api<S> {
    /// Reads what changed, and serves what is accepted.
    pub(crate) async fn serve_definitions(&self, known: &mut Definitions) -> Result<Vec<names::Decision>, ApiError> {
        let entries = self.entries_of(definitions(), None).await?;
        known.read(&entries);
        let heads: Vec<Value> = known.known.values().map(|known| known.head.clone()).collect();
        let decided = names::decide(&heads, kinds::built_in(), &prepare::now());
        if known.make(&entries, &decided) {
            let mut served: Vec<&Arc<Kind>> = known.known.values().flat_map(Known::kinds).collect();
            // Versions of a group stand in the order of their first kind: those of one definition are in theirs already.
            served.sort_by(|a, b| (&a.group, &a.plural).cmp(&(&b.group, &b.plural)));
            self.serve_kinds(kinds::built_in().with(served.into_iter().map(Arc::clone)));
        }
        Ok(decided)
    }

    /// The kinds of a group and version with the definitions that make them.
    pub(crate) async fn described(&self, group: &str, version: &str) -> Result<Vec<(Arc<Kind>, Value)>, ApiError> {
        let catalogue = self.catalogue();
        let mut described = Vec::new();
        for kind in catalogue.kinds().filter(|kind| kind.group == group && kind.version == version) {
            if discovery::is_computed(kind) {
                described.push((Arc::clone(kind), usage::definition(kind)));
                continue;
            }
            let name = format!("{}.{group}", kind.plural);
            if let Some(definition) = self.read(definitions(), None, &name).await? {
                described.push((Arc::clone(kind), definition));
            }
        }
        Ok(described)
    }

    async fn write_status(&self, known: &Definitions, decision: &names::Decision) -> Result<(), ApiError> {
        let found = known.known.get(&decision.name);
        if found.is_some_and(|known| known.head.get("status") == Some(&decision.status)) {
            return Ok(());
        }
        let change = |old: &Value| {
            let mut new = old.clone();
            new["status"] = decision.status.clone();
            Ok(new)
        };
        let operation = Operation::Update { name: &decision.name, part: Part::Status, change: &change };
        let author = Author { subresource: "status".to_owned(), ..Author::own() };
        match self.write(Write { author: &author, kind: definitions(), namespace: None, operation }).await {
            // It went meanwhile, which is seen at the next look.
            Err(error) if error.code == http::StatusCode::NOT_FOUND => Ok(()),
            written => written.map(drop),
        }
    }

    /// Deletes the objects of definitions that are to go, and lets go of those that have none. Whether any is held.
    async fn empty_definitions(&self, known: &Definitions) -> Result<bool, ApiError> {
        let mut is_held = false;
        for (name, known) in &known.known {
            let is_waiting = meta::finalizers(&known.head).any(|finalizer| finalizer == names::FINALIZER);
            if meta::deletion_timestamp(&known.head).is_none() || !is_waiting {
                continue;
            }
            let left = match known.kinds().first() {
                Some(kind) => self.delete_all(kind).await?,
                None => 0,
            };
            if left > 0 {
                is_held = true;
            } else {
                self.let_go(name).await?;
            }
        }
        Ok(is_held)
    }

    /// How many are left, held by finalizers.
    async fn delete_all(&self, kind: &Kind) -> Result<usize, ApiError> {
        let (author, options) = (Author::own(), DeleteOptions::default());
        let failed = |error| ApiError::from_store(error, kind, "");
        for entry in &self.entries_of(kind, None).await? {
            let object = codec::decode(entry);
            if meta::deletion_timestamp(&object).is_some() {
                continue;
            }
            let operation = Operation::Delete { name: meta::name(&object), options: &options };
            let write = Write { author: &author, kind, namespace: meta::namespace(&object), operation };
            match self.write(write).await {
                Err(error) if error.code != http::StatusCode::NOT_FOUND => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        let options = ListOptions { limit: Some(1), ..ListOptions::default() };
        let left = self.store().list(&kind.key_prefix(None), options).await.map_err(failed)?;
        Ok(left.entries.len())
    }

    async fn let_go(&self, name: &str) -> Result<(), ApiError> {
        let change = |old: &Value| {
            let mut new = old.clone();
            let others: Vec<&str> = meta::finalizers(old).filter(|finalizer| *finalizer != names::FINALIZER).collect();
            meta::set(&mut new, "finalizers", json!(others));
            Ok(new)
        };
        let operation = Operation::Update { name, part: Part::Main, change: &change };
        let author = Author::own();
        match self.write(Write { author: &author, kind: definitions(), namespace: None, operation }).await {
            Err(error) if error.code == http::StatusCode::NOT_FOUND => Ok(()),
            written => written.map(drop),
        }
    }
}

impl Known {
    fn kinds(&self) -> &[Arc<Kind>] {
        self.served.as_ref().map(|served| served.kinds.as_slice()).unwrap_or_default()
    }
}

impl Definitions {
    fn read(&mut self, entries: &[Entry]) {
        let there: HashSet<&str> = entries.iter().map(name_of).collect();
        let before = self.known.len();
        self.known.retain(|name, _| there.contains(name.as_str()));
        self.went |= self.known.len() < before;
        for entry in entries {
            let known = self.known.get(name_of(entry));
            if known.is_some_and(|known| known.modified == entry.modified) {
                continue;
            }
            let head = head(codec::decode(entry));
            let served = self.known.remove(name_of(entry)).and_then(|known| known.served);
            self.known.insert(name_of(entry).to_owned(), Known { modified: entry.modified, head, served });
        }
    }

    /// Makes the kinds of those that became others; whether there are others now.
    fn make(&mut self, entries: &[Entry], decided: &[names::Decision]) -> bool {
        let mut is_another = std::mem::take(&mut self.went);
        let entries: HashMap<&str, &Entry> = entries.iter().map(|entry| (name_of(entry), entry)).collect();
        for decision in decided {
            let (Some(known), Some(entry)) = (self.known.get_mut(&decision.name), entries.get(decision.name.as_str()))
            else {
                continue;
            };
            let is_going = meta::deletion_timestamp(&known.head).is_some();
            let (uid, generation) = (meta::uid(&known.head), meta::generation(&known.head));
            let of = json!([uid, generation, decision.accepted(), decision.is_served, is_going]);
            if known.served.as_ref().is_some_and(|served| served.of == of) {
                continue;
            }
            let made = || definition::kinds(&codec::decode(entry), decision.accepted()).into_iter().map(Arc::new);
            let kinds = if decision.is_served { made().collect() } else { Vec::new() };
            known.served = Some(Served { of, kinds });
            is_another = true;
        }
        is_another
    }
}

fn name_of(entry: &Entry) -> &str {
    entry.key.rsplit('/').next().unwrap_or_default()
}

fn head(mut definition: Value) -> Value {
    let versions = definition.pointer_mut("/spec/versions").and_then(Value::as_array_mut);
    for version in versions.into_iter().flatten().filter_map(Value::as_object_mut) {
        version.remove("schema");
    }
    meta::unset(&mut definition, "managedFields");
    meta::unset(&mut definition, "annotations");
    definition
}
