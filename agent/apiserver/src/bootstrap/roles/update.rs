//! Default roles and bindings are brought up to date at each start: what they lack of the rules and subjects of this
//! version is added, and nothing is taken away. As upstream's
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#auto-reconciliation>.

use serde_json::{Value, json};
use skiff_object::meta;

use crate::escalation;
use crate::rbac::Rule;

/// `false` on a role or a binding: it stays as it is.
pub(super) const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// The object with what it lacks; `None`: nothing. Pure.
pub(in crate::bootstrap) fn brought_up(old: &Value, wanted: &Value) -> Option<Value> {
    if meta::text_at(old, &["metadata", "annotations", AUTOUPDATE]) == "false" {
        return None;
    }
    let mut new = old.clone();
    for map in ["labels", "annotations"] {
        for (key, value) in wanted["metadata"][map].as_object().into_iter().flatten() {
            if old["metadata"][map].get(key).is_none() {
                new["metadata"][map][key] = value.clone();
            }
        }
    }
    add(&mut new, "subjects", wanted, |have, subject| have.contains(subject));
    add(&mut new, "rules", wanted, |have, rule| {
        let parse = |rule: &Value| serde_json::from_value::<Rule>(rule.clone()).unwrap_or_default();
        let have: Vec<Rule> = have.iter().map(parse).collect();
        escalation::uncovered(&have, &[parse(rule)]).is_empty()
    });
    if let Some(selectors) = meta::at(wanted, &["aggregationRule"]) {
        let mut rule = new.get("aggregationRule").cloned().unwrap_or_else(|| json!({}));
        add(&mut rule, "clusterRoleSelectors", selectors, |have, selector| have.contains(selector));
        new["aggregationRule"] = rule;
        // What it selects are its rules.
        match old.get("rules").filter(|rules| !rules.is_null()) {
            Some(rules) => new["rules"] = rules.clone(),
            None => drop(meta::map_mut(&mut new).remove("rules")),
        }
    }
    (new != *old).then_some(new)
}

fn add(object: &mut Value, list: &str, wanted: &Value, has: impl Fn(&[Value], &Value) -> bool) {
    let have = meta::items(object.get(list)).to_vec();
    let missing: Vec<Value> = meta::items(wanted.get(list)).iter().filter(|item| !has(&have, item)).cloned().collect();
    if !missing.is_empty() {
        object[list] = json!([have, missing].concat());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(rules: Value) -> Value {
        json!({"metadata": {"name": "a"}, "rules": rules})
    }

    #[test]
    fn what_is_missing_is_added_and_nothing_is_taken_away() {
        let rule = |verbs: &[&str], resource: &str| json!({"verbs": verbs, "apiGroups": [""], "resources": [resource]});
        let wanted = role(json!([rule(&["get", "list"], "pods"), rule(&["get"], "nodes")]));
        let cases = [
            (json!([]), 2),
            (json!([rule(&["get"], "pods")]), 3),
            (json!([rule(&["get", "list", "delete"], "pods"), rule(&["get"], "nodes")]), 2),
            (json!([rule(&["*"], "*")]), 1),
            (json!([rule(&["get"], "secrets"), rule(&["get"], "nodes")]), 3),
        ];
        for (have, count) in cases {
            let old = role(have.clone());
            let new = brought_up(&old, &wanted).unwrap_or_else(|| old.clone());
            let rules = meta::items(new.get("rules"));
            assert_eq!(rules.len(), count, "{new}");
            assert!(meta::items(Some(&have)).iter().all(|rule| rules.contains(rule)), "{new}");
            assert_eq!(brought_up(&new, &wanted), None, "nothing is left to do");
        }
    }

    #[test]
    fn subjects_marks_and_selectors_are_added() {
        let subject = |name: &str| json!({"kind": "User", "name": name});
        let mark = json!({AUTOUPDATE: "true"});
        let wanted = json!({"metadata": {"name": "a", "annotations": mark}, "subjects": [subject("a"), subject("b")],
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
        let old = json!({"metadata": {"name": "a"}, "subjects": [subject("c"), subject("a")]});
        let new = brought_up(&old, &wanted).expect("something to do");
        assert_eq!(new["subjects"], json!([subject("c"), subject("a"), subject("b")]));
        assert_eq!(new["metadata"]["annotations"], mark);
        assert_eq!(new["aggregationRule"], wanted["aggregationRule"]);
        assert_eq!(new.get("rules"), None, "a role with a null cannot be read");
        assert_eq!(brought_up(&new, &wanted), None);
        let kept = json!({"metadata": {"name": "a", "annotations": {AUTOUPDATE: "false"}}, "subjects": []});
        assert_eq!(brought_up(&kept, &wanted), None, "its owner keeps it as it is");
    }
}
