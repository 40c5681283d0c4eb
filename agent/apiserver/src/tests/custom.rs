//! Custom resources, from their definition to their end.

use std::time::Duration;

use expect_test::expect;
use http::StatusCode;
use serde_json::{Value, json};

use super::{Server, causes, check_error};

pub const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const BOATS: &str = "/apis/fleet.example.org/v1/namespaces/default/boats";

/// One version with a schema; more is added by the tests.
pub fn boats() -> Value {
    serde_yaml::from_str(include_str!("custom/boats.yaml")).expect("YAML")
}

pub fn boat(name: &str) -> Value {
    json!({"apiVersion": "fleet.example.org/v1", "kind": "Boat", "metadata": {"name": name}, "spec": {"masts": 2}})
}

/// Makes a definition and waits until it is served.
pub async fn define(server: &Server, definition: Value) {
    let name = definition["metadata"]["name"].as_str().expect("a name").to_owned();
    let (code, made) = server.post(DEFINITIONS, definition).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    until(server, &format!("{DEFINITIONS}/{name}"), |found| condition(found, "Established") == "True").await;
}

fn condition<'a>(definition: &'a Value, ty: &str) -> &'a str {
    let all = definition["status"]["conditions"].as_array().into_iter().flatten();
    all.filter(|c| c["type"] == ty).find_map(|c| c["status"].as_str()).unwrap_or_default()
}

