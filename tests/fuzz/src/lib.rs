//! What the targets of the API share: the parts of an input, the kinds, and what must hold for each object.

use jiff::Timestamp;
use serde_json::Value;
use skiff_object::decode::{self, FieldValidation};
use skiff_object::pod_security::{Level, Standard, Version};
use skiff_object::protobuf::encode::{self, Json, Shape};
use skiff_object::{Kind, default, kinds, meta, pod_security, table, unenforced, validate};

/// Lines of an input: JSON has none within it.
pub fn lines<const N: usize>(input: &[u8]) -> Option<[&[u8]; N]> {
    input.splitn(N, |byte| *byte == b'\n').collect::<Vec<_>>().try_into().ok()
}

pub fn value(json: &[u8]) -> Option<Value> {
    serde_json::from_slice(json).ok()
}

/// The kind that an object says it is of; a pod's where there is no such.
pub fn kind_of(object: &Value) -> &'static Kind {
    let found = kinds::by_kind(meta::text_at(object, &["apiVersion"]), meta::text_at(object, &["kind"]));
    found.unwrap_or_else(|| kinds::by_kind("v1", "Pod").expect("a built-in kind"))
}

/// One of those that have a type.
pub fn kind_at(index: u8) -> &'static Kind {
    let all: Vec<_> = kinds::typed().collect();
    all[usize::from(index) % all.len()]
}

/// As a request's body is read; nothing where it is refused.
pub fn decoded(kind: &Kind, body: &[u8]) -> Option<Value> {
    let strict = decode::decode(kind, body, FieldValidation::Strict).ok().map(|decoded| decoded.value);
    let loose = decode::decode(kind, body, FieldValidation::Warn).ok()?;
    assert!(
        strict.is_none_or(|strict| strict == loose.value && loose.warnings.is_empty()),
        "strict is another reading"
    );
    Some(loose.value)
}

/// Everything that happens to an object on its way in and out.
pub fn walk(kind: &Kind, object: &Value) {
    again(kind, object);
    let mut filled = object.clone();
    default::apply(kind, &mut filled);
    let mut twice = filled.clone();
    default::apply(kind, &mut twice);
    assert_eq!(twice, filled, "defaults are set once");
    again(kind, &filled);
    let _ = validate::create(kind, &filled);
    let _ = validate::status(kind, &filled, object);
    let changed = validate::update(kind, &filled, &filled);
    let _ = changed.iter().map(ToString::to_string).collect::<String>();
    let _ = unenforced::warnings(kind, &filled, Some(object));
    let columns = table::columns(kind).len();
    for row in table::rows(kind, &filled, Timestamp::UNIX_EPOCH) {
        assert!(row.as_array().is_none_or(|cells| cells.len() == columns));
    }
    if &*kind.kind == "Pod" {
        let restricted = Standard { level: Level::Restricted, version: Version::Latest };
        let violations = pod_security::violations(restricted, &filled);
        let _ = pod_security::details(&violations);
    }
    encoded(kind, &filled);
}

/// What was read is read again as the same.
fn again(kind: &Kind, object: &Value) {
    let text = object.to_string();
    let read = decode::decode(kind, text.as_bytes(), FieldValidation::Strict);
    let read = read.unwrap_or_else(|error| panic!("what was read is refused: {error}: {text}"));
    assert_eq!(&read.value, object, "read as another");
}

/// What is written in protobuf is read again.
fn encoded(kind: &Kind, object: &Value) {
    let mut bytes = Vec::new();
    if encode::object(&mut bytes, Shape::Whole(kind), Json::Value(object)).is_err() {
        return;
    }
    let mut of_text = Vec::new();
    let written = encode::object(&mut of_text, Shape::Whole(kind), Json::Text(object.to_string().as_bytes()));
    assert!(written.is_ok() && of_text == bytes, "text and value are written as one");
    let read = skiff_object::protobuf::decode(kind, &bytes);
    let read = read.unwrap_or_else(|error| panic!("what was written is refused: {error}: {object}"));
    assert_eq!(meta::name(&read), meta::name(object));
}
