//! The review kinds: questions about tokens and permissions, answered and not stored.

use http::{Response, StatusCode};
use serde_json::{Value, json};
use skiff_object::meta;
use skiff_store::Store;

use crate::body::Body;
use crate::handlers::{Call, read_object};
use crate::rbac::Attributes;
use crate::status::ApiError;
use crate::users::User;
use crate::{Api, answer};

pub(crate) async fn handle<S: Store>(api: &Api<S>, call: Call) -> Result<Response<Body>, ApiError> {
    if call.target.verb != crate::request::Verb::Create {
        return Err(ApiError::method_not_allowed(call.target.verb.as_str()));
    }
    let Call { user, target, query, form, request } = call;
    let mut review = read_object(&target.kind, request, &query).await?.value;
    review["apiVersion"] = json!(target.kind.api_version());
    review["kind"] = json!(target.kind.kind);
    meta::set(&mut review, "creationTimestamp", Value::Null);
    review["status"] = match &*target.kind.kind {
        "SelfSubjectReview" => json!({"userInfo": user.info()}),
        "SelfSubjectAccessReview" => access(api, &user, &review["spec"]).await?,
        "SelfSubjectRulesReview" => rules(api, &user, Some(meta::text_at(&review, &["spec", "namespace"]))),
        "SubjectAccessReview" => access(api, &reviewed_user(&review["spec"])?, &review["spec"]).await?,
        "LocalSubjectAccessReview" => {
            stays_in(target.namespace(), &review["spec"])?;
            access(api, &reviewed_user(&review["spec"])?, &review["spec"]).await?
        }
        "TokenReview" => token(api, &review["spec"]).await,
        _ => return Err(ApiError::path_not_found()),
    };
    Ok(answer::document(StatusCode::CREATED, form.encoding(), &target.kind, &review))
}

/// Whoever may ask in one namespace is told of no other.
fn stays_in(namespace: Option<&str>, spec: &Value) -> Result<(), ApiError> {
    let asked = meta::text_at(spec, &["resourceAttributes", "namespace"]);
    if spec.get("nonResourceAttributes").is_some() {
        return Err(ApiError::bad_request(
            "spec.nonResourceAttributes: Invalid value: disallowed on this kind of request",
        ));
    }
    match namespace {
        Some(namespace) if namespace == asked => Ok(()),
        Some(_) | None => Err(ApiError::bad_request(format!(
            "spec.resourceAttributes.namespace: Invalid value: {asked:?}: must match metadata.namespace"
        ))),
    }
}

fn reviewed_user(spec: &Value) -> Result<User, ApiError> {
    let name = meta::text_at(spec, &["user"]);
    let groups: Vec<String> =
        meta::items(spec.get("groups")).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    if name.is_empty() && groups.is_empty() {
        return Err(ApiError::bad_request("spec: at least one of user or group must be specified"));
    }
    Ok(User { name: name.to_owned(), uid: String::new(), groups, extra: Default::default() })
}

async fn access<S: Store>(api: &Api<S>, user: &User, spec: &Value) -> Result<Value, ApiError> {
    let attributes = &spec["resourceAttributes"];
    let text = |field: &str| meta::text_at(attributes, &[field]);
    let set = |value: &'static str, text: &str| if text.is_empty() { value.to_owned() } else { text.to_owned() };
    let allowed = if attributes.is_object() {
        let resource = match text("subresource") {
            "" => set("*", text("resource")),
            sub => format!("{}/{sub}", text("resource")),
        };
        let attributes = Attributes::Resource {
            verb: text("verb"),
            group: text("group"),
            resource: &resource,
            namespace: Some(text("namespace")).filter(|n| !n.is_empty()),
            name: Some(text("name")).filter(|n| !n.is_empty()),
            of_node: None,
        };
        api.allows(user, &attributes).await?
    } else {
        let text = |field: &str| meta::text_at(spec, &["nonResourceAttributes", field]);
        api.authorizer().allows(user, &Attributes::Path { verb: text("verb"), path: text("path") })
    };
    Ok(json!({"allowed": allowed}))
}

fn rules<S: Store>(api: &Api<S>, user: &User, namespace: Option<&str>) -> Value {
    let (mut resource_rules, mut path_rules) = (Vec::new(), Vec::new());
    for rule in api.authorizer().rules_in(user, namespace) {
        if !rule.resources.is_empty() {
            let mut out = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
            if !rule.resource_names.is_empty() {
                out["resourceNames"] = json!(rule.resource_names);
            }
            resource_rules.push(out);
        }
        if !rule.non_resource_urls.is_empty() {
            path_rules.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
        }
    }
    json!({"resourceRules": resource_rules, "nonResourceRules": path_rules, "incomplete": false})
}

async fn token<S: Store>(api: &Api<S>, spec: &Value) -> Value {
    let audiences: Vec<&str> = meta::items(spec.get("audiences")).iter().filter_map(Value::as_str).collect();
    let token = meta::text_at(spec, &["token"]);
    match api.user_of_token(token, &audiences).await {
        Ok((user, known)) => {
            let matching: Vec<_> =
                known.iter().filter(|a| audiences.is_empty() || audiences.contains(&a.as_str())).collect();
            json!({"authenticated": true, "user": user.info(), "audiences": matching})
        }
        Err(_) => json!({"authenticated": false, "error": "the token is not valid"}),
    }
}
