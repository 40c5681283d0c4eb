//! What the template of a workload was and is: ControllerRevisions, for controllers whose pods are of two templates while
//! they roll out. Written as upstream writes them, so that `kubectl rollout history` and `undo` can read them.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};

use crate::owners::{self, Claimable};
use crate::{objects, templates};

/// On pods: of which revision they are.
pub const POD_LABEL: &str = "controller-revision-hash";
/// On revisions.
const HASH_LABEL: &str = "controller.kubernetes.io/hash";

/// The owner's as a whole.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The revision that a template is.
#[derive(Debug, PartialEq)]
pub enum Newest {
    Known(Arc<ControllerRevision>),
    /// Somebody went back to it: it becomes the last one again.
    Renumber(Arc<ControllerRevision>, i64),
    Make(Box<ControllerRevision>),
}

/// What became of it.
#[derive(Debug)]
pub enum Settled {
    Revision(Arc<ControllerRevision>),
    /// Its name is that of another: the owner counts it, and takes the next name.
    Collision,
}

/// The part of an owner that a revision keeps, as a patch that brings it back.
fn data(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    template["$patch"] = "replace".into();
    json!({"spec": {"template": template}})
}

/// `None` where somebody wrote something else into it.
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.0.get("spec")?.get("template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// Of several that are alike, the last; and then as many as there are, so that it is the last of all.
pub fn newest<O: Resource<DynamicType = ()>>(
    owner: &O,
    wanted: &PodTemplateSpec,
    revisions: &[Arc<ControllerRevision>],
    collisions: Option<i32>,
) -> Newest {
    let last = revisions.iter().filter_map(|revision| revision.revision).max().unwrap_or(0);
    let alike = revisions.iter().filter(|revision| template(revision).as_ref() == Some(wanted));
    match alike.max_by_key(|revision| revision.revision) {
        Some(revision) if revision.revision == Some(last) => Newest::Known(Arc::clone(revision)),
        Some(revision) => Newest::Renumber(Arc::clone(revision), last.saturating_add(1)),
        None => Newest::Make(Box::new(new(owner, wanted, last.saturating_add(1), collisions))),
    }
}

fn new<O: Resource<DynamicType = ()>>(
    owner: &O,
    template: &PodTemplateSpec,
    number: i64,
    collisions: Option<i32>,
) -> ControllerRevision {
    let hash = templates::hash(template, collisions);
    let mut labels = template.metadata.clone().unwrap_or_default().labels.unwrap_or_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let mut annotations = owner.meta().annotations.clone().unwrap_or_default();
    annotations.remove(LAST_APPLIED);
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", owner.name_any())),
            namespace: owner.namespace(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![owners::controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        data: RawExtension(data(template)),
        revision: Some(number),
    }
}

/// Those beyond the limit that no pod is of, the oldest first.
pub fn surplus(
    revisions: &[Arc<ControllerRevision>],
    is_live: impl Fn(&str) -> bool,
    limit: Option<i32>,
) -> Vec<&Arc<ControllerRevision>> {
    let limit = usize::try_from(limit.unwrap_or(10)).unwrap_or(0);
    let mut old: Vec<_> = revisions.iter().filter(|revision| !is_live(&revision.name_any())).collect();
    old.sort_by_key(|revision| revision.revision);
    old.truncate(old.len().saturating_sub(limit));
    old
}

fn api<O: Claimable>(client: &Client, owner: &O) -> Api<ControllerRevision> {
    Api::namespaced(client.clone(), &owner.namespace().unwrap_or_default())
}

/// Writes what is missing of the newest.
pub async fn settle<O: Claimable>(client: &Client, owner: &O, newest: Newest) -> Result<Settled, kube::Error> {
    let api = api(client, owner);
    match newest {
        Newest::Known(revision) => Ok(Settled::Revision(revision)),
        Newest::Renumber(revision, number) => {
            let patch = json!({"revision": number, "metadata": {"uid": revision.uid()}});
            let written = api.patch(&revision.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
            Ok(Settled::Revision(Arc::new(written)))
        }
        Newest::Make(revision) => match api.create(&PostParams::default(), &revision).await {
            Ok(made) => Ok(Settled::Revision(Arc::new(made))),
            Err(error) if objects::is_conflict(&error) => {
                let found = api.get(&revision.name_any()).await?;
                let ours = owners::controller_uid(&found.metadata) == owner.meta().uid.as_deref();
                let is_alike = ours && found.data == revision.data;
                Ok(if is_alike { Settled::Revision(Arc::new(found)) } else { Settled::Collision })
            }
            Err(error) => Err(error),
        },
    }
}

/// The next name is another then.
pub fn count_collision(collisions: &mut Option<i32>) {
    *collisions = Some(collisions.unwrap_or(0) + 1);
}

pub async fn delete<O: Claimable>(
    client: &Client,
    owner: &O,
    revision: &ControllerRevision,
) -> Result<(), kube::Error> {
    objects::settle(api(client, owner).delete(&revision.name_any(), &DeleteParams::background()).await)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::StatefulSet;

    use super::*;

    fn owner() -> StatefulSet {
        serde_json::from_value(json!({"metadata": {"name": "db", "namespace": "n", "uid": "u"}})).expect("a set")
    }

    fn of(image: &str) -> PodTemplateSpec {
        let spec = json!({"containers": [{"name": "a", "image": image}]});
        serde_json::from_value(json!({"metadata": {"labels": {"app": "db"}}, "spec": spec})).expect("a template")
    }

    fn made(image: &str, number: i64) -> Arc<ControllerRevision> {
        Arc::new(new(&owner(), &of(image), number, None))
    }

    #[test]
    fn a_template_is_one_revision_however_often_one_goes_back() {
        let Newest::Make(first) = newest(&owner(), &of("a:1"), &[], None) else { panic!("there is none") };
        assert_eq!((first.revision, template(&first)), (Some(1), Some(of("a:1"))));
        let all = [made("a:1", 1), made("a:2", 2)];
        assert_eq!(newest(&owner(), &of("a:2"), &all, None), Newest::Known(Arc::clone(&all[1])));
        assert_eq!(newest(&owner(), &of("a:1"), &all, None), Newest::Renumber(Arc::clone(&all[0]), 3));
        let Newest::Make(third) = newest(&owner(), &of("a:3"), &all, Some(1)) else { panic!("it is new") };
        assert_eq!(third.revision, Some(3));
        assert_ne!(third.name_any(), made("a:3", 3).name_any(), "a collision takes another name");
    }

    #[test]
    fn what_is_not_in_use_goes_beyond_the_limit() {
        let all = [made("a:3", 3), made("a:1", 1), made("a:2", 2), made("a:4", 4)];
        let live = all[1].name_any();
        let numbers = |limit| -> Vec<i64> {
            surplus(&all, |name| name == live, limit).iter().filter_map(|revision| revision.revision).collect()
        };
        assert_eq!([numbers(Some(1)), numbers(Some(0)), numbers(None)], [vec![2, 3], vec![2, 3, 4], vec![]]);
    }

    #[test]
    fn what_is_no_revision_is_like_no_template() {
        let mut odd = new(&owner(), &of("a:1"), 5, None);
        odd.data = RawExtension(json!({"spec": "odd"}));
        assert_eq!(template(&odd), None);
        assert!(
            matches!(newest(&owner(), &of("a:1"), &[Arc::new(odd)], None), Newest::Make(made) if made.revision == Some(6))
        );
    }
}
