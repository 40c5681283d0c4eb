//! What an autoscaler does next: how many replicas its target gets, and what it says of itself. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, MetricSpec, MetricStatus};
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use super::metrics::Reading;
use super::pace::{self, Bounds, History, Paced};
use super::proposals::{self, Offer, Refused};
use super::replicas::{Basis, Tolerances};
use super::status::{ABLE, ACTIVE, Conditions, LIMITED};
use crate::events::Said;
use crate::scales::Scale;

/// Why it cannot be told which pods a target has. Display is what its event says.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SelectorError {
    #[error("selector is required")]
    Missing,
    #[error("couldn't convert selector into a corresponding internal selector object: {0}")]
    Invalid(String),
    #[error("pods by selector {selector} are controlled by multiple HPAs: [{rivals}]")]
    Ambiguous { selector: String, rivals: String },
}

impl SelectorError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "SelectorRequired",
            Self::Invalid(_) => "InvalidSelector",
            Self::Ambiguous { .. } => "AmbiguousSelector",
        }
    }

    /// The reason and the message of the condition.
    fn condition(&self) -> (&'static str, String) {
        match self {
            Self::Missing => ("InvalidSelector", "the HPA target's scale is missing a selector".to_owned()),
            Self::Invalid(_) | Self::Ambiguous { .. } => (self.reason(), self.to_string()),
        }
    }
}

/// What is to be done about a target, before its metrics are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// Whoever scales to zero turns it off.
    Off,
    /// It is out of bounds: what brings it back.
    Back { to: i32, reason: &'static str },
    /// What its metrics say.
    Metrics,
}

/// What was seen of one autoscaler.
pub struct Observed<'a> {
    pub autoscaler: &'a HorizontalPodAutoscaler,
    pub scale: &'a Scale,
    /// Of the metrics, each in its place; asked only if they count.
    pub readings: Vec<Result<Reading, String>>,
    /// Those of the target, or why they cannot be told.
    pub pods: Result<&'a [Arc<Pod>], SelectorError>,
}

/// What is to be done.
#[derive(Debug)]
pub struct Plan {
    /// To how many, and why.
    pub rescale: Option<(i32, String)>,
    /// What the metrics ask for, to be remembered.
    pub recommended: Option<i32>,
    pub conditions: Conditions,
    /// `None`: they were not asked.
    pub metrics: Option<Vec<MetricStatus>>,
    /// Whether nothing could be worked out; the number that was wanted stays in the status.
    pub is_blind: bool,
    pub said: Vec<Said>,
}

pub fn min(autoscaler: &HorizontalPodAutoscaler) -> i32 {
    autoscaler.spec.min_replicas.unwrap_or(1)
}

fn max(autoscaler: &HorizontalPodAutoscaler) -> i32 {
    autoscaler.spec.max_replicas
}

pub fn metrics(autoscaler: &HorizontalPodAutoscaler) -> &[MetricSpec] {
    autoscaler.spec.metrics.as_deref().unwrap_or_default()
}

pub fn course(autoscaler: &HorizontalPodAutoscaler, scale: &Scale) -> Course {
    let (min, max) = (min(autoscaler), max(autoscaler));
    if scale.wanted == 0 && min != 0 {
        Course::Off
    } else if scale.wanted > max {
        Course::Back { to: max, reason: "Current number of replicas above Spec.MaxReplicas" }
    } else if scale.wanted < min {
        Course::Back { to: min, reason: "Current number of replicas below Spec.MinReplicas" }
    } else {
        Course::Metrics
    }
}

pub fn plan(observed: Observed<'_>, history: &History, clock: Timestamp, now: Instant) -> Plan {
    let Observed { autoscaler, scale, .. } = &observed;
    let mut conditions = Conditions::of(autoscaler, clock);
    let message = "the HPA controller was able to get the target's current scale";
    conditions.set(ABLE, true, "SucceededGetScale", message);
    let rescale = match course(autoscaler, scale) {
        Course::Off => {
            let message = "scaling is disabled since the replica count of the target is zero";
            conditions.set(ACTIVE, false, "ScalingDisabled", message);
            None
        }
        Course::Back { to, reason } => Some((to, reason.to_owned())),
        Course::Metrics => return by_metrics(observed, conditions, history, clock, now),
    };
    Plan { rescale, recommended: None, conditions, metrics: None, is_blind: false, said: Vec::new() }
}

