//! Limit ranges as clients meet them.

use super::*;

const PODS: &str = "/api/v1/namespaces/default/pods";
const RANGES: &str = "/api/v1/namespaces/default/limitranges";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";

async fn server_with(limits: Value) -> Server {
    let server = Server::start().await;
    let account = json!({"metadata": {"name": "default"}});
    server.post("/api/v1/namespaces/default/serviceaccounts", account).await;
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": limits}});
    assert_eq!(server.post(RANGES, range).await.0, StatusCode::CREATED);
    server
}

fn pod(name: &str, resources: Value) -> Value {
    json!({"metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "localhost/a:1", "resources": resources}]}})
}

#[tokio::test]
async fn a_pod_gets_defaults_before_its_class_is_decided() {
    let server = server_with(json!([{"type": "Container", "default": {"cpu": "1", "memory": "64Mi"}}])).await;
    let (code, made) = server.post(PODS, pod("p", json!({}))).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let amounts = json!({"cpu": "1", "memory": "64Mi"});
    assert_eq!(made["spec"]["containers"][0]["resources"], json!({"limits": amounts, "requests": amounts}));
    assert_eq!(made["status"]["qosClass"], "Guaranteed");
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu, memory request for container c; cpu, memory limit for container c"
    );
    let (_, own) = server.post(PODS, pod("q", json!({"limits": {"cpu": "2"}, "requests": {"cpu": "100m"}}))).await;
    assert_eq!(own["spec"]["containers"][0]["resources"]["requests"]["cpu"], "100m");
    assert_eq!(own["status"]["qosClass"], "Burstable");
    // A default may make a pod wrong, which is then said of the pod.
    check_error(
        &server.post(PODS, pod("r", json!({"requests": {"cpu": "3"}}))).await,
        expect![[
            r#"422 "Invalid": "Pod \"r\" is invalid: spec.containers[0].resources.requests: Invalid value: \"3\": must be less than or equal to cpu limit of 1""#
        ]],
    );
}

#[tokio::test]
async fn what_is_outside_of_the_range_is_refused() {
    let server =
        server_with(json!([{"type": "Container", "max": {"cpu": "1"}}, {"type": "Pod", "min": {"memory": "1Gi"}}]))
            .await;
    let large = json!({"limits": {"cpu": "2"}, "requests": {"memory": "2Gi"}});
    check_error(
        &server.post(PODS, pod("p", large.clone())).await,
        expect![[
            r#"403 "Forbidden": "pods \"p\" is forbidden: maximum cpu usage per Container is 1, but limit is 2""#
        ]],
    );
    check_error(
        &server.post(&format!("{PODS}?dryRun=All"), pod("p", json!({"limits": {"cpu": "2"}}))).await,
        expect![[
            r#"403 "Forbidden": "pods \"p\" is forbidden: [maximum cpu usage per Container is 1, but limit is 2, minimum memory usage per Pod is 1Gi.  No request is specified]""#
        ]],
    );
    let mut applied = pod("p", large);
    (applied["apiVersion"], applied["kind"]) = (json!("v1"), json!("Pod"));
    let path = format!("{PODS}/p?fieldManager=m");
    let answer = server.call(Method::PATCH, &path, "application/apply-patch+yaml", applied.to_string()).await;
    assert_eq!(answer.0, StatusCode::FORBIDDEN, "{}", answer.1);
    // The maximum is the default where there is none.
    let fits = json!({"requests": {"memory": "1Gi", "cpu": "1"}});
    assert_eq!(server.post(PODS, pod("p", fits)).await.0, StatusCode::CREATED);
    // A range that comes later leaves what is there, and its status.
    let strict = json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "10m"}}]}});
    assert_eq!(server.merge(&format!("{RANGES}/r"), strict).await.0, StatusCode::OK);
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(server.merge(&format!("{PODS}/p"), labels).await.0, StatusCode::OK);
    let running = json!({"status": {"phase": "Running"}});
    assert_eq!(server.merge(&format!("{PODS}/p/status"), running).await.0, StatusCode::OK);
    assert_eq!(server.delete(&format!("{RANGES}/r"), json!({})).await.0, StatusCode::OK);
    assert_eq!(server.post(PODS, pod("q", json!({"limits": {"cpu": "9"}}))).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn a_claim_that_grows_is_held_too() {
    let server =
        server_with(json!([{"type": "PersistentVolumeClaim", "max": {"storage": "2Gi"}, "min": {"storage": "1Gi"}}]))
            .await;
    let claim = |name: &str, storage: &str| {
        json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": storage}}}})
    };
    check_error(
        &server.post(CLAIMS, claim("c", "3Gi")).await,
        expect![[
            r#"403 "Forbidden": "persistentvolumeclaims \"c\" is forbidden: maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi""#
        ]],
    );
    assert_eq!(server.post(CLAIMS, claim("c", "1Gi")).await.0, StatusCode::CREATED);
    let one = format!("{CLAIMS}/c");
    let grown = json!({"spec": {"resources": {"requests": {"storage": "3Gi"}}}});
    assert_ne!(server.merge(&one, grown).await.0, StatusCode::OK);
    let strict = json!({"spec": {"limits": [{"type": "PersistentVolumeClaim", "min": {"storage": "2Gi"}}]}});
    assert_eq!(server.merge(&format!("{RANGES}/r"), strict).await.0, StatusCode::OK);
    assert_eq!(server.merge(&one, json!({"metadata": {"labels": {"a": "b"}}})).await.0, StatusCode::OK);
}
