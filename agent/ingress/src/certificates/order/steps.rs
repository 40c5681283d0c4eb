//! Takes the steps of an order. It decides nothing: `plan` does.

use std::time::Duration;

use instant_acme::{CertificateIdentifier, Identifier, NewOrder, OrderStatus};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use skiff_reconcile::EventKind;

use super::error::Error;
use super::plan::{Remote, Step};
use super::state::{self, State};
use super::{Ca, Flow, Order, prove};
use crate::annotations::PREFIX;
use crate::certificates::http::CaClient;
use crate::certificates::renewal::{self, Leaf};
use crate::certificates::wanted::{MANAGED_BY, is_managed};
use crate::certificates::{dns, schedule};
use crate::config::Challenge;

const TLS: &str = "kubernetes.io/tls";
/// CAs issue within seconds; under load it is minutes.
const WAITS_MAX: u32 = 120;
const WAIT_MAX: Duration = Duration::from_secs(5);

impl Order {
    pub(super) async fn apply(&mut self, step: Step) -> Result<Flow, Error> {
        match step {
            Step::Prepare => self.prepare().await?,
            Step::Place => self.place().await?,
            Step::Ask => self.ask().await?,
            Step::Prove => self.prove().await?,
            Step::Finalize => self.finalize().await?,
            Step::Wait => self.wait().await?,
            Step::Install => self.install().await?,
            Step::Abandon => {
                (self.remote, self.known) = (None, Remote::NotAsked);
                self.change(|state| state.url = None).await?;
            }
            Step::RemoveRecords => self.remove_records().await?,
            Step::Fail => return Err(self.reason().await),
            Step::Forget => {
                self.forget().await?;
                return Ok(Flow::End);
            }
        }
        Ok(Flow::Next)
    }

    async fn prepare(&mut self) -> Result<(), Error> {
        let state = State {
            names: self.wanted.names.clone(),
            issuer: self.issuer.directory.clone(),
            url: None,
            key_pem: KeyPair::generate()?.serialize_pem(),
            failures: 0,
            not_before: None,
            last_error: None,
            records: Vec::new(),
        };
        Ok(self.keep(state).await?)
    }

    async fn ca(&mut self) -> Result<&Ca, Error> {
        let ca = match self.ca.take() {
            Some(ca) => ca,
            None => {
                let client = CaClient::new(self.issuer.trust_root.as_deref())?;
                let account = self.context.accounts.open(&self.issuer, &client).await?;
                Ca { client, account }
            }
        };
        Ok(self.ca.insert(ca))
    }

    async fn place(&mut self) -> Result<(), Error> {
        let identifiers: Vec<_> = self.wanted.names.iter().cloned().map(Identifier::Dns).collect();
        let replaces = self.replaces();
        let profile = self.issuer.profile.clone();
        let account = self.ca().await?.account.clone();
        let new = || match &profile {
            Some(profile) => NewOrder::new(&identifiers).profile(profile),
            None => NewOrder::new(&identifiers),
        };
        let placed = match replaces {
            Some(replaced) => match account.new_order(&new().replaces(replaced)).await {
                Err(error) if is_about_replacing(&error) => account.new_order(&new()).await,
                placed => placed,
            },
            None => account.new_order(&new()).await,
        };
        let placed = placed?;
        let url = placed.url().to_owned();
        self.learn(placed);
        Ok(self.change(|state| state.url = Some(url)).await?)
    }

