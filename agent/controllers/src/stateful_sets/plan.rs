//! What a StatefulSet needs next: pods to make and delete in the order of their numbers, claims, and its status. Pure.
//!
//! At most one pod of each number, by its name. What a plan asks for it asks for again while the cache does not show it, of the
//! same pods: nothing is done twice to two of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use skiff_reconcile::Next;

use super::identity::{self, Keeper, revision_of};
use crate::objects::{self, is_deleted, is_ready};

#[derive(Debug)]
pub enum Action {
    /// With the claims that are missing, which come first.
    Create {
        pod: Box<Pod>,
        claims: Vec<PersistentVolumeClaim>,
    },
    /// Claims of a pod that waits for them.
    Claim {
        pod: Arc<Pod>,
        claims: Vec<PersistentVolumeClaim>,
    },
    Delete(Arc<Pod>, Why),
    /// Who the pod is, where somebody took it away.
    Name {
        pod: Arc<Pod>,
        labels: BTreeMap<String, String>,
    },
    Own {
        claim: Arc<PersistentVolumeClaim>,
        owners: Vec<OwnerReference>,
    },
}

/// Why a pod goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Failed,
    Succeeded,
    Surplus,
    Outdated,
}

#[derive(Debug)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub status: StatefulSetStatus,
    pub next: Next,
}

/// What there is.
pub struct View<'a> {
    pub set: &'a StatefulSet,
    /// The set's: each has a number.
    pub pods: &'a [Arc<Pod>],
    /// Of the set's namespace, by name.
    pub claims: &'a BTreeMap<String, Arc<PersistentVolumeClaim>>,
    /// Of which the pods were before the rollout, and of which they are to be.
    pub current: &'a ControllerRevision,
    pub update: &'a ControllerRevision,
    pub collisions: Option<i32>,
    pub now: Timestamp,
}

/// Steps of one pass: what is left is done when these are seen.
const BURST: usize = 100;

/// By number.
type Replicas = BTreeMap<i32, Arc<Pod>>;
/// The largest number first.
type Condemned = Vec<(i32, Arc<Pod>)>;

/// Whether the rest waits for what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    GoOn,
    Wait,
}

pub fn plan(view: &View<'_>) -> Plan {
    let mut actions = Vec::new();
    if !is_deleted(view.set) {
        view.advance(&mut actions);
    }
    let waits = view.pods.iter().filter_map(|pod| view.waits(pod)).min();
    Plan { actions, status: view.status(), next: waits.map_or(Next::Change, Next::After) }
}

