//! DNS records, on Debian's knotd and with a program.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::update::Server;
use super::{Error, Record, publish, remove};
use crate::certificates::tests::support::{Process, free_port, wait_for};
use crate::config::{Dns, TsigAlgorithm, TsigKey};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

pub(crate) struct Knot {
    pub(crate) address: SocketAddr,
    _process: Process,
    _dir: tempfile::TempDir,
}

impl Knot {
    /// `None`, with a message, where knotd is not installed.
    pub(crate) async fn start() -> Option<Self> {
        const PROGRAM: &str = "/usr/sbin/knotd";
        if !Path::new(PROGRAM).exists() {
            eprintln!("skipped: {PROGRAM} is not installed");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        std::fs::write(dir.path().join("example.org.zone"), ZONE).unwrap();
        std::fs::create_dir(dir.path().join("db")).unwrap();
        let path = dir.path().display();
        let secret = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, SECRET);
        let key = |name: &str, algorithm: &str| format!("- id: {name}\n  algorithm: {algorithm}\n  secret: {secret}\n");
        let keys = key("k256", "hmac-sha256") + &key("k384", "hmac-sha384") + &key("k512", "hmac-sha512");
        let config = format!(
            "server:\n  listen: 127.0.0.1@{port}\n  rundir: {path}\ndatabase:\n  storage: {path}/db\nkey:\n{keys}\
             acl:\n- id: update\n  key: [k256, k384, k512]\n  action: update\n\
             zone:\n- domain: example.org\n  storage: {path}\n  file: example.org.zone\n  acl: update\n"
        );
        std::fs::write(dir.path().join("knot.conf"), config).unwrap();
        let mut command = std::process::Command::new(PROGRAM);
        command.arg("-c").arg(dir.path().join("knot.conf"));
        let process = Process::start(command);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        wait_for("knotd", || std::net::TcpStream::connect(address).is_ok()).await;
        let knot = Self { address, _process: process, _dir: dir };
        while knot.values("loaded.example.org").await.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Some(knot)
    }

    pub(crate) fn dns(&self, key: &str, algorithm: TsigAlgorithm) -> Dns {
        let key = TsigKey { name: key.to_owned(), algorithm, secret: SECRET.to_vec() };
        Dns::Update { server: self.address, zone: "example.org".to_owned(), key: Some(key), propagation_seconds: 0 }
    }

    pub(crate) async fn values(&self, name: &str) -> Vec<String> {
        let server = Server { address: self.address, zone: "example.org", key: None };
        let mut values = server.values(name).await.unwrap();
        values.sort();
        values.into_iter().map(|value| String::from_utf8(value).unwrap()).collect()
    }
}

const ZONE: &str = "\
$ORIGIN example.org.
$TTL 60
@ SOA ns hostmaster 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
@ A 127.0.0.1
* A 127.0.0.1
loaded TXT yes
";

fn record(value: &str) -> Record {
    Record::new("example.org", value.to_owned())
}

#[tokio::test]
async fn two_values_of_one_name_come_and_go_alone() {
    let Some(knot) = Knot::start().await else { return };
    for (key, algorithm) in
        [("k256", TsigAlgorithm::HmacSha256), ("K384", TsigAlgorithm::HmacSha384), ("k512", TsigAlgorithm::HmacSha512)]
    {
        let dns = knot.dns(key, algorithm);
        publish(Some(&dns), &[record("a"), record("b")]).await.unwrap();
        // A step is repeated after a crash.
        publish(Some(&dns), &[record("a"), record("b")]).await.unwrap();
        assert_eq!(knot.values("_acme-challenge.example.org").await, ["a", "b"]);
        remove(Some(&dns), &[record("a")]).await.unwrap();
        assert_eq!(knot.values("_acme-challenge.example.org").await, ["b"]);
        remove(Some(&dns), &[record("a"), record("b")]).await.unwrap();
        assert!(knot.values("_acme-challenge.example.org").await.is_empty());
    }
}

#[tokio::test]
async fn refusals_are_said() {
    let Some(knot) = Knot::start().await else { return };
    let refused = async |dns: Dns, record: Record| {
        let error = publish(Some(&dns), &[record]).await.unwrap_err().to_string();
        error.replace(&knot.address.to_string(), "SERVER")
    };
    // Newer servers do not tell a stranger what is wrong with his key.
    let said_of_key = |said: &str, why: &str| {
        let why = [why, "it does not accept the TSIG key, or is not in charge of the zone"];
        let told = why.iter().any(|why| said == format!("the DNS server SERVER refused to change example.org: {why}"));
        assert!(told, "{said}");
    };
    let wrong_key = knot.dns("k257", TsigAlgorithm::HmacSha256);
    said_of_key(&refused(wrong_key, record("a")).await, "it does not know the TSIG key");
    let Dns::Update { server, zone, key: Some(mut key), .. } = knot.dns("k256", TsigAlgorithm::HmacSha256) else {
        panic!("an update");
    };
    key.secret.push(0x31);
    let wrong_secret = Dns::Update { server, zone: zone.clone(), key: Some(key), propagation_seconds: 0 };
    let said = refused(wrong_secret, record("a")).await;
    said_of_key(&said, "the secret of the TSIG key is another there");
    let unsigned = Dns::Update { server, zone, key: None, propagation_seconds: 0 };
    let said = refused(unsigned, record("a")).await;
    assert!(said.starts_with("the DNS server SERVER refused to change example.org: "), "{said}");
    let said = refused(knot.dns("k256", TsigAlgorithm::HmacSha256), Record::new("example.net", "a".to_owned())).await;
    assert_eq!(said, "_acme-challenge.example.net is not in the DNS zone example.org that records are published in");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    drop(listener);
    let dns = Dns::Update { server, zone: "example.org".to_owned(), key: None, propagation_seconds: 0 };
    let error = publish(Some(&dns), &[record("a")]).await.unwrap_err();
    assert_eq!(error.to_string(), format!("the DNS server {server} cannot be asked: connection refused"));
    assert!(matches!(publish(None, &[record("a")]).await, Err(Error::NotConfigured)));
}

#[tokio::test]
async fn a_program_is_called_and_its_complaint_is_quoted() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("hook");
    let script =
        "#!/bin/sh\n[ \"$3\" = bad ] && { echo 'no such\nzone' >&2; exit 3; }\necho \"$@\" >> $(dirname $0)/log\n";
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let dns = Dns::Hook { program: program.clone(), propagation_seconds: 0 };
    publish(Some(&dns), &[record("a")]).await.unwrap();
    remove(Some(&dns), &[record("a")]).await.unwrap();
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert_eq!(log, "present _acme-challenge.example.org a\ncleanup _acme-challenge.example.org a\n");
    let error = publish(Some(&dns), &[record("bad")]).await.unwrap_err().to_string();
    assert_eq!(error, format!("the program {} for DNS records failed: no such zone", program.display()));
}
