//! What a budget's status says, and which pods were to go and stayed. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use serde_json::json;
use skiff_reconcile::Next;

use super::sizes::{SizeError, Sizes};
use crate::events::Said;
use crate::objects;

/// Within this a pod that may go has to be on its way: upstream's number.
const GOING_TIME_MAX: SignedDuration = SignedDuration::from_secs(120);
/// When a budget is looked at again that could not be counted, if nothing changes before.
const RETRY: Duration = Duration::from_secs(30);
/// The condition of pods that are about to be disrupted.
pub const TARGET: &str = "DisruptionTarget";
const ALLOWED: &str = "DisruptionAllowed";

#[derive(Debug)]
pub struct Plan {
    pub status: PodDisruptionBudgetStatus,
    pub said: Vec<Said>,
    /// Pods that might go and are still there.
    pub stayed: Vec<Arc<Pod>>,
    pub next: Next,
}

/// How many pods there are to be, and how many of them healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    pods: i32,
    healthy: i32,
}

/// The pods that a budget is about: none without a selector, all of its namespace with an empty one.
pub fn selected(budget: &PodDisruptionBudget, pods: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
    let Some(selector) = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else { return Vec::new() };
    let selector = objects::selector(selector);
    let here = |pod: &&Arc<Pod>| pod.metadata.namespace == budget.metadata.namespace;
    pods.iter().filter(here).filter(|pod| selector.matches(objects::labels(&***pod))).cloned().collect()
}

/// Whether it matters how many pods their controllers are to have.
pub fn counts_controllers(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.as_ref();
    spec.is_some_and(|spec| {
        spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
    })
}

/// `pods` are those that the budget selects.
pub fn plan(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], sizes: Result<Sizes, SizeError>, now: Timestamp) -> Plan {
    let mut said = Vec::new();
    if pods.is_empty() {
        said.push(Said::normal("NoPods", "No matching pods found".to_owned()));
    }
    let counted = match sizes {
        Ok(sizes) => {
            said.extend(sizes.unmanaged.then(|| unmanaged(budget)));
            wanted(budget, pods.len(), sizes.total())
        }
        Err(error) => {
            let why = error.to_string();
            if let SizeError::NoController(_) = error {
                said.push(Said::warning("NoControllers", why.clone()));
            }
            Err(why)
        }
    };
    match counted {
        Ok(wanted) => {
            let (going, stayed, next) = going(budget, pods, now);
            Plan { status: status(budget, pods, wanted, going, now), said, stayed, next }
        }
        Err(why) => {
            let message = format!("Failed to calculate the number of expected pods: {why}");
            said.push(Said::warning("CalculateExpectedPodCountFailed", message));
            Plan { status: failed(budget, &why, now), said, stayed: Vec::new(), next: Next::After(RETRY) }
        }
    }
}

fn unmanaged(budget: &PodDisruptionBudget) -> Said {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let message = format!(
        "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status of \
         the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please \
         set \".spec.minAvailable\" field of the PDB to an integer value.",
        json!(selector)
    );
    Said::warning("UnmanagedPods", message)
}

/// Without a limit nothing is expected, and so nothing allowed.
fn wanted(budget: &PodDisruptionBudget, pods: usize, total: i32) -> Result<Wanted, String> {
    let spec = budget.spec.as_ref();
    let max = spec.and_then(|spec| spec.max_unavailable.as_ref());
    let min = spec.and_then(|spec| spec.min_available.as_ref());
    match (max, min) {
        (Some(max), _) => {
            let healthy = total.saturating_sub(rounded_up(max, total)?).max(0);
            Ok(Wanted { pods: total, healthy })
        }
        (None, Some(IntOrString::Int(healthy))) => {
            Ok(Wanted { pods: i32::try_from(pods).unwrap_or(i32::MAX), healthy: *healthy })
        }
        (None, Some(min)) => Ok(Wanted { pods: total, healthy: rounded_up(min, total)? }),
        (None, None) => Ok(Wanted { pods: 0, healthy: 0 }),
    }
}

