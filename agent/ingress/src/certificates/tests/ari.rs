//! What a CA suggests about renewing, which pebble of this Debian does not do yet.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::server::Server;
use super::world::start_api;
use crate::certificates::accounts::Accounts;
use crate::certificates::ari::Windows;
use crate::certificates::order::state::short_hash;
use crate::certificates::schedule;
use crate::certificates::schedule::tests::issued;
use crate::config::{Acme, Challenge, Issuer};

/// An account that was made earlier.
async fn write_account(client: &Client, directory: &str) {
    let key = rcgen::KeyPair::generate().unwrap().serialize_der();
    let key = base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, key);
    let account = json!({"id": "https://ca.example/account/1", "key_pkcs8": key, "directory": directory});
    let mut secret = Secret::default();
    secret.metadata.name = Some(format!("acme-account-{}", short_hash(&format!("{directory}\n"))));
    secret.data = Some([("account.json".to_owned(), ByteString(account.to_string().into_bytes()))].into());
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    secrets.create(&PostParams::default(), &secret).await.unwrap();
}

#[tokio::test]
async fn the_window_is_asked_for_and_kept() {
    let secret = issued(&["a.example.org", "b.example.org"]);
    let chain = schedule::data(&secret, "tls.crt");
    let path = format!("/ari/{}", crate::certificates::renewal::identifier(chain).unwrap());
    let server = Server::start(move |asked| match asked {
        "/dir" => {
            // The server puts its own address in.
            let directory = json!({"newNonce": "https://ca.example/n", "newAccount": "https://ca.example/a",
                "newOrder": "https://ca.example/o", "renewalInfo": "https://ADDRESS/ari"});
            (200, None, directory.to_string())
        }
        _ if asked == path => (200, Some("25200"), WINDOW.to_owned()),
        _ => (404, None, "{}".to_owned()),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let shutdown = CancellationToken::new();
    let client = start_api(dir.path(), shutdown.clone()).await.client(&skiff_apiserver::Identity::Ingress);
    let directory = server.url("/dir");
    write_account(&client, &directory).await;
    let trust_root = Some(server.trust_root.clone());
    let issuer = Issuer { directory, trust_root, external_account: None, profile: None };
    let acme = Acme { issuers: vec![issuer.clone()], email: None, challenge: Challenge::Http01, dns: None };
    let accounts = Accounts::new(client, &acme);
    let windows = Windows::default();
    let serial = schedule::leaf(&secret).unwrap().serial;
    assert!(windows.ask_at(&serial) < Timestamp::now());
    windows.ask(&secret, &issuer, &accounts).await;
    let window = windows.get(&secret).unwrap();
    assert_eq!(
        (window.start.to_string().as_str(), window.end.to_string().as_str()),
        ("2026-02-01T00:00:00Z", "2026-02-03T00:00:00Z")
    );
    let hours = windows.ask_at(&serial).duration_since(Timestamp::now()).as_mins();
    assert!((419..=420).contains(&hours), "{hours}");
    // What was known is kept when the CA cannot be asked.
    drop(server);
    windows.ask(&secret, &issuer, &accounts).await;
    assert_eq!(windows.get(&secret), Some(window));
    shutdown.cancel();
}

const WINDOW: &str = r#"{"suggestedWindow": {"start": "2026-02-01T00:00:00Z", "end": "2026-02-03T00:00:00Z"}}"#;
