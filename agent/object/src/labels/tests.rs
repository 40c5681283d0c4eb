//! Both forms select the same; the canonical text parses back to the same selector.

use super::*;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

fn check_text(texts: &[&str], expected: Expect) {
    let lines: Vec<String> = texts
        .iter()
        .map(|text| match Selector::parse(text) {
            Ok(selector) => format!("{text} → {selector}"),
            Err(error) => format!("{text} → error: {error}"),
        })
        .collect();
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn texts() {
    check_text(
        &[
            "",
            "a=b,c!=d",
            "e in (y,x),!f,g",
            "a==b",
            "a =",
            "a notin (,b)",
            "a>1,b<2",
            "a in x",
            "a,",
            ",a",
            "a b",
            "-=1",
            "a=b c",
            "a in (",
            "=",
            "a=é",
            "a>x",
        ],
        expect![[r#"
             → 
            a=b,c!=d → a=b,c!=d
            e in (y,x),!f,g → e in (x,y),!f,g
            a==b → a=b
            a = → a=
            a notin (,b) → a notin (,b)
            a>1,b<2 → a>1,b<2
            a in x → error: unable to parse requirement: found 'x', expected: '('
            a, → error: unable to parse requirement: found '', expected: identifier after ','
            ,a → error: unable to parse requirement: found ',', expected: identifier
            a b → error: unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt
            -=1 → error: key: Invalid value: "-": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            a=b c → error: unable to parse requirement: found 'c', expected: ',' or 'end of string'
            a in ( → error: unable to parse requirement: found '', expected: ',' or ')'
            = → error: unable to parse requirement: found '=', expected: identifier
            a=é → error: values[0][a]: Invalid value: "é": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
            a>x → error: values[0]: Invalid value: "x": for 'Gt', 'Lt' operators, the value must be an integer"#]],
    );
}

#[test]
fn matching() {
    let labels = json!({"a": "b", "n": "5"});
    let labels = labels.as_object();
    for (text, expected) in [
        ("a=b", true),
        ("a!=b", false),
        ("x!=y", true),
        ("x notin (y)", true),
        ("x in (y)", false),
        ("!x", true),
        ("x", false),
        ("n>4", true),
        ("n<5", false),
        ("a>1", false),
        ("", true),
        ("a in (b,c),n", true),
    ] {
        assert_eq!(Selector::parse(text).expect("is well formed").matches(&labels), expected, "{text}");
    }
}

#[test]
fn objects() {
    let selector = |value: Value| Selector::from_label_selector(&value).expect("is well formed");
    assert!(selector(Value::Null).is_nothing());
    assert!(selector(json!({})).is_empty());
    let both = selector(
        json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["y", "x"]}]}),
    );
    assert_eq!(both.to_string(), "a=b,c notin (x,y)");
    assert!(Selector::from_label_selector(&json!({"matchExpressions": [{"key": "c", "operator": "X"}]})).is_err());
    assert!(Selector::from_label_selector(&json!({"matchExpressions": [{"key": "c", "operator": "In"}]})).is_err());
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,30}") {
        let _ = Selector::parse(&text);
    }

    #[test]
    fn canonical_text_parses_back(text in "[a-d!=<>(),in ]{0,20}") {
        if let Ok(selector) = Selector::parse(&text) {
            prop_assert_eq!(Selector::parse(&selector.to_string()).expect("canonical text parses"), selector);
        }
    }
}
