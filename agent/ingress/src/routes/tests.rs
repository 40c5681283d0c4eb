//! What Ingresses mean: hosts, paths, backends, certificates, and what is said of what cannot be served.

use std::fmt::Write;
use std::sync::Arc;

use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Held, Observed, Plan, covers, plan};
use crate::config::{Acme, Challenge, Issuer};
use crate::table::PathKind;

fn object<K: DeserializeOwned>(value: Value) -> Arc<K> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn class(name: &str, controller: &str) -> Arc<IngressClass> {
    let annotations = json!({"ingressclass.kubernetes.io/is-default-class": (name == "skiff").to_string()});
    object(json!({"metadata": {"name": name, "annotations": annotations}, "spec": {"controller": controller}}))
}

fn service(name: &str, ports: Value) -> Arc<Service> {
    object(json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"ports": ports}}))
}

fn slice(service: &str, endpoints: Value) -> Arc<EndpointSlice> {
    let labels = json!({"kubernetes.io/service-name": service});
    object(json!({
        "metadata": {"name": format!("{service}-x"), "namespace": "default", "labels": labels},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8080}],
    }))
}

fn ingress(name: &str, age: u32, annotations: Value, spec: Value) -> Arc<Ingress> {
    let created = format!("2026-01-{age:02}T00:00:00Z");
    let metadata = json!({"name": name, "namespace": "default", "uid": name, "creationTimestamp": created, "annotations": annotations});
    object(json!({"metadata": metadata, "spec": spec}))
}

fn path(kind: &str, path: &str, service: &str, port: Value) -> Value {
    json!({"pathType": kind, "path": path, "backend": {"service": {"name": service, "port": port}}})
}

fn rule(host: &str, paths: Value) -> Value {
    json!({"host": host, "http": {"paths": paths}})
}

fn web() -> Value {
    path("Prefix", "/", "web", json!({"name": "http"}))
}

fn acme() -> Acme {
    let directory = "https://ca.example/directory".to_owned();
    let issuers = vec![Issuer { directory, trust_root: None, external_account: None, profile: None }];
    Acme { issuers, email: None, challenge: Challenge::Http01, dns: None }
}