/// The scale could not be read.
pub fn without_scale(autoscaler: &HorizontalPodAutoscaler, why: &str, clock: Timestamp) -> Plan {
    let mut conditions = Conditions::of(autoscaler, clock);
    let message = format!("the HPA controller was unable to get the target's current scale: {why}");
    conditions.set(ABLE, false, "FailedGetScale", message);
    let said = vec![Said::warning("FailedGetScale", why)];
    Plan { rescale: None, recommended: None, conditions, metrics: None, is_blind: true, said }
}

fn by_metrics(
    observed: Observed<'_>,
    mut conditions: Conditions,
    history: &History,
    clock: Timestamp,
    now: Instant,
) -> Plan {
    let Observed { autoscaler, scale, readings, pods } = observed;
    let pods = match pods {
        Ok(pods) => pods,
        Err(why) => {
            let (reason, message) = why.condition();
            conditions.set(ACTIVE, false, reason, message);
            let message = why.to_string();
            let said = vec![
                Said::warning(why.reason(), message.clone()),
                Said::warning("FailedComputeMetricsReplicas", message),
            ];
            return Plan { rescale: None, recommended: None, conditions, metrics: None, is_blind: true, said };
        }
    };
    let tolerances = Tolerances::of(autoscaler);
    let basis = Basis { wanted: scale.wanted, current: scale.current, pods, tolerances, now: clock };
    let specs = metrics(autoscaler);
    let offers: Vec<Result<Offer, Refused>> =
        specs.iter().zip(readings).map(|(spec, reading)| proposals::offer(spec, reading, basis)).collect();
    let mut said: Vec<Said> =
        offers.iter().filter_map(|offer| offer.as_ref().err()).map(|refused| refused.said()).collect();
    let (best, refused) = best(&offers, scale.wanted);
    let metrics = Some(
        offers.iter().map(|offer| offer.as_ref().map_or_else(|_| MetricStatus::default(), Offer::status)).collect(),
    );
    let Some(best) = best else {
        if let Some((first, error)) = refused {
            let message = format!("the HPA was unable to compute the replica count: {}", first.why);
            conditions.set(ACTIVE, false, first.reason, message);
            said.push(Said::warning("FailedComputeMetricsReplicas", error));
        }
        return Plan { rescale: None, recommended: None, conditions, metrics, is_blind: true, said };
    };
    let message = format!("the HPA was able to successfully calculate a replica count from {}", best.name);
    conditions.set(ACTIVE, true, "ValidMetricFound", message);
    let desired = best.proposal.replicas;
    let bounds = Bounds { current: scale.wanted, min: min(autoscaler), max: max(autoscaler) };
    let Paced { replicas, able, limit, is_limited } = pace::paced(autoscaler, bounds, desired, history, now);
    conditions.set(ABLE, true, able.0, able.1);
    conditions.set(LIMITED, is_limited, limit.0, limit.1);
    let reason = match desired.cmp(&scale.wanted) {
        std::cmp::Ordering::Greater => format!("{} above target", best.name),
        std::cmp::Ordering::Less => "All metrics below target".to_owned(),
        std::cmp::Ordering::Equal => String::new(),
    };
    let rescale = (replicas != scale.wanted).then_some((replicas, reason));
    Plan { rescale, recommended: Some(desired), conditions, metrics, is_blind: false, said }
}

/// The offer of most, and the first that is none with all that is to be said of it. Where one is none, the others take
/// nothing away: it might have asked for more.
fn best(offers: &[Result<Offer, Refused>], wanted: i32) -> (Option<&Offer>, Option<(&Refused, String)>) {
    let mut best: Option<&Offer> = None;
    for offer in offers.iter().filter_map(|offer| offer.as_ref().ok()) {
        if best.is_none_or(|best| offer.proposal.replicas > best.proposal.replicas) {
            best = Some(offer);
        }
    }
    let refused: Vec<&Refused> = offers.iter().filter_map(|offer| offer.as_ref().err()).collect();
    let Some(first) = refused.first() else { return (best, None) };
    let (invalid, all) = (refused.len(), offers.len());
    let error = format!("invalid metrics ({invalid} invalid out of {all}), first error is: {}", first.error);
    (best.filter(|best| best.proposal.replicas >= wanted), Some((first, error)))
}
