//! Entries for the fuzz targets in `tests/fuzz`: each takes bytes and panics where something that must hold does not.

use http::{HeaderValue, Method, Uri, header};
use skiff_object::fields::FieldSelector;
use skiff_object::kinds;

use crate::request::{self, Query, Verb};
use crate::{handlers, present, yaml};

/// A method and what is asked for, as the first line of a request has them; in another line what is accepted.
pub fn request(input: &[u8]) {
    let mut lines = input.splitn(2, |byte| *byte == b'\n');
    let mut words = lines.next().unwrap_or_default().splitn(2, |byte| *byte == b' ');
    let Ok(method) = Method::from_bytes(words.next().unwrap_or_default()) else { return };
    let Ok(uri) = Uri::try_from(words.next().unwrap_or_default()) else { return };
    let query = Query::parse(uri.query());
    let _ =
        (handlers::effect(&query), handlers::field_validation(&query), handlers::delete_options(&().into(), &query));
    let Ok(Some(target)) = request::target(kinds::built_in(), &method, uri.path(), &query) else { return };
    assert!(target.namespace.is_none() || target.kind.namespaced(), "a namespace where there is none");
    let is_of_one = matches!(target.verb, Verb::Get | Verb::Update | Verb::Patch | Verb::Delete);
    assert!(!is_of_one || target.name.is_some(), "{:?} of no object", target.verb);
    if let Some(name) = &target.name {
        let (key, prefix) = (target.kind.key(target.namespace(), name), target.kind.key_prefix(target.namespace()));
        let below = key.strip_prefix(&prefix).unwrap_or_else(|| panic!("{key} is not below {prefix}"));
        assert_eq!(below, name, "{key}");
        let segments = key.split('/').skip(1);
        assert!(segments.clone().all(|segment| !["", ".", ".."].contains(&segment)), "{key}");
        let of_namespace = usize::from(target.namespace.is_some());
        assert_eq!(segments.count(), target.kind.key_prefix(None).matches('/').count() + of_namespace, "{key}");
    }
    let _ = query.get("fieldSelector").map(FieldSelector::parse);
    let accepted = HeaderValue::from_bytes(lines.next().unwrap_or_default()).into_iter();
    let headers = accepted.map(|value| (header::ACCEPT, value)).collect();
    let _ = present::Form::negotiate(&headers, &query, &target.kind);
}

/// A body in YAML. What is read is JSON of its size.
pub fn yaml(input: &[u8]) {
    if input.len() > yaml::BYTES_MAX {
        return;
    }
    if let Ok(value) = yaml::parse(input) {
        let text = value.to_string();
        let again: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(again.to_string(), text);
    }
}

#[cfg(test)]
mod tests {
    /// The targets themselves, on what fuzzing began with.
    #[test]
    fn seeds() {
        for line in [
            "GET /api/v1/namespaces/a/pods/b?watch=1\napplication/json;as=Table;v=v1;g=meta.k8s.io, */*;q=0.1",
            "DELETE /apis/apps/v1/namespaces/a/deployments?gracePeriodSeconds=x&dryRun=All",
            "POST /api/v1/namespaces/a%2Fb/pods/%2e%2e/status",
            "GET /api/v1/watch/namespaces/a/pods?fieldSelector=metadata.name%3Da",
            "PUT /api/v1/namespaces/a/finalize",
        ] {
            super::request(line.as_bytes());
        }
        for text in
            ["a: &a [1, .inf, ~]\nb: *a\n", "? {a: 1}\n: b", "!!binary aGk=", "--- a\n--- b", "a: 0x1F\n1: 1e400"]
        {
            super::yaml(text.as_bytes());
        }
    }
}
