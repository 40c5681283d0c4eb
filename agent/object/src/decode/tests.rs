//! Messages as upstream's API server gives them; nothing panics, decoding is idempotent.

use super::*;
use crate::kinds::{by_kind, typed};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

fn show(result: Result<Decoded, DecodeError>) -> String {
    match result {
        Ok(decoded) => format!("{}\n{}", decoded.value, decoded.warnings.join("\n")).trim_end().to_owned(),
        Err(error) => format!("error: {error}"),
    }
}

fn check(api_version: &str, kind: &str, body: &str, validation: FieldValidation, expected: Expect) {
    let kind = by_kind(api_version, kind).expect("is served");
    expected.assert_eq(&show(decode(kind, body.as_bytes(), validation)));
}

#[test]
fn wrong_types() {
    let deployment =
        |body: &str, expected: Expect| check("apps/v1", "Deployment", body, FieldValidation::Ignore, expected);
    deployment(
        r#"{"spec":{"replicas":"3"}}"#,
        expect![[
            r#"error: Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"#
        ]],
    );
    deployment(
        r#"{"spec":{"replicas":1.5}}"#,
        expect![[
            r#"error: Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"#
        ]],
    );
    deployment(
        r#"{"spec":{"template":{"spec":{"containers":[{"env":[{"name":"a","value":1}]}]}}}}"#,
        expect![[
            r#"error: Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string"#
        ]],
    );
    deployment(
        r#"{"spec":{"template":{"spec":{"containers":{}}}}}"#,
        expect![[
            r#"error: Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container"#
        ]],
    );
    deployment(
        r#"{"metadata":{"labels":{"a":true}}}"#,
        expect![[
            r#"error: Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string"#
        ]],
    );
    deployment(
        r#"{"spec":[]}"#,
        expect![[
            r#"error: Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal array into Go struct field Deployment.spec of type v1.DeploymentSpec"#
        ]],
    );
    deployment(
        r#"{"metadata":{"creationTimestamp":"yesterday"}}"#,
        expect![[
            r#"error: Deployment in version "v1" cannot be handled as a Deployment: parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006""#
        ]],
    );
    check(
        "v1",
        "Secret",
        r#"{"data":{"a":"*"}}"#,
        FieldValidation::Ignore,
        expect![[
            r#"error: Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 0"#
        ]],
    );
    check(
        "v1",
        "ResourceQuota",
        r#"{"spec":{"hard":{"cpu":"1x"}}}"#,
        FieldValidation::Ignore,
        expect![[
            r#"error: ResourceQuota in version "v1" cannot be handled as a ResourceQuota: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"#
        ]],
    );
}

#[test]
fn unknown_and_duplicate_fields() {
    let body = r#"{"spec":{"foo":1,"replicas":1,"replicas":2,"template":{"spec":{"containers":[{"imagee":"x"}]}}}}"#;
    check(
        "apps/v1",
        "Deployment",
        body,
        FieldValidation::Strict,
        expect![[
            r#"error: Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.foo", duplicate field "spec.replicas", unknown field "spec.template.spec.containers[0].imagee""#
        ]],
    );
    check(
        "apps/v1",
        "Deployment",
        body,
        FieldValidation::Warn,
        expect![[r#"
        {"apiVersion":"apps/v1","kind":"Deployment","spec":{"replicas":2,"template":{"spec":{"containers":[{}]}}}}
        unknown field "spec.foo"
        duplicate field "spec.replicas"
        unknown field "spec.template.spec.containers[0].imagee""#]],
    );
    check(
        "apps/v1",
        "Deployment",
        body,
        FieldValidation::Ignore,
        expect![[
            r#"{"apiVersion":"apps/v1","kind":"Deployment","spec":{"replicas":2,"template":{"spec":{"containers":[{}]}}}}"#
        ]],
    );
}

#[test]
fn canonical_values() {
    check(
        "v1",
        "Pod",
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"creationTimestamp":null,"deletionTimestamp":"2024-01-02T03:04:05+02:00","labels":{"a":null}},
            "spec":{"volumes":[],"nodeSelector":{},"securityContext":{},"containers":[{"name":"a","resources":{"limits":{"cpu":0.5,"memory":"1024Mi"}}}]}}"#,
        FieldValidation::Strict,
        expect![[
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"deletionTimestamp":"2024-01-02T01:04:05Z","labels":{"a":""}},"spec":{"containers":[{"name":"a","resources":{"limits":{"cpu":"500m","memory":"1Gi"}}}],"securityContext":{}}}"#
        ]],
    );
    check(
        "coordination.k8s.io/v1",
        "Lease",
        r#"{"spec":{"renewTime":"2024-01-02T03:04:05.5Z"}}"#,
        FieldValidation::Strict,
        expect![[
            r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","spec":{"renewTime":"2024-01-02T03:04:05.500000Z"}}"#
        ]],
    );
}

