//! What ownership asks of one object. Pure: what is known of it and its neighbours is given, and what has to be read
//! first is left to whoever acts.

use std::collections::HashSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use skiff_reconcile::feed::{Index, Object, Uid};

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";

#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Owners are gone or wait for it to go: it goes, or loses those references.
    Collect,
    /// Nothing holds it any more: it is let go.
    Release,
    /// These lose their reference to it, then it is let go.
    Orphan(Vec<Uid>),
}

/// Whether it waits until its dependents are gone.
pub fn waits(object: &Object) -> bool {
    object.is_deleted() && object.has_finalizer(FOREGROUND)
}

/// The owner, if the reference can mean it: an object is not owned across namespaces.
pub fn owner<'a>(index: &'a Index, namespace: Option<&str>, uid: Uid) -> Option<&'a Object> {
    index.get(uid).filter(|owner| owner.namespace().is_none() || owner.namespace() == namespace)
}

/// The objects whose references can mean this one.
pub fn dependents(index: &Index, uid: Uid) -> impl Iterator<Item = Uid> {
    let means = move |dependent: &Uid| {
        index.get(*dependent).is_some_and(|object| owner(index, object.namespace(), uid).is_some())
    };
    index.dependents(uid).filter(means)
}

pub fn plan(index: &Index, uid: Uid) -> Option<Step> {
    let object = index.get(uid)?;
    if !object.is_deleted() {
        let namespace = object.namespace();
        let open = |owner: Option<&Object>| owner.is_none_or(waits);
        return object.owners.iter().any(|o| open(owner(index, namespace, o.uid))).then_some(Step::Collect);
    }
    if object.has_finalizer(ORPHAN) {
        return Some(Step::Orphan(dependents(index, uid).collect()));
    }
    let blocked = || blocking(index, uid).any(|dependent| !waits_for(index, dependent, uid));
    (waits(object) && !blocked()).then_some(Step::Release)
}

/// The dependents that an owner in foreground deletion waits for. One in a namespace goes with its owner that is in none, but
/// does not hold it: who may write there may not decide about the cluster. Upstream's `OwnerReferencesPermissionEnforcement`
/// would ask for a right to the owner when the reference is written.
fn blocking(index: &Index, uid: Uid) -> impl Iterator<Item = Uid> {
    let blocks = move |dependent: &Uid| {
        let (Some(object), Some(owner)) = (index.get(*dependent), index.get(uid)) else { return false };
        object.namespace() == owner.namespace() && object.owners.iter().any(|o| o.uid == uid && o.waits)
    };
    index.dependents(uid).filter(blocks)
}

/// Whether an object that waits for its dependents waits, through them, for `goal`: then both would wait for ever.
fn waits_for(index: &Index, from: Uid, goal: Uid) -> bool {
    let (mut seen, mut open) = (HashSet::from([from]), vec![from]);
    while let Some(uid) = open.pop() {
        if !index.get(uid).is_some_and(waits) {
            continue;
        }
        if uid == goal {
            return true;
        }
        open.extend(blocking(index, uid).filter(|next| seen.insert(*next)));
    }
    false
}

/// What an owner is to the object that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Solid,
    Gone,
    /// It goes when this object has gone.
    Waiting,
}

#[derive(Debug, PartialEq)]
pub enum Verdict {
    Stays,
    /// With these owners alone.
    Keep(Vec<OwnerReference>),
    Delete(Policy),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Background,
    Foreground,
    Orphan,
}

/// What becomes of an object with these owners and finalizers; `owns` if others depend on it. As upstream's
/// `attemptToDeleteItem`.
pub fn judge(owners: &[(OwnerReference, Standing)], finalizers: &[String], owns: bool) -> Verdict {
    let any = |wanted: Standing| owners.iter().any(|(_, standing)| *standing == wanted);
    if !any(Standing::Gone) && !any(Standing::Waiting) {
        return Verdict::Stays;
    }
    if any(Standing::Solid) {
        let solid = owners.iter().filter(|(_, standing)| *standing == Standing::Solid);
        return Verdict::Keep(solid.map(|(owner, _)| owner.clone()).collect());
    }
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    Verdict::Delete(match () {
        () if any(Standing::Waiting) && owns => Policy::Foreground,
        () if has(ORPHAN) => Policy::Orphan,
        () if has(FOREGROUND) => Policy::Foreground,
        () => Policy::Background,
    })
}
