//! Service-account tokens: JSON Web Tokens signed by the box's key (RFC 7519, ES256), with upstream's claims.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Upstream's bounds on the life of a token.
pub const LIFE_MIN: Duration = Duration::from_secs(600);
pub const LIFE_MAX: Duration = Duration::from_secs(1 << 32);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ObjectClaim {
    pub name: String,
    pub uid: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KubernetesClaim {
    pub namespace: String,
    pub serviceaccount: ObjectClaim,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pod: Option<ObjectClaim>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub secret: Option<ObjectClaim>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node: Option<ObjectClaim>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    pub iss: String,
    pub sub: String,
    pub aud: Vec<String>,
    pub iat: u64,
    pub nbf: u64,
    pub exp: u64,
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: KubernetesClaim,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

/// Why a token is not accepted; for logs, never for the caller.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    #[error("the token is malformed")]
    Malformed,
    #[error("the token's signature does not match")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
    #[error("the token is from another issuer")]
    Issuer,
    #[error("the token is for another audience")]
    Audience,
}

pub struct Tokens {
    key: EcdsaKeyPair,
    kid: String,
}

impl Tokens {
    pub fn new(pkcs8: &[u8]) -> Result<Self, aws_lc_rs::error::KeyRejected> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.public_key().as_ref());
        Ok(Self { kid: BASE64_URL_SAFE_NO_PAD.encode(digest), key })
    }

    /// The key by which others verify what is signed here, as a set of JSON Web Keys.
    pub fn key_set(&self) -> serde_json::Value {
        // Uncompressed: a mark, and two numbers of 32 bytes.
        let point = self.key.public_key().as_ref();
        let number = |from: usize| BASE64_URL_SAFE_NO_PAD.encode(point.get(from..from + 32).unwrap_or_default());
        serde_json::json!({"keys": [{"use": "sig", "kty": "EC", "kid": self.kid, "crv": "P-256", "alg": "ES256",
            "x": number(1), "y": number(33)}]})
    }

    pub fn sign(&self, claims: &Claims) -> Result<String, serde_json::Error> {
        let header = serde_json::to_vec(&Header { alg: "ES256".to_owned(), kid: self.kid.clone() })?;
        let payload = serde_json::to_vec(claims)?;
        let signed = format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(payload));
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .expect("signing with a loaded key fails only when the system has no randomness");
        Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The claims of a token that is ours, current and for one of `audiences`.
    pub fn verify(&self, token: &str, audiences: &[&str]) -> Result<Claims, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed)?;
        if header.alg != "ES256" {
            return Err(TokenError::Signature);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(signed.as_bytes(), &decode(signature)?)
            .map_err(|_| TokenError::Signature)?;
        let claims: Claims = serde_json::from_slice(&decode(payload)?).map_err(|_| TokenError::Malformed)?;
        check(&claims, audiences, now())?;
        Ok(claims)
    }
}

fn check(claims: &Claims, audiences: &[&str], now: u64) -> Result<(), TokenError> {
    if claims.iss != ISSUER {
        return Err(TokenError::Issuer);
    }
    if now >= claims.exp {
        return Err(TokenError::Expired);
    }
    if now < claims.nbf {
        return Err(TokenError::NotYet);
    }
    if !claims.aud.iter().any(|a| audiences.contains(&a.as_str())) {
        return Err(TokenError::Audience);
    }
    Ok(())
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        Tokens::new(&rcgen::KeyPair::generate().expect("key").serialize_der()).expect("tokens")
    }

    fn claims(exp: u64) -> Claims {
        let serviceaccount = ObjectClaim { name: "default".to_owned(), uid: "u".to_owned() };
        Claims {
            iss: ISSUER.to_owned(),
            sub: "system:serviceaccount:default:default".to_owned(),
            aud: vec![ISSUER.to_owned()],
            iat: now(),
            nbf: now(),
            exp,
            jti: "1".to_owned(),
            kubernetes: KubernetesClaim {
                namespace: "default".to_owned(),
                serviceaccount,
                pod: None,
                secret: None,
                node: None,
            },
        }
    }

    #[test]
    fn a_signed_token_is_verified() {
        let tokens = tokens();
        let token = tokens.sign(&claims(now() + 60)).expect("signs");
        assert_eq!(tokens.verify(&token, &[ISSUER]).expect("valid").sub, "system:serviceaccount:default:default");
        assert_eq!(tokens.verify(&token, &["other"]).err(), Some(TokenError::Audience));
    }

    #[test]
    fn the_key_set_verifies_what_was_signed() {
        let tokens = tokens();
        let token = tokens.sign(&claims(now() + 60)).expect("signs");
        let key = &tokens.key_set()["keys"][0];
        let number = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(key[name].as_str().expect("a text")).expect("base64");
        let point = [vec![4], number("x"), number("y")].concat();
        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).expect("base64");
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed.as_bytes(), &signature).expect("valid");
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let tokens = tokens();
        let token = tokens.sign(&claims(now() + 60)).expect("signs");
        assert_eq!(self::tokens().verify(&token, &[ISSUER]).err(), Some(TokenError::Signature));
        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        let mut payload = signed.to_owned();
        payload.pop();
        for bad in [format!("{payload}.{signature}"), format!("{signed}."), String::new(), "..".to_owned()] {
            assert!(tokens.verify(&bad, &[ISSUER]).is_err(), "{bad}");
        }
        let unsigned = format!("{}.{}.", BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), "e30");
        assert_eq!(tokens.verify(&unsigned, &[ISSUER]).err(), Some(TokenError::Signature));
    }

    #[test]
    fn an_expired_token_is_refused() {
        let tokens = tokens();
        let token = tokens.sign(&claims(now() - 1)).expect("signs");
        assert_eq!(tokens.verify(&token, &[ISSUER]).err(), Some(TokenError::Expired));
    }
}
