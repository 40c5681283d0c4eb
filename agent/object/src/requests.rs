//! What a pod asks for as a whole: the one sum, for whoever places pods, admits them or limits them. Pure.
//!
//! The rule is upstream's: what runs together is added, and a step of the initialization counts where it is more.
//! https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers

use std::collections::BTreeMap;

use serde_json::Value;

use crate::meta;
use crate::quantity::Quantity;

/// Amounts by resource.
pub type Amounts = BTreeMap<String, Quantity>;

/// How long a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// To its end, before the next one starts.
    Init,
    /// From its turn among the init containers until the pod ends.
    Sidecar,
    Main,
}

impl Role {
    /// Of an init container with this restart policy.
    pub fn of_init(restart_policy: Option<&str>) -> Self {
        match restart_policy {
            Some("Always") => Role::Sidecar,
            Some(_) | None => Role::Init,
        }
    }
}

/// The quantities of a list as it is in an object; what is none is left out.
pub fn amounts<'a>(list: impl IntoIterator<Item = (&'a str, &'a str)>) -> Amounts {
    let parsed = list.into_iter().filter_map(|(name, text)| Some((name.to_owned(), Quantity::parse(text).ok()?)));
    parsed.collect()
}

/// The quantities of a list in an object.
pub fn listed(list: Option<&Value>) -> Amounts {
    let entries = list.and_then(Value::as_object).into_iter().flatten();
    amounts(entries.filter_map(|(name, amount)| Some((name.as_str(), amount.as_str()?))))
}

/// The sum of what a pod's containers have in one of the lists of their resources (`requests`, `limits`), without overhead.
pub fn of_pod(spec: &Value, list: &str) -> Amounts {
    let own = |container: &Value| listed(meta::at(container, &["resources", list]));
    let init = meta::items(spec.get("initContainers")).iter();
    let init = init.map(|c| (Role::of_init(c.get("restartPolicy").and_then(Value::as_str)), own(c)));
    let main = meta::items(spec.get("containers")).iter().map(|container| (Role::Main, own(container)));
    sum(init.chain(main), &Amounts::new())
}

/// The sum over a pod's containers, in the order of its spec with the init containers first, and its overhead.
pub fn sum(containers: impl IntoIterator<Item = (Role, Amounts)>, overhead: &Amounts) -> Amounts {
    let (mut running, mut largest) = (Amounts::new(), Amounts::new());
    for (role, own) in containers {
        match role {
            Role::Init => {
                let mut step = own;
                add(&mut step, &running);
                raise(&mut largest, &step);
            }
            Role::Sidecar => {
                add(&mut running, &own);
                raise(&mut largest, &running);
            }
            Role::Main => add(&mut running, &own),
        }
    }
    raise(&mut running, &largest);
    add(&mut running, overhead);
    running
}

/// What the containers of a pod's spec request together.
pub fn of_containers(spec: &Value) -> Amounts {
    let own = |container: &Value| {
        let list = meta::at(container, &["resources", "requests"]).and_then(Value::as_object).into_iter().flatten();
        amounts(list.map(|(name, amount)| (name.as_str(), amount.as_str().unwrap_or_default())))
    };
    let init = meta::items(spec.get("initContainers")).iter();
    let init =
        init.map(|container| (Role::of_init(container.get("restartPolicy").and_then(Value::as_str)), own(container)));
    let main = meta::items(spec.get("containers")).iter().map(|container| (Role::Main, own(container)));
    sum(init.chain(main), &Amounts::new())
}

/// Adds amounts to others.
pub fn add(to: &mut Amounts, more: &Amounts) {
    for (resource, amount) in more {
        let current = to.entry(resource.clone()).or_default();
        *current = *current + *amount;
    }
}

fn raise(to: &mut Amounts, least: &Amounts) {
    for (resource, amount) in least {
        let current = to.entry(resource.clone()).or_insert(*amount);
        *current = (*current).max(*amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(containers: &[(Role, &str)], overhead: &str, expected: &str) {
        let of = |text: &str| amounts([("cpu", text)]);
        let all = containers.iter().map(|(role, text)| (*role, of(text)));
        let total = sum(all, &of(overhead));
        assert_eq!(total.get("cpu").copied().unwrap_or_default().to_string(), expected, "{containers:?}");
    }

    #[test]
    fn what_runs_together_is_added_and_the_largest_step_counts() {
        use Role::{Init, Main, Sidecar};
        check(&[], "", "0");
        check(&[(Main, "200m"), (Main, "0.3")], "", "500m");
        check(&[(Init, "900m"), (Main, "200m")], "", "900m");
        check(&[(Init, "100m"), (Main, "200m")], "", "200m");
        check(&[(Sidecar, "100m"), (Init, "900m"), (Main, "200m"), (Main, "300m")], "", "1");
        // A step before the sidecar's turn runs without it.
        check(&[(Init, "900m"), (Sidecar, "100m"), (Main, "200m")], "", "900m");
        check(&[(Sidecar, "100m"), (Sidecar, "1"), (Main, "200m")], "50m", "1350m");
        check(&[(Main, "x"), (Main, "1")], "", "1");
    }

    #[test]
    fn resources_are_apart() {
        let list = amounts([("cpu", "1"), ("memory", "1Gi"), ("example.com/gpu", "2"), ("bad", "1Q")]);
        assert_eq!(list.len(), 3);
        let total = sum([(Role::Init, list), (Role::Main, amounts([("memory", "2Gi")]))], &Amounts::new());
        let shown: Vec<String> = total.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
        assert_eq!(shown, ["cpu=1", "example.com/gpu=2", "memory=2Gi"]);
    }

    #[test]
    fn a_pod_in_json_is_summed_alike() {
        let cpu = |amount: &str| serde_json::json!({"requests": {"cpu": amount, "memory": 5}, "limits": null});
        let spec = serde_json::json!({"overhead": {"cpu": "9"}, "containers": [{"resources": cpu("1")}, {}],
            "initContainers": [{"restartPolicy": "Always", "resources": cpu("2")}, {"resources": cpu("500m")}]});
        let shown = |list: &str| of_pod(&spec, list).into_iter().map(|(n, a)| format!("{n}={a}")).collect::<Vec<_>>();
        assert_eq!((shown("requests"), shown("limits")), (vec!["cpu=3".to_owned()], vec![]));
        assert!(of_pod(&Value::Null, "requests").is_empty());
    }

    #[test]
    fn an_init_container_that_is_always_restarted_is_a_sidecar() {
        assert_eq!([Some("Always"), Some("Never"), None].map(Role::of_init), [Role::Sidecar, Role::Init, Role::Init]);
    }
}
