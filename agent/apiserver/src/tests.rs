//! The API as a client sees it, in process, over a real store.

use std::net::SocketAddr;
use std::path::Path;

use expect_test::{Expect, expect};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use skiff_store::Embedded;
use tokio_util::sync::CancellationToken;

use crate::{Api, AuditConfig, AuthenticationConfig, Config, Identity, Names, Pki, ServiceNetwork, User, body};

mod aggregation;
mod apply;
mod audit;
mod certificates;
mod clients;
mod conversion;
mod coverage;
mod custom;
mod doors;
mod evictions;
mod extensions;
mod hook;
mod identities;
mod limit_ranges;
mod mutations;
mod oidc;
mod pod_security;
mod priority_levels;
mod protobuf;
mod resource_quotas;
mod sealing_keys;
mod usage;
mod writes;

struct Server {
    api: Api<Embedded>,
    /// Another server on the same store.
    second: Api<Embedded>,
    user: User,
    _dir: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        Self::started(|_, _| {}).await
    }

    /// One that believes the tokens of others, too.
    async fn believing(authentication: AuthenticationConfig) -> Self {
        Self::started(|config, _| config.authentication = authentication).await
    }

    /// With an audit log, whose place is below the folder that is given.
    async fn recording(audit: impl FnOnce(&Path) -> AuditConfig) -> Self {
        Self::started(|config, dir| config.audit = Some(audit(dir))).await
    }

    async fn started(configure: impl FnOnce(&mut Config, &Path)) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let names = Names {
            dns: vec!["localhost".to_owned()],
            addresses: vec![],
            server_url: "https://localhost:6443".to_owned(),
            kubeconfig: dir.path().join("kubeconfig.yaml"),
        };
        let pki = Pki::open(&dir.path().join("pki"), names).expect("pki");
        let mut config = skiff_store::Config::new(dir.path().join("store"));
        config.volatile_prefixes = crate::volatile_prefixes();
        config.history_max = 100;
        let store = Embedded::open(config).expect("store");
        let network = ServiceNetwork { base: [10, 43, 0, 0].into(), prefix_len: 24, node_ports: 30_000..=30_010 };
        let mut config = Config {
            node_name: "box".to_owned(),
            address: SocketAddr::from(([192, 168, 0, 1], 6443)),
            service_network: network,
            pod_network: ([10, 42, 0, 0].into(), 24),
            own_ports: vec![("TCP", 6443, "the API").into()],
            audit: None,
            authentication: Default::default(),
        };
        configure(&mut config, dir.path());
        let start = |store| Api::start(config.clone(), store, &pki, CancellationToken::new());
        let api = start(store.clone()).await.expect("api");
        config.audit = None;
        let start = |store| Api::start(config.clone(), store, &pki, CancellationToken::new());
        let second = start(store).await.expect("another on the same store");
        Self { api, second, user: User::of(&Identity::Administrator), _dir: dir }
    }

    /// The same server as somebody else sees it.
    fn as_user(&self, name: &str) -> As<'_> {
        let user = User { name: name.to_owned(), groups: vec!["system:authenticated".to_owned()], ..User::anonymous() };
        As { server: self, user }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: impl Into<String>,
    ) -> (StatusCode, Value) {
        As { server: self, user: self.user.clone() }.call(method, path, content_type, body).await
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, "", "").await
    }

    async fn post(&self, path: &str, object: Value) -> (StatusCode, Value) {
        self.call(Method::POST, path, "application/json", object.to_string()).await
    }

    async fn put(&self, path: &str, object: Value) -> (StatusCode, Value) {
        self.call(Method::PUT, path, "application/json", object.to_string()).await
    }

    async fn merge(&self, path: &str, patch: Value) -> (StatusCode, Value) {
        self.call(Method::PATCH, path, "application/merge-patch+json", patch.to_string()).await
    }

    async fn delete(&self, path: &str, options: Value) -> (StatusCode, Value) {
        self.call(Method::DELETE, path, "application/json", options.to_string()).await
    }

    /// A list as people see it.
    async fn table(&self, path: &str) -> Value {
        let request = Request::get(path).header("accept", "application/json;as=Table;g=meta.k8s.io;v=v1");
        let request = request.body(body::full("")).expect("a request");
        read(self.api.handle(self.user.clone(), request).await).await.1
    }

    /// The first `count` lines of a watch.
    async fn watch(&self, path: &str, count: usize) -> Vec<Value> {
        let request = Request::get(path).body(body::full("")).expect("a request");
        let mut response = self.api.handle(self.user.clone(), request).await.into_body();
        let mut text = String::new();
        while text.lines().count() < count {
            let Some(frame) = response.frame().await else { break };
            let bytes = frame.expect("a frame").into_data().expect("data");
            text.push_str(std::str::from_utf8(&bytes).expect("text"));
        }
        text.lines().take(count).map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

async fn read(response: http::Response<body::Body>) -> (StatusCode, Value) {
    let status = response.status();
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// A server as one user sees it.
struct As<'a> {
    server: &'a Server,
    user: User,
}

impl As<'_> {
    async fn call(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: impl Into<String>,
    ) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path).header("content-type", content_type);
        let request = request.body(body::full(body.into())).expect("a request");
        read(self.server.api.handle(self.user.clone(), request).await).await
    }

    async fn post(&self, path: &str, object: Value) -> (StatusCode, Value) {
        self.call(Method::POST, path, "application/json", object.to_string()).await
    }

    async fn strategic(&self, path: &str, patch: Value) -> (StatusCode, Value) {
        self.call(Method::PATCH, path, "application/strategic-merge-patch+json", patch.to_string()).await
    }

    async fn json_patch(&self, path: &str, patch: Value) -> (StatusCode, Value) {
        self.call(Method::PATCH, path, "application/json-patch+json", patch.to_string()).await
    }
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

