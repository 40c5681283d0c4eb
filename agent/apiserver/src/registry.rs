//! Objects in the store: read, insert, update with retries, delete by upstream's rules. Knows no HTTP.

use serde_json::{Value, json};
use skiff_object::kinds::{self, Kind};
use skiff_object::{convert, meta, validate};
use skiff_store::{Entry, Expect, Store};

use crate::status::ApiError;
use crate::strategy::{self, Part};
use crate::{Api, admission, codec, random, services};

/// Tries of an update that did not say which revision it is based on; each loses only to a writer that won.
const CONFLICT_RETRIES_MAX: usize = 16;

/// Whether a write happens or is only checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Store,
    DryRun,
}

/// How an object is to be deleted.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// What became of a deletion.
pub enum Deleted {
    /// The object is gone; this is what it was.
    Gone(Value),
    /// The object waits for its grace period or finalizers.
    Pending(Value),
}

/// The kind in whose form objects are stored.
pub fn storage_kind(kind: &'static Kind) -> &'static Kind {
    let stored = kind.storage_version.and_then(|gv| kinds::by_kind(gv, kind.kind));
    stored.unwrap_or(kind)
}

fn out(kind: &'static Kind, stored: Value) -> Value {
    let storage = storage_kind(kind);
    if std::ptr::eq(storage, kind) { stored } else { convert::convert(storage, kind, stored) }
}

fn into_stored(kind: &'static Kind, object: Value) -> Value {
    let storage = storage_kind(kind);
    if std::ptr::eq(storage, kind) { object } else { convert::convert(kind, storage, object) }
}

impl<S: Store> Api<S> {
    pub(crate) async fn entry(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Entry>, ApiError> {
        let entry = self.store().get(&kind.key(namespace, name)).await;
        entry.map_err(|e| ApiError::from_store(e, kind, name))
    }

    pub(crate) async fn read(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Value>, ApiError> {
        Ok(self.entry(kind, namespace, name).await?.map(|e| out(kind, codec::decode(&e))))
    }

    pub(crate) async fn require(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Value, ApiError> {
        self.read(kind, namespace, name).await?.ok_or_else(|| ApiError::not_found(kind, name))
    }

    pub(crate) async fn insert(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
        object: Value,
    ) -> Result<Value, ApiError> {
        self.create_object(kind, namespace, object, Effect::Store).await
    }

    /// Prepares, admits, validates and stores a new object.
    pub(crate) async fn create_object(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
        mut object: Value,
        effect: Effect,
    ) -> Result<Value, ApiError> {
        let generated = meta::name(&object).is_empty() && !meta::generate_name(&object).is_empty();
        strategy::prepare_create(kind, namespace, &mut object);
        self.admit_create(kind, namespace, &mut object).await?;
        let mut errors = validate::create(kind, &object);
        let _guard = if services::is_service(kind) {
            let guard = self.service_lock().lock().await;
            if errors.is_empty() {
                errors = self.allocate_service(&mut object).await?;
            }
            Some(guard)
        } else {
            None
        };
        if !errors.is_empty() {
            return Err(ApiError::invalid(kind, meta::name(&object), &errors));
        }
        for attempt in 0.. {
            match self.store_new(kind, namespace, &object, effect).await {
                Err(error) if generated && attempt < 8 && error.reason == "AlreadyExists" => {
                    meta::unset(&mut object, "name");
                    random::generate_name(&mut object);
                }
                result => return result,
            }
        }
        unreachable!("the loop ends with an answer")
    }

    async fn store_new(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
        object: &Value,
        effect: Effect,
    ) -> Result<Value, ApiError> {
        let name = meta::name(object);
        let key = kind.key(namespace, name);
        if effect == Effect::DryRun {
            return match self.entry(kind, namespace, name).await? {
                Some(_) => Err(ApiError::already_exists(kind, name)),
                None => Ok(object.clone()),
            };
        }
        let value = codec::encode(into_stored(kind, object.clone()));
        let entry = self.store().put(&key, value, Expect::Absent).await;
        let entry = entry.map_err(|e| ApiError::from_store(e, kind, name))?;
        let mut object = object.clone();
        meta::set(&mut object, "resourceVersion", entry.modified.to_string());
        Ok(object)
    }

    pub(crate) async fn replace(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
        name: &str,
        object: Value,
    ) -> Result<Value, ApiError> {
        self.update_object(kind, namespace, name, Part::Main, Effect::Store, |_| Ok(object.clone())).await
    }

    /// Applies `change` to the current object. Retries after a conflict unless the changed object names the revision
    /// it is based on. A change that changes nothing is not written.
    pub(crate) async fn update_object(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
        name: &str,
        part: Part,
        effect: Effect,
        change: impl Fn(&Value) -> Result<Value, ApiError>,
    ) -> Result<Value, ApiError> {
        let _guard = if services::is_service(kind) { Some(self.service_lock().lock().await) } else { None };
        for _ in 0..CONFLICT_RETRIES_MAX {
            let entry = self.entry(kind, namespace, name).await?.ok_or_else(|| ApiError::not_found(kind, name))?;
            let old = out(kind, codec::decode(&entry));
            let new = change(&old)?;
            check_identity(kind, namespace, name, &new, &old)?;
            let asked = meta::resource_version(&new).to_owned();
            if !asked.is_empty() && asked != meta::resource_version(&old) {
                return Err(ApiError::modified(kind, name));
            }
            let mut new = strategy::prepare_update(kind, part, new, &old);
            if part == Part::Main {
                admission::update(kind, &mut new, &old)?;
            }
            self.validate_update(kind, part, &mut new, &old).await?;
            meta::set(&mut new, "resourceVersion", meta::resource_version(&old).to_owned());
            if strategy::is_gone(kind, &new) && effect == Effect::Store {
                match self.remove(kind, name, &entry).await {
                    Err(skiff_store::Error::Conflict { .. }) => continue,
                    result => return result.map(|_| new).map_err(|e| ApiError::from_store(e, kind, name)),
                }
            }
            if new == old || effect == Effect::DryRun {
                return Ok(new);
            }
            let value = codec::encode(into_stored(kind, new.clone()));
            match self.store().put(&entry.key, value, Expect::At(entry.modified)).await {
                Ok(written) => {
                    meta::set(&mut new, "resourceVersion", written.modified.to_string());
                    return Ok(new);
                }
                Err(skiff_store::Error::Conflict { .. }) => {}
                Err(error) => return Err(ApiError::from_store(error, kind, name)),
            }
        }
        Err(ApiError::modified(kind, name))
    }

    async fn validate_update(
        &self,
        kind: &'static Kind,
        part: Part,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), ApiError> {
        let is_service = services::is_service(kind) && part == Part::Main;
        if is_service {
            services::keep(new, old);
        }
        let mut errors = match part {
            Part::Main => validate::update(kind, new, old),
            Part::Status => validate::status(kind, new, old),
            Part::Finalize | Part::Whole => Vec::new(),
        };
        if errors.is_empty() && is_service {
            errors = self.allocate_service(new).await?;
        }
        if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid(kind, meta::name(new), &errors)) }
    }

    pub(crate) async fn delete_object(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        for _ in 0..CONFLICT_RETRIES_MAX {
            let entry = self.entry(kind, namespace, name).await?.ok_or_else(|| ApiError::not_found(kind, name))?;
            let object = codec::decode(&entry);
            check_preconditions(kind, name, &object, options)?;
            let result = match plan_delete(kind, &object, options) {
                DeletePlan::Nothing => return Ok(Deleted::Pending(out(kind, object))),
                DeletePlan::Remove if options.dry_run => return Ok(Deleted::Gone(out(kind, object))),
                DeletePlan::Mark(marked) if options.dry_run => return Ok(Deleted::Pending(out(kind, *marked))),
                DeletePlan::Remove => self.remove(kind, name, &entry).await.map(|_| Deleted::Gone(out(kind, object))),
                DeletePlan::Mark(mut marked) => {
                    let written =
                        self.store().put(&entry.key, codec::encode((*marked).clone()), Expect::At(entry.modified));
                    written.await.map(|entry| {
                        meta::set(&mut marked, "resourceVersion", entry.modified.to_string());
                        Deleted::Pending(out(kind, *marked))
                    })
                }
            };
            match result {
                Err(skiff_store::Error::Conflict { .. }) => {}
                result => return result.map_err(|e| ApiError::from_store(e, kind, name)),
            }
        }
        Err(ApiError::modified(kind, name))
    }

    async fn remove(&self, kind: &Kind, name: &str, entry: &Entry) -> Result<(), skiff_store::Error> {
        self.store().delete(&entry.key, entry.modified).await?;
        tracing::debug!(kind = kind.kind, name, "object removed");
        Ok(())
    }
}

fn check_identity(kind: &Kind, namespace: Option<&str>, name: &str, new: &Value, old: &Value) -> Result<(), ApiError> {
    if meta::name(new) != name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({name})",
            meta::name(new)
        )));
    }
    if meta::namespace(new).is_some() && meta::namespace(new) != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let (asked, actual) = (meta::uid(new), meta::uid(old));
    if !asked.is_empty() && asked != actual {
        let why = format!("Precondition failed: UID in precondition: {asked}, UID in object meta: {actual}");
        return Err(ApiError::conflict(kind, name, &why));
    }
    Ok(())
}

