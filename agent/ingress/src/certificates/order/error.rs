//! Why an order failed, and what that means for it.

use instant_acme::Problem;

use super::prove;
use crate::certificates::explain::{self, Attempt};
use crate::certificates::renewal::Unreadable;
use crate::certificates::{accounts, dns, http};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Of our own API; not the order's fault.
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Acme(#[from] instant_acme::Error),
    #[error(transparent)]
    Client(#[from] http::Error),
    #[error(transparent)]
    Dns(#[from] dns::Error),
    #[error(transparent)]
    Prove(prove::Error),
    /// The CA refused after all names were proved.
    #[error("the CA calls the order invalid")]
    Invalid(Option<Problem>),
    #[error("a key or a request for the certificate cannot be made")]
    Request(#[from] rcgen::Error),
    #[error("the CA's certificate is of no use: {0}")]
    Certificate(#[from] Unreadable),
    #[error("the Secret {0} was made by someone else meanwhile; remove it, or name another")]
    Foreign(String),
    #[error("the account at the CA cannot be written down")]
    Account(#[from] serde_json::Error),
    #[error("the CA took too long")]
    TooLong,
}

impl From<accounts::Error> for Error {
    fn from(error: accounts::Error) -> Self {
        match error {
            accounts::Error::Client(error) => Error::Client(error),
            accounts::Error::Acme(error) => Error::Acme(error),
            accounts::Error::Api(error) => Error::Api(error),
            accounts::Error::Encode(error) => Error::Account(error),
        }
    }
}

impl From<prove::Error> for Error {
    fn from(error: prove::Error) -> Self {
        match error {
            prove::Error::Acme(error) => Error::Acme(error),
            prove::Error::Dns(error) => Error::Dns(error),
            prove::Error::Certificate(error) => Error::Request(error),
            error @ (prove::Error::NotOffered { .. }
            | prove::Error::Refused { .. }
            | prove::Error::Ended { .. }
            | prove::Error::NotShown
            | prove::Error::NotLooked(_)) => Error::Prove(error),
        }
    }
}

impl Error {
    /// The type of the ACME problem, without its prefix.
    pub(crate) fn kind(&self) -> Option<&str> {
        match self {
            Error::Acme(error) => explain::kind(error),
            _ => None,
        }
    }

    /// Whether the CA's order is of no use any more.
    pub(crate) fn ends_order(&self) -> bool {
        match self {
            Error::Invalid(_) | Error::Certificate(_) | Error::TooLong => true,
            Error::Prove(error) => !matches!(error, prove::Error::NotShown),
            Error::Acme(instant_acme::Error::Api(_)) => {
                !matches!(self.kind(), Some("rateLimited" | "serverInternal" | "badNonce"))
            }
            Error::Api(_)
            | Error::Acme(_)
            | Error::Client(_)
            | Error::Dns(_)
            | Error::Request(_)
            | Error::Foreign(_)
            | Error::Account(_) => false,
        }
    }

    pub(crate) fn sentence(&self, attempt: Attempt<'_>) -> String {
        match self {
            Error::Acme(error) => explain::error(error, attempt),
            Error::Prove(prove::Error::Refused { name, problem }) => {
                explain::problem(problem, Attempt { name: Some(name), ..attempt })
            }
            Error::Invalid(Some(problem)) => explain::problem(problem, attempt),
            Error::Api(_)
            | Error::Client(_)
            | Error::Dns(_)
            | Error::Prove(_)
            | Error::Invalid(None)
            | Error::Request(_)
            | Error::Certificate(_)
            | Error::Foreign(_)
            | Error::Account(_)
            | Error::TooLong => self.to_string(),
        }
    }
}
