//! API servers behind this one.

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use expect_test::expect;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Server, causes, hook};
use crate::body;

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const NAME: &str = "v1alpha1.things.example.org";

/// What it was asked: path, and the headers that say for whom; and by which certificate.
type Asked = Arc<Mutex<Vec<String>>>;

/// An API server that asks for the front proxy's certificate, and where it is.
async fn extension(server: &Server, asked: Asked) -> (u16, String) {
    let map = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let trusted = server.get(map).await.1["data"]["requestheader-client-ca-file"].as_str().expect("a CA").to_owned();
    let answer = move |request| -> hook::Answered { Box::pin(answer(request, Arc::clone(&asked))) };
    let (port, pem) = hook::serve("ext.default.svc", Some(&trusted), answer).await;
    (port, BASE64_STANDARD.encode(pem))
}

async fn answer(mut request: Request<hyper::body::Incoming>, asked: Asked) -> Response<Full<bytes::Bytes>> {
    let path = request.uri().path().to_owned();
    let said = ["x-remote-user", "x-remote-group", "x-remote-extra-a", "authorization"];
    let said: Vec<String> = said
        .iter()
        .flat_map(|name| request.headers().get_all(*name).iter().map(move |value| format!("{name}={value:?}")))
        .collect();
    asked.lock().expect("a lock").push(format!("{} {path} {}", request.method(), said.join(" ")));
    if request.headers().contains_key("upgrade") {
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = TokioIo::new(upgraded.await.expect("an upgrade"));
            let mut byte = [0];
            io.read_exact(&mut byte).await.expect("a byte");
            io.write_all(&[byte[0] + 1]).await.expect("written");
        });
        let response = Response::builder().status(101).header("upgrade", "test").header("connection", "upgrade");
        return response.body(Full::default()).expect("a response");
    }
    let body = match path.as_str() {
        "/apis/things.example.org/v1alpha1" => {
            json!({"kind": "APIResourceList", "groupVersion": "things.example.org/v1alpha1",
            "resources": [{"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get"]},
                {"name": "things/status", "singularName": "", "namespaced": true, "kind": "Thing", "verbs": ["get"]}]})
        }
        _ => json!({"sent": String::from_utf8_lossy(&request.into_body().collect().await.expect("a body").to_bytes())}),
    };
    Response::new(Full::from(body.to_string()))
}

fn api_service(bundle: &str) -> Value {
    json!({"metadata": {"name": NAME}, "spec": {"group": "things.example.org", "version": "v1alpha1", "caBundle": bundle,
        "groupPriorityMinimum": 100, "versionPriority": 10, "service": {"namespace": "default", "name": "ext"}}})
}

