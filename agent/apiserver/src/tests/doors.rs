//! What somebody with few rights tries, and must not get.

use super::identities::{node, two_nodes};
use super::*;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// Gives `user` rules in the default namespace, and waits until they count.
pub(super) async fn grant(server: &Server, user: &str, rules: Value) {
    let held = || server.api.authorizer().rules_in(&server.as_user(user).user, Some("default")).len();
    let (name, before) = (user.to_owned(), held());
    let role = json!({"metadata": {"name": name}, "rules": rules});
    let binding = json!({"metadata": {"name": name}, "subjects": [{"kind": "User", "name": user,
        "apiGroup": "rbac.authorization.k8s.io"}], "roleRef": {"apiGroup": "rbac.authorization.k8s.io",
        "kind": "Role", "name": name}});
    assert_eq!(server.post(&format!("{RBAC}/namespaces/default/roles"), role).await.0, StatusCode::CREATED);
    assert_eq!(server.post(&format!("{RBAC}/namespaces/default/rolebindings"), binding).await.0, StatusCode::CREATED);
    for _ in 0..200 {
        if held() > before {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("the binding does not count");
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "a", "image": "localhost/a:1"}]}})
}

async fn with_pod() -> Server {
    let server = Server::start().await;
    let account = json!({"metadata": {"name": "default"}});
    server.post("/api/v1/namespaces/default/serviceaccounts", account).await;
    let (code, made) = server.post(PODS, pod("p")).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    server
}

#[tokio::test]
async fn ephemeral_containers_change_nothing_else() {
    let server = with_pod().await;
    let rules = json!([{"verbs": ["patch", "update"], "apiGroups": [""], "resources": ["pods/ephemeralcontainers"]}]);
    grant(&server, "debugger", rules).await;
    let (_, before) = server.get(&format!("{PODS}/p")).await;
    let path = format!("{PODS}/p/ephemeralcontainers");
    let debugger = server.as_user("debugger");
    let takeover = json!({
        "metadata": {"labels": {"taken": "over"}, "finalizers": ["example.org/x"]},
        "spec": {"hostPID": true, "hostNetwork": true, "nodeName": "other",
            "containers": [{"name": "a", "image": "localhost/evil:1", "securityContext": {"privileged": true}}],
            "ephemeralContainers": [{"name": "debug", "image": "localhost/debug:1"}]},
        "status": {"phase": "Succeeded", "podIP": "127.0.0.1"},
    });
    let (code, after) = debugger.strategic(&path, takeover).await;
    assert_eq!(code, StatusCode::OK, "{after}");
    assert_eq!(after["spec"]["ephemeralContainers"][0]["name"], "debug");
    let mut rest = after.clone();
    rest["spec"].as_object_mut().expect("a spec").remove("ephemeralContainers");
    for field in ["resourceVersion", "generation", "managedFields"] {
        rest["metadata"][field] = before["metadata"][field].clone();
    }
    assert_eq!(rest, before, "all but the one list is as it was");

    let replaced = json!([{"op": "replace", "path": "/spec/ephemeralContainers/0/image", "value": "localhost/evil:1"}]);
    check_error(
        &debugger.json_patch(&path, replaced).await,
        expect![[
            r#"422 "Invalid": "Pod \"p\" is invalid: spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debug\" may not be changed""#
        ]],
    );
    let removed = json!([{"op": "remove", "path": "/spec/ephemeralContainers/0"}]);
    check_error(
        &debugger.json_patch(&path, removed).await,
        expect![[
            r#"422 "Invalid": "Pod \"p\" is invalid: spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debug\" may not be removed""#
        ]],
    );
    let twice = json!({"spec": {"ephemeralContainers": [{"name": "a", "image": "localhost/debug:1", "ports": [{"containerPort": 1}]}]}});
    let (code, refused) = debugger.strategic(&path, twice).await;
    let message = refused["message"].as_str().unwrap_or_default();
    assert!(code == StatusCode::UNPROCESSABLE_ENTITY && message.contains("Duplicate value: \"a\""), "{message}");
    assert!(message.contains("cannot be set for an Ephemeral Container"), "{message}");
    let resize = server.call(Method::PATCH, &format!("{PODS}/p/resize"), "application/merge-patch+json", "{}").await;
    assert_eq!(resize.0, StatusCode::NOT_FOUND, "what is not real is not there");
}

