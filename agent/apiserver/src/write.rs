//! The one way in for everything that is written: decode (the caller's) → prepare → fill in → extend → validate → check →
//! reserve → commit. Each step is elsewhere; here is their order, and what happens when somebody else was faster.

use serde_json::Value;
use skiff_object::kinds::Kind;
use skiff_object::managed::Managers;
use skiff_object::validate::FieldError;
use skiff_object::{meta, unenforced, validate};
use skiff_store::{Change, Entry, Expect, Store};

use crate::extensions::Told;
use crate::pod_security::{self, Reviewed};
use crate::prepare::{self, DeleteOptions, DeletePlan};
use crate::reserve::Reserved;
use crate::resource_quotas::{self, Charged};
use crate::status::ApiError;
use crate::strategy::{Part, Strategy};
use crate::users::User;
use crate::{Api, codec, node_authorizer, owners};

/// Tries of a write that did not say which revision it is based on; each loses only to a writer that won.
const CONFLICT_RETRIES_MAX: usize = 128;

/// Whether a write happens or is only checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Store,
    DryRun,
}

/// Who writes, and for good or only to see.
#[derive(Clone, Debug)]
pub struct Author {
    pub user: User,
    /// The program that the field belongs to: `fieldManager`, or what the client calls itself.
    pub manager: String,
    /// The part of the object that is written through a path of its own: `status`; else empty.
    pub subresource: String,
    pub effect: Effect,
    /// The API itself, which asks nobody.
    pub is_api: bool,
}

impl Author {
    /// The API itself, for what every cluster has.
    pub fn own() -> Self {
        let (user, manager) = (User::master("system:apiserver"), "skiff".to_owned());
        Self { user, manager, subresource: String::new(), effect: Effect::Store, is_api: true }
    }
}

/// From the current object to the wanted one; asked again after each conflict.
pub type ChangeFn<'a> = &'a (dyn Fn(&Value) -> Result<Value, ApiError> + Send + Sync);

pub enum Operation<'a> {
    Create(Value),
    Update {
        name: &'a str,
        part: Part,
        change: ChangeFn<'a>,
    },
    /// What its author wants of the object, whatever else it has.
    Apply {
        name: &'a str,
        part: Part,
        config: &'a Value,
        force: bool,
    },
    Delete {
        name: &'a str,
        options: &'a DeleteOptions,
    },
}

/// One write of one object.
pub struct Write<'a> {
    pub author: &'a Author,
    pub kind: &'a Kind,
    pub namespace: Option<&'a str>,
    pub operation: Operation<'a>,
}

/// What came of a write.
pub struct Written {
    pub object: Value,
    /// Whether it was not there before.
    pub made: bool,
    /// Whether it is there no longer.
    pub gone: bool,
    pub warnings: Vec<String>,
}

impl Written {
    fn kept(object: Value) -> Self {
        Self { object, made: false, gone: false, warnings: Vec::new() }
    }
}

/// What is to be stored, and what stands there now.
struct Draft {
    current: Option<Entry>,
    old: Option<Value>,
    /// `None`: the object is removed.
    new: Option<Value>,
    warnings: Vec<String>,
}

enum Drafted {
    Draft(Box<Draft>),
    /// There is nothing to do.
    Done(Written),
}

