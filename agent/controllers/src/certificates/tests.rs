//! Certificate signing requests over a real API, and what becomes of each.

use std::time::Duration;

use kube::ResourceExt;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};
use skiff_apiserver::CertificateRequest;
use skiff_reconcile::{Caches, Wake};
use x509_parser::pem::parse_x509_pem;

use super::*;
use crate::testing::World;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

struct OfWorld(Arc<World>);

impl std::fmt::Debug for OfWorld {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OfWorld")
    }
}

impl Signer for OfWorld {
    fn read(&self, request: &str) -> Result<Requested, String> {
        let read = CertificateRequest::read(request)?;
        Ok(Requested {
            common_name: read.common_name,
            organizations: read.organizations,
            dns_names: read.dns_names,
            addresses: read.addresses,
            others: read.others,
        })
    }

    fn sign(&self, request: &str, usages: &[String], lifetime: Duration) -> Result<String, String> {
        self.0.pki.sign_request(&CertificateRequest::read(request)?, usages, lifetime)
    }
}

fn pem(common_name: &str, organization: &str, names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.distinguished_name.push(DnType::OrganizationName, organization);
    let key = KeyPair::generate().expect("a key");
    params.serialize_request(&key).expect("a request").pem().expect("PEM")
}

fn request(name: &str, signer: &str, usages: &[&str], pem: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"signerName": signer, "usages": usages,
        "request": BASE64_STANDARD.encode(pem), "expirationSeconds": 3600}})
}

fn condition(request: &Value) -> String {
    let all = request["status"]["conditions"].as_array().cloned().unwrap_or_default();
    all.iter().map(|c| c["type"].as_str().unwrap_or_default()).collect::<Vec<_>>().join(",")
}

#[tokio::test]
async fn what_is_approved_is_signed() {
    let world = Arc::new(World::start().await);
    let caches = Caches::new(world.client.clone(), world.shutdown.clone());
    let controller = Controller::new(world.client.clone(), Arc::new(OfWorld(Arc::clone(&world))), caches.of());
    let wake = Wake::on(controller.wakes());
    world.drive(controller, wake);
    let ann = request("ann", "kubernetes.io/kube-apiserver-client", &["client auth"], &pem("ann", "staff", &[]));
    let made = world.post(REQUESTS, ann).await;
    assert_eq!(made["spec"]["username"], "system:admin", "who asks is who sent it: {made}");
    let approval =
        json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "r", "message": "m"}]}});
    world.merge(&format!("{REQUESTS}/ann/approval"), approval).await;
    let issued = world.until(&format!("{REQUESTS}/ann"), |r| r["status"]["certificate"].is_string()).await;
    assert_eq!(condition(&issued), "Approved");
    let pem_text = BASE64_STANDARD.decode(issued["status"]["certificate"].as_str().expect("text")).expect("base64");
    let (_, block) = parse_x509_pem(&pem_text).expect("PEM");
    let certificate = block.parse_x509().expect("a certificate");
    assert_eq!(certificate.subject().to_string(), "CN=ann, O=staff");
    let seconds = certificate.validity().not_after.timestamp() - Timestamp::now().as_second();
    assert!((3500..=3600).contains(&seconds), "{seconds}");
    assert!(certificate.extended_key_usage().expect("one").expect("an extension").value.client_auth);
    let (_, ca) = parse_x509_pem(world.pki.ca_pem().as_bytes()).expect("PEM");
    let ca = ca.parse_x509().expect("a CA");
    certificate.verify_signature(Some(ca.public_key())).expect("the CA's signature");

    // One that its signer does not take, and one of another's signer.
    let wrong = request("bad", "kubernetes.io/kube-apiserver-client", &["server auth"], &pem("bad", "staff", &[]));
    world.post(REQUESTS, wrong).await;
    world
        .merge(
            &format!("{REQUESTS}/bad/approval"),
            json!({"status": {"conditions": [{"type": "Approved", "status": "True"}]}}),
        )
        .await;
    let failed = world.until(&format!("{REQUESTS}/bad"), |r| condition(r).contains("Failed")).await;
    assert_eq!((condition(&failed).as_str(), &failed["status"]["certificate"]), ("Approved,Failed", &Value::Null));

    // A node's is approved without anybody, as the administrator may have any node's.
    let node = pem("system:node:n", "system:nodes", &[]);
    let usages = ["digital signature", "client auth"];
    world.post(REQUESTS, request("node", "kubernetes.io/kube-apiserver-client-kubelet", &usages, &node)).await;
    world.until(&format!("{REQUESTS}/node"), |r| r["status"]["certificate"].is_string()).await;
}

