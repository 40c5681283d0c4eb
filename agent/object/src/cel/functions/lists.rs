//! Functions of lists and sets.

use std::cmp::Ordering;
use std::sync::Arc;

use super::super::EvalError;
use super::super::eval::Evaluation;
use super::super::values::Val;
use super::{Outcome, int, wrong};

pub fn call<'a>(
    evaluation: &mut Evaluation<'_, 'a>,
    space: &str,
    name: &str,
    arguments: &[Val<'a>],
) -> Option<Outcome<'a>> {
    if let Err(error) = compare_each(evaluation, space, name, arguments) {
        return Some(Err(error));
    }
    if space == "sets" {
        return sets(name, arguments);
    }
    let (first, rest) = arguments.split_first()?;
    let items = first.items()?;
    Some(match (name, rest) {
        ("isSorted", []) => is_sorted(&items).map(Val::Bool),
        ("sum", []) => sum(&items),
        ("min", []) => extreme(&items, Ordering::Less),
        ("max", []) => extreme(&items, Ordering::Greater),
        ("indexOf", [item]) => Ok(items.iter().position(|other| other.equals(item)).map_or(Val::Int(-1), int)),
        ("lastIndexOf", [item]) => Ok(items.iter().rposition(|other| other.equals(item)).map_or(Val::Int(-1), int)),
        ("join", separator) => {
            let separator = separator.first().map(Val::show).unwrap_or_default();
            let texts: Vec<String> = items.iter().map(Val::show).collect();
            Ok(Val::text(texts.join(&separator)))
        }
        ("reverse", []) => Ok(Val::List(Arc::new(items.into_iter().rev().collect()))),
        ("distinct", []) => {
            let mut seen: Vec<Val<'a>> = Vec::new();
            for item in items {
                if !seen.iter().any(|other| other.equals(&item)) {
                    seen.push(item);
                }
            }
            Ok(Val::List(Arc::new(seen)))
        }
        ("first", []) => Ok(Val::Optional(items.into_iter().next().map(Arc::new))),
        ("last", []) => Ok(Val::Optional(items.into_iter().next_back().map(Arc::new))),
        _ => return None,
    })
}

/// Where each item is compared with each, it costs so much.
fn compare_each(
    evaluation: &mut Evaluation<'_, '_>,
    space: &str,
    name: &str,
    arguments: &[Val<'_>],
) -> Result<(), EvalError> {
    let size = |at: usize| arguments.get(at).and_then(Val::size).unwrap_or(1);
    match (space, name) {
        ("sets", _) => evaluation.spend(size(0).saturating_mul(size(1))),
        (_, "distinct") => evaluation.spend(size(0).saturating_mul(size(0)) / 2),
        _ => Ok(()),
    }
}

fn sets<'a>(name: &str, arguments: &[Val<'a>]) -> Option<Outcome<'a>> {
    let [a, b] = arguments else { return None };
    let (a, b) = (a.items()?, b.items()?);
    let has = |all: &[Val<'_>], one: &Val<'_>| all.iter().any(|other| other.equals(one));
    Some(Ok(Val::Bool(match name {
        "contains" => b.iter().all(|item| has(&a, item)),
        "equivalent" => b.iter().all(|item| has(&a, item)) && a.iter().all(|item| has(&b, item)),
        "intersects" => a.iter().any(|item| has(&b, item)),
        _ => return None,
    })))
}

fn is_sorted(items: &[Val<'_>]) -> Result<bool, EvalError> {
    for pair in items.windows(2) {
        if pair[0].compare(&pair[1])? == Some(Ordering::Greater) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn sum<'a>(items: &[Val<'a>]) -> Outcome<'a> {
    match items.first() {
        None | Some(Val::Int(_)) => {
            let add = |sum: Option<i64>, item: &Val<'_>| match item {
                Val::Int(value) => sum?.checked_add(*value),
                _ => None,
            };
            items.iter().fold(Some(0), add).map(Val::Int).ok_or_else(|| EvalError::Value("integer overflow".to_owned()))
        }
        Some(Val::Double(_)) => Ok(Val::Double(items.iter().filter_map(Val::number).sum())),
        Some(Val::Span(_)) => {
            let add = |sum: jiff::SignedDuration, item: &Val<'_>| match item {
                Val::Span(span) => sum.saturating_add(*span),
                _ => sum,
            };
            Ok(Val::Span(items.iter().fold(jiff::SignedDuration::ZERO, add)))
        }
        Some(other) => Err(EvalError::Overload(format!("sum of {}", other.type_name()))),
    }
}

fn extreme<'a>(items: &[Val<'a>], wanted: Ordering) -> Outcome<'a> {
    let Some((first, rest)) = items.split_first() else { return wrong("min/max called on empty list") };
    let mut best = first;
    for item in rest {
        if item.compare(best)? == Some(wanted) {
            best = item;
        }
    }
    Ok(best.clone())
}
