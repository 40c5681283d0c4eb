//! What a Job's policies say of a pod that failed, and of the indexes that succeeded. Pure.

use k8s_openapi::api::batch::v1::{PodFailurePolicy, PodFailurePolicyOnPodConditionsPattern};
use k8s_openapi::api::batch::v1::{PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicy};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;

use super::indexes::Indexes;
use crate::objects;

/// What the failure of a pod means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is one of the failures that the job may have.
    Count,
    Ignore,
    FailIndex,
    /// The job fails, and this is why.
    FailJob(String),
}

/// The first rule that applies decides. Rules of which this version knows no action or operator are skipped, as the API
/// asks of its clients.
pub fn judge(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Verdict {
    let rules = policy.map(|policy| policy.rules.as_slice()).unwrap_or_default();
    for (index, rule) in rules.iter().enumerate() {
        let Some(what) = matched(rule, pod) else { continue };
        let verdict = match rule.action.as_str() {
            "Count" => Verdict::Count,
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            "FailJob" => Verdict::FailJob(format!("{what} matching FailJob rule at index {index}")),
            _ => continue,
        };
        return verdict;
    }
    Verdict::Count
}

/// What of the pod a rule is about, in upstream's words.
fn matched(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    if let Some(codes) = &rule.on_exit_codes {
        let (container, code) = exit_code(codes, pod)?;
        return Some(format!("Container {container} for pod {name} failed with exit code {code}"));
    }
    let condition = rule.on_pod_conditions.iter().flatten().find(|pattern| has_condition(pod, pattern))?;
    Some(format!("Pod {name} has condition {}", condition.type_))
}

fn exit_code<'a>(codes: &PodFailurePolicyOnExitCodesRequirement, pod: &'a Pod) -> Option<(&'a str, i32)> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
    let is_meant = |code: i32| match codes.operator.as_str() {
        "In" => codes.values.contains(&code),
        "NotIn" => !codes.values.contains(&code),
        _ => false,
    };
    let failed = |container: &'a ContainerStatus| {
        let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
        (code != 0 && is_meant(code)).then_some((container.name.as_str(), code))
    };
    let named = |container: &&ContainerStatus| codes.container_name.as_ref().is_none_or(|name| *name == container.name);
    containers.filter(named).find_map(failed)
}

fn has_condition(pod: &Pod, pattern: &PodFailurePolicyOnPodConditionsPattern) -> bool {
    let status = pattern.status.as_deref().unwrap_or("True");
    objects::condition(pod, &pattern.type_).is_some_and(|condition| condition.status == status)
}

/// Why the job is a success already, if it is.
pub fn success(policy: Option<&SuccessPolicy>, succeeded: &Indexes, completions: i32) -> Option<String> {
    let rules = policy.map(|policy| policy.rules.as_slice()).unwrap_or_default();
    let index = rules.iter().position(|rule| {
        let asked = rule.succeeded_indexes.as_deref().map(|text| Indexes::parse(text, completions));
        let have = asked.as_ref().map_or_else(|| succeeded.count(), |asked| asked.count_common(succeeded));
        rule.succeeded_count.or(asked.map(|asked| asked.count())).is_some_and(|needed| have >= needed)
    })?;
    Some(format!("Matched rules at index {index}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod() -> Pod {
        let ended = |name: &str, code: i32| json!({"name": name, "state": {"terminated": {"exitCode": code}}});
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n"},
            "status": {"phase": "Failed",
                "conditions": [{"type": "DisruptionTarget", "status": "True"}, {"type": "Odd", "status": "False"}],
                "containerStatuses": [ended("main", 42), ended("side", 0)],
                "initContainerStatuses": [ended("setup", 0)]},
        }))
        .expect("a Pod")
    }

    fn verdict(rules: Value) -> Verdict {
        let policy = serde_json::from_value(json!({"rules": rules})).expect("a policy");
        judge(Some(&policy), &pod())
    }

    fn codes(action: &str, operator: &str, values: &[i32], container: Option<&str>) -> Value {
        json!({"action": action,
            "onExitCodes": {"operator": operator, "values": values, "containerName": container}})
    }

    #[test]
    fn the_first_rule_that_applies_decides() {
        use Verdict::{Count, FailIndex, FailJob, Ignore};
        let on = |ty: &str, status: Option<&str>| json!([{"type": ty, "status": status}]);
        let by_code =
            FailJob("Container main for pod n/p failed with exit code 42 matching FailJob rule at index 0".into());
        let by_condition = FailJob("Pod n/p has condition DisruptionTarget matching FailJob rule at index 1".into());
        let check = |rules: Value, expected: &Verdict| assert_eq!(&verdict(rules.clone()), expected, "{rules}");
        check(json!([]), &Count);
        check(json!([codes("FailJob", "In", &[1, 42], None)]), &by_code);
        check(json!([codes("FailJob", "In", &[1], None), codes("Ignore", "In", &[42], None)]), &Ignore);
        check(json!([codes("Ignore", "NotIn", &[1], None)]), &Ignore);
        check(json!([codes("Ignore", "NotIn", &[42], None)]), &Count);
        check(json!([codes("Ignore", "NotIn", &[1], Some("side"))]), &Count);
        check(json!([codes("FailIndex", "In", &[42], Some("main"))]), &FailIndex);
        check(json!([codes("Count", "In", &[42], None), codes("FailJob", "In", &[42], None)]), &Count);
        check(json!([codes("Dance", "In", &[42], None), codes("Ignore", "In", &[42], None)]), &Ignore);
        check(json!([codes("Ignore", "About", &[42], None)]), &Count);
        check(json!([{"action": "Ignore", "onPodConditions": on("DisruptionTarget", None)}]), &Ignore);
        check(json!([{"action": "Ignore", "onPodConditions": on("Odd", None)}]), &Count);
        check(json!([{"action": "Ignore", "onPodConditions": on("Odd", Some("False"))}]), &Ignore);
        let second = json!({"action": "FailJob", "onPodConditions": on("DisruptionTarget", Some("True"))});
        check(json!([codes("Ignore", "In", &[1], None), second]), &by_condition);
    }

    #[test]
    fn enough_indexes_are_a_success() {
        let check = |rules: Value, succeeded: &str, expected: Option<&str>| {
            let policy = serde_json::from_value(json!({"rules": rules})).expect("a policy");
            let met = success(Some(&policy), &Indexes::parse(succeeded, 9), 9);
            assert_eq!(met.as_deref(), expected, "{rules} with {succeeded}");
        };
        check(json!([{"succeededCount": 2}]), "4", None);
        check(json!([{"succeededCount": 2}]), "4,7", Some("Matched rules at index 0"));
        check(json!([{"succeededIndexes": "0,2-4"}]), "0,2,3", None);
        check(json!([{"succeededIndexes": "0,2-4"}]), "0-5", Some("Matched rules at index 0"));
        check(json!([{"succeededIndexes": "1-4", "succeededCount": 3}]), "1,3,5", None);
        check(json!([{"succeededIndexes": "8"}, {"succeededCount": 1}]), "1", Some("Matched rules at index 1"));
        assert_eq!(success(None, &Indexes::parse("0-8", 9), 9), None);
    }
}
