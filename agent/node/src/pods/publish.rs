//! Writes a pod's status to the API, only when it differs from what is there, and deletes its object at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};

use super::observe::Observed;
use crate::context::Context;
use crate::status::{Known, compute, patch};

/// Fields that are removed from the API when we have no value for them.
const OWNED: [&str; 4] = ["message", "podIP", "podIPs", "reason"];

#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("pod status not written")]
    Patch { source: Box<kube::Error> },
    #[error("pod not deleted")]
    Delete { source: Box<kube::Error> },
}

/// The last status we wrote, for as long as the informer has not delivered it.
#[derive(Debug, Default)]
pub struct Published {
    last: Option<Pod>,
    /// A write was begun, and nobody waited for its end: what the API has is not known.
    sending: Arc<AtomicBool>,
}

/// A status that differs from the API's.
#[derive(Clone, Debug)]
pub struct Write {
    namespace: String,
    name: String,
    body: Value,
}

fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

impl Published {
    /// What is to be written, if anything.
    pub fn prepare(&self, pod: &Pod, observed: &Observed, known: &Known, now: Timestamp) -> Option<Write> {
        let base = self.base(pod);
        let status = compute(&base, observed, known, now);
        let old = match self.sending.load(Ordering::Acquire) {
            false => serde_json::to_value(&base.status).unwrap_or(Value::Null),
            true => OWNED.iter().map(|key| ((*key).to_owned(), Value::Null)).collect(),
        };
        let new = serde_json::to_value(&status).unwrap_or(Value::Null);
        let status = patch::diff(&old, &new, &OWNED)?;
        let (namespace, name) = place(pod);
        let body = json!({"metadata": {"uid": pod.metadata.uid}, "status": status});
        Some(Write { namespace: namespace.to_owned(), name: name.to_owned(), body })
    }

    /// The pod with the newest status that is known.
    pub fn base(&self, pod: &Pod) -> Pod {
        let newer = self.last.as_ref().filter(|last| version(last) > version(pod));
        let mut base = pod.clone();
        if let Some(last) = newer {
            base.status = last.status.clone();
        }
        base
    }

    /// Sends it; the answer is to be noted.
    pub fn send(
        &self,
        context: &Arc<Context>,
        write: Write,
    ) -> impl Future<Output = Result<Option<Pod>, PublishError>> + Send + 'static {
        let (context, sending) = (Arc::clone(context), Arc::clone(&self.sending));
        async move {
            sending.store(true, Ordering::Release);
            let api: Api<Pod> = Api::namespaced(context.client.clone(), &write.namespace);
            let sent = api.patch_status(&write.name, &PatchParams::default(), &Patch::Merge(write.body)).await;
            match sent {
                Ok(written) => {
                    sending.store(false, Ordering::Release);
                    Ok(Some(written))
                }
                // Gone, or another pod of this name: the informer tells in a moment.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
                Err(source) => Err(PublishError::Patch { source: Box::new(source) }),
            }
        }
    }

    pub fn note(&mut self, written: Result<Option<Pod>, PublishError>) -> Result<(), PublishError> {
        self.last = written?.or(self.last.take());
        Ok(())
    }
}

fn place(pod: &Pod) -> (&str, &str) {
    let meta = &pod.metadata;
    (meta.namespace.as_deref().unwrap_or("default"), meta.name.as_deref().unwrap_or_default())
}

/// Removes the object for good, if it is still the same pod.
pub async fn delete(context: &Context, pod: &Pod) -> Result<(), PublishError> {
    let (namespace, name) = place(pod);
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    match api.delete(name, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(source) => Err(PublishError::Delete { source: Box::new(source) }),
    }
}
