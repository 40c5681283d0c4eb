//! Before a pod that Services send traffic to is stopped, that traffic has to go elsewhere: waits until no endpoint
//! says that the pod is ready, and for as long as it takes until packets follow.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use tokio::time::Instant;

use crate::context::Context;

/// The controllers answer within milliseconds; a pod is not held for longer than this if they do not.
const DRAIN_MAX: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);
/// From the endpoint's change to the kernel's tables: one nft transaction, also on a busy small board.
const SETTLE: Duration = Duration::from_millis(700);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Traffic {
    None,
    Arriving,
    Leaving,
}

/// Returns at once for a pod that no Service selects.
pub async fn wait(context: &Context, pod: &Pod) {
    let slices: Api<EndpointSlice> = Api::namespaced(context.client.clone(), &pod.namespace().unwrap_or_default());
    let started = Instant::now();
    while started.elapsed() < DRAIN_MAX {
        let found = match slices.list(&ListParams::default()).await {
            Ok(list) => traffic(&list.items, &pod.uid().unwrap_or_default()),
            Err(error) => {
                tracing::debug!(%error, "endpoints could not be read");
                return;
            }
        };
        match found {
            Traffic::None => return,
            Traffic::Leaving => break,
            Traffic::Arriving => tokio::time::sleep(POLL).await,
        }
    }
    tokio::time::sleep(SETTLE).await;
}

fn traffic(slices: &[EndpointSlice], uid: &str) -> Traffic {
    let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    let ours = endpoints.filter(|e| e.target_ref.as_ref().and_then(|t| t.uid.as_deref()) == Some(uid));
    let ready =
        |e: &k8s_openapi::api::discovery::v1::Endpoint| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
    ours.fold(Traffic::None, |found, endpoint| match (found, ready(endpoint)) {
        (Traffic::Arriving, _) | (Traffic::None | Traffic::Leaving, true) => Traffic::Arriving,
        (Traffic::None | Traffic::Leaving, false) => Traffic::Leaving,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(ready: bool, uid: &str) -> EndpointSlice {
        serde_json::from_value(json!({"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "uid": uid}}]}))
        .expect("a slice")
    }

    #[test]
    fn traffic_leaves_when_no_service_finds_the_pod_ready() {
        assert_eq!(traffic(&[slice(true, "other")], "a"), Traffic::None);
        assert_eq!(traffic(&[slice(false, "a")], "a"), Traffic::Leaving);
        assert_eq!(traffic(&[slice(false, "a"), slice(true, "a")], "a"), Traffic::Arriving);
    }
}
