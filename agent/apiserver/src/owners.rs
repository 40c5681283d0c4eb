//! Who owns which field after a write: what [`skiff_object::managed`] needs to know of it, and when it is.

use std::sync::Arc;

use serde_json::Value;
use skiff_object::kinds::{Kind, Nature};
use skiff_object::managed::{self, Applied, ManagedError, Managers, View, Writing};
use skiff_object::meta;
use skiff_store::Store;

use crate::status::ApiError;
use crate::strategy::Part;
use crate::write::{Operation, Write};
use crate::{Api, prepare};

/// What a write of an object with a status does not reach, and what one of the status does not: as upstream.
const STATUS: &[&[&str]] = &[&["status"]];
const ALL_BUT_STATUS: &[&[&str]] =
    &[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "finalizers"], &["metadata", "ownerReferences"]];

fn writing<'a>(write: &'a Write<'_>, part: Part, views: &'a [View], now: &'a str) -> Writing<'a> {
    let author = write.author;
    let untouched = match part {
        Part::Main if write.kind.status => STATUS,
        Part::Status => ALL_BUT_STATUS,
        Part::Main | Part::Finalize | Part::EphemeralContainers | Part::Binding | Part::Approval => &[],
    };
    Writing { kind: write.kind, views, manager: &author.manager, subresource: &author.subresource, untouched, now }
}

/// The object that comes of an application, and its owners.
pub async fn apply<S: Store>(
    api: &Api<S>,
    write: &Write<'_>,
    part: Part,
    live: Option<&Value>,
    config: &Value,
    force: bool,
) -> Result<(Value, Option<Managers>), ApiError> {
    let now = prepare::now();
    let wrong = |error: ManagedError| ApiError::bad_request(error.to_string());
    let mut views = Vec::new();
    if let Some(old) = live {
        let elsewhere = api.elsewhere(write.kind, &Managers::read(old).map_err(wrong)?);
        // What comes of it is the same whoever owns what.
        if !elsewhere.is_empty()
            && let Applied::Object(new, _) =
                managed::apply(&writing(write, part, &[], &now), live, config, true).map_err(wrong)?
        {
            views = api.views(write.kind, elsewhere, old, &new).await?;
        }
    }
    match managed::apply(&writing(write, part, &views, &now), live, config, force).map_err(wrong)? {
        Applied::Object(object, managers) => Ok((object, Some(managers))),
        Applied::Conflicts(conflicts) => Err(ApiError::apply_conflict(&conflicts)),
    }
}

/// Those that a client sends with an object, who may have changed them: with the whole object only, as who owns the spec
/// says what an application removes of it. As upstream, one empty entry makes it nobody's, and what cannot be read was not
/// sent.
pub fn given(write: &Write<'_>, part: Part, new: &Value) -> Option<Managers> {
    if part != Part::Main || !write.author.subresource.is_empty() {
        return None;
    }
    match meta::items(meta::field(new, "managedFields")) {
        [] => None,
        [Value::Object(entry)] if entry.is_empty() => Some(Managers::default()),
        _ => Managers::read(new).ok(),
    }
}

/// Puts the owners into the new object: those of an application, else its author owns what is another. Of what lives in
/// memory alone (events, leases) nobody asks whose it is, and there is much of it: unless it was applied, nobody's.
pub async fn record<S: Store>(
    api: &Api<S>,
    write: &Write<'_>,
    part: Part,
    managers: Option<Managers>,
    old: Option<&Value>,
    new: &mut Value,
) {
    if write.kind.nature == Nature::Volatile && managers.is_none() {
        return copy_of(old, new);
    }
    let now = prepare::now();
    let managers = match (&write.operation, managers) {
        (Operation::Apply { .. }, Some(applied)) => applied,
        (_, given) => {
            let known = given.or_else(|| old.and_then(|old| Managers::read(old).ok())).unwrap_or_default();
            let views = match (old, api.elsewhere(write.kind, &known)) {
                (Some(old), elsewhere) if !elsewhere.is_empty() => seen(api, write, elsewhere, old, new).await,
                _ => Vec::new(),
            };
            managed::update(&writing(write, part, &views, &now), known, old, new)
        }
    };
    managers.write(new);
}

/// A webhook that cannot be asked holds nobody's write: who wrote in another version keeps what he has.
async fn seen<S: Store>(
    api: &Api<S>,
    write: &Write<'_>,
    elsewhere: Vec<Arc<Kind>>,
    old: &Value,
    new: &Value,
) -> Vec<View> {
    let nothing = |kind: &Arc<Kind>| View { kind: Arc::clone(kind), old: Value::Null, new: Value::Null };
    let unknown = elsewhere.iter().map(nothing).collect();
    api.views(write.kind, elsewhere, old, new).await.unwrap_or(unknown)
}

fn copy_of(old: Option<&Value>, new: &mut Value) {
    match old.and_then(|old| meta::field(old, "managedFields")) {
        Some(fields) => meta::set(new, "managedFields", fields.clone()),
        None => meta::unset(new, "managedFields"),
    }
}