impl View<'_> {
    fn first(&self) -> i32 {
        self.set.spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0)
    }

    fn wanted(&self) -> i32 {
        self.set.spec.replicas.unwrap_or(1).max(0)
    }

    fn is_ordered(&self) -> bool {
        self.set.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    fn is_rolling(&self) -> bool {
        self.set.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref()) != Some("OnDelete")
    }

    /// Pods with a smaller number keep the revision they have.
    fn partition(&self) -> i32 {
        let rolling = self.set.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        rolling.and_then(|rolling| rolling.partition).unwrap_or(0)
    }

    fn max_unavailable(&self) -> usize {
        let rolling = self.set.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let wanted = usize::try_from(self.wanted()).unwrap_or(0);
        let most = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        most.map_or(1, |most| objects::share(most, wanted)).max(1)
    }

    /// How long a ready pod has still to stay ready to count as available.
    fn waits(&self, pod: &Pod) -> Option<Duration> {
        objects::waits(pod, objects::min_ready(self.set.spec.min_ready_seconds), self.now)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        is_running_and_ready(pod) && self.waits(pod).is_none()
    }

    /// Available, and not on its way out.
    fn is_healthy(&self, pod: &Pod) -> bool {
        self.is_available(pod) && !is_deleted(pod)
    }

    /// Those that are to be, and those that are not.
    fn sorted(&self) -> (Replicas, Condemned) {
        let numbered = self.pods.iter().filter_map(|pod| {
            let ordinal = identity::ordinal(self.set, &pod.name_any())?;
            Some((ordinal, Arc::clone(pod)))
        });
        let wanted = self.first()..self.first().saturating_add(self.wanted());
        let (wanted, mut condemned): (Vec<_>, Vec<_>) = numbered.partition(|(ordinal, _)| wanted.contains(ordinal));
        condemned.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
        (wanted.into_iter().collect(), condemned)
    }

    fn advance(&self, actions: &mut Vec<Action>) {
        let (replicas, condemned) = self.sorted();
        for ordinal in self.first()..self.first().saturating_add(self.wanted()) {
            let then = self.tend(ordinal, replicas.get(&ordinal), actions);
            if then == Then::Wait || actions.len() >= BURST {
                return;
            }
        }
        if self.scale_down(&replicas, &condemned, actions) == Then::Wait {
            return;
        }
        if self.is_rolling() {
            self.roll(&replicas, actions);
        }
    }

    /// One number: the pod is there, whole, and has what it is to have.
    fn tend(&self, ordinal: i32, pod: Option<&Arc<Pod>>, actions: &mut Vec<Action>) -> Then {
        let ordered = |then: Then| if self.is_ordered() { then } else { Then::GoOn };
        let Some(pod) = pod else {
            if let Some(action) = self.create(ordinal) {
                actions.push(action);
            }
            return ordered(Then::Wait);
        };
        if is_deleted(&**pod) {
            return ordered(Then::Wait);
        }
        match objects::phase(pod) {
            // Its name has to be free before there is another.
            "Failed" => actions.push(Action::Delete(Arc::clone(pod), Why::Failed)),
            "Succeeded" => actions.push(Action::Delete(Arc::clone(pod), Why::Succeeded)),
            phase => {
                if phase == "Pending" {
                    self.claim(ordinal, pod, actions);
                }
                self.name(ordinal, pod, actions);
                self.own(ordinal, pod, identity::keeper(self.set, false), actions);
                if self.is_available(pod) {
                    return Then::GoOn;
                }
                if self.is_ordered() && self.is_to_roll(ordinal, pod) && self.is_stuck(pod) {
                    actions.push(Action::Delete(Arc::clone(pod), Why::Outdated));
                }
            }
        }
        ordered(Then::Wait)
    }

    fn is_to_roll(&self, ordinal: i32, pod: &Pod) -> bool {
        let is_beyond = ordinal >= self.first().saturating_add(self.partition());
        self.is_rolling() && is_beyond && revision_of(pod) != self.update.name_any() && !is_deleted(pod)
    }

    /// What does not start, or is of a template that was given up, would be waited for without end: a better template must
    /// reach it. Upstream leaves that to people.
    fn is_stuck(&self, pod: &Pod) -> bool {
        revision_of(pod) != self.current.name_any() || does_not_start(pod)
    }

    /// A claim that is on its way out is waited for: its successor has its name.
    fn create(&self, ordinal: i32) -> Option<Action> {
        let claims = identity::claims(self.set, ordinal);
        let found = |claim: &PersistentVolumeClaim| self.claims.get(&claim.name_any());
        if claims.iter().filter_map(found).any(|claim| is_deleted(&**claim)) {
            return None;
        }
        let is_old = self.is_rolling() && ordinal < self.first().saturating_add(self.partition());
        let pod = identity::pod(self.set, if is_old { self.current } else { self.update }, ordinal);
        let missing = claims.into_iter().filter(|claim| found(claim).is_none());
        let owned = missing.map(|mut claim| {
            let keeper = identity::keeper(self.set, false);
            claim.metadata.owner_references = identity::owners_of(self.set, &pod, &claim, keeper);
            claim
        });
        Some(Action::Create { claims: owned.collect(), pod: Box::new(pod) })
    }

    fn claim(&self, ordinal: i32, pod: &Arc<Pod>, actions: &mut Vec<Action>) {
        let mut missing = identity::claims(self.set, ordinal);
        missing.retain(|claim| !self.claims.contains_key(&claim.name_any()));
        if !missing.is_empty() {
            actions.push(Action::Claim { pod: Arc::clone(pod), claims: missing });
        }
    }

    fn name(&self, ordinal: i32, pod: &Arc<Pod>, actions: &mut Vec<Action>) {
        let labels = identity::lost(self.set, pod, ordinal);
        if !labels.is_empty() {
            actions.push(Action::Name { pod: Arc::clone(pod), labels });
        }
    }

    /// Returns whether anything of it was otherwise.
    fn own(&self, ordinal: i32, pod: &Pod, keeper: Keeper, actions: &mut Vec<Action>) -> bool {
        let before = actions.len();
        for wanted in identity::claims(self.set, ordinal) {
            let Some(claim) = self.claims.get(&wanted.name_any()) else { continue };
            if let Some(owners) = identity::owners_of(self.set, pod, claim, keeper) {
                actions.push(Action::Own { claim: Arc::clone(claim), owners });
            }
        }
        actions.len() > before
    }

    /// The largest numbers go first; in order, one after the other, and while none before it is in trouble.
    fn scale_down(&self, replicas: &Replicas, condemned: &Condemned, actions: &mut Vec<Action>) -> Then {
        let upwards = replicas.values().chain(condemned.iter().rev().map(|(_, pod)| pod));
        let first_unhealthy = upwards.into_iter().find(|pod| !self.is_healthy(pod)).map(|pod| pod.name_any());
        for (ordinal, pod) in condemned {
            if is_deleted(&**pod) {
                if self.is_ordered() {
                    return Then::Wait;
                }
                continue;
            }
            let runs = !objects::is_terminal(pod) && !does_not_start(pod);
            let may_go = !runs || self.is_available(pod) || first_unhealthy == Some(pod.name_any());
            if self.is_ordered() && !may_go {
                return Then::Wait;
            }
            // Whose claims go with it has them first: a pod that is gone can own nothing.
            if self.own(*ordinal, pod, identity::keeper(self.set, true), actions) {
                continue;
            }
            actions.push(Action::Delete(Arc::clone(pod), Why::Surplus));
            if self.is_ordered() {
                return Then::Wait;
            }
        }
        Then::GoOn
    }

    /// The largest numbers go first, while no more are missing than may be. What is missing already takes nothing away, but
    /// no more than so many are on their way at once.
    fn roll(&self, replicas: &Replicas, actions: &mut Vec<Action>) {
        let (update, most) = (self.update.name_any(), self.max_unavailable());
        let wanted = usize::try_from(self.wanted()).unwrap_or(0);
        let count = |is_counted: &dyn Fn(&Pod) -> bool| replicas.values().filter(|pod| is_counted(pod)).count();
        let mut missing = wanted.saturating_sub(count(&|pod| self.is_healthy(pod)));
        let is_outdated = |pod: &Pod| revision_of(pod) != update && !is_deleted(pod);
        let mut moving = missing.saturating_sub(count(&|pod| is_outdated(pod) && !self.is_healthy(pod)));
        for (ordinal, pod) in replicas.iter().rev() {
            let is_healthy = self.is_healthy(pod);
            if !self.is_to_roll(*ordinal, pod) || (if is_healthy { missing } else { moving }) >= most {
                continue;
            }
            let is_going = actions.iter().any(|action| matches!(action, Action::Delete(going, _) if going == pod));
            if !is_going {
                actions.push(Action::Delete(Arc::clone(pod), Why::Outdated));
            }
            missing += usize::from(is_healthy);
            moving += 1;
        }
    }

    fn status(&self) -> StatefulSetStatus {
        let count = |is_counted: &dyn Fn(&Pod) -> bool| {
            let counted = self.pods.iter().filter(|pod| is_counted(pod)).count();
            i32::try_from(counted).unwrap_or(i32::MAX)
        };
        let of = |revision: &ControllerRevision| {
            count(&|pod: &Pod| !is_deleted(pod) && revision_of(pod) == revision.name_any())
        };
        let some = |count: i32| Some(count).filter(|count| *count > 0);
        let (replicas, ready) = (count(&|_| true), count(&is_running_and_ready));
        let (mut current, updated) = (self.current, of(self.update));
        if self.is_rolling() && [updated, ready, replicas] == [self.wanted(); 3] {
            current = self.update;
        }
        StatefulSetStatus {
            observed_generation: self.set.metadata.generation,
            replicas,
            ready_replicas: some(ready),
            available_replicas: Some(count(&|pod| self.is_available(pod))),
            current_replicas: some(of(current)),
            updated_replicas: some(updated),
            current_revision: Some(current.name_any()),
            update_revision: Some(self.update.name_any()),
            collision_count: self.collisions,
            conditions: self.set.status.as_ref().and_then(|status| status.conditions.clone()),
        }
    }
}

fn is_running_and_ready(pod: &Pod) -> bool {
    objects::phase(pod) == "Running" && is_ready(pod)
}

/// Whether one of its containers waits for something other than its turn.
fn does_not_start(pod: &Pod) -> bool {
    const STARTING: &[&str] = &["ContainerCreating", "PodInitializing"];
    let all = pod.status.iter().flat_map(|status| {
        [&status.init_container_statuses, &status.container_statuses].into_iter().flatten().flatten()
    });
    let waits = all.filter_map(|container| container.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
    waits.into_iter().any(|reason| !STARTING.contains(&reason))
}
