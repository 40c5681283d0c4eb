//! From `kubectl apply` to `kubectl apply --server-side`: what the old way applied, it noted in an annotation. The new way
//! takes those fields over without a conflict, and keeps the annotation true for who goes back.

use serde_json::Value;

use super::walk::Shape;
use super::{FieldSet, Writing, walk};
use crate::meta;

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Only the program that wrote the annotation; another manager's name is how one keeps out of this.
const MANAGER: &str = "kubectl";
/// As upstream: beyond this an object may have no annotations.
const BYTES_MAX: usize = 256 * 1024;

/// The fields that are as the old way left them.
pub(super) fn allowed(writing: &Writing<'_>, shape: Shape<'_>, live: &Value) -> FieldSet {
    let noted = meta::annotation(live, ANNOTATION).filter(|_| writing.manager == MANAGER);
    let Some(noted) = noted.and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return FieldSet::default();
    };
    let changed = writing.compare(shape, &noted, live);
    walk::fields(shape, &noted).difference(&changed.modified).difference(&changed.removed)
}

/// Notes what is applied now where the old way noted something.
pub(super) fn refresh(writing: &Writing<'_>, config: &Value, object: &mut Value) {
    if writing.manager != MANAGER || !writing.subresource.is_empty() || meta::annotation(object, ANNOTATION).is_none() {
        return;
    }
    let mut noted = config.clone();
    if let Some(annotations) = meta::metadata_mut(&mut noted).get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(ANNOTATION);
    }
    let text = format!("{noted}\n");
    let annotations = meta::metadata_mut(object).get_mut("annotations").and_then(Value::as_object_mut);
    if let (Some(annotations), true) = (annotations, text.len() <= BYTES_MAX) {
        annotations.insert(ANNOTATION.to_owned(), text.into());
    }
}
