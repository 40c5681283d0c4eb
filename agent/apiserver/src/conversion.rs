//! Objects in the form of another version of their kind: by the program's own rules, or by the webhook of the definition
//! that the kind comes of. A webhook changes what an object is, never which one it is.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use skiff_object::decode::{self, FieldValidation};
use skiff_object::kinds::{Kind, split_api_version};
use skiff_object::managed::{Managers, View};
use skiff_object::{convert, meta};
use skiff_store::{Change, Entry, Page, Store};

use crate::extensions::Client;
use crate::status::ApiError;
use crate::{Api, codec, random};

/// As upstream.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Objects that are asked about at once, in bytes: an answer has bounds, too.
const QUESTION_BYTES: usize = 1024 * 1024;
/// What a webhook may change of an object's metadata.
const OF_WEBHOOKS: &[&str] = &["labels", "annotations"];

impl<S: Store> Api<S> {
    /// A stored object in the form of a kind.
    pub(crate) async fn served(&self, kind: &Kind, stored: Value) -> Result<Value, ApiError> {
        let catalogue = self.catalogue();
        self.in_form(catalogue.stored(kind), kind, stored).await
    }

    /// An object in the form in which its kind is stored.
    pub(crate) async fn stored_form(&self, kind: &Kind, object: Value) -> Result<Value, ApiError> {
        let catalogue = self.catalogue();
        let storage = catalogue.stored(kind);
        match &kind.storage_version {
            // Also where nobody is served that version.
            Some(version) if has_webhook(kind) => self.ask_one(kind, version, object).await,
            _ if storage == kind => Ok(object),
            _ => Ok(convert::convert(kind, storage, object)),
        }
    }

    /// An object of one version of a kind in the form of another.
    pub(crate) async fn in_form(&self, from: &Kind, to: &Kind, object: Value) -> Result<Value, ApiError> {
        if !has_webhook(to) {
            return Ok(convert::convert(from, to, object));
        }
        let object = self.ask_one(to, &to.api_version(), object).await?;
        Ok(convert::convert(from, to, object))
    }

    async fn ask_one(&self, kind: &Kind, version: &str, object: Value) -> Result<Value, ApiError> {
        let converted = self.ask_webhook(kind, version, vec![object]).await?;
        converted.into_iter().next().ok_or_else(|| failed(kind, "no object"))
    }

    /// The versions in which owners of an object of this kind wrote where fields are not where this one has them.
    pub(crate) fn elsewhere(&self, kind: &Kind, owners: &Managers) -> Vec<Arc<Kind>> {
        if kind.custom.is_some() && !has_webhook(kind) {
            return Vec::new();
        }
        let (catalogue, own) = (self.catalogue(), kind.api_version());
        let others = owners.versions().into_iter().filter(|version| *version != own);
        others
            .filter_map(|version| catalogue.by_kind(version, &kind.kind))
            .filter(|other| other.group == kind.group || catalogue.stored(other) == catalogue.stored(kind))
            .cloned()
            .collect()
    }

    /// A change of an object as those versions have it.
    pub(crate) async fn views(
        &self,
        kind: &Kind,
        others: Vec<Arc<Kind>>,
        old: &Value,
        new: &Value,
    ) -> Result<Vec<View>, ApiError> {
        let mut views = Vec::new();
        for other in others {
            let both = self.ask_webhook(&other, &other.api_version(), vec![old.clone(), new.clone()]).await?;
            let mut both = both.into_iter().map(|object| convert::convert(kind, &other, object));
            if let (Some(old), Some(new)) = (both.next(), both.next()) {
                views.push(View { kind: other, old, new });
            }
        }
        Ok(views)
    }

    /// A page of what is stored as if it were stored in the form of a kind.
    pub(crate) async fn converted_page(&self, kind: &Kind, mut page: Page) -> Result<Page, ApiError> {
        if has_webhook(kind) {
            self.convert_entries(kind, page.entries.iter_mut().collect()).await?;
        }
        Ok(page)
    }

    /// The same of changes, and where that is looked at of what was there before them.
    pub(crate) async fn converted_changes(
        &self,
        kind: &Kind,
        mut changes: Vec<Change>,
        sees_before: bool,
    ) -> Result<Vec<Change>, ApiError> {
        let mut entries = Vec::new();
        for change in &mut changes {
            match change {
                Change::Put { entry, previous } => {
                    entries.push(entry);
                    entries.extend(previous.as_mut().filter(|_| sees_before));
                }
                Change::Deleted { previous, .. } => entries.push(previous),
            }
        }
        if has_webhook(kind) {
            self.convert_entries(kind, entries).await?;
        }
        Ok(changes)
    }

