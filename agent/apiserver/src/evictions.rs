//! Evictions: a pod goes if the disruption budget that is about it has a disruption left to give. It is taken with one write
//! of the budget's status, which fails when somebody was faster, so that no two evictions share it. As upstream's
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/>.

use http::{Response, StatusCode};
use serde_json::{Value, json};
use skiff_object::kinds::{self, Kind};
use skiff_object::labels::Selector;
use skiff_object::meta;
use skiff_store::Store;

use crate::body::Body;
use crate::extensions;
use crate::handlers::{Call, delete_options, read_body};
use crate::prepare::{self, DeleteOptions};
use crate::status::ApiError;
use crate::strategy::Part;
use crate::write::{Author, Effect, Operation, Write, Written, check_preconditions};
use crate::{Api, answer, codec, node_authorizer};

/// Evictions that no controller confirmed: upstream's number.
const GOING_MAX: usize = 2000;
/// Tries to evict a pod that needs no budget as it is, and that others write to.
const ATTEMPTS: usize = 16;

/// Whose eviction of which pod.
struct Eviction<'a> {
    author: Author,
    kind: &'a Kind,
    namespace: Option<&'a str>,
    name: &'a str,
    options: DeleteOptions,
}

/// What lets a pod go.
enum Leave {
    /// It is not to run for long anyway, or any more.
    Ended,
    /// It never ran: as long as that is so.
    NotRunning,
    /// No budget is about it, or one gave.
    Given,
    /// It is not ready, and this budget does not count it: as long as that is so.
    NotReady { budget: String },
}

