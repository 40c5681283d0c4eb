//! Our accounts at CAs: one for each directory and customer, its key in a Secret that is written before it is used.

use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt};
use tokio::sync::Mutex;

use super::http::{self, CaClient};
use super::order::state::short_hash;
use super::wanted::MANAGED_BY;
use crate::annotations::PREFIX;
use crate::config::{Acme, Issuer};

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "ingress.skiff.dev/acme-account";
const KEY: &str = "account.json";

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Client(#[from] http::Error),
    #[error(transparent)]
    Acme(#[from] instant_acme::Error),
    #[error("the Secret of the account cannot be read or written")]
    Api(#[from] kube::Error),
    #[error("the account cannot be written down")]
    Encode(#[from] serde_json::Error),
}

/// Opens accounts, one at a time: orders that start together must not make an account each.
pub(crate) struct Accounts {
    secrets: Api<Secret>,
    email: Option<String>,
    opening: Mutex<()>,
}

impl Accounts {
    pub(crate) fn new(client: Client, acme: &Acme) -> Self {
        Self { secrets: Api::namespaced(client, NAMESPACE), email: acme.email.clone(), opening: Mutex::default() }
    }

    /// The account at the issuer, which is made if there is none.
    pub(crate) async fn open(&self, issuer: &Issuer, client: &CaClient) -> Result<Account, Error> {
        let _one = self.opening.lock().await;
        if let Some(account) = self.existing(issuer, client).await? {
            return Ok(account);
        }
        let made = self.register(issuer, client).await?;
        let secret = secret(issuer, &made)?;
        // One that cannot be read is replaced.
        self.delete(issuer).await?;
        self.secrets.create(&PostParams::default(), &secret).await?;
        let account = Account::builder_with_http(Box::new(client.clone())).from_credentials(made).await?;
        tracing::info!(directory = issuer.directory, account = account.id(), "registered at a CA");
        Ok(account)
    }

    /// The account at the issuer, if there is one.
    pub(crate) async fn existing(&self, issuer: &Issuer, client: &CaClient) -> Result<Option<Account>, Error> {
        let secret = self.secrets.get_opt(&name(issuer)).await?;
        let Some(credentials) = secret.as_ref().and_then(credentials) else { return Ok(None) };
        let builder = Account::builder_with_http(Box::new(client.clone()));
        Ok(Some(builder.from_credentials(credentials).await?))
    }

    /// Forgets an account that the CA does not know; another that was made meanwhile is left alone.
    pub(crate) async fn forget(&self, issuer: &Issuer, account: &Account) -> Result<(), Error> {
        let _one = self.opening.lock().await;
        let secret = self.secrets.get_opt(&name(issuer)).await?;
        let id = secret.as_ref().and_then(|s| s.annotations().get(&format!("{PREFIX}account")).cloned());
        if id.as_deref() == Some(account.id()) {
            self.delete(issuer).await?;
        }
        Ok(())
    }

    async fn delete(&self, issuer: &Issuer) -> Result<(), Error> {
        match self.secrets.delete(&name(issuer), &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn register(&self, issuer: &Issuer, client: &CaClient) -> Result<AccountCredentials, Error> {
        let contact = self.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let account = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let external = issuer.external_account.as_ref();
        let external = external.map(|e| ExternalAccountKey::new(e.key_id.clone(), &e.hmac_key));
        let builder = Account::builder_with_http(Box::new(client.clone()));
        let (_, credentials) = builder.create(&account, issuer.directory.clone(), external.as_ref()).await?;
        Ok(credentials)
    }
}

fn credentials(secret: &Secret) -> Option<AccountCredentials> {
    serde_json::from_slice(&secret.data.as_ref()?.get(KEY)?.0).ok()
}

fn secret(issuer: &Issuer, credentials: &AccountCredentials) -> Result<Secret, Error> {
    let json = serde_json::to_value(credentials)?;
    let mut secret = Secret { type_: Some(TYPE.to_owned()), ..Secret::default() };
    secret.data = Some([(KEY.to_owned(), ByteString(json.to_string().into_bytes()))].into());
    secret.metadata.name = Some(name(issuer));
    secret.metadata.namespace = Some(NAMESPACE.to_owned());
    secret.labels_mut().insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    secret.annotations_mut().insert(format!("{PREFIX}issuer"), issuer.directory.clone());
    let id = json.get("id").and_then(serde_json::Value::as_str).unwrap_or_default();
    secret.annotations_mut().insert(format!("{PREFIX}account"), id.to_owned());
    Ok(secret)
}

fn name(issuer: &Issuer) -> String {
    let customer = issuer.external_account.as_ref().map_or("", |e| e.key_id.as_str());
    format!("acme-account-{}", short_hash(&format!("{}\n{customer}", issuer.directory)))
}
