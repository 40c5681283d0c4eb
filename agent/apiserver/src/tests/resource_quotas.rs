//! Resource quotas as clients meet them: exact for any number of writers, and whatever an editor of the namespace tries.

use super::*;

const NAMESPACE: &str = "/api/v1/namespaces/default";
const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const PODS: &str = "/api/v1/namespaces/default/pods";
const APPLY: &str = "application/apply-patch+yaml";

async fn server_with(hard: Value) -> Server {
    let server = Server::start().await;
    server.post(&format!("{NAMESPACE}/serviceaccounts"), json!({"metadata": {"name": "default"}})).await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
    let (code, made) = server.post(QUOTAS, quota).await;
    assert_eq!((code, &made["status"]["hard"]), (StatusCode::CREATED, &hard), "{made}");
    server
}

impl Server {
    async fn used(&self) -> Value {
        self.get(&format!("{QUOTAS}/q")).await.1["status"]["used"].clone()
    }
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "localhost/a:1"}]}})
}

async fn post_with(api: Api<Embedded>, user: User, path: &str, object: Value) -> (StatusCode, Value) {
    let request = Request::post(path).header("content-type", "application/json");
    let request = request.body(body::full(object.to_string())).expect("a request");
    read(api.handle(user, request).await).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_on_several_servers_get_no_more_than_there_is() {
    let server = server_with(json!({"pods": "20", "count/pods": "40"})).await;
    let apis = [server.api.clone(), server.second.clone()];
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let made = post_with(apis[n % 2].clone(), server.user.clone(), PODS, pod(&format!("p{n}")));
            tokio::spawn(made)
        })
        .collect();
    let mut made = 0;
    for task in tasks {
        let (code, answer) = task.await.expect("no panic");
        match code {
            StatusCode::CREATED => made += 1,
            _ => {
                let name = answer["details"]["name"].as_str().unwrap_or_default();
                let why = "exceeded quota: q, requested: pods=1, used: pods=20, limited: pods=20";
                assert_eq!(answer["message"], format!("pods \"{name}\" is forbidden: {why}"));
            }
        }
    }
    let (_, list) = server.get(PODS).await;
    assert_eq!((made, list["items"].as_array().map(Vec::len)), (20, Some(20)));
    assert_eq!(server.used().await, json!({"pods": "20", "count/pods": "20"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_used_is_what_there_is_however_objects_come_and_go() {
    let server = std::sync::Arc::new(server_with(json!({"configmaps": "8"})).await);
    let tasks: Vec<_> = (0..16)
        .map(|n: u32| {
            let server = std::sync::Arc::clone(&server);
            tokio::spawn(async move {
                for round in 0..8 {
                    let name = format!("m{n}");
                    let (code, answer) = server.post(MAPS, map(&name)).await;
                    assert!(code == StatusCode::CREATED || code == StatusCode::FORBIDDEN, "{answer}");
                    let (_, list) = server.get(MAPS).await;
                    assert!(list["items"].as_array().is_some_and(|maps| maps.len() <= 8));
                    if code == StatusCode::CREATED && (round < 7 || n < 14) {
                        assert_eq!(server.delete(&format!("{MAPS}/{name}"), json!({})).await.0, StatusCode::OK);
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let (_, list) = server.get(MAPS).await;
    let left = list["items"].as_array().map(Vec::len).expect("a list");
    assert_eq!(server.used().await, json!({"configmaps": left.to_string()}));
}

#[tokio::test]
async fn a_quota_counts_what_was_there_before() {
    let server = Server::start().await;
    for name in ["a", "b", "c"] {
        server.post(MAPS, map(name)).await;
    }
    let quota =
        json!({"metadata": {"name": "q"}, "spec": {"hard": {"configmaps": "2", "resourcequotas": "1", "pods": "0"}}});
    let (_, made) = server.post(QUOTAS, quota.clone()).await;
    assert_eq!(made["status"]["used"], json!({"configmaps": "3", "resourcequotas": "1", "pods": "0"}));
    check_error(
        &server.post(MAPS, map("d")).await,
        expect![[
            r#"403 "Forbidden": "configmaps \"d\" is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=3, limited: configmaps=2""#
        ]],
    );
    let mut another = quota;
    another["metadata"]["name"] = json!("r");
    assert_eq!(server.post(QUOTAS, another).await.0, StatusCode::FORBIDDEN);
    assert_eq!(server.merge(&format!("{MAPS}/a"), json!({"data": {"a": "2"}})).await.0, StatusCode::OK);
    // What is limited may change: it is counted anew.
    let other = json!({"spec": {"hard": {"configmaps": "4", "pods": null, "count/configmaps": "9"}}});
    let (_, changed) = server.merge(&format!("{QUOTAS}/q"), other).await;
    let used = json!({"configmaps": "3", "resourcequotas": "1", "count/configmaps": "3"});
    assert_eq!(changed["status"], json!({"hard": changed["spec"]["hard"], "used": used}));
    assert_eq!(server.post(MAPS, map("d")).await.0, StatusCode::CREATED);
    assert_eq!(server.delete(&format!("{QUOTAS}/q"), json!({})).await.0, StatusCode::OK);
    assert_eq!(server.post(MAPS, map("e")).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn nothing_an_editor_does_gets_around_it() {
    let server = server_with(json!({"pods": "1", "configmaps": "1"})).await;
    let full = StatusCode::FORBIDDEN;
    for _ in 0..3 {
        let dry = server.post(&format!("{MAPS}?dryRun=All"), map("a")).await;
        assert_eq!(dry.0, StatusCode::CREATED, "a dry run uses nothing: {}", dry.1);
    }
    assert_eq!(server.post(MAPS, map("a")).await.0, StatusCode::CREATED);
    assert_eq!(server.post(MAPS, map("a")).await.0, full, "as upstream, which looks at the quota first");
    assert_eq!(server.post(&format!("{MAPS}?dryRun=All"), map("b")).await.0, full);
    let generated = json!({"metadata": {"generateName": "a-"}});
    assert_eq!(server.post(MAPS, generated).await.0, full);
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}).to_string();
    assert_eq!(server.call(Method::PATCH, &format!("{MAPS}/b?fieldManager=m"), APPLY, applied).await.0, full);
    assert_eq!(server.used().await, json!({"pods": "0", "configmaps": "1"}));
    // What only waits for a finalizer is still there.
    server.merge(&format!("{MAPS}/a"), json!({"metadata": {"finalizers": ["example.org/hold"]}})).await;
    assert_eq!(server.delete(&format!("{MAPS}/a"), json!({})).await.0, StatusCode::OK);
    assert_eq!(server.post(MAPS, map("b")).await.0, full);
    server.merge(&format!("{MAPS}/a"), json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(server.used().await, json!({"pods": "0", "configmaps": "0"}));
    assert_eq!(server.delete(&format!("{MAPS}/b?dryRun=All"), json!({})).await.0, StatusCode::NOT_FOUND);
    assert_eq!(server.post(MAPS, map("b")).await.0, StatusCode::CREATED);
    assert_eq!(server.delete(&format!("{MAPS}/b?dryRun=All"), json!({})).await.0, StatusCode::OK);
    assert_eq!(server.used().await["configmaps"], "1");
    assert_eq!(server.delete(MAPS, json!({})).await.0, StatusCode::OK, "all of them");
    assert_eq!(server.used().await["configmaps"], "0");
}

#[tokio::test]
async fn a_pod_that_has_ended_uses_nothing() {
    let server = server_with(json!({"pods": "1", "count/pods": "9", "requests.cpu": "1"})).await;
    check_error(
        &server.post(PODS, pod("a")).await,
        expect![[r#"403 "Forbidden": "pods \"a\" is forbidden: failed quota: q: must specify requests.cpu for: c""#]],
    );
    let asking = |name: &str| {
        let mut pod = pod(name);
        pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "600m"}});
        pod
    };
    assert_eq!(server.post(PODS, asking("a")).await.0, StatusCode::CREATED);
    assert_eq!(server.used().await, json!({"pods": "1", "count/pods": "1", "requests.cpu": "600m"}));
    let bind = json!({"target": {"name": "box"}});
    assert_eq!(server.post(&format!("{PODS}/a/binding"), bind).await.0, StatusCode::CREATED);
    let phase = |phase: &str| json!({"status": {"phase": phase}});
    let (_, before) = server.get(&format!("{QUOTAS}/q")).await;
    server.merge(&format!("{PODS}/a/status"), phase("Running")).await;
    let (_, after) = server.get(&format!("{QUOTAS}/q")).await;
    assert_eq!(before, after, "what changes nothing for a quota does not write it");
    server.merge(&format!("{PODS}/a/status"), phase("Succeeded")).await;
    assert_eq!(server.used().await, json!({"pods": "0", "count/pods": "1", "requests.cpu": "0"}));
    assert_eq!(server.post(PODS, asking("b")).await.0, StatusCode::CREATED);
    // What a node says has happened: it is not refused, and is told of.
    let back = server.merge(&format!("{PODS}/a/status"), phase("Running")).await;
    assert_eq!((back.0, server.used().await["pods"].clone()), (StatusCode::OK, json!("2")));
    for name in ["a", "b"] {
        assert_eq!(server.delete(&format!("{PODS}/{name}"), json!({"gracePeriodSeconds": 0})).await.0, StatusCode::OK);
    }
    assert_eq!(server.used().await, json!({"pods": "0", "count/pods": "0", "requests.cpu": "0"}));
}

#[tokio::test]
async fn services_and_claims_that_change_are_counted_anew() {
    let server = server_with(json!({"services": "3", "services.nodeports": "1", "services.loadbalancers": "0",
        "requests.storage": "2Gi", "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1"}))
    .await;
    let services = format!("{NAMESPACE}/services");
    let service =
        |name: &str, ty: &str| json!({"metadata": {"name": name}, "spec": {"type": ty, "ports": [{"port": 80}]}});
    assert_eq!(server.post(&services, service("a", "NodePort")).await.0, StatusCode::CREATED);
    let (_, b) = server.post(&services, service("b", "ClusterIP")).await;
    check_error(
        &server.merge(&format!("{services}/b"), json!({"spec": {"type": "NodePort"}})).await,
        expect![[
            r#"403 "Forbidden": "services \"b\" is forbidden: exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=1, limited: services.nodeports=1""#
        ]],
    );
    let mut balanced = b;
    balanced["spec"]["type"] = json!("LoadBalancer");
    balanced["spec"]["allocateLoadBalancerNodePorts"] = json!(false);
    assert_eq!(server.put(&format!("{services}/b"), balanced).await.0, StatusCode::FORBIDDEN);
    // An update that makes is a creation.
    let mut upsert = service("c", "NodePort");
    (upsert["apiVersion"], upsert["kind"]) = (json!("v1"), json!("Service"));
    assert_eq!(server.put(&format!("{services}/c"), upsert).await.0, StatusCode::FORBIDDEN);
    let to_cluster = json!({"spec": {"type": "ClusterIP", "ports": [{"port": 80, "nodePort": null}]}});
    assert_eq!(server.merge(&format!("{services}/a"), to_cluster).await.0, StatusCode::OK);
    assert_eq!(server.used().await["services.nodeports"], "0");
    assert_eq!(server.merge(&format!("{services}/b"), json!({"spec": {"type": "NodePort"}})).await.0, StatusCode::OK);

    let claims = format!("{NAMESPACE}/persistentvolumeclaims");
    let claim = |name: &str, class: &str| {
        json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "resources": {"requests": {"storage": "1Gi"}}}})
    };
    assert_eq!(server.post(&claims, claim("a", "gold")).await.0, StatusCode::CREATED);
    let refused = server.post(&claims, claim("b", "gold")).await;
    let message = refused.1["message"].as_str().expect("a message").to_owned();
    assert!(message.contains("limited: gold.storageclass.storage.k8s.io/persistentvolumeclaims=1"), "{message}");
    assert_eq!(server.post(&claims, claim("b", "tin")).await.0, StatusCode::CREATED);
    assert_eq!(server.used().await["requests.storage"], "2Gi");
    assert_eq!(server.post(&claims, claim("c", "tin")).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn any_kind_can_be_counted() {
    let server =
        server_with(json!({"count/deployments.apps": "1", "count/leases.coordination.k8s.io": "1", "secrets": "0"}))
            .await;
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod("p")["spec"]});
    let deployment = |name: &str| json!({"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let path = "/apis/apps/v1/namespaces/default/deployments";
    assert_eq!(server.post(path, deployment("a")).await.0, StatusCode::CREATED);
    check_error(
        &server.post(path, deployment("b")).await,
        expect![[
            r#"403 "Forbidden": "deployments.apps \"b\" is forbidden: exceeded quota: q, requested: count/deployments.apps=1, used: count/deployments.apps=1, limited: count/deployments.apps=1""#
        ]],
    );
    // Leases are not kept on the disk; the quota is.
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    assert_eq!(server.post(leases, json!({"metadata": {"name": "a"}})).await.0, StatusCode::CREATED);
    assert_eq!(server.post(leases, json!({"metadata": {"name": "b"}})).await.0, StatusCode::FORBIDDEN);
    assert_eq!(server.delete(&format!("{leases}/a"), json!({})).await.0, StatusCode::OK);
    assert_eq!(
        server.post(&format!("{NAMESPACE}/secrets"), json!({"metadata": {"name": "a"}})).await.0,
        StatusCode::FORBIDDEN
    );
    let used = json!({"count/deployments.apps": "1", "count/leases.coordination.k8s.io": "0", "secrets": "0"});
    assert_eq!(server.used().await, used);
    // Another namespace is none of its business.
    server.post("/api/v1/namespaces", json!({"metadata": {"name": "n"}})).await;
    let elsewhere = server.post("/api/v1/namespaces/n/secrets", json!({"metadata": {"name": "a"}})).await;
    assert_eq!(elsewhere.0, StatusCode::CREATED);
}

#[tokio::test]
async fn a_quota_without_a_status_lets_nothing_through() {
    let server = server_with(json!({"configmaps": "5"})).await;
    // As an earlier version left it.
    let (code, _) = server.merge(&format!("{QUOTAS}/q/status"), json!({"status": null})).await;
    assert_eq!(code, StatusCode::OK);
    check_error(
        &server.post(MAPS, map("a")).await,
        expect![[
            r#"403 "Forbidden": "configmaps \"a\" is forbidden: status unknown for quota: q, resources: configmaps""#
        ]],
    );
}
