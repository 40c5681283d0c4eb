//! Everything below an object's own path: status, scale, bindings, evictions, tokens, finalizers, and what the node
//! answers itself.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Value, json};
use skiff_object::kinds::{self, Kind};
use skiff_object::{meta, scale};
use skiff_store::Store;

use crate::body;
use crate::extensions::Body;
use crate::handlers::{Call, Patch, read_body};
use crate::present::Form;
use crate::request::Verb;
use crate::status::ApiError;
use crate::strategy::Part;
use crate::tokens::{self, Claims, ISSUER, KubernetesClaim, ObjectClaim};
use crate::write::{Operation, Write};
use crate::{Api, answer, evictions, forward, node_authorizer, prepare, random};

pub(crate) async fn handle<S: Store>(api: &Api<S>, call: Call) -> Result<Response<body::Body>, ApiError> {
    let kind = &call.target.kind;
    let name = call.target.subresource.clone().unwrap_or_default();
    if !kind.has_subresource(&name) {
        return Err(ApiError::path_not_found());
    }
    match (name.as_str(), call.target.verb) {
        ("log", Verb::Get | Verb::Create) => forward::to_node(api, call).await,
        ("exec" | "attach" | "portforward", Verb::Get | Verb::Create) => {
            may_connect(api, &call, &name).await?;
            forward::to_node(api, call).await
        }
        ("proxy", _) => {
            may_connect(api, &call, &name).await?;
            forward::proxy(api, call).await
        }
        ("scale", Verb::Get | Verb::Update | Verb::Patch) => scale_handler(api, call).await,
        ("binding", Verb::Create) => bind(api, call).await,
        ("eviction", Verb::Create) => evictions::evict(api, call).await,
        ("token", Verb::Create) => token(api, call).await,
        ("finalize", Verb::Update) => api.update(call, Part::Finalize).await,
        ("status", Verb::Update) => api.update(call, Part::Status).await,
        ("status", Verb::Patch) => api.patch(call, Part::Status).await,
        ("approval", Verb::Update) => api.update(call, Part::Approval).await,
        ("approval", Verb::Patch) => api.patch(call, Part::Approval).await,
        ("ephemeralcontainers", Verb::Update) => api.update(call, Part::EphemeralContainers).await,
        ("ephemeralcontainers", Verb::Patch) => api.patch(call, Part::EphemeralContainers).await,
        ("status" | "approval" | "ephemeralcontainers", Verb::Get) => {
            let object = api.require(kind, call.target.namespace(), call.target.name()?).await?;
            Ok(answer::object(StatusCode::OK, call.form, kind, object, &[]))
        }
        (_, verb) => Err(ApiError::method_not_allowed(verb.as_str())),
    }
}

/// Asks who is to be asked about a stream, with what upstream calls its options.
async fn may_connect<S: Store>(api: &Api<S>, call: &Call, subresource: &str) -> Result<(), ApiError> {
    let query = &call.query;
    let flag = |name: &str| query.is_true(name);
    let options = match subresource {
        "portforward" => json!({"kind": "PodPortForwardOptions", "ports": query.all("ports")}),
        "proxy" => {
            let kind = format!("{}ProxyOptions", call.target.kind.kind);
            json!({"kind": kind, "path": format!("/{}", call.target.rest)})
        }
        _ => {
            let kind = if subresource == "exec" { "PodExecOptions" } else { "PodAttachOptions" };
            json!({"kind": kind, "stdin": flag("stdin"), "stdout": flag("stdout"), "stderr": flag("stderr"),
                "tty": flag("tty"), "container": query.get("container").unwrap_or_default(), "command": query.all("command")})
        }
    };
    let mut options = options;
    options["apiVersion"] = json!("v1");
    api.consent_to(&call.target, &call.author()?, Body::Connect(options)).await.map(drop)
}

/// From the current document to the wanted one.
type Change = Box<dyn Fn(&Value) -> Result<Value, ApiError> + Send + Sync>;

