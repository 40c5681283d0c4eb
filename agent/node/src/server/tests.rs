//! Which paths are ours, and what a refusal looks like.

use std::sync::Arc;

use http::Request;
use http_body_util::BodyExt;
use skiff_cri::FakeRuntime;

use super::{Route, Server, Target, full};

async fn answer(request: Request<super::Body>) -> Option<(u16, String)> {
    let server = Server { runtime: Arc::new(FakeRuntime::default()), logs_dir: "/nowhere".into() };
    let response = server.handle(request).await?;
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let status: serde_json::Value = serde_json::from_slice(&body).unwrap();
    Some((code, status["message"].as_str().unwrap().to_owned()))
}

fn get(path: &str) -> Request<super::Body> {
    Request::get(path).body(full("")).unwrap()
}

#[test]
fn paths_are_parsed() {
    let target = Target { namespace: "ns", pod: "web", container: "app" };
    assert_eq!(Route::parse("/containerLogs/ns/web/app"), Some(Route::Logs(target)));
    assert_eq!(Route::parse("/exec/ns/web/app"), Some(Route::Exec(target)));
    assert_eq!(Route::parse("/attach/ns/web/app"), Some(Route::Attach(target)));
    assert_eq!(Route::parse("/portForward/ns/web"), Some(Route::PortForward { namespace: "ns", pod: "web" }));
    for other in ["/", "/pods", "/exec/ns/web", "/exec/ns//app", "/exec/ns/web/app/x", "/portForward/ns", "exec/a/b/c"]
    {
        assert_eq!(Route::parse(other), None, "{other}");
    }
}

#[tokio::test]
async fn refusals_say_why() {
    assert_eq!(answer(get("/metrics")).await, None);
    let refused = async |request| answer(request).await.unwrap();
    let none = (400, "you must specify at least 1 of stdin, stdout, stderr".to_owned());
    assert_eq!(refused(get("/exec/ns/web/app?command=ls")).await, none);
    let command = (400, "you must specify at least 1 command for the container".to_owned());
    assert_eq!(refused(get("/exec/ns/web/app?stdout=1")).await, command);
    let plain = (400, "Upgrade request required".to_owned());
    assert_eq!(refused(get("/attach/ns/web/app?stdout=1")).await, plain);
    assert_eq!(refused(get("/portForward/ns/web")).await, plain);

    let upgrade = |path: &str, protocol: &str| {
        let mut request = get(path);
        request.headers_mut().insert("upgrade", "SPDY/3.1".parse().unwrap());
        request.headers_mut().insert("x-stream-protocol-version", protocol.parse().unwrap());
        request
    };
    let gone = (500, "container not found (\"app\")".to_owned());
    assert_eq!(refused(upgrade("/exec/ns/web/app?command=ls&stdout=1", "v4.channel.k8s.io")).await, gone);
    let gone = (404, "pod \"web\" is not running".to_owned());
    assert_eq!(refused(upgrade("/portForward/ns/web", "portforward.k8s.io")).await, gone);
    assert_eq!(refused(upgrade("/portForward/ns/web", "v9")).await.0, 403);
    assert_eq!(refused(upgrade("/portForward/ns/web?ports=0", "portforward.k8s.io")).await.1, "invalid port \"0\"");
}
