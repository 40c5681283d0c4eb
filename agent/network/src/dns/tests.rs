//! Names and their answers.

use std::sync::Arc;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use serde_json::{Value, json};

use super::answer::{encode_udp, respond};
use super::forward::parse_resolv_conf;
use super::records::{Found, Records};

fn object<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).expect("an object"))
}

fn records() -> Records {
    let services = [
        object(json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"clusterIP": "10.43.0.7",
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}})),
        object(json!({"metadata": {"name": "db", "namespace": "shop"}, "spec": {"clusterIP": "None",
            "ports": [{"name": "sql", "port": 5432}]}})),
        object(json!({"metadata": {"name": "mail", "namespace": "shop"}, "spec": {"type": "ExternalName",
            "externalName": "smtp.example.org"}})),
        object(json!({"metadata": {"name": "shop", "namespace": "shop"}, "spec": {"type": "ExternalName",
            "externalName": "web.shop.svc.cluster.local"}})),
    ];
    let slices = [object(json!({"metadata": {"name": "db-1", "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "db"}}, "addressType": "IPv4",
        "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": ["10.42.0.5"], "hostname": "db-0", "conditions": {"ready": true}},
            {"addresses": ["10.42.0.6"], "conditions": {"ready": true}},
            {"addresses": ["10.42.0.9"], "conditions": {"ready": false}}]}))];
    let pods = [object(json!({"metadata": {"name": "a", "namespace": "shop"}}))];
    Records::new("cluster.local", &services, &slices, &pods)
}

fn ask(name: &str, kind: RecordType) -> String {
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    match respond(&query, &query.queries[0].clone(), &records()) {
        None => "elsewhere".to_owned(),
        Some(response) => {
            let mut data: Vec<String> = response.answers.iter().map(|r| r.data.to_string()).collect();
            data.sort();
            format!("{} {}", response.metadata.response_code, data.join(" | "))
        }
    }
}

#[test]
fn services_have_addresses_ports_and_pointers() {
    assert_eq!(ask("web.shop.svc.cluster.local.", RecordType::A), "No Error 10.43.0.7");
    assert_eq!(ask("WEB.shop.svc.Cluster.Local.", RecordType::A), "No Error 10.43.0.7");
    assert_eq!(ask("web.shop.svc.cluster.local.", RecordType::AAAA), "No Error ");
    let srv = ask("_http._tcp.web.shop.svc.cluster.local.", RecordType::SRV);
    assert_eq!(srv, "No Error 0 100 80 web.shop.svc.cluster.local.");
    assert_eq!(ask("7.0.43.10.in-addr.arpa.", RecordType::PTR), "No Error web.shop.svc.cluster.local.");
}

#[test]
fn headless_services_have_the_ready_pods() {
    assert_eq!(ask("db.shop.svc.cluster.local.", RecordType::A), "No Error 10.42.0.5 | 10.42.0.6");
    assert_eq!(ask("db-0.db.shop.svc.cluster.local.", RecordType::A), "No Error 10.42.0.5");
    assert_eq!(ask("10-42-0-6.db.shop.svc.cluster.local.", RecordType::A), "No Error 10.42.0.6");
    let srv = ask("_sql._tcp.db.shop.svc.cluster.local.", RecordType::SRV);
    assert_eq!(
        srv,
        "No Error 0 50 5432 10-42-0-6.db.shop.svc.cluster.local. | 0 50 5432 db-0.db.shop.svc.cluster.local."
    );
    assert_eq!(ask("5.0.42.10.in-addr.arpa.", RecordType::PTR), "No Error db-0.db.shop.svc.cluster.local.");
}

#[test]
fn what_is_not_there_is_told_from_what_is_elsewhere() {
    assert_eq!(ask("none.shop.svc.cluster.local.", RecordType::A), "Non-Existent Domain ");
    assert_eq!(ask("shop.svc.cluster.local.", RecordType::A), "No Error ");
    assert_eq!(ask("svc.cluster.local.", RecordType::A), "No Error ");
    assert_eq!(ask("example.org.", RecordType::A), "elsewhere");
    assert_eq!(ask("notcluster.local.", RecordType::A), "elsewhere");
    assert_eq!(ask("8.8.8.8.in-addr.arpa.", RecordType::PTR), "elsewhere");
    let alias = ask("shop.shop.svc.cluster.local.", RecordType::A);
    assert_eq!(alias, "No Error 10.43.0.7 | web.shop.svc.cluster.local.");
    assert_eq!(ask("mail.shop.svc.cluster.local.", RecordType::A), "elsewhere");
}

#[test]
fn pods_are_found_by_their_address() {
    assert_eq!(ask("10-42-0-77.shop.pod.cluster.local.", RecordType::A), "No Error 10.42.0.77");
    assert_eq!(ask("10-42-0-77.nowhere.pod.cluster.local.", RecordType::A), "Non-Existent Domain ");
    assert_eq!(ask("rubbish.shop.pod.cluster.local.", RecordType::A), "Non-Existent Domain ");
    assert_eq!(records().find("1.2.3.in-addr.arpa"), Found::Elsewhere);
}

#[test]
fn a_large_answer_is_cut_for_udp() {
    let endpoints: Vec<_> =
        (0..100).map(|n| json!({"addresses": [format!("10.42.0.{n}")], "conditions": {"ready": true}})).collect();
    let service = object(json!({"metadata": {"name": "big", "namespace": "a"}, "spec": {"clusterIP": "None"}}));
    let slice = object(json!({"metadata": {"name": "b", "namespace": "a",
        "labels": {"kubernetes.io/service-name": "big"}}, "addressType": "IPv4", "endpoints": endpoints}));
    let records = Records::new("cluster.local", &[service], &[slice], &[]);
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii("big.a.svc.cluster.local.").expect("name"), RecordType::A));
    let response = respond(&query, &query.queries[0].clone(), &records).expect("answered");
    assert_eq!(response.answers.len(), 100);
    let cut = Message::from_vec(&encode_udp(&query, response)).expect("a message");
    assert!(cut.metadata.truncation && cut.answers.is_empty());
}

#[test]
fn resolv_conf_is_read_leniently() {
    let text = "# comment\nsearch lan\nnameserver 192.168.1.1\nnameserver nonsense\n nameserver ::1\nnameserver\n";
    assert_eq!(
        parse_resolv_conf(text),
        ["192.168.1.1".parse::<std::net::IpAddr>().expect("ip"), "::1".parse().expect("ip")]
    );
}
