//! The write path: what several servers on one store share, and what is told of it.

use std::collections::BTreeSet;

use super::*;

/// A server with a network for many services.
async fn spacious() -> Server {
    let mut server = Server::start().await;
    let network = ServiceNetwork { base: [10, 44, 0, 0].into(), prefix_len: 16, node_ports: 30_000..=32_767 };
    let store = server.api.store().clone();
    let names = Names { dns: vec![], addresses: vec![], server_url: String::new(), kubeconfig: "/dev/null".into() };
    let dir = tempfile::tempdir().expect("tempdir");
    let names = Names { kubeconfig: dir.path().join("kubeconfig"), ..names };
    let pki = Pki::open(&dir.path().join("pki"), names).expect("pki");
    let config = Config { service_network: network, ..server.api.config().clone() };
    let start = || Api::start(config.clone(), store.clone(), &pki, CancellationToken::new());
    let gone = server.delete("/api/v1/namespaces/default/services/kubernetes", json!({})).await;
    assert_eq!(gone.0, StatusCode::OK);
    server.api = start().await.expect("api");
    server.second = start().await.expect("api");
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_servers_give_no_address_or_port_twice() {
    let server = spacious().await;
    let apis = [server.api.clone(), server.second.clone()];
    let mut tasks = Vec::new();
    for n in 0..1000 {
        let (api, user) = (apis[n % 2].clone(), server.user.clone());
        tasks.push(tokio::spawn(async move {
            let service =
                json!({"metadata": {"name": format!("s{n}")}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
            let request =
                Request::post("/api/v1/namespaces/default/services").header("content-type", "application/json");
            let request = request.body(body::full(service.to_string())).expect("a request");
            read(api.handle(user, request).await).await
        }));
    }
    let (mut addresses, mut ports) = (BTreeSet::new(), BTreeSet::new());
    for task in tasks {
        let (code, service) = task.await.expect("no panic");
        assert_eq!(code, StatusCode::CREATED, "{service}");
        addresses.insert(service["spec"]["clusterIP"].as_str().expect("an address").to_owned());
        ports.insert(service["spec"]["ports"][0]["nodePort"].as_u64().expect("a port"));
    }
    assert_eq!((addresses.len(), ports.len()), (1000, 1000));
    let (_, list) = server.get("/apis/networking.k8s.io/v1/ipaddresses").await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1001), "and one for the API");
}

#[tokio::test]
async fn a_deleted_service_gives_back_what_it_had() {
    let server = Server::start().await;
    let services = "/api/v1/namespaces/default/services";
    // 11 node ports: twenty services one after the other have enough of them.
    for n in 0..20 {
        let service =
            json!({"metadata": {"name": format!("s{n}")}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
        let (code, made) = server.post(services, service).await;
        assert_eq!(code, StatusCode::CREATED, "{made}");
        let to_cluster = json!({"spec": {"type": "ClusterIP", "ports": [{"port": 80, "nodePort": null}]}});
        let path = format!("{services}/s{n}");
        if n % 2 == 0 {
            assert_eq!(server.merge(&path, to_cluster).await.0, StatusCode::OK);
        }
        assert_eq!(server.delete(&path, json!({})).await.0, StatusCode::OK);
    }
    let (_, list) = server.get("/apis/networking.k8s.io/v1/ipaddresses").await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
}

#[tokio::test]
async fn reservations_are_what_the_services_say() {
    let server = Server::start().await;
    let services = "/api/v1/namespaces/default/services";
    let (_, made) = server.post(services, json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}})).await;
    let address = made["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    // As an earlier version left it, and as a restored copy may: one is missing, one is nobody's.
    let one = format!("/apis/networking.k8s.io/v1/ipaddresses/{address}");
    assert_eq!(server.delete(&one, json!({})).await.0, StatusCode::OK);
    let stray = json!({"metadata": {"name": "10.43.0.99", "labels": {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}},
        "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "gone"}}});
    assert_eq!(server.post("/apis/networking.k8s.io/v1/ipaddresses", stray).await.0, StatusCode::CREATED);
    server.api.repair_reservations().await.expect("repaired");
    assert_eq!(server.get(&one).await.1["spec"]["parentRef"]["name"], "a");
    assert_eq!(server.get("/apis/networking.k8s.io/v1/ipaddresses/10.43.0.99").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_pod_has_its_class_at_once() {
    let server = Server::start().await;
    server.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "localhost/a:1",
        "resources": {"limits": {"cpu": "1", "memory": "64Mi"}}}]}});
    let (_, made) = server.post("/api/v1/namespaces/default/pods", pod).await;
    assert_eq!((&made["status"]["qosClass"], &made["status"]["phase"]), (&json!("Guaranteed"), &json!("Pending")));
}

