//! Before a pod that Services send traffic to is stopped, that traffic has to go elsewhere: waits until no endpoint
//! says that the pod is ready, and until everything that sends traffic has taken note of it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use skiff_reconcile::applied;
use tokio::time::Instant;

use crate::context::Context;

/// The controllers and the tables follow within milliseconds, on a busy small board within a second; a pod is not held
/// for longer than this if they do not.
const DRAIN_MAX: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Traffic {
    None,
    Arriving,
    /// Since this revision no slice says that the pod is ready.
    Leaving(u64),
}

/// Returns at once for a pod that no Service selects.
pub async fn wait(context: &Context, pod: &Pod) {
    let uid = pod.uid().unwrap_or_default();
    let waited =
        tokio::time::timeout(DRAIN_MAX, left(&context.client, &pod.namespace().unwrap_or_default(), &uid)).await;
    match waited {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "endpoints could not be read"),
        Err(_) => tracing::warn!(pod = %pod.name_any(), "stopped although traffic may still be sent to it"),
    }
}

/// Until nothing is sent to the pod.
async fn left(client: &Client, namespace: &str, uid: &str) -> Result<(), kube::Error> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let started = Instant::now();
    let mut had_traffic = false;
    loop {
        let list = slices.list(&ListParams::default()).await?.items;
        let since = match traffic(&list, uid) {
            Traffic::None if !had_traffic => return Ok(()),
            // It is in no slice any more: one of them was changed then.
            Traffic::None => Some(applied::newest(&list)),
            Traffic::Arriving => None,
            Traffic::Leaving(since) => Some(since),
        };
        had_traffic = true;
        if let Some(since) = since
            && applied::by_all(client).await?.is_some_and(|applied| applied >= since)
        {
            tracing::debug!(after = ?started.elapsed(), "traffic goes elsewhere");
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

fn traffic(slices: &[EndpointSlice], uid: &str) -> Traffic {
    let is_ours = |endpoint: &&Endpoint| endpoint.target_ref.as_ref().and_then(|t| t.uid.as_deref()) == Some(uid);
    let is_ready = |e: &Endpoint| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
    let found = slices.iter().filter_map(|slice| {
        let mut ours = slice.endpoints.iter().flatten().filter(is_ours).peekable();
        ours.peek()?;
        Some(if ours.any(is_ready) { Traffic::Arriving } else { Traffic::Leaving(applied::newest([slice])) })
    });
    found.fold(Traffic::None, |all, one| match (all, one) {
        (Traffic::Arriving, _) | (_, Traffic::Arriving) => Traffic::Arriving,
        (Traffic::None, other) | (other, Traffic::None) => other,
        (Traffic::Leaving(a), Traffic::Leaving(b)) => Traffic::Leaving(a.max(b)),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use skiff_reconcile::Applied;

    use super::*;
    use crate::testing::TestApi;

    fn slice(ready: bool, uid: &str, revision: u64) -> EndpointSlice {
        serde_json::from_value(json!({"metadata": {"name": "s", "resourceVersion": revision.to_string()}, "addressType": "IPv4", "endpoints": [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "uid": uid}}]}))
        .expect("a slice")
    }

    #[tokio::test]
    async fn a_pod_is_held_until_every_part_sends_elsewhere() {
        const PATH: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/s";
        let api = TestApi::default();
        let put = |ready| {
            let endpoint =
                json!({"addresses": ["10.0.0.1"], "conditions": {"ready": ready}, "targetRef": {"uid": "a"}});
            let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": "s", "namespace": "default"}, "endpoints": [endpoint]});
            api.put(PATH, slice);
        };
        let now = || serde_json::from_value::<EndpointSlice>(api.get(PATH).unwrap()).unwrap();
        let client = api.client();
        let [mut services, mut ingress] = ["services", "ingress"].map(|part| Applied::new(client.clone(), "box", part));
        put(true);
        services.publish([&now()]).await.unwrap();
        ingress.publish([&now()]).await.unwrap();
        let mut waits = Box::pin(left(&client, "default", "a"));
        let mut is_held = async || tokio::time::timeout(5 * POLL, &mut waits).await.is_err();
        assert!(is_held().await, "it is ready");
        put(false);
        assert!(is_held().await, "nobody took note");
        services.publish([&now()]).await.unwrap();
        assert!(is_held().await, "the ingress did not take note");
        ingress.publish([&now()]).await.unwrap();
        tokio::time::timeout(DRAIN_MAX, waits).await.expect("all took note").unwrap();
        left(&client, "default", "no Service's").await.unwrap();
    }

    #[test]
    fn traffic_leaves_when_no_service_finds_the_pod_ready() {
        assert_eq!(traffic(&[slice(true, "other", 1)], "a"), Traffic::None);
        assert_eq!(traffic(&[slice(false, "a", 7), slice(true, "other", 9)], "a"), Traffic::Leaving(7));
        assert_eq!(traffic(&[slice(false, "a", 7), slice(false, "a", 8)], "a"), Traffic::Leaving(8));
        assert_eq!(traffic(&[slice(false, "a", 7), slice(true, "a", 8)], "a"), Traffic::Arriving);
    }
}
