//! Autoscalers: as many replicas as their metrics ask for, within their bounds and no faster than they say. Scope: cluster.
//!
//! Writes the scale of targets and the status of autoscalers. Looks every fifteen seconds where there are autoscalers, and at
//! one that is new or another at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt};
use skiff_object::labels::Selector;
use skiff_reconcile::{BoxError, Caches, Chain, Changes, Failures, Informer, Next, Reconciler, Recorder, Scope};
use tokio::time::Instant;

use crate::events::{self, Said};
use crate::scales::{Scale, Scales, Target};
use crate::{objects, statuses};

mod metrics;
mod pace;
mod plan;
mod proposals;
mod replicas;
mod status;
#[cfg(test)]
mod tests;

use metrics::Source;
use pace::History;
use plan::{Course, Observed, Plan, SelectorError};
use status::{ABLE, Outcome};

/// Upstream's `--horizontal-pod-autoscaler-sync-period`.
const PERIOD: Duration = Duration::from_secs(15);

/// What is known of an autoscaler.
struct Known {
    generation: Option<i64>,
    looked: Instant,
    history: History,
    /// Of its target's pods, as the scale said.
    selector: Selector,
}

pub struct Controller {
    client: Client,
    recorder: Recorder,
    autoscalers: Informer<HorizontalPodAutoscaler>,
    pods: Informer<Pod>,
    scales: Scales,
    /// By the uids of autoscalers.
    known: HashMap<String, Known>,
}

impl Controller {
    pub fn new(client: Client, recorder: Recorder, caches: &Caches) -> Self {
        let scales = Scales::new(client.clone());
        Self { client, recorder, autoscalers: caches.of(), pods: caches.of(), scales, known: HashMap::new() }
    }

    pub fn wakes(&self) -> Vec<Changes> {
        vec![self.autoscalers.changes()]
    }

    /// How long until an autoscaler is looked at.
    fn left(&self, autoscaler: &HorizontalPodAutoscaler, now: Instant) -> Duration {
        let known = self.known.get(&autoscaler.uid().unwrap_or_default());
        let known = known.filter(|known| known.generation == autoscaler.metadata.generation);
        known.map_or(Duration::ZERO, |known| PERIOD.saturating_sub(now.duration_since(known.looked)))
    }

    /// What cannot be read or worked out is in its status: it is the autoscaler's trouble, and holds up no other.
    async fn look(&mut self, autoscaler: &HorizontalPodAutoscaler, now: Instant) -> Result<(), kube::Error> {
        let uid = autoscaler.uid().unwrap_or_default();
        let known = self.known.entry(uid.clone()).or_insert_with(|| Known {
            generation: None,
            looked: now,
            history: History::default(),
            selector: Selector::nothing(),
        });
        (known.generation, known.looked) = (autoscaler.metadata.generation, now);
        let scale = match self.scale(autoscaler).await {
            Ok(scale) => scale,
            Err(why) => {
                let plan = plan::without_scale(autoscaler, &why, objects::now());
                return self.publish(autoscaler, None, plan, Outcome::Unknown).await;
            }
        };
        if let Some(known) = self.known.get_mut(&uid) {
            known.history.begin(scale.wanted, now);
            known.selector = Selector::parse(&scale.selector).unwrap_or_else(|_| Selector::nothing());
        }
        let plan = self.planned(autoscaler, &scale, &uid, now).await;
        self.apply(autoscaler, &scale, plan, now).await
    }

    async fn scale(&mut self, autoscaler: &HorizontalPodAutoscaler) -> Result<Scale, String> {
        let namespace = autoscaler.namespace().unwrap_or_default();
        let reference = &autoscaler.spec.scale_target_ref;
        let target = Target {
            namespace: &namespace,
            api_version: reference.api_version.as_deref().unwrap_or_default(),
            kind: &reference.kind,
            name: &reference.name,
        };
        self.scales.read(target).await.map_err(|error| error.to_string())
    }

    async fn planned(&mut self, autoscaler: &HorizontalPodAutoscaler, scale: &Scale, uid: &str, now: Instant) -> Plan {
        let namespace = autoscaler.namespace().unwrap_or_default();
        let mut pods: Result<Vec<Arc<Pod>>, SelectorError> = Ok(Vec::new());
        let mut readings = Vec::new();
        if plan::course(autoscaler, scale) == Course::Metrics {
            pods = self.pods_of(&namespace, scale);
            if pods.is_ok() {
                let (client, selector) = (&self.client, &*scale.selector);
                let mut source = Source { client, scales: &mut self.scales, namespace: &namespace, selector };
                for metric in plan::metrics(autoscaler) {
                    readings.push(source.read(metric).await);
                }
            }
        }
        let none = History::default();
        let history = self.known.get(uid).map_or(&none, |known| &known.history);
        let pods = pods.as_deref().map_err(Clone::clone);
        let observed = Observed { autoscaler, scale, readings, pods };
        plan::plan(observed, history, objects::now(), now)
    }

