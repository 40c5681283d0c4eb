//! What a DaemonSet needs next: a pod on each node that it is for, of the template it has now, and its status. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec, Toleration};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use skiff_reconcile::Next;

use crate::objects::{self, is_deleted, is_ready};
use crate::revisions::POD_LABEL;
use crate::scheduler;

/// Why a pod goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Failed,
    Succeeded,
    /// The node has another, or is none for it.
    Surplus,
    Outdated,
}

#[derive(Debug)]
pub struct Plan {
    /// Names of nodes that get one.
    pub create: Vec<String>,
    pub delete: Vec<(Arc<Pod>, Why)>,
    pub status: DaemonSetStatus,
    pub next: Next,
}

/// What there is.
pub struct View<'a> {
    pub set: &'a DaemonSet,
    pub nodes: &'a [Arc<Node>],
    /// The set's.
    pub pods: &'a [Arc<Pod>],
    /// What the revision of the template is called on pods.
    pub revision: &'a str,
    pub collisions: Option<i32>,
    /// Nodes where a pod that ended stays for so long yet.
    pub held: &'a HashMap<String, Duration>,
    /// Nodes that were given a pod that is not seen yet.
    pub expected: &'a HashSet<String>,
    /// Pods that were deleted and do not look it yet.
    pub leaving: &'a HashSet<&'a str>,
    pub now: Timestamp,
}

/// One node and the set's pods on it, the oldest first.
struct Place<'a> {
    name: String,
    /// Whether a pod is made here.
    is_wanted: bool,
    /// Whether one that is here may stay.
    is_kept: bool,
    pods: Vec<&'a Arc<Pod>>,
}

/// How many pods may be missing, and how many nodes may have two.
struct Limits {
    unavailable: usize,
    surge: usize,
}

pub fn plan(view: &View<'_>) -> Plan {
    let places = view.places();
    let mut plan = Plan { create: Vec::new(), delete: Vec::new(), status: view.status(&places), next: view.next() };
    if is_deleted(view.set) {
        return plan;
    }
    for place in &places {
        view.tend(place, &mut plan);
    }
    if view.is_rolling() {
        let wanted = places.iter().filter(|place| place.is_wanted).count();
        let limits = view.limits(wanted);
        match limits.surge {
            0 => view.roll(&places, &limits, &mut plan),
            _ => view.surge(&places, &limits, &mut plan),
        }
    }
    plan.delete.retain(|(pod, _)| !view.is_leaving(pod));
    plan.create.retain(|node| !view.expected.contains(node));
    plan
}

/// The node that a pod is on or made for.
pub fn node_of(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    let affinity = || {
        let required = spec.affinity.as_ref()?.node_affinity.as_ref()?;
        let terms = &required.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
        let field = terms.first()?.match_fields.as_ref()?.iter().find(|field| field.key == "metadata.name")?;
        field.values.as_ref()?.first().map(String::as_str)
    };
    spec.node_name.as_deref().or_else(affinity)
}

/// What every pod of a DaemonSet puts up with: it is there for the node, in whatever state that is.
pub fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let every = [
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    ];
    let on_host = ("network-unavailable", "NoSchedule");
    let on_host = Some(on_host).filter(|_| spec.host_network == Some(true));
    let toleration = |(key, effect): (&str, &str)| Toleration {
        key: Some(format!("node.kubernetes.io/{key}")),
        operator: Some("Exists".to_owned()),
        effect: Some(effect.to_owned()),
        ..Toleration::default()
    };
    every.into_iter().chain(on_host).map(toleration).collect()
}