impl<S: Store> Api<S> {
    pub(crate) async fn write(&self, write: Write<'_>) -> Result<Written, ApiError> {
        let (mut last, mut turn) = (None, None);
        for _ in 0..CONFLICT_RETRIES_MAX {
            let mut draft = match self.draft(&write).await? {
                Drafted::Draft(draft) => draft,
                Drafted::Done(written) => return Ok(written),
            };
            let mut reserved = self.reserve(write.kind, draft.old.as_ref(), draft.new.as_mut()).await?;
            let charged = Charged { old: draft.old.as_ref(), new: draft.new.as_mut() };
            reserved.charged = resource_quotas::charge(self, &write, charged, &mut turn).await?;
            match self.commit(&write, &draft, reserved).await {
                Ok(written) => return Ok(written),
                Err(Refused::Again(error)) => last = Some(error),
                Err(Refused::Final(error)) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(ApiError::too_many_requests))
    }

    async fn draft(&self, write: &Write<'_>) -> Result<Drafted, ApiError> {
        match &write.operation {
            Operation::Create(object) => self.draft_create(write, object.clone(), None).await,
            Operation::Update { name, part, change } => {
                let (current, old) = self.stored(write, name).await?;
                let new = change(&old)?;
                self.draft_update(write, (current, old), name, *part, (new, None)).await
            }
            Operation::Apply { name, part, config, force } => {
                self.draft_apply(write, name, *part, config, *force).await
            }
            Operation::Delete { name, options } => self.draft_delete(write, name, options).await,
        }
    }

    async fn stored(&self, write: &Write<'_>, name: &str) -> Result<(Entry, Value), ApiError> {
        let current = self.entry(write.kind, write.namespace, name).await?;
        let current = current.ok_or_else(|| ApiError::not_found(write.kind, name))?;
        let old = self.served(write.kind, codec::decode(&current)).await?;
        Ok((current, old))
    }

    async fn draft_apply(
        &self,
        write: &Write<'_>,
        name: &str,
        part: Part,
        config: &Value,
        force: bool,
    ) -> Result<Drafted, ApiError> {
        match (self.stored(write, name).await, part) {
            (Ok((current, old)), _) => {
                let applied = owners::apply(self, write, part, Some(&old), config, force).await?;
                self.draft_update(write, (current, old), name, part, applied).await
            }
            (Err(error), Part::Main) if error.code == http::StatusCode::NOT_FOUND => {
                if !meta::uid(config).is_empty() {
                    let why = format!(
                        "uid mismatch: the provided object specified uid {}, and no existing object was found",
                        meta::uid(config)
                    );
                    return Err(ApiError::conflict(write.kind, name, &why));
                }
                if !meta::resource_version(config).is_empty() {
                    return Err(ApiError::modified(write.kind, name));
                }
                self.check_may_create(write, name).await?;
                let (object, managers) = owners::apply(self, write, part, None, config, force).await?;
                self.draft_create(write, object, managers).await
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn draft_create(
        &self,
        write: &Write<'_>,
        object: Value,
        managers: Option<Managers>,
    ) -> Result<Drafted, ApiError> {
        let (kind, namespace) = (write.kind, write.namespace);
        if kind.custom.as_ref().is_some_and(|custom| custom.is_going) {
            return Err(ApiError::definition_is_going());
        }
        self.namespace_lives(kind, namespace, meta::name(&object)).await?;
        let mut new = prepare::create(kind, namespace, object);
        self.fill_in_all(write, &mut new).await?;
        let (name, mut warnings) = (meta::name(&new).to_owned(), Vec::new());
        let told = Told { write, part: Part::Main, name: &name, new: Some(&new), old: None };
        if let Some(extended) = self.extend(told, &mut warnings).await? {
            new = prepare::extended(kind, extended, &new);
            // For what has been added.
            self.fill_in_all(write, &mut new).await?;
        }
        node_authorizer::check_write(self.config(), write, None, Some(&new))?;
        let errors = validate::create(kind, &new);
        let reviewed = Reviewed { write, part: Part::Main, new: &new, old: None };
        let warned = self.judge(reviewed, errors).await?;
        if write.author.effect == Effect::DryRun && self.entry(kind, namespace, &name).await?.is_some() {
            return Err(ApiError::already_exists(kind, &name));
        }
        owners::record(self, write, Part::Main, managers, None, &mut new).await;
        warnings.extend(unenforced::warnings(kind, &new, None));
        warnings.extend(warned);
        Ok(Drafted::Draft(Box::new(Draft { current: None, old: None, new: Some(new), warnings })))
    }

    async fn fill_in_all(&self, write: &Write<'_>, new: &mut Value) -> Result<(), ApiError> {
        for mutation in Strategy::of(write.kind).on_create {
            self.fill_in(*mutation, write, new).await?;
        }
        Ok(())
    }

    async fn draft_update(
        &self,
        write: &Write<'_>,
        (current, old): (Entry, Value),
        name: &str,
        part: Part,
        (new, managers): (Value, Option<Managers>),
    ) -> Result<Drafted, ApiError> {
        let (kind, strategy) = (write.kind, Strategy::of(write.kind));
        let managers = managers.or_else(|| owners::given(write, part, &new));
        check_identity(kind, write.namespace, name, &new, &old)?;
        let asked = meta::resource_version(&new).to_owned();
        if !asked.is_empty() && asked != meta::resource_version(&old) {
            return Err(ApiError::modified(kind, name));
        }
        let mut new = prepared(write, part, new, &old);
        let mut warnings = Vec::new();
        let told = Told { write, part, name, new: Some(&new), old: Some(&old) };
        if let Some(extended) = self.extend(told, &mut warnings).await? {
            new = prepared(write, part, extended, &old);
        }
        // Also of what changes nothing: the answer has the object.
        node_authorizer::check_write(self.config(), write, Some(&old), Some(&new))?;
        let errors = match part {
            Part::Main | Part::Approval => validate::update(kind, &new, &old),
            Part::Status if strategy.has_decisions => validate::update(kind, &new, &old),
            Part::Status => validate::status(kind, &new, &old),
            Part::EphemeralContainers => validate::ephemeral_containers(kind, &new, &old),
            Part::Finalize | Part::Binding => Vec::new(),
        };
        let reviewed = Reviewed { write, part, new: &new, old: Some(&old) };
        let warned = self.judge(reviewed, errors).await?;
        meta::set(&mut new, "resourceVersion", meta::resource_version(&old).to_owned());
        owners::record(self, write, part, managers, Some(&old), &mut new).await;
        if matches!(part, Part::Main | Part::EphemeralContainers) {
            warnings.extend(unenforced::warnings(kind, &new, Some(&old)));
        }
        warnings.extend(warned);
        if new == old && !strategy.is_gone(&new) {
            return Ok(Drafted::Done(Written { warnings, ..Written::kept(new) }));
        }
        Ok(Drafted::Draft(Box::new(Draft { current: Some(current), old: Some(old), new: Some(new), warnings })))
    }

    async fn draft_delete(&self, write: &Write<'_>, name: &str, options: &DeleteOptions) -> Result<Drafted, ApiError> {
        let kind = write.kind;
        if let Some(why) = Strategy::of(kind).undeletable(name) {
            return Err(ApiError::forbidden_object(kind, name, why));
        }
        let current = self.entry(kind, write.namespace, name).await?;
        let current = current.ok_or_else(|| ApiError::not_found(kind, name))?;
        let old = match self.served(kind, codec::decode(&current)).await {
            // A webhook that is gone must not hold what it would have converted.
            Err(_) if !self.has_judges(kind, write.author) => codec::decode(&current),
            served => served?,
        };
        node_authorizer::check_write(self.config(), write, Some(&old), None)?;
        check_preconditions(kind, name, &old, options)?;
        let told = Told { write, part: Part::Main, name, new: None, old: Some(&old) };
        let mut warnings = Vec::new();
        self.extend(told, &mut warnings).await?;
        warnings.extend(self.consent(told).await?);
        let new = match prepare::delete(kind, &old, options, jiff::Timestamp::now()) {
            DeletePlan::Nothing => return Ok(Drafted::Done(Written::kept(old))),
            DeletePlan::Mark(marked) => Some(*marked),
            DeletePlan::Remove => None,
        };
        let old = Some(old);
        Ok(Drafted::Draft(Box::new(Draft { current: Some(current), old, new, warnings })))
    }

    /// Refuses an object that is wrong, in itself or for its author; answers with what is to be warned of.
    async fn judge(&self, reviewed: Reviewed<'_>, mut errors: Vec<FieldError>) -> Result<Vec<String>, ApiError> {
        let Reviewed { write, new, old, part } = reviewed;
        let mut warnings = Vec::new();
        if errors.is_empty() {
            for check in Strategy::of(write.kind).checks {
                errors.extend(self.check(*check, write, new, old).await?);
            }
            warnings = pod_security::check(self, reviewed, &mut errors).await?;
        }
        if !errors.is_empty() {
            return Err(ApiError::invalid(write.kind, meta::name(new), &errors));
        }
        warnings.extend(self.consent(Told { write, part, name: meta::name(new), new: Some(new), old }).await?);
        Ok(warnings)
    }

    async fn commit(&self, write: &Write<'_>, draft: &Draft, reserved: Reserved) -> Result<Written, Refused> {
        let kind = write.kind;
        let object = draft.new.as_ref().or(draft.old.as_ref()).cloned().unwrap_or_default();
        // Also what was only marked goes with its last finalizer.
        let gone = draft.new.as_ref().is_none_or(|new| draft.old.is_some() && Strategy::of(kind).is_gone(new));
        if write.author.effect == Effect::DryRun {
            return Ok(Written { object, made: draft.old.is_none(), gone, warnings: draft.warnings.clone() });
        }
        let name = meta::name(&object).to_owned();
        let key = kind.key(write.namespace, &name);
        let mut writes = match (&draft.current, gone) {
            (Some(current), true) => vec![skiff_store::Write::delete(&key, current.modified)],
            (current, _) => {
                let stored = self.stored_form(kind, object.clone()).await.map_err(Refused::Final)?;
                let expect = current.as_ref().map_or(Expect::Absent, |current| Expect::At(current.modified));
                vec![skiff_store::Write::put(&key, codec::encode(stored), expect)]
            }
        };
        writes.extend(if gone { reserved.released } else { reserved.changed });
        writes.extend(reserved.charged);
        match self.store().commit(writes).await {
            Ok(changes) => {
                tracing::debug!(
                    kind = &*kind.kind,
                    name,
                    user = write.author.user.name,
                    manager = write.author.manager,
                    gone,
                    "written"
                );
                let mut written = answer(object, gone, &changes, draft.warnings.clone());
                written.made = draft.old.is_none();
                Ok(written)
            }
            Err(error) => Err(refused(write, &name, &key, error)),
        }
    }
}

fn prepared(write: &Write<'_>, part: Part, new: Value, old: &Value) -> Value {
    let mut new = prepare::update(write.kind, part, new, old);
    if let Part::Main = part {
        crate::reserve::keep(Strategy::of(write.kind).reserves, &mut new, old);
    }
    new
}

fn answer(mut object: Value, gone: bool, changes: &[Change], warnings: Vec<String>) -> Written {
    if let (false, Some(Change::Put { entry, .. })) = (gone, changes.first()) {
        meta::set(&mut object, "resourceVersion", entry.modified.to_string());
    }
    Written { object, made: false, gone, warnings }
}

/// Whether it is worth trying again after the store said no.
enum Refused {
    Again(ApiError),
    Final(ApiError),
}

fn refused(write: &Write<'_>, name: &str, key: &str, error: skiff_store::Error) -> Refused {
    use skiff_store::Error;
    let of_object = |other: &str| other == key;
    match (&write.operation, &error) {
        // A generated name that was taken: the next one.
        (Operation::Create(object), Error::Exists { key }) if of_object(key) && meta::name(object).is_empty() => {
            Refused::Again(ApiError::already_exists(write.kind, name))
        }
        (Operation::Create(_), Error::Exists { key }) if of_object(key) => {
            Refused::Final(ApiError::already_exists(write.kind, name))
        }
        // Somebody else was faster, with the object itself or with what it was to reserve.
        (
            Operation::Create(_) | Operation::Update { .. } | Operation::Apply { .. } | Operation::Delete { .. },
            Error::Exists { .. } | Error::Conflict { .. } | Error::NotFound { .. },
        ) => Refused::Again(ApiError::modified(write.kind, name)),
        (
            Operation::Create(_) | Operation::Update { .. } | Operation::Apply { .. } | Operation::Delete { .. },
            Error::Expired { .. }
            | Error::Future { .. }
            | Error::TooLarge { .. }
            | Error::Full
            | Error::Overloaded
            | Error::Closed
            | Error::Backend(_),
        ) => Refused::Final(ApiError::from_store(error, write.kind, name)),
    }
}

fn check_identity(kind: &Kind, namespace: Option<&str>, name: &str, new: &Value, old: &Value) -> Result<(), ApiError> {
    check_name(name, new)?;
    if meta::namespace(new).is_some() && meta::namespace(new) != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let (asked, actual) = (meta::uid(new), meta::uid(old));
    if !asked.is_empty() && asked != actual {
        let why = format!("Precondition failed: UID in precondition: {asked}, UID in object meta: {actual}");
        return Err(ApiError::conflict(kind, name, &why));
    }
    Ok(())
}

pub(crate) fn check_name(name: &str, object: &Value) -> Result<(), ApiError> {
    let said = meta::name(object);
    if said == name {
        return Ok(());
    }
    let why = format!("the name of the object ({said}) does not match the name on the URL ({name})");
    Err(ApiError::bad_request(why))
}

pub(crate) fn check_preconditions(
    kind: &Kind,
    name: &str,
    object: &Value,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    let checks = [
        ("UID", &options.uid, meta::uid(object)),
        ("ResourceVersion", &options.resource_version, meta::resource_version(object)),
    ];
    for (what, asked, actual) in checks {
        if let Some(asked) = asked.as_deref().filter(|asked| *asked != actual) {
            let why = format!("Precondition failed: {what} in precondition: {asked}, {what} in object meta: {actual}");
            return Err(ApiError::conflict(kind, name, &why));
        }
    }
    Ok(())
}
