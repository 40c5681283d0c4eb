//! What controllers ask of typed objects: conditions, selectors, readiness. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource, ResourceExt};
use skiff_object::labels::Selector;

/// A selector that cannot be parsed selects nothing: validation refused it long before.
pub fn selector(selector: &LabelSelector) -> Selector {
    let value = serde_json::to_value(selector).unwrap_or_default();
    Selector::from_label_selector(&value).unwrap_or_else(|_| Selector::nothing())
}

pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: Some(object.name_any()),
        namespace: object.namespace(),
        uid: object.uid(),
        resource_version: object.resource_version(),
        ..ObjectReference::default()
    }
}

pub fn is_deleted<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// Since when a ready pod has been ready.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready").filter(|c| c.status == "True")?.last_transition_time.as_ref().map(|t| t.0)
}

pub fn min_ready(seconds: Option<i32>) -> Duration {
    Duration::from_secs(u64::try_from(seconds.unwrap_or(0)).unwrap_or(0))
}

/// How long a ready pod still has to stay ready to count as available.
pub fn waits(pod: &Pod, min_ready: Duration, now: Timestamp) -> Option<Duration> {
    let passed = Duration::try_from(now.duration_since(ready_since(pod)?)).unwrap_or_default();
    min_ready.checked_sub(passed).filter(|left| !left.is_zero())
}

/// A number, or a share of `total` that is rounded up.
pub fn share(value: &IntOrString, total: usize) -> usize {
    match value {
        IntOrString::Int(number) => usize::try_from(*number).unwrap_or(0),
        IntOrString::String(text) => {
            let percent: usize = text.trim_end_matches('%').parse().unwrap_or(0);
            (total * percent).div_ceil(100)
        }
    }
}

pub fn by_namespace<K: Resource>(objects: &[Arc<K>]) -> HashMap<String, Vec<Arc<K>>> {
    let mut all: HashMap<String, Vec<Arc<K>>> = HashMap::new();
    for object in objects {
        all.entry(object.namespace().unwrap_or_default()).or_default().push(Arc::clone(object));
    }
    all
}

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Pending")
}

pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_deleted(pod)
}

pub fn labels<K: Resource>(object: &K) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    object.meta().labels.as_ref().unwrap_or(&NONE)
}

pub fn annotation<'a, K: Resource>(object: &'a K, key: &str) -> Option<&'a str> {
    object.meta().annotations.as_ref()?.get(key).map(String::as_str)
}

/// Whole seconds, as metav1.Time is written: times that are compared must not differ in what is not stored.
pub fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default()
}

pub fn time(at: Timestamp) -> Time {
    Time(at)
}

/// Whether the API answered that somebody else wrote first, or that the object or its namespace is gone or going: the
/// next snapshot shows it.
pub fn is_outdated(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    matches!(status.code, 404 | 409)
        || (status.code == 403 && status.message.ends_with("because it is being terminated"))
}

/// Whether somebody else wrote since the object was read.
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Whether the server has forgotten the moment that was asked for.
pub fn is_expired(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 410)
}

/// Takes an outdated write as done: there is nothing to write any more, or the next snapshot shows what is left.
pub fn settle<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(error) if is_outdated(&error) => Ok(()),
        result => result.map(drop),
    }
}
