//! Events of both groups.

use super::*;

const TIME: &str = "2025-01-01T00:00:00.000000Z";

fn old(more: Value) -> Value {
    with(json!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "a"}}), more)
}

fn timed(more: Value) -> Value {
    let said = json!({
        "eventTime": TIME,
        "reportingComponent": "x.io/y",
        "reportingInstance": "y",
        "action": "Do",
        "reason": "Done",
    });
    with(old(said), more)
}

#[test]
fn the_old_version() {
    const APART: &str = "does not match event.namespace";
    table(
        "v1",
        "Event",
        &[
            (old(json!({})), ""),
            (
                old(json!({"involvedObject": {"namespace": "b"}})),
                &format!("involvedObject.namespace: Invalid value: \"b\": {APART}"),
            ),
            (
                old(json!({"metadata": {"namespace": "kube-system"}, "involvedObject": {"namespace": null}})),
                &format!("involvedObject.namespace: Invalid value: \"\": {APART}"),
            ),
            (timed(json!({"metadata": {"namespace": "kube-system"}, "involvedObject": {"namespace": null}})), ""),
            (timed(json!({"involvedObject": {"namespace": "b"}})), ""),
            (timed(json!({"reason": "a".repeat(128), "message": "a".repeat(1024)})), ""),
            (
                timed(json!({"reason": "a".repeat(129), "message": "a".repeat(1025)})),
                "reason: Invalid value: \"\": can have at most 128 characters\nmessage: Invalid value: \"\": can have at most 1024 characters",
            ),
            (
                timed(json!({"action": null, "reportingInstance": "", "reportingComponent": "a b"})),
                "reportingComponent: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')\nreportingInstance: Required value\naction: Required value",
            ),
        ],
    );
}

fn new(more: Value) -> Value {
    let base = json!({
        "metadata": {"namespace": "a"},
        "regarding": {"namespace": "a"},
        "eventTime": TIME,
        "reportingController": "x.io/y",
        "reportingInstance": "y",
        "action": "Do",
        "reason": "Done",
        "type": "Normal",
    });
    with(base, more)
}

#[test]
fn the_newer_version() {
    table(
        "events.k8s.io/v1",
        "Event",
        &[
            (new(json!({})), ""),
            (new(json!({"series": {"count": 2, "lastObservedTime": TIME}})), ""),
            (new(json!({"deprecatedCount": 0, "deprecatedSource": {}})), ""),
            (new(json!({"eventTime": null})), "eventTime: Required value"),
            (new(json!({"type": "Odd"})), "type: Invalid value: \"\": has invalid value: Odd"),
            (
                new(json!({"series": {"count": 1}})),
                "series.count: Invalid value: \"\": should be at least 2\nseries.lastObservedTime: Required value",
            ),
            (
                new(json!({"deprecatedCount": 1, "deprecatedSource": {"host": "n"}, "deprecatedLastTimestamp": TIME})),
                "lastTimestamp: Invalid value: \"\": needs to be unset\ncount: Invalid value: \"\": needs to be unset\nsource: Invalid value: \"\": needs to be unset",
            ),
        ],
    );
    update_table(
        "events.k8s.io/v1",
        "Event",
        &[
            (new(json!({})), new(json!({"series": {"count": 2, "lastObservedTime": TIME}})), ""),
            (new(json!({})), new(json!({"note": "b"})), "message: Invalid value: \"b\": field is immutable"),
            (
                new(json!({})),
                new(json!({"series": {"count": 1, "lastObservedTime": TIME}})),
                "series.count: Invalid value: \"\": should be at least 2",
            ),
        ],
    );
}