    /// The pods of a target, unless nobody can say which they are or others scale them, too.
    fn pods_of(&self, namespace: &str, scale: &Scale) -> Result<Vec<Arc<Pod>>, SelectorError> {
        if scale.selector.is_empty() {
            return Err(SelectorError::Missing);
        }
        let selector = Selector::parse(&scale.selector).map_err(|error| SelectorError::Invalid(error.to_string()))?;
        let mut pods = self.pods.list();
        pods.retain(|pod| pod.metadata.namespace.as_deref() == Some(namespace));
        pods.retain(|pod| selector.matches(objects::labels(&**pod)));
        let scales = |autoscaler: &Arc<HorizontalPodAutoscaler>| {
            let known = self.known.get(autoscaler.metadata.uid.as_deref().unwrap_or_default());
            let is_here = autoscaler.metadata.namespace.as_deref() == Some(namespace);
            let matches = |known: &Known| pods.iter().any(|pod| known.selector.matches(objects::labels(&**pod)));
            is_here && known.is_some_and(matches)
        };
        let mut rivals: Vec<String> = self
            .autoscalers
            .list()
            .iter()
            .filter(|a| scales(a))
            .map(|a| format!("{namespace}/{}", a.name_any()))
            .collect();
        if rivals.len() > 1 {
            rivals.sort();
            return Err(SelectorError::Ambiguous { selector: scale.selector.clone(), rivals: rivals.join(" ") });
        }
        Ok(pods)
    }

    async fn apply(
        &mut self,
        autoscaler: &HorizontalPodAutoscaler,
        scale: &Scale,
        mut plan: Plan,
        now: Instant,
    ) -> Result<(), kube::Error> {
        let known = self.known.get_mut(&autoscaler.uid().unwrap_or_default());
        let mut history = known.map(|known| &mut known.history);
        if let (Some(history), Some(recommended)) = (&mut history, plan.recommended) {
            history.recommended(recommended, now);
        }
        let mut outcome = if plan.is_blind { Outcome::Unknown } else { Outcome::Kept };
        if let Some((to, reason)) = plan.rescale.take() {
            match self.scales.write(scale, to).await {
                Ok(()) => {
                    let message = format!("the HPA controller was able to update the target scale to {to}");
                    plan.conditions.set(ABLE, true, "SucceededRescale", message);
                    plan.said.push(Said::normal("SuccessfulRescale", format!("New size: {to}; reason: {reason}")));
                    if let Some(history) = history {
                        history.changed(to.saturating_sub(scale.wanted), now);
                    }
                    outcome = Outcome::Rescaled { to };
                }
                Err(error) => {
                    let why = Chain(&error);
                    let message = format!("the HPA controller was unable to update the target scale: {why}");
                    plan.conditions.set(ABLE, false, "FailedUpdateScale", message);
                    let message = format!("New size: {to}; reason: {reason}; error: {why}");
                    plan.said.push(Said::warning("FailedRescale", message));
                    outcome = Outcome::Unknown;
                }
            }
        }
        self.publish(autoscaler, Some(scale), plan, outcome).await
    }

    async fn publish(
        &self,
        autoscaler: &HorizontalPodAutoscaler,
        scale: Option<&Scale>,
        plan: Plan,
        outcome: Outcome,
    ) -> Result<(), kube::Error> {
        events::tell(&self.recorder, autoscaler, &plan.said).await;
        let status = status::status(autoscaler, scale, plan.conditions, plan.metrics, outcome);
        if autoscaler.status.as_ref() == Some(&status) {
            return Ok(());
        }
        statuses::write(&self.client, autoscaler, &status).await
    }
}

impl Reconciler for Controller {
    const NAME: &'static str = "horizontal-pod-autoscaler";
    const SCOPE: Scope = Scope::Cluster;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        self.autoscalers.synced().await;
        let autoscalers = self.autoscalers.list();
        let uids: HashSet<&str> = autoscalers.iter().filter_map(|a| a.metadata.uid.as_deref()).collect();
        self.known.retain(|uid, _| uids.contains(uid.as_str()));
        if autoscalers.is_empty() {
            return Ok(Next::Change);
        }
        self.pods.synced().await;
        let (mut next, mut failures) = (Next::Change, Failures::default());
        for autoscaler in &autoscalers {
            let now = Instant::now();
            let mut left = self.left(autoscaler, now);
            if left.is_zero() {
                let name = format!("{}/{}", autoscaler.namespace().unwrap_or_default(), autoscaler.name_any());
                failures.keep(name, self.look(autoscaler, now).await);
                left = PERIOD;
            }
            next = next.sooner(Next::After(left));
        }
        failures.into_result()?;
        Ok(next)
    }
}
