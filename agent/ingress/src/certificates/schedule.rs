//! What is to be done about a certificate now. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::order::state::State;
use super::renewal::{Leaf, Unreadable, Window};
use super::wanted::{Wanted, is_managed};
use crate::annotations::PREFIX;

/// Nothing waits longer, so that a later time was written when the clock was wrong.
const WAIT_MAX: SignedDuration = SignedDuration::from_hours(8 * 24);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The Secret is not ours to write.
    Foreign,
    /// All is well until then.
    Keep { until: Timestamp },
    /// An order is to be begun or gone on with.
    Order(Why),
    /// An order failed; the next attempt is then.
    Wait { until: Timestamp },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Missing,
    Unreadable(Unreadable),
    NamesChanged,
    Due,
    /// The certificate is there; the rest of its order is cleaned up.
    Unfinished,
}

pub(crate) fn decide(
    wanted: &Wanted,
    secret: Option<&Secret>,
    order: Option<&State>,
    window: Option<Window>,
    now: Timestamp,
) -> Decision {
    if secret.is_some_and(|secret| !is_managed(secret)) {
        return Decision::Foreign;
    }
    let (why, until) = match needed(wanted, secret, window, now) {
        Ok(until) => (None, until),
        Err(why) => (Some(why), now),
    };
    match (why, order) {
        (None, None) => Decision::Keep { until },
        (Some(why), None) => Decision::Order(why),
        (why, Some(order)) => {
            let waits = order.not_before.filter(|at| *at > now && *at <= now + WAIT_MAX && order.names == wanted.names);
            match waits {
                Some(until) => Decision::Wait { until },
                None => Decision::Order(why.unwrap_or(Why::Unfinished)),
            }
        }
    }
}

/// Why a certificate is needed, or until when none is.
fn needed(wanted: &Wanted, secret: Option<&Secret>, window: Option<Window>, now: Timestamp) -> Result<Timestamp, Why> {
    let secret = secret.ok_or(Why::Missing)?;
    let leaf = leaf(secret).map_err(Why::Unreadable)?;
    let asked = secret.annotations().get(&format!("{PREFIX}names"));
    let same = asked.is_none_or(|asked| *asked == wanted.names.join(","));
    if !same || !wanted.names.iter().all(|name| leaf.names.contains(name)) {
        return Err(Why::NamesChanged);
    }
    let at = leaf.renew_at(window);
    if at <= now { Err(Why::Due) } else { Ok(at) }
}

pub(crate) fn leaf(secret: &Secret) -> Result<Leaf, Unreadable> {
    Leaf::read(data(secret, "tls.crt"), data(secret, "tls.key"))
}

pub(crate) fn data<'a>(secret: &'a Secret, key: &str) -> &'a [u8] {
    secret.data.as_ref().and_then(|data| data.get(key)).map_or(&[], |value| &value.0)
}

/// Whether the Secret has this order's certificate: no two orders have the same key.
pub(crate) fn is_installed(secret: Option<&Secret>, order: &State) -> bool {
    secret.is_some_and(|secret| data(secret, "tls.key") == order.key_pem.as_bytes() && leaf(secret).is_ok())
}

#[cfg(test)]
pub(crate) mod tests;
