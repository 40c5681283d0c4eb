//! Tokens of other issuers, and of who is about to join.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use expect_test::expect;
use http::{Response, StatusCode};
use http_body_util::Full;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};

use super::{Server, hook};
use crate::AuthenticationConfig;

/// An identity provider, and the keys that it signs with.
struct Provider {
    url: String,
    pem: String,
    keys: Arc<Mutex<Vec<(String, KeyPair)>>>,
    asked: Arc<Mutex<usize>>,
}

impl Provider {
    async fn start() -> Self {
        let keys: Arc<Mutex<Vec<(String, KeyPair)>>> = Arc::default();
        keys.lock().expect("a lock").push(("one".to_owned(), KeyPair::generate().expect("a key")));
        let (known, asked, port) = (Arc::clone(&keys), Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
        let (count, own) = (Arc::clone(&asked), Arc::clone(&port));
        let answer = move |request: http::Request<hyper::body::Incoming>| -> hook::Answered {
            let url = format!("https://localhost:{}", own.lock().expect("a lock"));
            let document = match request.uri().path() {
                "/.well-known/openid-configuration" => json!({"issuer": url, "jwks_uri": format!("{url}/keys")}),
                _ => {
                    *count.lock().expect("a lock") += 1;
                    let keys = known.lock().expect("a lock");
                    json!({"keys": keys.iter().map(|(kid, key)| jwk(kid, key)).collect::<Vec<Value>>()})
                }
            };
            Box::pin(async move { Response::new(Full::from(document.to_string())) })
        };
        let (listening, pem) = hook::serve("localhost", None, answer).await;
        *port.lock().expect("a lock") = listening;
        Self { url: format!("https://localhost:{listening}"), pem, keys, asked }
    }

    /// A token with these claims beside the usual ones, signed with a key of this name.
    fn token(&self, kid: &str, more: Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
        let mut claims = json!({"iss": self.url, "aud": "box", "sub": "ann", "exp": now + 600, "groups": ["staff"]});
        for (claim, value) in more.as_object().into_iter().flatten() {
            claims[claim] = value.clone();
        }
        let keys = self.keys.lock().expect("a lock");
        let key = keys
            .iter()
            .find(|(own, _)| own == kid)
            .map_or_else(|| KeyPair::generate().expect("a key").serialize_der(), |(_, key)| key.serialize_der());
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ec_der(&key)).expect("a token")
    }

    fn config(&self, more: &str) -> AuthenticationConfig {
        let pem: String = self.pem.lines().map(|line| format!("      {line}\n")).collect();
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer:\n    url: {}\n    \
             audiences: [box, other]\n    certificateAuthority: |\n{pem}{more}",
            self.url
        );
        AuthenticationConfig::parse(&text).expect("a configuration")
    }
}

fn jwk(kid: &str, key: &KeyPair) -> Value {
    let point = key.der_bytes();
    let number = |from: usize| BASE64_URL_SAFE_NO_PAD.encode(&point[from..from + 32]);
    json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid, "x": number(1), "y": number(33)})
}

