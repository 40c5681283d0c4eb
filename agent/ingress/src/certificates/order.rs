//! Gets one certificate: the steps that `plan` names, taken one after the other until the end or a failure.
//!
//! It owns the Secrets of orders and those of the certificates that it ordered. Killed at any instruction, the next
//! run goes on from what the order's Secret says.

pub(crate) mod error;
pub(crate) mod plan;
pub(crate) mod prove;
pub(crate) mod state;
mod steps;

use std::sync::Arc;
use std::time::Duration;

use instant_acme::Account;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt};
use skiff_reconcile::{EventKind, Recorder};

use super::accounts::Accounts;
use super::ari::Windows;
use super::http::CaClient;
use super::schedule::{self, Decision};
use super::wanted::{Wanted, is_managed};
use super::{dns, explain};
use crate::challenges::Challenges;
use crate::config::{Acme, Issuer};
use error::Error;
use plan::{Certificate, Observed, Phase, Records, Remote};
use state::State;

/// Far more than an order takes: the steps of one run, bad nonces included.
const STEPS_MAX: usize = 400;
/// The CA's servers may not agree on nonces for a while; the library tries three times by itself.
const NONCE_RETRIES_MAX: u32 = 20;
/// Above all waiting inside, with an hour of propagation in DNS.
const RUN_TIME_MAX: Duration = Duration::from_secs(2 * 3600);

/// What all orders share.
pub(crate) struct Context {
    pub(crate) acme: Acme,
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    pub(crate) challenges: Challenges,
    pub(crate) accounts: Accounts,
    pub(crate) windows: Windows,
}

/// The order's Secret and what it says, as last read or written.
struct Kept {
    state: State,
    secret: Secret,
}

struct Ca {
    client: CaClient,
    account: Account,
}

struct Order {
    context: Arc<Context>,
    wanted: Wanted,
    issuer: Issuer,
    secrets: Api<Secret>,
    kept: Option<Kept>,
    /// The Secret that the certificate belongs in.
    target: Option<Secret>,
    ca: Option<Ca>,
    /// The CA's order, once asked for.
    remote: Option<instant_acme::Order>,
    known: Remote,
    waits: u32,
}

enum Flow {
    Next,
    End,
}

/// Runs until the certificate is there, or the failure is written down. An error is one of our own API.
pub(crate) async fn run(context: Arc<Context>, wanted: Wanted) -> Result<(), kube::Error> {
    let Some(mut order) = Order::load(context, wanted).await? else { return Ok(()) };
    let failure = match tokio::time::timeout(RUN_TIME_MAX, order.go()).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(Error::Api(error))) => return Err(error),
        Ok(Err(failure)) => failure,
        Err(_) => Error::TooLong,
    };
    order.fail(failure).await
}

/// What cannot be read any more is of no use, and in the way.
async fn read_or_delete(secrets: &Api<Secret>, secret: Option<Secret>) -> Result<Option<Kept>, kube::Error> {
    let Some(secret) = secret else { return Ok(None) };
    match State::read(&secret) {
        Some(state) => Ok(Some(Kept { state, secret })),
        None if is_managed(&secret) => {
            secrets.delete(&secret.name_any(), &DeleteParams::default()).await?;
            Ok(None)
        }
        None => Ok(None),
    }
}