async fn scale_handler<S: Store>(api: &Api<S>, call: Call) -> Result<Response<body::Body>, ApiError> {
    let target = call.target.clone();
    let (kind, namespace, name) = (&*target.kind, target.namespace(), target.name()?);
    if target.verb == Verb::Get {
        let object = api.require(kind, namespace, name).await?;
        return Ok(scale_of(kind, &object, call.form));
    }
    let (author, form) = (call.author()?, call.form);
    let change: Change = if target.verb == Verb::Patch {
        let (patch, kind) = (Patch::read(kind, call.request, &call.query).await?, Arc::clone(&target.kind));
        Box::new(move |current: &Value| patch.apply_loosely(&kind, current))
    } else {
        let wanted = read_body("autoscaling/v1", "Scale", call.request, &call.query).await?;
        Box::new(move |_: &Value| Ok(wanted.clone()))
    };
    let change = |old: &Value| {
        let wanted = change(&scale::read(kind, old))?;
        let replicas = wanted["spec"]["replicas"].as_i64().unwrap_or(0);
        if replicas < 0 {
            return Err(ApiError::bad_request(format!(
                "spec.replicas: Invalid value: {replicas}: must be greater than or equal to 0"
            )));
        }
        let mut new = old.clone();
        scale::write(kind, &mut new, &wanted);
        meta::set(&mut new, "resourceVersion", meta::resource_version(&wanted));
        Ok(new)
    };
    let operation = Operation::Update { name, part: Part::Main, change: &change };
    let written = api.write(Write { author: &author, kind, namespace, operation }).await?;
    Ok(scale_of(kind, &written.object, form))
}

fn scale_of(kind: &Kind, object: &Value, form: Form) -> Response<body::Body> {
    let of_scales = kinds::body("autoscaling/v1", "Scale").expect("a kind of answers");
    answer::document(StatusCode::OK, form.encoding(), of_scales, &scale::read(kind, object))
}

/// The scheduler's decision. A pod is bound once.
async fn bind<S: Store>(api: &Api<S>, call: Call) -> Result<Response<body::Body>, ApiError> {
    let target = call.target.clone();
    let (author, encoding) = (call.author()?, call.form.encoding());
    let binding = read_body("v1", "Binding", call.request, &call.query).await?;
    api.consent_to(&target, &author, Body::Create(&binding)).await?;
    let node = meta::text_at(&binding, &["target", "name"]).to_owned();
    let problems = skiff_object::validate::names::dns_subdomain(&node);
    if let Some(problem) = problems.first() {
        return Err(ApiError::bad_request(format!("target.name: Invalid value: {node:?}: {problem}")));
    }
    let (kind, name) = (&*target.kind, target.name()?);
    let change = |old: &Value| {
        let bound = meta::text_at(old, &["spec", "nodeName"]);
        if !bound.is_empty() {
            let why = format!("pod {name} is already assigned to node \"{bound}\"");
            return Err(ApiError::conflict(kind, name, &why));
        }
        if meta::deletion_timestamp(old).is_some() {
            let why = format!("pod {name} is being deleted, cannot be assigned to a host");
            return Err(ApiError::conflict(kind, name, &why));
        }
        let mut new = old.clone();
        new["spec"]["nodeName"] = json!(node);
        set_condition(
            &mut new,
            json!({"type": "PodScheduled", "status": "True",
            "lastTransitionTime": prepare::now(), "lastProbeTime": null}),
        );
        Ok(new)
    };
    let operation = Operation::Update { name, part: Part::Binding, change: &change };
    let written = api.write(Write { author: &author, kind, namespace: target.namespace(), operation }).await?;
    Ok(answer::done(StatusCode::CREATED, encoding, &written.warnings))
}

fn set_condition(object: &mut Value, condition: Value) {
    let mut conditions: Vec<Value> = meta::items(meta::at(object, &["status", "conditions"])).to_vec();
    conditions.retain(|c| c["type"] != condition["type"]);
    conditions.push(condition);
    object["status"]["conditions"] = json!(conditions);
}

