//! Each part of the agent has what it uses, and no more.

use super::*;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";

pub(super) fn node(name: &str) -> Identity {
    Identity::Node(name.to_owned())
}

impl Server {
    pub(super) fn as_part(&self, identity: &Identity) -> As<'_> {
        As { server: self, user: User::of(identity) }
    }
}

/// Whether the request is refused for who asks, whatever else comes of it.
async fn is_refused(server: &Server, identity: &Identity, request: &str) -> bool {
    let (verb, path) = request.split_once(' ').expect("a verb and a path");
    let method: Method = verb.parse().expect("a method");
    let (content_type, body) = match verb {
        "PATCH" => ("application/merge-patch+json", "{\"metadata\": {\"annotations\": {\"a\": \"b\"}}}"),
        "GET" | "DELETE" => ("application/json", ""),
        _ => ("application/json", "{\"metadata\": {\"name\": \"made\"}, \"spec\": {}}"),
    };
    let request = Request::builder().method(method).uri(path).header("content-type", content_type);
    let request = request.body(body::full(body)).expect("a request");
    // What is answered may be a stream without an end.
    server.api.handle(User::of(identity), request).await.status() == StatusCode::FORBIDDEN
}

/// What each part does, and what it must not.
const PARTS: &[(&str, &[&str], &[&str])] = &[
    (
        "scheduler",
        &["POST /api/v1/namespaces/default/pods/one/binding", "PATCH /api/v1/namespaces/default/pods/one/status"],
        &[SECRETS, "DELETE /api/v1/nodes/a", POST_POD, "PATCH /api/v1/nodes/a/status"],
    ),
    (
        "controller-manager",
        &["GET /api/v1/pods", "GET /apis/apps/v1/deployments"],
        &[DELETE_POD, FEED, "GET /skiff/v1/problems", PATCH_NODE],
    ),
    (
        "replicaset-controller",
        &[POST_POD, "PATCH /apis/apps/v1/namespaces/default/replicasets/x/status"],
        &[SECRETS, "DELETE /api/v1/nodes/a", "DELETE /apis/apps/v1/namespaces/default/replicasets/x"],
    ),
    (
        "deployment-controller",
        &[
            "POST /apis/apps/v1/namespaces/default/replicasets",
            "PATCH /apis/apps/v1/namespaces/default/deployments/x/status",
        ],
        &[SECRETS, POST_POD, DELETE_POD],
    ),
    (
        "job-controller",
        &[
            POST_POD,
            DELETE_POD,
            "PATCH /apis/batch/v1/namespaces/default/jobs/x/status",
            "DELETE /apis/batch/v1/namespaces/default/jobs/x",
        ],
        &[SECRETS, "POST /apis/batch/v1/namespaces/default/jobs", "PATCH /apis/batch/v1/namespaces/default/cronjobs/x"],
    ),
    (
        "cronjob-controller",
        &["POST /apis/batch/v1/namespaces/default/jobs", "PATCH /apis/batch/v1/namespaces/default/cronjobs/x/status"],
        &[SECRETS, POST_POD, DELETE_POD],
    ),
    (
        "endpoint-controller",
        &["POST /api/v1/namespaces/default/endpoints", "GET /apis/discovery.k8s.io/v1/endpointslices"],
        &[SECRETS, "POST /api/v1/namespaces/default/services", DELETE_POD],
    ),
    (
        "service-account-controller",
        &["POST /api/v1/namespaces/default/serviceaccounts", "PATCH /api/v1/namespaces/default/configmaps/x"],
        &[SECRETS, "POST /api/v1/namespaces/default/serviceaccounts/default/token", "GET /api/v1/pods"],
    ),
    (
        "namespace-controller",
        &["PUT /api/v1/namespaces/x/finalize", SECRETS],
        &["POST /api/v1/namespaces", FEED, POST_POD, PATCH_NODE],
    ),
    (
        "node-controller",
        &[PATCH_NODE, "DELETE /api/v1/namespaces/default/pods/gone", "GET /apis/coordination.k8s.io/v1/leases"],
        &[SECRETS, POST_POD, "DELETE /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/a"],
    ),
    ("node-ipam-controller", &[PATCH_NODE], &[SECRETS, "PATCH /api/v1/nodes/a/status", "DELETE /api/v1/nodes/a"]),
    (
        "pod-garbage-collector",
        &["DELETE /api/v1/namespaces/default/pods/gone", "PATCH /api/v1/namespaces/default/pods/gone/status"],
        &[SECRETS, POST_POD, "DELETE /api/v1/nodes/a"],
    ),
    (
        "serviceaccount-token-controller",
        &["POST /api/v1/namespaces/default/serviceaccounts/x/token", SECRETS],
        &[POST_POD, FEED, "POST /api/v1/namespaces/default/secrets"],
    ),
    (
        "resourcequota-controller",
        &["PATCH /api/v1/namespaces/default/resourcequotas/x/status", "GET /api/v1/namespaces/default/pods"],
        &[POST_POD, DELETE_POD, FEED, "PATCH /api/v1/namespaces/default/resourcequotas/x"],
    ),
    (
        "disruption-controller",
        &[
            "PATCH /apis/policy/v1/namespaces/default/poddisruptionbudgets/x/status",
            "GET /apis/apps/v1/namespaces/default/deployments/x/scale",
            "PATCH /api/v1/namespaces/default/pods/one/status",
        ],
        &[SECRETS, POST_POD, DELETE_POD, "PATCH /apis/policy/v1/namespaces/default/poddisruptionbudgets/x"],
    ),
    (
        "replication-controller",
        &[POST_POD, "PATCH /api/v1/namespaces/default/replicationcontrollers/x/status"],
        &[SECRETS, "DELETE /api/v1/namespaces/default/replicationcontrollers/x", PATCH_NODE],
    ),
    (
        "clusterrole-aggregation-controller",
        &["PATCH /apis/rbac.authorization.k8s.io/v1/clusterroles/admin"],
        &[SECRETS, POST_POD, "POST /apis/rbac.authorization.k8s.io/v1/clusterroles"],
    ),
    (
        "horizontal-pod-autoscaler",
        &[
            "PATCH /apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/x/status",
            "PUT /apis/apps/v1/namespaces/default/deployments/x/scale",
            "GET /apis/metrics.k8s.io/v1beta1/namespaces/default/pods",
        ],
        &[SECRETS, POST_POD, DELETE_POD, "PATCH /apis/apps/v1/namespaces/default/deployments/x"],
    ),
    (
        "generic-garbage-collector",
        &["DELETE /api/v1/namespaces/default/pods/gone", FEED],
        &[POST_POD, "GET /skiff/v1/parts"],
    ),
    ("unheard-of", &["GET /apis"], &[SECRETS, "GET /api/v1/pods", FEED]),
    (
        "network",
        &[
            "GET /apis/discovery.k8s.io/v1/endpointslices",
            "PATCH /api/v1/namespaces/default/services/kubernetes/status",
            "POST /api/v1/namespaces/kube-system/endpoints",
            "PATCH /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/a-services",
        ],
        &[
            SECRETS,
            "POST /api/v1/namespaces/default/services",
            "PATCH /api/v1/namespaces/default/services/kubernetes",
            PATCH_NODE,
            "DELETE /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/a",
        ],
    ),
    (
        "ingress",
        &[
            SECRETS,
            "POST /apis/networking.k8s.io/v1/ingressclasses",
            "PATCH /apis/networking.k8s.io/v1/namespaces/default/ingresses/x/status",
        ],
        &["PATCH /apis/networking.k8s.io/v1/namespaces/default/ingresses/x", "GET /api/v1/configmaps", DELETE_POD],
    ),
    (
        "console",
        &[
            "GET /api/v1/nodes",
            "GET /skiff/v1/problems",
            "GET /api/v1/namespaces/kube-system/secrets?fieldSelector=metadata.name%3Dbox-ca",
        ],
        &[
            SECRETS,
            "GET /api/v1/namespaces/kube-system/secrets?fieldSelector=metadata.name%3Dother",
            "GET /api/v1/namespaces/default/secrets?fieldSelector=metadata.name%3Dbox-ca",
            "DELETE /api/v1/nodes/a",
            "GET /skiff/v1/parts",
        ],
    ),
    (
        "agent",
        &["GET /api/v1/nodes", "GET /api/v1/namespaces/default"],
        &[SECRETS, PATCH_NODE, "GET /skiff/v1/sealing-keys", "POST /skiff/v1/sealing-keys"],
    ),
];
const SECRETS: &str = "GET /api/v1/namespaces/kube-system/secrets";
const FEED: &str = "GET /skiff/v1/metadata";
const POST_POD: &str = "POST /api/v1/namespaces/default/pods";
const DELETE_POD: &str = "DELETE /api/v1/namespaces/default/pods/one";
const PATCH_NODE: &str = "PATCH /api/v1/nodes/a";

