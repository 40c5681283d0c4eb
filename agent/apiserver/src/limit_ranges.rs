//! The limit ranges of a namespace, asked when pods and claims are written: upstream's LimitRanger. Which rule says what is
//! `object::limit_ranges`'s.

use serde_json::Value;
use skiff_object::kinds::{self, Kind};
use skiff_object::{limit_ranges, meta};
use skiff_store::Store;

use crate::status::ApiError;
use crate::write::Write;
use crate::{Api, codec};

/// A namespace's ranges, in order of their names. Most have none, which costs one look into memory.
async fn of<S: Store>(api: &Api<S>, namespace: Option<&str>) -> Result<Vec<Value>, ApiError> {
    let ranges = kinds::by_kind("v1", "LimitRange").expect("a built-in kind");
    let entries = api.entries_of(ranges, Some(namespace.unwrap_or("default"))).await?;
    Ok(entries.iter().map(codec::decode).collect())
}

/// Gives a new pod the defaults.
pub async fn fill_in<S: Store>(api: &Api<S>, namespace: Option<&str>, pod: &mut Value) -> Result<(), ApiError> {
    of(api, namespace).await?.iter().for_each(|range| limit_ranges::fill_in(range, pod));
    Ok(())
}

/// A new pod; what one has of the node does not change later.
pub async fn check_pod<S: Store>(
    api: &Api<S>,
    write: &Write<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    if old.is_some() {
        return Ok(());
    }
    let ranges = of(api, write.namespace).await?;
    refuse(write.kind, new, ranges.iter().map(|range| limit_ranges::check_pod(range, new)))
}

/// A claim that asks for something else than before: one that was made before a range stays as it is.
pub async fn check_claim<S: Store>(
    api: &Api<S>,
    write: &Write<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let asked = |claim| meta::at(claim, &["spec", "resources", "requests"]);
    if old.is_some_and(|old| asked(old) == asked(new)) {
        return Ok(());
    }
    let ranges = of(api, write.namespace).await?;
    refuse(write.kind, new, ranges.iter().map(|range| limit_ranges::check_claim(range, new)))
}

/// Refuses with what the first range has against it.
fn refuse(kind: &Kind, object: &Value, mut problems: impl Iterator<Item = Vec<String>>) -> Result<(), ApiError> {
    let Some(mut problems) = problems.find(|problems| !problems.is_empty()) else { return Ok(()) };
    let mut seen = std::collections::BTreeSet::new();
    problems.retain(|problem| seen.insert(problem.clone()));
    let why = match problems.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    Err(ApiError::forbidden_object(kind, meta::name(object), &why))
}
