//! Certificate signing requests: who asked, who may decide, and who may sign. What is right in one itself is
//! `skiff_object::validate`'s; the certificates of the box's own signers are made by a controller.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use skiff_object::meta;
use skiff_object::validate::{FieldError, FieldErrorKind};
use skiff_store::Store;

use crate::Api;
use crate::pki::CertificateRequest;
use crate::rbac::Attributes;
use crate::status::ApiError;
use crate::users::MASTERS;
use crate::write::Write;

const CLIENTS: &str = "kubernetes.io/kube-apiserver-client";

/// Who asked is who wrote it, whatever is sent.
pub fn set_requestor(write: &Write<'_>, object: &mut Value) {
    let user = &write.author.user;
    let spec = meta::map_mut(&mut object["spec"]);
    for field in ["uid", "extra"] {
        spec.remove(field);
    }
    spec.insert("username".to_owned(), json!(user.name));
    spec.insert("groups".to_owned(), json!(user.groups));
    if !user.uid.is_empty() {
        spec.insert("uid".to_owned(), json!(user.uid));
    }
    if !user.extra.is_empty() {
        spec.insert("extra".to_owned(), json!(user.extra));
    }
}

/// CertificateApproval, CertificateSigning and CertificateSubjectRestriction.
pub fn check<S: Store>(
    api: &Api<S>,
    write: &Write<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<Vec<FieldError>, ApiError> {
    let signer = meta::text_at(new, &["spec", "signerName"]);
    let refuse = |why: &str| Err(ApiError::forbidden_object(write.kind, meta::name(new), why));
    let Some(old) = old else {
        return match read(new) {
            Ok(request) if signer == CLIENTS && request.organizations.iter().any(|one| one == MASTERS) => {
                refuse(&format!("use of {CLIENTS} signer with {MASTERS} group is not allowed"))
            }
            Ok(_) => Ok(Vec::new()),
            Err(why) => Ok(vec![FieldError::new(FieldErrorKind::Invalid, "spec.request", None, &why)]),
        };
    };
    let verb = match write.author.subresource.as_str() {
        "approval" => "approve",
        "status" if is_signed(new, old) => "sign",
        _ => return Ok(Vec::new()),
    };
    if may(api, write, verb, signer) {
        return Ok(Vec::new());
    }
    refuse(&format!("user not permitted to {verb} requests with signerName {signer:?}"))
}

fn read(object: &Value) -> Result<CertificateRequest, String> {
    let bytes = BASE64_STANDARD.decode(meta::text_at(object, &["spec", "request"])).unwrap_or_default();
    CertificateRequest::read(&String::from_utf8_lossy(&bytes))
}

fn is_signed(new: &Value, old: &Value) -> bool {
    let certificate = |object| meta::text_at(object, &["status", "certificate"]).to_owned();
    let has_failed = |object| {
        let all = meta::items(meta::at(object, &["status", "conditions"]));
        all.iter().any(|condition| condition["type"] == "Failed")
    };
    certificate(new) != certificate(old) || has_failed(new) && !has_failed(old)
}

/// The very signer, or all of its domain.
fn may<S: Store>(api: &Api<S>, write: &Write<'_>, verb: &str, signer: &str) -> bool {
    let domain = signer.split_once('/').map(|(domain, _)| format!("{domain}/*"));
    let allows = |name: &str| {
        let (group, resource) = ("certificates.k8s.io", "signers");
        let wanted = Attributes::Resource { verb, group, resource, namespace: None, name: Some(name), of_node: None };
        api.authorizer().allows(&write.author.user, &wanted)
    };
    write.author.is_api || allows(signer) || domain.is_some_and(|domain| allows(&domain))
}
