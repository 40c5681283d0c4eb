//! Events, in both groups that serve them.
//!
//! Owns their checks: lenient ones for the old way of telling, and more for what has a time of its own or comes in the
//! newer version. Both are said with the names that upstream's internal type has.

use super::errors::Errors;
use super::names;
use super::node::Node;

const NAME_MAX: usize = 128;
const MESSAGE_MAX: usize = 1024;

/// The fields that the versions name differently.
struct Fields {
    involved: &'static str,
    message: &'static str,
    reporter: &'static str,
}

const OLD: Fields = Fields { involved: "involvedObject", message: "message", reporter: "reportingComponent" };

const NEW: Fields = Fields { involved: "regarding", message: "note", reporter: "reportingController" };

/// Fields of the newer version that never change, and what they are called.
const UNCHANGED: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("reason", "reason"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("type", "type"),
    ("eventTime", "eventTime"),
    ("action", "action"),
    ("related", "related"),
    ("reportingController", "reportingController"),
    ("reportingInstance", "reportingInstance"),
];

/// Fields that only the older version has a use for.
const DEPRECATED: &[(&str, &str)] =
    &[("deprecatedFirstTimestamp", "firstTimestamp"), ("deprecatedLastTimestamp", "lastTimestamp")];

pub fn old(event: &Node<'_>, errors: &mut Errors) {
    either(event, &OLD, errors);
}

pub fn new(event: &Node<'_>, errors: &mut Errors) {
    either(event, &NEW, errors);
}

fn either(event: &Node<'_>, fields: &Fields, errors: &mut Errors) {
    let involved = renamed(event.get(fields.involved), "involvedObject").get("namespace");
    let namespace = event.at(&["metadata", "namespace"]);
    let timed = !event.get("eventTime").is_missing();
    // Events about objects without a namespace are kept in the default one.
    let right = match (namespace.text(), involved.text()) {
        ("default", "") => true,
        ("kube-system", "") => timed,
        (own, other) => timed && !other.is_empty() || own == other,
    };
    if !right {
        errors.invalid_text(&involved, "does not match event.namespace");
    }
    if timed {
        let reporter = event.get(fields.reporter);
        errors.set(&reporter);
        errors.formed(&reporter, names::qualified_name);
        for field in ["reportingInstance", "action", "reason"] {
            let node = event.get(field);
            errors.set(&node);
            short(&node, NAME_MAX, errors);
        }
        short(&renamed(event.get(fields.message), "message"), MESSAGE_MAX, errors);
    }
}

fn renamed<'a>(node: Node<'a>, name: &str) -> Node<'a> {
    Node { path: name.to_owned(), ..node }
}

fn short(node: &Node<'_>, max: usize, errors: &mut Errors) {
    if node.text().len() > max {
        errors.invalid_value(node, &"".into(), &format!("can have at most {max} characters"));
    }
}

/// Checks a new event of the newer version.
pub fn create_only(event: &Node<'_>, errors: &mut Errors) {
    series(event, errors);
    let time = event.get("eventTime");
    if time.is_missing() {
        errors.required(&time, "");
    }
    let ty = event.get("type");
    if !["Normal", "Warning"].contains(&ty.text()) {
        errors.invalid_value(&ty, &"".into(), &format!("has invalid value: {}", ty.text()));
    }
    let count = event.get("deprecatedCount");
    let source = event.get("deprecatedSource");
    let mut unset: Vec<Node<'_>> = DEPRECATED
        .iter()
        .map(|(field, name)| renamed(event.get(field), name))
        .filter(|node| !node.is_missing())
        .collect();
    if count.int().is_some_and(|count| count != 0) {
        unset.push(renamed(count, "count"));
    }
    if ["component", "host"].iter().any(|field| !source.get(field).is_empty()) {
        unset.push(renamed(source, "source"));
    }
    unset.iter().for_each(|node| errors.invalid_value(node, &"".into(), "needs to be unset"));
}

fn series(event: &Node<'_>, errors: &mut Errors) {
    let series = event.get("series");
    if series.is_missing() {
        return;
    }
    let (count, last) = (series.get("count"), series.get("lastObservedTime"));
    if count.int().unwrap_or_default() < 2 {
        errors.invalid_value(&count, &"".into(), "should be at least 2");
    }
    if last.is_missing() {
        errors.required(&last, "");
    }
}

/// Checks a change of an event by way of the newer version.
pub fn update(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    if new.get("series").value != old.get("series").value {
        series(new, errors);
    }
    for (field, name) in UNCHANGED {
        if new.get(field).value != old.get(field).value {
            errors.invalid(&renamed(new.get(field), name), "field is immutable");
        }
    }
}
