//! Webhooks and admission policies, with a server that answers as it is told.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use expect_test::expect;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use super::hook::Hook;
use super::{Server, causes, check_error, custom, map};
use crate::extensions::Compiled;

pub const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn webhook(name: &str, client: Value, more: Value) -> Value {
    let mut webhook = json!({"name": format!("{name}.example.org"), "clientConfig": client, "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"],
            "resources": ["configmaps", "boats"]}]});
    for (field, value) in more.as_object().into_iter().flatten() {
        webhook[field] = value.clone();
    }
    webhook
}

/// Makes a configuration and waits until it is followed.
async fn install(server: &Server, kind: &str, name: &str, webhooks: Vec<Value>) {
    let last = webhooks.last().expect("a webhook")["name"].clone();
    let path = format!("{WEBHOOKS}/{kind}webhookconfigurations");
    let (code, made) = server.post(&path, json!({"metadata": {"name": name}, "webhooks": webhooks})).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    followed(server, |compiled| {
        let all = if kind == "mutating" { &compiled.mutating } else { &compiled.validating };
        all.iter().any(|webhook| webhook.name == last)
    })
    .await;
}

pub async fn followed(server: &Server, is_so: impl Fn(&Compiled) -> bool) {
    for _ in 0..400 {
        if is_so(&server.api.extensions().compiled()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the configuration is not followed");
}

fn patched(operations: Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": BASE64_STANDARD.encode(operations.to_string())})
}

#[tokio::test]
async fn webhooks_change_and_refuse() {
    let server = Server::start().await;
    let mutating = Hook::start(|request| match request["object"]["data"]["a"].as_str() {
        Some(_) => patched(json!([{"op": "add", "path": "/metadata/labels", "value": {"by": "webhook"}},
            {"op": "add", "path": "/metadata/uid", "value": "forged"}, {"op": "add", "path": "/junk", "value": 1}])),
        None => json!({"allowed": true}),
    })
    .await;
    let validating = Hook::start(|request| match request["name"].as_str() {
        Some("bad") => json!({"allowed": false, "status": {"message": "no bad maps", "code": 418}}),
        _ => json!({"allowed": true, "warnings": ["look out"]}),
    })
    .await;
    install(&server, "mutating", "m", vec![webhook("m", mutating.url("/m"), json!({}))]).await;
    let objects = json!({"objectSelector": {"matchLabels": {"by": "webhook"}}});
    install(&server, "validating", "v", vec![webhook("v", validating.url("/v"), objects)]).await;
    let mut sent = map("good");
    sent["data"] = json!({"a": "1"});
    let request = Request::post(MAPS).header("content-type", "application/json");
    let request = request.body(crate::body::full(sent.to_string())).expect("a request");
    let response = server.api.handle(server.user.clone(), request).await;
    assert_eq!(response.headers()["warning"], r#"299 - "look out""#);
    let (code, made) = super::read(response).await;
    assert_eq!((code, &made["metadata"]["labels"]), (StatusCode::CREATED, &json!({"by": "webhook"})), "{made}");
    assert_ne!(made["metadata"]["uid"], "forged");
    assert_eq!(made["junk"], Value::Null);
    let asked = &validating.asked()[0];
    assert_eq!(asked["object"]["metadata"]["labels"]["by"], "webhook", "it sees what others made of it");
    assert_eq!(
        (&asked["operation"], &asked["oldObject"], &asked["namespace"]),
        (&json!("CREATE"), &Value::Null, &json!("default"))
    );
    assert_eq!(asked["userInfo"]["username"], json!(server.user.name));
    sent["metadata"]["name"] = json!("bad");
    check_error(
        &server.post(MAPS, sent).await,
        expect![[r#"418 "BadRequest": "admission webhook \"v.example.org\" denied the request: no bad maps""#]],
    );
    server.delete(&format!("{MAPS}/good"), json!({})).await;
    let last = validating.asked().pop().expect("it was asked");
    assert_eq!(
        (&last["operation"], &last["object"], &last["oldObject"]["metadata"]["name"]),
        (&json!("DELETE"), &Value::Null, &json!("good"))
    );
    // Nobody is asked about the configurations themselves.
    assert_eq!(
        server.delete(&format!("{WEBHOOKS}/validatingwebhookconfigurations/v"), json!({})).await.0,
        StatusCode::OK
    );
}

#[tokio::test]
async fn what_cannot_be_asked_fails_closed_or_open() {
    let server = Server::start().await;
    let slow = Hook::start(|_| json!({"allowed": true, "slow": true})).await;
    let nowhere = json!({"url": "https://localhost:1/"});
    let open = json!({"failurePolicy": "Ignore", "timeoutSeconds": 1});
    install(
        &server,
        "validating",
        "open",
        vec![
            webhook("nowhere", nowhere.clone(), open.clone()),
            webhook("slow", slow.url("/"), open),
            webhook("untrusted", json!({"url": slow.url("/")["url"]}), json!({"failurePolicy": "Ignore"})),
        ],
    )
    .await;
    assert_eq!(server.post(MAPS, map("a")).await.0, StatusCode::CREATED);
    install(&server, "validating", "closed", vec![webhook("closed", slow.url("/"), json!({"timeoutSeconds": 1}))])
        .await;
    let (code, refused) = server.post(MAPS, map("b")).await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
    let message = refused["message"].as_str().unwrap_or_default().replace(&slow.port.to_string(), "PORT");
    expect![[r#"Internal error occurred: failed calling webhook "closed.example.org": failed to call webhook: Post "https://localhost:PORT/?timeout=1s": context deadline exceeded"#]].assert_eq(&message);
    let service = json!({"service": {"namespace": "default", "name": "hook"}});
    server.delete(&format!("{WEBHOOKS}/validatingwebhookconfigurations/closed"), json!({})).await;
    install(&server, "validating", "served", vec![webhook("served", service, json!({}))]).await;
    let (_, refused) = server.post(MAPS, map("c")).await;
    let message = refused["message"].as_str().unwrap_or_default();
    expect![[r#"Internal error occurred: failed calling webhook "served.example.org": failed to call webhook: Post "https://hook.default.svc:443/?timeout=10s": service "hook" not found"#]].assert_eq(message);
}

#[tokio::test]
async fn conditions_and_order_are_kept() {
    let server = Server::start().await;
    let count = Hook::start(|request| {
        let seen = request["object"]["data"]["seen"].as_str().unwrap_or_default().to_owned();
        patched(json!([{"op": "add", "path": "/data", "value": {"seen": format!("{seen}x")}}]))
    })
    .await;
    let once = json!({"matchConditions": [{"name": "named", "expression": "object.metadata.name.startsWith('c')"}]});
    let again = json!({"reinvocationPolicy": "IfNeeded", "matchConditions": once["matchConditions"]});
    install(
        &server,
        "mutating",
        "a",
        vec![webhook("first", count.url("/"), again), webhook("second", count.url("/"), once)],
    )
    .await;
    let (_, made) = server.post(MAPS, map("c")).await;
    assert_eq!(made["data"]["seen"], "xxx", "the first is asked again as the second changed it");
    let (_, made) = server.post(MAPS, map("other")).await;
    assert_eq!(made["data"]["seen"], Value::Null);
    let (_, tried) = server.post(&format!("{MAPS}?dryRun=All"), map("c2")).await;
    assert_eq!(tried["data"]["seen"], "xxx");
    assert_eq!(count.asked().last().expect("asked")["dryRun"], true);
}

#[tokio::test]
async fn custom_objects_are_asked_about_in_the_form_that_is_wanted() {
    let server = Server::start().await;
    let mut definition = custom::boats();
    let mut beta = definition["spec"]["versions"][0].clone();
    beta["name"] = json!("v1beta1");
    beta["storage"] = json!(false);
    definition["spec"]["versions"].as_array_mut().expect("a list").push(beta);
    custom::define(&server, definition).await;
    let hook = Hook::start(|_| patched(json!([{"op": "replace", "path": "/spec/masts", "value": 5}]))).await;
    let rules = json!({"rules": [{"operations": ["CREATE"], "apiGroups": ["fleet.example.org"], "apiVersions": ["v1beta1"], "resources": ["boats"]}]});
    install(&server, "mutating", "m", vec![webhook("m", hook.url("/"), rules)]).await;
    let boat =
        json!({"apiVersion": "fleet.example.org/v1", "kind": "Boat", "metadata": {"name": "a"}, "spec": {"masts": 2}});
    let (code, made) = server.post("/apis/fleet.example.org/v1/namespaces/default/boats", boat).await;
    assert_eq!(
        (code, &made["spec"]["masts"], &made["apiVersion"]),
        (StatusCode::CREATED, &json!(5), &json!("fleet.example.org/v1"))
    );
    let asked = &hook.asked()[0];
    assert_eq!((&asked["kind"]["version"], &asked["requestKind"]["version"]), (&json!("v1beta1"), &json!("v1")));
    assert_eq!(asked["object"]["apiVersion"], "fleet.example.org/v1beta1");
}

#[tokio::test]
async fn policies_judge_by_expressions() {
    let server = Server::start().await;
    let policy = json!({"metadata": {"name": "maps"}, "spec": {
        "matchConstraints": {"resourceRules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]},
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConditions": [{"name": "not-params", "expression": "object.metadata.name != 'limits'"}],
        "variables": [{"name": "size", "expression": "has(object.data) ? object.data.size() : 0"}],
        "validations": [
            {"expression": "variables.size <= int(params.data.max)", "messageExpression": "'at most ' + params.data.max + ' entries'"},
            {"expression": "request.operation == 'CREATE' || object.data == oldObject.data", "reason": "Forbidden"}]}});
    let (code, made) = server.post(&format!("{WEBHOOKS}/validatingadmissionpolicies"), policy).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert_eq!(made["spec"]["failurePolicy"], "Fail");
    let mut limits = map("limits");
    limits["data"] = json!({"max": "1"});
    server.post(MAPS, limits).await;
    let binding = json!({"metadata": {"name": "here"}, "spec": {"policyName": "maps", "validationActions": ["Deny"],
        "paramRef": {"name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny"},
        "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}}});
    server.post(&format!("{WEBHOOKS}/validatingadmissionpolicybindings"), binding).await;
    followed(&server, |compiled| !compiled.policies.is_empty()).await;
    let with = |name: &str, entries: usize| {
        let mut with = map(name);
        with["data"] = (0..entries).map(|n| (n.to_string(), json!("x"))).collect();
        with
    };
    assert_eq!(server.post(MAPS, with("small", 1)).await.0, StatusCode::CREATED);
    check_error(
        &server.post(MAPS, with("large", 2)).await,
        expect![[
            r#"422 "Invalid": "configmaps \"large\" is forbidden: ValidatingAdmissionPolicy 'maps' with binding 'here' denied request: at most 1 entries""#
        ]],
    );
    check_error(
        &server.merge(&format!("{MAPS}/small"), json!({"data": {"0": "y"}})).await,
        expect![[
            r#"403 "Forbidden": "configmaps \"small\" is forbidden: ValidatingAdmissionPolicy 'maps' with binding 'here' denied request: failed expression: request.operation == 'CREATE' || object.data == oldObject.data""#
        ]],
    );
    assert_eq!(server.post("/api/v1/namespaces/kube-system/configmaps", with("large", 2)).await.0, StatusCode::CREATED);
    server.delete(&format!("{MAPS}/limits"), json!({})).await;
    check_error(
        &server.post(MAPS, with("more", 1)).await,
        expect![[
            r#"422 "Invalid": "configmaps \"more\" is forbidden: ValidatingAdmissionPolicy 'maps' with binding 'here' denied request: no params found for policy binding with `Deny` parameterNotFoundAction""#
        ]],
    );
}

#[tokio::test]
async fn wrong_configurations_are_refused() {
    let server = Server::start().await;
    let wrong = json!({"name": "short", "clientConfig": {"url": "http://x"}, "sideEffects": "Some", "timeoutSeconds": 99,
        "admissionReviewVersions": ["v2"], "rules": [{"operations": ["FLY"], "apiGroups": ["*", "x"]}],
        "matchConditions": [{"name": "c", "expression": "object."}]});
    let (code, refused) = server
        .post(
            &format!("{WEBHOOKS}/mutatingwebhookconfigurations"),
            json!({"metadata": {"name": "w"}, "webhooks": [wrong]}),
        )
        .await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    expect![[r#"
        webhooks[0].name: Invalid value: "short": should be a domain with at least three segments separated by dots
        webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"
        webhooks[0].timeoutSeconds: Invalid value: 99: the timeout value must be between 1 and 30 seconds
        webhooks[0].admissionReviewVersions: Invalid value: ["v2"]: must include at least one of v1, v1beta1
        webhooks[0].rules[0].apiGroups: Invalid value: ["*","x"]: if '*' is present, must not specify other items
        webhooks[0].rules[0].apiVersions: Required value
        webhooks[0].rules[0].resources: Required value
        webhooks[0].rules[0].operations[0]: Unsupported value: "FLY": supported values: "*", "CONNECT", "CREATE", "DELETE", "UPDATE"
        webhooks[0].clientConfig.url: Invalid value: "http://x": 'https' is the only allowed URL scheme; desired format: https://host[/path]
        webhooks[0].matchConditions[0].expression: Invalid value: "object.": compilation failed: ERROR: <input>:1:8: expected identifier after '.'
        | object.
        | .......^"#]].assert_eq(&causes(&refused));
    let note = |key: &str, value: &str| json!({"key": key, "valueExpression": value});
    let policy = json!({"metadata": {"name": "p"}, "spec": {"matchConstraints": {"resourceRules": [
        {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]},
        "auditAnnotations": [note("", "''"), note("a/b", "''"), note("a", ""), note("a", "nobody")]}});
    let (code, refused) = server.post(&format!("{WEBHOOKS}/validatingadmissionpolicies"), policy).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    expect![[r#"
        spec.auditAnnotations[0].key: Invalid value: "": name part must be non-empty
        spec.auditAnnotations[0].key: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        spec.auditAnnotations[1].key: Invalid value: "a/b": a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')
        spec.auditAnnotations[2].valueExpression: Required value
        spec.auditAnnotations[3].key: Duplicate value: "a"
        spec.auditAnnotations[3].valueExpression: Invalid value: "nobody": compilation failed: undeclared reference to 'nobody' (in container '')"#]].assert_eq(&causes(&refused));
}

#[tokio::test]
async fn parts_of_objects_are_asked_about_too() {
    let server = Server::start().await;
    let hook = Hook::start(|_| json!({"allowed": false, "status": {"message": "not here"}})).await;
    let rules = json!({"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"],
        "resources": ["pods/exec", "pods/proxy", "pods/eviction", "pods/binding", "serviceaccounts/token", "deployments/scale"]}]});
    server.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    let container = json!({"name": "c", "image": "localhost/c:1"});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [container]}});
    assert_eq!(server.post("/api/v1/namespaces/default/pods", pod).await.0, StatusCode::CREATED);
    let labels = json!({"a": "b"});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}}});
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    assert_eq!(server.post(deployments, deployment).await.0, StatusCode::CREATED);
    install(&server, "validating", "v", vec![webhook("v", hook.url("/"), rules)]).await;
    let pods = "/api/v1/namespaces/default/pods/p";
    let refused = [
        server.post(&format!("{pods}/exec?command=sh&command=-c&stdin=1"), json!({})).await,
        server.get(&format!("{pods}/proxy/x")).await,
        server.post(&format!("{pods}/eviction"), json!({"metadata": {"name": "p"}})).await,
        server
            .post(
                &format!("{pods}/binding"),
                json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "box"}}),
            )
            .await,
        server.post("/api/v1/namespaces/default/serviceaccounts/default/token", json!({"spec": {}})).await,
        server.merge(&format!("{deployments}/d/scale"), json!({"spec": {"replicas": 3}})).await,
    ];
    for (code, status) in &refused {
        assert_eq!(*code, StatusCode::FORBIDDEN, "{status}");
    }
    let asked: Vec<String> = hook
        .asked()
        .iter()
        .map(|asked| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            format!(
                "{} {}/{} {}",
                text(&asked["operation"]),
                text(&asked["resource"]["resource"]),
                text(&asked["subResource"]),
                text(&asked["kind"]["kind"])
            )
        })
        .collect();
    expect![[r#"
        CONNECT pods/exec PodExecOptions
        CONNECT pods/proxy PodProxyOptions
        CREATE pods/eviction Eviction
        CREATE pods/binding Binding
        CREATE serviceaccounts/token TokenRequest
        UPDATE deployments/scale Scale"#]]
    .assert_eq(&asked.join("\n"));
    assert_eq!(hook.asked()[0]["object"]["command"], json!(["sh", "-c"]));
    // The object itself is another matter.
    assert_eq!(server.merge(pods, json!({"metadata": {"labels": {"x": "y"}}})).await.0, StatusCode::OK);
}
