//! ReplicationControllers: ReplicaSets as they were before. How they keep their pods is shared: see [`crate::replicas`].

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use serde_json::{Map, Value};
use skiff_object::labels::Selector;

use crate::objects;
use crate::replicas::{self, Counts, Replicated};

pub type Controller = replicas::Controller<ReplicationController>;

const FAILURE: &str = "ReplicaFailure";

impl Replicated for ReplicationController {
    const CONTROLLER: &'static str = "replicationcontroller";
    type Status = ReplicationControllerStatus;

    fn wanted(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }

    /// An empty one selects nothing: validation refused it long before.
    fn selector(&self) -> Selector {
        let labels = self.spec.iter().flat_map(|spec| spec.selector.iter().flatten());
        let labels: Map<String, Value> = labels.map(|(key, value)| (key.clone(), value.clone().into())).collect();
        if labels.is_empty() { Selector::nothing() } else { Selector::from_map(&labels) }
    }

    fn template(&self) -> PodTemplateSpec {
        self.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default()
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    fn status(&self) -> Option<&ReplicationControllerStatus> {
        self.status.as_ref()
    }

    fn new_status(&self, counts: Counts, failure: Option<String>, now: Timestamp) -> ReplicationControllerStatus {
        let failure = failure.map(|message| ReplicationControllerCondition {
            type_: FAILURE.to_owned(),
            status: "True".to_owned(),
            reason: Some("FailedCreate".to_owned()),
            message: Some(message),
            last_transition_time: Some(objects::time(now)),
        });
        let old = self.status.as_ref().and_then(|status| status.conditions.clone());
        ReplicationControllerStatus {
            replicas: counts.replicas,
            fully_labeled_replicas: counts.fully_labeled,
            ready_replicas: counts.ready,
            available_replicas: counts.available,
            observed_generation: self.metadata.generation,
            conditions: replicas::conditions(old, failure, |c| c.type_ == FAILURE),
        }
    }
}
