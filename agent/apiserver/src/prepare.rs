//! What an object becomes before it is judged: the pure part of a write. Clients set what is theirs to set; the rest is
//! filled in, kept or thrown away.

use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_object::custom::names;
use skiff_object::kinds::{Kind, Scope};
use skiff_object::validate::certificates;
use skiff_object::{default, meta};

use crate::random;
use crate::strategy::{Deletion, Part, Strategy};

/// RFC 3339 in whole seconds, as metav1.Time is written.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub fn now() -> String {
    time(Timestamp::now())
}

/// A new object.
pub fn create(kind: &Kind, namespace: Option<&str>, mut object: Value) -> Value {
    let strategy = Strategy::of(kind);
    object["apiVersion"] = json!(kind.api_version());
    object["kind"] = json!(kind.kind);
    random::generate_name(&mut object);
    for field in ["selfLink", "managedFields", "resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        meta::unset(&mut object, field);
    }
    meta::set(&mut object, "uid", random::uuid());
    meta::set(&mut object, "creationTimestamp", now());
    match (&kind.scope, namespace) {
        (Scope::Namespaced, Some(namespace)) => meta::set(&mut object, "namespace", namespace),
        (Scope::Namespaced, None) | (Scope::Cluster, _) => meta::unset(&mut object, "namespace"),
    }
    if strategy.has_generation(kind) {
        meta::set(&mut object, "generation", 1);
    } else {
        meta::unset(&mut object, "generation");
    }
    match strategy.initial_status(kind) {
        Some(status) => object["status"] = status,
        // A custom one is its writer's to make.
        None if kind.custom.is_some() && kind.status => drop(meta::map_mut(&mut object).remove("status")),
        None => {}
    }
    default::apply(kind, &mut object);
    object
}

/// What is stored when `new` is written over `old`.
pub fn update(kind: &Kind, part: Part, new: Value, old: &Value) -> Value {
    let strategy = Strategy::of(kind);
    let mut result = match part {
        Part::Main => main(kind, strategy, new, old),
        Part::Approval => certificates::with_status(&dated(new), old, true),
        Part::Status if strategy.has_decisions => certificates::with_status(&dated(new), old, false),
        Part::Status => status(kind, new, old),
        Part::Finalize => with_spec_field(new, old, "finalizers"),
        Part::EphemeralContainers => {
            let mut result = with_spec_field(new, old, "ephemeralContainers");
            default::apply(kind, &mut result);
            result
        }
        Part::Binding => new,
    };
    result["apiVersion"] = json!(kind.api_version());
    result["kind"] = json!(kind.kind);
    if strategy.is_generation(kind, &result, old) {
        meta::set(&mut result, "generation", meta::generation(old) + 1);
    }
    result
}

/// Conditions without a time are of now.
fn dated(mut object: Value) -> Value {
    let conditions = object.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter_map(Value::as_object_mut) {
        for field in ["lastUpdateTime", "lastTransitionTime"] {
            if condition.get(field).is_none_or(Value::is_null) {
                condition.insert(field.to_owned(), now().into());
            }
        }
    }
    object
}

fn main(kind: &Kind, strategy: &Strategy, mut new: Value, old: &Value) -> Value {
    for field in
        ["namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"]
    {
        copy(&mut new, old, field);
    }
    meta::unset(&mut new, "managedFields");
    meta::unset(&mut new, "selfLink");
    if kind.status {
        match old.get("status") {
            Some(status) => new["status"] = status.clone(),
            None => drop(meta::map_mut(&mut new).remove("status")),
        }
    }
    if let (true, Some(spec)) = (strategy.is_spec_fixed, old.get("spec")) {
        new["spec"] = spec.clone();
    }
    for field in strategy.kept {
        let missing = meta::at(&new, &["spec", field]).is_none_or(|v| v == "");
        if let (true, Some(value)) = (missing, meta::at(old, &["spec", field])) {
            meta::map_mut(&mut new["spec"]).insert((*field).to_owned(), value.clone());
        }
    }
    default::drop_outdated(kind, &mut new, old);
    default::apply(kind, &mut new);
    new
}