fn planned(ingresses: Vec<Arc<Ingress>>, secrets: Vec<Arc<Secret>>) -> Plan {
    let acme = acme();
    plan(&Observed {
        ingresses,
        classes: vec![class("skiff", super::CONTROLLER), class("nginx", "k8s.io/ingress-nginx")],
        services: vec![
            service("web", json!([{"name": "http", "port": 80}])),
            service("grpc", json!([{"name": "http", "port": 9000, "appProtocol": "kubernetes.io/h2c"}])),
            object(
                json!({"metadata": {"name": "far", "namespace": "default"}, "spec": {"type": "ExternalName", "externalName": "a.b"}}),
            ),
        ],
        slices: vec![
            slice(
                "web",
                json!([
                    {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
                    {"addresses": ["10.0.0.2"]},
                    {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
                ]),
            ),
            slice(
                "grpc",
                json!([{"addresses": ["10.0.0.9"], "conditions": {"ready": false, "serving": true, "terminating": true}}]),
            ),
        ],
        secrets,
        certificate: &|_, name| match name {
            "good" => Held::Certificate {
                id: "g".into(),
                names: vec!["a.example".into(), "*.b.example".into()],
                expired: None,
            },
            "old" => Held::Certificate {
                id: "o".into(),
                names: vec!["a.example".into()],
                expired: Some("was valid until 2025-01-01".into()),
            },
            "bad" => Held::Broken("\"tls.key\" is empty".into()),
            _ => Held::Missing,
        },
        acme: Some(&acme),
        local_domain: "skiff.local",
        cluster_domain: "cluster.local",
        body_bytes_max: 1 << 30,
        own_names: &["skiff.local".to_owned(), "box".to_owned(), "localhost".to_owned()],
    })
}

fn show(plan: &Plan) -> String {
    let mut text = String::new();
    for host in &plan.table.hosts {
        let flags =
            [(host.tls, " tls"), (host.trusted, " trusted")].iter().filter(|f| f.0).map(|f| f.1).collect::<String>();
        writeln!(text, "{:?}{flags}", host.name).unwrap();
        for path in &host.paths {
            let backend = path.backend.map(|b| &plan.table.backends[b]);
            let backend = backend.map_or("-".to_owned(), |b| {
                format!(
                    "{} {:?} {:?}",
                    b.name,
                    b.protocol,
                    b.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>()
                )
            });
            let kind = if path.kind == PathKind::Exact { "=" } else { "" };
            writeln!(text, "  {kind}{} -> {backend} ({})", path.path, path.ingress).unwrap();
        }
    }
    for (name, id) in &plan.table.certificates {
        writeln!(text, "certificate {name}: {id}").unwrap();
    }
    for name in &plan.box_names {
        writeln!(text, "box CA: {name}").unwrap();
    }
    for problem in &plan.problems {
        writeln!(text, "{} {}: {}", problem.ingress.name.as_deref().unwrap(), problem.reason, problem.message).unwrap();
    }
    text
}

#[track_caller]
fn check(ingresses: Vec<Arc<Ingress>>, expected: Expect) {
    expected.assert_eq(&show(&planned(ingresses, Vec::new())));
}

#[test]
fn the_longest_path_comes_first_and_exact_before_prefix() {
    let paths = json!([
        web(),
        path("Prefix", "/api/", "web", json!({"number": 80})),
        path("Exact", "/api", "grpc", json!({"number": 9000})),
        path("ImplementationSpecific", "/api/v2", "grpc", json!({"name": "http"})),
        path("ImplementationSpecific", "", "web", json!({"number": 80})),
    ]);
    check(
        vec![ingress("one", 1, json!({}), json!({"rules": [rule("A.example", paths)]}))],
        expect![[r#"
            "a.example"
              /api/v2 -> default/grpc:9000 H2c ["10.0.0.9:8080"] (default/one)
              =/api -> default/grpc:9000 H2c ["10.0.0.9:8080"] (default/one)
              /api/ -> default/web:80 Http1 ["10.0.0.1:8080", "10.0.0.2:8080"] (default/one)
              / -> default/web:80 Http1 ["10.0.0.1:8080", "10.0.0.2:8080"] (default/one)
            one HostConflict: a.example/ is named twice: the first counts
        "#]],
    );
}

#[test]
fn what_is_missing_is_said_and_the_rest_works() {
    let paths = json!([
        web(),
        path("Prefix", "/gone", "gone", json!({"number": 80})),
        path("Prefix", "/port", "web", json!({"number": 81})),
        path("Prefix", "/far", "far", json!({"number": 80})),
        {"pathType": "Prefix", "path": "/resource", "backend": {"resource": {"kind": "Bucket", "name": "x"}}},
    ]);
    let annotations = json!({"ingress.skiff.dev/no-such": "1", "ingress.skiff.dev/compress": "maybe", "other/x": "y"});
    check(
        vec![ingress("one", 1, annotations, json!({"rules": [rule("a.example", paths)]}))],
        expect![[r#"
        "a.example"
          /resource -> - (default/one)
          /gone -> - (default/one)
          /port -> - (default/one)
          /far -> - (default/one)
          / -> default/web:80 Http1 ["10.0.0.1:8080", "10.0.0.2:8080"] (default/one)
        one UnknownAnnotation: ingress.skiff.dev/no-such is not known
        one InvalidAnnotation: ingress.skiff.dev/compress: "maybe" is not true or false
        one ServiceNotFound: there is no Service "gone" in namespace default
        one PortNotFound: Service "web" has no port 81: it has 80 (http)
        one ServiceNotSupported: Service "far" is of type ExternalName, which has no endpoints to send requests to
        one BackendNotSupported: a resource as backend is not supported: name a Service
    "#]],
    );
}

#[test]
fn the_older_keeps_a_path_that_two_ask_for() {
    let spec = || json!({"rules": [rule("a.example", json!([web()]))]});
    let second =
        json!({"rules": [rule("a.example", json!([web(), path("Prefix", "/new", "web", json!({"number": 80}))]))]});
    check(
        vec![ingress("young", 9, json!({}), second), ingress("old", 2, json!({}), spec())],
        expect![[r#"
        "a.example"
          /new -> default/web:80 Http1 ["10.0.0.1:8080", "10.0.0.2:8080"] (default/young)
          / -> default/web:80 Http1 ["10.0.0.1:8080", "10.0.0.2:8080"] (default/old)
        young HostConflict: a.example/ is served by Ingress default/old, which is older
    "#]],
    );
}

#[test]
fn classes_decide_whose_an_ingress_is() {
    let spec = |class: Option<&str>| json!({"ingressClassName": class, "rules": [rule("a.example", json!([web()]))]});
    let legacy = json!({"kubernetes.io/ingress.class": "nginx"});
    let ours = |i: Arc<Ingress>| planned(vec![i], Vec::new()).ours.len() == 1;
    assert!(ours(ingress("named", 1, json!({}), spec(Some("skiff")))));
    assert!(ours(ingress("default", 1, json!({}), spec(None))));
    assert!(!ours(ingress("others", 1, json!({}), spec(Some("nginx")))));
    assert!(!ours(ingress("legacy", 1, legacy, spec(None))));
    assert!(!ours(ingress("unknown", 1, json!({}), spec(Some("none")))));
}

#[test]
fn default_backends() {
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let paths = json!([path("Prefix", "/api", "grpc", json!({"number": 9000}))]);
    let spec = json!({"defaultBackend": backend, "rules": [rule("a.example", paths)]});
    check(
        vec![ingress("one", 1, json!({}), spec), ingress("two", 2, json!({}), json!({"defaultBackend": backend}))],
        expect![[r#"
            ""
              / -> default/web:80 Http1 ["10.0.0.1:8080", "10.0.0.2:8080"] (default/one)
            "a.example"
              /api -> default/grpc:9000 H2c ["10.0.0.9:8080"] (default/one)
              / -> default/web:80 Http1 ["10.0.0.1:8080", "10.0.0.2:8080"] (default/one)
            two HostConflict: every host/ is served by Ingress default/one, which is older
        "#]],
    );
}

#[test]
fn certificates_from_secrets_from_a_ca_and_from_the_box() {
    let tls = json!([
        {"hosts": ["a.example", "x.b.example"], "secretName": "good"},
        {"hosts": ["c.example"], "secretName": "missing"},
        {"hosts": ["d.example"], "secretName": "bad"},
        {"hosts": ["a.example", "e.example"], "secretName": "old"},
        {"hosts": ["public.example"]},
        {"hosts": ["app.skiff.local"]},
    ]);
    let names =
        ["a.example", "x.b.example", "c.example", "d.example", "public.example", "app.skiff.local", "plain.example"];
    let rules: Vec<Value> = names.iter().map(|n| rule(n, json!([web()]))).collect();
    check(
        vec![ingress("one", 1, json!({}), json!({"tls": tls, "rules": rules}))],
        expect![[r#"
        "a.example" tls
          / -> default/web:80 Http1 ["10.0.0.1:8080", "10.0.0.2:8080"] (default/one)
        "app.skiff.local" tls
          / -> default/web:80 Http1 ["10.0.0.1:8080", "10.0.0.2:8080"] (default/one)
        "c.example" tls
          / -> default/web:80 Http1 ["10.0.0.1:8080", "10.0.0.2:8080"] (default/one)
        "d.example" tls
          / -> default/web:80 Http1 ["10.0.0.1:8080", "10.0.0.2:8080"] (default/one)
        "plain.example"
          / -> default/web:80 Http1 ["10.0.0.1:8080", "10.0.0.2:8080"] (default/one)
        "public.example" tls
          / -> default/web:80 Http1 ["10.0.0.1:8080", "10.0.0.2:8080"] (default/one)
        "x.b.example" tls
          / -> default/web:80 Http1 ["10.0.0.1:8080", "10.0.0.2:8080"] (default/one)
        certificate a.example: g
        certificate e.example: o
        certificate x.b.example: g
        box CA: app.skiff.local
        box CA: c.example
        box CA: d.example
        box CA: public.example
        one SecretNotFound: there is no Secret "missing" with the certificate for c.example: the box CA's is served
        one SecretInvalid: the certificate in Secret "bad" cannot be used: "tls.key" is empty: the box CA's is served
        one CertificateMismatch: the certificate in Secret "old" is for a.example, not for e.example
        one CertificateExpired: the certificate in Secret "old" was valid until 2025-01-01
    "#]],
    );
}

#[test]
fn who_may_pass_fails_closed() {
    let spec = json!({"rules": [rule("a.example", json!([web()]))]});
    let with = |annotations: Value, secrets: Vec<Arc<Secret>>| {
        let plan = planned(vec![ingress("one", 1, annotations, spec.clone())], secrets);
        let served = plan.table.hosts[0].paths[0].backend.is_some();
        (served, plan.problems.into_iter().map(|p| p.message).collect::<Vec<_>>())
    };
    let secret = |data: Value| object(json!({"metadata": {"name": "users", "namespace": "default"}, "data": data}));
    let asks = json!({"ingress.skiff.dev/basic-auth-secret": "users"});
    let (served, problems) = with(asks.clone(), vec![]);
    assert!(!served);
    expect![[r#"["nobody can sign in: Secret \"users\" is not there"]"#]].assert_eq(&format!("{problems:?}"));
    // "a:$apr1$x" and "a:$2y$05$x" in base64
    let (served, problems) = with(asks.clone(), vec![secret(json!({"auth": "YTokYXByMSR4"}))]);
    assert!(!served);
    expect![[r#"["nobody can sign in: Secret \"users\" has a hash in line 1 of \"auth\" that is not bcrypt: make it with htpasswd -B"]"#]].assert_eq(&format!("{problems:?}"));
    assert_eq!(with(asks.clone(), vec![secret(json!({"auth": "YTokMnkkMDUkeA=="}))]), (true, vec![]));
    assert_eq!(with(asks, vec![secret(json!({"username": "YQ==", "password": "Yg=="}))]), (true, vec![]));
    let (served, problems) = with(json!({"ingress.skiff.dev/auth-url": "http://sso.default.svc/"}), vec![]);
    assert!(served, "but every request is asked about, and refused");
    expect![[r#"["nobody can pass: there is no Service \"sso\" in namespace default"]"#]]
        .assert_eq(&format!("{problems:?}"));
    let (served, _) = with(json!({"ingress.skiff.dev/auth-url": "https://sso.example/"}), vec![]);
    assert!(!served);
}

#[test]
fn wildcards_cover_one_label() {
    assert!(covers("*.a.example", "x.a.example") && covers("*.a.example", "*.a.example") && covers("a.b", "A.B"));
    assert!(!covers("*.a.example", "x.y.a.example") && !covers("*.a.example", "a.example") && !covers("a.b", "c.b"));
}

#[test]
fn the_names_of_the_box_are_not_for_ingresses() {
    let spec = json!({"tls": [{"hosts": ["skiff.local", "app.skiff.local"], "secretName": "own"}],
        "defaultBackend": {"service": {"name": "web", "port": {"name": "http"}}},
        "rules": [rule("Skiff.local", json!([web()])), rule("app.skiff.local", json!([web()])), rule("box", json!([web()]))]});
    let plan = planned(vec![ingress("greedy", 1, json!({}), spec)], Vec::new());
    let hosts: Vec<&str> = plan.table.hosts.iter().map(|host| host.name.as_str()).collect();
    assert_eq!(hosts, ["", "app.skiff.local"]);
    assert!(!plan.table.certificates.contains_key("skiff.local") && !plan.box_names.contains("skiff.local"));
    let said: Vec<String> =
        plan.problems.iter().filter(|p| p.reason == "HostReserved").map(|p| p.message.clone()).collect();
    expect![[r#"
        skiff.local is a name of the box itself and leads to its own pages: take another, such as app.skiff.local
        box is a name of the box itself and leads to its own pages: take another, such as app.skiff.local"#]]
    .assert_eq(&said.join("\n"));
}