fn identity(name: &str) -> Identity {
    match name {
        "scheduler" => Identity::Scheduler,
        "controller-manager" => Identity::ControllerManager,
        "network" => Identity::Network,
        "ingress" => Identity::Ingress,
        "console" => Identity::Console,
        "agent" => Identity::Agent,
        controller => Identity::Controller(controller.to_owned()),
    }
}

#[tokio::test]
async fn every_part_has_what_it_uses_and_no_more() {
    let server = two_nodes().await;
    for (name, allowed, refused) in PARTS {
        for request in *allowed {
            assert!(!is_refused(&server, &identity(name), request).await, "{name} may {request}");
        }
        for request in *refused {
            assert!(is_refused(&server, &identity(name), request).await, "{name} may not {request}");
        }
    }
}

/// Nodes `a` and `b`, each with a pod that names a secret, a configuration and an account of its own.
pub(super) async fn two_nodes() -> Server {
    let server = Server::start().await;
    let account = json!({"metadata": {"name": "default"}});
    server.post("/api/v1/namespaces/default/serviceaccounts", account).await;
    for (node, pod) in [("a", "one"), ("b", "two")] {
        let made = server.post("/api/v1/nodes", json!({"metadata": {"name": node}})).await;
        assert_eq!(made.0, StatusCode::CREATED, "{}", made.1);
        let lease = json!({"metadata": {"name": node}, "spec": {"holderIdentity": node}});
        assert_eq!(server.post(LEASES, lease).await.0, StatusCode::CREATED);
        for kind in ["secrets", "configmaps", "serviceaccounts"] {
            let object = json!({"metadata": {"name": format!("of-{pod}")}});
            assert_eq!(server.post(&format!("/api/v1/namespaces/default/{kind}"), object).await.0, StatusCode::CREATED);
        }
        let object = json!({"metadata": {"name": pod}, "spec": {
            "nodeName": node, "serviceAccountName": format!("of-{pod}"),
            "containers": [{"name": "c", "image": "localhost/a:1",
                "envFrom": [{"secretRef": {"name": format!("of-{pod}")}}]}],
            "volumes": [{"name": "v", "configMap": {"name": format!("of-{pod}")}}],
        }});
        let made = server.post("/api/v1/namespaces/default/pods", object).await;
        assert_eq!(made.0, StatusCode::CREATED, "{}", made.1);
    }
    server
}

