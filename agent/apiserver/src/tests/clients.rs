//! What stock clients rely on, one by one.

use super::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

#[tokio::test]
async fn an_update_makes_what_upstream_lets_it_make() {
    let server = Server::start().await;
    let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}});
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let (code, made) = server.put(&format!("{path}/l"), lease.clone()).await;
    assert_eq!((code, &made["spec"]["holderIdentity"]), (StatusCode::CREATED, &json!("a")));
    assert_eq!(server.put(&format!("{path}/l"), lease.clone()).await.0, StatusCode::OK);
    let role = json!({"metadata": {"name": "r"}, "rules": []});
    let (code, made) = server.put(&format!("{RBAC}/namespaces/default/roles/r"), role).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    check_error(
        &server.put(&format!("{MAPS}/none"), json!({"metadata": {"name": "none"}})).await,
        expect![[r#"404 "NotFound": "configmaps \"none\" not found""#]],
    );
    check_error(
        &server.put(&format!("{path}/other"), lease.clone()).await,
        expect![[r#"400 "BadRequest": "the name of the object (l) does not match the name on the URL (other)""#]],
    );
    let mut known = lease;
    known["metadata"] = json!({"name": "gone", "uid": "0"});
    assert_eq!(server.put(&format!("{path}/gone"), known).await.0, StatusCode::NOT_FOUND);

    let rules = json!([{"verbs": ["update"], "apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}]);
    doors::grant(&server, "updater", rules).await;
    let body = json!({"metadata": {"name": "m"}}).to_string();
    let updater = server.as_user("updater");
    let refused = updater.call(Method::PUT, &format!("{path}/m"), "application/json", body).await;
    check_error(
        &refused,
        expect![[
            r#"403 "Forbidden": "leases.coordination.k8s.io \"m\" is forbidden: User \"updater\" cannot create resource \"leases\" in API group \"coordination.k8s.io\" in the namespace \"default\"""#
        ]],
    );
}

#[tokio::test]
async fn a_deletion_is_answered_with_the_object_where_upstream_does() {
    let server = Server::start().await;
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    let services = "/api/v1/namespaces/default/services";
    server.post(services, service).await;
    let (code, deleted) = server.delete(&format!("{services}/s"), json!({})).await;
    assert_eq!(
        (code, &deleted["kind"], &deleted["metadata"]["name"]),
        (StatusCode::OK, &json!("Service"), &json!("s"))
    );
    server.post(MAPS, json!({"metadata": {"name": "m"}})).await;
    let (code, deleted) = server.delete(&format!("{MAPS}/m"), json!({})).await;
    assert_eq!((code, &deleted["kind"], &deleted["status"]), (StatusCode::OK, &json!("Status"), &json!("Success")));
}

#[tokio::test]
async fn a_patch_that_does_not_fit_is_unprocessable() {
    let server = Server::start().await;
    server.post(MAPS, json!({"metadata": {"name": "m"}})).await;
    let patch = async |operation: Value| {
        let body = json!([operation]).to_string();
        server.call(Method::PATCH, &format!("{MAPS}/m"), "application/json-patch+json", body).await
    };
    for operation in [
        json!({"op": "test", "path": "/metadata/name", "value": "other"}),
        json!({"op": "remove", "path": "/data/none"}),
    ] {
        let (code, told) = patch(operation).await;
        assert_eq!((code, &told["reason"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("Invalid")), "{told}");
    }
    assert_eq!(patch(json!({"op": "own", "path": "/x"})).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_flag_is_whatever_is_not_false() {
    let server = Server::start().await;
    server.post(MAPS, json!({"metadata": {"name": "m"}})).await;
    for flag in ["watch=True", "watch=yes", "watch=1", "watch", "watch=true"] {
        let seen = server.watch(&format!("{MAPS}?{flag}"), 1).await;
        assert_eq!(seen[0]["type"], "ADDED", "{flag}");
    }
    for flag in ["watch=False", "watch=0", "watch=false"] {
        let (_, list) = server.get(&format!("{MAPS}?{flag}")).await;
        assert_eq!(list["kind"], "ConfigMapList", "{flag}");
    }
}

#[test]
fn who_acts_as_another_needs_a_right_to_all_of_it() {
    let headers = |all: &[(&str, &str)]| {
        let pairs = all.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
        pairs.collect::<http::HeaderMap>()
    };
    let asked = crate::users::impersonated(&headers(&[
        ("Impersonate-User", "jane"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Extra-Example.org%2Fscope", "view"),
    ]));
    let asked = asked.expect("readable").expect("somebody");
    let rights: Vec<String> = asked.rights.iter().map(|r| format!("{}/{} {}", r.group, r.resource, r.name)).collect();
    assert_eq!(
        rights,
        [
            "/groups a",
            "/groups b",
            "/users jane",
            "authentication.k8s.io/uids 7",
            "authentication.k8s.io/userextras/example.org/scope view"
        ]
    );
    assert_eq!((asked.user.name.as_str(), asked.user.uid.as_str()), ("jane", "7"));
    assert_eq!(asked.user.extra["example.org/scope"], ["view"]);
    assert!(asked.user.groups.contains(&"b".to_owned()));
    let account = crate::users::impersonated(&headers(&[("Impersonate-User", "system:serviceaccount:ns:bot")]));
    let account = account.expect("readable").expect("somebody");
    assert_eq!(
        (account.rights[0].resource.as_str(), account.rights[0].namespace.as_deref()),
        ("serviceaccounts", Some("ns"))
    );
    assert!(account.user.groups.contains(&"system:serviceaccounts:ns".to_owned()));
    assert!(crate::users::impersonated(&headers(&[])).expect("readable").is_none());
    let bytes = |bytes: &[u8]| {
        let value = http::HeaderValue::from_bytes(bytes).expect("a value");
        crate::users::impersonated(&[("impersonate-user".parse().expect("a name"), value)].into_iter().collect())
    };
    let named = bytes("jörg".as_bytes()).expect("readable").expect("somebody");
    assert_eq!((named.user.name.as_str(), named.rights[0].name.as_str()), ("jörg", "jörg"));
    assert_eq!(bytes(b"\xff\xfe").map(|_| ()).expect_err("not understood").code, StatusCode::BAD_REQUEST);
    let refused = crate::users::impersonated(&headers(&[("Impersonate-Group", "system:masters")]));
    assert_eq!(refused.map(|_| ()).expect_err("nobody is named").code, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn answers_are_in_yaml_where_that_is_asked_for() {
    let server = Server::start().await;
    let request = Request::get("/api/v1/namespaces/default").header("accept", "application/yaml, application/json");
    let response = server.api.handle(server.user.clone(), request.body(body::full("")).expect("a request")).await;
    assert_eq!(response.headers()["content-type"], "application/yaml");
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    let read: Value = serde_yaml::from_slice(&bytes).expect("YAML");
    assert_eq!(read["metadata"]["name"], "default");
    assert!(serde_json::from_slice::<Value>(&bytes).is_err(), "it is no JSON");
    let request = Request::get("/api/v1/namespaces/none").header("accept", "application/yaml");
    let response = server.api.handle(server.user.clone(), request.body(body::full("")).expect("a request")).await;
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(serde_yaml::from_slice::<Value>(&bytes).expect("YAML")["reason"], "NotFound");
}

#[tokio::test]
async fn what_is_computed_is_described() {
    let server = Server::start().await;
    let (_, index) = server.get("/openapi/v3").await;
    let url = index["paths"]["apis/metrics.k8s.io/v1beta1"]["serverRelativeURL"].as_str().expect("a place").to_owned();
    let (code, document) = server.get(url.split('?').next().expect("a path")).await;
    assert_eq!(code, StatusCode::OK);
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    let pods = schemas.iter().find(|(name, _)| name.ends_with(".PodMetrics")).expect("the kind").1;
    assert_eq!(pods["x-kubernetes-group-version-kind"][0]["kind"], "PodMetrics");
    assert!(pods["properties"]["containers"]["items"]["properties"]["usage"].is_object());
}

#[tokio::test]
async fn what_is_asked_is_counted() {
    let server = Server::start().await;
    server.post(MAPS, json!({"metadata": {"name": "a"}})).await;
    server.post(&format!("{MAPS}?dryRun=All"), json!({"metadata": {"name": "b"}})).await;
    server.get(&format!("{MAPS}/none")).await;
    server.get("/api/v1/namespaces/default/pods/none/nonsense").await;
    server.get("/version").await;
    let request = Request::get("/metrics").body(body::full("")).expect("a request");
    let response = server.api.handle(server.user.clone(), request).await;
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    let text = String::from_utf8(bytes.to_vec()).expect("text");
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("apiserver_request_total") && !line.contains("resource=\"leases\""))
        .collect();
    expect![[r#"
        apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="",scope="",subresource="",verb="GET",version=""} 1
        apiserver_request_total{code="201",component="apiserver",dry_run="",group="",resource="configmaps",scope="namespace",subresource="",verb="POST",version="v1"} 1
        apiserver_request_total{code="201",component="apiserver",dry_run="All",group="",resource="configmaps",scope="namespace",subresource="",verb="POST",version="v1"} 1
        apiserver_request_total{code="404",component="apiserver",dry_run="",group="",resource="configmaps",scope="resource",subresource="",verb="GET",version="v1"} 1
        apiserver_request_total{code="404",component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="",verb="GET",version="v1"} 1"#]].assert_eq(&lines.join("\n"));
    assert!(text.contains("apiserver_storage_objects{resource=\"configmaps\"} 2"), "{text}");
    assert!(text.contains("apiserver_current_inflight_requests{request_kind=\"readOnly\"} 0"));
    assert!(text.contains("apiserver_request_duration_seconds_bucket{component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"configmaps\""));
}
