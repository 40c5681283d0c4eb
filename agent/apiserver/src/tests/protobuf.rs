//! What clients get that ask for protobuf, and large answers in gzip.

use std::io::Read;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use skiff_object::kinds::{self, Kind};
use skiff_object::protobuf::{self, encode};

use super::*;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const EITHER: &str = "application/vnd.kubernetes.protobuf,application/json";
const METADATA: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// An answer as it came.
struct Answer {
    code: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

async fn ask(server: &Server, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body::full(body)).expect("a request");
    let (parts, body) = server.api.handle(server.user.clone(), request).await.into_parts();
    Answer { code: parts.status, headers: parts.headers, body: body.collect().await.expect("a body").to_bytes() }
}

async fn get(server: &Server, path: &str, accept: &str) -> Answer {
    ask(server, Method::GET, path, &[("accept", accept)], Vec::new()).await
}

/// With a body in protobuf, as client-go sends it.
async fn send(server: &Server, method: Method, path: &str, kind: &Kind, object: &Value) -> Answer {
    let mut body = Vec::new();
    encode::object(&mut body, encode::Shape::Whole(kind), encode::Json::Value(object)).expect("an object");
    ask(server, method, path, &[("accept", EITHER), ("content-type", PROTOBUF)], body).await
}

fn kind(api_version: &str, kind: &str) -> &'static Kind {
    kinds::by_kind(api_version, kind).or_else(|| kinds::body(api_version, kind)).expect("a kind")
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    #[track_caller]
    fn object(&self, api_version: &str, name: &str) -> Value {
        assert_eq!(self.header("content-type"), PROTOBUF, "{:?}", self.body);
        read_object(api_version, name, &self.body)
    }

    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/json", "{:?}", self.body);
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

fn read_object(api_version: &str, name: &str, bytes: &[u8]) -> Value {
    let object = protobuf::decode(kind(api_version, name), bytes).expect("protobuf");
    assert_eq!((&object["apiVersion"], &object["kind"]), (&json!(api_version), &json!(name)));
    object
}

/// The fields of a message that are bytes, with their numbers.
fn fields(mut message: &[u8]) -> Vec<(u64, &[u8])> {
    fn varint(message: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = message.split_first().expect("a byte");
            *message = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let number = varint(&mut message);
        match key & 7 {
            0 => {}
            2 => {
                let (value, rest) = message.split_at(usize::try_from(number).expect("a length"));
                message = rest;
                found.push((key >> 3, value));
            }
            other => panic!("{other} is not expected here"),
        }
    }
    found
}