#[tokio::test]
async fn a_node_has_what_its_own_pods_use_and_no_more() {
    let server = two_nodes().await;
    const CORE: &str = "/api/v1/namespaces/default";
    let allowed = [
        format!("GET {CORE}/secrets/of-one"),
        format!("GET {CORE}/secrets?fieldSelector=metadata.name%3Dof-one"),
        format!("GET {CORE}/configmaps/of-one"),
        format!("GET {CORE}/pods/one"),
        "GET /api/v1/pods?fieldSelector=spec.nodeName%3Da".to_owned(),
        format!("PATCH {CORE}/pods/one/status"),
        "PATCH /api/v1/nodes/a".to_owned(),
        "PATCH /api/v1/nodes/a/status".to_owned(),
        "GET /api/v1/services".to_owned(),
        "GET /api/v1/nodes".to_owned(),
        format!("GET {SLICES}"),
        format!("PATCH {LEASES}/a"),
        format!("PATCH {LEASES}/a-services"),
        // How far others are with what traffic they send.
        format!("GET {LEASES}"),
    ];
    let refused = [
        format!("GET {CORE}/secrets"),
        format!("GET {CORE}/secrets/of-two"),
        format!("GET {CORE}/secrets?fieldSelector=metadata.name%3Dof-two"),
        "GET /api/v1/namespaces/kube-system/secrets/of-one".to_owned(),
        "GET /api/v1/secrets".to_owned(),
        format!("PATCH {CORE}/secrets/of-one"),
        format!("GET {CORE}/configmaps/of-two"),
        format!("GET {CORE}/pods/two"),
        "GET /api/v1/pods".to_owned(),
        "GET /api/v1/pods?fieldSelector=spec.nodeName%3Db".to_owned(),
        format!("POST {CORE}/pods"),
        format!("PATCH {CORE}/pods/one"),
        format!("PATCH {CORE}/pods/two/status"),
        format!("DELETE {CORE}/pods/two"),
        format!("POST {CORE}/pods/two/eviction"),
        format!("POST {CORE}/pods/one/binding"),
        "PATCH /api/v1/nodes/b".to_owned(),
        "PATCH /api/v1/nodes/b/status".to_owned(),
        "DELETE /api/v1/nodes/a".to_owned(),
        "POST /api/v1/nodes".to_owned(),
        format!("PATCH {LEASES}/b"),
        format!("POST {LEASES}"),
        "POST /apis/coordination.k8s.io/v1/namespaces/kube-system/leases".to_owned(),
        "GET /skiff/v1/metadata".to_owned(),
    ];
    for request in &allowed {
        assert!(!is_refused(&server, &node("a"), request).await, "may {request}");
    }
    for request in &refused {
        assert!(is_refused(&server, &node("a"), request).await, "may not {request}");
    }
    // An answer to what changes nothing would tell of the pod too.
    let status = json!({"status": {"phase": "Running"}});
    let (code, answer) = server.as_part(&node("b")).strategic(&format!("{CORE}/pods/two/status"), status).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
    let (code, answer) = server.as_part(&node("a")).strategic(&format!("{CORE}/pods/two/status"), json!({})).await;
    assert_eq!(code, StatusCode::FORBIDDEN, "{answer}");
    assert_eq!(answer.get("spec"), None);
    // The name alone makes nobody a node.
    let named = server.as_user("system:node:a");
    let (code, _) = named.call(Method::GET, &format!("{CORE}/secrets/of-one"), "", "").await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    let one = format!("{CORE}/pods/one");
    let (code, answer) =
        server.as_part(&node("a")).call(Method::DELETE, &one, "application/json", "{\"gracePeriodSeconds\": 0}").await;
    assert_eq!(code, StatusCode::OK, "its own pod it ends: {answer}");
    assert!(is_refused(&server, &node("a"), &format!("GET {CORE}/secrets/of-one")).await, "the pod is gone");
}

