//! Rollouts played through: each plan is applied to a model cluster whose pods become ready one step later.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetStatus};
use kube::ResourceExt;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::plan::{Action, plan, replicas};
use crate::objects;

struct Cluster {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    created: i64,
}

fn deployment(replicas: i32, strategy: Value) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 1},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "strategy": strategy,
            "progressDeadlineSeconds": 600, "revisionHistoryLimit": 2,
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "v1"}]}}},
    }))
    .expect("a Deployment")
}

fn rolling(surge: Value, unavailable: Value) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
}

impl Cluster {
    fn new(deployment: Deployment) -> Self {
        Self { deployment, sets: Vec::new(), created: 1_000_000 }
    }

    fn set_image(&mut self, image: &str) {
        self.deployment.spec.template.spec.as_mut().expect("pod spec").containers[0].image = Some(image.to_owned());
        *self.deployment.metadata.generation.get_or_insert(1) += 1;
    }

    fn scale(&mut self, to: i32) {
        self.deployment.spec.replicas = Some(to);
        *self.deployment.metadata.generation.get_or_insert(1) += 1;
    }

    /// One reconcile; returns whether it did anything.
    fn step(&mut self) -> bool {
        let sets: Vec<_> = self.sets.iter().cloned().map(Arc::new).collect();
        let plan = plan(&self.deployment, &sets, &HashMap::new(), objects::now());
        let busy = !plan.actions.is_empty() || self.deployment.status.as_ref() != Some(&plan.status);
        for action in plan.actions {
            self.apply(action);
        }
        if let Some(revision) = plan.revision {
            let annotations = self.deployment.metadata.annotations.get_or_insert_default();
            annotations.insert(super::plan::REVISION.to_owned(), revision);
        }
        self.deployment.status = Some(plan.status);
        busy
    }

    fn apply(&mut self, action: Action) {
        let find = |sets: &[ReplicaSet], name: &str| sets.iter().position(|s| s.name_any() == name).expect("the set");
        match action {
            Action::Create(mut set) => {
                self.created += 1;
                let at = jiff::Timestamp::from_second(self.created).expect("time");
                set.metadata.creation_timestamp = Some(objects::time(at));
                set.metadata.uid = Some(set.name_any());
                set.metadata.generation = Some(1);
                self.sets.push(*set);
            }
            Action::Scale { set, to, annotations, .. } => {
                let at = find(&self.sets, &set.name_any());
                self.sets[at].spec.replicas = Some(to);
                self.sets[at].metadata.annotations.get_or_insert_default().extend(annotations);
            }
            Action::Annotate { set, annotations, .. } => {
                let at = find(&self.sets, &set.name_any());
                self.sets[at].metadata.annotations.get_or_insert_default().extend(annotations);
            }
            Action::Delete(set) => {
                let at = find(&self.sets, &set.name_any());
                self.sets.remove(at);
            }
        }
    }

    /// The pods of each set follow: all that are wanted run; those of `broken` images never become ready.
    fn pods_follow(&mut self, broken: &str) {
        for set in &mut self.sets {
            let wanted = replicas(set);
            let image = set.spec.template.as_ref().and_then(|t| t.spec.as_ref()?.containers[0].image.clone());
            let ready = if image.as_deref() == Some(broken) { 0 } else { wanted };
            set.status = Some(ReplicaSetStatus {
                replicas: wanted,
                ready_replicas: Some(ready),
                available_replicas: Some(ready),
                observed_generation: set.metadata.generation,
                ..ReplicaSetStatus::default()
            });
        }
    }

    fn settle(&mut self, broken: &str) {
        for _ in 0..200 {
            let busy = self.step();
            self.pods_follow(broken);
            if !busy && !self.step() {
                return;
            }
        }
        panic!("the rollout does not come to rest: {:?}", self.sizes());
    }

    fn sizes(&self) -> Vec<i32> {
        self.sets.iter().map(replicas).collect()
    }

    fn reason(&self) -> String {
        let conditions = self.deployment.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
        conditions
            .iter()
            .find(|c| c.type_.as_deref() == Some("Progressing"))
            .and_then(|c| c.reason.clone())
            .unwrap_or_default()
    }
}

