//! Policies that change what is written.

use expect_test::expect;
use http::StatusCode;
use serde_json::{Value, json};

use super::{Server, causes, check_error, map};

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn policy(name: &str, resource: &str, mutations: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
            "resources": [resource]}]},
        "reinvocationPolicy": "Never", "mutations": mutations}})
}

fn merged(expression: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

fn patched(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

async fn install(server: &Server, policy: Value, more: Value) {
    let name = policy["metadata"]["name"].clone();
    let before = server.api.extensions().compiled().mutators.len();
    server.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    let (code, made) = server.post(POLICIES, policy).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let mut spec = json!({"policyName": name});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    let (code, made) = server.post(BINDINGS, json!({"metadata": {"name": name}, "spec": spec})).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    for _ in 0..400 {
        if server.api.extensions().compiled().mutators.len() > before {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("the policy is not followed");
}

#[tokio::test]
async fn parts_are_merged_and_patches_applied() {
    let server = Server::start().await;
    let sidecar = merged(
        "has(object.metadata.labels) && object.metadata.labels[?'mesh'].orValue('') == 'no' ? Object{} :
         Object{spec: Object.spec{initContainers: [Object.spec.initContainers{name: 'proxy',
             image: variables.image, restartPolicy: 'Always'}]}}",
    );
    let label = patched(
        "[JSONPatch{op: 'add', path: '/metadata/annotations', value: {'a/b': request.userInfo.username}},
          JSONPatch{op: 'add', path: '/metadata/annotations/' + jsonpatch.escapeKey('c/d'), value: 'e'}]",
    );
    let mut sidecars = policy("sidecar", "pods", json!([sidecar, label]));
    sidecars["spec"]["variables"] = json!([{"name": "image", "expression": "'proxy:' + params.data.version"}]);
    sidecars["spec"]["paramKind"] = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    let mut params = map("settings");
    params["data"] = json!({"version": "7"});
    server.post(MAPS, params).await;
    install(&server, sidecars, json!({"paramRef": {"name": "settings", "parameterNotFoundAction": "Deny"}})).await;
    let pod = |name: &str, mesh: &str| {
        json!({"metadata": {"name": name, "labels": {"mesh": mesh}},
            "spec": {"containers": [{"name": "app", "image": "a:1"}], "initContainers": [{"name": "first", "image": "b:1"}]}})
    };
    let (code, made) = server.post(PODS, pod("p", "yes")).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let containers: Vec<String> = made["spec"]["initContainers"]
        .as_array()
        .expect("containers")
        .iter()
        .map(|c| format!("{} {} {}", c["name"], c["image"], c["restartPolicy"]))
        .collect();
    assert_eq!(containers, [r#""first" "b:1" null"#, r#""proxy" "proxy:7" "Always""#]);
    assert_eq!(made["metadata"]["annotations"], json!({"a/b": "system:admin", "c/d": "e"}));
    let (_, made) = server.post(PODS, pod("q", "no")).await;
    assert_eq!(made["spec"]["initContainers"].as_array().map(Vec::len), Some(1), "{made}");
    assert_eq!(server.merge(&format!("{PODS}/p"), json!({"metadata": {"labels": {"x": "y"}}})).await.0, StatusCode::OK);
}

#[tokio::test]
async fn what_another_changed_is_seen_again() {
    let server = Server::start().await;
    let mut first = policy("a", "configmaps", json!([merged("Object{data: {'seen': string(has(object.data.late))}}")]));
    first["spec"]["reinvocationPolicy"] = json!("IfNeeded");
    install(&server, first, json!({})).await;
    install(&server, policy("b", "configmaps", json!([merged("Object{data: {'late': 'x'}}")])), json!({})).await;
    let (_, made) = server.post(MAPS, map("m")).await;
    assert_eq!(made["data"], json!({"a": "1", "seen": "true", "late": "x"}));
}

#[tokio::test]
async fn what_cannot_be_evaluated_fails_closed_or_open() {
    let server = Server::start().await;
    let broken = |name: &str, expression: &str, ignored: bool| {
        let mut policy = policy(name, "configmaps", json!([merged(expression)]));
        policy["spec"]["matchConditions"] =
            json!([{"name": "own", "expression": format!("object.metadata.name == '{name}'")}]);
        policy["spec"]["failurePolicy"] = json!(if ignored { "Ignore" } else { "Fail" });
        policy
    };
    for (name, expression, ignored) in [
        ("missing", "Object{data: {'a': object.data.nothing}}", false),
        ("open", "Object{data: {'a': object.data.nothing}}", true),
        ("type", "Object{data: {'a': 1}}", false),
        ("whole", "Object{metadata: Object.metadata{ownerReferences: [{'uid': 'u'}, {'uid': 'u'}]}}", false),
        ("text", "'a'", false),
    ] {
        install(&server, broken(name, expression, ignored), json!({})).await;
    }
    check_error(
        &server.post(MAPS, map("missing")).await,
        expect![[
            r#"422 "Invalid": "configmaps \"missing\" is forbidden: MutatingAdmissionPolicy 'missing' with binding 'missing' denied request: expression 'Object{data: {'a': object.data.nothing}}' resulted in error: no such key: nothing""#
        ]],
    );
    assert_eq!(server.post(MAPS, map("open")).await.0, StatusCode::CREATED);
    check_error(
        &server.post(MAPS, map("type")).await,
        expect![[
            r#"422 "Invalid": "configmaps \"type\" is forbidden: MutatingAdmissionPolicy 'type' with binding 'type' denied request: expression 'Object{data: {'a': 1}}' resulted in error: ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type string""#
        ]],
    );
    check_error(
        &server.post(MAPS, map("whole")).await,
        expect![[
            r#"422 "Invalid": "configmaps \"whole\" is forbidden: MutatingAdmissionPolicy 'whole' with binding 'whole' denied request: expression 'Object{metadata: Object.metadata{ownerReferences: [{'uid': 'u'}, {'uid': 'u'}]}}' resulted in error: the configuration has this item twice: .metadata.ownerReferences[uid=\"u\"]""#
        ]],
    );
    check_error(
        &server.post(MAPS, map("text")).await,
        expect![[
            r#"422 "Invalid": "configmaps \"text\" is forbidden: MutatingAdmissionPolicy 'text' with binding 'text' denied request: expression ''a'' resulted in error: it is no Object""#
        ]],
    );
    let atomic = policy("atomic", "pods", json!([merged("Object{spec: Object.spec{nodeSelector: {'a': 'b'}}}")]));
    install(&server, atomic, json!({})).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "app", "image": "a:1"}]}});
    check_error(
        &server.post(PODS, pod).await,
        expect![[
            r#"422 "Invalid": "pods \"p\" is forbidden: MutatingAdmissionPolicy 'atomic' with binding 'atomic' denied request: expression 'Object{spec: Object.spec{nodeSelector: {'a': 'b'}}}' resulted in error: may not mutate atomic arrays, maps or structs: .spec.nodeSelector""#
        ]],
    );
}

