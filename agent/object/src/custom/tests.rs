//! Schemas, paths and names by example.

use expect_test::{Expect, expect};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::jsonpath::JsonPath;
use super::schema::Schema;
use super::*;
use crate::kinds;

#[test]
fn paths_find_fields_items_and_conditions() {
    let object = json!({"spec": {"a.b": 1, "list": [{"name": "x", "v": 1}, {"name": "y", "v": 2}], "n": {"k": true}}});
    for (path, found) in [
        (".spec.a\\.b", Some(json!(1))),
        (".spec['a.b']", Some(json!(1))),
        ("{.spec.list[0].v}", Some(json!(1))),
        (".spec.list[-1].v", Some(json!(2))),
        (".spec.list[*].name", Some(json!("x"))),
        (".spec.list[?(@.name==\"y\")].v", Some(json!(2))),
        (".spec.list[?(@.v == 1)].name", Some(json!("x"))),
        (".spec.list[?(@.name==']')].v", None),
        (".spec.list[9].v", None),
        (".spec.n.k", Some(json!(true))),
        (".metadata.name", None),
        (".spec.list[-1:].name", Some(json!("y"))),
        (".spec.list[0:1].name", Some(json!("x"))),
        (".spec.list[0,1].name", Some(json!("x"))),
        (".spec.list[?(@.name!=\"x\")].v", Some(json!(2))),
        (".spec.list[?(@.v>1)].name", Some(json!("y"))),
        (".spec.list[?(@.none)].name", None),
        (".spec.list[?(@.name)].name", Some(json!("x"))),
        ("..k", Some(json!(true))),
        (".spec..v", Some(json!(1))),
    ] {
        let parsed = JsonPath::parse(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(parsed.find(&object).cloned(), found, "{path}");
    }
    for wrong in ["spec", ".spec[", ".spec..", ".spec[x]", ".spec[1,x]", ".spec[?(a)]", "..a..b", &".a".repeat(40)] {
        assert!(JsonPath::parse(wrong).is_err(), "{wrong}");
    }
}

fn check(schema: Value, value: Value, expected: Expect) {
    let found = values::validate(&Schema::read(&schema), &value);
    expected.assert_eq(&found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
}

#[test]
fn combinations_and_sizes() {
    let schema = json!({"type": "object", "minProperties": 2, "properties": {
        "any": {"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}]},
        "one": {"type": "integer", "oneOf": [{"minimum": 1}, {"minimum": 2}]},
        "not": {"type": "string", "not": {"enum": ["x"]}},
        "list": {"type": "array", "maxItems": 1, "items": {"type": "string", "minLength": 2}},
        "time": {"type": "string", "format": "date-time"},
        "half": {"type": "number", "multipleOf": 0.5, "maximum": 3, "exclusiveMaximum": true}}});
    let right = json!({"any": 7, "one": 1, "not": "y", "list": ["ab"], "time": "2026-01-01T00:00:00Z", "half": 1.5});
    check(schema.clone(), right, expect![[""]]);
    let wrong = json!({"any": 3, "one": 2, "not": "x", "list": ["a", "b"], "time": "noon", "half": 3.2});
    check(
        schema.clone(),
        wrong,
        expect![[r#"
        any: Invalid value: "": "any" must validate at least one schema (anyOf)
        half: Invalid value: 3.2: half in body should be less than 3
        half: Invalid value: 3.2: half in body should be a multiple of 0.5
        list: Too many: 2: must have at most 1 items
        list[0]: Invalid value: "a": list[0] in body should be at least 2 chars long
        list[1]: Invalid value: "b": list[1] in body should be at least 2 chars long
        not: Invalid value: "": "not" must not validate the schema (not)
        one: Invalid value: "": "one" must validate one and only one schema (oneOf). Found 2 valid alternatives
        time: Invalid value: "noon": time in body must be of type date-time: "noon""#]],
    );
    check(schema, json!({}), expect!["<nil>: Invalid value: 0: in body should have at least 2 properties"]);
}

#[test]
fn unknown_fields_are_pruned_but_where_they_are_kept() {
    let schema = Schema::read(&json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "string"}}}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
            "kept": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
                "known": {"type": "object", "properties": {"a": {"type": "string"}}}}},
            "object": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}}}}}}));
    let mut object = json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n"}, "top": 1, "spec": {
        "map": {"x": {"a": "1", "b": 2}}, "list": [{"a": "1", "b": 2}], "no": 1,
        "kept": {"any": {"thing": 1}, "known": {"a": "1", "b": 2}},
        "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"x": 1}, "status": {}}}});
    let unknown = shape::prune(&schema, &mut object);
    assert_eq!(
        unknown,
        [
            "spec.kept.known.b",
            "spec.list[0].b",
            "spec.map.x.b",
            "spec.no",
            "spec.object.spec.x",
            "spec.object.status",
            "top"
        ]
    );
    assert_eq!(object["spec"]["kept"], json!({"any": {"thing": 1}, "known": {"a": "1"}}));
    let before = object.clone();
    assert!(shape::prune(&schema, &mut object).is_empty());
    assert_eq!(object, before);
}

