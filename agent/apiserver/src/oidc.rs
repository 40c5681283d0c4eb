//! Users of other issuers: tokens of OpenID Connect, verified with the keys that their issuer publishes.
//!
//! Keys are fetched when the first token comes, and again when one is signed with a key that is not known. Nobody from
//! outside is one of the cluster's own: a name or group that begins with `system:` is refused.

mod config;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use skiff_object::cel::{Program, Val};
use skiff_store::Store;
use tokio::sync::Mutex;

pub use config::{AuthenticationConfig, AuthenticationConfigError, Mapping, Source};
use config::{Issuer, Mappings};

use crate::Api;
use crate::extensions::{CallError, Client};
use crate::users::User;

const FETCH_TIME_MAX: Duration = Duration::from_secs(10);
/// Who sends tokens with unknown keys does not make this ask more often.
const FETCH_AGAIN: Duration = Duration::from_secs(10);
/// After this they are fetched again; whoever comes meanwhile is let in by those that are known.
const FETCHED_VALID: Duration = Duration::from_secs(3600);
/// Keys that cannot be fetched again are believed no longer than this.
const KEYS_VALID: Duration = Duration::from_secs(24 * 3600);
const OWN: &str = "system:";
const BUDGET: u64 = 1_000_000;
const ALGORITHMS: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
];

#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    #[error("the token is malformed")]
    Malformed,
    #[error("the issuer's keys cannot be fetched: {0}")]
    Fetch(#[from] CallError),
    #[error("the issuer's discovery document {0}")]
    Discovery(&'static str),
    #[error("the issuer has no such key")]
    Key,
    #[error("the token is not valid: {0}")]
    Token(#[from] jsonwebtoken::errors::Error),
    #[error("the claim {0:?} is missing or of another type")]
    Claim(String),
    #[error("{0}")]
    Rule(String),
    #[error("{0:?} is one of the cluster's own names")]
    Own(String),
}

/// The issuers, with what is known of their keys.
#[derive(Default)]
pub struct Oidc {
    issuers: Vec<Known>,
}

struct Known {
    issuer: Issuer,
    programs: Programs,
    /// With when they were fetched.
    keys: ArcSwapOption<(JwkSet, Instant)>,
    /// When somebody tried last. Only who needs other keys waits for it.
    tried: Mutex<Option<Instant>>,
}

impl Oidc {
    pub fn new(config: AuthenticationConfig) -> Self {
        let known = |issuer| Known {
            programs: Programs::of(&issuer),
            issuer,
            keys: ArcSwapOption::empty(),
            tried: Mutex::default(),
        };
        Self { issuers: config.jwt.into_iter().map(known).collect() }
    }

    /// Whose token it says it is: before anything of it is believed.
    fn issuer_of(&self, token: &str) -> Option<&Known> {
        if self.issuers.is_empty() {
            return None;
        }
        let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
        let claims: Value = serde_json::from_slice(&payload).ok()?;
        let issuer = claims.get("iss")?.as_str()?;
        self.issuers.iter().find(|known| known.issuer.issuer.url == issuer)
    }
}

impl<S: Store> Api<S> {
    /// The user of a token of another issuer; `None`: it is of none that is believed.
    pub(crate) async fn user_of_oidc(&self, token: &str) -> Option<Result<User, OidcError>> {
        let known = self.oidc().issuer_of(token)?;
        let claims = match self.verified(known, token).await {
            Ok(claims) => claims,
            Err(error) => return Some(Err(error)),
        };
        Some(user(&known.issuer, &known.programs, &claims))
    }

    async fn verified(&self, known: &Known, token: &str) -> Result<Value, OidcError> {
        let header = jsonwebtoken::decode_header(token)?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(OidcError::Malformed);
        }
        let find = |set: &JwkSet| match &header.kid {
            Some(kid) => set.find(kid).cloned(),
            None => set.keys.first().filter(|_| set.keys.len() == 1).cloned(),
        };
        let key = match find(&self.keys(known, false).await?.0) {
            Some(key) => key,
            None => find(&self.keys(known, true).await?.0).ok_or(OidcError::Key)?,
        };
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&known.issuer.issuer.audiences);
        validation.set_issuer(&[&known.issuer.issuer.url]);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        validation.validate_nbf = true;
        let decoded = jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(&key)?, &validation)?;
        Ok(decoded.claims)
    }

    async fn keys(&self, known: &Known, is_unknown: bool) -> Result<Arc<(JwkSet, Instant)>, OidcError> {
        let current = || known.keys.load_full().filter(|keys| keys.1.elapsed() < KEYS_VALID);
        let is_good = |keys: &Arc<(JwkSet, Instant)>| !is_unknown && keys.1.elapsed() < FETCHED_VALID;
        if let Some(keys) = current().filter(is_good) {
            return Ok(keys);
        }
        let mut tried = match (known.tried.try_lock(), current()) {
            (Ok(tried), _) => tried,
            // Somebody else is at it.
            (Err(_), Some(keys)) if !is_unknown => return Ok(keys),
            (Err(_), _) => known.tried.lock().await,
        };
        if tried.is_some_and(|at| at.elapsed() < FETCH_AGAIN) {
            return current().ok_or(OidcError::Key);
        }
        let fetched = self.fetch(&known.issuer.issuer).await;
        // Those who waited take what came of it.
        *tried = Some(Instant::now());
        match fetched {
            Ok(set) => known.keys.store(Some(Arc::new((set, Instant::now())))),
            // An issuer that is away for a while does not lock out whom it let in.
            Err(error) => {
                tracing::warn!(issuer = known.issuer.issuer.url, %error, "the keys of an issuer were not fetched");
                return current().ok_or(error);
            }
        }
        current().ok_or(OidcError::Key)
    }

    async fn fetch(&self, source: &Source) -> Result<JwkSet, OidcError> {
        let bundle = source.certificate_authority.as_deref().map(|pem| BASE64_STANDARD.encode(pem));
        let client = |url: &str| Client::read(&json!({"url": url, "caBundle": bundle}));
        let usual = || format!("{}/.well-known/openid-configuration", source.url.trim_end_matches('/'));
        let url = source.discovery_url.clone().unwrap_or_else(usual);
        let document = client(&url).get(self, FETCH_TIME_MAX).await?;
        if document.get("issuer").and_then(Value::as_str) != Some(&source.url) {
            return Err(OidcError::Discovery("is of another issuer"));
        }
        let keys = document.get("jwks_uri").and_then(Value::as_str).filter(|url| url.starts_with("https://"));
        let keys = keys.ok_or(OidcError::Discovery("names no place of keys that begins with https://"))?;
        let set = client(keys).get(self, FETCH_TIME_MAX).await?;
        serde_json::from_value(set).map_err(|_| OidcError::Discovery("leads to keys that are none"))
    }
}

