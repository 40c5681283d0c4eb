//! Resource quotas: what an object costs, of which quotas, and what a change of one makes of a quota's status.
//!
//! Owns the names of what is counted, the scopes and upstream's words. Pure: who reads quotas and writes them is elsewhere.
//! What is enforced is `spec.hard`; of the status, `used` is kept up with each write of an object that counts.
//! <https://kubernetes.io/docs/concepts/policy/resource-quotas/>

mod scopes;
#[cfg(test)]
mod tests;
mod usage;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::kinds::Kind;
use crate::meta;
use crate::quantity::Quantity;
use crate::requests::{self, Amounts};

/// Events are too many and too short-lived to be counted.
const UNCOUNTED: [&str; 2] = ["events", "events.events.k8s.io"];

/// Whether objects of a kind are counted at all.
pub fn is_counted(kind: &Kind) -> bool {
    kind.namespaced() && kind.is_kept() && !UNCOUNTED.contains(&kind.group_resource().as_str())
}

/// One change of one object; `old` is none when it is made, `new` when it goes.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// `pods`, `deployments.apps`.
    pub resource: &'a str,
    pub old: Option<&'a Value>,
    pub new: Option<&'a Value>,
}

/// Whether a change may be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    Refuse,
    /// It has happened, or is only told of: it is counted whatever the quota says.
    Count,
}

/// Whether a quota limits something that objects of a kind count for.
pub fn limits(quota: &Value, resource: &str) -> bool {
    !UNCOUNTED.contains(&resource) && hard(quota).keys().any(|name| usage::tracks(resource, name))
}

/// Whether what an object of a kind costs depends on what is in it; else all cost the same.
pub fn is_weighed(resource: &str) -> bool {
    matches!(resource, "pods" | "services" | "persistentvolumeclaims")
}

/// What an object costs of a quota: of what the quota limits, and only if it is in the quota's scopes.
pub fn cost(quota: &Value, resource: &str, object: &Value) -> Amounts {
    if !scopes::matches(quota, resource, object) {
        return Amounts::new();
    }
    let hard = hard(quota);
    let tracked = |name: &String| hard.contains_key(name) && usage::tracks(resource, name);
    usage::of(resource, object).into_iter().filter(|(name, amount)| tracked(name) && !amount.is_zero()).collect()
}

/// What a change makes of a quota's `status.used`; `None`: it stays. The error says why the change is refused.
pub fn charge(quota: &Value, change: Change<'_>, judgement: Judgement) -> Result<Option<Value>, String> {
    let Change { resource, old, new } = change;
    if !limits(quota, resource) {
        return Ok(None);
    }
    let cost_of = |object: Option<&Value>| object.map(|object| cost(quota, resource, object)).unwrap_or_default();
    let (before, after) = (cost_of(old), cost_of(new));
    if judgement == Judgement::Refuse
        && let Some(new) = new
    {
        let joins =
            old.is_none_or(|old| !scopes::matches(quota, resource, old)) && scopes::matches(quota, resource, new);
        if joins {
            let complete = usage::constraints(resource, new, hard(quota).keys());
            complete.map_err(|why| format!("failed quota: {}: {why}", meta::name(quota)))?;
        }
        judge(quota, &before, &after)?;
    }
    let used = used(quota);
    let mut status = meta::at(quota, &["status", "used"]).and_then(Value::as_object).cloned().unwrap_or_default();
    let mut changed = false;
    for name in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
        let (was, is) = (amount(&before, name), amount(&after, name));
        // What was never counted is counted as a whole, by whoever fills in the status.
        let (Some(current), true) = (used.get(name), was != is) else { continue };
        let now = (*current + is - was).max(Quantity::ZERO);
        status.insert(name.clone(), json!(now.to_string()));
        changed = true;
    }
    Ok(changed.then_some(Value::Object(status)))
}

/// Refuses what the quota has no room for.
fn judge(quota: &Value, before: &Amounts, after: &Amounts) -> Result<(), String> {
    let (hard, used, name) = (hard(quota), used(quota), meta::name(quota));
    let more: Amounts = after
        .iter()
        .filter(|(name, is)| **is > amount(before, name))
        .map(|(name, is)| (name.clone(), *is - amount(before, name)))
        .collect();
    let unknown: Vec<&str> = more.keys().filter(|name| !used.contains_key(*name)).map(String::as_str).collect();
    if !unknown.is_empty() {
        return Err(format!("status unknown for quota: {name}, resources: {}", unknown.join(",")));
    }
    let exceeded = more.iter().filter(|(name, more)| amount(&used, name) + **more > amount(&hard, name));
    let exceeded: Vec<&String> = exceeded.map(|(name, _)| name).collect();
    if exceeded.is_empty() {
        return Ok(());
    }
    let shown = |amounts: &Amounts| {
        exceeded.iter().map(|name| format!("{name}={}", amount(amounts, name))).collect::<Vec<_>>().join(",")
    };
    Err(format!(
        "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
        shown(&more),
        shown(&used),
        shown(&hard)
    ))
}

fn amount(amounts: &Amounts, name: &str) -> Quantity {
    amounts.get(name).copied().unwrap_or_default()
}

fn hard(quota: &Value) -> Amounts {
    requests::listed(meta::at(quota, &["spec", "hard"]))
}

fn used(quota: &Value) -> Amounts {
    requests::listed(meta::at(quota, &["status", "used"]))
}

/// The sum of what is counted, as it grows object by object.
pub struct Count<'a> {
    quota: &'a Value,
    used: Amounts,
}

impl<'a> Count<'a> {
    pub fn new(quota: &'a Value) -> Self {
        Self { quota, used: Amounts::new() }
    }

    pub fn add(&mut self, resource: &str, object: &Value) {
        requests::add(&mut self.used, &cost(self.quota, resource, object));
    }

    /// The status that says so: all there is a limit for, used or not.
    pub fn status(&self) -> Value {
        let hard = meta::at(self.quota, &["spec", "hard"]).and_then(Value::as_object);
        let used: Map<String, Value> = hard
            .into_iter()
            .flatten()
            .map(|(name, _)| (name.clone(), json!(amount(&self.used, name).to_string())))
            .collect();
        json!({"hard": hard.cloned().unwrap_or_default(), "used": used})
    }
}

/// Whether two statuses say the same, however their amounts are written.
pub fn is_same(a: &Value, b: &Value) -> bool {
    let parsed = |status: &Value| -> [Option<BTreeMap<String, Quantity>>; 2] {
        ["hard", "used"].map(|list| status.get(list).map(|list| requests::listed(Some(list))))
    };
    parsed(a) == parsed(b)
}
