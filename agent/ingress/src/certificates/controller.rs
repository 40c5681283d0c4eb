//! Keeps the certificates that Ingresses ask for: starts an order where one is needed, each as a task of its own. Scope:
//! cluster.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::Ingress;
use kube::{Api, Client, ResourceExt};
use skiff_reconcile::{BoxError, EventKind, Informer, Next, Reconciler, Recorder, Scope};
use tokio_util::task::AbortOnDropHandle;

use super::accounts::Accounts;
use super::ari::Windows;
use super::dns;
use super::order::state::{self, State};
use super::order::{self, Context};
use super::schedule::{self, Decision};
use super::wanted::{Wanted, is_managed, wanted};
use crate::annotations::PREFIX;
use crate::challenges::Challenges;
use crate::config::Acme;

/// CAs count requests of one address; more at once would only be more failures at once.
const TASKS_MAX: usize = 4;
/// The clock is set within seconds once the network is there.
const CLOCK_POLL: Duration = Duration::from_secs(5);
/// Tasks end without a change of an object that would wake us when they have nothing to do.
const TASK_POLL: Duration = Duration::from_millis(500);
/// After a failure of our own API, which is not counted as the order's.
const PAUSE: Duration = Duration::from_secs(30);
/// The clock may be set at any time: that of a box without a battery is wrong until it reaches a time server.
const SLEEP_MAX: Duration = Duration::from_secs(3600);
/// How often a person is told the same.
const TELL_AGAIN: SignedDuration = SignedDuration::from_hours(24);

/// Which Ingresses are ours.
pub type ClassMatches = Arc<dyn Fn(&Ingress) -> bool + Send + Sync>;

pub struct Inputs {
    pub acme: Acme,
    pub local_domain: String,
    pub class_matches: ClassMatches,
    pub client: Client,
    pub recorder: Recorder,
    pub ingresses: Informer<Ingress>,
    /// Of all namespaces, with their data.
    pub secrets: Informer<Secret>,
    pub challenges: Challenges,
}

/// The namespace and name of the Secret of a certificate.
type Key = (String, String);

pub struct Controller {
    context: Arc<Context>,
    local_domain: String,
    class_matches: ClassMatches,
    ingresses: Informer<Ingress>,
    secrets: Informer<Secret>,
    running: HashMap<Key, AbortOnDropHandle<Result<(), kube::Error>>>,
    paused: HashMap<Key, Instant>,
    told: HashMap<(Key, &'static str), Timestamp>,
}

impl Controller {
    pub fn new(inputs: Inputs) -> Self {
        let accounts = Accounts::new(inputs.client.clone(), &inputs.acme);
        let context = Context {
            acme: inputs.acme,
            client: inputs.client,
            recorder: inputs.recorder,
            challenges: inputs.challenges,
            accounts,
            windows: Windows::default(),
        };
        Self {
            context: Arc::new(context),
            local_domain: inputs.local_domain,
            class_matches: inputs.class_matches,
            ingresses: inputs.ingresses,
            secrets: inputs.secrets,
            running: HashMap::new(),
            paused: HashMap::new(),
            told: HashMap::new(),
        }
    }

    fn wanted(&self) -> Vec<Wanted> {
        if self.context.acme.issuers.is_empty() {
            return Vec::new();
        }
        let ours: Vec<_> = self.ingresses.list().into_iter().filter(|i| (self.class_matches)(i)).collect();
        wanted(&ours, &self.context.acme, &self.local_domain)
    }

    /// Forgets tasks that ended.
    async fn reap(&mut self) {
        let ended: Vec<Key> = self.running.iter().filter(|(_, t)| t.is_finished()).map(|(k, _)| k.clone()).collect();
        for key in ended {
            let Some(task) = self.running.remove(&key) else { continue };
            let failure = match task.await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            tracing::warn!(namespace = key.0, secret = key.1, error = failure, "order was interrupted, will retry");
            self.paused.insert(key, Instant::now() + PAUSE);
        }
        self.paused.retain(|_, until| *until > Instant::now());
    }

    fn start(&mut self, key: Key, task: impl Future<Output = Result<(), kube::Error>> + Send + 'static) {
        let free = self.running.len() < TASKS_MAX && !self.paused.contains_key(&key);
        if free && !self.running.contains_key(&key) {
            self.running.insert(key, AbortOnDropHandle::new(tokio::spawn(task)));
        }
    }

    /// Does what the decision about one certificate says; returns when to look at it again.
    async fn act(&mut self, wanted: &Wanted, now: Timestamp) -> Next {
        let key = (wanted.namespace.clone(), wanted.secret.clone());
        let secret = self.secrets.get(Some(&wanted.namespace), &wanted.secret);
        let kept = self.secrets.get(Some(&wanted.namespace), &state::name(&wanted.secret));
        let kept = kept.as_deref().and_then(State::read);
        let window = secret.as_deref().and_then(|secret| self.context.windows.get(secret));
        let decision = schedule::decide(wanted, secret.as_deref(), kept.as_ref(), window, now);
        if let Some(secret) = secret.as_deref().filter(|secret| is_managed(secret)) {
            self.warn_of_end(wanted, secret, kept.as_ref(), now).await;
        }
        match decision {
            Decision::Foreign => {
                self.tell(wanted, "CertificateFailed", &foreign(wanted), now).await;
                Next::Change
            }
            Decision::Keep { until } => after(until, now).sooner(self.ask_for_window(key, secret, now)),
            Decision::Order(_) => {
                self.start(key, order::run(Arc::clone(&self.context), wanted.clone()));
                // Others may have all the tasks.
                Next::After(TASK_POLL)
            }
            Decision::Wait { until } => after(until, now),
        }
    }