/// The status, and the labels and annotations that come with it, as upstream has it for its own kinds.
fn status(kind: &Kind, mut new: Value, old: &Value) -> Value {
    let mut result = old.clone();
    match new.get_mut("status") {
        Some(status) => result["status"] = status.take(),
        None => drop(meta::map_mut(&mut result).remove("status")),
    }
    if kind.custom.is_some() {
        default::apply(kind, &mut result);
        return result;
    }
    for field in ["labels", "annotations"] {
        copy(&mut result, &new, field);
    }
    result
}

fn with_spec_field(mut new: Value, old: &Value, field: &str) -> Value {
    let mut result = old.clone();
    let value = new.get_mut("spec").and_then(|spec| spec.get_mut(field)).map(Value::take);
    let spec = meta::map_mut(&mut result["spec"]);
    match value {
        Some(value) => drop(spec.insert(field.to_owned(), value)),
        None => drop(spec.remove(field)),
    }
    result
}

fn copy(new: &mut Value, old: &Value, field: &str) {
    match meta::field(old, field) {
        Some(value) => meta::set(new, field, value.clone()),
        None => meta::unset(new, field),
    }
}

/// What others made of an object before it was judged; what only the API writes is as it was.
pub fn extended(kind: &Kind, mut object: Value, before: &Value) -> Value {
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
        .into_iter()
        .chain(["generation", "resourceVersion", "managedFields", "selfLink"])
    {
        copy(&mut object, before, field);
    }
    if kind.status {
        match before.get("status") {
            Some(status) => object["status"] = status.clone(),
            None => drop(meta::map_mut(&mut object).remove("status")),
        }
    }
    default::apply(kind, &mut object);
    object
}

/// How an object is to be deleted.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// What a deletion does to the object.
pub enum DeletePlan {
    /// The object is already on its way.
    Nothing,
    Mark(Box<Value>),
    Remove,
}

pub fn delete(kind: &Kind, object: &Value, options: &DeleteOptions, now: Timestamp) -> DeletePlan {
    let strategy = Strategy::of(kind);
    let mut marked = object.clone();
    add_propagation_finalizer(&mut marked, options.propagation);
    if strategy.deletion == Deletion::Definition && meta::deletion_timestamp(object).is_none() {
        add_finalizer(&mut marked, names::FINALIZER);
    }
    let grace = grace_seconds(strategy, object, options);
    if grace == 0 && !strategy.is_held(&marked) {
        return DeletePlan::Remove;
    }
    let already = meta::deletion_timestamp(object).is_some();
    let current_grace = meta::deletion_grace_period_seconds(object).unwrap_or(0);
    if already && grace >= current_grace && marked == *object {
        return DeletePlan::Nothing;
    }
    if !already || grace < current_grace {
        // A client may ask for more seconds than there is time.
        let at = now.checked_add(jiff::SignedDuration::from_secs(grace)).unwrap_or(Timestamp::MAX);
        meta::set(&mut marked, "deletionTimestamp", time(at));
        meta::set(&mut marked, "deletionGracePeriodSeconds", grace);
        if meta::generation(object) > 0 && !already {
            meta::set(&mut marked, "generation", meta::generation(object) + 1);
        }
    }
    if strategy.deletion == Deletion::Namespace {
        marked["status"]["phase"] = json!("Terminating");
    }
    DeletePlan::Mark(Box::new(marked))
}

/// Only pods end gracefully, and only those that run somewhere.
fn grace_seconds(strategy: &Strategy, object: &Value, options: &DeleteOptions) -> i64 {
    let running = !meta::text_at(object, &["spec", "nodeName"]).is_empty()
        && !matches!(meta::text_at(object, &["status", "phase"]), "Succeeded" | "Failed");
    if strategy.deletion != Deletion::Graceful || !running {
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
    add_finalizer(object, finalizer);
}

fn add_finalizer(object: &mut Value, finalizer: &str) {
    let mut finalizers: Vec<String> = meta::finalizers(object).map(str::to_owned).collect();
    if !finalizers.iter().any(|f| f == finalizer) {
        finalizers.push(finalizer.to_owned());
        meta::set(object, "finalizers", json!(finalizers));
    }
}
