//! What is written: the way there and back for every kind, bytes that Go's clients read, and what cannot be written.

use serde_json::{Value, json};

use super::*;
use encode::{EncodeError, Json, List, Shape};

fn encoded(kind: &Kind, json: Json<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode::object(&mut out, Shape::Whole(kind), json).expect("it can be written");
    out
}

fn canonical(kind: &Kind, object: Value) -> Value {
    let decoded = decode_value(kind, object, FieldValidation::Strict);
    decoded.unwrap_or_else(|error| panic!("{}: {error}", kind.kind)).value
}

fn check_returns(kind: &Kind, object: Value) {
    let object = canonical(kind, object);
    let bytes = encoded(kind, Json::Value(&object));
    assert_eq!(bytes, encoded(kind, Json::Text(object.to_string().as_bytes())), "{}", kind.kind);
    let read = decode(kind, &bytes).unwrap_or_else(|error| panic!("{}: {error}: {object}", kind.kind));
    assert_eq!(canonical(kind, read), object, "{}", kind.kind);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_kind_returns(seed: u64) {
        for kind in kinds::typed() {
            check_returns(kind, Samples::new(seed).object(kind));
        }
    }
}

#[test]
fn what_is_empty_returns_where_it_means_something() {
    let check =
        |version: &str, kind: &str, object: Value| check_returns(by_kind(version, kind).expect("a kind"), object);
    check(
        "apps/v1",
        "Deployment",
        json!({"spec": {"replicas": 0, "template": {"spec": {
        "automountServiceAccountToken": false, "containers": [{"name": "a"}], "securityContext": {"runAsUser": 0},
        "terminationGracePeriodSeconds": 0, "volumes": [{"name": "a", "emptyDir": {}}]}}}}),
    );
    check("v1", "PersistentVolumeClaim", json!({"spec": {"storageClassName": ""}}));
    check("networking.k8s.io/v1", "NetworkPolicy", json!({"spec": {"podSelector": {}, "ingress": [{}]}}));
    check("v1", "ConfigMap", json!({"data": {"empty": "", "": "no name"}}));
    check(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        json!({"addressType": "IPv4", "endpoints": [
        {"addresses": ["10.0.0.1"], "conditions": {"ready": false}}], "ports": [{"name": "", "port": 80}]}),
    );
}

/// Go sends what it holds by value also where it is zero, and JSON does not have it then.
#[test]
fn what_go_holds_by_value_is_none_where_it_is_zero() {
    let returned = |version: &str, kind: &str, object: Value| {
        let kind = by_kind(version, kind).expect("a kind");
        let mut object = decode(kind, &encoded(kind, Json::Value(&object))).expect("it can be read");
        object["spec"].take()
    };
    let pod = json!({"spec": {"hostNetwork": false, "priority": 0, "hostname": "", "volumes": [{"csi": {"readOnly": false}},
        {"nfs": {"readOnly": false, "server": "", "path": "/"}}]}});
    let expected =
        json!({"priority": 0, "volumes": [{"csi": {"readOnly": false}}, {"nfs": {"path": "/", "server": ""}}]});
    assert_eq!(returned("v1", "Pod", pod), expected);
    let schema = json!({"nullable": false, "uniqueItems": false, "x-kubernetes-int-or-string": false, "minimum": 0});
    let definition = json!({"spec": {"versions": [{"deprecated": false, "served": false, "schema":
        {"openAPIV3Schema": schema}}]}});
    let expected = json!({"versions": [{"served": false, "schema": {"openAPIV3Schema": {"minimum": 0}}}]});
    assert_eq!(returned("apiextensions.k8s.io/v1", "CustomResourceDefinition", definition), expected);
}

#[test]
fn what_is_by_value_is_found() {
    assert!(crate::protobuf::BY_VALUE.is_sorted());
}