    /// The certificate that this one is instead of, if it is from the same CA.
    fn replaces(&self) -> Option<CertificateIdentifier<'static>> {
        let old = self.target.as_ref()?;
        let same = old.annotations().get(&format!("{PREFIX}issuer")) == Some(&self.issuer.directory);
        if same { renewal::identifier(schedule::data(old, "tls.crt")) } else { None }
    }

    fn learn(&mut self, mut remote: instant_acme::Order) {
        self.known = match remote.state().status {
            OrderStatus::Pending => Remote::Pending,
            OrderStatus::Ready => Remote::Ready,
            OrderStatus::Processing => Remote::Processing,
            OrderStatus::Valid => Remote::Valid,
            OrderStatus::Invalid => Remote::Invalid,
        };
        self.remote = Some(remote);
    }

    /// The CA's order, which `plan` asks for before any step that uses it.
    fn take_remote(&mut self) -> Result<instant_acme::Order, Error> {
        self.known = Remote::NotAsked;
        self.remote.take().ok_or(Error::Invalid(None))
    }

    async fn ask(&mut self) -> Result<(), Error> {
        let url = self.kept.as_ref().and_then(|kept| kept.state.url.clone()).unwrap_or_default();
        let account = self.ca().await?.account.clone();
        match account.order(url).await {
            Ok(remote) => self.learn(remote),
            Err(error) if is_unknown_order(&error) => self.known = Remote::Gone,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn prove(&mut self) -> Result<(), Error> {
        let challenge = self.wanted.challenge;
        let mut remote = self.take_remote()?;
        let proofs = prove::pending(&mut remote, challenge).await?;
        if challenge == Challenge::Dns01 {
            self.change(|state| {
                state.records.extend(proofs.iter().map(prove::Proof::record));
                state.records.sort();
                state.records.dedup();
            })
            .await?;
        }
        prove::publish(&proofs, challenge, self.context.acme.dns.as_ref()).await?;
        let shown = prove::show(&proofs, challenge, &self.context.challenges).await?;
        prove::look(&mut remote, challenge).await?;
        drop(shown);
        remote.refresh().await?;
        if remote.state().status == OrderStatus::Pending {
            self.count_wait().await?;
        }
        self.learn(remote);
        Ok(())
    }

    async fn finalize(&mut self) -> Result<(), Error> {
        let key = self.kept.as_ref().map(|kept| kept.state.key_pem.clone()).unwrap_or_default();
        let mut params = CertificateParams::new(self.wanted.names.clone())?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&KeyPair::from_pem(&key)?)?;
        let mut remote = self.take_remote()?;
        match remote.finalize_csr(request.der()).await {
            Ok(()) => self.learn(remote),
            // It was finalized before, or its state changed: it is asked for again.
            Err(error) if super::explain::kind(&error) == Some("orderNotReady") => self.count_wait().await?,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn wait(&mut self) -> Result<(), Error> {
        let mut remote = self.take_remote()?;
        self.count_wait().await?;
        remote.refresh().await?;
        self.learn(remote);
        Ok(())
    }

    async fn count_wait(&mut self) -> Result<(), Error> {
        self.waits += 1;
        if self.waits > WAITS_MAX {
            return Err(Error::TooLong);
        }
        tokio::time::sleep((Duration::from_millis(200) * self.waits).min(WAIT_MAX)).await;
        Ok(())
    }

    async fn install(&mut self) -> Result<(), Error> {
        let mut remote = self.take_remote()?;
        let chain = remote.certificate().await?.ok_or(Error::TooLong)?;
        let key = self.kept.as_ref().map(|kept| kept.state.key_pem.clone()).unwrap_or_default();
        let leaf = Leaf::read(chain.as_bytes(), key.as_bytes())?;
        self.write_certificate(chain, key).await?;
        self.learn(remote);
        let (names, until) = (self.wanted.names.join(", "), leaf.not_after.strftime("%Y-%m-%d").to_string());
        tracing::info!(names, secret = self.wanted.secret, until, "certificate issued");
        let message =
            format!("the certificate for {names} is in the Secret {}, valid until {until}", self.wanted.secret);
        self.event(EventKind::Normal, "CertificateIssued", &message).await;
        Ok(())
    }

    async fn write_certificate(&mut self, chain: String, key: String) -> Result<(), Error> {
        let name = self.wanted.secret.clone();
        let current = self.secrets.get_opt(&name).await?;
        if current.as_ref().is_some_and(|secret| !is_managed(secret)) {
            return Err(Error::Foreign(name));
        }
        let mut secret = current.clone().unwrap_or_default();
        secret.metadata.name = Some(name.clone());
        secret.type_ = Some(TLS.to_owned());
        secret.data =
            Some([("tls.crt", chain), ("tls.key", key)].map(|(k, v)| (k.into(), ByteString(v.into()))).into());
        secret.labels_mut().insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
        secret.annotations_mut().insert(format!("{PREFIX}issuer"), self.issuer.directory.clone());
        secret.annotations_mut().insert(format!("{PREFIX}names"), self.wanted.names.join(","));
        self.target = Some(match current {
            Some(old) if old.type_.as_deref() == Some(TLS) => {
                self.secrets.replace(&name, &PostParams::default(), &secret).await?
            }
            // The type of a Secret cannot be changed.
            Some(_) => {
                self.secrets.delete(&name, &DeleteParams::default()).await?;
                self.secrets.create(&PostParams::default(), &new(secret)).await?
            }
            None => self.secrets.create(&PostParams::default(), &secret).await?,
        });
        Ok(())
    }

    async fn remove_records(&mut self) -> Result<(), Error> {
        let records = self.kept.as_ref().map(|kept| kept.state.records.clone()).unwrap_or_default();
        match dns::remove(self.context.acme.dns.as_ref(), &records).await {
            Ok(()) => {}
            // The settings that they were published with are gone; there is nobody to ask.
            Err(dns::Error::NotConfigured) => tracing::warn!(?records, "records are left in DNS"),
            Err(error) => return Err(error.into()),
        }
        Ok(self.change(|state| state.records.clear()).await?)
    }

    /// What the CA has against the order.
    async fn reason(&mut self) -> Error {
        let Some(mut remote) = self.remote.take() else { return Error::Invalid(None) };
        match prove::reason(&mut remote, self.wanted.challenge).await {
            Ok(()) => Error::Invalid(remote.state().error.clone()),
            Err(error) => error.into(),
        }
    }

    async fn forget(&mut self) -> Result<(), Error> {
        match self.secrets.delete(&state::name(&self.wanted.secret), &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A copy without what the API gave the old one.
fn new(mut secret: Secret) -> Secret {
    (secret.metadata.uid, secret.metadata.resource_version) = (None, None);
    secret
}

/// Whether the order may be taken without naming the certificate that it replaces.
fn is_about_replacing(error: &instant_acme::Error) -> bool {
    match error {
        instant_acme::Error::Api(_) => !matches!(
            super::explain::kind(error),
            Some("badNonce" | "rateLimited" | "accountDoesNotExist" | "externalAccountRequired" | "userActionRequired")
        ),
        // Of the library: the CA has no ARI, or did not repeat the field.
        instant_acme::Error::Unsupported(_) => true,
        instant_acme::Error::Other(other) => other.downcast_ref::<crate::certificates::http::Error>().is_none(),
        _ => false,
    }
}

/// A CA forgets orders, and does not show those of an account that was replaced.
fn is_unknown_order(error: &instant_acme::Error) -> bool {
    match error {
        instant_acme::Error::Api(problem) => {
            matches!(problem.status, Some(403 | 404)) || super::explain::kind(error) == Some("malformed")
        }
        _ => false,
    }
}