impl<'a> View<'a> {
    fn is_rolling(&self) -> bool {
        self.set.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref()) != Some("OnDelete")
    }

    fn limits(&self, wanted: usize) -> Limits {
        let rolling = self.set.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let count =
            |limit: Option<&IntOrString>, default: usize| limit.map_or(default, |limit| objects::share(limit, wanted));
        let surge = count(rolling.and_then(|rolling| rolling.max_surge.as_ref()), 0);
        let unavailable = count(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), usize::from(surge == 0));
        // Both zero would never end.
        Limits { surge, unavailable: if surge == 0 { unavailable.max(1) } else { unavailable } }
    }

    /// How long a ready pod has still to stay ready to count as available.
    fn waits(&self, pod: &Pod) -> Option<Duration> {
        objects::waits(pod, objects::min_ready(self.set.spec.min_ready_seconds), self.now)
    }

    fn next(&self) -> Next {
        self.pods.iter().filter_map(|pod| self.waits(pod)).min().map_or(Next::Change, Next::After)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        is_ready(pod) && self.waits(pod).is_none()
    }

    fn is_leaving(&self, pod: &Pod) -> bool {
        is_deleted(pod) || self.leaving.contains(pod.metadata.uid.as_deref().unwrap_or_default())
    }

    fn is_new(&self, pod: &Pod) -> bool {
        objects::labels(pod).get(POD_LABEL).is_some_and(|hash| hash == self.revision)
    }

    fn places(&self) -> Vec<Place<'a>> {
        let mut by_node: BTreeMap<&str, Vec<&Arc<Pod>>> = BTreeMap::new();
        for pod in self.pods {
            by_node.entry(node_of(pod).unwrap_or_default()).or_default().push(pod);
        }
        let place = |node: &Arc<Node>| {
            let name = node.name_any();
            let (is_wanted, is_kept) = self.suits(node);
            Place { pods: by_node.remove(name.as_str()).unwrap_or_default(), name, is_wanted, is_kept }
        };
        let mut places: Vec<Place<'_>> = self.nodes.iter().map(place).collect();
        // Of nodes that are gone.
        let gone = by_node.into_iter();
        places.extend(gone.map(|(name, pods)| Place { name: name.to_owned(), is_wanted: false, is_kept: false, pods }));
        for place in &mut places {
            place.pods.sort_by_key(|pod| (pod.creation_timestamp().map(|at| at.0), pod.name_any()));
        }
        places
    }

    /// Whether a node is to have a pod, and whether one that is there may stay: a taint that came later and does not evict
    /// takes nothing away.
    fn suits(&self, node: &Node) -> (bool, bool) {
        let spec = self.set.spec.template.spec.clone().unwrap_or_default();
        if spec.node_name.as_ref().is_some_and(|name| *name != node.name_any())
            || !scheduler::matches_selection(&spec, node)
        {
            return (false, false);
        }
        let tolerations = [spec.tolerations.clone().unwrap_or_default(), tolerations(&spec)].concat();
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let tolerated = |effects: &[&str]| {
            let all = taints.iter().filter(|taint| effects.contains(&taint.effect.as_str()));
            all.into_iter().all(|taint| tolerations.iter().any(|one| scheduler::tolerates(one, taint)))
        };
        (tolerated(&["NoSchedule", "NoExecute"]), tolerated(&["NoExecute"]))
    }

    /// One pod where there is to be one, and none elsewhere.
    fn tend(&self, place: &Place<'_>, plan: &mut Plan) {
        let mut living = Vec::new();
        for pod in &place.pods {
            match objects::phase(pod) {
                _ if self.is_leaving(pod) => {}
                phase @ ("Failed" | "Succeeded") => match self.held.get(&place.name) {
                    Some(left) => plan.next = plan.next.sooner(Next::After(*left)),
                    None => {
                        let why = if phase == "Failed" { Why::Failed } else { Why::Succeeded };
                        plan.delete.push((Arc::clone(pod), why));
                    }
                },
                _ => living.push(*pod),
            }
        }
        if !place.is_kept {
            plan.delete.extend(living.iter().map(|pod| (Arc::clone(pod), Why::Surplus)));
        } else if place.is_wanted && place.pods.is_empty() {
            plan.create.push(place.name.clone());
        } else {
            // While it surges a node has two, one of each template.
            let (new, old): (Vec<_>, Vec<_>) = living.into_iter().partition(|pod| self.is_new(pod));
            let surplus = match self.is_rolling() && self.limits(1).surge > 0 {
                true => new.iter().skip(1).chain(old.iter().skip(1)).copied().collect::<Vec<_>>(),
                false => {
                    let mut all = [old, new].concat();
                    all.sort_by_key(|pod| (pod.creation_timestamp().map(|at| at.0), pod.name_any()));
                    all.into_iter().skip(1).collect()
                }
            };
            plan.delete.extend(surplus.into_iter().map(|pod| (Arc::clone(pod), Why::Surplus)));
        }
    }

    /// The old pod and the new one of a node, as far as they live.
    fn generations<'p>(&self, place: &'p Place<'a>) -> (Option<&'p Arc<Pod>>, Option<&'p Arc<Pod>>) {
        let mut living = place.pods.iter().copied().filter(|pod| objects::is_active(pod) && !self.is_leaving(pod));
        let old = living.clone().find(|pod| !self.is_new(pod));
        (old, living.find(|pod| self.is_new(pod)))
    }

    /// Old pods go while no more are missing than may be; those that are missing already go at once.
    fn roll(&self, places: &[Place<'a>], limits: &Limits, plan: &mut Plan) {
        let (mut missing, mut broken, mut candidates) = (0, Vec::new(), Vec::new());
        for place in places.iter().filter(|place| place.is_wanted) {
            match self.generations(place) {
                (Some(old), None) if self.is_available(old) => candidates.push(old),
                (Some(old), None) => broken.push(old),
                (None, Some(new)) if self.is_available(new) => {}
                (None, Some(_)) | (None, None) | (Some(_), Some(_)) => missing += 1,
            }
        }
        let free = limits.unavailable.saturating_sub(missing + broken.len());
        let going = broken.into_iter().chain(candidates.into_iter().take(free));
        plan.delete.extend(going.map(|pod| (Arc::clone(pod), Why::Outdated)));
    }

    /// A new pod comes beside the old one, which goes when the new one is available.
    fn surge(&self, places: &[Place<'a>], limits: &Limits, plan: &mut Plan) {
        let (mut surging, mut broken, mut candidates) = (0, Vec::new(), Vec::new());
        for place in places.iter().filter(|place| place.is_wanted) {
            match self.generations(place) {
                (Some(old), Some(new)) if self.is_available(new) => {
                    plan.delete.push((Arc::clone(old), Why::Outdated));
                }
                (Some(_), Some(_)) => surging += 1,
                (Some(_), None) if self.expected.contains(&place.name) => surging += 1,
                (Some(old), None) if self.is_available(old) => candidates.push(place.name.clone()),
                (Some(_), None) => broken.push(place.name.clone()),
                (None, Some(_) | None) => {}
            }
        }
        let free = limits.surge.saturating_sub(surging);
        plan.create.extend(broken.into_iter().chain(candidates).take(free));
    }

    fn status(&self, places: &[Place<'a>]) -> DaemonSetStatus {
        let mut status = DaemonSetStatus {
            observed_generation: self.set.metadata.generation,
            collision_count: self.collisions,
            conditions: self.set.status.as_ref().and_then(|status| status.conditions.clone()),
            ..DaemonSetStatus::default()
        };
        let (mut updated, mut available) = (0, 0);
        for place in places {
            let living: Vec<_> = place.pods.iter().filter(|pod| !is_deleted(&****pod)).collect();
            if !place.is_wanted {
                status.number_misscheduled += i32::from(!living.is_empty());
                continue;
            }
            status.desired_number_scheduled += 1;
            let Some(oldest) = living.first() else { continue };
            status.current_number_scheduled += 1;
            let ready = living.iter().find(|pod| is_ready(pod));
            status.number_ready += i32::from(ready.is_some());
            available += i32::from(living.iter().any(|pod| self.is_available(pod)));
            updated += i32::from(self.is_new(ready.unwrap_or(oldest)));
        }
        let some = |count: i32| Some(count).filter(|count| *count > 0);
        status.updated_number_scheduled = some(updated);
        status.number_available = some(available);
        status.number_unavailable = some(status.desired_number_scheduled - available);
        status
    }
}