    async fn convert_entries(&self, kind: &Kind, entries: Vec<&mut Entry>) -> Result<(), ApiError> {
        let version = kind.api_version();
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            let (mut some, mut objects, mut size) = (Vec::new(), Vec::new(), 0);
            while let Some(entry) = entries.next_if(|entry| size == 0 || size + codec::length(entry) <= QUESTION_BYTES)
            {
                size += codec::length(entry);
                objects.push(codec::decode(entry));
                some.push(entry);
            }
            for (entry, object) in some.into_iter().zip(self.ask_webhook(kind, &version, objects).await?) {
                entry.value = codec::encode(object);
            }
        }
        Ok(())
    }

    /// Asks about those that are in another form, all in one question.
    async fn ask_webhook(&self, kind: &Kind, version: &str, objects: Vec<Value>) -> Result<Vec<Value>, ApiError> {
        let webhook = kind.custom.as_ref().and_then(|custom| custom.webhook.as_ref());
        let is_other = |object: &&Value| meta::text_at(object, &["apiVersion"]) != version;
        let others: Vec<Value> = objects.iter().filter(is_other).cloned().collect();
        let Some(webhook) = webhook.filter(|_| !others.is_empty()) else { return Ok(objects) };
        let client = Client::read(webhook.get("clientConfig").unwrap_or(&Value::Null));
        let uid = random::uuid();
        let question = json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
            "request": {"uid": uid, "desiredAPIVersion": version, "objects": others}});
        let answer = client.ask(self, &question, TIMEOUT).await;
        let answer = answer.map_err(|error| {
            failed(kind, &format!("Post \"{}?timeout={}s\": {error}", client.url(), TIMEOUT.as_secs()))
        })?;
        let converted = converted(&answer, &uid, others.len()).map_err(|why| failed(kind, &why))?;
        let catalogue = self.catalogue();
        let target = catalogue.by_kind(version, &kind.kind);
        let mut taken = Vec::with_capacity(others.len());
        for (index, (new, old)) in converted.iter().zip(&others).enumerate() {
            let object = taken_over(new, old, version, kind).and_then(|object| pruned(target, object));
            let of = |why| failed(kind, &format!("invalid converted object at index {index}: {why}"));
            taken.push(object.map_err(of)?);
        }
        let mut taken = taken.into_iter();
        let in_order =
            objects.into_iter().filter_map(|object| if is_other(&&object) { taken.next() } else { Some(object) });
        Ok(in_order.collect())
    }
}

/// Without what the version does not know, if it is served.
fn pruned(target: Option<&Arc<Kind>>, object: Value) -> Result<Value, String> {
    let Some(target) = target else { return Ok(object) };
    let decoded = decode::decode_value(target, object, FieldValidation::Ignore);
    decoded.map(|decoded| decoded.value).map_err(|error| error.to_string())
}

fn has_webhook(kind: &Kind) -> bool {
    kind.custom.as_ref().is_some_and(|custom| custom.webhook.is_some())
}

fn name_of(kind: &Kind) -> String {
    format!("{}, Kind={}", kind.api_version(), kind.kind)
}

fn failed(kind: &Kind, why: &str) -> ApiError {
    ApiError::internal(format!("conversion webhook for {} failed: {why}", name_of(kind)))
}

/// The objects of an answer.
fn converted<'a>(answer: &'a Value, uid: &str, expected: usize) -> Result<&'a [Value], String> {
    let response = answer.get("response").filter(|response| response.is_object());
    let response = response.ok_or("the answer is no ConversionReview with a response")?;
    let found = meta::text_at(response, &["uid"]);
    if found != uid {
        return Err(format!("expected response.uid={uid:?}, got {found:?}"));
    }
    match meta::text_at(response, &["result", "status"]) {
        "Success" => {}
        status => {
            return Err(match meta::text_at(response, &["result", "message"]) {
                "" => format!("response.result.status was '{status}', expected 'Success'"),
                message => message.to_owned(),
            });
        }
    }
    let objects = meta::items(response.get("convertedObjects"));
    if objects.len() == expected {
        Ok(objects)
    } else {
        Err(format!("returned {} objects, expected {expected}", objects.len()))
    }
}

/// A converted object with its own metadata.
fn taken_over(new: &Value, old: &Value, version: &str, kind: &Kind) -> Result<Value, String> {
    let said = meta::text_at(new, &["apiVersion"]);
    if said != version {
        let (expected, received) = (split_api_version(version), split_api_version(said));
        return Err(format!("invalid groupVersion (expected {}, received {})", shown(expected), shown(received)));
    }
    if meta::text_at(new, &["kind"]) != kind.kind {
        let received = meta::text_at(new, &["kind"]);
        return Err(format!("invalid kind (expected {}, received {received})", kind.kind));
    }
    for (field, own) in [("name", meta::name(old)), ("uid", meta::uid(old))] {
        let received = meta::field(new, field).and_then(Value::as_str).unwrap_or_default();
        if received != own {
            return Err(format!("metadata.{field} changed (expected {own:?}, received {received:?})"));
        }
    }
    let mut taken = new.clone();
    taken["metadata"] = old["metadata"].clone();
    for field in OF_WEBHOOKS {
        match meta::field(new, field) {
            None | Some(Value::Null) => meta::unset(&mut taken, field),
            Some(Value::Object(map)) if map.values().all(Value::is_string) => {
                meta::set(&mut taken, field, Value::Object(map.clone()));
            }
            Some(_) => return Err(format!("metadata.{field} is no map of strings")),
        }
    }
    Ok(taken)
}

fn shown((group, version): (&str, &str)) -> String {
    format!("{group}/{version}")
}
