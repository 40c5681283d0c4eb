//! Priority levels as objects.

use expect_test::expect;
use http::StatusCode;
use serde_json::{Value, json};

use super::{Server, causes};

const GROUP: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";

fn changed(object: &Value, path: &str, value: Value) -> Value {
    let mut object = object.clone();
    let (parent, field) = path.rsplit_once('/').expect("a path");
    object.pointer_mut(parent).expect("a parent")[field] = value;
    object
}

#[tokio::test]
async fn wrong_levels_and_schemas_are_refused() {
    let server = Server::start().await;
    let (_, list) = server.get(&format!("{GROUP}/flowschemas")).await;
    let names: Vec<&Value> =
        list["items"].as_array().expect("items").iter().map(|item| &item["metadata"]["name"]).collect();
    assert_eq!(names, ["catch-all", "exempt"]);
    let schema = json!({"metadata": {"name": "s"}, "spec": {"priorityLevelConfiguration": {"name": "l"},
        "rules": [{"subjects": [{"kind": "User", "user": {"name": "a"}}],
            "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "clusterScope": true}]}]}});
    let level = json!({"metadata": {"name": "l"}, "spec": {"type": "Limited", "limited": {
        "limitResponse": {"type": "Queue", "queuing": {"queues": 4, "handSize": 2}}}}});
    let rule = "/spec/rules/0";
    let limited = "/spec/limited";
    let mut all = Vec::new();
    for (resource, object) in [
        ("flowschemas", changed(&schema, "/spec/matchingPrecedence", json!(-1))),
        ("flowschemas", changed(&schema, "/spec/matchingPrecedence", json!(1))),
        ("flowschemas", changed(&schema, "/spec/priorityLevelConfiguration", json!({"name": ""}))),
        ("flowschemas", changed(&schema, "/spec/distinguisherMethod", json!({"type": "ByHat"}))),
        ("flowschemas", changed(&schema, &format!("{rule}/subjects"), json!([]))),
        ("flowschemas", changed(&schema, &format!("{rule}/subjects"), json!([{"kind": "Group"}]))),
        ("flowschemas", changed(&schema, &format!("{rule}/resourceRules"), json!([]))),
        ("flowschemas", changed(&schema, &format!("{rule}/resourceRules/0/verbs"), json!(["*", "get"]))),
        ("flowschemas", changed(&schema, &format!("{rule}/resourceRules/0/clusterScope"), json!(false))),
        ("prioritylevelconfigurations", changed(&level, "/spec/type", json!("Exempt"))),
        ("prioritylevelconfigurations", changed(&level, "/spec/limited", Value::Null)),
        ("prioritylevelconfigurations", changed(&level, &format!("{limited}/lendablePercent"), json!(101))),
        ("prioritylevelconfigurations", changed(&level, &format!("{limited}/limitResponse/type"), json!("Reject"))),
        (
            "prioritylevelconfigurations",
            changed(&level, &format!("{limited}/limitResponse/queuing/handSize"), json!(5)),
        ),
    ] {
        let (code, status) = server.post(&format!("{GROUP}/{resource}"), object).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{status}");
        all.push(causes(&status));
    }
    expect![[r#"
        spec.matchingPrecedence: Invalid value: -1: must be a positive value
        spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1
        spec.priorityLevelConfiguration.name: Required value: must reference a priority level
        spec.distinguisherMethod.type: Unsupported value: "ByHat": supported values: "ByNamespace", "ByUser"
        spec.rules[0].subjects: Required value: subjects must contain at least one value
        spec.rules[0].subjects[0].group: Required value: group is required when subject kind is 'Group'
        spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty
        spec.rules[0].resourceRules[0].verbs: Invalid value: ["*","get"]: if '*' is present, must not specify other items
        spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace
        spec.limited: Forbidden: must be nil if the type is not Limited
        spec.limited: Required value: must not be empty when type is Limited
        spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive
        spec.limited.limitResponse.queuing: Forbidden: must be nil if limited.limitResponse.type is not Limited
        spec.limited.limitResponse.queuing.handSize: Invalid value: 5: should not be greater than queues (4)"#]].assert_eq(&all.join("\n"));
    let (code, made) = server.post(&format!("{GROUP}/flowschemas"), schema).await;
    assert_eq!((code, &made["spec"]["matchingPrecedence"]), (StatusCode::CREATED, &json!(1000)), "{made}");
    let (code, made) = server.post(&format!("{GROUP}/prioritylevelconfigurations"), level).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert_eq!(made["spec"]["limited"]["nominalConcurrencyShares"], 30);
    assert_eq!(made["spec"]["limited"]["limitResponse"]["queuing"]["queueLengthLimit"], 50);
}
