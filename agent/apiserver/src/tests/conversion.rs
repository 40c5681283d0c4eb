//! Custom resources of several versions that a webhook converts.

use expect_test::expect;
use http::StatusCode;
use serde_json::{Value, json};

use super::apply::owners;
use super::custom::{self, DEFINITIONS};
use super::hook::{Answer, Hook};
use super::{Server, causes, check_error};

const SHIPS: &str = "/apis/fleet.example.org/v1/namespaces/default/ships";
const NEW_SHIPS: &str = "/apis/fleet.example.org/v2/namespaces/default/ships";

/// In `v1` a berth is one text, in `v2` it is two.
fn ships(conversion: Value) -> Value {
    let version = |name: &str, is_stored: bool, fields: Value| {
        json!({"name": name, "served": true, "storage": is_stored, "subresources": {"status": {}},
            "selectableFields": if is_stored { json!([]) } else { json!([{"jsonPath": ".spec.harbour"}]) },
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": fields},
                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}})
    };
    let text = json!({"type": "string"});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "ships.fleet.example.org"},
        "spec": {"group": "fleet.example.org", "scope": "Namespaced", "names": {"plural": "ships", "kind": "Ship"},
            "conversion": conversion,
            "versions": [version("v1", true, json!({"berth": text})),
                version("v2", false, json!({"harbour": text, "pier": text, "flag": {"type": "string", "default": "red"}}))]}
    })
}

fn by(hook: &Hook) -> Value {
    json!({"strategy": "Webhook",
        "webhook": {"clientConfig": hook.url("/convert"), "conversionReviewVersions": ["v1"]}})
}

fn convert(request: &Value) -> Value {
    let version = &request["desiredAPIVersion"];
    let converted = request["objects"].as_array().expect("objects").iter().map(|object| {
        let mut new = object.clone();
        new["apiVersion"] = version.clone();
        new["metadata"]["labels"] = json!({"by": "webhook"});
        new["metadata"]["generation"] = json!(99);
        let spec = &object["spec"];
        new["spec"] = if version == "fleet.example.org/v2" {
            let (harbour, pier) = spec["berth"].as_str().and_then(|berth| berth.split_once('/')).unwrap_or_default();
            json!({"harbour": harbour, "pier": pier, "junk": true})
        } else {
            let text = |field: &str| spec[field].as_str().unwrap_or_default();
            json!({"berth": format!("{}/{}", text("harbour"), text("pier"))})
        };
        new
    });
    json!({"result": {"status": "Success"}, "convertedObjects": converted.collect::<Vec<Value>>()})
}

async fn started(answer: Answer) -> (Server, Hook) {
    let (server, hook) = (Server::start().await, Hook::start(answer).await);
    custom::define(&server, ships(by(&hook))).await;
    (server, hook)
}

