//! Limit ranges: the requests and limits that containers get where they have none, and those that are too small or too large.
//!
//! Owns the rules and upstream's words, as its LimitRanger plug-in has them. Pure; which ranges a namespace has is found
//! elsewhere. <https://kubernetes.io/docs/concepts/policy/limit-range/>

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::meta;
use crate::quantity::Quantity;
use crate::requests::{self, Amounts};

/// Says what was filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// The lists of containers that are limited, and what upstream calls one of each.
const LISTS: [(&str, &str); 2] = [("containers", "container"), ("initContainers", "init container")];

fn items<'a>(range: &'a Value, ty: &'a str) -> impl Iterator<Item = &'a Value> {
    meta::items(meta::at(range, &["spec", "limits"])).iter().filter(move |item| item["type"] == ty)
}

/// Gives a new pod's containers the defaults of a range.
pub fn fill_in(range: &Value, pod: &mut Value) {
    let defaults = |field: &str| -> Map<String, Value> {
        let maps = items(range, "Container").filter_map(|item| item.get(field)?.as_object());
        maps.flatten().map(|(name, amount)| (name.clone(), amount.clone())).collect()
    };
    let defaults = [("requests", "request", defaults("defaultRequest")), ("limits", "limit", defaults("default"))];
    let mut said = Vec::new();
    for (list, what) in LISTS {
        let containers = pod.get_mut("spec").and_then(|spec| spec.get_mut(list)).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            for (of, called, amounts) in &defaults {
                let set = fill_in_list(container, of, amounts);
                if !set.is_empty() {
                    said.push(format!(
                        "{} {called} for {what} {}",
                        set.join(", "),
                        meta::text_at(container, &["name"])
                    ));
                }
            }
        }
    }
    if !said.is_empty() {
        let annotations = meta::map_mut(meta::metadata_mut(pod).entry("annotations").or_insert(Value::Null));
        annotations.insert(ANNOTATION.to_owned(), format!("LimitRanger plugin set: {}", said.join("; ")).into());
    }
}

/// Answers with what was missing, sorted.
fn fill_in_list(container: &mut Value, list: &str, defaults: &Map<String, Value>) -> Vec<String> {
    let present = |container: &Value, name: &str| {
        meta::at(container, &["resources", list, name]).is_some_and(|amount| !amount.is_null())
    };
    let missing: Vec<_> = defaults.iter().filter(|(name, _)| !present(container, name)).collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let resources = meta::map_mut(meta::map_mut(container).entry("resources").or_insert(Value::Null));
    let list = meta::map_mut(resources.entry(list).or_insert(Value::Null));
    let mut names: Vec<String> = missing.iter().map(|(name, _)| (*name).clone()).collect();
    list.extend(missing.into_iter().map(|(name, amount)| (name.clone(), amount.clone())));
    names.sort();
    names
}

/// What of a new pod is outside of a range.
pub fn check_pod(range: &Value, pod: &Value) -> Vec<String> {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let mut problems = Vec::new();
    for item in items(range, "Container") {
        for container in LISTS.iter().flat_map(|(list, _)| meta::items(spec.get(list))) {
            let own = |list: &str| requests::listed(meta::at(container, &["resources", list]));
            check("Container", item, &own("requests"), &own("limits"), &mut problems);
        }
    }
    for item in items(range, "Pod") {
        let sum = |list: &str| requests::of_pod(spec, list);
        check("Pod", item, &sum("requests"), &sum("limits"), &mut problems);
    }
    problems
}

/// What of a claim is outside of a range; what it asks for alone counts.
pub fn check_claim(range: &Value, claim: &Value) -> Vec<String> {
    let ty = "PersistentVolumeClaim";
    let asked = requests::listed(meta::at(claim, &["spec", "resources", "requests"]));
    let mut problems = Vec::new();
    for item in items(range, ty) {
        for (name, min) in bounds(item, "min") {
            problems.extend(below(ty, &name, min, asked.get(&name), None));
        }
        for (name, max) in bounds(item, "max") {
            problems.extend(above_request(ty, &name, max, asked.get(&name)));
        }
    }
    problems
}

fn bounds(item: &Value, field: &str) -> Amounts {
    requests::listed(item.get(field))
}

fn check(ty: &str, item: &Value, requests: &Amounts, limits: &Amounts, problems: &mut Vec<String>) {
    for (name, min) in bounds(item, "min") {
        problems.extend(below(ty, &name, min, requests.get(&name), limits.get(&name)));
    }
    for (name, max) in bounds(item, "max") {
        problems.extend(above(ty, &name, max, requests.get(&name), limits.get(&name)));
    }
    for (name, ratio) in bounds(item, "maxLimitRequestRatio") {
        problems.extend(apart(ty, &name, ratio, requests.get(&name), limits.get(&name)));
    }
}

fn below(ty: &str, name: &str, min: Quantity, request: Option<&Quantity>, limit: Option<&Quantity>) -> Option<String> {
    let rule = format!("minimum {name} usage per {ty} is {min}");
    match (request, limit) {
        (None, _) => Some(format!("{rule}.  No request is specified")),
        (Some(request), _) if *request < min => Some(format!("{rule}, but request is {request}")),
        (Some(_), Some(limit)) if *limit < min => Some(format!("{rule}, but limit is {limit}")),
        (Some(_), Some(_) | None) => None,
    }
}

fn above(ty: &str, name: &str, max: Quantity, request: Option<&Quantity>, limit: Option<&Quantity>) -> Option<String> {
    let rule = format!("maximum {name} usage per {ty} is {max}");
    match (request, limit) {
        (_, None) => Some(format!("{rule}.  No limit is specified")),
        (_, Some(limit)) if *limit > max => Some(format!("{rule}, but limit is {limit}")),
        (Some(request), Some(_)) if *request > max => Some(format!("{rule}, but request is {request}")),
        (Some(_) | None, Some(_)) => None,
    }
}

fn above_request(ty: &str, name: &str, max: Quantity, request: Option<&Quantity>) -> Option<String> {
    let rule = format!("maximum {name} usage per {ty} is {max}");
    match request {
        None => Some(format!("{rule}.  No request is specified")),
        Some(request) if *request > max => Some(format!("{rule}, but request is {request}")),
        Some(_) => None,
    }
}

fn apart(ty: &str, name: &str, max: Quantity, request: Option<&Quantity>, limit: Option<&Quantity>) -> Option<String> {
    let rule = format!("{name} max limit to request ratio per {ty} is {max}");
    let Some(request) = request.filter(|request| !request.is_zero()) else {
        return Some(format!("{rule}, but no request is specified or request is 0"));
    };
    let Some(limit) = limit.filter(|limit| !limit.is_zero()) else {
        return Some(format!("{rule}, but no limit is specified or limit is 0"));
    };
    // Whole thousandths, as upstream compares: 1.1 is eleven times 0.1.
    let thousandths = |quantity: &Quantity| i128::from(quantity.milli_value());
    let exceeds = thousandths(limit) * 1000 > thousandths(&max) * thousandths(request);
    let ratio = limit.as_f64() / request.as_f64();
    exceeds.then(|| format!("{rule}, but provided ratio is {ratio:.6}"))
}