#[tokio::test]
async fn nobody_grants_more_than_they_hold() {
    let server = Server::start().await;
    let rules = json!([
        {"verbs": ["create", "get", "patch"], "apiGroups": ["rbac.authorization.k8s.io"],
            "resources": ["roles", "rolebindings"]},
        {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]},
    ]);
    grant(&server, "admin", rules).await;
    let admin = server.as_user("admin");
    let roles = format!("{RBAC}/namespaces/default/roles");
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let role = |name: &str, rules: Value| json!({"metadata": {"name": name}, "rules": rules});
    let everything = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
    check_error(
        &admin.post(&roles, role("all", everything.clone())).await,
        expect![[
            r#"403 "Forbidden": "roles.rbac.authorization.k8s.io \"all\" is forbidden: user \"admin\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}""#
        ]],
    );
    let held = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
    assert_eq!(admin.post(&roles, role("mine", held)).await.0, StatusCode::CREATED);
    let more = json!({"rules": everything});
    let patched = admin.strategic(&format!("{roles}/mine"), more).await;
    assert_eq!(patched.0, StatusCode::FORBIDDEN, "{}", patched.1);
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(admin.strategic(&format!("{roles}/mine"), label).await.0, StatusCode::OK);

    let binding = |name: &str, kind: &str, role: &str| {
        json!({"metadata": {"name": name}, "subjects": [{"kind": "User", "name": "admin",
            "apiGroup": "rbac.authorization.k8s.io"}], "roleRef": {"apiGroup": "rbac.authorization.k8s.io",
            "kind": kind, "name": role}})
    };
    let (code, refused) = admin.post(&bindings, binding("b", "ClusterRole", "cluster-admin")).await;
    assert_eq!(code, StatusCode::FORBIDDEN, "{refused}");
    let (code, refused) = admin.post(&bindings, binding("b", "ClusterRole", "admin")).await;
    assert_eq!(code, StatusCode::FORBIDDEN, "aggregated rules count: {refused}");
    assert_eq!(admin.post(&bindings, binding("b", "Role", "mine")).await.0, StatusCode::CREATED);
    assert_eq!(admin.post(&bindings, binding("c", "Role", "not-there-yet")).await.0, StatusCode::NOT_FOUND);
    // Whoever administers the cluster does as before.
    assert_eq!(server.post(&roles, role("all", everything)).await.0, StatusCode::CREATED);
    assert_eq!(admin.post(&bindings, binding("d", "Role", "all")).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_aggregation_is_everything_that_may_come() {
    let server = Server::start().await;
    let verbs = ["create", "get", "patch"];
    let rules = json!([{"verbs": verbs, "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"]}]);
    let role = json!({"metadata": {"name": "roles"}, "rules": rules});
    server.post(&format!("{RBAC}/clusterroles"), role).await;
    let binding = json!({"metadata": {"name": "roles"}, "subjects": [{"kind": "User", "name": "admin",
        "apiGroup": "rbac.authorization.k8s.io"}], "roleRef": {"apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole", "name": "roles"}});
    server.post(&format!("{RBAC}/clusterrolebindings"), binding).await;
    let admin = server.as_user("admin");
    let aggregated = json!({"metadata": {"name": "a"}, "rules": [],
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"x": "y"}}]}});
    let mut why = String::new();
    for _ in 0..200 {
        let (code, answer) = admin.post(&format!("{RBAC}/clusterroles"), aggregated.clone()).await;
        assert_eq!(code, StatusCode::FORBIDDEN, "{answer}");
        why = answer["message"].as_str().unwrap_or_default().to_owned();
        if why.contains("not currently held") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(why.contains("not currently held"), "the binding counts: {why}");
    // A label brings a role's rules to whoever has the role that selects it.
    let patched = async |name: &str, field: &str, key: &str| {
        let patch = json!({"metadata": {field: {key: "true"}}});
        admin.strategic(&format!("{RBAC}/clusterroles/{name}"), patch).await.0
    };
    let label = "rbac.authorization.k8s.io/aggregate-to-view";
    assert_eq!(patched("cluster-admin", "labels", label).await, StatusCode::FORBIDDEN);
    assert_eq!(patched("edit", "labels", label).await, StatusCode::FORBIDDEN);
    assert_eq!(patched("cluster-admin", "annotations", "a").await, StatusCode::OK);
    assert_eq!(patched("roles", "labels", label).await, StatusCode::OK, "these are held");
}