fn ship(version: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("fleet.example.org/{version}"), "kind": "Ship", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn objects_are_served_in_every_version() {
    let (server, hook) = started(convert).await;
    let (code, made) = server.post(SHIPS, ship("v1", "a", json!({"berth": "kiel/3"}))).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert!(hook.asked().is_empty(), "it is stored as it came");
    let (_, found) = server.get(&format!("{NEW_SHIPS}/a")).await;
    assert_eq!(found["spec"], json!({"harbour": "kiel", "pier": "3", "flag": "red"}), "pruned, and with defaults");
    assert_eq!(found["metadata"]["labels"], json!({"by": "webhook"}));
    for field in ["uid", "generation", "creationTimestamp"] {
        assert_eq!(found["metadata"][field], made["metadata"][field], "{field} is no webhook's");
    }
    let since = found["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    let (code, made) = server.post(NEW_SHIPS, ship("v2", "b", json!({"harbour": "bremen", "pier": "1"}))).await;
    assert_eq!((code, &made["apiVersion"]), (StatusCode::CREATED, &json!("fleet.example.org/v2")), "{made}");
    assert_eq!(server.get(&format!("{SHIPS}/b")).await.1["spec"], json!({"berth": "bremen/1"}));
    let (_, changed) = server.merge(&format!("{NEW_SHIPS}/a"), json!({"spec": {"pier": "4"}})).await;
    assert_eq!((&changed["spec"]["pier"], &changed["metadata"]["generation"]), (&json!("4"), &json!(2)), "{changed}");
    let (_, changed) = server.merge(&format!("{NEW_SHIPS}/a/status"), json!({"status": {"afloat": true}})).await;
    assert_eq!(changed["status"], json!({"afloat": true}), "{changed}");
    assert_eq!(server.get(&format!("{SHIPS}/a")).await.1["spec"], json!({"berth": "kiel/4"}));
    let before = hook.asked().len();
    let (_, list) = server.get(NEW_SHIPS).await;
    let piers: Vec<&Value> =
        list["items"].as_array().expect("items").iter().map(|ship| &ship["spec"]["pier"]).collect();
    assert_eq!(piers, ["4", "1"]);
    assert_eq!(hook.asked().len(), before + 1, "one question for all");
    let (_, list) = server.get(&format!("{NEW_SHIPS}?fieldSelector=spec.harbour%3Dbremen")).await;
    assert_eq!(list["items"][0]["metadata"]["name"], "b", "{list}");
    let events = server.watch(&format!("{NEW_SHIPS}?watch=1&resourceVersion={since}"), 3).await;
    let seen: Vec<String> =
        events.iter().map(|event| format!("{} {}", event["type"], event["object"]["spec"]["pier"])).collect();
    assert_eq!(seen, [r#""ADDED" "1""#, r#""MODIFIED" "4""#, r#""MODIFIED" "4""#]);
}

#[tokio::test]
async fn owners_of_another_version_keep_what_is_theirs() {
    let convert_most: Answer = |request| {
        let gone = json!({"result": {"status": "Failed", "message": "gone"}});
        let is_gone = |object: &Value| object["spec"]["berth"] == "atlantis/1";
        if request["objects"].as_array().expect("objects").iter().any(is_gone) { gone } else { convert(request) }
    };
    let (server, _hook) = started(convert_most).await;
    let (path, new_path) = (format!("{SHIPS}/a"), format!("{NEW_SHIPS}/a"));
    let new = ship("v2", "a", json!({"harbour": "kiel", "pier": "3"}));
    let (code, made) = server.apply(&new_path, "deck", new).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let old = |berth: &str| ship("v1", "a", json!({"berth": berth}));
    let (code, same) = server.apply(&path, "keel", old("kiel/3")).await;
    assert_eq!(code, StatusCode::OK, "{same}");
    check_error(
        &server.apply(&path, "keel", old("kiel/4")).await,
        expect![[r#"409 "Conflict": "Apply failed with 1 conflict: conflict with \"deck\": .spec.pier""#]],
    );
    let (_, forced) = server.apply(&path, "keel&force=true", old("kiel/4")).await;
    expect![[r#"
        deck Apply: {"f:spec":{"f:harbour":{}}}
        keel Apply: {"f:spec":{"f:berth":{}}}"#]]
    .assert_eq(&owners(&forced).join("\n"));
    let (_, changed) = server.merge(&path, json!({"spec": {"berth": "bremen/4"}})).await;
    expect![[r#"admin Update: {"f:spec":{"f:berth":{}}}"#]].assert_eq(&owners(&changed).join("\n"));
    let new = ship("v2", "a", json!({"harbour": "bremen", "flag": "blue"}));
    server.apply(&new_path, "deck", new).await;
    // A webhook that does not answer holds no write in the stored form, and takes nothing from anybody.
    let (code, lost) = server.merge(&path, json!({"spec": {"berth": "atlantis/1"}})).await;
    assert_eq!(code, StatusCode::OK, "{lost}");
    expect![[r#"
        deck Apply: {"f:spec":{"f:flag":{},"f:harbour":{}}}
        admin Update: {"f:spec":{"f:berth":{}}}"#]]
    .assert_eq(&owners(&lost).join("\n"));
}

#[tokio::test]
async fn wrong_answers_are_refused() {
    let refused: Answer = |request| {
        let mut answer = convert(request);
        let first = &mut answer["convertedObjects"][0];
        match request["objects"][0]["spec"]["berth"].as_str().unwrap_or_default() {
            "version" => first["apiVersion"] = json!("fleet.example.org/v1"),
            "kind" => first["kind"] = json!("Raft"),
            "name" => first["metadata"]["name"] = json!("other"),
            "uid" => first["metadata"]["uid"] = json!("other"),
            "labels" => first["metadata"]["labels"] = json!({"a": 1}),
            "none" => answer["convertedObjects"] = json!([]),
            "failed" => answer["result"] = json!({"status": "Failed", "message": "no such pier"}),
            "silent" => answer["result"] = json!({}),
            _ => {}
        }
        answer
    };
    let (server, _hook) = started(refused).await;
    let mut said = Vec::new();
    for berth in ["version", "kind", "name", "uid", "labels", "none", "failed", "silent"] {
        server.post(SHIPS, ship("v1", berth, json!({"berth": berth}))).await;
        let (code, status) = server.get(&format!("{NEW_SHIPS}/{berth}")).await;
        assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR, "{status}");
        let message = status["message"]
            .as_str()
            .unwrap_or_default()
            .replace("Internal error occurred: conversion webhook for fleet.example.org/v2, Kind=Ship failed: ", "");
        let uid =
            server.get(&format!("{SHIPS}/{berth}")).await.1["metadata"]["uid"].as_str().expect("a uid").to_owned();
        said.push(message.replace(&uid, "UID"));
    }
    expect![[r#"
        invalid converted object at index 0: invalid groupVersion (expected fleet.example.org/v2, received fleet.example.org/v1)
        invalid converted object at index 0: invalid kind (expected Ship, received Raft)
        invalid converted object at index 0: metadata.name changed (expected "name", received "other")
        invalid converted object at index 0: metadata.uid changed (expected "UID", received "other")
        invalid converted object at index 0: metadata.labels is no map of strings
        returned 0 objects, expected 1
        no such pier
        response.result.status was '', expected 'Success'"#]]
    .assert_eq(&said.join("\n"));
}

#[tokio::test]
async fn a_webhook_that_is_gone_holds_nothing() {
    let server = Server::start().await;
    let nowhere = json!({"strategy": "Webhook", "webhook": {"clientConfig": {"url": "https://127.0.0.1:1/"},
        "conversionReviewVersions": ["v1"]}});
    custom::define(&server, ships(nowhere)).await;
    for name in ["a", "b"] {
        server.post(SHIPS, ship("v1", name, json!({"berth": "kiel/3"}))).await;
    }
    let (code, status) = server.post(NEW_SHIPS, ship("v2", "c", json!({}))).await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR, "{status}");
    check_error(
        &server.get(NEW_SHIPS).await,
        expect![[
            r#"500 "InternalError": "Internal error occurred: conversion webhook for fleet.example.org/v2, Kind=Ship failed: Post \"https://127.0.0.1:1/?timeout=30s\": dial tcp 127.0.0.1:1: Connection refused (os error 111)""#
        ]],
    );
    let request = http::Request::get(NEW_SHIPS)
        .header("accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")
        .body(crate::body::full(""))
        .expect("a request");
    let (code, list) = super::read(server.api.handle(server.user.clone(), request).await).await;
    assert_eq!((code, &list["items"][1]["metadata"]["name"]), (StatusCode::OK, &json!("b")), "{list}");
    assert_eq!(server.delete(&format!("{NEW_SHIPS}/a"), json!({})).await.0, StatusCode::OK);
    let definition = format!("{DEFINITIONS}/ships.fleet.example.org");
    assert_eq!(server.delete(&definition, json!({})).await.0, StatusCode::OK);
    for _ in 0..400 {
        if server.get(&definition).await.0 == StatusCode::NOT_FOUND {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the definition is held");
}

#[tokio::test]
async fn wrong_conversions_are_refused() {
    let server = Server::start().await;
    let mut all = Vec::new();
    for conversion in [
        json!({"strategy": "Magic"}),
        json!({"strategy": "Webhook"}),
        json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": {}}}),
        json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v9"],
            "clientConfig": {"url": "http://example.org"}}}),
        json!({"strategy": "Webhook", "webhook": {"clientConfig": {"service": {"name": "a", "path": "x", "port": 0}}}}),
        json!({"strategy": "None", "webhook": {"conversionReviewVersions": ["v1"]}}),
    ] {
        let (code, status) = server.post(DEFINITIONS, ships(conversion)).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{status}");
        all.push(causes(&status));
    }
    expect![[r#"
        spec.conversion.strategy: Unsupported value: "Magic": supported values: "None", "Webhook"
        spec.conversion.webhook.clientConfig: Required value: required when strategy is set to Webhook
        spec.conversion.webhook.clientConfig: Required value: exactly one of url or service is required
        spec.conversion.webhook.clientConfig.url: Invalid value: "http://example.org": 'https' is the only allowed URL scheme; desired format: https://host[/path]
        spec.conversion.webhook.conversionReviewVersions: Invalid value: ["v9"]: must include at least one of v1, v1beta1
        spec.conversion.webhook.clientConfig.service.namespace: Required value
        spec.conversion.webhook.clientConfig.service.port: Invalid value: 0: must be between 1 and 65535, inclusive
        spec.conversion.webhook.clientConfig.service.path: Invalid value: "x": must start with a '/'
        spec.conversion.webhook.conversionReviewVersions: Required value: must specify one of v1, v1beta1
        spec.conversion.webhook: Forbidden: should not be set when strategy is not set to Webhook"#]].assert_eq(&all.join("\n"));
}
