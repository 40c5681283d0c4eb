//! The stored form of an object: its JSON with the metadata first and without `resourceVersion`.
//!
//! With the metadata at a known place, the revision is spliced in when an object is served, and most reads never parse
//! what they return. What is large is kept compressed, in memory and on the disk: definitions of custom resources are mostly
//! text, and rarely read.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Map, Value};
use skiff_store::{Entry, Revision, packing};

const HEAD: &[u8] = b"{\"metadata\":{";
/// What a revision adds to an object.
const REVISION_BYTES: usize = 40;
/// The stored form. `metadata` must not be empty; it never is, since every object has a name and a uid.
pub fn encode(mut object: Value) -> Bytes {
    let mut bytes = Vec::with_capacity(1024);
    let Some(map) = object.as_object_mut() else { return Bytes::new() };
    let mut metadata = match map.remove("metadata") {
        Some(Value::Object(metadata)) => metadata,
        Some(_) | None => Map::new(),
    };
    metadata.remove("resourceVersion");
    write(&mut bytes, b"{\"metadata\":", &Value::Object(metadata));
    for (key, value) in map.iter() {
        write(&mut bytes, b",", &Value::String(key.clone()));
        write(&mut bytes, b":", value);
    }
    bytes.push(b'}');
    packing::pack(bytes)
}

/// The JSON of a stored object. What is damaged is no JSON, and is told of as that.
pub fn text(entry: &Entry) -> Cow<'_, [u8]> {
    packing::unpacked(&entry.value)
}

/// About how long an object is as clients see it.
pub fn length(entry: &Entry) -> usize {
    packing::length(&entry.value) + REVISION_BYTES
}

fn write(bytes: &mut Vec<u8>, before: &[u8], value: &Value) {
    bytes.extend_from_slice(before);
    serde_json::to_writer(bytes, value).expect("a JSON value always serializes into memory");
}

/// The object as clients see it, at the revision it was written.
pub fn decode(entry: &Entry) -> Value {
    decode_at(entry, entry.modified)
}

pub fn decode_at(entry: &Entry, revision: Revision) -> Value {
    let mut object: Value = serde_json::from_slice(&text(entry)).unwrap_or_else(|error| {
        tracing::error!(key = %entry.key, %error, "a stored object is not JSON");
        serde_json::json!({"metadata": {}})
    });
    object["metadata"]["resourceVersion"] = Value::String(revision.to_string());
    object
}

/// Appends the object as clients see it, without parsing it.
pub fn splice(out: &mut Vec<u8>, entry: &Entry, revision: Revision) {
    match text(entry).strip_prefix(HEAD) {
        Some(rest) => {
            out.extend_from_slice(HEAD);
            out.extend_from_slice(format!("\"resourceVersion\":\"{revision}\",").as_bytes());
            out.extend_from_slice(rest);
        }
        // Written by another program into a shared etcd.
        None => write(out, b"", &decode_at(entry, revision)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_spliced_is_what_is_decoded() {
        let object = json!({
            "kind": "ConfigMap", "apiVersion": "v1", "data": {"metadata": "{\"x\":\"y\"}"},
            "metadata": {"name": "a", "uid": "u", "resourceVersion": "3"},
        });
        let entry = Entry { key: Arc::from("/k"), value: encode(object.clone()), created: 7, modified: 9 };
        let mut spliced = Vec::new();
        splice(&mut spliced, &entry, 9);
        let spliced: Value = serde_json::from_slice(&spliced).expect("valid JSON");
        let mut expected = object;
        expected["metadata"]["resourceVersion"] = json!("9");
        assert_eq!(spliced, expected);
        assert_eq!(decode(&entry), expected);
    }

    #[test]
    fn what_is_large_is_packed() {
        let object = |text: &str| json!({"metadata": {"name": "a", "uid": "u"}, "apiVersion": "v1", "kind": "ConfigMap", "data": {"a": text}});
        let stored =
            |object: &Value| Entry { key: Arc::from("/k"), value: encode(object.clone()), created: 1, modified: 2 };
        let large = stored(&object(&"text ".repeat(5000)));
        assert!(large.value.len() < 1000 && !large.value.starts_with(HEAD), "{}", large.value.len());
        assert_eq!(decode(&large)["data"]["a"].as_str().map(str::len), Some(25_000));
        let mut spliced = Vec::new();
        splice(&mut spliced, &large, 7);
        assert!(spliced.starts_with(b"{\"metadata\":{\"resourceVersion\":\"7\",\"name\""));
        assert!(stored(&object("short")).value.starts_with(HEAD));
        assert!((25_000..26_000).contains(&length(&large)));
        let damaged = Entry { value: large.value.slice(..large.value.len() / 2), ..large };
        assert_eq!(decode(&damaged)["data"], Value::Null);
    }

    #[test]
    fn a_foreign_layout_is_served_too() {
        let value = Bytes::from_static(br#"{"kind":"Pod","metadata":{"name":"a"}}"#);
        let entry = Entry { key: Arc::from("/k"), value, created: 1, modified: 2 };
        let mut spliced = Vec::new();
        splice(&mut spliced, &entry, 2);
        let spliced: Value = serde_json::from_slice(&spliced).expect("valid JSON");
        assert_eq!(spliced, json!({"kind": "Pod", "metadata": {"name": "a", "resourceVersion": "2"}}));
    }
}