#[tokio::test]
async fn what_has_no_effect_is_warned_of() {
    let server = Server::start().await;
    let policy = json!({"metadata": {"name": "deny"}, "spec": {"podSelector": {}}});
    let request = Request::post("/apis/networking.k8s.io/v1/namespaces/default/networkpolicies");
    let request = request.header("content-type", "application/json").body(body::full(policy.to_string()));
    let response = server.api.handle(server.user.clone(), request.expect("a request")).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let warning = response.headers().get("warning").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    assert_eq!(warning, r#"299 - "NetworkPolicy: this version does not enforce it: all traffic passes""#);
}

#[tokio::test]
async fn the_feed_tells_what_objects_are_to_others() {
    let server = Server::start().await;
    server.post(MAPS, map("before")).await;
    let request = Request::get("/skiff/v1/metadata").body(body::full("")).expect("a request");
    let mut feed =
        Feed { body: server.api.handle(server.user.clone(), request).await.into_body(), text: String::new() };
    let first = feed.until("BOOKMARK").await;
    assert!(first.iter().any(|e| e["object"]["metadata"]["name"] == "before" && e["object"]["kind"] == "ConfigMap"));
    assert!(first.iter().all(|e| e["object"].get("data").is_none()), "metadata alone");
    let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    server.post(leases, lease).await;
    server.merge(&format!("{leases}/l"), json!({"spec": {"holderIdentity": "b"}})).await;
    server.merge(&format!("{MAPS}/before"), json!({"data": {"a": "2"}, "metadata": {"labels": {"a": "b"}}})).await;
    server.merge(&format!("{MAPS}/before"), json!({"metadata": {"finalizers": ["example.org/x"]}})).await;
    server.delete(&format!("{MAPS}/before"), json!({})).await;
    server.merge(&format!("{MAPS}/before"), json!({"metadata": {"finalizers": null}})).await;
    let seen: Vec<_> =
        feed.until("DELETED").await.iter().map(|e| (e["type"].clone(), e["object"]["kind"].clone())).collect();
    let expected = [("ADDED", "Lease"), ("MODIFIED", "ConfigMap"), ("MODIFIED", "ConfigMap"), ("DELETED", "ConfigMap")];
    assert_eq!(seen, expected.map(|(what, kind)| (json!(what), json!(kind))), "what matters to nobody is not told");
    // Other kinds end it, so that whoever reads it lists anew.
    custom::define(&server, custom::boats()).await;
    server.post(MAPS, map("after")).await;
    while let Some(frame) = feed.body.frame().await {
        frame.expect("it ends, and does not break");
    }
}

struct Feed {
    body: body::Body,
    text: String,
}

impl Feed {
    /// The lines up to the first of a type.
    async fn until(&mut self, what: &str) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        loop {
            while let Some((line, rest)) = self.text.split_once('\n') {
                let event: Value = serde_json::from_str(line).expect("JSON");
                let done = event["type"] == what;
                events.push(event);
                self.text = rest.to_owned();
                if done {
                    return events;
                }
            }
            let frame = self.body.frame().await.expect("it goes on").expect("a frame");
            self.text.push_str(std::str::from_utf8(&frame.into_data().expect("data")).expect("text"));
        }
    }
}

#[tokio::test]
async fn pods_say_no_priority_and_no_overhead_of_their_own() {
    let server = Server::start().await;
    server.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = |name: &str, more: Value| {
        let mut pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}});
        for (field, value) in more.as_object().into_iter().flatten() {
            pod["spec"][field] = value.clone();
        }
        pod
    };
    let class = json!({"metadata": {"name": "thick"}, "handler": "runc", "overhead": {"podFixed": {"cpu": "100m"}},
        "scheduling": {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "thick", "operator": "Exists"}]}});
    server.post("/apis/node.k8s.io/v1/runtimeclasses", class).await;
    let (code, made) = server.post(pods, pod("a", json!({"runtimeClassName": "thick"}))).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert_eq!(
        (&made["spec"]["overhead"]["cpu"], &made["spec"]["nodeSelector"]["disk"]),
        (&json!("100m"), &json!("ssd"))
    );
    assert!(made["spec"]["tolerations"].as_array().is_some_and(|all| all.iter().any(|one| one["key"] == "thick")));
    let mut said = Vec::new();
    for more in [
        json!({"priority": 7}),
        json!({"preemptionPolicy": "Never"}),
        json!({"runtimeClassName": "none"}),
        json!({"overhead": {"cpu": "1"}}),
        json!({"runtimeClassName": "thick", "overhead": {"cpu": "1"}}),
        json!({"runtimeClassName": "thick", "nodeSelector": {"disk": "hdd"}}),
    ] {
        let (code, status) = server.post(pods, pod("b", more)).await;
        assert_eq!(code, StatusCode::FORBIDDEN, "{status}");
        said.push(status["message"].as_str().unwrap_or_default().replace("pods \"b\" is forbidden: ", ""));
    }
    expect![[r#"
        the integer value of priority (7) must not be provided in pod spec; priority admission controller computed 0 from the given PriorityClass name
        the string value of PreemptionPolicy (Never) must not be provided in pod spec; priority admission controller computed PreemptLowerPriority from the given PriorityClass name
        pod rejected: RuntimeClass "none" not found
        pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead
        pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead
        conflict: runtimeClass.scheduling.nodeSelector[disk] = "ssd"; the pod has another"#]].assert_eq(&said.join("\n"));
    assert_eq!(server.post(pods, pod("c", json!({"priority": 0}))).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn pods_without_a_class_get_the_default_one() {
    let server = Server::start().await;
    server.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    for (name, value, policy) in [("high", 20, "PreemptLowerPriority"), ("low", 10, "Never")] {
        let class =
            json!({"metadata": {"name": name}, "value": value, "globalDefault": true, "preemptionPolicy": policy});
        let (code, made) = server.post("/apis/scheduling.k8s.io/v1/priorityclasses", class).await;
        assert_eq!((code, made["globalDefault"].as_bool()), (StatusCode::CREATED, Some(true)), "{made}");
    }
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}});
    let (_, made) = server.post("/api/v1/namespaces/default/pods", pod).await;
    let spec = &made["spec"];
    let got = (&spec["priorityClassName"], &spec["priority"], &spec["preemptionPolicy"]);
    assert_eq!(got, (&json!("low"), &json!(10), &json!("Never")), "of several, the lowest");
}
