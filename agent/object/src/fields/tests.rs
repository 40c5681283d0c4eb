//! Fields by kind, and the text form.

use super::*;
use crate::kinds::by_kind;
use proptest::prelude::*;
use serde_json::json;

fn selector(text: &str) -> FieldSelector {
    FieldSelector::parse(text).expect("is well formed")
}

#[test]
fn fields_by_kind() {
    let pods = by_kind("v1", "Pod").expect("is served");
    let nodes = by_kind("v1", "Node").expect("is served");
    let maps = by_kind("v1", "ConfigMap").expect("is served");
    assert_eq!(selector("spec.nodeName=a,metadata.name=b").check(pods), Ok(()));
    let error = |kind: &Kind| selector("foo=a").check(kind).expect_err("is not supported").to_string();
    assert_eq!(error(pods), "field label not supported: foo");
    assert_eq!(error(maps), "\"foo\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"");
    let pod = json!({"metadata": {"name": "b"}, "spec": {"nodeName": "a"}});
    assert!(selector("spec.nodeName=a,spec.hostNetwork=false,status.phase!=Running").matches(pods, &pod));
    assert!(!selector("spec.nodeName=").matches(pods, &pod));
    assert!(selector("spec.unschedulable=true").matches(nodes, &json!({"spec": {"unschedulable": true}})));
    assert_eq!(selector("metadata.name=b").exact("metadata.name"), Some("b"));
}

#[test]
fn texts() {
    assert_eq!(selector("a=b\\,c,d==e,f!=g").to_string(), "a=b\\,c,d=e,f!=g");
    assert!(selector("").is_empty());
    assert_eq!(
        FieldSelector::parse("a=b,c").expect_err("has no operator").to_string(),
        "invalid selector: 'a=b,c'; can't understand 'c'"
    );
}

proptest! {
    #[test]
    fn text_parses_back(text in "[a-c=!,\\\\]{0,16}") {
        if let Ok(parsed) = FieldSelector::parse(&text) {
            prop_assert_eq!(selector(&parsed.to_string()), parsed);
        }
    }
}
