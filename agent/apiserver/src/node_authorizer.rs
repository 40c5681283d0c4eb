//! What a node may do: its role says what nodes do at all, and here is which of it is this node's own. As upstream's
//! node authorizer decides about requests, and its `NodeRestriction` admission about writes.
//!
//! Only what a pod that is bound to the node names is read by it. What a node may read without that is in its roles.

use std::collections::BTreeSet;

use serde_json::Value;
use skiff_object::kinds::{self, Kind};
use skiff_object::meta;
use skiff_store::Store;

use crate::rbac::Attributes;
use crate::status::ApiError;
use crate::users::User;
use crate::write::Write;
use crate::{Api, Config, codec};

pub const ROLE: &str = "system:node";
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// What follows the node's name in the lease that tells how far the tables for Services on it are.
const TRAFFIC_LEASE: &str = "-services";
/// Labels of Kubernetes' own that a node gives itself, as upstream's kubelet.
const LABELS: &[&str] = &[
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
];

/// What has to hold so that a request is about what is the node's.
#[derive(Debug, PartialEq, Eq)]
enum Need<'a> {
    Nothing,
    /// It is about something else.
    Denied,
    /// A pod of the node, by this name.
    Pod {
        namespace: &'a str,
        name: &'a str,
    },
    /// A pod of the node that names this object.
    Reference {
        namespace: &'a str,
        name: &'a str,
        by: References,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum References {
    Secrets,
    ConfigMaps,
    Claims,
    ServiceAccount,
}

impl<S: Store> Api<S> {
    /// Whether a user may do it: a node what is its own, and everybody what roles grant.
    pub(crate) async fn allows(&self, user: &User, wanted: &Attributes<'_>) -> Result<bool, ApiError> {
        if let Some(node) = user.node()
            && self.authorizer().role_allows(ROLE, wanted)
            && self.holds(node, need(node, wanted)).await?
        {
            return Ok(true);
        }
        Ok(self.authorizer().allows(user, wanted))
    }

    async fn holds(&self, node: &str, need: Need<'_>) -> Result<bool, ApiError> {
        let pods = kinds::by_kind("v1", "Pod").expect("a built-in kind");
        match need {
            Need::Nothing => Ok(true),
            Need::Denied => Ok(false),
            Need::Pod { namespace, name } => {
                let pod = self.read(pods, Some(namespace), name).await?;
                Ok(pod.is_some_and(|pod| node_of(&pod) == node))
            }
            Need::Reference { namespace, name, by } => {
                let entries = self.entries_of(pods, Some(namespace)).await?;
                let mut here = entries.iter().map(codec::decode).filter(|pod| node_of(pod) == node);
                Ok(here.any(|pod| names(&pod["spec"], by, name)))
            }
        }
    }
}

fn node_of(pod: &Value) -> &str {
    meta::text_at(pod, &["spec", "nodeName"])
}

/// Pure.
fn need<'a>(node: &str, wanted: &Attributes<'a>) -> Need<'a> {
    let Attributes::Resource { verb, group, resource, namespace, name, of_node } = *wanted else {
        return Need::Nothing;
    };
    let reference = |by| match (namespace, name) {
        (Some(namespace), Some(name)) => Need::Reference { namespace, name, by },
        (Some(_) | None, _) => Need::Denied,
    };
    let only = |own: bool| if own { Need::Nothing } else { Need::Denied };
    match (group, resource, verb) {
        ("", "secrets", _) => reference(References::Secrets),
        ("", "configmaps", _) => reference(References::ConfigMaps),
        ("", "persistentvolumeclaims" | "persistentvolumeclaims/status", _) => reference(References::Claims),
        ("", "serviceaccounts/token", _) => reference(References::ServiceAccount),
        ("", "pods", "list" | "watch") => only(of_node == Some(node)),
        ("", "pods", "get") => match (namespace, name) {
            (Some(namespace), Some(name)) => Need::Pod { namespace, name },
            (Some(_) | None, _) => Need::Denied,
        },
        // What is made is looked at when it is written.
        ("coordination.k8s.io", "leases", "create") => only(namespace == Some(LEASE_NAMESPACE)),
        ("coordination.k8s.io", "leases", _) => {
            only(namespace == Some(LEASE_NAMESPACE) && name.is_some_and(|name| is_own_lease(node, name)))
        }
        _ => Need::Nothing,
    }
}

