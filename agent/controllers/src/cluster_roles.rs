//! Aggregated ClusterRoles: their `rules` show those of the roles they are made of. Scope: cluster.
//!
//! Writes `rules` of roles with an `aggregationRule`. What these grant the API server works out by itself; here it is only
//! shown.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use skiff_object::roles::{self, Role};
use skiff_reconcile::{BoxError, Changes, Failures, Informer, Next, Reconciler, Scope};
use tokio_util::sync::CancellationToken;

use crate::objects;

pub struct Controller {
    client: Client,
    /// Without their rules: these are long, and read when a role changes.
    roles: Informer<ClusterRole>,
}

impl Controller {
    pub fn spawn(client: Client, shutdown: &CancellationToken) -> Self {
        let slim = |role: &mut ClusterRole| role.rules = None;
        let api = Api::all(client.clone());
        Self { roles: Informer::spawn_slim(api, watcher::Config::default(), slim, shutdown.clone()), client }
    }

    pub fn wakes(&self) -> Vec<Changes> {
        vec![self.roles.changes()]
    }

    /// Written only over the role that was read.
    async fn write(&self, role: &ClusterRole, rules: &[PolicyRule]) -> Result<(), kube::Error> {
        let api: Api<ClusterRole> = Api::all(self.client.clone());
        let metadata = json!({"uid": role.uid(), "resourceVersion": role.resource_version()});
        let patch = Patch::Merge(json!({"metadata": metadata, "rules": rules}));
        objects::settle(api.patch(&role.name_any(), &PatchParams::default(), &patch).await)
    }
}

/// The aggregated roles whose rules are others than those that they are made of, and these. Pure.
fn plan(all: &[ClusterRole]) -> Vec<(&ClusterRole, Vec<PolicyRule>)> {
    let none = BTreeMap::new();
    let views: Vec<Role<'_>> = all.iter().map(|role| view(role, &none)).collect();
    let mut wrong = Vec::new();
    for (place, role) in all.iter().enumerate().filter(|(place, _)| views[*place].selectors.is_some()) {
        let mut rules: Vec<PolicyRule> = Vec::new();
        for rule in roles::parts(&views, place).into_iter().flat_map(|part| all[part].rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
        if role.rules.as_deref().unwrap_or_default() != rules {
            wrong.push((role, rules));
        }
    }
    wrong
}

fn view<'a>(role: &'a ClusterRole, none: &'a BTreeMap<String, String>) -> Role<'a> {
    let selectors = role.aggregation_rule.as_ref().map(|rule| rule.cluster_role_selectors.iter().flatten());
    Role {
        name: role.metadata.name.as_deref().unwrap_or_default(),
        labels: role.metadata.labels.as_ref().unwrap_or(none),
        selectors: selectors.map(|selectors| selectors.map(objects::selector).collect()),
    }
}

impl Reconciler for Controller {
    const NAME: &'static str = "clusterrole-aggregation";
    const SCOPE: Scope = Scope::Cluster;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        self.roles.synced().await;
        if !self.roles.list().iter().any(|role| role.aggregation_rule.is_some()) {
            return Ok(Next::Change);
        }
        let roles = Api::<ClusterRole>::all(self.client.clone()).list(&ListParams::default()).await?.items;
        let mut failures = Failures::default();
        for (role, rules) in plan(&roles) {
            failures.keep(role.name_any(), self.write(role, &rules).await);
        }
        failures.into_result()?;
        Ok(Next::Change)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use skiff_reconcile::Wake;

    use super::*;
    use crate::testing::World;

    const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";

    fn rule(resource: &str) -> Value {
        json!({"apiGroups": [""], "resources": [resource], "verbs": ["get"]})
    }

    #[test]
    fn what_is_shown_already_is_not_written() {
        let role = |name: &str, rules: Value, more: Value| -> ClusterRole {
            let mut role = json!({"metadata": {"name": name, "labels": {"to": "all"}}, "rules": rules});
            role["aggregationRule"] = more;
            serde_json::from_value(role).expect("a ClusterRole")
        };
        let selects = json!({"clusterRoleSelectors": [{"matchLabels": {"to": "all"}}]});
        let one = role("one", json!([rule("pods"), rule("nodes")]), Value::Null);
        let two = role("two", json!([rule("nodes")]), Value::Null);
        let all = [role("sum", Value::Null, selects.clone()), two.clone(), one.clone()];
        let planned = plan(&all);
        assert_eq!(json!(planned[0].1), json!([rule("pods"), rule("nodes")]));
        let done = [role("sum", json!(planned[0].1), selects), one, two];
        assert!(plan(&done).is_empty());
    }

    #[tokio::test]
    async fn aggregated_roles_follow_those_they_are_made_of() {
        let world = World::start().await;
        let client = world.client_of("clusterrole-aggregation-controller");
        let controller = Controller::spawn(client, &world.shutdown);
        let wake = Wake::on(controller.wakes());
        world.drive(controller, wake);
        let shows = |resource: &'static str| {
            move |role: &Value| {
                let rules = role["rules"].as_array().into_iter().flatten();
                rules.flat_map(|rule| rule["resources"].as_array().into_iter().flatten()).any(|r| r == resource)
            }
        };
        world.until(&format!("{ROLES}/admin"), |role| shows("rolebindings")(role) && shows("pods")(role)).await;
        world.until(&format!("{ROLES}/view"), shows("pods")).await;
        let labels = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
        world.post(ROLES, json!({"metadata": {"name": "odd", "labels": labels}, "rules": [rule("oddities")]})).await;
        for role in ["view", "edit", "admin"] {
            world.until(&format!("{ROLES}/{role}"), shows("oddities")).await;
        }
        world.delete(&format!("{ROLES}/odd"), "Background").await;
        world.until(&format!("{ROLES}/view"), |role| !shows("oddities")(role)).await;
    }
}
