//! How a pod ends: for good but still in the API, or altogether.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use super::super::observe::Observed;
use super::super::{drain, publish, stop};
use super::{BoxError, Desired, EXIT_LAG, Worker};
use crate::status::DEADLINE_EXCEEDED;
use crate::volumes::Volumes;

impl Worker {
    /// A pod that has ended for good but stays in the API: its containers are kept for their logs.
    pub(super) async fn finish(&mut self, pod: &Arc<Pod>, observed: Observed) -> Result<Option<Instant>, BoxError> {
        self.probes.stop();
        if self.known.ended.as_ref().is_some_and(|ended| ended.reason == DEADLINE_EXCEEDED) {
            self.publish(pod, &observed).await?;
        }
        let mut observed = observed;
        if observed.running().next().is_some() || observed.sandbox().is_some() {
            let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
            let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(30));
            stop::pod(&self.context, pod, &observed, grace).await?;
            observed = self.settled().await?;
        }
        self.look(pod, &observed);
        self.known.terminating = true;
        self.publish(pod, &observed).await?;
        self.volumes = Volumes::default();
        stop::release_volumes(&self.context, &self.uid);
        Ok(None)
    }

    /// Observes until the runtime has noted all ends that were asked for.
    async fn settled(&mut self) -> skiff_cri::Result<Observed> {
        for _ in 0..50 {
            let observed = self.observe().await?;
            if observed.running().next().is_none() {
                return Ok(observed);
            }
            tokio::time::sleep(EXIT_LAG).await;
        }
        self.observe().await
    }

    /// Ends the pod and removes it, here and in the API. `false`: the grace period was changed meanwhile.
    pub(super) async fn end(&mut self, desired: &Desired, grace: Duration) -> Result<bool, BoxError> {
        let pod = Arc::clone(desired.pod());
        self.probes.stop();
        self.known.terminating = true;
        let observed = self.observe().await?;
        self.adopt(&pod, &observed);
        let mut watched = self.desired.clone();
        let hurried = async move {
            let _ = watched.wait_for(|desired| desired.ending().is_some_and(|asked| asked < grace)).await;
        };
        let stopping = async {
            if !grace.is_zero() && observed.running().next().is_some() {
                drain::wait(&self.context, &pod).await;
            }
            stop::pod(&self.context, &pod, &observed, grace).await
        };
        tokio::select! {
            stopped = stopping => stopped?,
            () = hurried => return Ok(false),
        }
        let observed = self.settled().await?;
        self.look(&pod, &observed);
        if let Desired::Pod(_) = desired {
            let latest = Arc::clone(self.desired.borrow().pod());
            self.publish(&latest, &observed).await?;
        }
        stop::remove(&self.context, &self.uid, &observed).await?;
        self.exits.forget(&self.uid);
        if let Desired::Pod(_) = desired {
            publish::delete(&self.context, &pod).await?;
        }
        Ok(true)
    }
}