#[tokio::test]
async fn wrong_policies_are_refused() {
    let server = Server::start().await;
    let mut all = Vec::new();
    let mut deletes = policy("d", "pods", json!([merged("Object{}")]));
    deletes["spec"]["matchConstraints"]["resourceRules"][0]["operations"] = json!(["DELETE"]);
    let mut never = policy("n", "pods", json!([merged("Object{}")]));
    never["spec"]["reinvocationPolicy"] = json!("Sometimes");
    for wrong in [
        policy("a", "pods", json!([])),
        policy("b", "pods", json!([{"patchType": "Strategic"}])),
        policy("c", "pods", json!([{"patchType": "JSONPatch", "applyConfiguration": {"expression": "Object{}"}}])),
        policy("e", "pods", json!([merged("Thing{}")])),
        policy("f", "pods", json!([merged("Object{")])),
        deletes,
        never,
    ] {
        let (code, status) = server.post(POLICIES, wrong).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{status}");
        all.push(causes(&status));
    }
    expect![[r#"
        spec.mutations: Required value: mutations must contain at least one item
        spec.mutations[0].patchType: Unsupported value: "Strategic": supported values: "ApplyConfiguration", "JSONPatch"
        spec.mutations[0].applyConfiguration: Forbidden: must not be specified when patchType is not "ApplyConfiguration"
        spec.mutations[0].jsonPatch: Required value: must be specified when patchType is "JSONPatch"
        spec.mutations[0].applyConfiguration.expression: Invalid value: "Thing{}": compilation failed: undeclared reference to 'Thing' (in container '')
        spec.mutations[0].applyConfiguration.expression: Invalid value: "Object{": compilation failed: ERROR: <input>:1:8: expected '}'
        | Object{
        | .......^
        spec.matchConstraints.resourceRules[0].operations[0]: Unsupported value: "DELETE": supported values: "*", "CONNECT", "CREATE", "UPDATE"
        spec.reinvocationPolicy: Unsupported value: "Sometimes": supported values: "IfNeeded", "Never""#]].assert_eq(&all.join("\n"));
    let (code, status) = server.post(BINDINGS, json!({"metadata": {"name": "x"}, "spec": {}})).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{status}");
}
