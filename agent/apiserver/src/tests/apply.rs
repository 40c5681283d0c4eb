//! Server-side apply, and who is said to own what.

use super::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const APPLY: &str = "application/apply-patch+yaml";

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data})
}

impl Server {
    pub async fn apply(&self, path: &str, manager: &str, config: Value) -> (StatusCode, Value) {
        self.call(Method::PATCH, &format!("{path}?fieldManager={manager}"), APPLY, config.to_string()).await
    }
}

/// Manager, operation and subresource of each entry, and what it owns.
pub fn owners(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    let line = |entry: &Value| {
        let part = [text(entry, "operation"), text(entry, "subresource")].join(" ");
        format!("{} {}: {}", text(entry, "manager"), part.trim(), entry["fieldsV1"])
    };
    entries.iter().map(line).collect()
}

#[tokio::test]
async fn an_object_is_applied_by_several() {
    let server = Server::start().await;
    let path = format!("{MAPS}/m");
    let (code, made) = server.apply(&path, "a", map(json!({"x": "1"}))).await;
    assert_eq!((code, &made["data"]), (StatusCode::CREATED, &json!({"x": "1"})));
    assert_eq!(owners(&made), [r#"a Apply: {"f:data":{"f:x":{}}}"#]);
    let (code, again) = server.apply(&path, "a", map(json!({"x": "1"}))).await;
    assert_eq!((code, again), (StatusCode::OK, made), "nothing was written");

    let (code, both) = server.apply(&path, "b", map(json!({"y": "1"}))).await;
    assert_eq!((code, &both["data"]), (StatusCode::OK, &json!({"x": "1", "y": "1"})));
    let (code, status) = server.apply(&path, "b", map(json!({"x": "2", "y": "1"}))).await;
    assert_eq!(code, StatusCode::CONFLICT);
    assert_eq!(status["message"], r#"Apply failed with 1 conflict: conflict with "a": .data.x"#);
    assert_eq!(
        status["details"]["causes"],
        json!([{"reason": "FieldManagerConflict", "message": "conflict with \"a\"", "field": ".data.x"}])
    );
    let forced = format!("{path}?fieldManager=b&force=true");
    let (code, forced) = server.call(Method::PATCH, &forced, APPLY, map(json!({"x": "2"})).to_string()).await;
    assert_eq!((code, &forced["data"]), (StatusCode::OK, &json!({"x": "2"})), "y was b's, and given up");
    assert_eq!(owners(&forced), [r#"b Apply: {"f:data":{"f:x":{}}}"#]);
}

#[tokio::test]
async fn every_write_says_whose_it_is() {
    let server = Server::start().await;
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"app": "d"}},
        "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "a", "image": "x"}]}}}});
    let (code, made) = server.post(&format!("{DEPLOYMENTS}?fieldManager=maker"), deployment).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert_eq!(made["metadata"]["managedFields"][0]["manager"], "maker");
    let owned = &made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    assert_eq!(owned["f:template"]["f:metadata"], json!({"f:labels": {".": {}, "f:app": {}}}));
    assert_eq!(owned["f:selector"], json!({}));
    assert_eq!(owned["f:replicas"], json!({}), "defaults are the maker's");

    let path = format!("{DEPLOYMENTS}/d");
    let (_, scaled) =
        server.merge(&format!("{path}/scale?fieldManager=scaler"), json!({"spec": {"replicas": 3}})).await;
    assert_eq!(scaled["spec"]["replicas"], 3, "{scaled}");
    let status = json!({"status": {"replicas": 3}});
    assert_eq!(server.merge(&format!("{path}/status?fieldManager=controller"), status).await.0, StatusCode::OK);
    let (_, object) = server.get(&path).await;
    let owners = owners(&object);
    assert!(owners.contains(&r#"scaler Update scale: {"f:spec":{"f:replicas":{}}}"#.to_owned()), "{owners:#?}");
    assert!(owners.contains(&r#"controller Update status: {"f:status":{"f:replicas":{}}}"#.to_owned()), "{owners:#?}");
    assert!(!owners.iter().any(|owner| owner.starts_with("maker") && owner.contains("f:replicas")), "{owners:#?}");

    // Whoever applies another number takes it only by force; one manager's field is named with its way of writing.
    let config =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 1}});
    let (code, told) = server.apply(&path, "me", config).await;
    assert_eq!(code, StatusCode::CONFLICT);
    let message = r#"Apply failed with 1 conflict: conflict with "scaler" with subresource "scale" using apps/v1: .spec.replicas"#;
    assert_eq!(told["message"], message);

    // A client may say that it is nobody's.
    let reset = json!([{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}]);
    let (code, reset) = server.call(Method::PATCH, &path, "application/json-patch+json", reset.to_string()).await;
    assert_eq!((code, &reset["metadata"]["managedFields"]), (StatusCode::OK, &Value::Null));
}

#[tokio::test]
async fn a_status_is_applied_as_such() {
    let server = Server::start().await;
    let (_, _) = server
        .post(
            "/api/v1/namespaces/default/services",
            json!({"metadata": {"name": "s"},
        "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}}),
        )
        .await;
    let path = "/api/v1/namespaces/default/services/s/status";
    let condition = json!({"type": "X", "status": "True", "reason": "Y", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"});
    let config = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"ports": [{"port": 1}]}, "status": {"conditions": [condition]}});
    let (code, applied) = server.apply(path, "c", config).await;
    assert_eq!(code, StatusCode::OK, "{applied}");
    assert_eq!(applied["spec"]["ports"][0]["port"], 80);
    assert_eq!(applied["status"]["conditions"][0]["type"], "X");
    let owners = owners(&applied);
    assert!(
        owners[0].starts_with(r#"c Apply status: {"f:status":{"f:conditions":{"k:{\"type\":\"X\"}":"#),
        "{owners:?}"
    );
    assert!(!owners[0].contains("f:spec"));
    let missing = server
        .apply("/api/v1/namespaces/default/services/none/status", "c", json!({"apiVersion": "v1", "kind": "Service"}))
        .await;
    assert_eq!(missing.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_no_application_is_refused() {
    let server = Server::start().await;
    let path = format!("{MAPS}/m");
    let call = |query: &'static str, body: Value| {
        let path = format!("{path}{query}");
        let server = &server;
        async move { server.call(Method::PATCH, &path, APPLY, body.to_string()).await }
    };
    let check = |answer: &(StatusCode, Value), expected: Expect| check_error(answer, expected);
    check(
        &call("", map(json!({}))).await,
        expect![[
            r#"422 "Invalid": "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch""#
        ]],
    );
    check(
        &call("?fieldManager=a", json!([1])).await,
        expect![[
            r#"400 "BadRequest": "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type v1.ConfigMap""#
        ]],
    );
    let long: &'static str = Box::leak(format!("?fieldManager={}", "x".repeat(129)).into_boxed_str());
    check(
        &call(long, map(json!({}))).await,
        expect![[
            r#"422 "Invalid": "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Too long: may not be more than 128 bytes""#
        ]],
    );
    check(
        &call("?fieldManager=a%0Ab", map(json!({}))).await,
        expect![[
            r#"422 "Invalid": "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: should only contain printable characters""#
        ]],
    );
    let mut other = map(json!({}));
    other["kind"] = json!("Secret");
    check(
        &call("?fieldManager=a", other).await,
        expect![[
            r#"400 "BadRequest": "Secret in version \"v1\" cannot be handled as a ConfigMap: the kind in the data (Secret) does not match the expected kind (ConfigMap)""#
        ]],
    );
    let mut named = map(json!({}));
    named["metadata"]["name"] = json!("other");
    check(
        &call("?fieldManager=a", named).await,
        expect![[r#"400 "BadRequest": "the name of the object (other) does not match the name on the URL (m)""#]],
    );
    let mut managed = map(json!({}));
    managed["metadata"]["managedFields"] = json!([{"manager": "x"}]);
    check(
        &call("?fieldManager=a", managed).await,
        expect![[r#"400 "BadRequest": "metadata.managedFields must be nil""#]],
    );
    let mut gone = map(json!({}));
    gone["metadata"]["uid"] = json!("0");
    check(
        &call("?fieldManager=a", gone).await,
        expect![[
            r#"409 "Conflict": "Operation cannot be fulfilled on configmaps \"m\": uid mismatch: the provided object specified uid 0, and no existing object was found""#
        ]],
    );
    let yaml = server.call(Method::PATCH, &format!("{path}?fieldManager=a"), APPLY, "a: [").await;
    check(
        &yaml,
        expect![[
            r#"400 "BadRequest": "error decoding YAML: did not find expected node content at line 2 column 1, while parsing a flow node""#
        ]],
    );
    let forced = server.merge(&format!("{path}?force=true"), json!({})).await;
    check(
        &forced,
        expect![[
            r#"422 "Invalid": "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch""#
        ]],
    );
    assert_eq!(server.get(&path).await.0, StatusCode::NOT_FOUND, "nothing was made");
    let dry = call("?fieldManager=a&dryRun=All", map(json!({"x": "1"}))).await;
    assert_eq!(dry.0, StatusCode::CREATED);
    assert_eq!(server.get(&path).await.0, StatusCode::NOT_FOUND, "it was only to see");
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata:\n  x: |\n    two\n    lines\n";
    let (code, made) = server.call(Method::PATCH, &format!("{path}?fieldManager=a"), APPLY, yaml).await;
    assert_eq!((code, &made["data"]["x"]), (StatusCode::CREATED, &json!("two\nlines\n")));
}

#[tokio::test]
async fn yaml_is_taken_as_json_is() {
    let server = Server::start().await;
    let post = async |yaml: &str| server.call(Method::POST, MAPS, "application/yaml; charset=utf-8", yaml).await;
    let (code, made) = post("metadata: {name: y}\ndata: {a: '1', b: \"2\"}\n").await;
    assert_eq!((code, &made["data"]), (StatusCode::CREATED, &json!({"a": "1", "b": "2"})));
    check_error(
        &post("data: {a: 1}").await,
        expect![[
            r#"400 "BadRequest": "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type string""#
        ]],
    );
    check_error(
        &post("a: &a [*a]").await,
        expect![[r#"400 "BadRequest": "error decoding YAML: recursion limit exceeded at line 1 column 4""#]],
    );
    let bomb = (0..30)
        .fold("a0: &a0 [x, x]\n".to_owned(), |text, n| format!("{text}a{}: &a{} [*a{n}, *a{n}]\n", n + 1, n + 1));
    let (code, told) = post(&bomb).await;
    assert_eq!(code, StatusCode::BAD_REQUEST, "{told}");
    let deep = format!("a: {}", "[".repeat(100_000));
    assert_eq!(post(&deep).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn who_may_only_patch_makes_nothing() {
    let server = Server::start().await;
    let rules = json!([{"verbs": ["patch"], "apiGroups": [""], "resources": ["configmaps"]}]);
    doors::grant(&server, "patcher", rules).await;
    let patcher = server.as_user("patcher");
    let path = format!("{MAPS}/m?fieldManager=a");
    let refused = patcher.call(Method::PATCH, &path, APPLY, map(json!({})).to_string()).await;
    check_error(
        &refused,
        expect![[
            r#"403 "Forbidden": "configmaps \"m\" is forbidden: User \"patcher\" cannot create resource \"configmaps\" in API group \"\" in the namespace \"default\"""#
        ]],
    );
    assert_eq!(server.post(MAPS, map(json!({}))).await.0, StatusCode::CREATED);
    let applied = patcher.call(Method::PATCH, &path, APPLY, map(json!({"x": "1"})).to_string()).await;
    assert_eq!(applied.0, StatusCode::OK);
}

/// The last label that is given up takes nothing with it that nobody applies: the name, and what the server says.
#[tokio::test]
async fn what_is_given_up_takes_only_itself() {
    let server = Server::start().await;
    let plain = format!("{MAPS}/plain");
    let map_of = |labels: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "plain", "labels": labels}});
    let (code, made) = server.apply(&plain, "a", map_of(json!({"a": "b"}))).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let (code, bare) = server.apply(&plain, "a", map_of(Value::Null)).await;
    assert_eq!((code, &bare["metadata"]["labels"]), (StatusCode::OK, &Value::Null), "{bare}");
    for kept in ["name", "namespace", "uid", "creationTimestamp"] {
        assert_eq!(bare["metadata"][kept], made["metadata"][kept], "{kept}: {bare}");
    }
    let path = format!("{MAPS}/m");
    let labelled = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "labels": {"a": "b"},
        "finalizers": ["example.org/hold"]}, "data": {"x": "1"}});
    let (code, made) = server.apply(&path, "a", labelled).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let held = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m",
        "finalizers": ["example.org/hold"]}});
    server.apply(&path, "b", held).await;
    let (code, going) = server.call(Method::DELETE, &path, "", "").await;
    assert_eq!(code, StatusCode::OK, "{going}");
    let (code, bare) = server.apply(&path, "a", map(json!({"x": "1"}))).await;
    assert_eq!((code, &bare["data"]), (StatusCode::OK, &json!({"x": "1"})), "{bare}");
    let metadata = &bare["metadata"];
    assert_eq!(metadata["labels"], Value::Null);
    for kept in ["name", "namespace", "uid", "creationTimestamp"] {
        assert_eq!(metadata[kept], made["metadata"][kept], "{kept}: {bare}");
    }
    assert_eq!(metadata["finalizers"], json!(["example.org/hold"]));
    assert!(metadata["deletionTimestamp"].is_string(), "{bare}");
}

#[tokio::test]
async fn owners_of_another_version_are_seen_in_it() {
    let server = Server::start().await;
    let scaler = |version: &str, spec: Value| {
        let mut object = json!({"apiVersion": format!("autoscaling/{version}"), "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "a"}, "spec": spec});
        object["spec"]["maxReplicas"] = json!(3);
        object["spec"]["scaleTargetRef"] = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
        object
    };
    let path = |version: &str| format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers/a");
    let of_cpu = |percent: i64| {
        json!({"metrics": [{"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": percent}}}]})
    };
    let (code, made) = server.apply(&path("v2"), "new", scaler("v2", of_cpu(50))).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let old = |percent: i64| scaler("v1", json!({"targetCPUUtilizationPercentage": percent}));
    let (code, same) = server.apply(&path("v1"), "old", old(50)).await;
    assert_eq!(code, StatusCode::OK, "{same}");
    check_error(
        &server.apply(&path("v1"), "old", old(60)).await,
        expect![[r#"409 "Conflict": "Apply failed with 1 conflict: conflict with \"new\": .spec.metrics""#]],
    );
    check_error(
        &server.apply(&path("v2"), "new", scaler("v2", of_cpu(60))).await,
        expect![[
            r#"409 "Conflict": "Apply failed with 1 conflict: conflict with \"old\": .spec.targetCPUUtilizationPercentage""#
        ]],
    );
}
