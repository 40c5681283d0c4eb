//! How far a part that sends traffic to endpoints has come: the newest EndpointSlice that its routes are made of, told by
//! a Lease, so that who stops a pod can wait until nothing is sent there any more. Written when endpoints changed, to
//! memory (Leases are volatile). Who waits is in the node agent.

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

/// What every part has applied. `None`: none has said anything yet.
pub async fn by_all(client: &Client) -> Result<Option<u64>, kube::Error> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let list = leases.list(&ListParams::default().labels(&format!("{LABEL}=true"))).await?;
    Ok(least(&list.items))
}

fn least(leases: &[Lease]) -> Option<u64> {
    let applied = |lease: &Lease| lease.annotations().get(ANNOTATION).and_then(|text| text.parse().ok()).unwrap_or(0);
    leases.iter().map(applied).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_part_counts() {
        let lease = |text: &str| -> Lease {
            serde_json::from_value(json!({"metadata": {"annotations": {ANNOTATION: text}}})).expect("a lease")
        };
        assert_eq!(least(&[]), None);
        assert_eq!(least(&[lease("12"), lease("9")]), Some(9));
        assert_eq!(least(&[lease("12"), lease("nonsense"), Lease::default()]), Some(0));
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
