//! How far a part that sends traffic to endpoints has come: the newest EndpointSlice that its routes are made of, told by
//! a Lease, so that who stops a pod can wait until nothing is sent there any more. Written when endpoints changed, to
//! memory (Leases are volatile). Who waits is in the node agent.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

/// Where the Leases of nodes are.
const NAMESPACE: &str = "kube-node-lease";
const LABEL: &str = "skiff.dev/traffic";
const ANNOTATION: &str = "skiff.dev/applied-resource-version";

/// The newest revision among slices. A watch tells of them in order, so that a snapshot has everything up to it.
pub fn newest<'a>(slices: impl IntoIterator<Item = &'a EndpointSlice>) -> u64 {
    let revision = |slice: &EndpointSlice| slice.metadata.resource_version.as_deref()?.parse().ok();
    slices.into_iter().filter_map(revision).max().unwrap_or(0)
}

/// Publishes how far one part of a node is.
pub struct Applied {
    leases: Api<Lease>,
    name: String,
    published: Option<u64>,
}

impl Applied {
    /// `part` names it among those of the node.
    pub fn new(client: Client, node_name: &str, part: &str) -> Self {
        Self { leases: Api::namespaced(client, NAMESPACE), name: format!("{node_name}-{part}"), published: None }
    }

    /// Says that traffic goes where these slices say. It never goes back: the newest may be deleted.
    pub async fn publish<'a>(
        &mut self,
        slices: impl IntoIterator<Item = &'a EndpointSlice>,
    ) -> Result<(), kube::Error> {
        let revision = newest(slices);
        if self.published.is_some_and(|published| published >= revision) {
            return Ok(());
        }
        let lease = json!({"metadata": {"name": self.name, "labels": {LABEL: "true"},
            "annotations": {ANNOTATION: revision.to_string()}}});
        match self.leases.patch(&self.name, &PatchParams::default(), &Patch::Merge(&lease)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let lease: Lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
                self.leases.create(&PostParams::default(), &lease).await?;
            }
            patched => drop(patched?),
        }
        self.published = Some(revision);
        Ok(())
    }
}

/// What every part of every node that is alive has applied. `None`: none has said anything yet.
pub async fn by_all(client: &Client) -> Result<Option<u64>, kube::Error> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let list = leases.list(&ListParams::default()).await?;
    Ok(least(&list.items, Timestamp::now()))
}

/// A node whose own lease has run out sends nothing any more that could be waited for. One that lives and has said nothing
/// (the API was just started, and Leases with it) has not applied anything yet.
fn least(leases: &[Lease], now: Timestamp) -> Option<u64> {
    let (parts, nodes): (Vec<&Lease>, Vec<&Lease>) =
        leases.iter().partition(|lease| lease.labels().get(LABEL).is_some_and(|value| value == "true"));
    let (gone, alive): (Vec<&Lease>, Vec<&Lease>) = nodes.into_iter().partition(|node| is_over(node, now));
    let of =
        |node: &Lease, part: &Lease| part.name_any().rsplit_once('-').is_some_and(|(name, _)| name == node.name_any());
    let silent = alive.iter().any(|node| !parts.iter().any(|part| of(node, part)));
    let applied = |lease: &Lease| lease.annotations().get(ANNOTATION).and_then(|text| text.parse().ok()).unwrap_or(0);
    let told = parts.iter().filter(|part| !gone.iter().any(|node| of(node, part))).map(|part| applied(part));
    told.chain(silent.then_some(0)).min()
}

fn is_over(lease: &Lease, now: Timestamp) -> bool {
    let spec = lease.spec.as_ref();
    let renewed = spec.and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0);
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
    renewed.is_some_and(|renewed| now.as_second() - renewed.as_second() > i64::from(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_part_counts() {
        let now = Timestamp::from_second(1000).expect("a time");
        let least = |leases: &[Lease]| least(leases, now);
        let lease = |of: &str, text: &str| -> Lease {
            let metadata = json!({"name": of, "labels": {LABEL: "true"}, "annotations": {ANNOTATION: text}});
            serde_json::from_value(json!({"metadata": metadata})).expect("a lease")
        };
        let node = |name: &str, renewed: i64| -> Lease {
            let at = Timestamp::from_second(renewed).expect("a time").strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
            let lease = json!({"metadata": {"name": name}, "spec": {"leaseDurationSeconds": 40, "renewTime": at}});
            serde_json::from_value(lease).expect("a node's lease")
        };
        assert_eq!(least(&[]), None);
        assert_eq!(least(&[node("a", 1000)]), Some(0));
        assert_eq!(
            least(&[node("a", 1000), node("b", 1000), lease("a-services", "12")]),
            Some(0),
            "b has said nothing"
        );
        assert_eq!(least(&[node("a", 1000), node("b", 1), lease("a-services", "12")]), Some(12), "b is gone");
        assert_eq!(least(&[lease("a-services", "12"), lease("a-ingress", "9")]), Some(9));
        assert_eq!(least(&[lease("a-services", "12"), lease("a-ingress", "nonsense")]), Some(0));
        let of_two = [lease("a-services", "12"), lease("a-b-services", "9")];
        for (renewed, expected) in [(1000, 9), (960, 9), (959, 12)] {
            let leases = [&of_two[..], &[node("a", 1000), node("a-b", renewed)]].concat();
            assert_eq!(least(&leases), Some(expected), "the other node's lease of {renewed}");
        }
    }

    #[test]
    fn revisions_are_numbers() {
        let slice = |revision: &str| -> EndpointSlice {
            let slice = json!({"metadata": {"resourceVersion": revision}, "addressType": "IPv4", "endpoints": []});
            serde_json::from_value(slice).expect("a slice")
        };
        assert_eq!(newest(&[slice("9"), slice("10"), slice("x")]), 10);
        assert_eq!(newest(&[]), 0);
    }
}
