//! ReplicaSets. How they keep their pods is shared: see [`crate::replicas`].

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use skiff_object::labels::Selector;

use crate::objects;
use crate::replicas::{self, Counts, Replicated};

pub type Controller = replicas::Controller<ReplicaSet>;

const FAILURE: &str = "ReplicaFailure";

impl Replicated for ReplicaSet {
    const CONTROLLER: &'static str = "replicaset";
    type Status = ReplicaSetStatus;

    fn wanted(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    fn selector(&self) -> Selector {
        objects::selector(&self.spec.selector)
    }

    fn template(&self) -> PodTemplateSpec {
        self.spec.template.clone().unwrap_or_default()
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.min_ready_seconds.unwrap_or(0)
    }

    fn status(&self) -> Option<&ReplicaSetStatus> {
        self.status.as_ref()
    }

    fn new_status(&self, counts: Counts, failure: Option<String>, now: Timestamp) -> ReplicaSetStatus {
        let failure = failure.map(|message| ReplicaSetCondition {
            type_: Some(FAILURE.to_owned()),
            status: Some("True".to_owned()),
            reason: Some("FailedCreate".to_owned()),
            message: Some(message),
            last_transition_time: Some(objects::time(now)),
        });
        let old = self.status.as_ref().and_then(|status| status.conditions.clone());
        ReplicaSetStatus {
            replicas: counts.replicas,
            fully_labeled_replicas: counts.fully_labeled,
            ready_replicas: counts.ready,
            available_replicas: counts.available,
            terminating_replicas: counts.terminating,
            observed_generation: self.metadata.generation,
            conditions: replicas::conditions(old, failure, |c| c.type_.as_deref() == Some(FAILURE)),
        }
    }
}
