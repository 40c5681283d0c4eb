//! Which names a definition gets, and what its status says: the pure plan over all definitions there are.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::definition;
use crate::kinds::Catalogue;
use crate::meta;

/// What holds a definition until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// What a definition is to become.
#[derive(Debug)]
pub struct Decision {
    pub name: String,
    pub status: Value,
    /// Not before its names are its own.
    pub is_served: bool,
}

impl Decision {
    /// The names under which it is served.
    pub fn accepted(&self) -> &Value {
        &self.status["acceptedNames"]
    }
}

/// One use of a name within a group: `plural` and the name.
type Used<'a> = BTreeMap<(&'a str, &'static str, String), &'a str>;

/// The names that may not be there twice in a group: resources with each other, and kinds with each other.
fn uses(names: &Value) -> Vec<(&'static str, &'static str, String)> {
    let text = |field: &str| meta::text_at(names, &[field]).to_owned();
    let mut all = vec![("Plural", "resource", text("plural")), ("Singular", "resource", text("singular"))];
    let short = meta::items(names.get("shortNames")).iter().filter_map(Value::as_str);
    all.extend(short.map(|name| ("ShortNames", "resource", name.to_owned())));
    all.extend([("Kind", "kind", text("kind")), ("ListKind", "kind", text("listKind"))]);
    all.retain(|(_, _, name)| !name.is_empty());
    all
}

/// Decides about all definitions. Those that have their names keep them; of the others the elder comes first.
pub fn decide(definitions: &[Value], built_in: &Catalogue, now: &str) -> Vec<Decision> {
    let mut order: Vec<&Value> = definitions.iter().collect();
    order.sort_by_key(|crd| (meta::creation_timestamp(crd).map(str::to_owned), meta::name(crd).to_owned()));
    let mut used = Used::new();
    for crd in &order {
        let accepted = meta::at(crd, &["status", "acceptedNames"]).unwrap_or(&Value::Null);
        take(&mut used, crd, accepted);
    }
    order.into_iter().map(|crd| judge(crd, &mut used, built_in, now)).collect()
}

fn take<'a>(used: &mut Used<'a>, crd: &'a Value, names: &Value) {
    let group = meta::text_at(crd, &["spec", "group"]);
    for (_, class, name) in uses(names) {
        used.entry((group, class, name)).or_insert(meta::name(crd));
    }
}

fn judge<'a>(crd: &'a Value, used: &mut Used<'a>, built_in: &Catalogue, now: &str) -> Decision {
    let (group, name) = (meta::text_at(crd, &["spec", "group"]), meta::name(crd));
    let wanted = meta::at(crd, &["spec", "names"]).cloned().unwrap_or_default();
    let is_own = |class: &'static str, wanted: &str| {
        used.get(&(group, class, wanted.to_owned())).is_none_or(|owner| *owner == name)
    };
    let conflict = uses(&wanted).into_iter().find(|(_, class, text)| {
        let is_built_in = match *class {
            "kind" => built_in.kinds().any(|kind| kind.is(group, text)),
            _ => built_in.kinds().any(|kind| kind.group == group && kind.plural == *text),
        };
        is_built_in || !is_own(class, text)
    });
    let before = crd.get("status").cloned().unwrap_or_default();
    let mut status = Status { conditions: meta::items(before.get("conditions")).to_vec(), now };
    let accepted = match &conflict {
        None => {
            status.set("NamesAccepted", true, "NoConflicts", "no conflicts found");
            status.set("Established", true, "InitialNamesAccepted", "the initial names have been accepted");
            wanted
        }
        Some((what, _, text)) => {
            let message = format!("{text:?} is already in use");
            status.set("NamesAccepted", false, &format!("{what}Conflict"), &message);
            if !status.is_true("Established") {
                status.set("Established", false, "NotAccepted", "not all names are accepted");
            }
            before.get("acceptedNames").cloned().unwrap_or_else(|| json!({"kind": "", "plural": ""}))
        }
    };
    take(used, crd, &accepted);
    if meta::deletion_timestamp(crd).is_some() {
        status.set("Terminating", true, "InstanceDeletionInProgress", "CustomResource deletion is in progress");
    }
    let is_served = status.is_true("Established");
    let stored = stored_versions(crd, &before);
    let status = json!({"acceptedNames": accepted, "conditions": status.conditions, "storedVersions": stored});
    Decision { name: name.to_owned(), status, is_served }
}

/// Versions in whose form there may be objects: the one that is stored now comes to those that were.
fn stored_versions(crd: &Value, status: &Value) -> Vec<Value> {
    let mut stored = meta::items(status.get("storedVersions")).to_vec();
    if let Some(version) = definition::storage_version(crd).map(Value::from)
        && !stored.contains(&version)
    {
        stored.push(version);
    }
    stored
}

struct Status<'a> {
    conditions: Vec<Value>,
    now: &'a str,
}

impl Status<'_> {
    fn is_true(&self, ty: &str) -> bool {
        self.conditions.iter().any(|c| meta::text_at(c, &["type"]) == ty && meta::text_at(c, &["status"]) == "True")
    }

    fn set(&mut self, ty: &str, is_true: bool, reason: &str, message: &str) {
        let status = if is_true { "True" } else { "False" };
        let before = self.conditions.iter().position(|c| meta::text_at(c, &["type"]) == ty);
        let since = before.map(|at| &self.conditions[at]).filter(|c| meta::text_at(c, &["status"]) == status);
        let since = since.map_or(self.now, |c| meta::text_at(c, &["lastTransitionTime"])).to_owned();
        let condition = Value::Object(Map::from_iter([
            ("type".to_owned(), ty.into()),
            ("status".to_owned(), status.into()),
            ("reason".to_owned(), reason.into()),
            ("message".to_owned(), message.into()),
            ("lastTransitionTime".to_owned(), since.into()),
        ]));
        match before {
            Some(at) => self.conditions[at] = condition,
            None => self.conditions.push(condition),
        }
    }
}
