//! Lists and watches: selection, paging, resource versions and bookmarks, as
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/> describes them.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use skiff_object::fields::FieldSelector;
use skiff_object::kinds::{Catalogue, Kind};
use skiff_object::labels::Selector;
use skiff_object::protobuf::encode::{self, Json, List};
use skiff_object::{convert, meta};
use skiff_store::{Change, Entry, ListOptions, Page, Revision, Store, Watch};

use crate::body::{self, Body};
use crate::fairness::Place;
use crate::handlers::Call;
use crate::present::{Encoding, Extent, Form, JSON, PROTOBUF, Shape};
use crate::request::{Query, Target};
use crate::status::{ApiError, watch_error};
use crate::{Api, codec, random};

/// A watch without a timeout of its own ends after this and up to as long again, so that clients spread out.
const WATCH_SECONDS_MIN: u64 = 1800;
/// The last bookmark comes this long before a watch times out: the client resumes from there.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// What upstream calls a watch in protobuf.
const PROTOBUF_WATCH: &str = "application/vnd.kubernetes.protobuf;stream=watch";
/// Of one part of a list.
const PART_BYTES_MAX: usize = 16 << 20;
/// Bytes gathered into one chunk of a watch.
const CHUNK_BYTES: usize = 64 * 1024;

/// Which objects of a kind are wanted.
pub struct Selection {
    kind: Arc<Kind>,
    /// The kind in whose form the objects are stored.
    storage: Arc<Kind>,
    namespace_prefix: String,
    name: Option<String>,
    labels: Selector,
    fields: FieldSelector,
}

impl Selection {
    pub fn of(catalogue: &Catalogue, target: &Target, query: &Query) -> Result<Self, ApiError> {
        let bad = |error: &dyn std::fmt::Display| ApiError::bad_request(error.to_string());
        let labels = Selector::parse(query.get("labelSelector").unwrap_or_default()).map_err(|e| bad(&e))?;
        let fields = FieldSelector::parse(query.get("fieldSelector").unwrap_or_default()).map_err(|e| bad(&e))?;
        fields.check(&target.kind).map_err(|e| bad(&e))?;
        Ok(Self {
            kind: Arc::clone(&target.kind),
            storage: Arc::new(catalogue.stored(&target.kind).clone()),
            namespace_prefix: target.kind.key_prefix(target.namespace()),
            name: target.name.clone(),
            labels,
            fields,
        })
    }

    /// Every object is wanted as it is stored: nothing needs to be parsed.
    fn is_verbatim(&self) -> bool {
        let is_stored_form = self.kind.custom.as_ref().is_none_or(|custom| custom.is_verbatim());
        self.storage == self.kind
            && is_stored_form
            && self.name.is_none()
            && self.labels.is_empty()
            && self.fields.is_empty()
    }

    /// Whether more than the metadata of an object is looked at, which is the same in every version.
    fn needs_form(&self, form: Form) -> bool {
        let of_metadata = matches!(form, Form::Json(Shape::Metadata) | Form::Protobuf(Extent::Metadata));
        !(of_metadata && self.fields.is_of_metadata())
    }

    /// Whether it depends on what is in an object, which a conversion may change, labels included.
    fn sees_content(&self) -> bool {
        !(self.labels.is_empty() && self.fields.is_of_metadata())
    }

    fn object(&self, entry: &Entry, revision: Revision) -> Option<Value> {
        let stored = codec::decode_at(entry, revision);
        let (storage, kind) = (&*self.storage, &*self.kind);
        let object = convert::convert(storage, kind, stored);
        let named = self.name.as_deref().is_none_or(|name| meta::name(&object) == name);
        let selected = named && self.labels.matches(&meta::labels(&object)) && self.fields.matches(&self.kind, &object);
        selected.then_some(object)
    }
}

#[derive(Serialize, Deserialize)]
struct Continue {
    rv: Revision,
    start: String,
}

