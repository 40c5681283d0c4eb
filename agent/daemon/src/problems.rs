//! What is wrong with the box: the one source for its page, `skiff status` and the screen. The agent's parts, the machine
//! below it, the node and the applications; what is wrong with routes and certificates comes from the ingress.

use futures::future::BoxFuture;
use kube::Client;
use serde_json::{Value, json};
use skiff_apiserver::AgentReport;
use skiff_console::Health;
use skiff_node::Requirements;
use skiff_reconcile::Parts;

use crate::commands::ingress;
use crate::paths::Paths;
use crate::supervision::Plan;

pub struct Problems {
    parts: Parts,
    client: Client,
    requirements: Requirements,
    paths: Paths,
}

impl Problems {
    pub fn new(plan: &Plan, parts: Parts, client: Client) -> Self {
        Self { parts, client, requirements: plan.node().requirements, paths: plan.paths.clone() }
    }

    async fn list(&self, path: &str) -> Value {
        let request = http::Request::get(path).body(Vec::new()).expect("a path without anything special");
        self.client.request(request).await.unwrap_or_default()
    }

    async fn all(&self) -> Value {
        let health = Health::read(&self.list("/api/v1/nodes").await, &self.list("/api/v1/pods").await);
        let of_box = host()
            .into_iter()
            .chain(skiff_node::missing(&self.requirements).into_iter().map(|missing| format!("missing: {missing}")))
            .chain(self.failing().into_iter().map(|(part, why)| format!("the agent's {part}: {why}")));
        let of_box = of_box.map(|text| json!({"about": "box", "text": text}));
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
}

/// What is wrong with the machine below the box, where Skiff brought the system.
pub fn host() -> Vec<String> {
    let paths = skiff_appliance::paths::Paths::new("/".as_ref());
    let errors = std::fs::read_to_string(paths.settings_errors()).unwrap_or_default();
    let slots = skiff_appliance::slots::Disk::default().problem().map(|problem| format!("system: {problem}"));
    errors.lines().map(|line| format!("skiff.toml: {line}")).chain(slots).collect()
}
