//! Server-side apply over HTTP: what a request says, and what it must not. Who owns what afterwards is in `owners.rs`.

use http::{Response, StatusCode};
use serde_json::Value;
use skiff_object::kinds::Kind;
use skiff_object::validate::{FieldError, FieldErrorKind};
use skiff_object::{decode, meta};
use skiff_store::Store;

use crate::body::{self, Body};
use crate::handlers::{Call, cannot, field_validation, namespace_of};
use crate::rbac::Attributes;
use crate::request::Query;
use crate::status::ApiError;
use crate::strategy::Part;
use crate::users::User;
use crate::write::{Author, Operation, Write, check_name};
use crate::{Api, answer, yaml};

pub const MEDIA_TYPE: &str = "application/apply-patch+yaml";

impl<S: Store> Api<S> {
    /// Server-side apply: the object is made where there is none.
    pub(crate) async fn apply(&self, call: Call, author: Author, part: Part) -> Result<Response<Body>, ApiError> {
        let Call { target, query, form, request, .. } = call;
        if query.get("fieldManager").is_none() {
            let why = "is required for apply patch";
            return Err(wrong_option(FieldErrorKind::Required, "fieldManager", why));
        }
        let (kind, name) = (&*target.kind, target.name()?);
        let force = is_forced(&query);
        let validation = field_validation(&query)?;
        let bytes = body::read(request.into_body()).await?;
        let value = yaml::read(bytes).await?;
        check_applied(kind, &value)?;
        let decoded = decode::decode_value(kind, value, validation);
        let mut decoded = decoded.map_err(|error| ApiError::bad_request(error.to_string()))?;
        let config = &mut decoded.value;
        if meta::name(config).is_empty() {
            meta::set(config, "name", name);
        }
        check_name(name, config)?;
        let namespace = namespace_of(&target, config)?;
        let operation = Operation::Apply { name, part, config, force };
        let written = self.write(Write { author: &author, kind, namespace: namespace.as_deref(), operation }).await?;
        let code = if written.made { StatusCode::CREATED } else { StatusCode::OK };
        let warnings = [decoded.warnings, written.warnings].concat();
        Ok(answer::object(code, form, kind, written.object, &warnings))
    }

    /// Whoever applies what is not there makes it, and needs the right to.
    pub(crate) async fn check_may_create(&self, write: &Write<'_>, name: &str) -> Result<(), ApiError> {
        let (kind, user) = (write.kind, &write.author.user);
        let (group, resource, namespace) = (&*kind.group, &*kind.plural, write.namespace);
        let wanted =
            Attributes::Resource { verb: "create", group, resource, namespace, name: Some(name), of_node: None };
        if self.allows(user, &wanted).await? {
            return Ok(());
        }
        Err(ApiError::forbidden_object(kind, name, &cannot(user, "create", resource, group, namespace)))
    }
}

const MANAGER_BYTES_MAX: usize = 128;

/// As upstream: short, and nothing that cannot be printed.
pub fn check_manager(manager: &str) -> Result<&str, ApiError> {
    let refuse = |kind, why| Err(wrong_option(kind, "fieldManager", why));
    if manager.len() > MANAGER_BYTES_MAX {
        return refuse(FieldErrorKind::TooLong, "may not be more than 128 bytes");
    }
    if manager.chars().any(char::is_control) {
        return refuse(FieldErrorKind::Invalid, "should only contain printable characters");
    }
    Ok(manager)
}

/// Of a request that does not say it: the program's name alone. The agent's own parts have none but who they are.
pub fn manager_of(user_agent: &str, user: &User) -> String {
    let program: String =
        user_agent.split('/').next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    let end = program.floor_char_boundary(MANAGER_BYTES_MAX);
    if program.is_empty() { user.program().to_owned() } else { program[..end].to_owned() }
}

pub fn check_no_force(query: &Query) -> Result<(), ApiError> {
    let why = "may not be specified for non-apply patch";
    if is_forced(query) { Err(wrong_option(FieldErrorKind::Forbidden, "force", why)) } else { Ok(()) }
}

fn is_forced(query: &Query) -> bool {
    query.is_true("force")
}

fn wrong_option(kind: FieldErrorKind, option: &str, why: &str) -> ApiError {
    ApiError::invalid_options("PatchOptions", &[FieldError::new(kind, option, None, why)])
}

/// What upstream asks of an applied object before it is looked at.
fn check_applied(kind: &Kind, value: &Value) -> Result<(), ApiError> {
    if meta::field(value, "managedFields").is_some_and(|fields| !fields.is_null()) {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    let said = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
    if value.is_object() && (said("apiVersion").is_empty() || said("kind").is_empty()) {
        return Err(ApiError::bad_request(format!(
            "the applied object must say its apiVersion ({}) and kind ({})",
            kind.api_version(),
            kind.kind
        )));
    }
    Ok(())
}