impl<S: Store> Api<S> {
    pub(crate) async fn list(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        let (target, query, form, caller) = (&call.target, &call.query, call.form, &call.caller());
        let selection = Selection::of(&self.catalogue(), target, query)?;
        let options = list_options(query, self.store().revision())?;
        let limit = options.limit;
        let page = self.page_in(&selection, form, options).await?;
        // Until the answer is there, which is counted then.
        let _reserved = self.fairness().reserve(caller, length(&page))?;
        let mut metadata = json!({"resourceVersion": page.revision.to_string()});
        if let (true, Some(last)) = (page.remaining > 0 && limit.is_some(), page.entries.last()) {
            let token = Continue { rv: page.revision, start: last.key.to_string() };
            let token = serde_json::to_vec(&token).map_err(|e| ApiError::internal(e.to_string()))?;
            metadata["continue"] = json!(BASE64_URL_SAFE_NO_PAD.encode(token));
            if selection.is_verbatim() {
                metadata["remainingItemCount"] = json!(page.remaining);
            }
        }
        match form {
            Form::Json(Shape::Object) if selection.is_verbatim() => {
                Ok(body::json_bytes(StatusCode::OK, verbatim(&target.kind, &metadata, &page)))
            }
            Form::Json(shape) => {
                let items = page.entries.iter().filter_map(|e| selection.object(e, e.modified)).collect();
                Ok(body::json(StatusCode::OK, &shape.list(&target.kind, metadata, items)))
            }
            Form::Protobuf(extent) => {
                let list = in_protobuf(&selection, extent, &metadata, &page)?;
                Ok(body::whole(StatusCode::OK, PROTOBUF, list))
            }
        }
    }

    pub(crate) async fn page(&self, selection: &Selection, options: ListOptions) -> Result<Page, ApiError> {
        let (continued, is_part) = (options.after.is_some(), options.limit.is_some());
        let page = self.store().list(&selection.namespace_prefix, options).await.map_err(|error| match error {
            skiff_store::Error::Expired { .. } if continued => ApiError::expired(
                "The provided continue parameter is too old to display a consistent list result. You must start a \
                 new list without the continue parameter.",
            ),
            error => ApiError::from_store(error, &selection.kind, ""),
        })?;
        Ok(if is_part { bounded(page) } else { page })
    }

    /// A page as it is to be sent.
    async fn page_in(&self, selection: &Selection, form: Form, options: ListOptions) -> Result<Page, ApiError> {
        let page = self.page(selection, options).await?;
        if selection.needs_form(form) { self.converted_page(&selection.kind, page).await } else { Ok(page) }
    }

    /// Namespace and name of the objects that a collection request selects: not the objects, which may be many.
    pub(crate) async fn select(
        &self,
        target: &Target,
        query: &Query,
    ) -> Result<Vec<(Option<String>, String)>, ApiError> {
        let selection = Selection::of(&self.catalogue(), target, query)?;
        let page = self.page(&selection, ListOptions::default()).await?;
        let page =
            if selection.fields.is_of_metadata() { page } else { self.converted_page(&selection.kind, page).await? };
        let selected = page.entries.iter().filter_map(|e| selection.object(e, e.modified));
        Ok(selected.map(|o| (meta::namespace(&o).map(str::to_owned), meta::name(&o).to_owned())).collect())
    }