fn check_error(answer: &(StatusCode, Value), expected: Expect) {
    let (code, status) = answer;
    assert_eq!(status["kind"], "Status", "{status}");
    expected.assert_eq(&format!("{} {}: {}", code.as_u16(), status["reason"], status["message"]));
}

/// What a refusal blames, one line each.
fn causes(refused: &Value) -> String {
    let causes = refused["details"]["causes"].as_array().expect("causes").iter();
    let lines: Vec<String> = causes
        .map(|c| format!("{}: {}", c["field"].as_str().unwrap_or_default(), c["message"].as_str().unwrap_or_default()))
        .collect();
    lines.join("\n")
}

#[tokio::test]
async fn objects_are_made_read_changed_and_deleted() {
    let server = Server::start().await;
    let (code, made) = server.post(MAPS, map("a")).await;
    assert_eq!(code, StatusCode::CREATED);
    assert!(made["metadata"]["uid"].is_string() && made["metadata"]["creationTimestamp"].is_string());
    let one = format!("{MAPS}/a");
    assert_eq!(server.get(&one).await, (StatusCode::OK, made.clone()));
    check_error(
        &server.post(MAPS, map("a")).await,
        expect![[r#"409 "AlreadyExists": "configmaps \"a\" already exists""#]],
    );

    let mut changed = made.clone();
    changed["data"]["a"] = json!("2");
    let (code, changed) = server.put(&one, changed).await;
    assert_eq!((code, &changed["data"]["a"]), (StatusCode::OK, &json!("2")));
    check_error(
        &server.put(&one, made).await,
        expect![[
            r#"409 "Conflict": "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again""#
        ]],
    );
    let (_, same) = server.put(&one, changed.clone()).await;
    assert_eq!(same["metadata"]["resourceVersion"], changed["metadata"]["resourceVersion"], "nothing changed");

    let (code, patched) = server.merge(&one, json!({"data": {"a": null, "b": "3"}})).await;
    assert_eq!((code, &patched["data"]), (StatusCode::OK, &json!({"b": "3"})));
    let wrong_uid = json!({"preconditions": {"uid": "other"}});
    let (code, refused) = server.delete(&one, wrong_uid).await;
    assert_eq!((code, &refused["reason"]), (StatusCode::CONFLICT, &json!("Conflict")));
    let message = refused["message"].as_str().expect("a message");
    assert!(message.contains("Precondition failed: UID in precondition: other, UID in object meta: "), "{message}");
    assert_eq!(server.delete(&one, json!({})).await.0, StatusCode::OK);
    check_error(&server.get(&one).await, expect![[r#"404 "NotFound": "configmaps \"a\" not found""#]]);
}

#[tokio::test]
async fn bad_requests_say_what_is_wrong() {
    let server = Server::start().await;
    check_error(
        &server.call(Method::POST, MAPS, "application/json", "{not json").await,
        expect![[
            r#"400 "BadRequest": "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: key must be a string at line 1 column 2""#
        ]],
    );
    check_error(
        &server.call(Method::POST, MAPS, "application/json", "").await,
        expect![[r#"400 "BadRequest": "the body is empty: it must be a ConfigMap in JSON""#]],
    );
    check_error(
        &server.call(Method::POST, MAPS, "text/html", "x").await,
        expect![[
            r#"415 "UnsupportedMediaType": "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf""#
        ]],
    );
    check_error(
        &server.post(MAPS, json!({"kind": "Secret", "apiVersion": "v1"})).await,
        expect![[
            r#"400 "BadRequest": "Secret in version \"v1\" cannot be handled as a ConfigMap: the kind in the data (Secret) does not match the expected kind (ConfigMap)""#
        ]],
    );
    check_error(
        &server.post(MAPS, map("Not_A_Name")).await,
        expect![[
            r#"422 "Invalid": "ConfigMap \"Not_A_Name\" is invalid: metadata.name: Invalid value: \"Not_A_Name\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')""#
        ]],
    );
    check_error(
        &server.post("/api/v1/namespaces/nowhere/configmaps", map("a")).await,
        expect![[r#"404 "NotFound": "namespaces \"nowhere\" not found""#]],
    );
    let mut other = map("a");
    other["metadata"]["namespace"] = json!("kube-system");
    check_error(
        &server.post(MAPS, other).await,
        expect![[
            r#"400 "BadRequest": "the namespace of the provided object does not match the namespace sent on the request""#
        ]],
    );
    check_error(
        &server.get(&format!("{MAPS}?labelSelector=a%3D%3D%3D")).await,
        expect![[r#"400 "BadRequest": "unable to parse requirement: found '=', expected: ',' or 'end of string'""#]],
    );
    check_error(
        &server.get(&format!("{MAPS}?fieldSelector=spec.x%3D1")).await,
        expect![[
            r#"400 "BadRequest": "\"spec.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"""#
        ]],
    );
    check_error(
        &server.get(&format!("{MAPS}?limit=many")).await,
        expect![[r#"400 "BadRequest": "invalid value \"many\" for limit: it must be a whole number""#]],
    );
    check_error(
        &server.get(&format!("{MAPS}?continue=rubbish")).await,
        expect![[r#"400 "BadRequest": "continue key is not valid: it was not given out by this server""#]],
    );
    check_error(
        &server.get(&format!("{MAPS}?resourceVersion=x")).await,
        expect![[r#"400 "BadRequest": "Invalid value: \"x\": resourceVersion: it must be a whole number""#]],
    );
    check_error(
        &server.get("/apis/no.such.group/v1/things").await,
        expect![[r#"404 "NotFound": "the server could not find the requested resource""#]],
    );
    check_error(
        &server.call(Method::POST, &format!("{MAPS}/a"), "", "").await,
        expect![[
            r#"405 "MethodNotAllowed": "the server does not allow this method on the requested resource (POST)""#
        ]],
    );
    let patch = server.call(Method::PATCH, &format!("{MAPS}/a"), "application/apply-patch+cbor", "a: b").await;
    check_error(
        &patch,
        expect![[
            r#"415 "UnsupportedMediaType": "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml""#
        ]],
    );
    let large = "x".repeat(4 << 20);
    check_error(
        &server.call(Method::POST, MAPS, "application/json", large).await,
        expect![[r#"413 "RequestEntityTooLarge": "Request entity is too large: limit is 3145728""#]],
    );
}

#[tokio::test]
async fn lists_are_paged_and_selected() {
    let server = Server::start().await;
    for name in ["a", "b", "c"] {
        let mut map = map(name);
        map["metadata"]["labels"] = json!({"name": name});
        server.post(MAPS, map).await;
    }
    let (_, page) = server.get(&format!("{MAPS}?limit=2")).await;
    assert_eq!(page["items"].as_array().map(Vec::len), Some(2));
    assert_eq!(page["metadata"]["remainingItemCount"], 1);
    let token = page["metadata"]["continue"].as_str().expect("a token").to_owned();
    server.post(MAPS, map("bb")).await;
    let (_, rest) = server.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    let names: Vec<_> =
        rest["items"].as_array().expect("items").iter().map(|i| i["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["c"], "the second page is of the first one's revision");
    let (_, selected) = server.get(&format!("{MAPS}?labelSelector=name+in+(a,c)")).await;
    assert_eq!(selected["items"].as_array().map(Vec::len), Some(2));
    let (_, one) = server.get("/api/v1/configmaps?fieldSelector=metadata.name%3Db").await;
    assert_eq!(one["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_watch_sees_what_happens_and_resumes() {
    let server = Server::start().await;
    let (_, made) = server.post(MAPS, map("a")).await;
    let version = made["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    server.merge(&format!("{MAPS}/a"), json!({"data": {"a": "2"}})).await;
    server.delete(&format!("{MAPS}/a"), json!({})).await;
    let path = format!("{MAPS}?watch=1&resourceVersion={version}");
    let seen: Vec<_> = server.watch(&path, 2).await.iter().map(|e| e["type"].clone()).collect();
    assert_eq!(seen, ["MODIFIED", "DELETED"]);

    server.post(MAPS, map("b")).await;
    let initial =
        format!("{MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true");
    let seen = server.watch(&initial, 2).await;
    assert_eq!((seen[0]["type"].clone(), seen[1]["type"].clone()), (json!("ADDED"), json!("BOOKMARK")));
    assert_eq!(seen[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");

    for n in 0..120 {
        server.merge(&format!("{MAPS}/b"), json!({"data": {"n": n.to_string()}})).await;
    }
    let told = server.watch(&path, 1).await.remove(0);
    let (what, object) = (&told["type"], &told["object"]);
    assert_eq!((what, &object["code"], &object["reason"]), (&json!("ERROR"), &json!(410), &json!("Expired")), "{told}");
}

#[tokio::test]
async fn a_selected_watch_tells_when_an_object_leaves_the_selection() {
    let server = Server::start().await;
    let path = format!("{MAPS}?watch=1&labelSelector=on%3Dyes&resourceVersion={}", {
        let (_, list) = server.get(MAPS).await;
        list["metadata"]["resourceVersion"].as_str().expect("a version").to_owned()
    });
    server.post(MAPS, map("a")).await;
    server.merge(&format!("{MAPS}/a"), json!({"metadata": {"labels": {"on": "yes"}}})).await;
    server.merge(&format!("{MAPS}/a"), json!({"metadata": {"labels": {"on": "no"}}})).await;
    let seen: Vec<_> = server.watch(&path, 2).await.iter().map(|e| e["type"].clone()).collect();
    assert_eq!(seen, ["ADDED", "DELETED"]);
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let server = Server::start().await;
    let mut held = map("a");
    held["metadata"]["finalizers"] = json!(["example.org/hold"]);
    server.post(MAPS, held).await;
    let one = format!("{MAPS}/a");
    let (_, pending) = server.delete(&one, json!({})).await;
    assert!(pending["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(server.get(&one).await.0, StatusCode::OK);
    server.merge(&one, json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(server.get(&one).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn services_get_addresses_and_ports_of_their_own() {
    let server = Server::start().await;
    let services = "/api/v1/namespaces/default/services";
    let service = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let ports = json!([{"port": 80}]);
    let (_, a) = server.post(services, service("a", json!({"type": "NodePort", "ports": ports}))).await;
    let (_, b) = server.post(services, service("b", json!({"type": "NodePort", "ports": ports}))).await;
    assert_ne!(a["spec"]["clusterIP"], b["spec"]["clusterIP"]);
    assert_ne!(a["spec"]["ports"][0]["nodePort"], b["spec"]["ports"][0]["nodePort"]);
    let taken = json!({"clusterIP": a["spec"]["clusterIP"], "ports": ports});
    let (code, _) = server.post(services, service("c", taken)).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    let outside = json!({"clusterIP": "192.168.7.7", "ports": ports});
    check_error(
        &server.post(services, service("c", outside)).await,
        expect![[
            r#"422 "Invalid": "Service \"c\" is invalid: spec.clusterIPs: Invalid value: [\"192.168.7.7\"]: failed to allocate IP 192.168.7.7: the provided IP (192.168.7.7) is not in the valid range. The range of valid IPs is 10.43.0.0/24""#
        ]],
    );
    // An update that leaves out what the server gave keeps it.
    let update = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
        "spec": {"type": "NodePort", "ports": [{"port": 80, "targetPort": 8080}]}});
    let (code, updated) = server.put(&format!("{services}/a"), update).await;
    assert_eq!(code, StatusCode::OK, "{updated}");
    assert_eq!(updated["spec"]["clusterIP"], a["spec"]["clusterIP"]);
    assert_eq!(updated["spec"]["ports"][0]["nodePort"], a["spec"]["ports"][0]["nodePort"]);
    let (_, headless) = server.post(services, service("h", json!({"clusterIP": "None", "ports": ports}))).await;
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
}

#[tokio::test]
async fn roles_decide_what_a_user_may_do() {
    let mut server = Server::start().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let role = json!({"metadata": {"name": "r"}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"]}]});
    let binding = json!({"metadata": {"name": "b"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role",
        "name": "r"}, "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}]});
    assert_eq!(server.post(&format!("{rbac}/roles"), role).await.0, StatusCode::CREATED);
    assert_eq!(server.post(&format!("{rbac}/rolebindings"), binding).await.0, StatusCode::CREATED);
    server.post(MAPS, map("a")).await;
    server.user =
        User { name: "jane".to_owned(), groups: vec!["system:authenticated".to_owned()], ..User::anonymous() };
    let mut allowed = server.get(&format!("{MAPS}/a")).await.0;
    for _ in 0..100 {
        if allowed == StatusCode::OK {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        allowed = server.get(&format!("{MAPS}/a")).await.0;
    }
    assert_eq!(allowed, StatusCode::OK);
    check_error(
        &server.get(MAPS).await,
        expect![[
            r#"403 "Forbidden": "configmaps is forbidden: User \"jane\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"default\"""#
        ]],
    );
    check_error(
        &server.get("/api/v1/namespaces/kube-system/secrets/x").await,
        expect![[
            r#"403 "Forbidden": "secrets \"x\" is forbidden: User \"jane\" cannot get resource \"secrets\" in API group \"\" in the namespace \"kube-system\"""#
        ]],
    );
    assert_eq!(server.get("/apis").await.0, StatusCode::OK, "discovery is for all who are authenticated");
    server.user = User::anonymous();
    assert_eq!(server.get("/healthz").await.0, StatusCode::OK);
    check_error(
        &server.get("/apis").await,
        expect![[r#"403 "Forbidden": "forbidden: User \"system:anonymous\" cannot get path \"/apis\"""#]],
    );
}

#[tokio::test]
async fn strict_validation_names_the_field() {
    let server = Server::start().await;
    let path = format!("{MAPS}?fieldValidation=Strict");
    let mut unknown = map("a");
    unknown["dataa"] = json!({});
    check_error(
        &server.post(&path, unknown).await,
        expect![[
            r#"400 "BadRequest": "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"dataa\"""#
        ]],
    );
    let duplicate = r#"{"metadata": {"name": "a", "name": "b"}}"#;
    check_error(
        &server.call(Method::POST, &path, "application/json", duplicate).await,
        expect![[
            r#"400 "BadRequest": "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: duplicate field \"metadata.name\"""#
        ]],
    );
}

#[tokio::test]
async fn dry_run_changes_nothing() {
    let server = Server::start().await;
    assert_eq!(server.post(&format!("{MAPS}?dryRun=All"), map("a")).await.0, StatusCode::CREATED);
    assert_eq!(server.get(&format!("{MAPS}/a")).await.0, StatusCode::NOT_FOUND);
    check_error(
        &server.post(&format!("{MAPS}?dryRun=Some"), map("a")).await,
        expect![[
            r#"400 "BadRequest": "Invalid value: \"Some\": dryRun: Unsupported value: supported values: \"All\"""#
        ]],
    );
}

#[tokio::test]
async fn a_namespace_that_ends_takes_nothing_new() {
    let server = Server::start().await;
    server.post("/api/v1/namespaces", json!({"metadata": {"name": "n"}})).await;
    let (_, ending) = server.delete("/api/v1/namespaces/n", json!({})).await;
    assert_eq!(ending["status"]["phase"], "Terminating");
    check_error(
        &server.post("/api/v1/namespaces/n/configmaps", map("a")).await,
        expect![[
            r#"403 "Forbidden": "configmaps \"a\" is forbidden: unable to create new content in namespace n because it is being terminated""#
        ]],
    );
    check_error(
        &server.delete("/api/v1/namespaces/default", json!({})).await,
        expect![[r#"403 "Forbidden": "namespaces \"default\" is forbidden: this namespace may not be deleted""#]],
    );
    let (_, mut namespace) = server.get("/api/v1/namespaces/n").await;
    namespace["spec"]["finalizers"] = json!([]);
    server.put("/api/v1/namespaces/n/finalize", namespace).await;
    assert_eq!(server.get("/api/v1/namespaces/n").await.0, StatusCode::NOT_FOUND);
}