/// A service whose endpoint is on this machine.
async fn expose(server: &Server, port: u16) {
    let service = json!({"metadata": {"name": "ext"}, "spec": {"ports": [{"port": 443, "targetPort": port}]}});
    server.post("/api/v1/namespaces/default/services", service).await;
    let slice = skiff_object::kinds::by_kind("discovery.k8s.io/v1", "EndpointSlice").expect("a kind");
    let object = json!({"metadata": {"name": "ext", "namespace": "default", "uid": "u",
            "labels": {"kubernetes.io/service-name": "ext"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"]}], "ports": [{"name": "", "port": port}]});
    // Past the check that endpoints are not on this machine.
    let key = slice.key(Some("default"), "ext");
    let put =
        skiff_store::Store::put(server.api.store(), &key, crate::codec::encode(object), skiff_store::Expect::Absent);
    put.await.expect("written");
}

async fn until_available(server: &Server, status: &str) -> Value {
    for _ in 0..800 {
        let (_, service) = server.get(&format!("{SERVICES}/{NAME}")).await;
        if service["status"]["conditions"][0]["status"] == status {
            return service;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{}", server.get(&format!("{SERVICES}/{NAME}")).await.1);
}

#[tokio::test]
async fn another_server_answers_for_a_group() {
    let (server, asked) = (Server::start().await, Asked::default());
    let (port, bundle) = extension(&server, Arc::clone(&asked)).await;
    server.post(SERVICES, api_service(&bundle)).await;
    let missing = until_available(&server, "False").await;
    assert_eq!(missing["status"]["conditions"][0]["reason"], "ServiceNotFound");
    let (code, status) = server.get("/apis/things.example.org/v1alpha1").await;
    assert_eq!((code, &status["reason"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("ServiceUnavailable")), "{status}");
    expose(&server, port).await;
    until_available(&server, "True").await;
    let table = server.table(SERVICES).await;
    assert_eq!(
        table["rows"][0]["cells"].as_array().expect("cells")[..3],
        [json!(NAME), json!("default/ext"), json!("True")]
    );
    let (_, groups) = server.get("/apis").await;
    let has_group = |group: &&Value| group["name"] == "things.example.org";
    assert!(groups["groups"].as_array().expect("groups").iter().any(|group| has_group(&group)));
    assert_eq!(server.get("/apis/things.example.org").await.1["preferredVersion"]["version"], "v1alpha1");
    let request =
        Request::get("/apis").header("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let request = request.body(body::full("")).expect("a request");
    let (_, discovery) = super::read(server.api.handle(server.user.clone(), request).await).await;
    let found = discovery["items"]
        .as_array()
        .expect("groups")
        .iter()
        .find(|group| group["metadata"]["name"] == "things.example.org");
    let resource = &found.expect("the group")["versions"][0]["resources"][0];
    assert_eq!(
        (&resource["responseKind"]["kind"], &resource["subresources"][0]["subresource"]),
        (&json!("Thing"), &json!("status"))
    );
    let (code, answer) = server.post("/apis/things.example.org/v1alpha1/namespaces/a/things", json!({"b": 1})).await;
    assert_eq!((code, &answer), (StatusCode::OK, &json!({"sent": "{\"b\":1}"})));
    let mut eve = server.as_user("eve");
    let (code, status) = eve.call(http::Method::GET, "/apis/things.example.org/v1alpha1/things/x", "", "").await;
    assert_eq!(code, StatusCode::FORBIDDEN, "{status}");
    eve.user.groups.push("system:masters".to_owned());
    eve.user.extra.insert("a".to_owned(), vec!["1".to_owned(), "2".to_owned()]);
    let forged = Request::get("/apis/things.example.org/v1alpha1/things/x")
        .header("x-remote-user", "root")
        .header("authorization", "Bearer x")
        .body(body::full(""))
        .expect("a request");
    assert_eq!(server.api.handle(eve.user.clone(), forged).await.status(), StatusCode::OK);
    let asked = asked.lock().expect("a lock").clone();
    assert!(asked[0].contains("system:kube-aggregator"), "{asked:?}");
    expect![[r#"
        GET /apis/things.example.org/v1alpha1/things/x x-remote-user="eve" x-remote-group="system:authenticated" x-remote-group="system:masters" x-remote-extra-a="1" x-remote-extra-a="2""#]]
    .assert_eq(asked.last().expect("a request"));
}

#[tokio::test]
async fn what_the_box_serves_nobody_else_does() {
    let (server, asked) = (Server::start().await, Asked::default());
    let (port, bundle) = extension(&server, Arc::clone(&asked)).await;
    expose(&server, port).await;
    let mut taken = api_service(&bundle);
    taken["metadata"]["name"] = json!("v1.apps");
    taken["spec"]["group"] = json!("apps");
    taken["spec"]["version"] = json!("v1");
    server.post(SERVICES, taken).await;
    let mut metrics = api_service(&bundle);
    metrics["metadata"]["name"] = json!("v1beta1.metrics.k8s.io");
    metrics["spec"]["group"] = json!("metrics.k8s.io");
    metrics["spec"]["version"] = json!("v1beta1");
    server.post(SERVICES, metrics).await;
    for _ in 0..400 {
        if server.get("/apis/metrics.k8s.io/v1beta1/nodes").await.1.get("sent").is_some() {
            assert_eq!(server.get("/apis/apps/v1/deployments").await.1["kind"], "DeploymentList");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{:?}", asked.lock().expect("a lock"));
}

#[tokio::test]
async fn wrong_services_are_refused() {
    let server = Server::start().await;
    let changed = |path: &str, value: Value| {
        let mut service = api_service("");
        *service.pointer_mut(path).expect("a field") = value;
        service
    };
    let mut all = Vec::new();
    for service in [
        changed("/metadata/name", json!("things")),
        changed("/spec/groupPriorityMinimum", json!(0)),
        changed("/spec/versionPriority", json!(1001)),
        changed("/spec/version", json!("V1")),
        changed("/spec/service", json!({"port": 99999})),
        changed(
            "/spec",
            json!({"group": "things.example.org", "version": "v1alpha1", "caBundle": "YQ==",
            "insecureSkipTLSVerify": true, "groupPriorityMinimum": 1, "versionPriority": 1}),
        ),
    ] {
        let (code, status) = server.post(SERVICES, service).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{status}");
        all.push(causes(&status));
    }
    expect![[r#"
        metadata.name: Invalid value: "things": must be `spec.version+"."+spec.group`: "v1alpha1.things.example.org"
        spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20001
        spec.versionPriority: Invalid value: 1001: must be positive and less than 1001
        metadata.name: Invalid value: "v1alpha1.things.example.org": must be `spec.version+"."+spec.group`: "V1.things.example.org"
        spec.version: Invalid value: "V1": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
        spec.service.namespace: Required value
        spec.service.name: Required value
        spec.service.port: Invalid value: 99999: must be between 1 and 65535, inclusive
        spec.caBundle: Invalid value: local APIServices may not have a caBundle
        spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify"#]].assert_eq(&all.join("\n"));
}
