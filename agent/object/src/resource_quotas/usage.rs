//! What one object uses, by the names that quotas limit.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::meta;
use crate::quantity::{Format, Quantity};
use crate::requests::{self, Amounts};

/// What a pod's containers ask for and may use; asked for alone has a short name too.
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// What each container has to say if a quota limits it; upstream came to regret it and adds none.
const MUST_BE_SET: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
/// Kinds that are counted by their name alone too.
const COUNTED_PLAINLY: [&str; 7] =
    ["configmaps", "persistentvolumeclaims", "pods", "replicationcontrollers", "resourcequotas", "secrets", "services"];
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";
const OF_CLAIMS: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];

fn one() -> Quantity {
    whole(1)
}

fn whole(count: usize) -> Quantity {
    Quantity::from_value(i64::try_from(count).unwrap_or(i64::MAX), Format::DecimalSi)
}

/// Whether a name that a quota limits is about objects of a kind.
pub fn tracks(resource: &str, name: &str) -> bool {
    if name.strip_prefix("count/").is_some_and(|counted| counted == resource) {
        return true;
    }
    let plainly = COUNTED_PLAINLY.contains(&resource) && name == resource;
    plainly
        || match resource {
            "pods" => tracks_of_pod(name),
            "services" => matches!(name, "services.nodeports" | "services.loadbalancers"),
            "persistentvolumeclaims" => {
                let of_class = name.rsplit_once(OF_CLASS).map(|(_, name)| name);
                OF_CLAIMS.contains(&of_class.unwrap_or(name))
            }
            _ => false,
        }
}

fn tracks_of_pod(name: &str) -> bool {
    let (_, base) = split(name);
    COMPUTE.contains(&base)
        || is_huge(name)
        || name.strip_prefix("requests.").is_some_and(|n| is_huge(n) || is_extended(n))
}

/// `limits.cpu` is a limit of `cpu`; `cpu` and `requests.cpu` are requests.
fn split(name: &str) -> (&'static str, &str) {
    match (name.strip_prefix("requests."), name.strip_prefix("limits.")) {
        (_, Some(base)) => ("limits", base),
        (Some(base), None) => ("requests", base),
        (None, None) => ("requests", name),
    }
}

fn is_huge(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// A resource of somebody else's: `example.com/gpu`.
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

/// All that an object uses.
pub fn of(resource: &str, object: &Value) -> Amounts {
    let mut used = Amounts::from([(format!("count/{resource}"), one())]);
    match resource {
        "pods" => of_pod(object, &mut used),
        "services" => of_service(object, &mut used),
        "persistentvolumeclaims" => of_claim(object, &mut used),
        plain if COUNTED_PLAINLY.contains(&plain) => drop(used.insert(plain.to_owned(), one())),
        _ => {}
    }
    used
}

/// A pod that has ended uses nothing but its place in the store.
fn of_pod(pod: &Value, used: &mut Amounts) {
    if matches!(meta::text_at(pod, &["status", "phase"]), "Succeeded" | "Failed") {
        return;
    }
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let overhead = requests::listed(spec.get("overhead"));
    let mut requests = requests::of_pod(spec, "requests");
    requests::add(&mut requests, &overhead);
    let mut limits = requests::of_pod(spec, "limits");
    // What is not limited is not limited by the overhead either.
    let limited = overhead.into_iter().filter(|(name, _)| limits.get(name).is_some_and(|limit| !limit.is_zero()));
    let limited = limited.collect();
    requests::add(&mut limits, &limited);
    used.insert("pods".to_owned(), one());
    used.extend(named(&requests, &limits));
}

/// Requests and limits by the names that quotas have for them.
fn named(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut named = Amounts::new();
    for (name, amount) in requests {
        if COMPUTE.contains(&name.as_str()) || is_huge(name) {
            named.insert(name.clone(), *amount);
        }
        if COMPUTE.contains(&name.as_str()) || is_huge(name) || is_extended(name) {
            named.insert(format!("requests.{name}"), *amount);
        }
    }
    let limits = limits.iter().filter(|(name, _)| COMPUTE.contains(&name.as_str()));
    named.extend(limits.map(|(name, amount)| (format!("limits.{name}"), *amount)));
    named
}

/// Node ports are counted by what is asked for: they may not be given out yet.
fn of_service(service: &Value, used: &mut Amounts) {
    let spec = service.get("spec").unwrap_or(&Value::Null);
    let ports = meta::items(spec.get("ports"));
    let explicit = || ports.iter().filter(|port| port["nodePort"].as_i64().unwrap_or(0) != 0).count();
    let on_demand = spec.get("allocateLoadBalancerNodePorts") == Some(&Value::Bool(false));
    let (node_ports, balancers) = match meta::text_at(spec, &["type"]) {
        "NodePort" => (ports.len(), 0),
        "LoadBalancer" if on_demand => (explicit(), 1),
        "LoadBalancer" => (ports.len(), 1),
        _ => (0, 0),
    };
    used.insert("services".to_owned(), one());
    used.insert("services.nodeports".to_owned(), whole(node_ports));
    used.insert("services.loadbalancers".to_owned(), whole(balancers));
}

/// A claim counts for its class as well; while it shrinks, the larger size counts.
fn of_claim(claim: &Value, used: &mut Amounts) {
    let storage = |path: &[&str]| meta::at(claim, path).and_then(Value::as_str).and_then(|t| Quantity::parse(t).ok());
    let asked = storage(&["spec", "resources", "requests", "storage"]);
    let allocated = storage(&["status", "allocatedResources", "storage"]);
    let asked = asked.map(|asked| allocated.map_or(asked, |allocated| asked.max(allocated)));
    // Whole bytes.
    let asked =
        asked.map(|asked| if asked.is_integer() { asked } else { Quantity::from_value(asked.value(), asked.format()) });
    let class = meta::annotation(claim, "volume.beta.kubernetes.io/storage-class")
        .unwrap_or_else(|| meta::text_at(claim, &["spec", "storageClassName"]));
    let [count, size] = OF_CLAIMS;
    for (name, amount) in [(count, Some(one())), (size, asked)] {
        let Some(amount) = amount else { continue };
        used.insert(name.to_owned(), amount);
        if !class.is_empty() {
            used.insert(format!("{class}{OF_CLASS}{name}"), amount);
        }
    }
}

/// Refuses a pod with containers that leave out what a quota of theirs limits.
pub fn constraints<'a>(resource: &str, object: &Value, hard: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let required: Vec<&str> = hard.map(String::as_str).filter(|name| MUST_BE_SET.contains(name)).collect();
    if resource != "pods" || required.is_empty() {
        return Ok(());
    }
    let mut missing = BTreeMap::<&str, Vec<&str>>::new();
    for container in ["containers", "initContainers"].iter().flat_map(|l| meta::items(meta::at(object, &["spec", l]))) {
        let list = |list: &str| requests::listed(meta::at(container, &["resources", list]));
        let set = named(&list("requests"), &list("limits"));
        for name in required.iter().filter(|name| !set.contains_key(**name)) {
            missing.entry(name).or_default().push(meta::text_at(container, &["name"]));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let each = missing.into_iter().map(|(name, mut containers)| {
        containers.sort_unstable();
        format!("{name} for: {}", containers.join(","))
    });
    Err(format!("must specify {}", each.collect::<Vec<_>>().join("; ")))
}
