//! The node's own object and its lease. The object is written only when something besides heartbeat times changed; the
//! lease, which lives in memory on one box, tells every ten seconds that the node is alive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use skiff_reconcile::EventKind;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::context::{Context, chain};
use crate::pressure::{Pressure, PressureWatch};
use crate::requirements;
use crate::status::patch;

const LEASE_SECONDS: u64 = 40;
const LEASE_RENEWAL: Duration = Duration::from_secs(10);
/// How often images, disk sizes and conditions are looked at when nothing wakes us.
const CHECK: Duration = Duration::from_secs(60);
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether the node has got its range.
const RANGE_POLL: Duration = Duration::from_millis(500);
const LEASE_NAMESPACE: &str = "kube-node-lease";

mod render;

pub async fn run(context: Arc<Context>, mut pressure: PressureWatch, shutdown: CancellationToken) {
    let lease = tokio::spawn(renew_lease(Arc::clone(&context), shutdown.clone()));
    let mut delay = RETRY_MIN;
    let mut first_look = context.first_look.lock().await.take();
    loop {
        let lacks = match first_look.take() {
            Some(looking) => looking.await.ok().flatten(),
            None => lacking(&context).await,
        };
        let wait = match ensure(&context, pressure.now(), lacks.as_deref()).await {
            Ok(true) => {
                delay = RETRY_MIN;
                CHECK
            }
            // The runtime or its network usually becomes ready in a moment.
            Ok(false) => {
                delay = (delay * 2).min(RETRY_MAX);
                delay
            }
            Err(error) => {
                tracing::debug!(error = chain(&error), "node not registered, will retry");
                delay = (delay * 2).min(RETRY_MAX);
                delay
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = pressure.changed() => {}
            () = context.doubt.notified() => {}
            () = shutdown.cancelled() => break,
        }
    }
    lease.abort();
}

/// What the machine lacks: said when it changes, and to the pods' workers as far as it concerns them.
async fn lacking(context: &Context) -> Option<String> {
    let requirements = context.config.requirements.clone();
    // Plugins are programs that are started.
    let missing = tokio::task::spawn_blocking(move || requirements::missing(&requirements)).await.unwrap_or_default();
    replace(&context.network_trouble, requirements::network_trouble(&missing));
    let lacks = requirements::trouble(&missing);
    if replace(&context.lacks, lacks.clone()) {
        match &lacks {
            Some(trouble) => {
                tracing::error!(trouble, "this machine lacks what pods need");
                context.node_event(EventKind::Warning, "RequirementsMissing", trouble).await;
            }
            None => {
                tracing::info!("this machine has what pods need");
                context.node_event(EventKind::Normal, "RequirementsMet", "this machine has what pods need").await;
            }
        }
    }
    lacks
}

/// Answers whether it is another.
fn replace(told: &watch::Sender<Option<String>>, new: Option<String>) -> bool {
    told.send_if_modified(|now| {
        let is_new = *now != new;
        *now = new;
        is_new
    })
}

/// After a boot nothing runs yet, whatever the node's object said before: until the runtime is there, it is not ready.
/// What is missing is looked for at the same time and said, as the runtime may be among it; nothing else waits for that.
pub async fn begin_boot(context: &Arc<Context>) -> kube::Result<()> {
    let looking = tokio::spawn({
        let context = Arc::clone(context);
        async move { lacking(&context).await }
    });
    *context.first_look.lock().await = Some(looking);
    let api: Api<Node> = Api::all(context.client.clone());
    let name = &context.config.node_name;
    let Some(status) = api.get_opt(name).await?.and_then(|node| node.status) else { return Ok(()) };
    if status.node_info.is_some_and(|info| info.boot_id == context.machine.boot_id) {
        return Ok(());
    }
    let looking = context.first_look.lock().await.take();
    let lacks = match looking {
        Some(looking) => looking.await.ok().flatten(),
        None => None,
    };
    let starting = NodeCondition {
        type_: "Ready".to_owned(),
        status: "False".to_owned(),
        reason: Some("KubeletNotReady".to_owned()),
        message: lacks.or(Some("the container runtime is starting".to_owned())),
        ..NodeCondition::default()
    };
    let conditions = merge_conditions(status.conditions.unwrap_or_default(), vec![starting], Timestamp::now());
    let body = json!({"status": {"conditions": conditions}});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(body)).await.map(drop)
}

/// The addresses that this node's object gives its pods, once it has some. The object is made where there is none, and gets
/// the settings' own where it has none; where what it has does not `fit`, the settings rule.
pub async fn range(context: &Context, fits: impl Fn(&str) -> bool) -> kube::Result<String> {
    let api: Api<Node> = Api::all(context.client.clone());
    let name = &context.config.node_name;
    let node = get_or_make(context, &api).await?;
    let range = |node: &Node| node.spec.as_ref().and_then(|spec| spec.pod_cidr.clone()).filter(|range| fits(range));
    if let Some(range) = range(&node) {
        return Ok(range);
    }
    let has = node.spec.as_ref().and_then(|spec| spec.pod_cidr.as_deref());
    if let (Some(own), Some(has)) = (&context.config.pod_cidr, has) {
        let remedy = format!("kubectl delete node {name} makes it anew");
        tracing::warn!(has, own, remedy, "the node's range is not of the network in the settings, which rule");
        return Ok(own.clone());
    }
    if let Some(own) = &context.config.pod_cidr {
        let body = json!({"spec": {"podCIDR": own, "podCIDRs": [own]}});
        api.patch(name, &PatchParams::default(), &Patch::Merge(body)).await?;
        return Ok(own.clone());
    }
    tracing::info!(node = name, "waiting for a range of pod addresses");
    loop {
        tokio::time::sleep(RANGE_POLL).await;
        if let Some(range) = range(&api.get(name).await?) {
            return Ok(range);
        }
    }
}