const MAPPINGS: &str = "  claimMappings:
    username: {claim: sub, prefix: 'oidc:'}
    groups: {claim: groups, prefix: ''}
    uid: {claim: sub}
    extra: [{key: example.org/tenant, valueExpression: 'has(claims.tenant) ? claims.tenant : null'}]
  claimValidationRules:
  - {expression: '!has(claims.left) || !claims.left', message: 'who left has no business here'}
  userValidationRules:
  - {expression: \"user.username != 'oidc:mallory'\", message: 'not mallory'}
";

async fn user(server: &Server, token: &str) -> Result<Value, String> {
    match server.api.user_of_token(token, &[]).await {
        Ok((user, _)) => Ok(json!({"name": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra})),
        Err(error) => Err(match server.api.user_of_oidc(token).await {
            Some(Err(error)) => error.to_string(),
            Some(Ok(_)) | None => error.to_string(),
        }),
    }
}

#[tokio::test]
async fn who_another_issuer_knows_is_known() {
    let provider = Provider::start().await;
    let server = Server::believing(provider.config(MAPPINGS)).await;
    let ann = user(&server, &provider.token("one", json!({"tenant": "north"}))).await.expect("a user");
    let expected = json!({"name": "oidc:ann", "uid": "ann", "groups": ["staff", "system:authenticated"],
        "extra": {"example.org/tenant": ["north"]}});
    assert_eq!(ann, expected);
    assert!(user(&server, &provider.token("one", json!({"aud": ["other"]}))).await.is_ok());
    assert_eq!(*provider.asked.lock().expect("a lock"), 1, "keys are fetched once");
    let review = json!({"spec": {"token": provider.token("one", json!({}))}});
    let (_, review) = server.post("/apis/authentication.k8s.io/v1/tokenreviews", review).await;
    assert_eq!(review["status"]["user"]["username"], "oidc:ann", "{review}");
    let mut said = Vec::new();
    for (kid, wrong) in [
        ("one", json!({"exp": 1})),
        ("one", json!({"nbf": 9_999_999_999_u64})),
        ("one", json!({"aud": "elsewhere"})),
        ("one", json!({"sub": 7})),
        ("one", json!({"groups": ["system:masters"]})),
        ("one", json!({"groups": {"a": "b"}})),
        ("one", json!({"left": true})),
        ("one", json!({"sub": "mallory"})),
        ("forged", json!({})),
    ] {
        said.push(user(&server, &provider.token(kid, wrong)).await.expect_err("it is refused"));
    }
    expect![[r#"
        the token is not valid: ExpiredSignature
        the token is not valid: ImmatureSignature
        the token is not valid: InvalidAudience
        the claim "sub" is missing or of another type
        "system:masters" is one of the cluster's own names
        the claim "groups" is missing or of another type
        who left has no business here
        not mallory
        the issuer has no such key"#]]
    .assert_eq(&said.join("\n"));
    let mut stolen = provider.token("one", json!({}));
    stolen.replace_range(stolen.len() - 4.., "AAAA");
    assert!(user(&server, &stolen).await.is_err());
    let none = format!(
        "{}.{}.",
        BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
        stolen.split('.').nth(1).expect("a part")
    );
    assert!(user(&server, &none).await.is_err());
    let elsewhere = provider.token("one", json!({"iss": "https://evil.example.org"}));
    assert!(user(&server, &elsewhere).await.is_err());
}

#[tokio::test]
async fn who_is_about_to_join_is_known() {
    let server = Server::start().await;
    let data =
        json!({"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"});
    let secret = json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token", "stringData": data});
    let (code, made) = server.post("/api/v1/namespaces/kube-system/secrets", secret).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let known = user(&server, "abcdef.0123456789abcdef").await.expect("a user");
    assert_eq!(known["name"], "system:bootstrap:abcdef");
    assert!(user(&server, "abcdef.0123456789abcdee").await.is_err());
    assert!(user(&server, "abcdeg.0123456789abcdef").await.is_err());
    assert_eq!(made["data"]["token-id"], BASE64_STANDARD.encode("abcdef"));
}

#[test]
fn wrong_configurations_are_refused() {
    let with = |issuer: &str, more: &str| {
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer: {issuer}\n  {more}"
        )
    };
    let good = "{url: 'https://a.example.org', audiences: [box]}";
    let mapped = "claimMappings: {username: {claim: sub, prefix: 'x:'}}";
    let twice = format!("{}\n- issuer: {good}\n  {mapped}", with(good, mapped));
    let mut said = Vec::new();
    for text in [
        "{".to_owned(),
        "apiVersion: v1\nkind: AuthenticationConfiguration".to_owned(),
        "apiVersion: apiserver.config.k8s.io/v1\nkind: Other".to_owned(),
        with("{url: 'http://a.example.org', audiences: [box]}", mapped),
        with("{url: 'https://a.example.org'}", mapped),
        with("{url: 'https://a.example.org', audiences: [box], audience: a}", mapped),
        with(good, "claimMappings: {username: {}}"),
        with(good, "claimMappings: {username: {claim: sub}}"),
        with(good, "claimMappings: {username: {claim: sub, prefix: '', expression: claims.sub}}"),
        with(good, "claimMappings: {username: {expression: 'claims.('}}"),
        with(
            good,
            "claimMappings: {username: {claim: sub, prefix: ''}, extra: [{key: A, valueExpression: claims.sub}]}",
        ),
        with(
            good,
            "claimMappings: {username: {claim: sub, prefix: ''}, extra: [{key: x.k8s.io/a, valueExpression: claims.sub}]}",
        ),
        with(
            good,
            "claimMappings: {username: {claim: sub, prefix: ''}, extra: [{key: a.org/a, valueExpression: claims.sub}, {key: a.org/a, valueExpression: claims.sub}]}",
        ),
        with(good, "claimMappings: {username: {expression: 'claims.email'}}"),
        with(good, &format!("{mapped}\n  claimValidationRules: [{{message: a}}]")),
        with(good, &format!("{mapped}\n  userValidationRules: [{{expression: claims.sub}}]")),
        twice,
    ] {
        said.push(AuthenticationConfig::parse(&text).expect_err("it is wrong").to_string().replace('\n', " "));
    }
    expect![[r#"
        did not find expected node content at line 2 column 1, while parsing a flow node
        apiVersion: it must be "apiserver.config.k8s.io/v1"
        kind: it must be "AuthenticationConfiguration"
        jwt[0].issuer.url: it must begin with https://
        jwt[0].issuer.audiences: at least one audience is required
        jwt[0].issuer: unknown field `audience`, expected one of `url`, `discoveryURL`, `certificateAuthority`, `audiences`, `audienceMatchPolicy` at line 4 column 60
        jwt[0].claimMappings.username: claim or expression is required
        jwt[0].claimMappings.username.prefix: prefix is required when claim is set; it may be ""
        jwt[0].claimMappings.username: claim and expression cannot both be set
        jwt[0].claimMappings.username.expression: compilation failed: ERROR: <input>:1:8: expected identifier after '.' | claims.( | .......^
        jwt[0].claimMappings.extra[0].key: it must be a lower-case DOMAIN/PATH
        jwt[0].claimMappings.extra[0].key: k8s.io and kubernetes.io are reserved
        jwt[0].claimMappings.extra[1].key: it is there twice
        jwt[0].claimMappings.username.expression: claims.email_verified must be used in it, in a valueExpression of extra, or in a claimValidationRule, since it uses claims.email
        jwt[0].claimValidationRules[0]: claim or expression is required, and not both
        jwt[0].userValidationRules[0].expression: compilation failed: undeclared reference to 'claims' (in container '')
        jwt[1].issuer.url: another issuer has it"#]].assert_eq(&said.join("\n"));
}