impl Order {
    /// Looks at the objects themselves, as a cache may not show yet what the last run did.
    async fn load(context: Arc<Context>, wanted: Wanted) -> Result<Option<Self>, kube::Error> {
        let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &wanted.namespace);
        let target = secrets.get_opt(&wanted.secret).await?;
        let secret = secrets.get_opt(&state::name(&wanted.secret)).await?;
        let kept = read_or_delete(&secrets, secret).await?;
        let window = target.as_ref().and_then(|secret| context.windows.get(secret));
        let state = kept.as_ref().map(|kept| &kept.state);
        match schedule::decide(&wanted, target.as_ref(), state, window, Timestamp::now()) {
            Decision::Order(why) => {
                tracing::info!(namespace = wanted.namespace, secret = wanted.secret, ?why, "ordering a certificate");
            }
            Decision::Foreign | Decision::Keep { .. } | Decision::Wait { .. } => return Ok(None),
        }
        let failures = state.filter(|s| s.names == wanted.names).map_or(0, |s| s.failures);
        let Some(issuer) = state::issuer(failures, &context.acme.issuers).cloned() else { return Ok(None) };
        let mut order = Self {
            context,
            wanted,
            issuer,
            secrets,
            kept,
            target,
            ca: None,
            remote: None,
            known: Remote::NotAsked,
            waits: 0,
        };
        order.adopt().await?;
        Ok(Some(order))
    }

    /// Changes what is kept of an order for other names or for another issuer; its records in DNS are not forgotten.
    async fn adopt(&mut self) -> Result<(), kube::Error> {
        let Some(kept) = &self.kept else { return Ok(()) };
        let mut state = kept.state.clone();
        if state.names != self.wanted.names {
            let Ok(key) = rcgen::KeyPair::generate() else { return Ok(()) };
            state.names.clone_from(&self.wanted.names);
            state.key_pem = key.serialize_pem();
            (state.url, state.failures, state.not_before, state.last_error) = (None, 0, None, None);
        }
        if state.issuer != self.issuer.directory {
            state.issuer.clone_from(&self.issuer.directory);
            state.url = None;
        }
        if state == kept.state { Ok(()) } else { self.keep(state).await }
    }

    /// Makes the state durable.
    async fn keep(&mut self, state: State) -> Result<(), kube::Error> {
        let secret = match &self.kept {
            Some(kept) => {
                let mut secret = kept.secret.clone();
                secret.data = Some(state.to_data());
                self.secrets.replace(&state::name(&self.wanted.secret), &PostParams::default(), &secret).await?
            }
            None => self.secrets.create(&PostParams::default(), &state::secret(&self.wanted, &state)).await?,
        };
        self.kept = Some(Kept { state, secret });
        Ok(())
    }

    async fn change(&mut self, change: impl FnOnce(&mut State)) -> Result<(), kube::Error> {
        let Some(kept) = &self.kept else { return Ok(()) };
        let mut state = kept.state.clone();
        change(&mut state);
        self.keep(state).await
    }

    async fn go(&mut self) -> Result<(), Error> {
        let mut nonce_retries = 0;
        let mut registered_again = false;
        for _ in 0..STEPS_MAX {
            let step = plan::next(self.observed());
            tracing::debug!(secret = self.wanted.secret, ?step, "order");
            match self.apply(step).await {
                Ok(Flow::Next) => {}
                Ok(Flow::End) => return Ok(()),
                Err(error) if error.kind() == Some("badNonce") && nonce_retries < NONCE_RETRIES_MAX => {
                    nonce_retries += 1;
                }
                Err(error) if error.kind() == Some("accountDoesNotExist") && !registered_again => {
                    registered_again = true;
                    self.forget_account().await?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::TooLong)
    }

    fn observed(&self) -> Observed {
        let state = self.kept.as_ref().map(|kept| &kept.state);
        Observed {
            phase: match state {
                None => Phase::New,
                Some(State { url: None, .. }) => Phase::Prepared,
                Some(State { url: Some(_), .. }) => Phase::Placed,
            },
            remote: self.known,
            records: if state.is_some_and(|s| !s.records.is_empty()) { Records::Left } else { Records::None },
            certificate: match state {
                Some(state) if schedule::is_installed(self.target.as_ref(), state) => Certificate::Installed,
                Some(_) | None => Certificate::Other,
            },
        }
    }

    /// The CA lost the account, and with it the order.
    async fn forget_account(&mut self) -> Result<(), Error> {
        if let Some(ca) = self.ca.take() {
            self.context.accounts.forget(&self.issuer, &ca.account).await?;
        }
        (self.remote, self.known) = (None, Remote::NotAsked);
        Ok(self.change(|state| state.url = None).await?)
    }

    fn attempt(&self) -> explain::Attempt<'_> {
        let only_name = match self.wanted.names.as_slice() {
            [only] => Some(only.as_str()),
            _ => None,
        };
        explain::Attempt { directory: &self.issuer.directory, name: None, only_name, challenge: self.wanted.challenge }
    }

    /// Writes down why, and when it is tried again.
    async fn fail(&mut self, error: Error) -> Result<(), kube::Error> {
        let sentence = error.sentence(self.attempt());
        let retry_after = self.ca.as_ref().and_then(|ca| ca.client.take_retry_after());
        let removed = match &self.kept {
            Some(kept) if !kept.state.records.is_empty() => {
                dns::remove(self.context.acme.dns.as_ref(), &kept.state.records).await.is_ok()
            }
            Some(_) | None => false,
        };
        let Some(kept) = &self.kept else {
            tracing::error!(error = sentence, "an order could not be begun");
            return Ok(());
        };
        let mut state = kept.state.clone().failed(sentence.clone(), retry_after, Timestamp::now());
        if removed {
            state.records.clear();
        }
        if error.ends_order() {
            state.url = None;
        }
        let next = state.not_before.map(|at| at.strftime("%Y-%m-%d %H:%M UTC").to_string()).unwrap_or_default();
        self.keep(state).await?;
        let names = self.wanted.names.join(", ");
        tracing::warn!(names, error = sentence, next, "no certificate, will retry");
        let what = match self.observed().certificate {
            Certificate::Other => "no certificate for",
            Certificate::Installed => "there is a certificate, but its order could not be ended, for",
        };
        let message = format!("{what} {names}: {sentence}; the next attempt is at {next}");
        self.event(EventKind::Warning, "CertificateFailed", &message).await;
        Ok(())
    }

    async fn event(&self, kind: EventKind, reason: &str, message: &str) {
        self.context.recorder.event(&self.wanted.ingress, kind, reason, message).await;
    }
}