#[tokio::test]
async fn a_node_gets_tokens_for_its_own_pods_only() {
    let server = two_nodes().await;
    let uid = |path: &str| {
        let path = path.to_owned();
        let server = &server;
        async move { server.get(&path).await.1["metadata"]["uid"].as_str().unwrap_or_default().to_owned() }
    };
    let (one, two) =
        (uid("/api/v1/namespaces/default/pods/one").await, uid("/api/v1/namespaces/default/pods/two").await);
    let bound = |name: &str, uid: &str| json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}}});
    let cases = [
        ("of-one", bound("one", &one), StatusCode::CREATED),
        ("of-one", json!({"spec": {}}), StatusCode::FORBIDDEN),
        ("of-one", bound("two", &two), StatusCode::FORBIDDEN),
        ("of-two", bound("two", &two), StatusCode::FORBIDDEN),
        ("of-two", bound("one", &one), StatusCode::FORBIDDEN),
    ];
    for (account, request, expected) in cases {
        let path = format!("/api/v1/namespaces/default/serviceaccounts/{account}/token");
        let (code, answer) = server.as_part(&node("a")).post(&path, request.clone()).await;
        assert_eq!(code, expected, "{account} {request}: {answer}");
    }
}

#[tokio::test]
async fn a_node_does_not_choose_who_comes_to_it() {
    let server = two_nodes().await;
    let a = server.as_part(&node("a"));
    check_error(
        &a.strategic("/api/v1/nodes/a", json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}})).await,
        expect![[r#"403 "Forbidden": "nodes \"a\" is forbidden: node \"a\" is not allowed to modify taints""#]],
    );
    check_error(
        &a.strategic(
            "/api/v1/nodes/a",
            json!({"metadata": {"labels": {"x.node-restriction.kubernetes.io/safe": "1"}}}),
        )
        .await,
        expect![[
            r#"403 "Forbidden": "nodes \"a\" is forbidden: node \"a\" is not allowed to modify labels: x.node-restriction.kubernetes.io/safe""#
        ]],
    );
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "gone", "uid": "deadbeef"});
    check_error(
        &a.strategic("/api/v1/nodes/a", json!({"metadata": {"ownerReferences": [owner]}})).await,
        expect![[
            r#"403 "Forbidden": "nodes \"a\" is forbidden: node \"a\" is not allowed to modify ownerReferences""#
        ]],
    );
    check_error(
        &a.strategic("/api/v1/namespaces/default/pods/one/status", json!({"metadata": {"labels": {"app": "x"}}})).await,
        expect![[
            r#"403 "Forbidden": "pods \"one\" is forbidden: node \"a\" cannot update labels through pod status""#
        ]],
    );
    let (code, _) = a.strategic("/api/v1/nodes/a", json!({"metadata": {"labels": {"room": "1"}}})).await;
    assert_eq!(code, StatusCode::OK);
    check_error(
        &a.strategic("/api/v1/nodes/b", json!({"metadata": {"labels": {"room": "1"}}})).await,
        expect![[r#"403 "Forbidden": "nodes \"b\" is forbidden: node \"a\" is not allowed to modify node \"b\"""#]],
    );
}

#[tokio::test]
async fn a_role_that_lacks_something_has_it_after_the_next_start() {
    let server = Server::start().await;
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:skiff:network";
    let (_, whole) = server.get(path).await;
    assert_eq!(whole["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"], "true");
    let mine = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["limitranges"]}]);
    assert_eq!(server.merge(path, json!({"rules": mine})).await.0, StatusCode::OK);
    server.api.bootstrap([192, 168, 0, 1].into(), 6443).await.expect("the default objects");
    let rules = server.get(path).await.1["rules"].as_array().cloned().unwrap_or_default();
    assert_eq!(rules[0], mine[0], "what was added stays");
    assert_eq!(rules[1..], whole["rules"].as_array().cloned().unwrap_or_default()[..]);
    let versions = || async {
        let paths = [
            "/apis/rbac.authorization.k8s.io/v1/clusterroles",
            "/apis/rbac.authorization.k8s.io/v1/roles",
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            "/api/v1/namespaces/default/endpoints",
        ];
        let mut all = Vec::new();
        for path in paths {
            let (_, list) = server.get(path).await;
            all.extend(list["items"].as_array().into_iter().flatten().map(|o| o["metadata"].clone()));
        }
        all
    };
    let before = versions().await;
    server.api.bootstrap([192, 168, 0, 1].into(), 6443).await.expect("the default objects");
    assert_eq!(versions().await, before, "nothing is written where nothing is missing");
}

