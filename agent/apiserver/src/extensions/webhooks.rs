//! Webhooks: what is asked of one, and what its answer makes of a write.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::StatusCode;
use serde_json::{Value, json};
use skiff_object::decode::{self, FieldValidation};
use skiff_object::kinds::{Kind, split_api_version};
use skiff_object::{meta, patch};
use skiff_store::Store;

use super::call::Client;
use super::matching::{Asked, Conditions, Constraints};
use crate::status::ApiError;
use crate::write::{Author, Effect};
use crate::{Api, random};

/// As upstream.
const TIMEOUT_SECONDS: u64 = 10;

pub struct Webhook {
    pub name: String,
    client: Client,
    constraints: Constraints,
    conditions: Conditions,
    /// Whether what cannot be asked is refused.
    fails_closed: bool,
    /// Whether it changes nothing else when it is only tried.
    allows_dry_run: bool,
    timeout: Duration,
    /// Whether it is asked once more when others changed the object after it.
    is_reinvoked: bool,
}

/// What an answer says.
#[derive(Default)]
struct Verdict {
    patched: Option<Value>,
    warnings: Vec<String>,
}

impl Webhook {
    /// Those of a configuration.
    pub fn read(configuration: &Value) -> Vec<Self> {
        let of = |json: &Value| {
            let text = |name: &str| meta::text_at(json, &[name]);
            let seconds = json.get("timeoutSeconds").and_then(Value::as_u64).unwrap_or(TIMEOUT_SECONDS);
            Self {
                name: text("name").to_owned(),
                client: Client::read(json.get("clientConfig").unwrap_or(&Value::Null)),
                constraints: Constraints::read(json, "rules"),
                conditions: Conditions::read(json),
                fails_closed: text("failurePolicy") != "Ignore",
                allows_dry_run: matches!(text("sideEffects"), "None" | "NoneOnDryRun"),
                timeout: Duration::from_secs(seconds.clamp(1, 30)),
                is_reinvoked: text("reinvocationPolicy") == "IfNeeded",
            }
        };
        meta::items(configuration.get("webhooks")).iter().map(of).collect()
    }

    /// Asks about a write, if it is to be asked.
    async fn review<S: Store>(
        &self,
        api: &Api<S>,
        author: &Author,
        asked: &Asked<'_>,
    ) -> Result<Option<Verdict>, ApiError> {
        let catalogue = api.catalogue();
        let Some(kind) = self.constraints.matches(asked, &catalogue) else { return Ok(None) };
        let mut forms = [None, None];
        for (form, object) in forms.iter_mut().zip([asked.object, asked.old]) {
            if let Some(object) = object {
                *form = Some(asked_of(api, asked.kind, &kind, object.clone()).await?);
            }
        }
        let request = request(author, asked, &kind, forms);
        match self.conditions.hold(asked, &request) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(why) if self.fails_closed => return Err(self.failed(&why)),
            Err(why) => {
                tracing::warn!(webhook = self.name, why, "a webhook is passed over");
                return Ok(None);
            }
        }
        if author.effect == Effect::DryRun && !self.allows_dry_run {
            let why = format!("admission webhook {:?} does not support dry run", self.name);
            return Err(ApiError::bad_request(why));
        }
        let uid = meta::text_at(&request, &["uid"]).to_owned();
        let question = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request});
        let answer = self.client.ask(api, &question, self.timeout).await.map_err(|error| {
            format!(
                "failed to call webhook: Post \"{}?timeout={}s\": {error}",
                self.client.url(),
                self.timeout.as_secs()
            )
        });
        let read = match answer {
            Ok(answer) => self.verdict(&answer, &uid, question.pointer("/request/object"))?,
            Err(why) => Err(why),
        };
        match read {
            Ok(mut verdict) => {
                if let Some(object) = verdict.patched.take() {
                    verdict.patched = Some(asked_of(api, &kind, asked.kind, object).await?);
                }
                Ok(Some(verdict))
            }
            Err(why) if self.fails_closed => Err(self.failed(&why)),
            Err(why) => {
                tracing::warn!(webhook = self.name, why, "a webhook that may fail did");
                Ok(None)
            }
        }
    }

    fn failed(&self, why: &str) -> ApiError {
        ApiError::internal(format!("failed calling webhook {:?}: {why}", self.name))
    }

    /// The outer error refuses the write; the inner one is the webhook's own failure.
    fn verdict(&self, answer: &Value, uid: &str, object: Option<&Value>) -> Result<Result<Verdict, String>, ApiError> {
        let response = answer.get("response").filter(|response| response.is_object());
        let Some(response) = response else {
            return Ok(Err("the answer is no AdmissionReview with a response".to_owned()));
        };
        if meta::text_at(response, &["uid"]) != uid {
            let found = meta::text_at(response, &["uid"]);
            return Ok(Err(format!("expected response.uid={uid:?}, got {found:?}")));
        }
        let Some(allowed) = response.get("allowed").and_then(Value::as_bool) else {
            return Ok(Err("the answer does not say whether it is allowed".to_owned()));
        };
        if !allowed {
            return Err(self.denied(response));
        }
        let texts = meta::items(response.get("warnings")).iter().filter_map(Value::as_str);
        let warnings = texts.map(|text| text.chars().take(256).collect()).collect();
        let patch = meta::text_at(response, &["patch"]);
        if patch.is_empty() {
            return Ok(Ok(Verdict { patched: None, warnings }));
        }
        if meta::text_at(response, &["patchType"]) != "JSONPatch" {
            return Ok(Err("a patch needs the patchType \"JSONPatch\"".to_owned()));
        }
        let decoded = BASE64_STANDARD.decode(patch).map_err(|error| error.to_string());
        let decoded = decoded.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).map_err(|e| e.to_string()));
        Ok(decoded
            .and_then(|patch| apply(object.unwrap_or(&Value::Null), &patch))
            .map(|patched| Verdict { patched: Some(patched), warnings }))
    }

    fn denied(&self, response: &Value) -> ApiError {
        let status = response.get("status").unwrap_or(&Value::Null);
        let said = match (meta::text_at(status, &["message"]), meta::text_at(status, &["reason"])) {
            ("", "") => format!("admission webhook {:?} denied the request without explanation", self.name),
            ("", text) | (text, _) => format!("admission webhook {:?} denied the request: {text}", self.name),
        };
        let code = status.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
        let code = code.and_then(|code| StatusCode::from_u16(code).ok()).filter(|code| code.as_u16() >= 400);
        ApiError::denied(code.unwrap_or(StatusCode::FORBIDDEN), meta::text_at(status, &["reason"]), said)
    }
}