pub(crate) async fn evict<S: Store>(api: &Api<S>, call: Call) -> Result<Response<Body>, ApiError> {
    let target = call.target.clone();
    let (mut author, encoding) = (call.author()?, call.form.encoding());
    let query = call.query.clone();
    let asked = read_body("policy/v1", "Eviction", call.request, &query).await?;
    let (kind, namespace, name) = (&*target.kind, target.namespace(), target.name()?);
    let pod = api.require(kind, namespace, name).await?;
    // What is said on the pod is said by the API, so that it is asked before.
    let operation = Operation::Delete { name, options: &DeleteOptions::default() };
    node_authorizer::check_write(
        api.config(),
        &Write { author: &author, kind, namespace, operation },
        Some(&pod),
        None,
    )?;
    if meta::name(&asked) != name {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    api.consent_to(&target, &author, extensions::Body::Create(&asked)).await?;
    let (options, effect) = delete_options(asked.get("deleteOptions").unwrap_or(&json!({})), &query)?;
    author.effect = effect;
    let eviction = Eviction { author, kind, namespace, name, options };
    let written = go(api, &eviction).await?;
    Ok(answer::done(StatusCode::CREATED, encoding, &written.warnings))
}

async fn go<S: Store>(api: &Api<S>, eviction: &Eviction<'_>) -> Result<Written, ApiError> {
    for _ in 0..ATTEMPTS {
        let pod = api.require(eviction.kind, eviction.namespace, eviction.name).await?;
        let leave = leave(api, eviction, &pod).await?;
        // Whoever names a revision means that one.
        let is_open = eviction.options.resource_version.is_none();
        let mut options = eviction.options.clone();
        match &leave {
            Leave::NotRunning | Leave::NotReady { .. } if is_open => {
                options.resource_version = Some(meta::resource_version(&pod).to_owned());
            }
            Leave::Ended | Leave::Given | Leave::NotRunning | Leave::NotReady { .. } => {}
        }
        match (remove(api, eviction, options).await, leave) {
            (Err(error), Leave::NotReady { budget }) if error.code == StatusCode::CONFLICT && is_open => {
                return Err(ApiError::disruption_undecided(&budget));
            }
            (Err(error), Leave::NotRunning) if error.code == StatusCode::CONFLICT && is_open => {}
            (removed, _) => return removed,
        }
    }
    Err(ApiError::modified(eviction.kind, eviction.name))
}

/// Says on the pod why it goes, and deletes it.
async fn remove<S: Store>(
    api: &Api<S>,
    eviction: &Eviction<'_>,
    mut options: DeleteOptions,
) -> Result<Written, ApiError> {
    let Eviction { author, kind, namespace, name, .. } = eviction;
    if author.effect == Effect::Store {
        let change = |old: &Value| {
            check_preconditions(kind, name, old, &options)?;
            Ok(targeted(old))
        };
        let operation = Operation::Update { name, part: Part::Status, change: &change };
        let own = Author { subresource: "status".to_owned(), ..Author::own() };
        let marked = api.write(Write { author: &own, kind, namespace: *namespace, operation }).await?.object;
        if options.resource_version.is_some() {
            options.resource_version = Some(meta::resource_version(&marked).to_owned());
        }
    }
    let operation = Operation::Delete { name, options: &options };
    api.write(Write { author, kind, namespace: *namespace, operation }).await
}

/// The pod with the condition that it is disrupted.
fn targeted(pod: &Value) -> Value {
    let mut new = pod.clone();
    let mut conditions: Vec<Value> = meta::items(meta::at(pod, &["status", "conditions"])).to_vec();
    let mut wanted = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": prepare::now()});
    match conditions.iter_mut().find(|condition| condition["type"] == wanted["type"]) {
        Some(old) => {
            if old["status"] == wanted["status"] {
                wanted["lastTransitionTime"] = old["lastTransitionTime"].take();
            }
            *old = wanted;
        }
        None => conditions.push(wanted),
    }
    new["status"]["conditions"] = json!(conditions);
    new
}

/// Asks the budget that is about the pod, and takes of it what the pod needs.
async fn leave<S: Store>(api: &Api<S>, eviction: &Eviction<'_>, pod: &Value) -> Result<Leave, ApiError> {
    match meta::text_at(pod, &["status", "phase"]) {
        _ if meta::deletion_timestamp(pod).is_some() => return Ok(Leave::Ended),
        "Succeeded" | "Failed" => return Ok(Leave::Ended),
        "Pending" => return Ok(Leave::NotRunning),
        _ => {}
    }
    let kind = kinds::by_kind("policy/v1", "PodDisruptionBudget").expect("a built-in kind");
    let entries = api.entries_of(kind, eviction.namespace).await?;
    let selects = |budget: &Value| {
        let selector = Selector::from_label_selector(&budget["spec"]["selector"]);
        selector.is_ok_and(|selector| selector.matches(&meta::labels(pod)))
    };
    let mut budgets = entries.iter().map(codec::decode).filter(selects);
    let Some(budget) = budgets.next() else { return Ok(Leave::Given) };
    if budgets.next().is_some() {
        return Err(ApiError::several_budgets());
    }
    if !is_ready(pod) && spares(&budget) {
        return Ok(Leave::NotReady { budget: meta::name(&budget).to_owned() });
    }
    take(api, kind, &budget, eviction).await.map(|()| Leave::Given)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = meta::items(meta::at(pod, &["status", "conditions"]));
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn count(budget: &Value, field: &str) -> i64 {
    meta::at(budget, &["status", field]).and_then(Value::as_i64).unwrap_or(0)
}

/// Whether a budget lets go pods that are not ready, and gives nothing for them.
fn spares(budget: &Value) -> bool {
    match meta::text_at(budget, &["spec", "unhealthyPodEvictionPolicy"]) {
        "AlwaysAllow" => true,
        _ => {
            let healthy = count(budget, "desiredHealthy");
            healthy > 0 && count(budget, "currentHealthy") >= healthy
        }
    }
}

async fn take<S: Store>(api: &Api<S>, kind: &Kind, budget: &Value, eviction: &Eviction<'_>) -> Result<(), ApiError> {
    let name = meta::name(budget);
    let change = |old: &Value| less(kind, old, eviction.name);
    let own = Author { subresource: "status".to_owned(), effect: eviction.author.effect, ..Author::own() };
    let operation = Operation::Update { name, part: Part::Status, change: &change };
    match api.write(Write { author: &own, kind, namespace: eviction.namespace, operation }).await {
        // It is about nothing any more.
        Err(error) if error.code == StatusCode::NOT_FOUND => Ok(()),
        Err(error) if error.code == StatusCode::CONFLICT => Err(ApiError::disruption_undecided(name)),
        written => written.map(drop),
    }
}

/// The budget with one disruption less, and the pod among those that go. The controller forgets a pod that stays.
fn less(kind: &Kind, budget: &Value, pod: &str) -> Result<Value, ApiError> {
    let name = meta::name(budget);
    let allowed = count(budget, "disruptionsAllowed");
    let going = budget["status"]["disruptedPods"].as_object().map_or(0, serde_json::Map::len);
    if count(budget, "observedGeneration") < meta::generation(budget) {
        return Err(ApiError::disruption_undecided(name));
    }
    if allowed < 0 {
        return Err(ApiError::forbidden_object(kind, name, "pdb disruptions allowed is negative"));
    }
    if going > GOING_MAX {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(ApiError::forbidden_object(kind, name, why));
    }
    if allowed == 0 {
        return Err(ApiError::disruption_refused(why_none(budget)));
    }
    let mut new = budget.clone();
    new["status"]["disruptionsAllowed"] = json!(allowed - 1);
    new["status"]["disruptedPods"][pod] = json!(prepare::now());
    let conditions = new["status"]["conditions"].as_array_mut().into_iter().flatten();
    for condition in conditions.filter(|condition| allowed == 1 && condition["type"] == "DisruptionAllowed") {
        condition["status"] = json!("False");
        condition["reason"] = json!("InsufficientPods");
        condition["lastTransitionTime"] = json!(prepare::now());
    }
    Ok(new)
}

fn why_none(budget: &Value) -> String {
    let name = meta::name(budget);
    let conditions = meta::items(meta::at(budget, &["status", "conditions"]));
    let is_failure = |condition: &&Value| condition["status"] == "False" && condition["reason"] == "SyncFailed";
    match conditions.iter().find(is_failure) {
        Some(failure) => {
            let why = meta::text_at(failure, &["message"]);
            format!("The disruption budget {name} does not allow evicting pods currently because it failed sync: {why}")
        }
        None => {
            let (wanted, healthy) = (count(budget, "desiredHealthy"), count(budget, "currentHealthy"));
            format!("The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently")
        }
    }
}
