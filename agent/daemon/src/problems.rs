//! What is wrong with the box: the one source for its page, `skiff status`, the screen and the node's events. The agent's
//! parts, the machine below it, the node and the applications; what is wrong with routes and certificates comes from the
//! ingress.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::BoxFuture;
use kube::Client;
use serde_json::{Value, json};
use skiff_apiserver::AgentReport;
use skiff_console::Health;
use skiff_node::Requirements;
use skiff_reconcile::{EventKind, Parts, Recorder};

use crate::commands::ingress;
use crate::paths::Paths;
use crate::supervision::Plan;

/// How soon a problem becomes an event. What lasts shorter is over before anybody looks.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(10);

pub struct Problems {
    node_name: String,
    parts: Parts,
    client: Client,
    requirements: Requirements,
    paths: Paths,
}

impl Problems {
    pub fn new(plan: &Plan, parts: Parts, client: Client) -> Self {
        let node_name = plan.node_name.clone();
        Self { node_name, parts, client, requirements: plan.node().requirements, paths: plan.paths.clone() }
    }

    async fn list(&self, path: &str) -> Value {
        let request = http::Request::get(path).body(Vec::new()).expect("a path without anything special");
        self.client.request(request).await.unwrap_or_default()
    }

    /// Those of the machine below and of the agent's own parts.
    fn of_agent(&self) -> BTreeSet<String> {
        let failing = self.failing().into_iter().map(|(part, why)| format!("the agent's {part}: {why}"));
        host().into_iter().chain(failing).collect()
    }

    /// Tells of them as events on the node until dropped: what the node lacks it says itself, and what is wrong with pods
    /// and routes is told of on these.
    pub async fn publish(&self, recorder: &Recorder) {
        let node = skiff_reconcile::node_reference(&self.node_name);
        let mut told = BTreeSet::new();
        loop {
            tokio::time::sleep(PUBLISH_INTERVAL).await;
            let now = self.of_agent();
            let mut still = told.clone();
            for (kind, reason, text) in changes(&told, &now) {
                // What was not written is told the next time.
                match (recorder.event(&node, kind, reason, text).await, kind) {
                    (true, EventKind::Warning) => drop(still.insert(text.to_owned())),
                    (true, EventKind::Normal) => drop(still.remove(text)),
                    (false, _) => {}
                }
            }
            told = still;
        }
    }

    async fn all(&self) -> Value {
        let health = Health::read(&self.list("/api/v1/nodes").await, &self.list("/api/v1/pods").await);
        let missing = skiff_node::missing(&self.requirements).into_iter().map(|missing| format!("missing: {missing}"));
        let of_box = self.of_agent().into_iter().chain(missing).map(|text| json!({"about": "box", "text": text}));
        let of_objects = health.problems.iter().map(|problem| json!(problem));
        let of_ingress = match ingress::collect(&self.paths).await {
            Ok(report) => ingress::problems(&report),
            Err(error) => vec![format!("ingress: it cannot be asked: {error:#}")],
        };
        let of_ingress = of_ingress.into_iter().map(|text| json!({"about": "application", "text": text}));
        of_box.chain(of_objects).chain(of_ingress).collect()
    }
}

impl AgentReport for Problems {
    fn failing(&self) -> Vec<(String, String)> {
        self.parts.report().into_iter().filter_map(|part| Some((part.name, part.problem?))).collect()
    }

    fn problems(&self) -> BoxFuture<'_, Value> {
        Box::pin(self.all())
    }

    fn parts(&self) -> Value {
        json!(self.parts.report())
    }

    fn metrics(&self) -> String {
        crate::process_metrics::text()
    }
}

/// What came, and what is over.
fn changes<'a>(
    told: &'a BTreeSet<String>,
    now: &'a BTreeSet<String>,
) -> impl Iterator<Item = (EventKind, &'static str, &'a str)> {
    let came = now.difference(told).map(|text| (EventKind::Warning, "BoxProblem", text.as_str()));
    let over = told.difference(now).map(|text| (EventKind::Normal, "BoxProblemSolved", text.as_str()));
    came.chain(over)
}

/// What is wrong with the machine below the box, where Skiff brought the system.
pub fn host() -> Vec<String> {
    let paths = skiff_appliance::paths::Paths::new("/".as_ref());
    let errors = std::fs::read_to_string(paths.settings_errors()).unwrap_or_default();
    let slots = skiff_appliance::slots::Disk::default().problem().map(|problem| format!("system: {problem}"));
    errors.lines().map(|line| format!("skiff.toml: {line}")).chain(slots).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_of_once_and_so_is_its_end() {
        let set = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<BTreeSet<_>>();
        let (before, after) = (set(&["a", "b"]), set(&["b", "c"]));
        let told: Vec<_> = changes(&before, &after).collect();
        assert_eq!(told, [(EventKind::Warning, "BoxProblem", "c"), (EventKind::Normal, "BoxProblemSolved", "a")]);
        assert_eq!(changes(&after, &after).count(), 0);
    }
}