/// A count, or a share of `total`.
fn rounded_up(value: &IntOrString, total: i32) -> Result<i32, String> {
    match value {
        IntOrString::Int(count) => Ok(*count),
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%').and_then(|number| number.parse::<u32>().ok());
            let percent =
                percent.ok_or_else(|| format!("invalid value for IntOrString: {text:?} is not a valid percentage"))?;
            let share = (i64::from(percent) * i64::from(total.max(0)) + 99) / 100;
            Ok(i32::try_from(share).unwrap_or(i32::MAX))
        }
    }
}

/// The pods that may go and are not on their way yet, those that had their time, and when that of the next is over.
fn going(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Vec<Arc<Pod>>, Next) {
    let (mut going, mut stayed, mut next) = (BTreeMap::new(), Vec::new(), Next::Change);
    let noted = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
    for pod in pods.iter().filter(|pod| !objects::is_deleted(&***pod)) {
        let Some(since) = noted.and_then(|noted| noted.get(&pod.name_any())) else { continue };
        match left(since.0, now) {
            Some(left) => {
                next = next.sooner(Next::After(left));
                going.insert(pod.name_any(), since.clone());
            }
            None => stayed.push(Arc::clone(pod)),
        }
    }
    (going, stayed, next)
}

/// How much of its time to go a pod has.
fn left(since: Timestamp, now: Timestamp) -> Option<Duration> {
    let left = GOING_TIME_MAX - now.duration_since(since);
    // Times are of whole seconds.
    (left >= SignedDuration::ZERO).then(|| left.unsigned_abs() + Duration::from_secs(1))
}

fn status(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    wanted: Wanted,
    going: BTreeMap<String, Time>,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let counts = |pod: &&Arc<Pod>| {
        !objects::is_deleted(&***pod) && !going.contains_key(&pod.name_any()) && objects::is_ready(pod)
    };
    let healthy = i32::try_from(pods.iter().filter(counts).count()).unwrap_or(i32::MAX);
    // Where no pods are expected none may go: the first ones may come before this is written anew.
    let allowed = if wanted.pods > 0 { healthy.saturating_sub(wanted.healthy).max(0) } else { 0 };
    let generation = budget.metadata.generation;
    let (status, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    PodDisruptionBudgetStatus {
        conditions: Some(conditions(budget, status, reason, String::new(), generation, now)),
        current_healthy: Some(healthy),
        desired_healthy: Some(wanted.healthy),
        disrupted_pods: Some(going).filter(|going| !going.is_empty()),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(wanted.pods),
        observed_generation: generation,
    }
}

/// What cannot be counted allows nothing.
fn failed(budget: &PodDisruptionBudget, why: &str, now: Timestamp) -> PodDisruptionBudgetStatus {
    let old = budget.status.clone().unwrap_or_default();
    let conditions = conditions(budget, "False", "SyncFailed", why.to_owned(), old.observed_generation, now);
    PodDisruptionBudgetStatus { conditions: Some(conditions), disruptions_allowed: Some(0), ..old }
}

/// Its time moves when it becomes another.
fn conditions(
    budget: &PodDisruptionBudget,
    status: &str,
    reason: &str,
    message: String,
    observed_generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let old = budget.status.as_ref().and_then(|status| status.conditions.clone());
    let mut conditions = old.unwrap_or_default();
    let mut wanted = Condition {
        type_: ALLOWED.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation,
        last_transition_time: objects::time(now),
    };
    match conditions.iter_mut().find(|condition| condition.type_ == ALLOWED) {
        Some(old) => {
            if old.status == wanted.status {
                wanted.last_transition_time = old.last_transition_time.clone();
            }
            *old = wanted;
        }
        None => conditions.push(wanted),
    }
    conditions
}

/// Pods that were about to be disrupted for too long, and when the next will have been. What a node ends has its time.
pub fn stale(pods: &[Arc<Pod>], now: Timestamp) -> (Vec<Arc<Pod>>, Next) {
    let (mut stale, mut next) = (Vec::new(), Next::Change);
    for pod in pods.iter().filter(|pod| objects::is_active(pod)) {
        let Some(target) = objects::condition(pod, TARGET) else { continue };
        if target.status != "True" || target.reason.as_deref() == Some("TerminationByKubelet") {
            continue;
        }
        match target.last_transition_time.as_ref().and_then(|since| left(since.0, now)) {
            Some(left) => next = next.sooner(Next::After(left)),
            None => stale.push(Arc::clone(pod)),
        }
    }
    (stale, next)
}
