//! How many replicas each set gets: rolling update, recreation, proportional scaling. Pure.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::plan::{self, Action, DESIRED, View, available, replicas};
use crate::objects;

/// An absolute number or a share of `total`.
fn resolve(value: Option<&IntOrString>, total: i32, round_up: bool) -> i32 {
    match value {
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(25);
            let share = percent * i64::from(total);
            let share = if round_up { (share + 99) / 100 } else { share / 100 };
            i32::try_from(share).unwrap_or(i32::MAX)
        }
        None => resolve(Some(&IntOrString::String("25%".to_owned())), total, round_up),
    }
}

/// Surge and unavailability; both zero would never move.
fn fenceposts(view: &View<'_>) -> (i32, i32) {
    let rolling = view.spec.strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
    let surge = resolve(rolling.and_then(|r| r.max_surge.as_ref()), view.wanted(), true);
    let unavailable = resolve(rolling.and_then(|r| r.max_unavailable.as_ref()), view.wanted(), false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

pub fn surge(view: &View<'_>) -> i32 {
    if view.is_rolling() { fenceposts(view).0 } else { 0 }
}

pub fn max_unavailable(view: &View<'_>) -> i32 {
    if view.is_rolling() && view.wanted() > 0 { fenceposts(view).1.min(view.wanted()) } else { 0 }
}

fn total(view: &View<'_>) -> i32 {
    view.all().map(|s| replicas(s)).sum()
}

/// The new set may grow as far as the surge allows.
pub fn new_replicas(view: &View<'_>, current: i32) -> i32 {
    if !view.is_rolling() {
        return view.wanted();
    }
    let room = view.wanted() + surge(view) - total(view);
    if room <= 0 { current } else { (current + room).min(view.wanted()).max(current) }
}

fn scale(view: &View<'_>, set: &Arc<ReplicaSet>, to: i32) -> Option<Action> {
    let from = replicas(set);
    let annotations = plan::scale_annotations(view);
    let current = set.metadata.annotations.clone().unwrap_or_default();
    let annotated = annotations.iter().all(|(key, value)| current.get(key) == Some(value));
    (from != to || !annotated).then(|| Action::Scale { set: Arc::clone(set), from, to, annotations })
}

/// The Deployment's replicas changed, and not its template: told by what the sets were last scaled for.
pub fn is_scaling_event(view: &View<'_>) -> bool {
    view.all().filter(|set| replicas(set) > 0).any(|set| {
        let desired: Option<i32> = objects::annotation(&**set, DESIRED).and_then(|d| d.parse().ok());
        desired.is_some_and(|desired| desired != view.wanted())
    })
}

/// One step of a rolling update: up with the new one, or else down with the old ones.
pub fn roll(view: &View<'_>) -> Vec<Action> {
    let Some(new) = &view.new else { return Vec::new() };
    let current = replicas(new);
    let target = if current > view.wanted() { view.wanted() } else { new_replicas(view, current) };
    if target != current {
        return scale(view, new, target).into_iter().collect();
    }
    scale_down_old(view, new)
}

fn scale_down_old(view: &View<'_>, new: &ReplicaSet) -> Vec<Action> {
    let old_total: i32 = view.old.iter().map(|s| replicas(s)).sum();
    if old_total == 0 {
        return Vec::new();
    }
    let min_available = view.wanted() - max_unavailable(view);
    let new_unavailable = replicas(new) - available(new);
    let mut removable = total(view) - min_available - new_unavailable;
    if removable <= 0 {
        return Vec::new();
    }
    let mut targets: Vec<(Arc<ReplicaSet>, i32)> =
        view.old.iter().map(|set| (Arc::clone(set), replicas(set))).collect();
    // Pods that serve nobody go first.
    for (set, target) in &mut targets {
        let unhealthy = (replicas(set) - available(set)).max(0).min(removable);
        *target -= unhealthy;
        removable -= unhealthy;
    }
    let all_available: i32 = view.all().map(|s| available(s)).sum();
    let mut spare = (all_available - min_available).max(0);
    for (_, target) in &mut targets {
        let step = (*target).min(spare);
        *target -= step;
        spare -= step;
    }
    targets
        .iter()
        .filter(|(set, target)| replicas(set) != *target)
        .filter_map(|(set, to)| scale(view, set, *to))
        .collect()
}

/// First all old pods go, then the new ones come.
pub fn recreate(view: &View<'_>, revision: &mut Option<String>) -> Vec<Action> {
    let down: Vec<_> = view.old.iter().filter(|s| replicas(s) > 0).filter_map(|s| scale(view, s, 0)).collect();
    if !down.is_empty() {
        return down;
    }
    let old_uids: Vec<String> = view.old.iter().filter_map(|s| s.uid()).collect();
    let running = old_uids.iter().filter_map(|uid| view.pods.get(uid)).flatten().any(|pod| !objects::is_terminal(pod));
    if running {
        return Vec::new();
    }
    match &view.new {
        Some(new) => scale(view, new, view.wanted()).into_iter().collect(),
        None => {
            let next = view.old.iter().map(|s| plan::revision_of(s)).max().unwrap_or(0) + 1;
            *revision = Some(next.to_string());
            vec![Action::Create(Box::new(plan::new_set(view, &next.to_string(), view.wanted())))]
        }
    }
}

/// The change of replicas is spread over the active sets in proportion to their size, as upstream does it.
pub fn scale_proportionally(view: &View<'_>) -> Vec<Action> {
    let active: Vec<&Arc<ReplicaSet>> = view.all().filter(|set| replicas(set) > 0).collect();
    if active.len() <= 1 {
        let only = active.first().copied().or(view.new.as_ref()).or(view.old.last());
        return only.and_then(|set| scale(view, set, view.wanted())).into_iter().collect();
    }
    if let Some(new) = view.new.as_ref().filter(|new| is_saturated(view, new)) {
        let down = view.old.iter().filter(|s| replicas(s) > 0).filter_map(|s| scale(view, s, 0));
        return down.chain(scale(view, new, view.wanted())).collect();
    }
    if !view.is_rolling() {
        return Vec::new();
    }
    let allowed = if view.wanted() > 0 { view.wanted() + surge(view) } else { 0 };
    let mut left = allowed - active.iter().map(|s| replicas(s)).sum::<i32>();
    let growing = left > 0;
    let mut sorted = active.clone();
    sorted.sort_by_key(|set| (std::cmp::Reverse(replicas(set)), set.creation_timestamp().map(|t| t.0)));
    if growing {
        sorted.sort_by_key(|set| {
            (std::cmp::Reverse(replicas(set)), std::cmp::Reverse(set.creation_timestamp().map(|t| t.0)))
        });
    }
    let mut targets: Vec<i32> = Vec::new();
    let to_add = left;
    for set in &sorted {
        let share = proportion(set, allowed, to_add, left);
        left -= share;
        targets.push((replicas(set) + share).max(0));
    }
    // What rounding left over goes to the largest.
    if let Some(first) = targets.first_mut() {
        *first = (*first + left).max(0);
    }
    sorted.iter().zip(targets).filter_map(|(set, to)| scale(view, set, to)).collect()
}

fn is_saturated(view: &View<'_>, set: &ReplicaSet) -> bool {
    let desired: Option<i32> = objects::annotation(set, DESIRED).and_then(|d| d.parse().ok());
    replicas(set) == view.wanted() && desired == Some(view.wanted()) && available(set) == view.wanted()
}

/// A set's share of the change, of the same sign and no more than is left.
fn proportion(set: &ReplicaSet, allowed: i32, to_add: i32, left: i32) -> i32 {
    if left == 0 || to_add == 0 {
        return 0;
    }
    let annotated = objects::annotation(set, "deployment.kubernetes.io/max-replicas").and_then(|m| m.parse().ok());
    let before = f64::from(annotated.filter(|max: &i32| *max > 0).unwrap_or(allowed.max(1)));
    let size = f64::from(replicas(set)) * f64::from(allowed) / before;
    // The number is small: replicas of a Deployment.
    let share = size.round() as i32 - replicas(set);
    if left > 0 { share.clamp(0, left) } else { share.clamp(left, 0) }
}
