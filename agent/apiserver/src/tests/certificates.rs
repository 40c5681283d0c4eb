//! Certificate signing requests: who decides.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use expect_test::expect;
use http::{Method, StatusCode};
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};

use super::{As, Server, causes, check_error};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const CLIENTS: &str = "kubernetes.io/kube-apiserver-client";

fn request(name: &str, organization: &str, signer: &str) -> Value {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, organization);
    let key = KeyPair::generate().expect("a key");
    let pem = params.serialize_request(&key).expect("a request").pem().expect("PEM");
    json!({"metadata": {"name": name}, "spec": {"signerName": signer, "usages": ["client auth"],
        "request": BASE64_STANDARD.encode(pem), "username": "forged", "groups": ["system:masters"]}})
}

fn condition(ty: &str) -> Value {
    json!({"status": {"conditions": [{"type": ty, "status": "True", "reason": "r"}]}})
}

/// Somebody with these rights: verbs, resources of `certificates.k8s.io`, names.
async fn somebody<'a>(server: &'a Server, rules: Value) -> As<'a> {
    let roles = "/apis/rbac.authorization.k8s.io/v1";
    server.post(&format!("{roles}/clusterroles"), json!({"metadata": {"name": "r"}, "rules": rules})).await;
    let binding = json!({"metadata": {"name": "r"}, "subjects": [{"kind": "User", "name": "sam", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "ClusterRole", "name": "r", "apiGroup": "rbac.authorization.k8s.io"}});
    server.post(&format!("{roles}/clusterrolebindings"), binding).await;
    let sam = server.as_user("sam");
    for _ in 0..200 {
        if sam.call(Method::GET, REQUESTS, "", "").await.0 == StatusCode::OK {
            return sam;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("the role is not followed");
}

async fn merge(who: &As<'_>, path: &str, patch: Value) -> (StatusCode, Value) {
    who.call(Method::PATCH, path, "application/merge-patch+json", patch.to_string()).await
}

#[tokio::test]
async fn only_who_may_decides() {
    let server = Server::start().await;
    let rules = json!([{"verbs": ["*"], "apiGroups": ["certificates.k8s.io"],
        "resources": ["certificatesigningrequests", "certificatesigningrequests/approval", "certificatesigningrequests/status"]},
        {"verbs": ["approve"], "apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": ["example.org/*"]},
        {"verbs": ["sign"], "apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": ["example.org/one"]}]);
    let sam = somebody(&server, rules).await;
    let (code, made) = sam.post(REQUESTS, request("a", "staff", CLIENTS)).await;
    assert_eq!((code, &made["spec"]["username"]), (StatusCode::CREATED, &json!("sam")), "{made}");
    assert_eq!(made["spec"]["groups"], json!(["system:authenticated"]));
    check_error(
        &sam.post(REQUESTS, request("m", "system:masters", CLIENTS)).await,
        expect![[
            r#"403 "Forbidden": "certificatesigningrequests.certificates.k8s.io \"m\" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed""#
        ]],
    );
    check_error(
        &merge(&sam, &format!("{REQUESTS}/a/approval"), condition("Approved")).await,
        expect![[
            r#"403 "Forbidden": "certificatesigningrequests.certificates.k8s.io \"a\" is forbidden: user not permitted to approve requests with signerName \"kubernetes.io/kube-apiserver-client\"""#
        ]],
    );
    // A decision is no part of the status, and the spec is as it was made.
    let (_, changed) = merge(&sam, &format!("{REQUESTS}/a/status"), condition("Approved")).await;
    assert_eq!(changed["status"]["conditions"], Value::Null, "{changed}");
    let (_, changed) = merge(&sam, &format!("{REQUESTS}/a"), json!({"spec": {"username": "root"}})).await;
    assert_eq!(changed["spec"]["username"], "sam");
    let certificate = json!({"status": {"certificate": BASE64_STANDARD.encode("-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n")}});
    check_error(
        &merge(&sam, &format!("{REQUESTS}/a/status"), certificate.clone()).await,
        expect![[
            r#"403 "Forbidden": "certificatesigningrequests.certificates.k8s.io \"a\" is forbidden: user not permitted to sign requests with signerName \"kubernetes.io/kube-apiserver-client\"""#
        ]],
    );

    sam.post(REQUESTS, request("b", "staff", "example.org/one")).await;
    let (code, approved) = merge(&sam, &format!("{REQUESTS}/b/approval"), condition("Approved")).await;
    assert_eq!(
        (code, &approved["status"]["conditions"][0]["type"]),
        (StatusCode::OK, &json!("Approved")),
        "{approved}"
    );
    assert!(approved["status"]["conditions"][0]["lastUpdateTime"].is_string());
    check_error(
        &merge(&sam, &format!("{REQUESTS}/b/approval"), condition("Denied")).await,
        expect![[
            r#"422 "Invalid": "CertificateSigningRequest.certificates.k8s.io \"b\" is invalid: status.conditions: Forbidden: updates may not remove a condition of type \"Approved\"""#
        ]],
    );
    let (code, signed) = merge(&sam, &format!("{REQUESTS}/b/status"), certificate).await;
    assert_eq!((code, signed["status"]["conditions"].as_array().map(Vec::len)), (StatusCode::OK, Some(1)), "{signed}");
    let other = json!({"status": {"certificate": BASE64_STANDARD.encode("-----BEGIN CERTIFICATE-----\nYg==\n-----END CERTIFICATE-----\n")}});
    check_error(
        &merge(&sam, &format!("{REQUESTS}/b/status"), other).await,
        expect![[
            r#"422 "Invalid": "CertificateSigningRequest.certificates.k8s.io \"b\" is invalid: status.certificate: Forbidden: updates may not set certificate content if existing certificate content has been set""#
        ]],
    );
    let table = server.table(REQUESTS).await;
    let rows: Vec<String> = table["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| format!("{} {}", row["cells"][0], row["cells"][5]))
        .collect();
    assert_eq!(rows, [r#""a" "Pending""#, r#""b" "Approved,Issued""#]);
}

#[tokio::test]
async fn wrong_requests_are_refused() {
    let server = Server::start().await;
    let changed = |field: &str, value: Value| {
        let mut request = request("a", "staff", CLIENTS);
        request["spec"][field] = value;
        request
    };
    let text = |label: &str| BASE64_STANDARD.encode(format!("-----BEGIN {label}-----\nYQ==\n-----END {label}-----\n"));
    let mut all = Vec::new();
    for request in [
        changed("request", json!("")),
        changed("request", json!(text("CERTIFICATE"))),
        changed("request", json!(text("CERTIFICATE REQUEST"))),
        changed("usages", json!([])),
        changed("usages", json!(["client auth", "client auth", "world peace"])),
        changed("signerName", json!("")),
        changed("signerName", json!("mine")),
        changed("signerName", json!("kubernetes.io/legacy-unknown")),
        changed("expirationSeconds", json!(599)),
    ] {
        let (code, status) = server.post(REQUESTS, request).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{status}");
        all.push(causes(&status));
    }
    expect![[r#"
        spec.request: Invalid value: PEM block type must be CERTIFICATE REQUEST
        spec.request: Invalid value: PEM block type must be CERTIFICATE REQUEST
        spec.request: Invalid value: Parsing requires 1 bytes/chars
        spec.usages: Required value
        spec.usages[1]: Duplicate value: "client auth"
        spec.usages[2]: Unsupported value: "world peace": supported values: "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment", "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime", "server auth", "signing", "timestamping"
        spec.signerName: Required value
        spec.signerName: Invalid value: "mine": must be a fully qualified domain and path of the form 'example.com/signer-name'
        spec.signerName: Invalid value: "kubernetes.io/legacy-unknown": the legacy signerName is not allowed via this API version
        spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)"#]].assert_eq(&all.join("\n"));
}

#[tokio::test]
async fn a_request_names_one_person() {
    let server = Server::start().await;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "system:apiserver");
    params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), "sam");
    let key = KeyPair::generate().expect("a key");
    let pem = params.serialize_request(&key).expect("a request").pem().expect("PEM");
    let mut asked = request("two", "staff", CLIENTS);
    asked["spec"]["request"] = json!(BASE64_STANDARD.encode(pem));
    check_error(
        &server.post(REQUESTS, asked).await,
        expect![[
            r#"422 "Invalid": "CertificateSigningRequest.certificates.k8s.io \"two\" is invalid: spec.request: Invalid value: it has more than one common name""#
        ]],
    );
    let certificate = params.self_signed(&key).expect("a certificate");
    assert!(crate::users::User::from_certificate(certificate.der()).is_none());
}
