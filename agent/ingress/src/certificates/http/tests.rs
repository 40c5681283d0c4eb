//! Requests to a CA that does not behave.

use http::Request;
use instant_acme::{BodyWrapper, HttpClient};

use super::{CaClient, parse_retry_after, plainly};
use crate::certificates::tests::server::Server;
use crate::certificates::tests::support::free_port;

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let parse = |value| parse_retry_after(value, now).map(|t| t.to_string());
    assert_eq!(parse("60").as_deref(), Some("2026-01-01T00:01:00Z"));
    assert_eq!(parse("Thu, 01 Jan 2026 02:00:00 GMT").as_deref(), Some("2026-01-01T02:00:00Z"));
    assert_eq!(parse("Wed, 31 Dec 2025 02:00:00 GMT"), None);
    assert_eq!(parse("4000000000").as_deref(), Some("2026-01-08T00:00:00Z"));
    assert_eq!(parse("soon"), None);
}

#[test]
fn errors_of_the_system_are_said_plainly() {
    assert_eq!(plainly(&std::io::Error::from_raw_os_error(111)), "connection refused");
}

async fn said(client: &CaClient, url: &str) -> Option<String> {
    let request = Request::get(url).body(BodyWrapper::default()).unwrap();
    client.request(request).await.err().map(|error| error.to_string())
}

#[tokio::test]
async fn failures_are_said() {
    let server = Server::start(|path| match path {
        "/busy" => (429, Some("7200"), "{}".to_owned()),
        "/broken" => (502, None, "<html>".to_owned()),
        "/endless" => (200, None, "x".repeat(super::ANSWER_BYTES_MAX + 1)),
        _ => (200, None, "{}".to_owned()),
    })
    .await;
    let client = CaClient::new(Some(&server.trust_root)).unwrap();
    let at = server.url("");
    assert_eq!(said(&client, &server.url("/fine")).await, None);
    assert_eq!(client.take_retry_after(), None);
    assert_eq!(said(&client, &server.url("/busy")).await, None);
    let wait = client.take_retry_after().unwrap().duration_since(jiff::Timestamp::now()).as_secs();
    assert!((7190..=7200).contains(&wait) && client.take_retry_after().is_none());
    let broken = said(&client, &server.url("/broken")).await.unwrap();
    assert_eq!(broken, format!("the CA at {at} is out of order: it answered 502 Bad Gateway without saying why"));
    let endless = said(&client, &server.url("/endless")).await.unwrap();
    assert_eq!(endless, format!("the CA at {at} did not answer: length limit exceeded"));
    let plain = said(&client, "http://127.0.0.1/dir").await.unwrap();
    assert_eq!(plain, "the address http://127.0.0.1/dir of the CA is not an https:// address");
    let port = free_port();
    let nobody = said(&client, &format!("https://127.0.0.1:{port}/dir")).await.unwrap();
    assert_eq!(nobody, format!("cannot reach the CA at https://127.0.0.1:{port}: connection refused"));
    let other = Server::start(|_| (200, None, "{}".to_owned())).await;
    let untrusted = said(&client, &other.url("/fine")).await.unwrap();
    let why = "its server's certificate is from an authority that is not trusted here; set trust_root";
    assert_eq!(untrusted, format!("cannot talk to the CA at {}: {why}", other.url("")));
}

#[test]
fn trust_roots_that_cannot_be_read_are_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("root.pem");
    let said = |path| CaClient::new(Some(path)).err().unwrap().to_string();
    assert!(said(&path).starts_with(&format!("the trust roots in {} cannot be read: ", path.display())));
    std::fs::write(&path, "").unwrap();
    assert!(said(&path).ends_with("cannot be read: there is no certificate in it"));
}
