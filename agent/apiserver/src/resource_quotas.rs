//! Resource quotas: what is used of each is written in one commit with the object that uses it, or that goes. So any number of
//! writers, in any number of API servers, never have more together than there is. What an object costs is
//! `object::resource_quotas`'s; that what is used is what there is, a controller looks after.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde_json::Value;
use skiff_object::kinds::{self, Kind};
use skiff_object::meta;
use skiff_object::resource_quotas::{self, Change, Count, Judgement};
use skiff_store::{Expect, Store};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::status::ApiError;
use crate::strategy::{Part, Strategy};
use crate::write::{Effect, Operation, Write};
use crate::{Api, codec};

/// Namespaces share this many turns: enough that few wait for another's.
const TURNS: usize = 64;

/// Whose turn it is to use something of a namespace's quotas. The compare in the store makes it right; turns only keep the
/// writers of one server from making each other try again.
pub struct Turns(Vec<Arc<Mutex<()>>>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..TURNS).map(|_| Arc::default()).collect())
    }
}

/// Held until the write is through.
pub type Turn = Option<OwnedMutexGuard<()>>;

impl Turns {
    async fn take(&self, namespace: &str, turn: &mut Turn) {
        if turn.is_none() {
            let mut hasher = DefaultHasher::new();
            namespace.hash(&mut hasher);
            let at = usize::try_from(hasher.finish() % TURNS as u64).unwrap_or(0);
            *turn = Some(Arc::clone(&self.0[at]).lock_owned().await);
        }
    }
}

/// An object as it is and as it will be.
pub struct Charged<'a> {
    pub old: Option<&'a Value>,
    /// None: it goes.
    pub new: Option<&'a mut Value>,
}

fn quotas_kind() -> &'static Kind {
    kinds::by_kind("v1", "ResourceQuota").expect("a built-in kind")
}

/// Refuses a write that a quota has no room for; answers with what has to be written beside it.
pub async fn charge<S: Store>(
    api: &Api<S>,
    write: &Write<'_>,
    mut charged: Charged<'_>,
    turn: &mut Turn,
) -> Result<Vec<skiff_store::Write>, ApiError> {
    let Some(namespace) = write.namespace.filter(|_| resource_quotas::is_counted(write.kind)) else {
        return Ok(Vec::new());
    };
    fill_in(api, write, namespace, &mut charged, turn).await?;
    let gone = charged.new.as_deref().is_none_or(|new| charged.old.is_some() && Strategy::of(write.kind).is_gone(new));
    let new = charged.new.as_deref().filter(|_| !gone);
    let planned = plan(api, write, namespace, (charged.old, new)).await?;
    if planned.is_empty() || turn.is_some() || write.author.effect == Effect::DryRun {
        return Ok(planned);
    }
    api.quota_turns().take(namespace, turn).await;
    plan(api, write, namespace, (charged.old, new)).await
}

/// What is written of the quotas that a change costs something of, as they are now.
async fn plan<S: Store>(
    api: &Api<S>,
    write: &Write<'_>,
    namespace: &str,
    (old, new): (Option<&Value>, Option<&Value>),
) -> Result<Vec<skiff_store::Write>, ApiError> {
    let object = new.or(old);
    let own = object.map(|object| write.kind.key(Some(namespace), meta::name(object)));
    let resource = write.kind.group_resource();
    let judgement = judgement(&write.operation);
    let mut writes = Vec::new();
    for entry in api.entries_of(quotas_kind(), Some(namespace)).await? {
        // What is written itself is not written twice.
        if own.as_deref() == Some(&*entry.key) {
            continue;
        }
        let mut quota = codec::decode(&entry);
        let charged = resource_quotas::charge(&quota, Change { resource: &resource, old, new }, judgement);
        let name = object.map(meta::name).unwrap_or_default();
        let charged = charged.map_err(|why| ApiError::forbidden_object(write.kind, name, &why))?;
        if let Some(used) = charged {
            quota["status"]["used"] = used;
            writes.push(skiff_store::Write::put(&entry.key, codec::encode(quota), Expect::At(entry.modified)));
        }
    }
    Ok(writes)
}

/// What happens to an object is counted; what is asked for it may be refused.
fn judgement(operation: &Operation<'_>) -> Judgement {
    match operation {
        Operation::Create(_) => Judgement::Refuse,
        Operation::Update { part, .. } | Operation::Apply { part, .. } => match part {
            Part::Main | Part::EphemeralContainers => Judgement::Refuse,
            Part::Status | Part::Finalize | Part::Binding | Part::Approval => Judgement::Count,
        },
        Operation::Delete { .. } => Judgement::Count,
    }
}

/// Gives a quota that is new, or has changed, the status that it is enforced with.
async fn fill_in<S: Store>(
    api: &Api<S>,
    write: &Write<'_>,
    namespace: &str,
    charged: &mut Charged<'_>,
    turn: &mut Turn,
) -> Result<(), ApiError> {
    let Some(quota) = charged.new.as_deref_mut().filter(|_| *write.kind == *quotas_kind()) else { return Ok(()) };
    if charged.old.is_some_and(|old| old.get("spec") == quota.get("spec")) {
        return Ok(());
    }
    api.quota_turns().take(namespace, turn).await;
    quota["status"] = count(api, namespace, quota, charged.old.is_none()).await?;
    Ok(())
}

/// The status of a quota by all there is.
async fn count<S: Store>(api: &Api<S>, namespace: &str, quota: &Value, is_new: bool) -> Result<Value, ApiError> {
    let catalogue = api.catalogue();
    let mut count = Count::new(quota);
    let stored = catalogue.kinds().filter(|kind| resource_quotas::is_counted(kind) && kind.storage_version.is_none());
    for kind in stored {
        let resource = kind.group_resource();
        if resource_quotas::limits(quota, &resource) {
            let entries = api.entries_of(kind, Some(namespace)).await?;
            entries.iter().for_each(|entry| count.add(&resource, &codec::decode(entry)));
        }
    }
    if is_new {
        count.add(&quotas_kind().group_resource(), quota);
    }
    Ok(count.status())
}