fn definition(name: &str, made: &str) -> Value {
    json!({"metadata": {"name": format!("{name}s.example.org"), "creationTimestamp": made},
        "spec": {"group": "example.org", "names": {"plural": format!("{name}s"), "kind": name, "shortNames": ["x"]},
        "versions": [{"name": "v1", "served": true, "storage": true}]}})
}

#[test]
fn names_are_the_elders_and_stay_with_who_has_them() {
    let (old, new) = (definition("a", "2026-01-01T00:00:00Z"), definition("b", "2026-01-02T00:00:00Z"));
    let decided = names::decide(&[new.clone(), old.clone()], kinds::built_in(), "now");
    assert_eq!(
        decided.iter().map(|d| (d.name.as_str(), d.is_served)).collect::<Vec<_>>(),
        [("as.example.org", true), ("bs.example.org", false)]
    );
    // The younger had it first.
    let mut has = new;
    has["status"] =
        json!({"acceptedNames": has["spec"]["names"], "conditions": [{"type": "Established", "status": "True"}]});
    let decided = names::decide(&[old, has], kinds::built_in(), "now");
    assert_eq!(decided.iter().map(|d| d.is_served).collect::<Vec<_>>(), [false, true]);
    let mut of_box = definition("deployment", "2026-01-01T00:00:00Z");
    of_box["spec"]["group"] = json!("apps");
    assert!(!names::decide(&[of_box], kinds::built_in(), "now")[0].is_served);
}

#[test]
fn versions_stand_in_the_order_of_their_age() {
    let mut crd = definition("a", "");
    let version = |name: &str| json!({"name": name, "served": true, "storage": name == "v1"});
    crd["spec"]["versions"] = json!(["v1alpha1", "foo", "v2beta1", "v1", "v10", "v1beta1", "v2"].map(version));
    let kinds = definition::kinds(&crd, &crd["spec"]["names"]);
    let order: Vec<&str> = kinds.iter().map(|kind| &*kind.version).collect();
    assert_eq!(order, ["v10", "v2", "v1", "v2beta1", "v1beta1", "v1alpha1", "foo"]);
}

#[test]
fn columns_print_what_they_are_of() {
    let column = |ty: &str| PrinterColumn::read(&json!({"name": "C", "type": ty, "jsonPath": ".v"})).expect("a column");
    let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("a time");
    let cell = |ty: &str, v: Value| column(ty).cell(&json!({"v": v}), now);
    assert_eq!(cell("integer", json!(3)), json!(3));
    assert_eq!(cell("integer", json!("3")), Value::Null);
    assert_eq!(cell("string", json!({"a": 1})), json!("{\"a\":1}"));
    assert_eq!(cell("date", json!("2026-01-01T00:00:00Z")), json!("60s"));
    assert_eq!(cell("boolean", json!(true)), json!(true));
    assert_eq!(column("string").cell(&json!({}), now), Value::Null);
}

#[test]
fn schemas_are_packed_and_found_again() {
    let packed: Vec<Packed> = (0..40)
        .map(|n| Packed::new(&json!({"type": "object", "description": "said", "properties": {"p": {"type": "integer", "minimum": n}}})))
        .collect();
    for (n, packed) in packed.iter().enumerate().chain(packed.iter().enumerate()) {
        let minimum = packed.schema().properties["p"].values.minimum.expect("a bound").number;
        assert_eq!(minimum, n as f64);
    }
    assert!(UNPACKED.lock().expect("a lock").len() <= UNPACKED_MAX);
    let described = bare(&json!({"properties": {"description": {"type": "string", "description": "x"}}, "title": "t"}));
    assert_eq!(described, json!({"properties": {"description": {"type": "string"}}}));
}

