//! Proves the names of an order to its CA: shows the answers to its challenges until it has looked.

use std::time::Duration;

use instant_acme::{
    AuthorizationHandle, AuthorizationStatus, ChallengeStatus, ChallengeType, Identifier, Order, Problem,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};

use crate::certificates::dns::{self, Record};
use crate::challenges::{Answer, Challenges, Shown};
use crate::config::{Challenge, Dns};

/// The proxy takes answers at once; where it is being restarted, it takes seconds.
const SHOW_TIME_MAX: Duration = Duration::from_secs(60);
/// CAs look within seconds, from several places; DNS may make them slow.
const LOOK_TIME_MAX: Duration = Duration::from_secs(300);
const POLL_MIN: Duration = Duration::from_millis(250);
const POLL_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Acme(#[from] instant_acme::Error),
    #[error(transparent)]
    Dns(#[from] dns::Error),
    #[error("the CA does not offer {challenge} for {name}")]
    NotOffered { name: String, challenge: &'static str },
    /// What the problem means is said by `explain`.
    #[error("{name} could not be proved")]
    Refused { name: String, problem: Problem },
    #[error("the authorization of {name} is {state} at the CA")]
    Ended { name: String, state: &'static str },
    #[error("the proxy does not show the answer to the CA's challenge")]
    NotShown,
    #[error("the CA did not look at the answer for {0} in time")]
    NotLooked(String),
    #[error("a certificate for the challenge cannot be made")]
    Certificate(#[from] rcgen::Error),
}

/// A name that is still to be proved.
pub(crate) struct Proof {
    name: String,
    token: String,
    key_authorization: String,
    digest: Vec<u8>,
    dns_value: String,
}

impl Proof {
    pub(crate) fn record(&self) -> Record {
        Record::new(&self.name, self.dns_value.clone())
    }

    fn answer(&self, challenge: Challenge) -> Result<Option<Answer>, Error> {
        Ok(match challenge {
            Challenge::Http01 => {
                Some(Answer::Http { token: self.token.clone(), key_authorization: self.key_authorization.clone() })
            }
            Challenge::TlsAlpn01 => Some(tls_alpn(&self.name, &self.digest)?),
            Challenge::Dns01 => None,
        })
    }
}

/// RFC 8737, 3: a self-signed certificate with the digest in an extension.
fn tls_alpn(name: &str, digest: &[u8]) -> Result<Answer, rcgen::Error> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.pem();
    Ok(Answer::TlsAlpn { name: name.to_owned(), certificate, key: key.serialize_pem() })
}

/// The proofs that the CA waits for.
pub(crate) async fn pending(order: &mut Order, challenge: Challenge) -> Result<Vec<Proof>, Error> {
    let mut proofs = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if is_final(&authorization, challenge)? {
            continue;
        }
        let name = plain_name(&authorization);
        let not_offered = Error::NotOffered { name: name.clone(), challenge: challenge.as_str() };
        let offered = authorization.challenge(kind(challenge)).ok_or(not_offered)?;
        let key_authorization = offered.key_authorization();
        proofs.push(Proof {
            name,
            token: offered.token.clone(),
            digest: key_authorization.digest().as_ref().to_vec(),
            dns_value: key_authorization.dns_value(),
            key_authorization: key_authorization.as_str().to_owned(),
        });
    }
    Ok(proofs)
}

/// Shows the answers that the proxy serves; they are taken down when the result is dropped.
pub(crate) async fn show(proofs: &[Proof], challenge: Challenge, challenges: &Challenges) -> Result<Vec<Shown>, Error> {
    let mut shown = Vec::new();
    for proof in proofs {
        let Some(answer) = proof.answer(challenge)? else { continue };
        let showing = tokio::time::timeout(SHOW_TIME_MAX, challenges.show(answer));
        shown.push(showing.await.map_err(|_| Error::NotShown)?);
    }
    Ok(shown)
}

/// Publishes the answers that DNS serves.
pub(crate) async fn publish(proofs: &[Proof], challenge: Challenge, dns: Option<&Dns>) -> Result<(), Error> {
    match challenge {
        Challenge::Http01 | Challenge::TlsAlpn01 => Ok(()),
        Challenge::Dns01 => {
            let records: Vec<Record> = proofs.iter().map(Proof::record).collect();
            Ok(dns::publish(dns, &records).await?)
        }
    }
}

/// Asks the CA to look, and waits until it is through with all names.
pub(crate) async fn look(order: &mut Order, challenge: Challenge) -> Result<(), Error> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if is_final(&authorization, challenge)? {
            continue;
        }
        let Some(mut offered) = authorization.challenge(kind(challenge)) else { continue };
        // After a crash the CA may be looking already.
        if offered.status == ChallengeStatus::Pending {
            offered.set_ready().await?;
        }
    }
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let name = plain_name(&authorization);
        let looked = tokio::time::timeout(LOOK_TIME_MAX, settled(&mut authorization, challenge));
        looked.await.unwrap_or(Err(Error::NotLooked(name)))?;
    }
    Ok(())
}

async fn settled(authorization: &mut AuthorizationHandle<'_>, challenge: Challenge) -> Result<(), Error> {
    let mut delay = POLL_MIN;
    while !is_final(authorization, challenge)? {
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(POLL_MAX);
        authorization.refresh().await?;
    }
    Ok(())
}

/// Why an order that the CA calls invalid is so, as far as its authorizations say.
pub(crate) async fn reason(order: &mut Order, challenge: Challenge) -> Result<(), Error> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        is_final(&authorization?, challenge)?;
    }
    Ok(())
}

fn is_final(authorization: &AuthorizationHandle<'_>, challenge: Challenge) -> Result<bool, Error> {
    let name = plain_name(authorization);
    let ended = |state| Err(Error::Ended { name: name.clone(), state });
    match authorization.status {
        AuthorizationStatus::Pending => Ok(false),
        AuthorizationStatus::Valid => Ok(true),
        AuthorizationStatus::Invalid => {
            let tried = authorization.challenges.iter().filter(|c| c.error.is_some());
            let tried = tried.max_by_key(|c| c.r#type == kind(challenge));
            match tried.and_then(|c| c.error.clone()) {
                Some(problem) => Err(Error::Refused { name, problem }),
                None => ended("invalid"),
            }
        }
        AuthorizationStatus::Revoked => ended("revoked"),
        AuthorizationStatus::Expired => ended("expired"),
        AuthorizationStatus::Deactivated => ended("deactivated"),
    }
}

/// Without the `*.` of a wildcard: what the record in DNS is named after.
fn plain_name(authorization: &AuthorizationHandle<'_>) -> String {
    match authorization.identifier().identifier {
        Identifier::Dns(name) => name.clone(),
        other => other.authorized(false).to_string(),
    }
}

fn kind(challenge: Challenge) -> ChallengeType {
    match challenge {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        Challenge::Dns01 => ChallengeType::Dns01,
    }
}