fn check_preconditions(kind: &Kind, name: &str, object: &Value, options: &DeleteOptions) -> Result<(), ApiError> {
    let checks = [
        ("UID", &options.uid, meta::uid(object)),
        ("ResourceVersion", &options.resource_version, meta::resource_version(object)),
    ];
    for (what, asked, actual) in checks {
        if let Some(asked) = asked.as_deref().filter(|asked| *asked != actual) {
            let what_lower = if what == "UID" { "UID" } else { "ResourceVersion" };
            let why =
                format!("Precondition failed: {what} in precondition: {asked}, {what_lower} in object meta: {actual}");
            return Err(ApiError::conflict(kind, name, &why));
        }
    }
    Ok(())
}

enum DeletePlan {
    /// The object is already on its way.
    Nothing,
    Mark(Box<Value>),
    Remove,
}

fn plan_delete(kind: &Kind, object: &Value, options: &DeleteOptions) -> DeletePlan {
    let mut marked = object.clone();
    add_propagation_finalizer(&mut marked, options.propagation);
    let grace = grace_seconds(kind, object, options);
    let held = meta::finalizers(&marked).next().is_some() || strategy::held_by_namespace_finalizers(kind, object);
    if grace == 0 && !held {
        return DeletePlan::Remove;
    }
    let already = meta::deletion_timestamp(object).is_some();
    let current_grace = meta::deletion_grace_period_seconds(object).unwrap_or(0);
    if already && grace >= current_grace && marked == *object {
        return DeletePlan::Nothing;
    }
    if !already || grace < current_grace {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(grace);
        meta::set(&mut marked, "deletionTimestamp", at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        meta::set(&mut marked, "deletionGracePeriodSeconds", grace);
        if meta::generation(object) > 0 && !already {
            meta::set(&mut marked, "generation", meta::generation(object) + 1);
        }
    }
    if kind.kind == "Namespace" {
        marked["status"]["phase"] = json!("Terminating");
    }
    DeletePlan::Mark(Box::new(marked))
}

/// Only pods end gracefully, and only those that run somewhere.
fn grace_seconds(kind: &Kind, object: &Value, options: &DeleteOptions) -> i64 {
    let running = !meta::text_at(object, &["spec", "nodeName"]).is_empty()
        && !matches!(meta::text_at(object, &["status", "phase"]), "Succeeded" | "Failed");
    if kind.kind != "Pod" || !running {
        return 0;
    }
    let own = meta::at(object, &["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64).unwrap_or(30);
    let asked = options.grace_period_seconds.unwrap_or(own).max(0);
    match meta::deletion_timestamp(object) {
        Some(_) if options.grace_period_seconds.is_none() => {
            meta::deletion_grace_period_seconds(object).unwrap_or(asked)
        }
        Some(_) | None => asked,
    }
}

fn add_propagation_finalizer(object: &mut Value, propagation: Option<Propagation>) {
    let finalizer = match propagation {
        Some(Propagation::Orphan) => "orphan",
        Some(Propagation::Foreground) => "foregroundDeletion",
        Some(Propagation::Background) | None => return,
    };
    let mut finalizers: Vec<String> = meta::finalizers(object).map(str::to_owned).collect();
    if !finalizers.iter().any(|f| f == finalizer) {
        finalizers.push(finalizer.to_owned());
        meta::set(object, "finalizers", json!(finalizers));
    }
}