#[test]
fn a_new_deployment_gets_a_set_and_completes() {
    let mut cluster = Cluster::new(deployment(3, rolling(json!("25%"), json!("25%"))));
    cluster.settle("");
    assert_eq!(cluster.sizes(), [3]);
    assert_eq!(cluster.reason(), "NewReplicaSetAvailable");
    assert_eq!(objects::annotation(&cluster.deployment, super::plan::REVISION), Some("1"));
}

#[test]
fn a_rollback_takes_the_old_set_with_a_new_revision() {
    let mut cluster = Cluster::new(deployment(2, rolling(json!(1), json!(0))));
    cluster.settle("");
    cluster.set_image("v2");
    cluster.settle("");
    cluster.set_image("v1");
    cluster.settle("");
    assert_eq!(cluster.sizes(), [2, 0]);
    assert_eq!(objects::annotation(&cluster.sets[0], super::plan::REVISION), Some("3"));
    assert_eq!(objects::annotation(&cluster.deployment, super::plan::REVISION), Some("3"));
}

#[test]
fn a_broken_image_stops_the_rollout_and_the_old_pods_stay() {
    let mut cluster = Cluster::new(deployment(4, rolling(json!(1), json!(0))));
    cluster.settle("");
    cluster.set_image("broken");
    cluster.settle("broken");
    assert_eq!(cluster.sizes(), [4, 1]);
    cluster.set_image("v3");
    cluster.settle("broken");
    assert_eq!(cluster.sizes(), [0, 0, 4]);
}

#[test]
fn history_is_kept_to_its_limit() {
    let mut cluster = Cluster::new(deployment(1, rolling(json!(1), json!(0))));
    for n in 0..6 {
        cluster.set_image(&format!("v{n}"));
        cluster.settle("");
    }
    assert_eq!(cluster.sizes(), [0, 0, 1]);
}

#[test]
fn recreate_takes_everything_down_first() {
    let mut cluster = Cluster::new(deployment(3, json!({"type": "Recreate"})));
    cluster.settle("");
    cluster.set_image("v2");
    cluster.step();
    assert_eq!(cluster.sizes(), [0]);
    cluster.pods_follow("");
    cluster.settle("");
    assert_eq!(cluster.sizes(), [0, 3]);
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_proportional() {
    let mut cluster = Cluster::new(deployment(10, rolling(json!(3), json!(2))));
    cluster.settle("");
    cluster.set_image("broken");
    cluster.settle("broken");
    assert_eq!(cluster.sizes(), [8, 5]);
    cluster.scale(15);
    cluster.step();
    assert_eq!(cluster.sizes().iter().sum::<i32>(), 18, "{:?}", cluster.sizes());
    assert!(cluster.sizes()[0] > 8 && cluster.sizes()[1] > 5, "{:?}", cluster.sizes());
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut cluster = Cluster::new(deployment(2, rolling(json!(1), json!(0))));
    cluster.settle("");
    cluster.deployment.spec.paused = Some(true);
    cluster.set_image("v2");
    cluster.scale(4);
    cluster.settle("");
    assert_eq!(cluster.sizes(), [4]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_rollout_stays_in_bounds_and_arrives(wanted in 1i32..12, surge in 0i32..4, unavailable in 0i32..4) {
        let mut cluster = Cluster::new(deployment(wanted, rolling(json!(surge), json!(unavailable))));
        cluster.settle("");
        cluster.set_image("v2");
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        for _ in 0..200 {
            let busy = cluster.step();
            let total: i32 = cluster.sizes().iter().sum();
            prop_assert!(total <= wanted + surge, "{:?}", cluster.sizes());
            let available: i32 = cluster.sets.iter().map(|s| super::plan::available(s).min(replicas(s))).sum();
            prop_assert!(available >= wanted - unavailable, "{:?}", cluster.sizes());
            cluster.pods_follow("");
            if !busy {
                break;
            }
        }
        cluster.settle("");
        prop_assert_eq!(cluster.sizes(), vec![0, wanted]);
    }
}