fn at(hours: i64, status: Value, signer: &str, usages: &[&str]) -> (CertificateSigningRequest, Timestamp) {
    let made = Timestamp::from_second(1_800_000_000).expect("a time");
    let mut object = request("a", signer, usages, "");
    object["metadata"]["creationTimestamp"] = json!(made.to_string());
    object["spec"]["username"] = json!("system:node:n");
    object["status"] = status;
    let request: CertificateSigningRequest = serde_json::from_value(object).expect("a request");
    assert_eq!(request.name_any(), "a");
    (request, made + jiff::SignedDuration::from_hours(hours))
}

#[test]
fn what_is_over_goes() {
    let read = Ok(Requested { common_name: "x".to_owned(), ..Requested::default() });
    let decided =
        |ty: &str| json!({"conditions": [{"type": ty, "status": "True", "lastUpdateTime": "2027-01-15T08:00:00Z"}]});
    let mut issued = decided("Approved");
    issued["certificate"] = json!("YQ==");
    let mut all = Vec::new();
    for (hours, status) in [
        (23, json!({})),
        (25, json!({})),
        (0, decided("Denied")),
        (2, decided("Denied")),
        (2, decided("Failed")),
        (2, issued),
        (2, decided("Approved")),
    ] {
        let (request, now) = at(hours, status, "example.org/mine", &["client auth"]);
        all.push(format!("{hours} h: {:?}", plan(&request, &read, now)));
    }
    expect_test::expect![[r#"
        23 h: Wait(After(3600s))
        25 h: Delete
        0 h: Wait(After(3600s))
        2 h: Delete
        2 h: Delete
        2 h: Delete
        2 h: Wait(After(79200s))"#]]
    .assert_eq(&all.join("\n"));
}

#[test]
fn signers_take_what_is_theirs() {
    let approved =
        || json!({"conditions": [{"type": "Approved", "status": "True", "lastUpdateTime": "2027-01-15T08:00:00Z"}]});
    let node = Requested {
        common_name: "system:node:n".to_owned(),
        organizations: vec!["system:nodes".to_owned()],
        ..Requested::default()
    };
    let named = Requested { dns_names: vec!["n".to_owned()], ..node.clone() };
    let mut all = Vec::new();
    for (signer, usages, read) in [
        ("kube-apiserver-client", &["client auth"], &node),
        ("kube-apiserver-client", &["cert sign"], &node),
        ("kube-apiserver-client-kubelet", &["client auth"], &node),
        ("kube-apiserver-client-kubelet", &["client auth"], &named),
        ("kube-apiserver-client-kubelet", &["server auth"], &node),
        ("kubelet-serving", &["server auth"], &named),
        ("kubelet-serving", &["server auth"], &node),
        ("kubelet-serving", &["client auth"], &named),
        ("kubelet-serving", &["server auth"], &Requested { common_name: "system:node:m".to_owned(), ..named.clone() }),
        ("kubelet-serving", &["server auth"], &Requested { organizations: vec!["staff".to_owned()], ..named.clone() }),
    ] {
        let (request, now) = at(0, approved(), &format!("kubernetes.io/{signer}"), usages);
        all.push(format!("{signer}: {:?}", plan(&request, &Ok(read.clone()), now)));
    }
    expect_test::expect![[r#"
        kube-apiserver-client: Sign { lifetime: 3600s }
        kube-apiserver-client: Fail("usage \"cert sign\" is not one of this signer's")
        kube-apiserver-client-kubelet: Sign { lifetime: 3600s }
        kube-apiserver-client-kubelet: Fail("subject alternative names are not allowed")
        kube-apiserver-client-kubelet: Fail("usage \"server auth\" is not one of this signer's")
        kubelet-serving: Sign { lifetime: 3600s }
        kubelet-serving: Fail("DNS or IP subjectAltName is required")
        kubelet-serving: Fail("usage \"client auth\" is not one of this signer's")
        kubelet-serving: Fail("the subject's common name is not who asked")
        kubelet-serving: Fail("subject organization is not system:nodes")"#]]
    .assert_eq(&all.join("\n"));
}