async fn until(server: &Server, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..400 {
        let (_, found) = server.get(path).await;
        if is_so(&found) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not become so: {}", server.get(path).await.1);
}

#[tokio::test]
async fn a_definition_makes_a_kind() {
    let server = Server::start().await;
    assert_eq!(server.get(BOATS).await.0, StatusCode::NOT_FOUND);
    define(&server, boats()).await;
    let (_, definition) = server.get(&format!("{DEFINITIONS}/boats.fleet.example.org")).await;
    assert_eq!(definition["spec"]["names"]["listKind"], "BoatList");
    assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(definition["status"]["acceptedNames"]["singular"], "boat");
    let (_, list) = server.get(BOATS).await;
    let since = list["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    let mut sent = boat("a");
    sent["spec"]["sails"] = json!(9);
    sent["status"] = json!({"masts": 5});
    let (code, made) = server.post(BOATS, sent.clone()).await;
    assert_eq!((code, &made["spec"]), (StatusCode::CREATED, &json!({"masts": 2, "flag": "red"})), "{made}");
    assert_eq!((&made["status"], &made["metadata"]["generation"]), (&Value::Null, &json!(1)));
    check_error(
        &server.post(&format!("{BOATS}?fieldValidation=Strict"), sent).await,
        expect![[
            r#"400 "BadRequest": "Boat in version \"v1\" cannot be handled as a Boat: strict decoding error: unknown field \"spec.sails\"""#
        ]],
    );
    let (_, changed) = server.merge(&format!("{BOATS}/a"), json!({"spec": {"masts": 3}, "status": {"masts": 1}})).await;
    assert_eq!((&changed["metadata"]["generation"], &changed["status"]), (&json!(2), &Value::Null));
    let status = json!({"spec": {"masts": 7}, "status": {"masts": 1, "selector": "a=b", "conditions": [{"type": "Ready", "status": "True"}]}});
    let (_, changed) = server.merge(&format!("{BOATS}/a/status"), status).await;
    assert_eq!((&changed["metadata"]["generation"], &changed["spec"]["masts"]), (&json!(2), &json!(3)));
    let (_, scale) = server.get(&format!("{BOATS}/a/scale")).await;
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (&json!({"replicas": 3}), &json!({"replicas": 1, "selector": "a=b"}))
    );
    server.merge(&format!("{BOATS}/a/scale"), json!({"spec": {"replicas": 4}})).await;
    assert_eq!(server.get(&format!("{BOATS}/a")).await.1["spec"]["masts"], 4);
    let seen = server.watch(&format!("{BOATS}?watch=1&resourceVersion={since}"), 2).await;
    assert_eq!((&seen[0]["type"], &seen[1]["type"]), (&json!("ADDED"), &json!("MODIFIED")));
    let table = server.table(BOATS).await;
    assert_eq!(table["rows"][0]["cells"], json!(["a", 4, "True"]));
    let (_, group) = server.get("/apis/fleet.example.org/v1").await;
    assert_eq!(group["resources"][0]["shortNames"], json!(["bt"]));
    let selected = |flag: &str| format!("{BOATS}?fieldSelector=spec.flag%3D{flag}");
    assert_eq!(server.get(&selected("red")).await.1["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(server.get(&selected("blue")).await.1["items"].as_array().map(Vec::len), Some(0));
    let (code, _) = server.get(&format!("{BOATS}?fieldSelector=spec.masts%3D4")).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn values_are_judged_by_the_schema() {
    let server = Server::start().await;
    define(&server, boats()).await;
    let with = |spec: Value| {
        let mut wrong = boat("w");
        wrong["spec"] = spec;
        wrong
    };
    let wrong = with(json!({"masts": 0, "flag": "green", "name": "Ann", "port": true,
        "crew": [{"name": "a"}, {"name": "a"}], "ports": ["x", "x"]}));
    let (code, refused) = server.post(BOATS, wrong).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    expect![[r#"
        spec.flag: Unsupported value: "green": supported values: "blue", "red"
        spec.masts: Invalid value: 0: spec.masts in body should be greater than or equal to 1
        spec.name: Invalid value: "Ann": spec.name in body should match '^[a-z]+$'
        spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean"
        spec.crew[1]: Duplicate value: {"name":"a"}
        spec.ports[1]: Duplicate value: "x""#]]
    .assert_eq(&causes(&refused));
    check_error(
        &server.post(BOATS, with(json!({"masts": "two"}))).await,
        expect![[
            r#"422 "Invalid": "Boat.fleet.example.org \"w\" is invalid: spec.masts: Invalid value: \"string\": spec.masts in body must be of type integer: \"string\"""#
        ]],
    );
    check_error(
        &server.post(BOATS, with(json!({}))).await,
        expect![[r#"422 "Invalid": "Boat.fleet.example.org \"w\" is invalid: spec.masts: Required value""#]],
    );
    let good =
        with(json!({"masts": 1, "name": null, "port": "http", "free": {"a": {"b": [1]}}, "crew": [{"name": "a"}]}));
    let (code, made) = server.post(BOATS, good).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert_eq!(made["spec"]["crew"], json!([{"name": "a", "rank": "sailor"}]), "given its default within a list");
    assert_eq!((&made["spec"]["free"], &made["spec"]["name"]), (&json!({"a": {"b": [1]}}), &Value::Null));
    check_error(
        &server.merge(&format!("{BOATS}/w"), json!({"spec": {"flag": "blue"}})).await,
        expect![[
            r#"422 "Invalid": "Boat.fleet.example.org \"w\" is invalid: spec: Invalid value: \"object\": small boats keep their flag""#
        ]],
    );
    // A patch is judged as it comes out.
    let (code, _) = server.merge(&format!("{BOATS}/w"), json!({"spec": {"masts": 10}})).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    let strategic =
        server.call(http::Method::PATCH, &format!("{BOATS}/w"), "application/strategic-merge-patch+json", "{}").await;
    assert_eq!(strategic.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn two_managers_share_a_custom_object() {
    let server = Server::start().await;
    define(&server, boats()).await;
    let apply = |manager: &str, spec: Value| {
        let (server, path) = (&server, format!("{BOATS}/s?fieldManager={manager}"));
        let body =
            json!({"apiVersion": "fleet.example.org/v1", "kind": "Boat", "metadata": {"name": "s"}, "spec": spec});
        async move { server.call(http::Method::PATCH, &path, "application/apply-patch+yaml", body.to_string()).await }
    };
    let (code, made) = apply("a", json!({"masts": 2, "crew": [{"name": "ann", "rank": "mate"}]})).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let (code, both) = apply("b", json!({"masts": 2, "crew": [{"name": "bob"}], "ports": ["x"]})).await;
    assert_eq!(code, StatusCode::OK, "{both}");
    assert_eq!(both["spec"]["crew"], json!([{"name": "ann", "rank": "mate"}, {"name": "bob", "rank": "sailor"}]));
    check_error(
        &apply("b", json!({"masts": 3})).await,
        expect![[r#"409 "Conflict": "Apply failed with 1 conflict: conflict with \"a\": .spec.masts""#]],
    );
    let (_, left) = apply("b", json!({"masts": 2})).await;
    assert_eq!(left["spec"]["crew"], json!([{"name": "ann", "rank": "mate"}]), "what b gave up is gone");
    assert_eq!(left["spec"]["ports"], Value::Null);
}

#[tokio::test]
async fn wrong_definitions_are_refused() {
    let server = Server::start().await;
    let mut wrong = boats();
    wrong["metadata"]["name"] = json!("ships.fleet.example.org");
    wrong["spec"]["names"]["kind"] = json!("9Boat");
    wrong["spec"]["versions"][0]["schema"] = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "a": {"description": "no type"}, "b": {"type": "array"}, "c": {"type": "string", "pattern": "("},
            "d": {"type": "integer", "default": "x"}, "e": {"type": "string", "$ref": "#/x"},
            "f": {"type": "object", "properties": {"x": {"type": "string"}}, "additionalProperties": {"type": "string"}},
            "g": {"type": "string", "anyOf": [{"type": "string"}]},
            "h": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >"}, {"rule": "you > 1"}]}}},
        "metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}});
    let (code, refused) = server.post(DEFINITIONS, wrong).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    expect![[r#"
        metadata.name: Invalid value: "ships.fleet.example.org": must be spec.names.plural+"."+spec.group
        spec.names.singular: Invalid value: "9boat": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
        spec.names.kind: Invalid value: "9Boat": may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
        spec.names.listKind: Invalid value: "9BoatList": may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
        spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[a].type: Required value: must not be empty for specified object fields
        spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[b].items: Required value: must be specified
        spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[c].pattern: Invalid value: "(": must be a valid regular expression, but isn't
        spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[e].$ref: Forbidden: $ref is not supported
        spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[f].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive
        spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[g].anyOf[0].type: Forbidden: must be empty to be structural
        spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[h].x-kubernetes-validations[0].rule: Invalid value: "self >": compilation failed: ERROR: <input>:1:7: Syntax error: mismatched input '<EOF>' expecting expression
        | self >
        | ......^
        spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[h].x-kubernetes-validations[1].rule: Invalid value: "you > 1": compilation failed: undeclared reference to 'you' (in container '')
        spec.versions[0].schema.openAPIV3Schema.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified"#]].assert_eq(&causes(&refused));
}

#[tokio::test]
async fn of_two_definitions_with_a_name_the_elder_has_it() {
    let server = Server::start().await;
    define(&server, boats()).await;
    let mut other = boats();
    other["metadata"]["name"] = json!("ships.fleet.example.org");
    other["spec"]["names"] = json!({"plural": "ships", "kind": "Boat"});
    server.post(DEFINITIONS, other).await;
    let path = format!("{DEFINITIONS}/ships.fleet.example.org");
    let found = until(&server, &path, |found| condition(found, "NamesAccepted") == "False").await;
    assert_eq!(condition(&found, "Established"), "False");
    assert_eq!(server.get("/apis/fleet.example.org/v1/ships").await.0, StatusCode::NOT_FOUND);
    server.delete(&format!("{DEFINITIONS}/boats.fleet.example.org"), json!({})).await;
    until(&server, &path, |found| condition(found, "Established") == "True").await;
    assert_eq!(server.get("/apis/fleet.example.org/v1/ships").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_definition_goes_with_its_objects() {
    let server = Server::start().await;
    define(&server, boats()).await;
    let mut held = boat("held");
    held["metadata"]["finalizers"] = json!(["example.org/x"]);
    server.post(BOATS, held).await;
    server.post(BOATS, boat("free")).await;
    let path = format!("{DEFINITIONS}/boats.fleet.example.org");
    assert_eq!(server.delete(&path, json!({})).await.0, StatusCode::OK);
    until(&server, &format!("{BOATS}/free"), |found| found["reason"] == "NotFound").await;
    let going = until(&server, &path, |found| condition(found, "Terminating") == "True").await;
    assert_eq!(going["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    check_error(
        &server.post(BOATS, boat("late")).await,
        expect![[r#"405 "MethodNotAllowed": "create not allowed while custom resource definition is terminating""#]],
    );
    server.merge(&format!("{BOATS}/held"), json!({"metadata": {"finalizers": null}})).await;
    until(&server, &path, |found| found["reason"] == "NotFound").await;
    until(&server, BOATS, |found| found["reason"] == "NotFound").await;
}

#[tokio::test]
async fn versions_share_their_objects() {
    let server = Server::start().await;
    let mut definition = boats();
    let mut old = definition["spec"]["versions"][0].clone();
    old["name"] = json!("v1beta1");
    old["storage"] = json!(false);
    old["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["flag"]["default"] = json!("blue");
    definition["spec"]["versions"].as_array_mut().expect("a list").insert(0, old);
    define(&server, definition).await;
    let (_, group) = server.get("/apis/fleet.example.org").await;
    assert_eq!(group["preferredVersion"]["version"], "v1", "{group}");
    let beta = BOATS.replace("/v1/", "/v1beta1/");
    let mut sent = boat("a");
    sent["apiVersion"] = json!("fleet.example.org/v1beta1");
    let (code, made) = server.post(&beta, sent).await;
    assert_eq!((code, &made["apiVersion"]), (StatusCode::CREATED, &json!("fleet.example.org/v1beta1")), "{made}");
    let (_, read) = server.get(&format!("{BOATS}/a")).await;
    assert_eq!((&read["apiVersion"], &read["spec"]["flag"]), (&json!("fleet.example.org/v1"), &json!("blue")));
    let (_, list) = server.get(&beta).await;
    assert_eq!(list["items"][0]["apiVersion"], "fleet.example.org/v1beta1");
    // What is stored now is the other, and both stay listed as stored.
    let path = format!("{DEFINITIONS}/boats.fleet.example.org");
    let (_, mut definition) = server.get(&path).await;
    definition["spec"]["versions"][0]["storage"] = json!(true);
    definition["spec"]["versions"][1]["storage"] = json!(false);
    definition["spec"]["versions"][1]["served"] = json!(false);
    let (code, put) = server.put(&path, definition).await;
    assert_eq!(code, StatusCode::OK, "{put}");
    until(&server, &path, |found| found["status"]["storedVersions"] == json!(["v1", "v1beta1"])).await;
    until(&server, BOATS, |found| found["reason"] == "NotFound").await;
    assert_eq!(server.get(&format!("{beta}/a")).await.1["apiVersion"], "fleet.example.org/v1beta1");
}

#[tokio::test]
async fn what_it_is_made_of_can_be_read() {
    let server = Server::start().await;
    let before = server.get("/openapi/v3").await.1;
    assert_eq!(before["paths"]["apis/fleet.example.org/v1"], Value::Null);
    let mut definition = boats();
    definition["spec"]["versions"][0]["deprecated"] = json!(true);
    define(&server, definition).await;
    let (_, root) = server.get("/openapi/v3").await;
    let url =
        root["paths"]["apis/fleet.example.org/v1"]["serverRelativeURL"].as_str().expect("it is listed").to_owned();
    let (_, document) = server.get(&url).await;
    let schema = &document["components"]["schemas"]["org.example.fleet.v1.Boat"];
    assert_eq!(schema["properties"]["spec"]["properties"]["masts"]["description"], "How many masts it has.");
    assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "Boat");
    let item = &document["paths"]["/apis/fleet.example.org/v1/namespaces/{namespace}/boats/{name}"];
    assert_eq!(item["patch"]["x-kubernetes-group-version-kind"]["kind"], "Boat");
    assert!(document["components"]["schemas"]["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"].is_object());
    let request = http::Request::get(BOATS).body(crate::body::full("")).expect("a request");
    let response = server.api.handle(server.user.clone(), request).await;
    assert_eq!(response.headers()["warning"], r#"299 - "fleet.example.org/v1 Boat is deprecated""#);
    server.delete(&format!("{DEFINITIONS}/boats.fleet.example.org"), json!({})).await;
    until(&server, "/openapi/v3", |found| found["paths"]["apis/fleet.example.org/v1"].is_null()).await;
}

#[tokio::test]
async fn old_clients_are_told_of_it_too() {
    let server = Server::start().await;
    define(&server, boats()).await;
    let (code, document) = server.get("/openapi/v2").await;
    assert_eq!((code, &document["swagger"]), (StatusCode::OK, &json!("2.0")));
    let boat = &document["definitions"]["org.example.fleet.v1.Boat"];
    assert_eq!(boat["properties"]["spec"]["properties"]["masts"]["description"], "How many masts it has.");
    assert_eq!(boat["properties"]["metadata"]["$ref"], "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    assert!(document["paths"]["/apis/fleet.example.org/v1/namespaces/{namespace}/boats/{name}"]["get"].is_object());
    let accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let request =
        http::Request::get("/openapi/v2").header("accept", accept).body(crate::body::full("")).expect("a request");
    let response = server.api.handle(server.user.clone(), request).await;
    assert!(response.headers()["content-type"].to_str().expect("text").ends_with("+protobuf"));
    for (accept, expected) in [(accept, StatusCode::NOT_MODIFIED), ("application/json", StatusCode::OK)] {
        let known = http::Request::get("/openapi/v2").header("if-none-match", response.headers()["etag"].clone());
        let known = known.header("accept", accept).body(crate::body::full("")).expect("a request");
        let known = server.api.handle(server.user.clone(), known).await;
        assert_eq!(known.status(), expected, "{accept}");
    }
}