    pub(crate) async fn watch(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        let (target, query, form) = (&call.target, &call.query, call.form);
        let caller = call.caller();
        let place = self.fairness().watch(&caller)?;
        let selection = Selection::of(&self.catalogue(), target, query)?;
        let asked = revision(query)?;
        let send_initial = query.is_true("sendInitialEvents");
        if send_initial && (query.get("resourceVersionMatch") != Some("NotOlderThan")) {
            return Err(ApiError::bad_request(
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        let (mut first, mut reserved) = (Vec::new(), None);
        let from = match asked {
            Some(revision) if revision > 0 && !send_initial => revision,
            Some(_) | None => {
                let page = self.page_in(&selection, form, ListOptions::default()).await?;
                // An absent revision means "start anywhere, with what there is" unless the client says otherwise.
                if send_initial || query.get("sendInitialEvents").is_none() {
                    reserved = Some(self.fairness().reserve(&caller, length(&page))?);
                    initial_events(&selection, form, &page, &mut first)?;
                }
                if send_initial {
                    first.extend_from_slice(&bookmark(&target.kind, form, page.revision, Mark::InitialEnd)?);
                }
                page.revision
            }
        };
        let watch = self.store().watch(&selection.namespace_prefix, from).await;
        let watch = match watch.map_err(|e| ApiError::from_store(e, &target.kind, "")) {
            Ok(watch) => watch,
            // Clients look for it in the stream, as upstream's are told.
            Err(error) if error.code == StatusCode::GONE => {
                let event = watch_error(&error, form.encoding());
                return Ok(body::response(StatusCode::OK, watch_type(form), body::full(event)));
            }
            Err(error) => return Err(error),
        };
        let timeout = watch_timeout(query)?;
        let running = Running {
            api: self.clone(),
            watch,
            selection,
            form,
            bookmarks: query.is_true("allowWatchBookmarks"),
            state: State::Start(body::bytes_with(Bytes::from(first), reserved)),
            deadline: tokio::time::Instant::now() + timeout,
            shutdown: self.shutdown().clone(),
            _place: place,
        };
        let stream = futures::stream::unfold(running, Running::step);
        Ok(body::response(StatusCode::OK, watch_type(form), body::stream(SyncStream::new(stream))))
    }
}

fn watch_type(form: Form) -> &'static str {
    match form.encoding() {
        Encoding::Json => JSON,
        Encoding::Protobuf => PROTOBUF_WATCH,
    }
}

fn watch_timeout(query: &Query) -> Result<Duration, ApiError> {
    Ok(match query.number("timeoutSeconds")? {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds.min(86_400)),
        Some(_) | None => {
            let spread = u64::from(u16::from_ne_bytes(random::bytes())) * WATCH_SECONDS_MIN / u64::from(u16::MAX);
            Duration::from_secs(WATCH_SECONDS_MIN + spread)
        }
    })
}

/// The list in protobuf, from what is stored where nothing else needs to be known of it.
fn in_protobuf(selection: &Selection, extent: Extent, metadata: &Value, page: &Page) -> Result<Vec<u8>, ApiError> {
    let size = length(page);
    let size = match extent {
        // Objects are smaller than their JSON by a quarter and more.
        Extent::Whole => size / 4 * 3,
        Extent::Metadata => size / 4,
    };
    let mut list = List::new(extent.shape(&selection.kind), metadata, size + 256)?;
    let mut text = Vec::new();
    for entry in &page.entries {
        if selection.is_verbatim() {
            text.clear();
            codec::splice(&mut text, entry, entry.modified);
            list.push(Json::Text(&text))?;
        } else if let Some(object) = selection.object(entry, entry.modified) {
            list.push(Json::Value(&object))?;
        }
    }
    Ok(list.finish())
}

fn verbatim(kind: &Kind, metadata: &Value, page: &Page) -> Vec<u8> {
    let mut out = Vec::with_capacity(length(page) + 256);
    let head = format!(
        r#"{{"kind":"{}","apiVersion":"{}","metadata":{metadata},"items":["#,
        kind.list_kind(),
        kind.api_version()
    );
    out.extend_from_slice(head.as_bytes());
    for (index, entry) in page.entries.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        codec::splice(&mut out, entry, entry.modified);
    }
    out.extend_from_slice(b"]}");
    out
}

fn revision(query: &Query) -> Result<Option<Revision>, ApiError> {
    let parse = |text: &str| {
        text.parse().map_err(|_| {
            ApiError::bad_request(format!("Invalid value: {text:?}: resourceVersion: it must be a whole number"))
        })
    };
    query.get("resourceVersion").map(parse).transpose()
}

fn list_options(query: &Query, newest: Revision) -> Result<ListOptions, ApiError> {
    let limit = query.number("limit")?.filter(|n| *n > 0).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    if let Some(token) = query.get("continue") {
        let bad = || ApiError::bad_request("continue key is not valid: it was not given out by this server");
        let token = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| bad())?;
        let token: Continue = serde_json::from_slice(&token).map_err(|_| bad())?;
        return Ok(ListOptions { at: Some(token.rv), after: Some(token.start), limit });
    }
    let asked = revision(query)?.filter(|r| *r > 0);
    let exact = match query.get("resourceVersionMatch") {
        None | Some("NotOlderThan") => false,
        Some("Exact") => true,
        Some(other) => {
            return Err(ApiError::bad_request(format!(
                "Unsupported value: resourceVersionMatch: {other:?}: supported values: \"Exact\", \"NotOlderThan\""
            )));
        }
    };
    match asked {
        Some(revision) if revision > newest => Err(ApiError::too_large_resource_version(revision, newest)),
        Some(revision) if exact => Ok(ListOptions { at: Some(revision), after: None, limit }),
        Some(_) | None => Ok(ListOptions { at: None, after: None, limit }),
    }
}

fn length(page: &Page) -> usize {
    page.entries.iter().map(codec::length).sum()
}

