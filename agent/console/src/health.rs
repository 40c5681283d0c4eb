//! How the box is doing and what is wrong with it, from the API's objects. Pure; `skiff status` says the same.

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    pub node: String,
    pub ready: bool,
    pub address: String,
    pub runtime: String,
    pub pods: Pods,
    pub problems: Vec<Problem>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pods {
    pub running: usize,
    pub pending: usize,
    pub failed: usize,
    pub succeeded: usize,
    pub capacity: u64,
}

/// A sentence. What names an application is not for strangers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "about", content = "text", rename_all = "lowercase")]
pub enum Problem {
    Box(String),
    Application(String),
}

impl Problem {
    pub fn text(&self) -> &str {
        match self {
            Problem::Box(text) | Problem::Application(text) => text,
        }
    }
}

impl Health {
    /// From a list of nodes and one of pods.
    pub fn read(nodes: &Value, pods: &Value) -> Self {
        let node = &nodes["items"][0];
        let conditions = items(&node["status"]["conditions"]);
        let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
        Self {
            node: text(&node["metadata"]["name"]),
            ready: conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"),
            address: text(&node["status"]["addresses"][0]["address"]),
            runtime: text(&node["status"]["nodeInfo"]["containerRuntimeVersion"]),
            pods: count(pods, node),
            problems: problems(conditions, pods),
        }
    }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn count(pods: &Value, node: &Value) -> Pods {
    let capacity = node["status"]["allocatable"]["pods"].as_str().and_then(|p| p.parse().ok()).unwrap_or(0);
    let mut counts = Pods { capacity, ..Pods::default() };
    for pod in items(&pods["items"]) {
        match pod["status"]["phase"].as_str() {
            Some("Running") => counts.running += 1,
            Some("Succeeded") => counts.succeeded += 1,
            Some("Failed") => counts.failed += 1,
            Some(_) | None => counts.pending += 1,
        }
    }
    counts
}

/// Conditions that are not as they should be, and containers that do not run.
fn problems(conditions: &[Value], pods: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    for condition in conditions {
        let good = if condition["type"] == "Ready" { "True" } else { "False" };
        if condition["status"] != good {
            let text = |field: &str| condition[field].as_str().unwrap_or_default();
            problems.push(Problem::Box(format!("node: {} is {}: {}", text("type"), text("status"), text("message"))));
        }
    }
    for pod in items(&pods["items"]) {
        let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default();
        let name = format!("{}/{}", text("namespace"), text("name"));
        for container in items(&pod["status"]["containerStatuses"]) {
            let waiting = &container["state"]["waiting"];
            let reason = waiting["reason"].as_str().unwrap_or_default();
            if !matches!(reason, "" | "ContainerCreating" | "PodInitializing") {
                let message = waiting["message"].as_str().unwrap_or_default();
                problems.push(Problem::Application(format!("pod {name}: {reason}: {message}")));
            }
        }
        for condition in items(&pod["status"]["conditions"]) {
            if condition["type"] == "PodScheduled" && condition["status"] == "False" {
                let message = condition["message"].as_str().unwrap_or_default();
                problems.push(Problem::Application(format!("pod {name}: {message}")));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        let nodes = json!({"items": [{
            "metadata": {"name": "box"},
            "status": {
                "allocatable": {"pods": "110"},
                "addresses": [{"type": "InternalIP", "address": "192.168.1.10"}],
                "conditions": [
                    {"type": "DiskPressure", "status": "True", "message": "the disk is nearly full"},
                    {"type": "Ready", "status": "True", "message": ""},
                ],
            },
        }]});
        let waiting =
            |reason: &str, message: &str| json!({"state": {"waiting": {"reason": reason, "message": message}}});
        let pods = json!({"items": [
            {"metadata": {"namespace": "default", "name": "web"}, "status": {
                "phase": "Pending", "containerStatuses": [waiting("ImagePullBackOff", "no such image")],
            }},
            {"metadata": {"namespace": "default", "name": "new"}, "status": {
                "phase": "Pending", "containerStatuses": [waiting("ContainerCreating", "")],
            }},
            {"metadata": {"namespace": "default", "name": "big"}, "status": {
                "conditions": [{"type": "PodScheduled", "status": "False", "message": "Insufficient memory"}],
            }},
            {"metadata": {"namespace": "default", "name": "ok"}, "status": {"phase": "Running"}},
        ]});
        expect![[r#"
            Health {
                node: "box",
                ready: true,
                address: "192.168.1.10",
                runtime: "unknown",
                pods: Pods {
                    running: 1,
                    pending: 3,
                    failed: 0,
                    succeeded: 0,
                    capacity: 110,
                },
                problems: [
                    Box(
                        "node: DiskPressure is True: the disk is nearly full",
                    ),
                    Application(
                        "pod default/web: ImagePullBackOff: no such image",
                    ),
                    Application(
                        "pod default/big: Insufficient memory",
                    ),
                ],
            }
        "#]]
        .assert_debug_eq(&Health::read(&nodes, &pods));
        assert!(!Health::read(&json!({}), &json!({})).ready);
    }
}