/// Bytes as a person reads them: what is not ASCII is escaped.
fn readable(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn check_bytes(version: &str, kind: &str, object: Value, expected: Expect) {
    let kind = by_kind(version, kind).expect("a kind");
    let bytes = encoded(kind, Json::Value(&object));
    expected.assert_eq(&readable(&bytes));
    check_returns(kind, object);
}

#[test]
fn a_pod() {
    check_bytes(
        "v1",
        "Pod",
        json!({"metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"},
        "creationTimestamp": "2026-01-04T13:52:00Z", "generation": 1, "managedFields": [{"manager": "kubectl",
        "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}]},
        "spec": {"containers": [{"name": "a", "image": "nginx", "ports": [{"containerPort": 80}],
        "resources": {"limits": {"cpu": "500m"}}, "livenessProbe": {"httpGet": {"port": "http"}, "periodSeconds": 5}}],
        "volumes": [{"name": "conf", "configMap": {"name": "settings"}}]}}),
        expect![[
            r#"k8s\x00\n\t\n\x02v1\x12\x03Pod\x12\xa8\x01\nVB\x08\x08\x80\xe1\xe9\xca\x06\x10\x008\x01Z\n\n\x03app\x12\x03web\x8a\x010\x1a\x02v12\x08FieldsV1:\x0f\n\r{\"f:spec\":{}}\n\x07kubectl\x12\x06Update\n\x03web\x1a\x04shop\x12N\x123\x12\x05nginxR\x12 \x05\n\x0e\x12\x0c\x12\n\x08\x01\x10\x00\x1a\x04http\n\x01a2\x02\x18PB\x0f\n\r\n\x03cpu\x12\x06\n\x04500m\n\x17\n\x04conf\x12\x0f\x9a\x01\x0c\n\n\n\x08settings\x1a\x00\"\x00"#
        ]],
    );
}

#[test]
fn a_deployment() {
    check_bytes(
        "apps/v1",
        "Deployment",
        json!({"metadata": {"name": "web"}, "spec": {"replicas": 3,
        "selector": {"matchLabels": {"app": "web"}}, "strategy": {"rollingUpdate": {"maxSurge": "25%",
        "maxUnavailable": 1}}, "template": {"spec": {"containers": [{"name": "a", "stdin": true}]}}}}),
        expect![[
            r#"k8s\x00\n\x15\n\x07apps/v1\x12\nDeployment\x12<\n\x05\n\x03web\x123\x08\x03\x12\x0c\n\n\n\x03app\x12\x03web\"\x15\x12\x13\x12\t\x08\x01\x10\x00\x1a\x0325%\n\x06\x08\x00\x10\x01\x1a\x00\x1a\n\x12\x08\x12\x06\n\x01a\x80\x01\x01\x1a\x00\"\x00"#
        ]],
    );
}

#[test]
fn an_event() {
    check_bytes(
        "v1",
        "Event",
        json!({"metadata": {"name": "web.1"}, "eventTime": "2026-01-04T13:52:00.123456Z",
        "involvedObject": {"kind": "Pod", "name": "web"}, "reason": "Started", "count": 200}),
        expect![[
            r#"k8s\x00\n\x0b\n\x02v1\x12\x05Event\x12.@\xc8\x01R\x0b\x08\x80\xe1\xe9\xca\x06\x10\x80\x94\xef:\x12\n\n\x03Pod\x1a\x03web\n\x07\n\x05web.1\x1a\x07Started\x1a\x00\"\x00"#
        ]],
    );
}

#[test]
fn a_secret_and_a_config_map() {
    check_bytes(
        "v1",
        "Secret",
        json!({"data": {"key": "AP94"}, "immutable": false, "type": "Opaque"}),
        expect![[
            r#"k8s\x00\n\x0c\n\x02v1\x12\x06Secret\x12\x16\x12\n\n\x03key\x12\x03\x00\xffx(\x00\x1a\x06Opaque\x1a\x00\"\x00"#
        ]],
    );
    check_bytes(
        "v1",
        "ConfigMap",
        json!({"binaryData": {"b": "AP94"}, "data": {"a": "text"}}),
        expect![[
            r#"k8s\x00\n\x0f\n\x02v1\x12\tConfigMap\x12\x15\x1a\x08\n\x01b\x12\x03\x00\xffx\x12\t\n\x01a\x12\x04text\x1a\x00\"\x00"#
        ]],
    );
}

#[test]
fn a_node() {
    check_bytes(
        "v1",
        "Node",
        json!({"metadata": {"name": "box"}, "spec": {"podCIDRs": ["10.42.0.0/24"],
        "unschedulable": true}, "status": {"capacity": {"cpu": "4", "memory": "8Gi"}, "conditions": [{"type": "Ready",
        "status": "True", "lastHeartbeatTime": "2026-01-04T13:52:00Z"}]}}),
        expect![[
            r#"k8s\x00\n\n\n\x02v1\x12\x04Node\x12Q\n\x05\n\x03box\x12\x10:\x0c10.42.0.0/24 \x01\x1a6\n\n\n\x03cpu\x12\x03\n\x014\n\x0f\n\x06memory\x12\x05\n\x038Gi\"\x17\x1a\x08\x08\x80\xe1\xe9\xca\x06\x10\x00\x12\x04True\n\x05Ready\x1a\x00\"\x00"#
        ]],
    );
}

#[test]
fn an_autoscaler_and_a_network_policy() {
    check_bytes(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        json!({"spec": {"maxReplicas": 10, "minReplicas": 0,
        "scaleTargetRef": {"kind": "Deployment", "name": "web"}, "metrics": [{"type": "Resource", "resource":
        {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "100m"}}}]}}),
        expect![[
            r#"k8s\x00\n)\n\x0eautoscaling/v2\x12\x17HorizontalPodAutoscaler\x12D\x12B\x18\n\")\"\x1d\n\x03cpu\x12\x16\x1a\x06\n\x04100m\n\x0cAverageValue\n\x08Resource\x10\x00\n\x11\n\nDeployment\x12\x03web\x1a\x00\"\x00"#
        ]],
    );
    check_bytes(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 80, "endPort": 90}, {"port":
        "http"}]}]}}),
        expect![[
            r#"k8s\x00\n%\n\x14networking.k8s.io/v1\x12\rNetworkPolicy\x129\x127\x12*\x12\x0e\x1a\x0c\n\n10.0.0.0/8\n\n\x18Z\x12\x06\x08\x00\x10P\x1a\x00\n\x0c\x12\n\x08\x01\x10\x00\x1a\x04http\n\x00\"\x07Ingress\x1a\x00\"\x00"#
        ]],
    );
}