/// Whoever asks for parts is given smaller ones of what is large.
fn bounded(mut page: Page) -> Page {
    let mut size = 0;
    let mut fits = |entry: &Entry| {
        size += codec::length(entry);
        size <= PART_BYTES_MAX
    };
    let count = page.entries.iter().position(|entry| !fits(entry)).unwrap_or(page.entries.len()).max(1);
    page.remaining += page.entries.len().saturating_sub(count);
    page.entries.truncate(count);
    page
}

/// What has been sent of a watch so far.
enum State {
    Start(Bytes),
    Following,
    /// The watch ends at its deadline: the client was told, and is told once more where to go on.
    Ending,
    Ended,
}

enum Mark {
    Progress,
    InitialEnd,
}

struct Running<S: Store> {
    api: Api<S>,
    watch: S::Watch,
    selection: Selection,
    form: Form,
    bookmarks: bool,
    state: State,
    deadline: tokio::time::Instant,
    shutdown: tokio_util::sync::CancellationToken,
    _place: Place,
}

impl<S: Store> Running<S> {
    async fn step(mut self) -> Option<(Bytes, Self)> {
        loop {
            match std::mem::replace(&mut self.state, State::Following) {
                State::Start(first) if !first.is_empty() => return Some((first, self)),
                State::Start(_) => {}
                State::Ended => return None,
                State::Ending => {
                    self.state = State::Ending;
                    match self.changes(self.deadline).await {
                        Some(bytes) if bytes.is_empty() => {}
                        Some(bytes) => return Some((bytes, self)),
                        None if self.bookmarks && !self.shutdown.is_cancelled() => {
                            self.state = State::Ended;
                            return Some((self.bookmark(), self));
                        }
                        None => return None,
                    }
                }
                State::Following => match self.changes(self.deadline - BOOKMARK_BEFORE_END).await {
                    Some(bytes) if bytes.is_empty() => {}
                    Some(bytes) => return Some((bytes, self)),
                    None => {
                        self.state = State::Ending;
                        if self.shutdown.is_cancelled() {
                            return None;
                        }
                        if self.bookmarks {
                            return Some((self.bookmark(), self));
                        }
                    }
                },
            }
        }
    }

    fn bookmark(&mut self) -> Bytes {
        let bytes = bookmark(&self.selection.kind, self.form, self.watch.seen(), Mark::Progress);
        bytes.unwrap_or_else(|error| self.end(&error))
    }

    /// The next changes as events; `None` at `until` or when the server stops.
    async fn changes(&mut self, until: tokio::time::Instant) -> Option<Bytes> {
        let result = tokio::select! {
            result = self.watch.next() => result,
            () = tokio::time::sleep_until(until) => return None,
            () = self.shutdown.cancelled() => return None,
        };
        let written = match result {
            Ok((changes, _)) => self.events(changes).await,
            Err(error) => Err(ApiError::from_store(error, &self.selection.kind, "")),
        };
        Some(written.unwrap_or_else(|error| self.end(&error)))
    }

    async fn events(&mut self, changes: Vec<Change>) -> Result<Bytes, ApiError> {
        let Self { api, selection, form, .. } = self;
        let is_whole = selection.needs_form(*form);
        let changes = if is_whole {
            api.converted_changes(&selection.kind, changes, selection.sees_content()).await?
        } else {
            changes
        };
        events(selection, *form, &changes)
    }

    /// The last event of a watch that cannot go on.
    fn end(&mut self, error: &ApiError) -> Bytes {
        self.state = State::Ended;
        watch_error(error, self.form.encoding())
    }
}

fn initial_events(selection: &Selection, form: Form, page: &Page, out: &mut Vec<u8>) -> Result<(), ApiError> {
    for entry in &page.entries {
        if is_as_stored(selection, form) {
            put_stored(out, selection, form, "ADDED", entry, entry.modified)?;
        } else if let Some(object) = selection.object(entry, entry.modified) {
            put(out, &selection.kind, form, "ADDED", object)?;
        }
    }
    Ok(())
}

fn events(selection: &Selection, form: Form, changes: &[Change]) -> Result<Bytes, ApiError> {
    let mut out = Vec::new();
    for change in changes {
        event(selection, form, change, &mut out)?;
        if out.len() > CHUNK_BYTES {
            out.reserve(CHUNK_BYTES);
        }
    }
    Ok(Bytes::from(out))
}

