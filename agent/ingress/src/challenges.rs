//! Answers to a CA's challenges that the proxy has to show: who orders a certificate puts them here and waits until the
//! proxy serves them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// What a CA comes to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// RFC 8555, 8.3: the body of `/.well-known/acme-challenge/TOKEN`.
    Http { token: String, key_authorization: String },
    /// RFC 8737: the certificate for `acme-tls/1`, both in PEM.
    TlsAlpn { name: String, certificate: String, key: String },
}

#[derive(Debug, Default)]
struct State {
    answers: BTreeMap<u64, Answer>,
    next: u64,
}

/// Clones share the same answers.
#[derive(Clone, Debug)]
pub struct Challenges {
    state: Arc<Mutex<State>>,
    /// Raised with every change of the answers.
    version: Arc<watch::Sender<u64>>,
    /// The version that the proxy serves.
    served: Arc<watch::Sender<u64>>,
}

impl Default for Challenges {
    fn default() -> Self {
        Self {
            state: Arc::default(),
            version: Arc::new(watch::Sender::new(0)),
            served: Arc::new(watch::Sender::new(0)),
        }
    }
}

/// An answer is taken down when this is dropped.
#[derive(Debug)]
pub struct Shown {
    challenges: Challenges,
    id: u64,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.challenges.change(|state| {
            state.answers.remove(&self.id);
        });
    }
}

impl Challenges {
    /// Returns once the proxy serves the answer.
    pub async fn show(&self, answer: Answer) -> Shown {
        let mut id = 0;
        let wanted = self.change(|state| {
            id = state.next;
            state.next += 1;
            state.answers.insert(id, answer);
        });
        let shown = Shown { challenges: self.clone(), id };
        let mut served = self.served.subscribe();
        // The sender lives as long as `self`, so that waiting cannot fail.
        let _ = served.wait_for(|version| *version >= wanted).await;
        shown
    }

    /// All answers, and the version to name in `mark_served`.
    pub(crate) fn current(&self) -> (u64, Vec<Answer>) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (*self.version.borrow(), state.answers.values().cloned().collect())
    }

    pub(crate) fn mark_served(&self, version: u64) {
        self.served.send_if_modified(|served| {
            let newer = version > *served;
            *served = version.max(*served);
            newer
        });
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn change(&self, change: impl FnOnce(&mut State)) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        self.version.send_modify(|version| *version += 1);
        *self.version.borrow()
    }
}