#[tokio::test]
async fn every_api_server_that_is_alive_is_an_endpoint() {
    let server = Server::start().await;
    let addresses = || async {
        let (_, endpoints) = server.get("/api/v1/namespaces/default/endpoints/kubernetes").await;
        let (_, slice) = server.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes").await;
        let list =
            |value: &Value, at: fn(&Value) -> Value| value.as_array().into_iter().flatten().map(at).collect::<Vec<_>>();
        let of_slice = list(&slice["endpoints"], |endpoint| endpoint["addresses"][0].clone());
        assert_eq!(list(&endpoints["subsets"][0]["addresses"], |address| address["ip"].clone()), of_slice);
        of_slice
    };
    assert_eq!(addresses().await, ["192.168.0.1"]);
    server.api.bootstrap([192, 168, 0, 2].into(), 6443).await.expect("another server begins");
    assert_eq!(addresses().await, ["192.168.0.1", "192.168.0.2"], "it takes nobody's address away");
    // The other one dies: nobody renews its lease.
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/apiserver-192-168-0-2";
    let (code, answer) = server.merge(lease, json!({"spec": {"renewTime": "2020-01-01T00:00:00.000000Z"}})).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
    server.api.bootstrap([192, 168, 0, 1].into(), 6443).await.expect("the next renewal");
    assert_eq!(addresses().await, ["192.168.0.1"]);
    assert_eq!(server.get(lease).await.0, StatusCode::NOT_FOUND);
}
