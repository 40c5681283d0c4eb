//! Who a pod of a StatefulSet is: its name, its number, its claims. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

use crate::revisions::POD_LABEL as REVISION_LABEL;
use crate::{objects, owners, revisions, templates};

const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The number of a pod: what its name ends with. `None` if it is no name of this set's.
pub fn ordinal(set: &StatefulSet, name: &str) -> Option<i32> {
    let digits = name.strip_prefix(&set.name_any())?.strip_prefix('-')?;
    let number: i32 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

pub fn revision_of(pod: &Pod) -> &str {
    objects::labels(pod).get(REVISION_LABEL).map_or("", String::as_str)
}

/// A pod as one revision has it. Without a template that can be read it is as the set says now.
pub fn pod(set: &StatefulSet, revision: &ControllerRevision, ordinal: i32) -> Pod {
    let template = revisions::template(revision).unwrap_or_else(|| set.spec.template.clone());
    let mut pod = templates::pod(set, &template);
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(format!("{}-{ordinal}", set.name_any()));
    let mut labels = identity(set, ordinal);
    labels.insert(REVISION_LABEL.to_owned(), revision.name_any());
    pod.metadata.labels.get_or_insert_default().extend(labels);
    let name = pod.name_any();
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain = set.spec.service_name.clone();
    put_claims(set, ordinal, spec);
    pod
}

fn identity(set: &StatefulSet, ordinal: i32) -> BTreeMap<String, String> {
    let name = format!("{}-{ordinal}", set.name_any());
    BTreeMap::from([(NAME_LABEL.to_owned(), name), (INDEX_LABEL.to_owned(), ordinal.to_string())])
}

/// The labels that a pod lacks to be who it is.
pub fn lost(set: &StatefulSet, pod: &Pod, ordinal: i32) -> BTreeMap<String, String> {
    let mut lost = identity(set, ordinal);
    lost.retain(|key, value| objects::labels(pod).get(key) != Some(value));
    lost
}

/// A claim's volume replaces one of that name that the template has.
fn put_claims(set: &StatefulSet, ordinal: i32, spec: &mut PodSpec) {
    let templates = set.spec.volume_claim_templates.as_deref().unwrap_or_default();
    let volume = |template: &PersistentVolumeClaim| Volume {
        name: template.name_any(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim_name(set, template, ordinal),
            read_only: None,
        }),
        ..Volume::default()
    };
    let mut volumes: Vec<Volume> = templates.iter().map(volume).collect();
    let own = spec.volumes.take().unwrap_or_default();
    volumes.extend(own.into_iter().filter(|own| templates.iter().all(|template| template.name_any() != own.name)));
    spec.volumes = Some(volumes).filter(|volumes| !volumes.is_empty());
}

fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", template.name_any(), set.name_any())
}

/// The claims of one number.
pub fn claims(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let chosen = set.spec.selector.match_labels.clone().unwrap_or_default();
    let claim = |template: &PersistentVolumeClaim| {
        let mut claim = template.clone();
        claim.metadata.name = Some(claim_name(set, template, ordinal));
        claim.metadata.namespace = set.namespace();
        claim.metadata.labels.get_or_insert_default().extend(chosen.clone());
        claim.status = None;
        claim
    };
    set.spec.volume_claim_templates.iter().flatten().map(claim).collect()
}

/// What is to become of the claims of a number when its set, or it alone, is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// They stay.
    Nobody,
    /// They go with the set.
    Set,
    /// They go with the pod.
    Pod,
}

pub fn keeper(set: &StatefulSet, is_condemned: bool) -> Keeper {
    let policy = set.spec.persistent_volume_claim_retention_policy.as_ref();
    let deletes = |when: Option<&String>| when.map(String::as_str) == Some("Delete");
    let when_scaled = deletes(policy.and_then(|policy| policy.when_scaled.as_ref()));
    let when_deleted = deletes(policy.and_then(|policy| policy.when_deleted.as_ref()));
    match (when_scaled && is_condemned, when_deleted) {
        (true, _) => Keeper::Pod,
        (false, true) => Keeper::Set,
        (false, false) => Keeper::Nobody,
    }
}

/// The owners that a claim is to have, if it has others. One that somebody else controls stays his.
pub fn owners_of(
    set: &StatefulSet,
    pod: &Pod,
    claim: &PersistentVolumeClaim,
    keeper: Keeper,
) -> Option<Vec<OwnerReference>> {
    let is_ours = |owner: &OwnerReference| {
        let is_set = owner.kind == StatefulSet::kind(&()) && owner.name == set.name_any();
        is_set || owner.kind == Pod::kind(&()) && owner.name == pod.name_any()
    };
    let old = claim.metadata.owner_references.clone().unwrap_or_default();
    if old.iter().any(|owner| owner.controller == Some(true) && !is_ours(owner)) {
        return None;
    }
    let mut new: Vec<OwnerReference> = old.iter().filter(|owner| !is_ours(owner)).cloned().collect();
    match keeper {
        Keeper::Nobody => {}
        Keeper::Set => new.push(owners::controller_reference(set)),
        // A pod that does not exist yet keeps nothing.
        Keeper::Pod if pod.metadata.uid.is_none() => {}
        Keeper::Pod => new.push(owners::controller_reference(pod)),
    }
    (new != old).then_some(new)
}
