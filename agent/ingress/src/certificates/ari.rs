//! When CAs would like certificates to be renewed (RFC 9773): asked now and then, kept in memory only.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;

use super::accounts::Accounts;
use super::http::CaClient;
use super::renewal::{self, Window};
use super::schedule;
use crate::config::Issuer;

/// What CAs say in Retry-After; sooner would not be used.
const ASK_DELAY_MIN: SignedDuration = SignedDuration::from_hours(6);
const ASK_DELAY_MAX: SignedDuration = SignedDuration::from_hours(48);
/// Certificates remembered; all are forgotten when there are more, and asked about again.
const REMEMBERED_MAX: usize = 1024;

#[derive(Clone, Copy)]
struct Known {
    window: Option<Window>,
    ask_at: Timestamp,
}

/// By the certificate's serial number.
#[derive(Default)]
pub(crate) struct Windows {
    known: Mutex<HashMap<Vec<u8>, Known>>,
}

impl Windows {
    pub(crate) fn get(&self, secret: &Secret) -> Option<Window> {
        let serial = schedule::leaf(secret).ok()?.serial;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&serial).and_then(|known| known.window)
    }

    /// When the CA is to be asked about the certificate; past if it was never.
    pub(crate) fn ask_at(&self, serial: &[u8]) -> Timestamp {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(serial).map_or(Timestamp::MIN, |known| known.ask_at)
    }

    /// A failure is only that: the window known before is kept.
    pub(crate) async fn ask(&self, secret: &Secret, issuer: &Issuer, accounts: &Accounts) {
        let Ok(leaf) = schedule::leaf(secret) else { return };
        let (window, delay) = match suggested(secret, issuer, accounts).await {
            Some((window, delay)) => (Some(window), delay),
            None => (self.get(secret), ASK_DELAY_MIN),
        };
        let known = Known { window, ask_at: Timestamp::now() + delay.clamp(ASK_DELAY_MIN, ASK_DELAY_MAX) };
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED_MAX {
            all.clear();
        }
        all.insert(leaf.serial, known);
    }
}

async fn suggested(secret: &Secret, issuer: &Issuer, accounts: &Accounts) -> Option<(Window, SignedDuration)> {
    let certificate = renewal::identifier(schedule::data(secret, "tls.crt"))?;
    let client = CaClient::new(issuer.trust_root.as_deref()).ok()?;
    let account = accounts.existing(issuer, &client).await.ok()??;
    let (info, delay) = account
        .renewal_info(&certificate)
        .await
        .inspect_err(|error| tracing::debug!(%error, directory = issuer.directory, "the CA suggests no renewal time"))
        .ok()?;
    let time = |at: i64| Timestamp::from_second(at).ok();
    let window = Window {
        start: time(info.suggested_window.start.unix_timestamp())?,
        end: time(info.suggested_window.end.unix_timestamp())?,
    };
    Some((window, bounded(delay)))
}

fn bounded(delay: Duration) -> SignedDuration {
    SignedDuration::try_from(delay).unwrap_or(ASK_DELAY_MAX)
}
