//! One document made of those that are served.

use std::io::Read;

use super::*;

fn made(form: Form) -> Vec<u8> {
    let mut builder = Builder::new(form);
    for document in crate::openapi::documents() {
        let mut json = Vec::new();
        flate2::read::GzDecoder::new(document.gzip).read_to_end(&mut json).expect("a document");
        builder.push(serde_json::from_slice(&json).expect("JSON"));
    }
    builder.finish("v1.34.0")
}

#[test]
fn every_reference_leads_somewhere() {
    let document: Value = serde_json::from_slice(&made(Form::Json)).expect("JSON");
    let definitions = document["definitions"].as_object().expect("definitions");
    let (mut open, mut references) = (vec![&document], 0);
    while let Some(next) = open.pop() {
        match next {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    let name = reference.strip_prefix("#/definitions/").expect("a reference of v2");
                    assert!(definitions.contains_key(name), "{name}");
                    references += 1;
                }
                // Properties may have these names, and are no lists.
                let newer = ["oneOf", "anyOf"].iter().find(|name| map.get(**name).is_some_and(Value::is_array));
                assert!(newer.is_none() && !map.contains_key("requestBody"), "{newer:?} in {next}");
                open.extend(map.values());
            }
            Value::Array(items) => open.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    assert!(references > 1000, "{references}");
    let pod = &definitions["io.k8s.api.core.v1.PodSpec"]["properties"];
    assert_eq!(pod["containers"]["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(pod["securityContext"]["$ref"], "#/definitions/io.k8s.api.core.v1.PodSecurityContext");
    let port = &definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"];
    assert_eq!((&port["type"], &port["format"]), (&json!("string"), &json!("int-or-string")));
    let create = &document["paths"]["/api/v1/namespaces/{namespace}/pods"]["post"];
    let body =
        create["parameters"].as_array().expect("parameters").iter().find(|one| one["in"] == "body").expect("a body");
    assert_eq!(body["schema"]["$ref"], "#/definitions/io.k8s.api.core.v1.Pod");
    assert_eq!(create["consumes"], json!(["application/json"]));
}

/// The fields of a message: their numbers, and what those of a length hold.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let (byte, rest) = bytes.split_first().expect("a byte");
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let length = match tag & 7 {
            0 => {
                varint(&mut bytes);
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)).expect("a length"),
            other => panic!("wire type {other}"),
        };
        let (value, rest) = bytes.split_at(length);
        fields.push((tag >> 3, value));
        bytes = rest;
    }
    fields
}

#[test]
fn protobuf_has_the_same() {
    let json: Value = serde_json::from_slice(&made(Form::Json)).expect("JSON");
    let document = made(Form::Protobuf);
    let field = |number: u64| {
        let all = fields(&document);
        all.into_iter().find(|(own, _)| *own == number).expect("a field").1.to_vec()
    };
    assert_eq!(field(1), b"2.0");
    assert_eq!(fields(&field(9)).len(), json["definitions"].as_object().expect("definitions").len());
    assert_eq!(fields(&field(8)).len(), json["paths"].as_object().expect("paths").len());
    let definitions = field(9);
    let named = fields(&definitions).into_iter().map(|(_, named)| fields(named));
    let pod = named.into_iter().find(|named| named[0].1 == b"io.k8s.api.core.v1.Pod").expect("a pod");
    let schema = fields(pod[1].1);
    let kinds: Vec<&[u8]> = schema.iter().filter(|(number, _)| *number == 31).map(|(_, value)| *value).collect();
    let extension = fields(kinds[0]);
    assert_eq!(extension[0].1, b"x-kubernetes-group-version-kind");
    assert_eq!(fields(extension[1].1)[0], (2, br#"[{"group":"","kind":"Pod","version":"v1"}]"#.as_slice()));
}