#[test]
fn a_webhook_and_a_definition() {
    check_bytes(
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicy",
        json!({"spec": {"matchConstraints":
        {"resourceRules": [{"operations": ["CREATE"], "apiGroups": ["apps"], "resourceNames": ["a"]}]}}}),
        expect![[
            r#"k8s\x00\n<\n\x1fadmissionregistration.k8s.io/v1\x12\x19ValidatingAdmissionPolicy\x12\x1b\x12\x19\x12\x17\x1a\x15\n\x01a\x12\x10\n\x06CREATE\x12\x06\n\x04apps\x1a\x00\"\x00"#
        ]],
    );
    check_bytes(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        json!({"spec": {"group": "example.org",
        "names": {"kind": "Toy", "plural": "toys"}, "scope": "Cluster", "versions": [{"name": "v1", "served": true,
        "storage": false, "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
        "properties": {"a": {"type": "array", "items": {"type": "integer", "minimum": 1, "default": 7}},
        "b": {"additionalProperties": false}, "c": {"additionalProperties": {"enum": [null, "x"]}},
        "d": {"dependencies": {"x": ["y"], "y": {"type": "string"}}}}}}}]}}),
        expect![[
            r#"k8s\x00\n3\n\x17apiextensions.k8s.io/v1\x12\x18CustomResourceDefinition\x12\xbf\x01\x12\xbc\x01\n\x0bexample.org\x1a\x0b\"\x03Toy\n\x04toys\"\x07Cluster:\x96\x01\n\x02v1\"\x8b\x01\n\x88\x01\xea\x01(\n\x01a\x12#\xc2\x01\x19\n\x17B\x03\n\x017Y\x00\x00\x00\x00\x00\x00\xf0?*\x07integer*\x05array\xea\x01\n\n\x01b\x12\x05\xf2\x01\x02\x08\x00\xea\x01\x1d\n\x01c\x12\x18\xf2\x01\x15\x08\x01\x12\x11\xa2\x01\x06\n\x04null\xa2\x01\x05\n\x03\"x\"\xea\x01\"\n\x01d\x12\x1d\x82\x02\x08\n\x01x\x12\x03\x12\x01y\x82\x02\x0f\n\x01y\x12\n\n\x08*\x06string*\x06object\xb0\x02\x01\x10\x01\x18\x00\x1a\x00\"\x00"#
        ]],
    );
}

