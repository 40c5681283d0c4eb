//! From an authenticated request to its answer: routing, authorization, and the verbs on objects.

use std::sync::PoisonError;
use std::time::Instant;

use http::{Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use skiff_object::decode::{self, Decoded, FieldValidation};
use skiff_object::fields::FieldSelector;
use skiff_object::kinds::{self, Kind, Nature};
use skiff_object::meta;
use skiff_object::patch::{self, PatchError, PatchKind};
use skiff_object::protobuf;
use skiff_store::Store;

use crate::body::{self, Body};
use crate::compress::{self, Gzip};
use crate::fairness::Caller;
use crate::prepare::{DeleteOptions, Propagation};
use crate::present::{self, Encoding, Form, PROTOBUF, YAML};
use crate::rbac::Attributes;
use crate::request::{self, Query, Target, Verb};
use crate::status::ApiError;
use crate::strategy::{Part, Strategy};
use crate::users::User;
use crate::write::{Author, Effect, Operation, Write, check_name};
use crate::{Api, answer, apply, audit, discovery, feed, metrics, report, reviews, sealing_keys, subresources, yaml};

const OBJECT_TYPES: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
/// What a definition makes has no keys for merging lists.
const CUSTOM_PATCH_TYPES: &str =
    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
const PATCH_TYPES: &str = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, \
     application/apply-patch+yaml";

/// A request with its parts worked out.
pub(crate) struct Call {
    pub(crate) user: User,
    pub(crate) target: Target,
    pub(crate) query: Query,
    pub(crate) form: Form,
    pub(crate) request: Request<Body>,
}

impl<S: Store> Api<S> {
    pub(crate) async fn handle(&self, user: User, request: Request<Body>) -> Response<Body> {
        let (gzip, wants_yaml) = (Gzip::of(request.headers()), present::wants_yaml(request.headers()));
        let response = match self.audit() {
            Some(audit) => self.answered_and_recorded(audit, user, request).await,
            None => self.answered(user, request).await,
        };
        let response = if wants_yaml { yaml::answer(response).await } else { response };
        compress::answer(response, gzip)
    }

    pub(crate) async fn answered(&self, user: User, request: Request<Body>) -> Response<Body> {
        let encoding = Encoding::of_errors(request.headers());
        self.route(user, request).await.unwrap_or_else(|error| error.into_response_in(encoding))
    }

    async fn route(&self, user: User, request: Request<Body>) -> Result<Response<Body>, ApiError> {
        let (query, started) = (Query::parse(request.uri().query()), Instant::now());
        let is_dry_run = query.get("dryRun").is_some();
        let path = request.uri().path().to_owned();
        if let Some(service) = self.behind(&path) {
            return self.ask_behind(&service, &user, request).await;
        }
        let Some(target) = request::target(&self.catalogue(), request.method(), &path, &query)? else {
            let result = self.path(&user, &path, &request).await;
            let labels = metrics::labels(None, request.method(), is_dry_run);
            self.inner.metrics.observe(&labels, code_of(&result), started.elapsed());
            return result;
        };
        let _in_flight = self.inner.metrics.begin(target.verb);
        let labels = metrics::labels(Some(&target), request.method(), is_dry_run);
        let result = self.of_target(user, target, query, request).await;
        self.inner.metrics.observe(&labels, code_of(&result), started.elapsed());
        result
    }

    async fn of_target(
        &self,
        user: User,
        target: Target,
        query: Query,
        request: Request<Body>,
    ) -> Result<Response<Body>, ApiError> {
        self.authorize(&user, &target, &query).await?;
        let form = Form::negotiate(request.headers(), &query, &target.kind)?;
        let custom = target.kind.custom.clone();
        let call = Call { user, target, query, form, request };
        let response = self.answer(call).await?;
        let deprecation = custom.as_ref().and_then(|custom| custom.deprecation.clone());
        Ok(answer::with_warnings(response, deprecation.as_slice()))
    }

    async fn answer(&self, call: Call) -> Result<Response<Body>, ApiError> {
        if call.target.subresource.is_some() {
            return subresources::handle(self, call).await;
        }
        match call.target.kind.nature {
            Nature::Stored | Nature::Volatile => {}
            Nature::Review => return reviews::handle(self, call).await,
            Nature::Computed => return self.usage(&call).await,
            Nature::Body => return Err(ApiError::path_not_found()),
        }
        match call.target.verb {
            Verb::Get => self.get(&call).await,
            Verb::List => self.list(&call).await,
            Verb::Watch => self.watch(&call).await,
            Verb::Create => self.create(call).await,
            Verb::Update => self.update(call, Part::Main).await,
            Verb::Patch => self.patch(call, Part::Main).await,
            Verb::Delete => self.delete(call).await,
            Verb::DeleteCollection => self.delete_collection(call).await,
        }
    }

    async fn authorize(&self, user: &User, target: &Target, query: &Query) -> Result<(), ApiError> {
        let resource = target.resource();
        // A selector that is none is refused later, with its reason.
        let fields = query.get("fieldSelector").filter(|_| target.name.is_none());
        let fields = fields.and_then(|text| FieldSelector::parse(text).ok()).unwrap_or_default();
        let attributes = Attributes::Resource {
            verb: target.verb.as_str(),
            group: &target.kind.group,
            resource: &resource,
            namespace: target.namespace(),
            name: target.name.as_deref().or_else(|| fields.exact("metadata.name")),
            of_node: fields.exact("spec.nodeName"),
        };
        if self.allows_and_notes(user, &attributes).await? {
            return Ok(());
        }
        let verb = target.verb.as_str();
        let why = cannot(user, verb, &resource, &target.kind.group, target.namespace());
        let group_resource = target.kind.group_resource();
        let name = target.name.as_deref().unwrap_or_default();
        Err(match name {
            "" => ApiError::forbidden(format!("{group_resource} is forbidden: {why}")),
            name => ApiError::forbidden_object(&target.kind, name, &why),
        })
    }

    /// The decision is in the event of the request, if one is recorded.
    pub(crate) async fn allows_and_notes(&self, user: &User, wanted: &Attributes<'_>) -> Result<bool, ApiError> {
        let is_allowed = self.allows(user, wanted).await?;
        audit::annotate_decision(is_allowed);
        Ok(is_allowed)
    }

    pub(crate) fn authorize_path(&self, user: &User, method: &Method, path: &str) -> Result<(), ApiError> {
        let verb = method.as_str().to_ascii_lowercase();
        let is_allowed = self.authorizer().allows(user, &Attributes::Path { verb: &verb, path });
        audit::annotate_decision(is_allowed);
        if is_allowed {
            return Ok(());
        }
        let why = format!("User \"{}\" cannot {verb} path \"{path}\"", user.name);
        Err(ApiError::forbidden(format!("forbidden: {why}")))
    }

    async fn path(&self, user: &User, path: &str, request: &Request<Body>) -> Result<Response<Body>, ApiError> {
        self.authorize_path(user, request.method(), path)?;
        if path == sealing_keys::PATH {
            return self.sealing_keys(request.method()).await;
        }
        if *request.method() != Method::GET && *request.method() != Method::HEAD {
            return Err(ApiError::method_not_allowed(request.method().as_str()));
        }
        match path.trim_end_matches('/') {
            "/healthz" | "/livez" => {
                let is_verbose = Query::parse(request.uri().query()).is_true("verbose");
                // Whoever answers lives.
                let text = format!("[+]ping ok\n{} check passed\n", path.trim_matches('/'));
                return Ok(body::text(StatusCode::OK, if is_verbose { text } else { "ok".to_owned() }));
            }
            "/readyz" => return Ok(self.readiness(&Query::parse(request.uri().query()))),
            "/metrics" => return Ok(self.metrics().await),
            "/openapi/v2" => return self.old_openapi(request.headers()).await,
            feed::PATH => return self.feed().await,
            report::PROBLEMS => return Ok(self.problems().await),
            report::PARTS => return Ok(self.parts()),
            "" => {
                return Ok(body::json(
                    StatusCode::OK,
                    &json!({"paths": ["/api", "/apis", "/healthz", "/livez",
                "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]}),
                ));
            }
            _ => {}
        }
        let catalogue = self.catalogue();
        if let Some((group, version)) = discovery::custom_document(&catalogue, path) {
            return Ok(discovery::custom_openapi(&self.described(&group, &version).await?));
        }
        discovery::answer(&catalogue, self.aggregation(), path, request.headers(), &self.server_address())
            .or_else(|| discovery::openapi(&catalogue, self.aggregation(), path, request))
            .or_else(|| discovery::issuer(path, self.tokens(), &self.server_address()))
            .ok_or_else(ApiError::path_not_found)
    }

    async fn get(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        let target = &call.target;
        let object = self.require(&target.kind, target.namespace(), target.name()?).await?;
        Ok(answer::object(StatusCode::OK, call.form, &target.kind, object, &[]))
    }

    async fn create(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let author = call.author()?;
        let Call { target, query, form, request, .. } = call;
        let mut decoded = read_object(&target.kind, request, &query).await?;
        let namespace = namespace_of(&target, &decoded.value)?;
        if !meta::resource_version(&decoded.value).is_empty() {
            return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
        }
        let operation = Operation::Create(decoded.value);
        let kind = &*target.kind;
        let written = self.write(Write { author: &author, kind, namespace: namespace.as_deref(), operation }).await?;
        decoded.warnings.extend(written.warnings);
        Ok(answer::object(StatusCode::CREATED, form, kind, written.object, &decoded.warnings))
    }

    pub(crate) async fn update(&self, call: Call, part: Part) -> Result<Response<Body>, ApiError> {
        let author = call.author()?;
        let Call { target, query, form, request, .. } = call;
        let mut decoded = read_object(&target.kind, request, &query).await?;
        let namespace = namespace_of(&target, &decoded.value)?;
        let wanted = decoded.value;
        let change = |_: &Value| Ok(wanted.clone());
        let (kind, name, namespace) = (&*target.kind, target.name()?, namespace.as_deref());
        let operation = Operation::Update { name, part, change: &change };
        let written = match self.write(Write { author: &author, kind, namespace, operation }).await {
            Err(error) if error.code == StatusCode::NOT_FOUND && makes(kind, part, &wanted) => {
                let write = Write { author: &author, kind, namespace, operation: Operation::Create(wanted.clone()) };
                check_name(name, &wanted)?;
                self.check_may_create(&write, name).await?;
                self.write(write).await?
            }
            written => written?,
        };
        let code = if written.made { StatusCode::CREATED } else { StatusCode::OK };
        decoded.warnings.extend(written.warnings);
        Ok(answer::object(code, form, kind, written.object, &decoded.warnings))
    }

    pub(crate) async fn patch(&self, call: Call, part: Part) -> Result<Response<Body>, ApiError> {
        let author = call.author()?;
        if media_type(&call.request) == apply::MEDIA_TYPE && matches!(part, Part::Main | Part::Status) {
            return self.apply(call, author, part).await;
        }
        apply::check_no_force(&call.query)?;
        let Call { target, query, form, request, .. } = call;
        let patch = Patch::read(&target.kind, request, &query).await?;
        let kind = &*target.kind;
        let of_patch = std::sync::Mutex::new(Vec::new());
        let change = |old: &Value| {
            let decoded = patch.apply(kind, old)?;
            *of_patch.lock().unwrap_or_else(PoisonError::into_inner) = decoded.warnings;
            Ok(decoded.value)
        };
        let operation = Operation::Update { name: target.name()?, part, change: &change };
        let written = self.write(Write { author: &author, kind, namespace: target.namespace(), operation }).await?;
        let mut warnings = of_patch.into_inner().unwrap_or_else(PoisonError::into_inner);
        warnings.extend(written.warnings);
        Ok(answer::object(StatusCode::OK, form, kind, written.object, &warnings))
    }

    async fn delete(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let mut author = call.author()?;
        let Call { target, query, form, request, .. } = call;
        let (options, effect) = read_delete_options(request, &query).await?;
        author.effect = effect;
        let (kind, name) = (&*target.kind, target.name()?);
        let operation = Operation::Delete { name, options: &options };
        let written = self.write(Write { author: &author, kind, namespace: target.namespace(), operation }).await?;
        Ok(answer::deleted(form, kind, name, written))
    }

    async fn delete_collection(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let mut author = call.author()?;
        let Call { target, query, form, request, .. } = call;
        let (options, effect) = read_delete_options(request, &query).await?;
        author.effect = effect;
        let kind = &*target.kind;
        let mut items = Vec::new();
        for (namespace, name) in self.select(&target, &query).await? {
            if Strategy::of(kind).undeletable(&name).is_some() {
                continue;
            }
            let operation = Operation::Delete { name: &name, options: &options };
            match self.write(Write { author: &author, kind, namespace: namespace.as_deref(), operation }).await {
                Ok(written) => items.push(written.object),
                // Somebody else was faster.
                Err(error) if error.code == StatusCode::NOT_FOUND => {}
                Err(error) => return Err(error),
            }
        }
        let metadata = json!({"resourceVersion": self.store().revision().to_string()});
        answer::list(form, kind, metadata, items)
    }
}

fn code_of(result: &Result<Response<Body>, ApiError>) -> StatusCode {
    result.as_ref().map_or_else(|error| error.code, Response::status)
}

/// Whether an update of what is not there makes it.
fn makes(kind: &Kind, part: Part, wanted: &Value) -> bool {
    let is_new = meta::uid(wanted).is_empty() && meta::resource_version(wanted).is_empty();
    part == Part::Main && is_new && Strategy::of(kind).made_by_update
}

/// Why somebody is refused, as upstream says it.
pub(crate) fn cannot(user: &User, verb: &str, resource: &str, group: &str, namespace: Option<&str>) -> String {
    let scope = match namespace {
        Some(namespace) => format!("in the namespace \"{namespace}\""),
        None => "at the cluster scope".to_owned(),
    };
    format!("User \"{}\" cannot {verb} resource \"{resource}\" in API group \"{group}\" {scope}", user.name)
}

impl Call {
    pub(crate) fn caller(&self) -> Caller {
        Caller::of(&self.user, &self.request)
    }

    /// Who writes with this call.
    pub(crate) fn author(&self) -> Result<Author, ApiError> {
        let agent = self.request.headers().get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let manager = match self.query.get("fieldManager") {
            Some(manager) => apply::check_manager(manager)?.to_owned(),
            None => apply::manager_of(agent, &self.user),
        };
        let subresource = self.target.subresource.clone().unwrap_or_default();
        Ok(Author { user: self.user.clone(), manager, subresource, effect: effect(&self.query)?, is_api: false })
    }
}

pub(crate) fn namespace_of(target: &Target, object: &Value) -> Result<Option<String>, ApiError> {
    let asked = meta::namespace(object);
    match (target.namespace(), asked) {
        (Some(url), Some(asked)) if url != asked => Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
        (None, _) if target.kind.namespaced() => {
            Err(ApiError::bad_request("an empty namespace may not be set during creation"))
        }
        (url, _) => Ok(url.map(str::to_owned)),
    }
}

pub(crate) fn effect(query: &Query) -> Result<Effect, ApiError> {
    match query.get("dryRun") {
        None => Ok(Effect::Store),
        Some("All") => Ok(Effect::DryRun),
        Some(other) => Err(ApiError::bad_request(format!(
            "Invalid value: {other:?}: dryRun: Unsupported value: supported values: \"All\""
        ))),
    }
}

pub(crate) fn field_validation(query: &Query) -> Result<FieldValidation, ApiError> {
    match query.get("fieldValidation") {
        None | Some("Warn") => Ok(FieldValidation::Warn),
        Some("Strict") => Ok(FieldValidation::Strict),
        Some("Ignore") => Ok(FieldValidation::Ignore),
        Some(other) => Err(ApiError::bad_request(format!(
            "Invalid value: {other:?}: fieldValidation: supported values: \"Ignore\", \"Strict\", \"Warn\""
        ))),
    }
}

pub(crate) fn media_type<B>(request: &Request<B>) -> String {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A request's body as JSON, whichever of the accepted types it came in; empty where it is empty.
pub(crate) async fn read_json_bytes(kind: &Kind, request: Request<Body>) -> Result<bytes::Bytes, ApiError> {
    match media_type(&request).as_str() {
        "" | "application/json" => body::read(request.into_body()).await,
        YAML => {
            let bytes = body::read(request.into_body()).await?;
            if bytes.is_empty() { Ok(bytes) } else { Ok(yaml::read(bytes).await?.to_string().into()) }
        }
        PROTOBUF if kind.custom.is_none() => {
            let bytes = body::read(request.into_body()).await?;
            if bytes.is_empty() {
                return Ok(bytes);
            }
            let object = protobuf::decode(kind, &bytes).map_err(|e| ApiError::bad_request(e.to_string()))?;
            Ok(object.to_string().into())
        }
        _ => Err(ApiError::unsupported_media_type(OBJECT_TYPES)),
    }
}

pub(crate) async fn read_object(kind: &Kind, request: Request<Body>, query: &Query) -> Result<Decoded, ApiError> {
    let validation = field_validation(query)?;
    let bytes = read_json_bytes(kind, request).await?;
    if bytes.is_empty() {
        return Err(ApiError::bad_request(format!("the body is empty: it must be a {} in JSON", kind.kind)));
    }
    decode::decode(kind, &bytes, validation).map_err(|e| ApiError::bad_request(e.to_string()))
}

/// A patch as it came in; applied anew after each conflict.
pub(crate) struct Patch {
    kind: PatchKind,
    value: Value,
    validation: FieldValidation,
}

impl Patch {
    pub(crate) async fn read(kind: &Kind, request: Request<Body>, query: &Query) -> Result<Self, ApiError> {
        let kind = match media_type(&request).as_str() {
            "application/json-patch+json" => PatchKind::Json,
            "application/merge-patch+json" => PatchKind::Merge,
            "application/strategic-merge-patch+json" if kind.custom.is_none() => PatchKind::Strategic,
            _ if kind.custom.is_some() => return Err(ApiError::unsupported_media_type(CUSTOM_PATCH_TYPES)),
            _ => return Err(ApiError::unsupported_media_type(PATCH_TYPES)),
        };
        let validation = field_validation(query)?;
        let bytes = body::read(request.into_body()).await?;
        let value = serde_json::from_slice(&bytes)
            .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
        Ok(Self { kind, value, validation })
    }

    pub(crate) fn apply(&self, kind: &Kind, old: &Value) -> Result<Decoded, ApiError> {
        let patched = self.apply_loosely(kind, old)?;
        decode::decode_value(kind, patched, self.validation).map_err(|e| ApiError::bad_request(e.to_string()))
    }

    /// On a document that is no stored kind, such as a Scale.
    pub(crate) fn apply_loosely(&self, kind: &Kind, old: &Value) -> Result<Value, ApiError> {
        patch::apply(kind, old, self.kind, &self.value).map_err(|error| match error {
            PatchError::Inapplicable(_) => ApiError::inapplicable(error.to_string()),
            _ => ApiError::bad_request(error.to_string()),
        })
    }
}

/// The body of a subresource or of an option, by its own type: what is not of it is refused.
pub(crate) async fn read_body(
    api_version: &str,
    kind: &str,
    request: Request<Body>,
    query: &Query,
) -> Result<Value, ApiError> {
    let kind = kinds::body(api_version, kind).expect("a kind of requests");
    Ok(read_object(kind, request, query).await?.value)
}

async fn read_delete_options(request: Request<Body>, query: &Query) -> Result<(DeleteOptions, Effect), ApiError> {
    let kind = kinds::body("v1", "DeleteOptions").expect("a kind of requests");
    let bytes = read_json_bytes(kind, request).await?;
    let given = if bytes.is_empty() {
        json!({})
    } else {
        let decoded = decode::decode(kind, &bytes, FieldValidation::Ignore);
        decoded.map_err(|error| ApiError::bad_request(error.to_string()))?.value
    };
    delete_options(&given, query)
}

/// From the body, or where it is silent from the query.
pub(crate) fn delete_options(given: &Value, query: &Query) -> Result<(DeleteOptions, Effect), ApiError> {
    let text = |field: &str| given.get(field).and_then(Value::as_str).or_else(|| query.get(field)).map(str::to_owned);
    let grace = match given.get("gracePeriodSeconds").filter(|v| !v.is_null()) {
        Some(value) => Some(
            value
                .as_i64()
                .ok_or_else(|| ApiError::bad_request("gracePeriodSeconds: it must be a whole number of seconds"))?,
        ),
        None => query.number("gracePeriodSeconds")?.map(|n| i64::try_from(n).unwrap_or(i64::MAX)),
    };
    let orphan = given.get("orphanDependents").and_then(Value::as_bool);
    let propagation = match text("propagationPolicy").as_deref() {
        Some("Orphan") => Some(Propagation::Orphan),
        Some("Background") => Some(Propagation::Background),
        Some("Foreground") => Some(Propagation::Foreground),
        Some(other) => {
            return Err(ApiError::bad_request(format!(
                "invalid propagationPolicy {other:?}: it must be one of \"Foreground\", \"Background\", \"Orphan\""
            )));
        }
        None if orphan == Some(true) => Some(Propagation::Orphan),
        None => None,
    };
    let precondition =
        |field: &str| given.get("preconditions").and_then(|p| p.get(field)).and_then(Value::as_str).map(str::to_owned);
    let dry_run = given.get("dryRun").and_then(Value::as_array).is_some_and(|d| !d.is_empty());
    let effect = if dry_run { Effect::DryRun } else { effect(query)? };
    let options = DeleteOptions {
        grace_period_seconds: grace,
        propagation,
        uid: precondition("uid"),
        resource_version: precondition("resourceVersion"),
    };
    Ok((options, effect))
}
