//! From an authenticated request to its answer: routing, authorization, and the verbs on objects.

use http::{Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use skiff_object::decode::{self, Decoded, FieldValidation};
use skiff_object::kinds::{self, Kind};
use skiff_object::meta;
use skiff_object::patch::{self, PatchKind};
use skiff_object::protobuf;
use skiff_store::Store;

use crate::body::{self, Body};
use crate::present::Form;
use crate::rbac::Attributes;
use crate::registry::{DeleteOptions, Deleted, Effect, Propagation};
use crate::request::{self, Query, Target, Verb};
use crate::status::{self, ApiError};
use crate::strategy::Part;
use crate::users::User;
use crate::{Api, admission, discovery, reviews, subresources};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const OBJECT_TYPES: &str = "application/json, application/vnd.kubernetes.protobuf";
const PATCH_TYPES: &str =
    "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json";

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
        let result = self.route(user, request).await;
        result.unwrap_or_else(ApiError::into_response)
    }

    async fn route(&self, user: User, request: Request<Body>) -> Result<Response<Body>, ApiError> {
        let query = Query::parse(request.uri().query());
        let path = request.uri().path().to_owned();
        let Some(target) = request::target(request.method(), &path, &query)? else {
            return self.path(&user, &path, &request);
        };
        self.authorize(&user, &target)?;
        let form = Form::negotiate(request.headers(), &query)?;
        let call = Call { user, target, query, form, request };
        if call.target.subresource.is_some() {
            return subresources::handle(self, call).await;
        }
        if call.target.kind.virtual_ {
            return reviews::handle(self, call).await;
        }
        match call.target.verb {
            Verb::Get => self.get(&call).await,
            Verb::List => self.list(&call.target, &call.query, call.form).await,
            Verb::Watch => self.watch(&call.target, &call.query, call.form).await,
            Verb::Create => self.create(call).await,
            Verb::Update => self.update(call, Part::Main).await,
            Verb::Patch => self.patch(call, Part::Main).await,
            Verb::Delete => self.delete(call).await,
            Verb::DeleteCollection => self.delete_collection(call).await,
        }
    }

    fn authorize(&self, user: &User, target: &Target) -> Result<(), ApiError> {
        let resource = target.resource();
        let attributes = Attributes::Resource {
            verb: target.verb.as_str(),
            group: target.kind.group,
            resource: &resource,
            namespace: target.namespace(),
            name: target.name.as_deref(),
        };
        if self.authorizer().allows(user, &attributes) {
            return Ok(());
        }
        let scope = match target.namespace() {
            Some(namespace) => format!("in the namespace \"{namespace}\""),
            None => "at the cluster scope".to_owned(),
        };
        let why = format!(
            "User \"{}\" cannot {} resource \"{resource}\" in API group \"{}\" {scope}",
            user.name,
            target.verb.as_str(),
            target.kind.group
        );
        let group_resource = target.kind.group_resource();
        let name = target.name.as_deref().unwrap_or_default();
        Err(match name {
            "" => ApiError::forbidden(format!("{group_resource} is forbidden: {why}")),
            name => ApiError::forbidden_object(target.kind, name, &why),
        })
    }

    fn path(&self, user: &User, path: &str, request: &Request<Body>) -> Result<Response<Body>, ApiError> {
        let verb = request.method().as_str().to_ascii_lowercase();
        if !self.authorizer().allows(user, &Attributes::Path { verb: &verb, path }) {
            let why = format!("User \"{}\" cannot {verb} path \"{path}\"", user.name);
            return Err(ApiError::forbidden(format!("forbidden: {why}")));
        }
        if *request.method() != Method::GET && *request.method() != Method::HEAD {
            return Err(ApiError::method_not_allowed(request.method().as_str()));
        }
        match path.trim_end_matches('/') {
            "/healthz" | "/livez" => return Ok(body::text(StatusCode::OK, "ok")),
            "/readyz" => return Ok(self.readiness()),
            "/metrics" => return Ok(self.metrics()),
            "" => {
                return Ok(body::json(
                    StatusCode::OK,
                    &json!({"paths": ["/api", "/apis", "/healthz", "/livez",
                "/metrics", "/openapi/v3", "/readyz", "/version"]}),
                ));
            }
            _ => {}
        }
        discovery::answer(path, request.headers(), &self.server_address())
            .or_else(|| discovery::openapi(path, request.uri().query()))
            .ok_or_else(ApiError::path_not_found)
    }

    fn readiness(&self) -> Response<Body> {
        if self.is_ready() {
            return body::text(StatusCode::OK, "ok");
        }
        body::text(StatusCode::SERVICE_UNAVAILABLE, "[-]bootstrap not finished\nreadyz check failed\n")
    }

    async fn get(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        let target = &call.target;
        let object = self.require(target.kind, target.namespace(), target.name()?).await?;
        Ok(body::json(StatusCode::OK, &call.form.object(target.kind, object)))
    }

    async fn create(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let Call { target, query, form, request, .. } = call;
        let decoded = read_object(target.kind, request, &query).await?;
        let mut object = decoded.value;
        let namespace = namespace_of(&target, &object)?;
        if !meta::resource_version(&object).is_empty() {
            return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
        }
        if meta::name(&object).is_empty() && meta::generate_name(&object).is_empty() {
            // Validation names the field.
            meta::unset(&mut object, "name");
        }
        let created = self.create_object(target.kind, namespace.as_deref(), object, effect(&query)?).await?;
        let response = body::json(StatusCode::CREATED, &form.object(target.kind, created));
        Ok(with_warnings(response, &decoded.warnings))
    }

    pub(crate) async fn update(&self, call: Call, part: Part) -> Result<Response<Body>, ApiError> {
        let Call { target, query, form, request, .. } = call;
        let decoded = read_object(target.kind, request, &query).await?;
        let namespace = namespace_of(&target, &decoded.value)?;
        let updated = self
            .update_object(target.kind, namespace.as_deref(), target.name()?, part, effect(&query)?, |_| {
                Ok(decoded.value.clone())
            })
            .await?;
        Ok(with_warnings(body::json(StatusCode::OK, &form.object(target.kind, updated)), &decoded.warnings))
    }

    pub(crate) async fn patch(&self, call: Call, part: Part) -> Result<Response<Body>, ApiError> {
        let Call { target, query, form, request, .. } = call;
        let patch = Patch::read(request, &query).await?;
        let warnings = std::sync::Mutex::new(Vec::new());
        let updated = self
            .update_object(target.kind, target.namespace(), target.name()?, part, effect(&query)?, |old| {
                let decoded = patch.apply(target.kind, old)?;
                *warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = decoded.warnings;
                Ok(decoded.value)
            })
            .await?;
        let warnings = warnings.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(with_warnings(body::json(StatusCode::OK, &form.object(target.kind, updated)), &warnings))
    }

    async fn delete(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let Call { target, query, form, request, .. } = call;
        let options = read_delete_options(request, &query).await?;
        let name = target.name()?;
        admission::delete(target.kind, name)?;
        Ok(match self.delete_object(target.kind, target.namespace(), name, &options).await? {
            Deleted::Gone(object) if target.kind.kind == "Pod" => {
                body::json(StatusCode::OK, &form.object(target.kind, object))
            }
            Deleted::Gone(object) => {
                body::json(StatusCode::OK, &status::deleted(target.kind, name, meta::uid(&object)))
            }
            Deleted::Pending(object) => body::json(StatusCode::OK, &form.object(target.kind, object)),
        })
    }

    async fn delete_collection(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let Call { target, query, form, request, .. } = call;
        let options = read_delete_options(request, &query).await?;
        let mut items = Vec::new();
        for object in self.select(&target, &query).await? {
            let (namespace, name) = (meta::namespace(&object).map(str::to_owned), meta::name(&object).to_owned());
            if admission::delete(target.kind, &name).is_err() {
                continue;
            }
            match self.delete_object(target.kind, namespace.as_deref(), &name, &options).await {
                Ok(Deleted::Gone(object) | Deleted::Pending(object)) => items.push(object),
                // Somebody else was faster.
                Err(error) if error.code == StatusCode::NOT_FOUND => {}
                Err(error) => return Err(error),
            }
        }
        let metadata = json!({"resourceVersion": self.store().revision().to_string()});
        Ok(body::json(StatusCode::OK, &form.list(target.kind, metadata, items)))
    }
}

