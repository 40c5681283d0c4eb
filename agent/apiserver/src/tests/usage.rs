//! What `kubectl top` asks for.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use serde_json::json;

use super::Server;
use crate::NodeService;
use crate::body::{self, Body};

/// A node that uses half a processor more with each question.
struct Counting {
    uid: String,
    asked: AtomicU64,
}

impl NodeService for Counting {
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
        assert_eq!(request.uri().path(), "/stats/summary");
        let cpu = self.asked.fetch_add(1, Ordering::Relaxed) * 500_000_000;
        let container =
            json!({"name": "c", "cpu": {"usageCoreNanoSeconds": cpu}, "memory": {"workingSetBytes": 1048576}});
        let summary = json!({"node": {"cpu": {"usageCoreNanoSeconds": cpu}, "memory": {"workingSetBytes": 2097152}},
            "pods": [{"podRef": {"uid": self.uid}, "containers": [container]}]});
        Box::pin(async move { Ok(body::json(StatusCode::OK, &summary)) })
    }
}

#[tokio::test]
async fn nodes_and_pods_say_what_they_use() {
    let server = Server::start().await;
    server.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    server.post("/api/v1/nodes", json!({"metadata": {"name": "box", "labels": {"a": "b"}}})).await;
    let pod = json!({"metadata": {"name": "p", "labels": {"app": "x"}}, "spec": {"nodeName": "box",
        "containers": [{"name": "c", "image": "localhost/c:1"}]}});
    let (code, made) = server.post("/api/v1/namespaces/default/pods", pod).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let uid = made["metadata"]["uid"].as_str().expect("a uid").to_owned();
    server.api.connect_node("box", Arc::new(Counting { uid, asked: AtomicU64::new(0) }));
    let pods = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods";
    let (code, list) = server.get(&format!("{pods}?labelSelector=app%3Dx")).await;
    assert_eq!(code, StatusCode::OK);
    let first = &list["items"][0];
    assert_eq!((&list["kind"], &first["metadata"]["name"]), (&json!("PodMetricsList"), &json!("p")));
    let cpu =
        first["containers"][0]["usage"]["cpu"].as_str().and_then(|cpu| cpu.strip_suffix('n')).map(str::parse::<u64>);
    let cpu = cpu.expect("nanoseconds").expect("a number");
    assert!((300_000_000..=500_000_000).contains(&cpu), "half a processor for a second: {cpu}");
    assert_eq!(first["containers"][0]["usage"]["memory"], "1024Ki");
    assert_eq!(server.get(&format!("{pods}?labelSelector=app%3Dy")).await.1["items"], json!([]));
    assert_eq!(server.get(&format!("{pods}/p")).await.1["kind"], "PodMetrics");
    assert_eq!(server.get(&format!("{pods}/q")).await.0, StatusCode::NOT_FOUND);
    let (_, node) = server.get("/apis/metrics.k8s.io/v1beta1/nodes/box").await;
    assert_eq!((&node["usage"]["memory"], &node["metadata"]["labels"]["a"]), (&json!("2048Ki"), &json!("b")));
    let table = server.table("/apis/metrics.k8s.io/v1beta1/nodes").await;
    assert_eq!(table["rows"][0]["cells"][2], "2048Ki");
    assert_eq!(server.post(pods, json!({})).await.0, StatusCode::METHOD_NOT_ALLOWED);
    let (_, group) = server.get("/apis/metrics.k8s.io/v1beta1").await;
    assert_eq!(group["resources"][1]["verbs"], json!(["get", "list"]));
}
