//! Certificates by request: approves those of nodes, signs what is approved for the box's own signers, and removes what is
//! over. Scope: cluster.
//!
//! Writes the status and the approval of requests. Other signers' requests are theirs; only what is over of them goes, too.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use skiff_reconcile::{BoxError, Changes, Failures, Informer, Next, Reconciler, Scope};

use crate::objects;

mod plan;

pub use plan::Requested;
use plan::{Plan, plan};

/// Who can read requests and sign them: it has the keys.
pub trait Signer: Send + Sync + std::fmt::Debug {
    fn read(&self, request: &str) -> Result<Requested, String>;
    fn sign(&self, request: &str, usages: &[String], lifetime: std::time::Duration) -> Result<String, String>;
}

pub struct Controller {
    client: Client,
    signer: Arc<dyn Signer>,
    requests: Informer<CertificateSigningRequest>,
}

impl Controller {
    pub fn new(client: Client, signer: Arc<dyn Signer>, requests: Informer<CertificateSigningRequest>) -> Self {
        Self { client, signer, requests }
    }

    pub fn wakes(&self) -> Vec<Changes> {
        vec![self.requests.changes()]
    }

    async fn settle(&self, request: &CertificateSigningRequest, failures: &mut Failures) -> Next {
        let name = request.name_any();
        let text = String::from_utf8_lossy(&request.spec.request.0).into_owned();
        let done = match plan(request, &self.signer.read(&text), Timestamp::now()) {
            Plan::Wait(next) => return next,
            Plan::Delete => self.delete(request).await,
            Plan::Fail(why) => self.say(&name, "Failed", "SignerValidationFailure", &why).await,
            Plan::Approve { right, left } => match self.approve(request, right).await {
                Ok(false) => return Next::After(left),
                approved => approved.map(drop),
            },
            Plan::Sign { lifetime } => match self.signer.sign(&text, plan::usages(request), lifetime) {
                Ok(certificate) => self.issue(&name, &certificate).await,
                Err(why) => self.say(&name, "Failed", "SigningError", &why).await,
            },
        };
        failures.keep(name, objects::settle(done));
        // Its own write wakes this again.
        Next::Change
    }

    async fn delete(&self, request: &CertificateSigningRequest) -> Result<(), kube::Error> {
        let requests: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        requests.delete(&request.name_any(), &DeleteParams::default()).await.map(drop)
    }

    async fn issue(&self, name: &str, certificate: &str) -> Result<(), kube::Error> {
        let requests: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({"status": {"certificate": BASE64_STANDARD.encode(certificate)}}));
        requests.patch_status(name, &PatchParams::default(), &patch).await.map(drop)
    }

    async fn say(&self, name: &str, ty: &str, reason: &str, why: &str) -> Result<(), kube::Error> {
        let requests: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let condition = json!({"type": ty, "status": "True", "reason": reason, "message": why});
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        requests.patch_status(name, &PatchParams::default(), &patch).await.map(drop)
    }

    /// Where whoever asks has the right to it.
    /// Whether whoever asks has the right.
    async fn approve(&self, request: &CertificateSigningRequest, right: &str) -> Result<bool, kube::Error> {
        let spec = &request.spec;
        let review: SubjectAccessReview = serde_json::from_value(json!({"spec": {
            "user": spec.username, "uid": spec.uid, "groups": spec.groups, "extra": spec.extra,
            "resourceAttributes": {"group": "certificates.k8s.io", "resource": "certificatesigningrequests",
                "verb": "create", "subresource": right},
        }}))
        .map_err(kube::Error::SerdeError)?;
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let reviewed = reviews.create(&PostParams::default(), &review).await?;
        if !reviewed.status.is_some_and(|status| status.allowed) {
            return Ok(false);
        }
        let condition = json!({"type": "Approved", "status": "True", "reason": "AutoApproved",
            "message": "Auto approving kubelet client certificate after SubjectAccessReview."});
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        let requests: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let params = PatchParams::default();
        requests.patch_approval(&request.name_any(), &params, &patch).await.map(|_| true)
    }
}

impl Reconciler for Controller {
    const NAME: &'static str = "certificate-controller";
    const SCOPE: Scope = Scope::Cluster;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        self.requests.synced().await;
        let (mut failures, mut next) = (Failures::default(), Next::Change);
        for request in self.requests.list() {
            next = next.sooner(self.settle(&request, &mut failures).await);
        }
        failures.into_result()?;
        Ok(next)
    }
}

#[cfg(test)]
mod tests;