/// The expressions of an issuer's configuration, compiled once: each of its users' requests is told by them who asks.
struct Programs(HashMap<String, Program>);

impl Programs {
    fn of(issuer: &Issuer) -> Self {
        let compiled =
            |(text, variable): (&str, &str)| Some((text.to_owned(), Program::compile(text, &[variable]).ok()?));
        Self(issuer.expressions().filter_map(compiled).collect())
    }

    fn evaluate(&self, expression: &str, variable: &str, value: &Value) -> Result<Value, OidcError> {
        let failed = |why: &dyn std::fmt::Display| OidcError::Rule(format!("expression '{expression}': {why}"));
        let program = self.0.get(expression).ok_or_else(|| failed(&"it cannot be compiled"))?;
        let mut budget = BUDGET;
        program.evaluate_json(&[(variable, Val::of(value, None))], &mut budget).map_err(|error| failed(&error))
    }
}

fn user(issuer: &Issuer, programs: &Programs, claims: &Value) -> Result<User, OidcError> {
    for rule in &issuer.claim_validation_rules {
        let holds = match rule.expression.as_str() {
            "" => claims.get(&rule.claim).and_then(Value::as_str) == Some(&rule.required_value),
            expression => programs.evaluate(expression, "claims", claims)? == Value::Bool(true),
        };
        if !holds {
            let said = match (rule.message.as_str(), rule.claim.as_str()) {
                ("", "") => format!("validation expression '{}' failed", rule.expression),
                ("", claim) => format!("required claim {claim} is not {:?}", rule.required_value),
                (message, _) => message.to_owned(),
            };
            return Err(OidcError::Rule(said));
        }
    }
    let user = mapped(&issuer.claim_mappings, programs, claims)?;
    for name in std::iter::once(&user.name).chain(&user.groups) {
        if name.starts_with(OWN) {
            return Err(OidcError::Own(name.clone()));
        }
    }
    let shown = user.info();
    for rule in &issuer.user_validation_rules {
        if programs.evaluate(&rule.expression, "user", &shown)? != Value::Bool(true) {
            return Err(OidcError::Rule(rule.message.clone()));
        }
    }
    Ok(user.authenticated())
}

fn mapped(mappings: &Mappings, programs: &Programs, claims: &Value) -> Result<User, OidcError> {
    let names = |mapping: &Mapping, default: &str| -> Result<Vec<String>, OidcError> {
        let (found, prefix) = match (mapping.claim.as_str(), mapping.expression.as_str()) {
            ("", "") => return Ok(Vec::new()),
            ("", expression) => (programs.evaluate(expression, "claims", claims)?, ""),
            (claim, _) => {
                // Whoever's mail is not proven could be anybody's.
                if claim == "email" && claims.get("email_verified").is_some_and(|proven| proven != &Value::Bool(true)) {
                    return Err(OidcError::Rule("the email is not verified".to_owned()));
                }
                (claims.get(claim).cloned().unwrap_or_default(), mapping.prefix.as_deref().unwrap_or(default))
            }
        };
        let wrong = || OidcError::Claim(mapping.source().to_owned());
        let named = |value: &Value| Ok(format!("{prefix}{}", value.as_str().ok_or_else(wrong)?));
        match &found {
            Value::Null => Ok(Vec::new()),
            Value::Array(all) => all.iter().map(named).collect(),
            one => Ok(vec![named(one)?]),
        }
    };
    let only = |mapping: &Mapping| -> Result<String, OidcError> {
        let mut all = names(mapping, "")?;
        match (all.pop().filter(|name| !name.is_empty()), all.is_empty()) {
            (Some(name), true) => Ok(name),
            _ => Err(OidcError::Claim(mapping.source().to_owned())),
        }
    };
    let has_uid = !mappings.uid.claim.is_empty() || !mappings.uid.expression.is_empty();
    let mut extra = BTreeMap::new();
    for one in &mappings.extra {
        let values: Vec<String> = match programs.evaluate(&one.value_expression, "claims", claims)? {
            Value::String(text) => vec![text],
            Value::Array(all) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        if !values.is_empty() {
            extra.insert(one.key.clone(), values);
        }
    }
    Ok(User {
        name: only(&mappings.username)?,
        uid: if has_uid { only(&mappings.uid)? } else { String::new() },
        groups: names(&mappings.groups, "")?,
        extra,
    })
}