#[tokio::test]
async fn names_in_a_path_are_one_segment() {
    let server = Server::start().await;
    for path in [
        "/api/v1/namespaces/default/configmaps/a%2Fb",
        "/api/v1/namespaces/default%2Fconfigmaps/configmaps/a",
        "/api/v1/namespaces/default/configmaps/%2e%2e",
        "/api/v1/namespaces/../configmaps/a",
        "/api/v1/namespaces/default/configmaps/a%00b",
        "/api/v1/nodes/a%25b",
    ] {
        let (code, answer) = server.get(path).await;
        assert_eq!(code, StatusCode::BAD_REQUEST, "{path}: {answer}");
    }
}

#[tokio::test]
async fn patches_do_not_nest_without_end() {
    let server = Server::start().await;
    server.post(MAPS, map("a")).await;
    let path = format!("{MAPS}/a");
    // Each pair of operations moves all there is one level down.
    let nest = |from: &str, to: &str| {
        [
            json!({"op": "add", "path": format!("/{to}"), "value": {}}),
            json!({"op": "move", "from": format!("/{from}"), "path": format!("/{to}/{from}")}),
        ]
    };
    let first = json!({"op": "add", "path": "/x", "value": {}});
    let nested = (0..4900).flat_map(|n| if n % 2 == 0 { nest("x", "y") } else { nest("y", "x") });
    let patch: Vec<Value> = std::iter::once(first).chain(nested).collect();
    let (code, answer) =
        server.call(Method::PATCH, &path, "application/json-patch+json", json!(patch).to_string()).await;
    assert_eq!(code, StatusCode::BAD_REQUEST, "{answer}");
    let message = answer["message"].as_str().unwrap_or_default();
    assert!(message.contains("nested deeper than"), "{message}");
    let in_lists = (0..4900).flat_map(|n| {
        let (from, to) = if n % 2 == 0 { ("x", "y") } else { ("y", "x") };
        [
            json!({"op": "add", "path": format!("/{to}"), "value": []}),
            json!({"op": "move", "from": format!("/{from}"), "path": format!("/{to}/-")}),
        ]
    });
    let patch: Vec<Value> = std::iter::once(json!({"op": "add", "path": "/x", "value": []})).chain(in_lists).collect();
    let (code, _) = server.call(Method::PATCH, &path, "application/json-patch+json", json!(patch).to_string()).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let object = format!(r#"{{"metadata":{{"name":"d"}},"data":{deep}}}"#);
    let (code, _) = server.call(Method::POST, MAPS, "application/json", object.clone()).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    for kind in ["merge-patch", "strategic-merge-patch", "json-patch"] {
        let (code, _) = server.call(Method::PATCH, &path, &format!("application/{kind}+json"), object.clone()).await;
        assert_eq!(code, StatusCode::BAD_REQUEST, "{kind}");
    }
}

#[tokio::test]
async fn a_review_of_one_namespace_tells_of_no_other() {
    let server = Server::start().await;
    let path = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews";
    let review = |namespace: &str| {
        json!({"spec": {"user": "jane", "resourceAttributes": {"namespace": namespace, "verb": "get",
            "resource": "secrets"}}})
    };
    assert_eq!(server.post(path, review("default")).await.0, StatusCode::CREATED);
    check_error(
        &server.post(path, review("kube-system")).await,
        expect![[
            r#"400 "BadRequest": "spec.resourceAttributes.namespace: Invalid value: \"kube-system\": must match metadata.namespace""#
        ]],
    );
    let path_review = json!({"spec": {"user": "jane", "nonResourceAttributes": {"verb": "get", "path": "/metrics"}}});
    assert_eq!(server.post(path, path_review).await.0, StatusCode::BAD_REQUEST);
    let table = server.api.handle(
        server.user.clone(),
        Request::post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
            .header("content-type", "application/json")
            .header("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")
            .body(body::full("{}"))
            .expect("a request"),
    );
    assert_eq!(table.await.status(), StatusCode::NOT_ACCEPTABLE, "a review has no columns");
}

#[tokio::test]
async fn malformed_bodies_of_subresources_are_refused() {
    let server = with_pod().await;
    let token = "/api/v1/namespaces/default/serviceaccounts/default/token";
    for body in [
        r#""text""#,
        "[]",
        "7",
        r#"{"spec": 7}"#,
        r#"{"spec": {"audiences": 7}}"#,
        r#"{"spec": {"expirationSeconds": "x"}}"#,
    ] {
        let (code, answer) = server.call(Method::POST, token, "application/json", body).await;
        assert_eq!(code, StatusCode::BAD_REQUEST, "{body}: {answer}");
    }
    assert_eq!(server.post(token, json!({})).await.0, StatusCode::CREATED);
    for (sub, body) in [
        ("binding", "[]"),
        ("binding", r#"{"target": 7}"#),
        ("eviction", "7"),
        ("binding", r#"{"target": {"name": "../x"}}"#),
    ] {
        let (code, answer) = server.call(Method::POST, &format!("{PODS}/p/{sub}"), "application/json", body).await;
        assert_eq!(code, StatusCode::BAD_REQUEST, "{sub} {body}: {answer}");
    }
}

#[tokio::test]
async fn a_proxied_request_does_not_reach_the_machine_itself() {
    let server = with_pod().await;
    for ip in ["127.0.0.1", "169.254.169.254", "192.168.0.1", "10.43.0.10", "0.0.0.0", "::1", "::ffff:127.0.0.1"] {
        let status = json!({"status": {"podIP": ip, "podIPs": [{"ip": ip}]}});
        assert_eq!(server.merge(&format!("{PODS}/p/status"), status).await.0, StatusCode::OK);
        let (code, answer) = server.get(&format!("{PODS}/p:80/proxy/")).await;
        assert!(
            code == StatusCode::BAD_REQUEST && answer["message"].as_str().unwrap_or_default().contains("not allowed"),
            "{ip}: {code} {answer}"
        );
    }
}

#[tokio::test]
async fn the_boxs_own_ports_and_addresses_are_not_given_away() {
    let server = with_pod().await;
    let services = "/api/v1/namespaces/default/services";
    let service = json!({"metadata": {"name": "s"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 6443}]}});
    check_error(
        &server.post(services, service).await,
        expect![[
            r#"422 "Invalid": "Service \"s\" is invalid: spec.ports[0].port: Forbidden: port 6443 of this box is for the API: a Service of type LoadBalancer cannot have it""#
        ]],
    );
    let service = json!({"metadata": {"name": "s"}, "spec": {"externalIPs": ["127.0.0.1"], "ports": [{"port": 80}]}});
    check_error(
        &server.post(services, service).await,
        expect![[
            r#"422 "Invalid": "Service \"s\" is invalid: spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)""#
        ]],
    );
    let mut host_port = pod("h");
    host_port["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 6443}]);
    assert_eq!(server.post(PODS, host_port).await.0, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_status_write_brings_no_spec_and_keeps_labels() {
    let server = with_pod().await;
    let patch = json!({"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
        "spec": {"nodeName": "elsewhere", "containers": [{"name": "a", "image": "localhost/evil:1"}]},
        "status": {"phase": "Running"}});
    let (code, after) = server.merge(&format!("{PODS}/p/status"), patch).await;
    assert_eq!(code, StatusCode::OK, "{after}");
    assert_eq!(after["metadata"]["labels"]["a"], "b");
    assert_eq!(after["metadata"]["annotations"]["c"], "d");
    assert_eq!(
        (&after["status"]["phase"], &after["spec"]["containers"][0]["image"]),
        (&json!("Running"), &json!("localhost/a:1"))
    );
    assert_eq!(after["spec"].get("nodeName"), None);
}

/// An editor's merge of one long list into another, which compared each with each.
#[tokio::test]
async fn a_long_patch_takes_no_minutes() {
    let server = Server::start().await;
    let env =
        |prefix: &str| (0..40_000).map(|n| json!({"name": format!("{prefix}{n}"), "value": "x"})).collect::<Vec<_>>();
    let containers = |prefix: &str| json!([{"name": "c", "image": "localhost/a:1", "env": env(prefix)}]);
    let labels = json!({"app": "a"});
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let made = json!({"metadata": {"name": "a"}, "spec": {"selector": {"matchLabels": labels}, "template":
        {"metadata": {"labels": labels}, "spec": {"containers": containers("A")}}}});
    let (code, answer) = server.post(path, made).await;
    assert_eq!(code, StatusCode::CREATED, "{}", answer["message"]);
    let started = std::time::Instant::now();
    let patch = json!({"spec": {"template": {"spec": {"containers": containers("B")}}}});
    let (code, answer) = server
        .call(Method::PATCH, &format!("{path}/a"), "application/strategic-merge-patch+json", patch.to_string())
        .await;
    // Both together are more than an object may be.
    assert!([StatusCode::OK, StatusCode::PAYLOAD_TOO_LARGE].contains(&code), "{code}: {}", answer["message"]);
    assert!(started.elapsed() < std::time::Duration::from_secs(30), "{:?}", started.elapsed());
}

const NODES: &str = "/api/v1/nodes";

#[tokio::test]
async fn a_node_gives_itself_no_range() {
    let server = two_nodes().await;
    let ranges = json!({"podCIDR": "10.42.0.0/16", "podCIDRs": ["10.42.0.0/16"]});
    let c = server.as_part(&node("c"));
    check_error(
        &c.post(NODES, json!({"metadata": {"name": "c"}, "spec": ranges})).await,
        expect![[r#"403 "Forbidden": "nodes \"c\" is forbidden: node \"c\" is not allowed to set podCIDR""#]],
    );
    let (code, answer) = c.post(NODES, json!({"metadata": {"name": "c"}})).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    for spec in [&ranges, &json!({"podCIDRs": ["10.42.0.0/16"]}), &json!({"podCIDR": "10.42.0.0/16"})] {
        let (code, answer) = c.strategic(&format!("{NODES}/c"), json!({"spec": spec})).await;
        assert_eq!(code, StatusCode::FORBIDDEN, "{spec}: {answer}");
    }
    // The controller gives it one, which stays what it is.
    let ipam = server.as_part(&Identity::Controller("node-ipam-controller".to_owned()));
    let (code, answer) = ipam.strategic(&format!("{NODES}/c"), json!({"spec": {"podCIDR": "10.42.3.0/24"}})).await;
    assert_eq!((code, &answer["spec"]["podCIDRs"]), (StatusCode::OK, &json!(["10.42.3.0/24"])));
    let (code, answer) = c.strategic(&format!("{NODES}/c"), json!({"metadata": {"labels": {"room": "1"}}})).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
    let (code, _) = c.strategic(&format!("{NODES}/c"), json!({"spec": {"podCIDR": null, "podCIDRs": null}})).await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    let (code, _) = ipam.strategic(&format!("{NODES}/c"), json!({"spec": ranges})).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    // The box's own node has the range that the settings say.
    let own = json!({"metadata": {"name": "box"}, "spec": {"podCIDR": "10.42.0.0/24"}});
    let (code, answer) = server.as_part(&node("box")).post(NODES, own).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
}

#[tokio::test]
async fn a_node_does_not_say_what_role_it_has() {
    let server = two_nodes().await;
    let (a, c, own) = (server.as_part(&node("a")), server.as_part(&node("c")), server.as_part(&node("box")));
    let labels = |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), json!("x"))).collect::<Value>();
    let refused = [
        "node-role.kubernetes.io/control-plane",
        "kubernetes.io/cluster-service",
        "k8s.io/x",
        "x.k8s.io/y",
        "node.kubernetes.io.x.k8s.io/y",
        "xnode.kubernetes.io/y",
        "node-restriction.kubernetes.io/safe",
    ];
    for key in refused {
        let (code, answer) = a.strategic(&format!("{NODES}/a"), json!({"metadata": {"labels": labels(&[key])}})).await;
        assert_eq!(code, StatusCode::FORBIDDEN, "{key}: {answer}");
    }
    let taken = [
        "kubernetes.io/hostname",
        "beta.kubernetes.io/os",
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/zone",
        "node.kubernetes.io/instance-type",
        "kubelet.kubernetes.io/x",
        "x.kubelet.kubernetes.io/y",
        "example.org/room",
        "notkubernetes.io/x",
        "room",
    ];
    let (code, answer) = a.strategic(&format!("{NODES}/a"), json!({"metadata": {"labels": labels(&taken)}})).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
    let role = labels(&["a", "node-role.kubernetes.io/worker", "k8s.io/x"]);
    let made = |name: &str| json!({"metadata": {"name": name, "labels": role}});
    check_error(
        &c.post(NODES, made("c")).await,
        expect![[
            r#"403 "Forbidden": "nodes \"c\" is forbidden: node \"c\" is not allowed to set the following labels: k8s.io/x, node-role.kubernetes.io/worker""#
        ]],
    );
    // What others gave it, it neither changes nor takes away.
    assert_eq!(server.merge(&format!("{NODES}/b"), json!({"metadata": {"labels": role}})).await.0, StatusCode::OK);
    let b = server.as_part(&node("b"));
    let (code, _) = b.strategic(&format!("{NODES}/b"), json!({"metadata": {"labels": {"a": "y"}}})).await;
    assert_eq!(code, StatusCode::OK);
    check_error(
        &b.strategic(&format!("{NODES}/b"), json!({"metadata": {"labels": {"k8s.io/x": null}}})).await,
        expect![[
            r#"403 "Forbidden": "nodes \"b\" is forbidden: node \"b\" is not allowed to modify labels: k8s.io/x""#
        ]],
    );
    let (code, answer) = own.post(NODES, made("box")).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
}

#[tokio::test]
async fn a_node_leads_traffic_to_itself_only() {
    let server = two_nodes().await;
    let (a, b) = (server.as_part(&node("a")), server.as_part(&node("b")));
    let status = |address: &str| json!({"status": {"addresses": [{"type": "InternalIP", "address": address}]}});
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    let of = |name: &str| format!("{NODES}/{name}/status");
    for address in [
        "127.0.0.1",
        "::1",
        "0.0.0.0",
        "169.254.169.254",
        "fe80::1",
        "224.0.0.1",
        "239.1.1.1",
        "255.255.255.255",
        "::ffff:127.0.0.1",
        "192.168.0.1",
        "10.43.0.10",
        "10.42.0.7",
    ] {
        let (code, answer) = a.strategic(&of("a"), status(address)).await;
        assert_eq!(code, StatusCode::FORBIDDEN, "{address}: {answer}");
    }
    let made = json!({"metadata": {"name": "c"}, "status": status("127.0.0.1")["status"]});
    assert_eq!(server.as_part(&node("c")).post(NODES, made).await.0, StatusCode::FORBIDDEN);
    assert_eq!(a.strategic(&of("a"), status("192.168.0.7")).await.0, StatusCode::OK);
    assert_eq!(a.strategic(&of("a"), ready).await.0, StatusCode::OK);
    check_error(
        &b.strategic(&of("b"), status("192.168.0.7")).await,
        expect![[
            r#"403 "Forbidden": "nodes \"b\" is forbidden: node \"b\" is not allowed to set the address 192.168.0.7: it is node \"a\"'s""#
        ]],
    );
    // The box itself begins to be ready only after its API.
    let own = json!({"metadata": {"name": "box"}, "status": status("192.168.0.2")["status"]});
    assert_eq!(server.as_part(&node("box")).post(NODES, own).await.0, StatusCode::CREATED);
    assert_eq!(b.strategic(&of("b"), status("192.168.0.2")).await.0, StatusCode::FORBIDDEN);
    // A machine by another name, and a lease that went to another machine.
    let away = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
    assert_eq!(server.as_part(&Identity::Administrator).strategic(&of("a"), away).await.0, StatusCode::OK);
    assert_eq!(b.strategic(&of("b"), status("192.168.0.7")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_pod_has_an_address_of_its_node() {
    let server = two_nodes().await;
    let a = server.as_part(&node("a"));
    let admin = server.as_part(&Identity::Administrator);
    assert_eq!(admin.strategic(&format!("{NODES}/a"), json!({"spec": {"podCIDR": "10.42.1.0/24"}})).await.0, 200);
    let address = json!({"status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.7"}]}});
    assert_eq!(a.strategic(&format!("{NODES}/a/status"), address).await.0, StatusCode::OK);
    let status =
        |first: &str, second: &str| json!({"status": {"podIP": first, "podIPs": [{"ip": first}, {"ip": second}]}});
    let mut host = pod("host");
    host["spec"]["hostNetwork"] = json!(true);
    for mut pod in [host, pod("pod")] {
        pod["spec"]["nodeName"] = json!("a");
        pod["spec"]["serviceAccountName"] = json!("of-one");
        let (code, answer) = server.post(PODS, pod).await;
        assert_eq!(code, StatusCode::CREATED, "{answer}");
    }
    let path = |name: &str| format!("{PODS}/{name}/status");
    let special = ["127.0.0.1", "::1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "10.42.2.7", "8.8.8.8", "x"];
    for (name, own, others) in [("pod", "10.42.1.7", "192.168.0.7"), ("host", "192.168.0.7", "10.42.1.7")] {
        for ip in special.iter().chain([&others]) {
            for status in [status(ip, own), status(own, ip)] {
                let (code, answer) = a.strategic(&path(name), status).await;
                assert_eq!(code, StatusCode::FORBIDDEN, "{name} {ip}: {answer}");
            }
        }
        let (code, answer) = a.strategic(&path(name), status(own, own)).await;
        assert_eq!(code, StatusCode::OK, "{name} {own}: {answer}");
    }
    check_error(
        &a.strategic(&path("pod"), json!({"status": {"podIP": "10.42.2.7"}})).await,
        expect![[
            r#"403 "Forbidden": "pods \"pod\" is forbidden: node \"a\" is not allowed to set podIP 10.42.2.7: it is not in the node's podCIDR""#
        ]],
    );
    // The node has another range after it was made anew: what its pods have stays.
    server.delete(&format!("{NODES}/a"), json!({})).await;
    let phase = json!({"status": {"phase": "Running", "podIP": "10.42.1.7"}});
    assert_eq!(a.strategic(&path("pod"), phase).await.0, StatusCode::OK);
}

#[tokio::test]
async fn endpoints_are_not_on_the_machine_that_sends() {
    let server = Server::start().await;
    let endpoints = "/api/v1/namespaces/default/endpoints";
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let of = |list: &str, ip: &str| json!({"metadata": {"name": "e"}, "subsets": [{list: [{"ip": "10.0.0.1"}, {"ip": ip}], "ports": [{"port": 80}]}]});
    let slice = |ty: &str, ip: &str| json!({"metadata": {"name": "s"}, "addressType": ty, "endpoints": [{"addresses": [ip]}], "ports": [{"port": 80}]});
    for ip in ["127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "::1", "fe80::1", "ff02::1", "::ffff:127.0.0.1"]
    {
        for list in ["addresses", "notReadyAddresses"] {
            let (code, answer) = server.post(endpoints, of(list, ip)).await;
            assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{ip}: {answer}");
        }
        let (code, answer) = server.post(slices, slice(if ip.contains(':') { "IPv6" } else { "IPv4" }, ip)).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{ip}: {answer}");
    }
    check_error(
        &server.post(endpoints, of("notReadyAddresses", "127.0.0.1")).await,
        expect![[
            r#"422 "Invalid": "Endpoints \"e\" is invalid: subsets[0].notReadyAddresses[1].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)""#
        ]],
    );
    assert_eq!(server.post(endpoints, of("addresses", "10.0.0.2")).await.0, StatusCode::CREATED);
    assert_eq!(server.post(slices, slice("IPv4", "10.0.0.2")).await.0, StatusCode::CREATED);
    check_error(
        &server.merge(&format!("{slices}/s"), json!({"endpoints": [{"addresses": ["127.0.0.1"]}]})).await,
        expect![[
            r#"422 "Invalid": "EndpointSlice.discovery.k8s.io \"s\" is invalid: endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)""#
        ]],
    );
    // A server that listens on a loopback address says so itself, and nobody else changes it.
    server.api.bootstrap([127, 0, 0, 1].into(), 6443).await.expect("another server begins");
    let (_, own) = server.get(&format!("{slices}/kubernetes")).await;
    assert_eq!(own["endpoints"][0]["addresses"], json!(["127.0.0.1"]));
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(server.merge(&format!("{slices}/kubernetes"), label).await.0, StatusCode::OK);
    let more = json!({"endpoints": [{"addresses": ["127.0.0.2"]}]});
    assert_eq!(server.merge(&format!("{slices}/kubernetes"), more).await.0, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn an_editor_takes_no_address_from_outside() {
    let server = Server::start().await;
    let services = "/api/v1/namespaces/default/services";
    let edit = |resource: &str| json!([{"verbs": ["*"], "apiGroups": [""], "resources": [resource]}]);
    grant(&server, "editor", edit("services")).await;
    let editor = server.as_user("editor");
    let service = |name: &str, ips: &[&str]| json!({"metadata": {"name": name}, "spec": {"externalIPs": ips, "ports": [{"port": 53}]}});
    check_error(
        &editor.post(services, service("s", &["192.168.0.254"])).await,
        expect![[
            r#"403 "Forbidden": "services \"s\" is forbidden: Use of external IPs is denied by admission control""#
        ]],
    );
    assert_eq!(editor.post(services, service("s", &[])).await.0, StatusCode::CREATED);
    let one = format!("{services}/s");
    let set = |ips: &[&str]| json!({"spec": {"externalIPs": ips}});
    assert_eq!(editor.strategic(&one, set(&["8.8.8.8"])).await.0, StatusCode::FORBIDDEN);
    // Whoever administers the cluster gives it some, which its editor keeps or takes away.
    assert_eq!(server.merge(&one, set(&["203.0.113.7", "203.0.113.8"])).await.0, StatusCode::OK);
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(editor.strategic(&one, label).await.0, StatusCode::OK);
    let replace = |ips: &[&str]| json!([{"op": "replace", "path": "/spec/externalIPs", "value": ips}]);
    assert_eq!(editor.json_patch(&one, replace(&["203.0.113.8", "8.8.8.8"])).await.0, StatusCode::FORBIDDEN);
    assert_eq!(editor.json_patch(&one, replace(&["203.0.113.8"])).await.0, StatusCode::OK);
    assert_eq!(editor.json_patch(&one, replace(&["203.0.113.7"])).await.0, StatusCode::FORBIDDEN);
    // A right of its own may be granted.
    grant(
        &server,
        "network",
        json!([{"verbs": ["create", "update"], "apiGroups": [""],
        "resources": ["services", "services/externalips"]}]),
    )
    .await;
    let network = server.as_user("network");
    assert_eq!(network.post(services, service("t", &["203.0.113.9"])).await.0, StatusCode::CREATED);
}