fn is_own_lease(node: &str, name: &str) -> bool {
    name == node || name.strip_suffix(TRAFFIC_LEASE) == Some(node)
}

/// Whether a pod's spec names the object.
fn names(spec: &Value, by: References, name: &str) -> bool {
    let is = |value: &Value, path: &[&str]| meta::text_at(value, path) == name;
    let volumes = || meta::items(spec.get("volumes")).iter();
    let projected = || volumes().flat_map(|volume| meta::items(meta::at(volume, &["projected", "sources"])));
    let containers = || {
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        lists.into_iter().flat_map(|list| meta::items(spec.get(list)))
    };
    let variables = || containers().flat_map(|container| meta::items(container.get("env")));
    let sources = || containers().flat_map(|container| meta::items(container.get("envFrom")));
    match by {
        References::ServiceAccount => is(spec, &["serviceAccountName"]),
        References::Claims => volumes().any(|volume| is(volume, &["persistentVolumeClaim", "claimName"])),
        References::ConfigMaps => {
            volumes().any(|volume| is(volume, &["configMap", "name"]))
                || projected().any(|source| is(source, &["configMap", "name"]))
                || variables().any(|variable| is(variable, &["valueFrom", "configMapKeyRef", "name"]))
                || sources().any(|source| is(source, &["configMapRef", "name"]))
        }
        References::Secrets => {
            /// Volumes that name a secret with what opens them.
            const OPENED: &[&[&str]] = &[
                &["secret", "secretName"],
                &["csi", "nodePublishSecretRef", "name"],
                &["flexVolume", "secretRef", "name"],
                &["iscsi", "secretRef", "name"],
                &["cephfs", "secretRef", "name"],
                &["rbd", "secretRef", "name"],
            ];
            volumes().any(|volume| OPENED.iter().any(|path| is(volume, path)))
                || projected().any(|source| is(source, &["secret", "name"]))
                || variables().any(|variable| is(variable, &["valueFrom", "secretKeyRef", "name"]))
                || sources().any(|source| is(source, &["secretRef", "name"]))
                || meta::items(spec.get("imagePullSecrets")).iter().any(|secret| is(secret, &["name"]))
        }
    }
}

/// A node writes its own object and lease, and of pods only the status and the end of its own.
pub fn check_write(
    config: &Config,
    write: &Write<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
) -> Result<(), ApiError> {
    let Some(node) = write.author.user.node() else { return Ok(()) };
    let object = old.or(new).unwrap_or(&Value::Null);
    let name = meta::name(object);
    let refused = match (&*write.kind.group, &*write.kind.plural) {
        ("", "nodes") if name != node => Some(format!("node {node:?} is not allowed to modify node {name:?}")),
        ("", "nodes") => of_itself(node, old, new).or_else(|| of_another(config, node, old, new)),
        ("", "pods") if old.is_none() => Some(format!("node {node:?} is not allowed to create pods")),
        ("", "pods") if node_of(object) != node => {
            Some(format!("node {node:?} can only change pods with spec.nodeName set to itself"))
        }
        ("", "pods") if new.is_some_and(|new| object["metadata"]["labels"] != new["metadata"]["labels"]) => {
            Some(format!("node {node:?} cannot update labels through pod status"))
        }
        ("coordination.k8s.io", "leases") if write.namespace != Some(LEASE_NAMESPACE) || !is_own_lease(node, name) => {
            Some("can only access node lease with the same name as the requesting node".to_owned())
        }
        _ => None,
    };
    refused.map_or(Ok(()), |why| Err(ApiError::forbidden_object(write.kind, name, &why)))
}