fn with_warnings(mut response: Response<Body>, warnings: &[String]) -> Response<Body> {
    for warning in warnings {
        let text: String = warning.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = header::HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

fn namespace_of(target: &Target, object: &Value) -> Result<Option<String>, ApiError> {
    let asked = meta::namespace(object);
    match (target.namespace(), asked) {
        (Some(url), Some(asked)) if url != asked => Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
        (None, _) if matches!(target.kind.scope, skiff_object::kinds::Scope::Namespaced) => {
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

fn field_validation(query: &Query) -> Result<FieldValidation, ApiError> {
    match query.get("fieldValidation") {
        None | Some("Warn") => Ok(FieldValidation::Warn),
        Some("Strict") => Ok(FieldValidation::Strict),
        Some("Ignore") => Ok(FieldValidation::Ignore),
        Some(other) => Err(ApiError::bad_request(format!(
            "Invalid value: {other:?}: fieldValidation: supported values: \"Ignore\", \"Strict\", \"Warn\""
        ))),
    }
}

fn media_type(request: &Request<Body>) -> String {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A request's body as JSON, whichever of the accepted types it came in; empty where it is empty.
pub(crate) async fn read_json_bytes(kind: &Kind, request: Request<Body>) -> Result<bytes::Bytes, ApiError> {
    match media_type(&request).as_str() {
        "" | "application/json" => body::read(request.into_body()).await,
        PROTOBUF => {
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

pub(crate) async fn read_object(
    kind: &'static Kind,
    request: Request<Body>,
    query: &Query,
) -> Result<Decoded, ApiError> {
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
    pub(crate) async fn read(request: Request<Body>, query: &Query) -> Result<Self, ApiError> {
        let kind = match media_type(&request).as_str() {
            "application/json-patch+json" => PatchKind::Json,
            "application/merge-patch+json" => PatchKind::Merge,
            "application/strategic-merge-patch+json" => PatchKind::Strategic,
            _ => return Err(ApiError::unsupported_media_type(PATCH_TYPES)),
        };
        let validation = field_validation(query)?;
        let bytes = body::read(request.into_body()).await?;
        let value = serde_json::from_slice(&bytes)
            .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
        Ok(Self { kind, value, validation })
    }

    pub(crate) fn apply(&self, kind: &'static Kind, old: &Value) -> Result<Decoded, ApiError> {
        let patched = patch::apply(kind, old, self.kind, &self.value)
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        decode::decode_value(kind, patched, self.validation).map_err(|e| ApiError::bad_request(e.to_string()))
    }

    /// On a document that is no stored kind, such as a Scale.
    pub(crate) fn apply_loosely(&self, kind: &'static Kind, old: &Value) -> Result<Value, ApiError> {
        patch::apply(kind, old, self.kind, &self.value).map_err(|error| ApiError::bad_request(error.to_string()))
    }
}

async fn read_delete_options(request: Request<Body>, query: &Query) -> Result<DeleteOptions, ApiError> {
    let kind = kinds::embedded("v1", "DeleteOptions");
    let bytes = read_json_bytes(kind.expect("a kind of requests"), request).await?;
    let given: Value = if bytes.is_empty() {
        json!({})
    } else {
        serde_json::from_slice(&bytes)
            .map_err(|error| ApiError::bad_request(format!("the body is not valid DeleteOptions: {error}")))?
    };
    delete_options(&given, query)
}

/// From the body, or where it is silent from the query.
pub(crate) fn delete_options(given: &Value, query: &Query) -> Result<DeleteOptions, ApiError> {
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
    Ok(DeleteOptions {
        grace_period_seconds: grace,
        propagation,
        uid: precondition("uid"),
        resource_version: precondition("resourceVersion"),
        dry_run: dry_run || effect(query)? == Effect::DryRun,
    })
}