    /// Asks the CA now and then when it would like the certificate to be renewed.
    fn ask_for_window(&mut self, key: Key, secret: Option<Arc<Secret>>, now: Timestamp) -> Next {
        let Some(secret) = secret else { return Next::Change };
        let directory = secret.annotations().get(&format!("{PREFIX}issuer")).cloned();
        let issuer = self.context.acme.issuers.iter().find(|i| Some(&i.directory) == directory.as_ref()).cloned();
        let (Some(issuer), Ok(leaf)) = (issuer, schedule::leaf(&secret)) else { return Next::Change };
        let ask_at = self.context.windows.ask_at(&leaf.serial);
        if ask_at > now {
            return after(ask_at, now);
        }
        let context = Arc::clone(&self.context);
        self.start(key, async move {
            context.windows.ask(&secret, &issuer, &context.accounts).await;
            Ok(())
        });
        Next::After(TASK_POLL)
    }

    async fn warn_of_end(&mut self, wanted: &Wanted, secret: &Secret, kept: Option<&State>, now: Timestamp) {
        let Ok(leaf) = schedule::leaf(secret) else { return };
        if !leaf.is_expiring(now) {
            return;
        }
        let ends = if leaf.not_after > now { "ends" } else { "ended" };
        let at = leaf.not_after.strftime("%Y-%m-%d %H:%M UTC");
        let why = kept.and_then(|kept| kept.last_error.as_deref()).unwrap_or("no attempt has ended yet");
        let message = format!("the certificate for {} {ends} at {at}; {why}", wanted.names.join(", "));
        self.tell(wanted, "CertificateExpiring", &message, now).await;
    }

    /// Tells a person, once a day.
    async fn tell(&mut self, wanted: &Wanted, reason: &'static str, message: &str, now: Timestamp) {
        let key = ((wanted.namespace.clone(), wanted.secret.clone()), reason);
        if self.told.get(&key).is_some_and(|at| *at + TELL_AGAIN > now && *at <= now) {
            return;
        }
        tracing::warn!(
            namespace = wanted.namespace,
            secret = wanted.secret,
            reason,
            detail = message,
            "a certificate needs attention"
        );
        self.context.recorder.event(&wanted.ingress, EventKind::Warning, reason, message).await;
        self.told.insert(key, now);
    }

    /// Orders of certificates that nobody asks for any more.
    fn forget_unwanted(&mut self, wanted: &HashSet<Key>) -> Next {
        let mut next = Next::Change;
        for secret in self.secrets.list() {
            let Some(kept) = State::read(&secret).filter(|_| is_managed(&secret)) else { continue };
            let Some(name) = secret.annotations().get(&format!("{PREFIX}secret")) else { continue };
            let key = (secret.namespace().unwrap_or_default(), name.clone());
            if !wanted.contains(&key) {
                self.start(key, forget(Arc::clone(&self.context), secret, kept));
                next = Next::After(TASK_POLL);
            }
        }
        next
    }
}

/// What cannot be removed from DNS is left there: the settings may be gone with the Ingress.
async fn forget(context: Arc<Context>, secret: Arc<Secret>, kept: State) -> Result<(), kube::Error> {
    if !kept.records.is_empty()
        && let Err(error) = dns::remove(context.acme.dns.as_ref(), &kept.records).await
    {
        tracing::warn!(%error, records = ?kept.records, "records are left in DNS");
    }
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &secret.namespace().unwrap_or_default());
    match secrets.delete(&secret.name_any(), &kube::api::DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) fn foreign(wanted: &Wanted) -> String {
    format!(
        "the Secret {} was not made by Skiff and is left alone; remove it, or name another in spec.tls",
        wanted.secret
    )
}

fn after(at: Timestamp, now: Timestamp) -> Next {
    let delay = Duration::try_from(at.duration_since(now)).unwrap_or_default();
    // Not before the second in which it is due.
    Next::After((delay + Duration::from_millis(10)).min(SLEEP_MAX))
}

impl Reconciler for Controller {
    const NAME: &'static str = "certificates";
    const SCOPE: Scope = Scope::Cluster;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        self.ingresses.synced().await;
        self.secrets.synced().await;
        self.reap().await;
        if skiff_host::clock::is_awaited() {
            // A CA's answers, and what is still valid, cannot be judged by a clock that is about to be set.
            return Ok(Next::After(CLOCK_POLL));
        }
        let wanted = self.wanted();
        let keys: HashSet<Key> = wanted.iter().map(|w| (w.namespace.clone(), w.secret.clone())).collect();
        self.told.retain(|(key, _), _| keys.contains(key));
        let mut next = self.forget_unwanted(&keys);
        for wanted in &wanted {
            next = next.sooner(self.act(wanted, Timestamp::now()).await);
        }
        if !self.running.is_empty() {
            next = next.sooner(Next::After(TASK_POLL));
        }
        Ok(next)
    }
}