/// What a node may not say of itself.
fn of_itself(node: &str, old: Option<&Value>, new: Option<&Value>) -> Option<String> {
    let new = new?;
    if let Some(why) = refused_labels(node, old, new, is_promise) {
        return Some(why);
    }
    // The garbage collector would remove it for its owner, and with it what it may not change.
    let owners = |object: &Value| meta::items(meta::at(object, &["metadata", "ownerReferences"])).to_vec();
    if owners(new) != old.map(owners).unwrap_or_default() {
        return Some(format!("node {node:?} is not allowed to modify ownerReferences"));
    }
    let taints = |object: &Value| meta::items(meta::at(object, &["spec", "taints"])).to_vec();
    let changed = old.is_some_and(|old| taints(old) != taints(new));
    changed.then(|| format!("node {node:?} is not allowed to modify taints"))
}

/// What a node may say of itself only if it is the box's own.
fn of_another(config: &Config, node: &str, old: Option<&Value>, new: Option<&Value>) -> Option<String> {
    if node == config.node_name {
        return None;
    }
    let new = new?;
    // Whoever has a range gets the traffic to it, and no other node gets that range.
    let ranges = |object: &Value| [&object["spec"]["podCIDR"], &object["spec"]["podCIDRs"]].map(Value::clone);
    if ranges(new) != old.map(ranges).unwrap_or_default() {
        return Some(format!("node {node:?} is not allowed to set podCIDR"));
    }
    refused_labels(node, old, new, is_reserved)
}

fn refused_labels(node: &str, old: Option<&Value>, new: &Value, refused: fn(&str) -> bool) -> Option<String> {
    let labels = |object: &Value| object["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    let (after, before) = (labels(new), old.map(labels).unwrap_or_default());
    let all: BTreeSet<&str> = after.keys().chain(before.keys()).map(String::as_str).collect();
    let changed = all.into_iter().filter(|key| after.get(*key) != before.get(*key) && refused(key));
    let changed = changed.collect::<Vec<_>>().join(", ");
    match old {
        _ if changed.is_empty() => None,
        None => Some(format!("node {node:?} is not allowed to set the following labels: {changed}")),
        Some(_) => Some(format!("node {node:?} is not allowed to modify labels: {changed}")),
    }
}

/// Whether a label's key is below one of the domains.
fn is_of(key: &str, domains: &[&str]) -> bool {
    let of = key.split_once('/').map_or("", |(of, _)| of);
    domains.iter().any(|domain| of.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

/// Only others may give a node these, as a promise to those who choose nodes by them.
fn is_promise(key: &str) -> bool {
    is_of(key, &["node-restriction.kubernetes.io"])
}

/// Of Kubernetes' own labels all but those that say what a node is.
fn is_reserved(key: &str) -> bool {
    is_of(key, &["kubernetes.io", "k8s.io"])
        && !is_of(key, &["kubelet.kubernetes.io", "node.kubernetes.io"])
        && !LABELS.contains(&key)
}

/// A node asks for tokens of its own pods only, each bound to its pod.
pub fn check_token(user: &User, kind: &Kind, account: &str, pod: Option<&Value>) -> Result<(), ApiError> {
    let Some(node) = user.node() else { return Ok(()) };
    let why = match pod {
        None => format!("node {node:?} requested a token that is not bound to a pod"),
        Some(pod) if node_of(pod) != node => {
            format!("node {node:?} requested a token bound to a pod scheduled on a different node")
        }
        Some(pod) if meta::text_at(pod, &["spec", "serviceAccountName"]) != account => {
            format!("node {node:?} requested a token of another service account than the pod's")
        }
        Some(_) => return Ok(()),
    };
    Err(ApiError::forbidden_object(kind, account, &why))
}