#[test]
fn a_list_a_status_and_an_event_of_a_watch() {
    let maps = by_kind("v1", "ConfigMap").expect("a kind");
    let metadata = json!({"resourceVersion": "7", "continue": "more", "remainingItemCount": 300});
    let mut list = List::new(Shape::Whole(maps), &metadata, 0).expect("a list");
    list.push(Json::Text(br#"{"metadata":{"name":"a"},"kind":"ConfigMap"}"#)).expect("an item");
    list.push(Json::Value(&json!({"metadata": {"name": "b"}}))).expect("another");
    expect![[r#"k8s\x00\n\x13\n\x02v1\x12\rConfigMapList\x12\x1c\n\x0c\x1a\x04more \xac\x02\x12\x017\x12\x05\n\x03\n\x01a\x12\x05\n\x03\n\x01b\x1a\x00\"\x00"#]].assert_eq(&readable(&list.finish()));

    let status = kinds::body("v1", "Status").expect("a kind");
    let gone = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "too old",
        "reason": "Expired", "code": 410});
    expect![[r#"k8s\x00\n\x0c\n\x02v1\x12\x06Status\x12 0\x9a\x03\x1a\x07too old\n\x00\"\x07Expired\x12\x07Failure\x1a\x00\"\x00"#]].assert_eq(&readable(&encoded(status, Json::Value(&gone))));

    let mut events = b"before".to_vec();
    let object =
        json!({"metadata": {"name": "a", "resourceVersion": "3", "creationTimestamp": null}, "data": {"a": "b"}});
    encode::event(&mut events, "ADDED", Shape::Metadata, Json::Value(&object)).expect("an event");
    expect![[r#"before\x00\x00\x00F\n\x05ADDED\x12=\n;k8s\x00\n\'\n\x0emeta.k8s.io/v1\x12\x15PartialObjectMetadata\x12\x08\n\x06\n\x01a2\x013\x1a\x00\"\x00"#]].assert_eq(&readable(&events));
}

#[test]
fn what_is_not_of_its_type_is_refused_and_leaves_nothing() {
    let pods = by_kind("v1", "Pod").expect("a kind");
    let mut events = b"before".to_vec();
    for wrong in [
        json!({"spec": {"containers": "none"}}),
        json!({"spec": {"terminationGracePeriodSeconds": "soon"}}),
        json!({"metadata": {"creationTimestamp": "yesterday"}}),
        json!({"metadata": {"generation": 1.5}}),
        json!([]),
    ] {
        let refused = encode::event(&mut events, "ADDED", Shape::Whole(pods), Json::Value(&wrong));
        assert!(matches!(refused, Err(EncodeError::Json(_))), "{wrong}");
        assert_eq!(events, b"before", "{wrong}");
    }
    let cut = encode::object(&mut Vec::new(), Shape::Whole(pods), Json::Text(br#"{"spec": {"#));
    assert!(matches!(cut, Err(EncodeError::Json(_))));
}

/// Whoever makes the tables anew hears which fields of kinds protobuf would not carry: those that are newer than the
/// numbers.
#[test]
fn every_kind_has_numbers() {
    let mut without = Vec::new();
    for kind in kinds::typed() {
        let fields = kind.ty().named().expect("a type").fields().filter(|field| field.tag.1 == 0);
        let names = fields.map(|field| field.name).filter(|name| !["apiVersion", "kind"].contains(name));
        without.extend(names.map(|name| format!("{}.{name}", kind.kind)));
    }
    assert_eq!(without, ["CSINode.status"]);
}