fn event(selection: &Selection, form: Form, change: &Change, out: &mut Vec<u8>) -> Result<(), ApiError> {
    if is_as_stored(selection, form) {
        let (kind, entry, revision) = match change {
            Change::Put { entry, previous: None } => ("ADDED", entry, entry.modified),
            Change::Put { entry, previous: Some(_) } => ("MODIFIED", entry, entry.modified),
            Change::Deleted { previous, revision } => ("DELETED", previous, *revision),
        };
        return put_stored(out, selection, form, kind, entry, revision);
    }
    let selected = match change {
        Change::Deleted { previous, revision } => selection.object(previous, *revision).map(|o| ("DELETED", o)),
        Change::Put { entry, previous } => {
            let before = previous.as_ref().and_then(|p| selection.object(p, entry.modified));
            match (before, selection.object(entry, entry.modified)) {
                (None, Some(now)) => Some(("ADDED", now)),
                (Some(_), Some(now)) => Some(("MODIFIED", now)),
                (Some(before), None) => Some(("DELETED", before)),
                (None, None) => None,
            }
        }
    };
    match selected {
        Some((kind, object)) => put(out, &selection.kind, form, kind, object),
        None => Ok(()),
    }
}

/// Whether events are made from what is stored, without parsing it into a value.
fn is_as_stored(selection: &Selection, form: Form) -> bool {
    match form {
        Form::Json(Shape::Object) | Form::Protobuf(_) => selection.is_verbatim(),
        Form::Json(Shape::Metadata | Shape::Table(_)) => false,
    }
}

fn put_stored(
    out: &mut Vec<u8>,
    selection: &Selection,
    form: Form,
    event: &str,
    entry: &Entry,
    revision: Revision,
) -> Result<(), ApiError> {
    match form {
        Form::Json(_) => line_verbatim(out, event, entry, revision),
        Form::Protobuf(extent) => {
            let mut text = Vec::new();
            codec::splice(&mut text, entry, revision);
            encode::event(out, event, extent.shape(&selection.kind), Json::Text(&text))?;
        }
    }
    Ok(())
}

fn put(out: &mut Vec<u8>, kind: &Kind, form: Form, event: &str, object: Value) -> Result<(), ApiError> {
    match form {
        Form::Json(shape) => line(out, event, &shape.object(kind, object)),
        Form::Protobuf(extent) => encode::event(out, event, extent.shape(kind), Json::Value(&object))?,
    }
    Ok(())
}

pub(crate) fn line(out: &mut Vec<u8>, kind: &str, object: &Value) {
    out.extend_from_slice(format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n").as_bytes());
}

fn line_verbatim(out: &mut Vec<u8>, kind: &str, entry: &Entry, revision: Revision) {
    out.extend_from_slice(format!("{{\"type\":\"{kind}\",\"object\":").as_bytes());
    codec::splice(out, entry, revision);
    out.extend_from_slice(b"}\n");
}

/// An empty object that only says up to which revision the client has seen everything.
fn bookmark(kind: &Kind, form: Form, revision: Revision, mark: Mark) -> Result<Bytes, ApiError> {
    let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
    if let Mark::InitialEnd = mark {
        metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    let object = match form {
        Form::Json(Shape::Object) | Form::Protobuf(_) => {
            json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata})
        }
        Form::Json(Shape::Metadata) => {
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
        }
        Form::Json(Shape::Table(_)) => {
            json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "rows": []})
        }
    };
    let mut out = Vec::new();
    match form {
        Form::Json(_) => line(&mut out, "BOOKMARK", &object),
        Form::Protobuf(extent) => encode::event(&mut out, "BOOKMARK", extent.shape(kind), Json::Value(&object))?,
    }
    Ok(Bytes::from(out))
}

/// Gives a stream that is only polled by its owner the `Sync` that boxed bodies ask for.
pub(crate) struct SyncStream<T>(std::sync::Mutex<std::pin::Pin<Box<T>>>);

impl<T> SyncStream<T> {
    pub(crate) fn new(stream: T) -> Self {
        Self(std::sync::Mutex::new(Box::pin(stream)))
    }
}

impl<T: futures::Stream> futures::Stream for SyncStream<T> {
    type Item = T::Item;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let inner = self.get_mut().0.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        inner.as_mut().poll_next(cx)
    }
}