fn field(message: &[u8], wanted: u64) -> &[u8] {
    fields(message).into_iter().find(|(number, _)| *number == wanted).map(|(_, value)| value).unwrap_or_default()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

/// What an envelope says it holds, and what it holds.
fn opened(bytes: &[u8]) -> (&str, &[u8]) {
    let envelope = bytes.strip_prefix(b"k8s\0").expect("the magic");
    (text(field(field(envelope, 1), 2)), field(envelope, 2))
}

/// The kind of a list, the names of its items, and the token of its next page.
fn listed(bytes: &[u8]) -> (&str, Vec<&str>, &str) {
    let (kind, list) = opened(bytes);
    let items = fields(list).into_iter().filter(|(number, _)| *number == 2);
    let names = items.map(|(_, item)| text(field(field(item, 1), 1))).collect();
    assert!(!field(field(list, 1), 2).is_empty(), "a list has a revision");
    (kind, names, text(field(field(list, 1), 3)))
}

/// The first events of a watch: their types, and the objects in their envelopes.
async fn watch(server: &Server, path: &str, accept: &str, count: usize) -> Vec<(String, Bytes)> {
    let request = Request::get(path).header("accept", accept).header("accept-encoding", "gzip");
    let response = server.api.handle(server.user.clone(), request.body(body::full("")).expect("a request")).await;
    assert_eq!(response.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    assert!(!response.headers().contains_key("content-encoding"));
    let (mut body, mut bytes, mut events) = (response.into_body(), BytesMut::new(), Vec::new());
    while events.len() < count {
        while let Some(length) = bytes.first_chunk::<4>().map(|length| u32::from_be_bytes(*length) as usize)
            && bytes.len() >= 4 + length
        {
            let event = bytes.split_to(4 + length).freeze().slice(4..);
            let object = event.slice_ref(field(field(&event, 2), 1));
            events.push((text(field(&event, 1)).to_owned(), object));
        }
        if events.len() < count {
            let frame = tokio::time::timeout(Duration::from_secs(20), body.frame()).await.expect("in time");
            bytes.extend_from_slice(&frame.expect("more").expect("a frame").into_data().expect("data"));
        }
    }
    events.truncate(count);
    events
}

#[tokio::test]
async fn objects_go_both_ways() {
    let server = Server::start().await;
    let maps = kind("v1", "ConfigMap");
    let mut sent = map("a");
    sent["binaryData"] = json!({"b": "AP94"});
    let made = send(&server, Method::POST, MAPS, maps, &sent).await;
    assert_eq!(made.code, StatusCode::CREATED);
    let made = made.object("v1", "ConfigMap");
    let path = format!("{MAPS}/a");
    assert_eq!(made, server.get(&path).await.1, "in JSON it is the same");
    assert_eq!(get(&server, &path, PROTOBUF).await.object("v1", "ConfigMap"), made);

    let mut changed = made;
    changed["data"]["a"] = json!("2");
    let changed = send(&server, Method::PUT, &path, maps, &changed).await;
    assert_eq!((changed.code, &changed.object("v1", "ConfigMap")["data"]["a"]), (StatusCode::OK, &json!("2")));
    let patch = [("accept", PROTOBUF), ("content-type", "application/merge-patch+json")];
    let patched = ask(&server, Method::PATCH, &path, &patch, br#"{"data":{"a":null}}"#.to_vec()).await;
    assert!(patched.object("v1", "ConfigMap").get("data").is_none());

    let gone = ask(&server, Method::DELETE, &path, &[("accept", PROTOBUF)], Vec::new()).await;
    let status = gone.object("v1", "Status");
    assert_eq!((&status["status"], &status["details"]["name"]), (&json!("Success"), &json!("a")));
    send(&server, Method::POST, MAPS, maps, &map("b")).await;
    let all = ask(&server, Method::DELETE, MAPS, &[("accept", EITHER)], Vec::new()).await;
    assert!(listed(&all.body).1.contains(&"b"));
}

#[tokio::test]
async fn lists_are_the_same_in_protobuf() {
    let server = Server::start().await;
    for name in ["a", "b", "c"] {
        let mut map = map(name);
        map["metadata"]["labels"] = json!({"name": name});
        server.post(MAPS, map).await;
    }
    let page = get(&server, &format!("{MAPS}?limit=2"), EITHER).await;
    let (kind, names, token) = listed(&page.body);
    assert_eq!((kind, names), ("ConfigMapList", vec!["a", "b"]));
    let rest = get(&server, &format!("{MAPS}?limit=2&continue={token}"), EITHER).await;
    let (_, names, token) = listed(&rest.body);
    assert_eq!((names, token), (vec!["c"], ""));
    let selected = get(&server, &format!("{MAPS}?labelSelector=name+in+(a,c)"), EITHER).await;
    assert_eq!(listed(&selected.body).1, ["a", "c"]);

    for accept in [METADATA_LIST, METADATA] {
        let metadata = get(&server, &format!("{MAPS}?labelSelector=name"), accept).await;
        assert_eq!(metadata.header("content-type"), PROTOBUF);
        let (kind, names, _) = listed(&metadata.body);
        assert_eq!((kind, names), ("PartialObjectMetadataList", vec!["a", "b", "c"]));
        let (_, list) = opened(&metadata.body);
        let item = fields(list).pop().expect("an item").1;
        assert_eq!(fields(item).len(), 1, "there is nothing but metadata");
    }
}

#[tokio::test]
async fn every_kind_is_listed_in_protobuf() {
    let server = Server::start().await;
    for kind in kinds::built_in().kinds().filter(|kind| kind.is_kept()) {
        let root = if kind.group.is_empty() { "/api" } else { "/apis" };
        let path = format!("{root}/{}/{}", kind.api_version(), kind.plural);
        let (_, json) = server.get(&path).await;
        let list = get(&server, &path, PROTOBUF).await;
        assert_eq!(list.code, StatusCode::OK, "{path}");
        let (list_kind, names, _) = listed(&list.body);
        let items = json["items"].as_array().expect("items");
        let expected: Vec<&str> = items.iter().filter_map(|item| item["metadata"]["name"].as_str()).collect();
        assert_eq!((list_kind, names), (&*kind.list_kind(), expected));
    }
}

#[tokio::test]
async fn watches_are_framed() {
    let server = Server::start().await;
    let (_, made) = server.post(MAPS, map("a")).await;
    let version = made["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    server.merge(&format!("{MAPS}/a"), json!({"data": {"a": "2"}})).await;
    server.delete(&format!("{MAPS}/a"), json!({})).await;
    server.post(MAPS, map("b")).await;
    for selector in ["", "&fieldSelector=metadata.namespace%3Ddefault"] {
        let path = format!("{MAPS}?watch=1&resourceVersion={version}{selector}");
        let in_json = server.watch(&path, 3).await;
        let seen = watch(&server, &path, EITHER, 3).await;
        for ((event, object), line) in seen.iter().zip(&in_json) {
            assert_eq!(
                (event.as_str(), read_object("v1", "ConfigMap", object)),
                (line["type"].as_str().expect("a type"), line["object"].clone())
            );
        }
        assert_eq!(seen.len(), 3);
        let metadata = watch(&server, &path, METADATA, 3).await;
        let names =
            metadata.iter().map(|(_, object)| opened(object)).map(|(kind, raw)| (kind, text(field(field(raw, 1), 1))));
        assert_eq!(names.collect::<Vec<_>>(), ["a", "a", "b"].map(|name| ("PartialObjectMetadata", name)));
    }

    let initial = format!(
        "{MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&\
         fieldSelector=metadata.name%3Db"
    );
    for accept in [EITHER, METADATA] {
        let seen = watch(&server, &initial, accept, 2).await;
        assert_eq!(seen.iter().map(|(event, _)| event.as_str()).collect::<Vec<_>>(), ["ADDED", "BOOKMARK"]);
        let annotation = b"k8s.io/initial-events-end";
        assert!(seen[1].1.windows(annotation.len()).any(|window| window == annotation));
    }

    for n in 0..120 {
        server.merge(&format!("{MAPS}/b"), json!({"data": {"n": n.to_string()}})).await;
    }
    let told = watch(&server, &format!("{MAPS}?watch=1&resourceVersion={version}"), EITHER, 1).await;
    let status = read_object("v1", "Status", &told[0].1);
    assert_eq!((told[0].0.as_str(), &status["code"], &status["reason"]), ("ERROR", &json!(410), &json!("Expired")));
}

#[tokio::test]
async fn errors_are_told_as_the_client_reads() {
    let server = Server::start().await;
    let none = get(&server, &format!("{MAPS}/none"), EITHER).await;
    let expected = server.get(&format!("{MAPS}/none")).await.1;
    let mut status = none.object("v1", "Status");
    // Go holds it by value.
    status["metadata"] = json!({});
    assert_eq!((none.code, status), (StatusCode::NOT_FOUND, expected));
    let invalid = send(&server, Method::POST, MAPS, kind("v1", "ConfigMap"), &map("Not_A_Name")).await;
    let causes = &invalid.object("v1", "Status")["details"]["causes"];
    assert_eq!((invalid.code, &causes[0]["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("metadata.name")));
    let path = get(&server, "/apis/no.such.group/v1/things", PROTOBUF).await;
    assert_eq!(path.object("v1", "Status")["code"], 404);

    // Whoever asks for metadata alone is told in JSON, as upstream does.
    let as_metadata = get(&server, &format!("{MAPS}/none"), METADATA).await;
    assert_eq!(as_metadata.json()["code"], 404);
    let json_first =
        get(&server, &format!("{MAPS}/none"), "application/json,application/vnd.kubernetes.protobuf").await;
    assert_eq!(json_first.json()["code"], 404);
}

#[tokio::test]
async fn the_first_acceptable_form_is_taken() {
    let server = Server::start().await;
    let table = format!("{PROTOBUF};as=Table;g=meta.k8s.io;v=v1");
    let refused = get(&server, MAPS, &table).await;
    assert_eq!(refused.code, StatusCode::NOT_ACCEPTABLE);
    check_error(
        &(refused.code, refused.json()),
        expect![[
            r#"406 "NotAcceptable": "only the following media types are accepted: application/json, application/vnd.kubernetes.protobuf""#
        ]],
    );
    let kind_of = async |accept: &str| get(&server, MAPS, accept).await.json()["kind"].clone();
    assert_eq!(kind_of(&format!("{table}, application/json;as=Table;g=meta.k8s.io;v=v1")).await, "Table");
    assert_eq!(kind_of(&format!("{table}, application/json")).await, "ConfigMapList");
    assert_eq!(kind_of("application/json, application/vnd.kubernetes.protobuf").await, "ConfigMapList");
    assert_eq!(kind_of("application/cbor, */*").await, "ConfigMapList");
    assert_eq!(get(&server, MAPS, "application/cbor").await.code, StatusCode::NOT_ACCEPTABLE);
    assert_eq!(get(&server, "/apis/apps/v1", EITHER).await.json()["kind"], "APIResourceList");
}

#[tokio::test]
async fn custom_kinds_have_no_protobuf_but_for_their_metadata() {
    let server = Server::start().await;
    custom::define(&server, custom::boats()).await;
    let boats = "/apis/fleet.example.org/v1/namespaces/default/boats";
    let (code, made) = server.post(boats, custom::boat("ada")).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let refused = get(&server, boats, PROTOBUF).await;
    assert_eq!(refused.code, StatusCode::NOT_ACCEPTABLE);
    assert_eq!(refused.object("v1", "Status")["reason"], "NotAcceptable");
    assert_eq!(get(&server, &format!("{boats}/ada"), EITHER).await.json(), made);
    assert_eq!(get(&server, boats, EITHER).await.json()["kind"], "BoatList");
    let metadata = get(&server, boats, METADATA_LIST).await;
    let (kind, names, _) = listed(&metadata.body);
    assert_eq!((kind, names), ("PartialObjectMetadataList", vec!["ada"]));
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/boats.fleet.example.org";
    let definition =
        get(&server, definitions, EITHER).await.object("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    assert_eq!(definition["spec"]["versions"], server.get(definitions).await.1["spec"]["versions"]);
}

#[tokio::test]
async fn what_is_below_objects_is_in_protobuf_too() {
    let server = Server::start().await;
    let deployment = json!({"metadata": {"name": "web"}, "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "i"}]}}}});
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let made = send(&server, Method::POST, deployments, kind("apps/v1", "Deployment"), &deployment).await;
    assert_eq!(made.object("apps/v1", "Deployment")["spec"]["strategy"]["rollingUpdate"]["maxSurge"], "25%");
    let scale = format!("{deployments}/web/scale");
    let mut read = get(&server, &scale, EITHER).await.object("autoscaling/v1", "Scale");
    assert_eq!(read["spec"]["replicas"], 2);
    read["spec"]["replicas"] = json!(3);
    let written = send(&server, Method::PUT, &scale, kind("autoscaling/v1", "Scale"), &read).await;
    assert_eq!(written.object("autoscaling/v1", "Scale")["spec"]["replicas"], 3);
}

#[tokio::test]
async fn reviews_and_tokens_are_in_protobuf_too() {
    let server = Server::start().await;
    let review = kind("authorization.k8s.io/v1", "SelfSubjectAccessReview");
    let asked = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let answer = send(&server, Method::POST, path, review, &asked).await;
    assert_eq!(answer.object("authorization.k8s.io/v1", "SelfSubjectAccessReview")["status"]["allowed"], true);
    let review = kind("authorization.k8s.io/v1", "SelfSubjectRulesReview");
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let answer = send(&server, Method::POST, path, review, &json!({"spec": {"namespace": "default"}})).await;
    let rules = answer.object("authorization.k8s.io/v1", "SelfSubjectRulesReview");
    assert_eq!(rules["status"]["resourceRules"][0]["verbs"], json!(["*"]));
    let review = kind("authentication.k8s.io/v1", "SelfSubjectReview");
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let answer = send(&server, Method::POST, path, review, &json!({})).await;
    assert!(
        answer.object("authentication.k8s.io/v1", "SelfSubjectReview")["status"]["userInfo"]["username"].is_string()
    );

    server.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    let tokens = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let request = kind("authentication.k8s.io/v1", "TokenRequest");
    let token = send(&server, Method::POST, tokens, request, &json!({"spec": {"expirationSeconds": 900}})).await;
    let token = token.object("authentication.k8s.io/v1", "TokenRequest");
    assert!(token["status"]["token"].is_string() && token["status"]["expirationTimestamp"].is_string(), "{token}");

    let pods = "/api/v1/namespaces/default/pods";
    server.post(pods, json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "i"}]}})).await;
    let eviction = json!({"metadata": {"name": "p"}, "deleteOptions": {"gracePeriodSeconds": 0}});
    let evicted =
        send(&server, Method::POST, &format!("{pods}/p/eviction"), kind("policy/v1", "Eviction"), &eviction).await;
    assert_eq!((evicted.code, &evicted.object("v1", "Status")["status"]), (StatusCode::CREATED, &json!("Success")));
}

fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut read).expect("it is gzip");
    read
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_take_it() {
    let server = Server::start().await;
    let mut large = map("large");
    large["data"]["a"] = json!("0123456789".repeat(20_000));
    server.post(MAPS, large).await;
    server.post(MAPS, map("small")).await;
    for accept in [PROTOBUF, "application/json"] {
        for path in [MAPS.to_owned(), format!("{MAPS}/large"), format!("{MAPS}?fieldSelector=metadata.name%3Dlarge")] {
            let plain = get(&server, &path, accept).await;
            assert!(!plain.headers.contains_key("content-encoding"));
            let headers = [("accept", accept), ("accept-encoding", "gzip")];
            let packed = ask(&server, Method::GET, &path, &headers, Vec::new()).await;
            assert_eq!((packed.header("content-encoding"), packed.header("content-type")), ("gzip", accept));
            assert_eq!(packed.header("vary"), "Accept-Encoding");
            assert!(packed.body.len() * 10 < plain.body.len(), "{}", packed.body.len());
            assert!(unpacked(&packed.body) == plain.body, "{path}");
        }
        let headers = [("accept", accept), ("accept-encoding", "gzip")];
        let small = ask(&server, Method::GET, &format!("{MAPS}/small"), &headers, Vec::new()).await;
        assert!(!small.headers.contains_key("content-encoding"));
    }
}

#[tokio::test]
async fn descriptions_are_plain_for_those_who_do_not_take_gzip() {
    let server = Server::start().await;
    let path = "/openapi/v3/api/v1";
    let packed = ask(&server, Method::GET, path, &[("accept-encoding", "gzip")], Vec::new()).await;
    let plain = get(&server, path, "application/json").await;
    assert_eq!((packed.header("content-encoding"), plain.header("content-encoding")), ("gzip", ""));
    assert!(unpacked(&packed.body) == plain.body);
    assert_eq!(plain.json()["openapi"], "3.0.0");
    assert!(!plain.header("etag").is_empty() && plain.header("etag") == packed.header("etag"));
}