/// TokenRequest: a token for a service account, bound to a pod or a secret where one is named.
async fn token<S: Store>(api: &Api<S>, call: Call) -> Result<Response<body::Body>, ApiError> {
    let (target, author) = (call.target.clone(), call.author()?);
    let (user, encoding) = (call.user, call.form.encoding());
    let mut request = read_body("authentication.k8s.io/v1", "TokenRequest", call.request, &call.query).await?;
    // The form of it was checked, not that there is one.
    if !request["spec"].is_object() {
        request["spec"] = json!({});
    }
    let (kind, name) = (&*target.kind, target.name()?);
    let namespace = target.namespace().unwrap_or_default();
    let account = api.require(kind, Some(namespace), name).await?;
    api.consent_to(&target, &author, Body::Create(&request)).await?;
    let asked = request["spec"]["expirationSeconds"].as_u64().unwrap_or(3600);
    if asked < tokens::LIFE_MIN.as_secs() || asked > tokens::LIFE_MAX.as_secs() {
        return Err(ApiError::bad_request(format!(
            "spec.expirationSeconds: Invalid value: {asked}: may not specify a duration less than 10 minutes or over 2^32 seconds"
        )));
    }
    let audiences: Vec<String> = meta::items(meta::at(&request, &["spec", "audiences"]))
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let now = tokens::now();
    let mut bound = KubernetesClaim {
        namespace: namespace.to_owned(),
        serviceaccount: ObjectClaim { name: name.to_owned(), uid: meta::uid(&account).to_owned() },
        pod: None,
        secret: None,
        node: None,
    };
    let pod = bind_token(api, namespace, &request["spec"]["boundObjectRef"], &mut bound).await?;
    node_authorizer::check_token(&user, kind, name, pod.as_ref())?;
    let claims = Claims {
        iss: ISSUER.to_owned(),
        sub: format!("system:serviceaccount:{namespace}:{name}"),
        aud: if audiences.is_empty() { vec![ISSUER.to_owned()] } else { audiences },
        iat: now,
        nbf: now,
        exp: now + asked,
        jti: random::uuid(),
        kubernetes: bound,
    };
    let token = api.tokens().sign(&claims).map_err(|e| ApiError::internal(e.to_string()))?;
    let expires = jiff::Timestamp::from_second(i64::try_from(claims.exp).unwrap_or(i64::MAX)).unwrap_or_default();
    request["kind"] = json!("TokenRequest");
    request["apiVersion"] = json!("authentication.k8s.io/v1");
    request["spec"]["expirationSeconds"] = json!(asked);
    request["spec"]["audiences"] = json!(claims.aud);
    request["status"] =
        json!({"token": token, "expirationTimestamp": expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()});
    let of_tokens = kinds::body("authentication.k8s.io/v1", "TokenRequest").expect("a kind of answers");
    Ok(answer::document(StatusCode::CREATED, encoding, of_tokens, &request))
}

/// Answers with the pod it is bound to, if it is to one.
async fn bind_token<S: Store>(
    api: &Api<S>,
    namespace: &str,
    reference: &Value,
    claim: &mut KubernetesClaim,
) -> Result<Option<Value>, ApiError> {
    let (kind_name, name) = (meta::text_at(reference, &["kind"]), meta::text_at(reference, &["name"]));
    let kind = match kind_name {
        "" => return Ok(None),
        "Pod" | "Secret" => kinds::by_kind("v1", kind_name).expect("a built-in kind"),
        other => {
            return Err(ApiError::bad_request(format!(
                "cannot bind token to object of type {other}: it must be Pod or Secret"
            )));
        }
    };
    let object = api.require(kind, Some(namespace), name).await?;
    let uid = meta::uid(&object);
    let asked = meta::text_at(reference, &["uid"]);
    if !asked.is_empty() && asked != uid {
        let why = format!("the UID in the bound object reference ({asked}) does not match the UID in record ({uid})");
        return Err(ApiError::conflict(kind, name, &why));
    }
    let bound = Some(ObjectClaim { name: name.to_owned(), uid: uid.to_owned() });
    if kind_name == "Pod" {
        claim.pod = bound;
        return Ok(Some(object));
    }
    claim.secret = bound;
    Ok(None)
}
