//! The pods of a Job: which are its index, which are counted, and those that it makes. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use kube::ResourceExt;

use crate::{objects, templates};

/// Holds a pod until its end is counted.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// The server adds five characters, and a name has 63.
const NAME_PREFIX_MAX: usize = 58;

/// Whether its end is still to be counted.
pub fn is_tracked(pod: &Pod) -> bool {
    pod.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// When a pod is replaced: as soon as it is to go, or when it has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replacement {
    TerminatingOrFailed,
    Failed,
}

impl Replacement {
    /// As upstream, a job that judges failures waits to see them.
    pub fn of(spec: &JobSpec) -> Self {
        match spec.pod_replacement_policy.as_deref() {
            Some("Failed") => Self::Failed,
            Some(_) | None if spec.pod_failure_policy.is_some() => Self::Failed,
            Some(_) | None => Self::TerminatingOrFailed,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    NotYet,
    Succeeded,
    Failed,
}

/// What a pod that is to go and never says how it ended is taken for: a failure. It would hold its finalizer for ever.
pub fn end(pod: &Pod, replacement: Replacement) -> End {
    match objects::phase(pod) {
        "Succeeded" => return End::Succeeded,
        "Failed" => return End::Failed,
        _ if !objects::is_deleted(pod) => return End::NotYet,
        _ => {}
    }
    // One that never ran, or that nobody waits for, may never come to an end of its own.
    let is_given_up = objects::phase(pod) == "Pending" || pod.metadata.deletion_grace_period_seconds == Some(0);
    match replacement {
        Replacement::TerminatingOrFailed => End::Failed,
        Replacement::Failed if is_given_up => End::Failed,
        Replacement::Failed => End::NotYet,
    }
}

pub fn index(pod: &Pod) -> Option<i32> {
    objects::annotation(pod, INDEX)?.parse().ok().filter(|index| *index >= 0)
}

/// How often an index failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    pub failures: i32,
    pub ignored: i32,
}

impl History {
    /// Before the pod was made.
    pub fn before(pod: &Pod) -> Self {
        let count = |key| objects::annotation(pod, key).and_then(|count| count.parse().ok()).unwrap_or(0).max(0);
        Self { failures: count(FAILURES), ignored: count(IGNORED_FAILURES) }
    }

    pub fn total(self) -> i32 {
        self.failures.saturating_add(self.ignored)
    }
}

/// What a pod is told of its index; a history where each index may fail so often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub index: i32,
    pub history: Option<History>,
}

/// A pod as a job makes it, with an index where the job has them.
pub fn pod(job: &Job, place: Option<Place>) -> Pod {
    let mut pod = templates::pod(job, &job.spec.clone().unwrap_or_default().template);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
    }
    if let Some(place) = place {
        put(&mut pod, &job.name_any(), place);
    }
    pod
}

fn put(pod: &mut Pod, job: &str, place: Place) {
    let number = place.index.to_string();
    let mut notes = BTreeMap::from([(INDEX.to_owned(), number.clone())]);
    pod.metadata.labels.get_or_insert_default().extend(notes.clone());
    if let Some(history) = place.history {
        notes.insert(FAILURES.to_owned(), history.failures.to_string());
        if history.ignored > 0 {
            notes.insert(IGNORED_FAILURES.to_owned(), history.ignored.to_string());
        }
    }
    pod.metadata.annotations.get_or_insert_default().extend(notes);
    pod.metadata.generate_name = Some(name_prefix(job, &number));
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{job}-{number}"));
    spec.containers.iter_mut().for_each(tell_index);
    spec.init_containers.iter_mut().flatten().for_each(tell_index);
}

/// A long name is cut in the job's part: the index is what pods are told apart by.
fn name_prefix(job: &str, index: &str) -> String {
    let end = format!("-{index}-");
    let start: String = job.chars().take(NAME_PREFIX_MAX.saturating_sub(end.len())).collect();
    format!("{start}{end}")
}

fn tell_index(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|variable| variable.name == INDEX_VARIABLE) {
        return;
    }
    let field_ref = ObjectFieldSelector {
        field_path: format!("metadata.annotations['{INDEX}']"),
        ..ObjectFieldSelector::default()
    };
    let value_from = Some(EnvVarSource { field_ref: Some(field_ref), ..EnvVarSource::default() });
    variables.push(EnvVar { name: INDEX_VARIABLE.to_owned(), value_from, ..EnvVar::default() });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_knows_its_index() {
        let job: Job = serde_json::from_value(json!({
            "metadata": {"name": "sum", "namespace": "n", "uid": "u"},
            "spec": {"template": {"metadata": {"labels": {"app": "sum"}}, "spec": {"restartPolicy": "Never",
                "initContainers": [{"name": "i", "env": [{"name": "JOB_COMPLETION_INDEX", "value": "own"}]}],
                "containers": [{"name": "a"}]}}},
        }))
        .expect("a Job");
        let history = Some(History { failures: 2, ignored: 1 });
        let pod = pod(&job, Some(Place { index: 3, history }));
        assert_eq!((index(&pod), Some(History::before(&pod)), is_tracked(&pod)), (Some(3), history, true));
        let pod = serde_json::to_value(&pod).expect("JSON");
        let (metadata, spec) = (&pod["metadata"], &pod["spec"]);
        assert_eq!((&metadata["generateName"], &spec["hostname"]), (&json!("sum-3-"), &json!("sum-3")));
        assert_eq!(metadata["labels"], json!({"app": "sum", INDEX: "3"}));
        assert_eq!(metadata["annotations"], json!({INDEX: "3", FAILURES: "2", IGNORED_FAILURES: "1"}));
        assert_eq!(
            (&metadata["finalizers"], &metadata["ownerReferences"][0]["uid"]),
            (&json!([FINALIZER]), &json!("u"))
        );
        let variable = json!({"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {
            "fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}});
        assert_eq!(spec["containers"][0]["env"], json!([variable]));
        let own = json!({"name": "JOB_COMPLETION_INDEX", "value": "own"});
        assert_eq!(spec["initContainers"][0]["env"], json!([own]), "what the template says stays");
        let long = name_prefix(&"n".repeat(63), "12345");
        assert!(long.len() == NAME_PREFIX_MAX && long.ends_with("n-12345-"), "{long}");
    }
}