async fn get_or_make(context: &Context, api: &Api<Node>) -> kube::Result<Node> {
    let name = &context.config.node_name;
    match api.get_opt(name).await? {
        Some(node) => Ok(node),
        None => match api.create(&PostParams::default(), &render::node(context)).await {
            Err(kube::Error::Api(status)) if status.code == 409 => api.get(name).await,
            made => made,
        },
    }
}

/// Makes the node's object say what is true now. Answers whether the node is ready.
async fn ensure(context: &Context, pressure: Pressure, lacks: Option<&str>) -> kube::Result<bool> {
    let api: Api<Node> = Api::all(context.client.clone());
    let name = &context.config.node_name;
    let runtime = render::RuntimeFacts::observe(&*context.runtime).await.lacking(lacks);
    let node = get_or_make(context, &api).await?;
    // What the API takes from no node is not what it waits for.
    let refused = ensure_labels(context, &api, &node).await.err().map(|error| chain(&error));
    if replace(&context.labels_refused, refused.clone())
        && let Some(error) = refused
    {
        tracing::warn!(error, "the node's labels are not what its settings say, will retry");
    }
    let old = serde_json::to_value(&node.status).unwrap_or(Value::Null);
    let conditions = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let now = Timestamp::now();
    let mut new = render::status(context, &runtime);
    let ours = render::conditions(&runtime, pressure);
    new["conditions"] = serde_json::to_value(merge_conditions(conditions, ours, now)).unwrap_or(Value::Null);
    if let Some(changed) = patch::diff(&old, &new, &[]) {
        let body = json!({"status": changed});
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(body)).await?;
        tracing::info!(node = name, "node status written");
    }
    Ok(runtime.is_ready())
}

async fn ensure_labels(context: &Context, api: &Api<Node>, node: &Node) -> kube::Result<()> {
    let have = node.metadata.labels.clone().unwrap_or_default();
    let wanted = render::labels(context);
    let missing: BTreeMap<_, _> = wanted.into_iter().filter(|(key, value)| have.get(key) != Some(value)).collect();
    if !missing.is_empty() {
        let body = json!({"metadata": {"labels": missing}});
        api.patch(&context.config.node_name, &PatchParams::default(), &Patch::Merge(body)).await?;
    }
    Ok(())
}

/// Times are only renewed together with something that matters, so that an idle node writes nothing.
fn merge_conditions(old: Vec<NodeCondition>, ours: Vec<NodeCondition>, now: Timestamp) -> Vec<NodeCondition> {
    let time = || Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
    let same =
        |a: &NodeCondition, b: &NodeCondition| a.status == b.status && a.reason == b.reason && a.message == b.message;
    let unchanged = ours.iter().all(|new| old.iter().any(|old| old.type_ == new.type_ && same(old, new)));
    if unchanged {
        return old;
    }
    let mut merged: Vec<_> = old.iter().filter(|old| ours.iter().all(|new| new.type_ != old.type_)).cloned().collect();
    for mut condition in ours {
        let before = old.iter().find(|old| old.type_ == condition.type_ && old.status == condition.status);
        condition.last_transition_time = before.and_then(|old| old.last_transition_time.clone()).or_else(time);
        condition.last_heartbeat_time = time();
        merged.push(condition);
    }
    merged
}

async fn renew_lease(context: Arc<Context>, shutdown: CancellationToken) {
    let api: Api<Lease> = Api::namespaced(context.client.clone(), LEASE_NAMESPACE);
    let name = context.config.node_name.clone();
    let mut delay = RETRY_MIN;
    while !shutdown.is_cancelled() {
        let wait = match renew(&api, &name).await {
            Ok(()) => {
                delay = RETRY_MIN;
                LEASE_RENEWAL
            }
            Err(error) => {
                tracing::debug!(error = chain(&error), "node lease not renewed, will retry");
                delay = (delay * 2).min(RETRY_MAX);
                delay
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn renew(api: &Api<Lease>, name: &str) -> kube::Result<()> {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let spec = json!({"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now});
    match api.patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let lease = json!({"metadata": {"name": name, "namespace": LEASE_NAMESPACE}, "spec": spec});
            let lease: Lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
            api.create(&PostParams::default(), &lease).await.map(drop)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_keep_their_times_until_something_changes() {
        let make = |status: &str| {
            vec![NodeCondition { type_: "Ready".into(), status: status.into(), ..NodeCondition::default() }]
        };
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let first = merge_conditions(Vec::new(), make("True"), at(1));
        assert_eq!(merge_conditions(first.clone(), make("True"), at(2)), first);
        let changed = merge_conditions(first, make("False"), at(3));
        assert_eq!(changed[0].last_transition_time.as_ref().unwrap().0, at(3));
    }
}
