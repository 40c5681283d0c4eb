//! Bodies as Go clients send them, and bodies that nobody should send.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::samples::Samples;
use super::{MAGIC, ProtobufError, decode, encode};
use crate::Kind;
use crate::decode::{FieldValidation, decode_value};
use crate::kinds::{self, by_kind};

mod encoded;

/// A field of bytes.
fn b(number: u8, bytes: &[u8]) -> Vec<u8> {
    let varint = |mut value: usize, out: &mut Vec<u8>| {
        while value >= 0x80 {
            out.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    };
    let mut out = Vec::new();
    varint(usize::from(number) << 3 | 2, &mut out);
    varint(bytes.len(), &mut out);
    out.extend_from_slice(bytes);
    out
}

/// A field of a small number.
fn n(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let type_meta = [b(1, api_version.as_bytes()), b(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), b(1, &type_meta), b(2, raw)].concat()
}

fn check(api_version: &str, kind: &str, raw: &[u8], expected: Expect) {
    let found = by_kind(api_version, kind).expect("a kind");
    expected.assert_eq(&decode(found, &body(api_version, kind, raw)).expect("decodes").to_string());
}

#[test]
fn metadata_maps_lists_and_quantities() {
    let metadata = [b(1, b"web"), b(3, b"shop"), b(11, &[b(1, b"app"), b(2, b"web")].concat())].concat();
    let limits = b(1, &[b(1, b"cpu"), b(2, &b(1, b"500m"))].concat());
    let container = [b(1, b"a"), b(2, b"nginx"), b(8, &limits), b(6, &[b(1, b"http"), n(3, 80)].concat())].concat();
    let raw = [b(1, &metadata), b(2, &b(2, &container))].concat();
    check(
        "v1",
        "Pod",
        &raw,
        expect![[
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"app":"web"},"name":"web","namespace":"shop"},"spec":{"containers":[{"image":"nginx","name":"a","ports":[{"containerPort":80,"name":"http"}],"resources":{"limits":{"cpu":"500m"}}}]}}"#
        ]],
    );
}

#[test]
fn what_json_has_inline() {
    let source = b(19, &[b(1, &b(1, b"settings"))].concat());
    let volume = [b(1, b"conf"), b(2, &source)].concat();
    let probe = [b(1, &b(2, &[b(1, b"/"), b(2, &[n(1, 1), b(3, b"http")].concat())].concat())), n(4, 5)].concat();
    let container = [b(1, b"a"), b(10, &probe)].concat();
    let raw = b(2, &[b(1, &volume), b(2, &container)].concat());
    check(
        "v1",
        "Pod",
        &raw,
        expect![[
            r#"{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"livenessProbe":{"httpGet":{"path":"/","port":"http"},"periodSeconds":5},"name":"a"}],"volumes":[{"configMap":{"name":"settings"},"name":"conf"}]}}"#
        ]],
    );
}

#[test]
fn secrets_times_and_empty_fields() {
    let metadata = [b(1, b"s"), b(3, b""), b(8, &[0x08, 0x80, 0xe1, 0xe9, 0xca, 0x06, 0x10, 0])].concat();
    let raw = [b(1, &metadata), b(2, &[b(1, b"key"), b(2, b"\x00\xffx")].concat()), b(3, b"Opaque")].concat();
    check(
        "v1",
        "Secret",
        &raw,
        expect![[
            r#"{"apiVersion":"v1","data":{"key":"AP94"},"kind":"Secret","metadata":{"creationTimestamp":"2026-01-04T13:52:00Z","name":"s"},"type":"Opaque"}"#
        ]],
    );
}

#[test]
fn what_is_not_protobuf_is_refused() {
    let pod = by_kind("v1", "Pod").expect("Pod");
    assert_eq!(decode(pod, b"{}"), Err(ProtobufError::Magic));
    assert_eq!(decode(pod, b"k8s\0\x0a\x05abc"), Err(ProtobufError::Truncated));
    assert_eq!(decode(pod, &body("v1", "Pod", &b(1, &n(1, 5)))), Err(ProtobufError::WireType));
    assert_eq!(decode(pod, &body("v1", "Pod", &b(1, &b(1, b"\xff")))), Err(ProtobufError::Text));
}

proptest! {
    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for kind in ["Pod", "Service", "Secret", "Node"] {
            let kind = by_kind("v1", kind).expect("a kind");
            let _ = decode(kind, &[MAGIC, &bytes].concat());
            let _ = decode(kind, &body("v1", &kind.kind, &bytes));
        }
    }
}