#[test]
fn rules_are_about_values_and_their_change() {
    let schema = Schema::read(&json!({"type": "object", "properties": {"spec": {"type": "object",
        "x-kubernetes-validations": [
            {"rule": "self.min <= self.max", "message": "min has to be at most max"},
            {"rule": "self.max < 100", "messageExpression": "'max is ' + string(self.max)", "fieldPath": ".max", "reason": "FieldValueForbidden"},
            {"rule": "self.kind == oldSelf.kind"}],
        "properties": {"min": {"type": "integer"}, "max": {"type": "integer"},
            "kind": {"type": "string", "nullable": true},
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {
                "type": "object", "x-kubernetes-validations": [{"rule": "self.port >= oldSelf.port", "message": "ports only grow"}],
                "properties": {"name": {"type": "string"}, "port": {"type": "integer"}}}}}}}}));
    let check = |new: Value, old: Option<Value>, expected: Expect| {
        let found = rules::validate(&schema, &json!({"spec": new}), old.map(|old| json!({"spec": old})).as_ref());
        expected.assert_eq(&found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    };
    check(json!({"min": 1, "max": 2, "kind": "a"}), None, expect![[""]]);
    check(
        json!({"min": 300, "max": 200, "kind": "a"}),
        None,
        expect![[r#"
        spec: Invalid value: "object": min has to be at most max
        spec.max: Forbidden: max is 200"#]],
    );
    check(
        json!({"min": 1, "max": 2, "kind": "b"}),
        Some(json!({"min": 1, "max": 2, "kind": "a"})),
        expect![[r#"spec: Invalid value: "object": failed rule: self.kind == oldSelf.kind"#]],
    );
    check(
        json!({"min": 1}),
        None,
        expect![[r#"
        spec: Invalid value: "object": rule evaluation error: no such key: max: self.min <= self.max
        spec.max: Forbidden: rule evaluation error: no such key: max: self.max < 100"#]],
    );
    let port = |name: &str, port: i64| json!({"name": name, "port": port});
    check(
        json!({"min": 1, "max": 2, "kind": "a", "ports": [port("new", 1), port("b", 3), port("a", 1)]}),
        Some(json!({"min": 1, "max": 2, "kind": "a", "ports": [port("a", 2), port("b", 2)]})),
        expect![[r#"spec.ports[2]: Invalid value: "object": ports only grow"#]],
    );
}

#[test]
fn lists_are_of_what_can_be_told_apart() {
    let of = |list: Value| {
        let root = json!({"type": "object", "properties": {"p": list}});
        let mut errors = crate::validate::Errors::default();
        structural::check(&crate::validate::Node::root(&root), &mut errors);
        errors.into_vec().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let set = |items: Value| json!({"type": "array", "x-kubernetes-list-type": "set", "items": items});
    let map = |keys: Value, item: Value| {
        json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys,
            "items": {"type": "object", "required": ["k"], "properties": {"k": item}}})
    };
    let all = [
        of(set(json!({"type": "string"}))),
        of(set(
            json!({"type": "object", "x-kubernetes-map-type": "atomic", "x-kubernetes-preserve-unknown-fields": true}),
        )),
        of(set(json!({"type": "object"}))),
        of(set(json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}))),
        of(set(json!({"type": "string", "nullable": true}))),
        of(map(json!(["k"]), json!({"type": "string"}))),
        of(map(json!(["k", "k"]), json!({"type": "string"}))),
        of(map(json!(["k"]), json!({"type": "string", "nullable": true}))),
        of(json!({"type": "string", "maxLength": -1})),
        of(json!({"type": "integer", "multipleOf": 0})),
    ];
    expect![[r#"

        ---

        ---
        properties[p].items.x-kubernetes-map-type: Invalid value: "": must be atomic as item of a list with x-kubernetes-list-type=set
        ---
        properties[p].items.x-kubernetes-list-type: Invalid value: "set": must be atomic as item of a list with x-kubernetes-list-type=set
        ---
        properties[p].items.nullable: Forbidden: cannot be nullable when x-kubernetes-list-type is set
        ---

        ---
        properties[p].x-kubernetes-list-map-keys[1]: Duplicate value: "k"
        ---
        properties[p].items.properties[k].nullable: Forbidden: cannot be nullable when in x-kubernetes-list-map-keys
        ---
        properties[p].maxLength: Invalid value: -1: must be greater than or equal to 0
        ---
        properties[p].multipleOf: Invalid value: 0: must be greater than 0"#]].assert_eq(&all.join("\n---\n"));
}