/// An object in the form that is asked about: what is no object of the kind (a scale, an eviction) is in none.
async fn asked_of<S: Store>(api: &Api<S>, from: &Kind, to: &Kind, object: Value) -> Result<Value, ApiError> {
    if from.api_version() == to.api_version() { Ok(object) } else { api.in_form(from, to, object).await }
}

fn apply(object: &Value, operations: &Value) -> Result<Value, String> {
    patch::json(object, operations).map_err(|error| format!("the patch cannot be applied: {error}"))
}

/// The question; `kind` is the one in whose form it is asked.
pub fn request(author: &Author, asked: &Asked<'_>, kind: &Kind, [object, old]: [Option<Value>; 2]) -> Value {
    // What comes to a part of an object may be of a kind of its own.
    let own = asked.object.filter(|_| !asked.subresource.is_empty()).map(|object| {
        let (group, version) = split_api_version(meta::text_at(object, &["apiVersion"]));
        json!({"group": group, "version": version, "kind": meta::text_at(object, &["kind"])})
    });
    let gvk = |kind: &Kind| {
        own.clone().unwrap_or_else(|| json!({"group": kind.group, "version": kind.version, "kind": kind.kind}))
    };
    let gvr = |kind: &Kind| json!({"group": kind.group, "version": kind.version, "resource": kind.plural});
    let options = match asked.operation {
        "CREATE" => "CreateOptions",
        "UPDATE" => "UpdateOptions",
        "CONNECT" => "ConnectOptions",
        _ => "DeleteOptions",
    };
    let mut request = json!({
        "uid": random::uuid(), "kind": gvk(kind), "resource": gvr(kind), "requestKind": gvk(asked.kind),
        "requestResource": gvr(asked.kind), "name": asked.name, "operation": asked.operation,
        "userInfo": author.user.info(), "object": object, "oldObject": old,
        "dryRun": author.effect == Effect::DryRun,
        "options": {"kind": options, "apiVersion": "meta.k8s.io/v1"},
    });
    if !asked.subresource.is_empty() {
        request["subResource"] = json!(asked.subresource);
        request["requestSubResource"] = json!(asked.subresource);
    }
    if let Some(namespace) = asked.namespace {
        request["namespace"] = json!(meta::name(namespace));
    }
    request
}

impl<S: Store> Api<S> {
    /// What the mutating webhooks make of an object; `None` where nobody changed it.
    pub(crate) async fn mutate(
        &self,
        author: &Author,
        asked: Asked<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Value>, ApiError> {
        let compiled = self.extensions().compiled();
        let mut changed: Option<Value> = None;
        // Which saw the object as it is now.
        let mut asked_last = vec![false; compiled.mutating.len()];
        for round in 0..2 {
            for (index, webhook) in compiled.mutating.iter().enumerate() {
                if round > 0 && (asked_last[index] || !webhook.is_reinvoked) {
                    continue;
                }
                let now = Asked { object: changed.as_ref().or(asked.object), ..asked };
                let Some(verdict) = webhook.review(self, author, &now).await? else { continue };
                warnings.extend(verdict.warnings);
                asked_last[index] = true;
                let Some(patched) = verdict.patched else { continue };
                let decoded = decode::decode_value(asked.kind, patched, FieldValidation::Ignore);
                let decoded = decoded.map_err(|error| webhook.failed(&error.to_string()))?.value;
                if now.object != Some(&decoded) {
                    asked_last.iter_mut().enumerate().for_each(|(other, seen)| *seen &= other == index);
                    changed = Some(decoded);
                }
            }
            if changed.is_none() {
                break;
            }
        }
        Ok(changed)
    }

    /// Whether the validating webhooks take a write.
    pub(crate) async fn ask_webhooks(
        &self,
        author: &Author,
        asked: &Asked<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let compiled = self.extensions().compiled();
        // All at once, as upstream: none sees what another says.
        let reviews = compiled.validating.iter().map(|webhook| webhook.review(self, author, asked));
        for verdict in futures::future::join_all(reviews).await {
            warnings.extend(verdict?.into_iter().flat_map(|verdict| verdict.warnings));
        }
        Ok(())
    }
}
