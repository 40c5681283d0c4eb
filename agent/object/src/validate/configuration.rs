//! Config maps, secrets, service accounts and namespaces.
//!
//! Owns the checks of these kinds by themselves.

use super::errors::Errors;
use super::node::Node;
use super::{metadata, names};
use crate::base64;
use serde_json::Value;

/// All data of one config map or secret, in bytes.
const DATA_SIZE_MAX: usize = 1024 * 1024;

pub fn config_map(map: &Node<'_>, errors: &mut Errors) {
    let (data, binary) = (map.get("data"), map.get("binaryData"));
    let mut size = 0;
    for (key, value) in data.entries() {
        for problem in names::config_key(key) {
            errors.invalid_value(&value, &key.into(), &problem);
        }
        if !binary.key(key).is_missing() {
            errors.invalid_value(&value, &key.into(), "duplicate of key present in binaryData");
        }
        size += value.text().len();
    }
    for (key, value) in binary.entries() {
        for problem in names::config_key(key) {
            errors.invalid_value(&value, &key.into(), &problem);
        }
        size += base64::decoded_len(value.text());
    }
    if size > DATA_SIZE_MAX {
        errors.too_long("[]", DATA_SIZE_MAX);
    }
}

/// The keys that each type of secret must have.
const SECRET_KEYS: &[(&str, &[&str])] = &[
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
];

pub fn secret(secret: &Node<'_>, errors: &mut Errors) {
    let (data, ty) = (secret.get("data"), secret.get("type"));
    let mut size = 0;
    for (key, value) in data.entries() {
        for problem in names::config_key(key) {
            errors.invalid_value(&value, &key.into(), &problem);
        }
        size += base64::decoded_len(value.text());
    }
    if size > DATA_SIZE_MAX {
        errors.too_long("data", DATA_SIZE_MAX);
    }
    for (_, keys) in SECRET_KEYS.iter().filter(|(name, _)| *name == ty.text()) {
        for key in keys.iter().map(|key| data.key(key)).filter(Node::is_missing) {
            errors.required(&key, "");
        }
    }
    match ty.text() {
        "kubernetes.io/dockerconfigjson" => json_object(&data.key(".dockerconfigjson"), errors),
        "kubernetes.io/dockercfg" => json_object(&data.key(".dockercfg"), errors),
        "kubernetes.io/ssh-auth" => {
            let key = data.key("ssh-privatekey");
            if key.value.as_str() == Some("") {
                errors.required(&key, "");
            }
        }
        "kubernetes.io/basic-auth" if data.key("username").is_missing() && data.key("password").is_missing() => {
            errors.required(&data.key("username"), "");
            errors.required(&data.key("password"), "");
        }
        "kubernetes.io/service-account-token" => {
            let account = secret.at(&["metadata", "annotations"]).key("kubernetes.io/service-account.name");
            if account.is_empty() {
                errors.required(&account, "");
            }
        }
        _ => {}
    }
}

/// What a registry is logged in to with is JSON, which is not shown.
fn json_object(node: &Node<'_>, errors: &mut Errors) {
    let Some(text) = node.value.as_str() else {
        return;
    };
    let bytes = base64::decode(text).unwrap_or_default();
    let why = match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(other) => format!("json: cannot unmarshal {} into Go value of type map[string]interface {{}}", kind(&other)),
        Err(_) if bytes.iter().all(u8::is_ascii_whitespace) => "unexpected end of JSON input".to_owned(),
        Err(error) if error.is_eof() => "unexpected end of JSON input".to_owned(),
        Err(error) => unexpected(&bytes, &error),
    };
    errors.invalid_value(node, &"<secret contents redacted>".into(), &why);
}

/// What a value is, as Go calls it.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The character that no JSON has there, as Go says it.
fn unexpected(bytes: &[u8], error: &serde_json::Error) -> String {
    let line = bytes.split(|b| *b == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let character = line.get(error.column().saturating_sub(1)).map_or(' ', |b| char::from(*b));
    let place = match error.column() {
        0 | 1 if error.line() <= 1 => "looking for beginning of value",
        _ => "in literal or value",
    };
    format!("invalid character {character:?} {place}")
}

/// Finalizers of the namespace's own.
pub fn namespace(namespace: &Node<'_>, errors: &mut Errors) {
    let list = namespace.at(&["spec", "finalizers"]);
    for finalizer in list.items() {
        // Upstream names the list, not the entry.
        metadata::finalizer(&Node { path: list.path.clone(), ..finalizer }, errors);
    }
}