#[test]
fn not_an_object_of_the_kind() {
    let pod = |body: &str, expected: Expect| check("v1", "Pod", body, FieldValidation::Strict, expected);
    pod(
        "",
        expect![
            "error: the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)"
        ],
    );
    pod(
        "{",
        expect![
            "error: the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: EOF while parsing an object at line 1 column 1"
        ],
    );
    pod(
        "{} x",
        expect![
            "error: the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: trailing characters at line 1 column 4"
        ],
    );
    pod(
        "[]",
        expect![
            "error: the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type v1.Pod"
        ],
    );
    pod(
        "null",
        expect![
            "error: the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: json: cannot unmarshal null into Go value"
        ],
    );
    pod(
        r#"{"apiVersion":"apps/v1","kind":"Pod"}"#,
        expect!["error: the API version in the data (apps/v1) does not match the expected API version (v1)"],
    );
    pod(
        r#"{"apiVersion":"v1","kind":"ConfigMap"}"#,
        expect![[
            r#"error: ConfigMap in version "v1" cannot be handled as a Pod: the kind in the data (ConfigMap) does not match the expected kind (Pod)"#
        ]],
    );
}

#[test]
fn deep_nesting_is_an_error() {
    let kind = by_kind("apps/v1", "ControllerRevision").expect("is served");
    let body = format!(r#"{{"data":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
    assert!(decode(kind, body.as_bytes(), FieldValidation::Ignore).is_err());
}

#[test]
fn whole_floats_after_a_patch() {
    let kind = by_kind("apps/v1", "Deployment").expect("is served");
    let decoded = decode_value(kind, json!({"spec": {"replicas": 2.0}}), FieldValidation::Strict).expect("is whole");
    assert_eq!(decoded.value["spec"]["replicas"], json!(2));
    assert!(decode_value(kind, json!({"spec": {"replicas": 2.5}}), FieldValidation::Strict).is_err());
}

#[test]
fn numbers_stay_what_they_are() {
    let kind = by_kind("apiextensions.k8s.io/v1", "CustomResourceDefinition").expect("is served");
    for number in ["-24.136974067238782", "-120.65487365123505", "1.1e+92", "0.30000000000000004", "5e-324"] {
        let schema = format!(r#"{{"type":"number","minimum":{number}}}"#);
        let body = format!(r#"{{"spec":{{"versions":[{{"schema":{{"openAPIV3Schema":{schema}}}}}]}}}}"#);
        let read = decode(kind, body.as_bytes(), FieldValidation::Strict).expect("a definition").value.to_string();
        assert!(read.contains(&format!(r#""minimum":{number}"#)), "{number}: {read}");
        let again = decode(kind, read.as_bytes(), FieldValidation::Strict).expect("the same").value.to_string();
        assert_eq!(again, read);
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let names = prop_oneof![
        Just("metadata"),
        Just("spec"),
        Just("status"),
        Just("template"),
        Just("containers"),
        Just("name"),
        Just("labels"),
        Just("resources"),
        Just("limits"),
        Just("cpu"),
        Just("ports"),
        Just("data"),
        Just("selector"),
        Just("x"),
        Just("creationTimestamp"),
        Just("matchLabels"),
        Just("replicas"),
        Just("volumes"),
        Just("apiVersion"),
        Just("kind"),
    ]
    .prop_map(str::to_owned);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9=:+TZ-]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn never_panics_and_is_idempotent(value in any_json(), index in 0..typed().count()) {
        let kind = typed().nth(index).expect("in range");
        let body = value.to_string();
        let from_bytes = decode(kind, body.as_bytes(), FieldValidation::Ignore);
        let _ = decode_value(kind, value, FieldValidation::Strict);
        if let Ok(decoded) = from_bytes {
            let again = decode(kind, decoded.value.to_string().as_bytes(), FieldValidation::Strict).expect("decoded objects decode");
            prop_assert_eq!(again.value, decoded.value);
        }
    }

    #[test]
    fn never_panics_on_bytes(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(by_kind("v1", "Pod").expect("a kind"), &body, FieldValidation::Strict);
    }

    #[test]
    fn never_panics_on_mutated_objects(at in 0_usize..200, byte in any::<u8>()) {
        let mut body = br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","labels":{"a":"b"}},"spec":{"containers":[{"name":"a","ports":[{"containerPort":80}],"resources":{"limits":{"cpu":"1"}}}],"hostNetwork":true}}"#.to_vec();
        if let Some(place) = body.get_mut(at) { *place = byte; }
        let _ = decode(by_kind("v1", "Pod").expect("a kind"), &body, FieldValidation::Strict);
    }
}
