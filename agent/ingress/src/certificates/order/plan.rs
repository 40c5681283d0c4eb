//! The next step of an order, from what is kept of it and what was seen. Pure.
//!
//! Each step is safe to repeat: a crash between any two instructions leads to the same step or to an earlier one.

/// What the order's Secret says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// There is no Secret of the order.
    New,
    /// The key of the certificate is kept; no order at a CA is known.
    Prepared,
    /// The CA's order is known.
    Placed,
}

/// What the CA says of its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remote {
    NotAsked,
    /// The CA does not know the order (any more).
    Gone,
    /// Names are still to be proved.
    Pending,
    /// All names are proved; the CA waits for the request.
    Ready,
    Processing,
    /// The certificate can be fetched.
    Valid,
    /// A name could not be proved, or the CA refused the request.
    Invalid,
}

/// DNS records that were published, or were about to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Records {
    None,
    Left,
}

/// The Secret that the certificate belongs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Certificate {
    /// Absent, or another than this order's.
    Other,
    /// This order's.
    Installed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) phase: Phase,
    pub(crate) remote: Remote,
    pub(crate) records: Records,
    pub(crate) certificate: Certificate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make a key and keep it.
    Prepare,
    /// Place an order at the CA and keep its address. A crash between the two leaves an order that the CA forgets.
    Place,
    /// Ask the CA about its order.
    Ask,
    /// Show the answers to the CA's challenges.
    Prove,
    /// Send the request, always with the same key.
    Finalize,
    /// Give the CA time.
    Wait,
    /// Fetch the certificate and write it to its Secret.
    Install,
    /// Forget the CA's order, to place another.
    Abandon,
    /// Take DNS records down.
    RemoveRecords,
    /// Say why the order failed and when the next is tried.
    Fail,
    /// Delete the order's Secret: the end.
    Forget,
}

pub(crate) fn next(observed: Observed) -> Step {
    let Observed { phase, remote, records, certificate } = observed;
    match (phase, certificate, remote) {
        (Phase::New, _, _) => Step::Prepare,
        (Phase::Prepared | Phase::Placed, Certificate::Installed, _) => after_records(records, Step::Forget),
        (Phase::Prepared, Certificate::Other, _) => after_records(records, Step::Place),
        (Phase::Placed, Certificate::Other, Remote::NotAsked) => Step::Ask,
        (Phase::Placed, Certificate::Other, Remote::Gone) => after_records(records, Step::Abandon),
        (Phase::Placed, Certificate::Other, Remote::Pending) => Step::Prove,
        (Phase::Placed, Certificate::Other, Remote::Ready) => Step::Finalize,
        (Phase::Placed, Certificate::Other, Remote::Processing) => Step::Wait,
        (Phase::Placed, Certificate::Other, Remote::Valid) => Step::Install,
        (Phase::Placed, Certificate::Other, Remote::Invalid) => after_records(records, Step::Fail),
    }
}

fn after_records(records: Records, step: Step) -> Step {
    match records {
        Records::None => step,
        Records::Left => Step::RemoveRecords,
    }
}

#[cfg(test)]
mod tests;
