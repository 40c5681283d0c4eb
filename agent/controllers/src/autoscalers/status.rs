//! What an autoscaler says of itself. Pure.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus, MetricStatus,
};

use crate::objects;
use crate::scales::Scale;

pub const ABLE: &str = "AbleToScale";
pub const ACTIVE: &str = "ScalingActive";
pub const LIMITED: &str = "ScalingLimited";

/// The conditions, as they are to be.
#[derive(Clone, Debug)]
pub struct Conditions {
    list: Vec<HorizontalPodAutoscalerCondition>,
    now: Timestamp,
}

impl Conditions {
    pub fn of(autoscaler: &HorizontalPodAutoscaler, now: Timestamp) -> Self {
        let old = autoscaler.status.as_ref().and_then(|status| status.conditions.clone());
        Self { list: old.unwrap_or_default(), now }
    }

    /// Its time moves when its status does.
    pub fn set(&mut self, ty: &str, holds: bool, reason: &str, message: impl Into<String>) {
        let status = if holds { "True" } else { "False" };
        let place = match self.list.iter().position(|condition| condition.type_ == ty) {
            Some(place) => place,
            None => {
                let new = HorizontalPodAutoscalerCondition { type_: ty.to_owned(), ..Default::default() };
                self.list.push(new);
                self.list.len() - 1
            }
        };
        let condition = &mut self.list[place];
        if condition.status != status {
            condition.last_transition_time = Some(objects::time(self.now));
        }
        condition.status = status.to_owned();
        condition.reason = Some(reason.to_owned());
        condition.message = Some(message.into());
    }
}

/// What came of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody knows how many are to be: the number stays that was known.
    Unknown,
    Kept,
    Rescaled {
        to: i32,
    },
}

/// The status after a plan; `scale` is `None` where there was none to read, and then all stays but the conditions.
pub fn status(
    autoscaler: &HorizontalPodAutoscaler,
    scale: Option<&Scale>,
    conditions: Conditions,
    metrics: Option<Vec<MetricStatus>>,
    outcome: Outcome,
) -> HorizontalPodAutoscalerStatus {
    let old = autoscaler.status.clone().unwrap_or_default();
    let now = conditions.now;
    let conditions = Some(conditions.list);
    let observed_generation = autoscaler.metadata.generation;
    let Some(scale) = scale else { return HorizontalPodAutoscalerStatus { conditions, observed_generation, ..old } };
    let (desired_replicas, last_scale_time) = match outcome {
        Outcome::Unknown => (old.desired_replicas, old.last_scale_time),
        Outcome::Kept => (scale.wanted, old.last_scale_time),
        Outcome::Rescaled { to } => (to, Some(objects::time(now))),
    };
    HorizontalPodAutoscalerStatus {
        conditions,
        current_metrics: metrics.filter(|metrics| !metrics.is_empty()),
        current_replicas: Some(scale.wanted),
        desired_replicas,
        last_scale_time,
        observed_generation,
    }
}
