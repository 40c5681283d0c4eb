//! What a pod asks of the pods around it: affinity, anti-affinity and an even spread over the parts of the cluster that labels
//! of nodes make. Pure; worked out once for a pod, asked for each node.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, PodAffinityTerm, PodSpec, TopologySpreadConstraint};
use kube::ResourceExt;
use skiff_object::labels::Selector;

use super::fit::{OnNode, Placed, matches_selection, tolerates_all};
use crate::objects;

const HOST: &str = "kubernetes.io/hostname";

/// Pods that one is near to, or keeps away from.
struct Term {
    selector: Selector,
    namespaces: HashSet<String>,
    key: String,
    /// `matchLabelKeys` and their opposite, with what its own pod has there.
    same: Vec<(String, String)>,
    other: Vec<(String, String)>,
}

impl Term {
    fn of(term: &PodAffinityTerm, pod: &Pod, placed: &Placed) -> Self {
        let mut namespaces: HashSet<String> = term.namespaces.iter().flatten().cloned().collect();
        match &term.namespace_selector {
            Some(selector) => namespaces.extend(placed.namespaces_of(&objects::selector(selector))),
            None if namespaces.is_empty() => drop(namespaces.insert(pod.namespace().unwrap_or_default())),
            None => {}
        }
        let own = |keys: &Option<Vec<String>>| {
            let value = |key: &String| Some((key.clone(), objects::labels(pod).get(key)?.clone()));
            keys.iter().flatten().filter_map(value).collect()
        };
        Self {
            selector: term.label_selector.as_ref().map_or_else(Selector::nothing, objects::selector),
            namespaces,
            key: term.topology_key.clone(),
            same: own(&term.match_label_keys),
            other: own(&term.mismatch_label_keys),
        }
    }

    fn matches(&self, pod: &Pod) -> bool {
        let labels = objects::labels(pod);
        let has = |(key, value): &(String, String)| labels.get(key) == Some(value);
        pod.metadata.namespace.as_ref().is_some_and(|namespace| self.namespaces.contains(namespace))
            && self.selector.matches(labels)
            && self.same.iter().all(has)
            && !self.other.iter().any(has)
    }
}

/// Terms of one pod: those that must hold, and those that count, with their weights.
#[derive(Default)]
struct Terms {
    near: Vec<Term>,
    away: Vec<Term>,
    liked: Vec<(Term, i64)>,
}

impl Terms {
    fn of(pod: &Pod, placed: &Placed) -> Self {
        let Some(affinity) = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()) else { return Self::default() };
        let (near, away) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
        let all = |terms: Option<&Vec<PodAffinityTerm>>| {
            terms.into_iter().flatten().map(|term| Term::of(term, pod, placed)).collect()
        };
        let liked = near.and_then(|near| near.preferred_during_scheduling_ignored_during_execution.as_ref());
        let disliked = away.and_then(|away| away.preferred_during_scheduling_ignored_during_execution.as_ref());
        let signed = [(liked, 1), (disliked, -1)].into_iter().flat_map(|(terms, sign)| {
            let weighed = terms.into_iter().flatten();
            weighed.map(move |one| (Term::of(&one.pod_affinity_term, pod, placed), sign * i64::from(one.weight)))
        });
        Self {
            near: all(near.and_then(|near| near.required_during_scheduling_ignored_during_execution.as_ref())),
            away: all(away.and_then(|away| away.required_during_scheduling_ignored_during_execution.as_ref())),
            liked: signed.collect(),
        }
    }
}

/// An even spread: how many pods each part of the cluster has.
struct Spread {
    key: String,
    is_hard: bool,
    skew_max: i64,
    counts: HashMap<String, i64>,
    least: i64,
    /// Whether the pod itself counts.
    counts_itself: bool,
}

/// By label of nodes, and its value.
type Part = (String, String);

/// All that one pod asks.
pub struct Neighbours {
    terms: Terms,
    /// Of each term that asks for neighbours: where those are who meet all of them.
    near: Vec<HashSet<String>>,
    /// Nobody meets them, but the pod itself would: somebody has to be the first.
    is_first: bool,
    away: Vec<HashSet<String>>,
    /// Where pods are that keep this one away.
    closed: HashSet<Part>,
    liked: HashMap<Part, i64>,
    spreads: Vec<Spread>,
}

/// Whether a pod says anything of its neighbours, which others have to respect.
pub fn has_terms(pod: &Pod) -> bool {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    affinity.is_some_and(|affinity| affinity.pod_affinity.is_some() || affinity.pod_anti_affinity.is_some())
}

impl Neighbours {
    pub fn of(pod: &Pod, placed: &Placed) -> Self {
        let terms = Terms::of(pod, placed);
        let mut of_all = Self {
            near: vec![HashSet::new(); terms.near.len()],
            is_first: false,
            away: vec![HashSet::new(); terms.away.len()],
            closed: HashSet::new(),
            liked: HashMap::new(),
            spreads: spreads(pod, placed),
            terms,
        };
        if has_terms(pod) {
            of_all.look_around(placed);
        }
        of_all.is_first =
            of_all.near.iter().all(HashSet::is_empty) && of_all.terms.near.iter().all(|term| term.matches(pod));
        of_all.ask_others(pod, placed);
        of_all
    }

    fn look_around(&mut self, placed: &Placed) {
        for (node, other) in placed.pods() {
            let part = |key: &str| value(node, key).map(str::to_owned);
            if self.terms.near.iter().all(|term| term.matches(other)) {
                for (term, parts) in self.terms.near.iter().zip(&mut self.near) {
                    parts.extend(part(&term.key));
                }
            }
            for (term, parts) in self.terms.away.iter().zip(&mut self.away) {
                parts.extend(part(&term.key).filter(|_| term.matches(other)));
            }
            for (term, weight) in self.terms.liked.iter().filter(|(term, _)| term.matches(other)) {
                if let Some(value) = part(&term.key) {
                    *self.liked.entry((term.key.clone(), value)).or_default() += weight;
                }
            }
        }
    }

    /// What those who are there say of this one.
    fn ask_others(&mut self, pod: &Pod, placed: &Placed) {
        for (node, other) in placed.pods_with_terms() {
            let terms = Terms::of(other, placed);
            let part = |term: &Term| Some((term.key.clone(), value(node, &term.key)?.to_owned()));
            self.closed.extend(terms.away.iter().filter(|term| term.matches(pod)).filter_map(part));
            for (term, weight) in terms.liked.iter().filter(|(term, _)| term.matches(pod)) {
                if let Some(part) = part(term) {
                    *self.liked.entry(part).or_default() += weight;
                }
            }
        }
    }

    /// Why the pod cannot be on a node, in upstream's words.
    pub fn problem(&self, node: &Node) -> Option<&'static str> {
        for spread in self.spreads.iter().filter(|spread| spread.is_hard) {
            let Some(value) = value(node, &spread.key) else {
                return Some("node(s) didn't match pod topology spread constraints (missing required label)");
            };
            let there = spread.counts.get(value).copied().unwrap_or(0) + i64::from(spread.counts_itself);
            if there - spread.least > spread.skew_max {
                return Some("node(s) didn't match pod topology spread constraints");
            }
        }
        let is_in =
            |term: &Term, parts: &HashSet<String>| value(node, &term.key).is_some_and(|value| parts.contains(value));
        let has_labels = || self.terms.near.iter().all(|term| value(node, &term.key).is_some());
        let is_near = || self.terms.near.iter().zip(&self.near).all(|(term, parts)| is_in(term, parts));
        if !(self.terms.near.is_empty() || is_near() || self.is_first && has_labels()) {
            return Some("node(s) didn't match pod affinity rules");
        }
        if self.terms.away.iter().zip(&self.away).any(|(term, parts)| is_in(term, parts)) {
            return Some("node(s) didn't match pod anti-affinity rules");
        }
        let is_closed = |(key, closed): &Part| value(node, key) == Some(closed);
        self.closed.iter().any(is_closed).then_some("node(s) didn't satisfy existing pods anti-affinity rules")
    }

    /// How much the pod likes it here.
    pub fn liking(&self, node: &Node) -> i64 {
        self.liked.iter().filter(|((key, part), _)| value(node, key) == Some(part)).map(|(_, weight)| weight).sum()
    }

    /// How many of its like are here already, as far as it would rather be elsewhere.
    pub fn crowd(&self, node: &Node) -> i64 {
        let soft = self.spreads.iter().filter(|spread| !spread.is_hard);
        soft.filter_map(|spread| spread.counts.get(value(node, &spread.key)?)).sum()
    }
}

/// A node is a part of its own, also where nobody gave it the label.
fn value<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    let own = (key == HOST).then_some(node.metadata.name.as_deref()).flatten();
    objects::labels(node).get(key).map(String::as_str).or(own)
}

fn spreads(pod: &Pod, placed: &Placed) -> Vec<Spread> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let all = spec.topology_spread_constraints.as_deref().unwrap_or_default();
    let is_hard = |constraint: &TopologySpreadConstraint| constraint.when_unsatisfiable == "DoNotSchedule";
    // Who lacks the label of one that must hold is no place for the others either.
    let keys: Vec<&str> = all.iter().filter(|one| is_hard(one)).map(|one| one.topology_key.as_str()).collect();
    let is_place = |on_node: &&OnNode, constraint: &TopologySpreadConstraint| {
        let node = on_node.node();
        keys.iter().all(|key| value(node, key).is_some())
            && (constraint.node_affinity_policy.as_deref() == Some("Ignore") || matches_selection(spec, node))
            && (constraint.node_taints_policy.as_deref() != Some("Honor") || is_tolerated(spec, node))
    };
    let spread = |constraint: &TopologySpreadConstraint| {
        let selector = constraint.label_selector.as_ref().map_or_else(Selector::nothing, objects::selector);
        let is_own = |key: &&String| objects::labels(pod).contains_key(*key);
        let same: Vec<_> = constraint.match_label_keys.iter().flatten().filter(is_own).collect();
        let counts_it = |other: &Pod| {
            let (labels, own) = (objects::labels(other), objects::labels(pod));
            selector.matches(labels) && same.iter().all(|key| labels.get(*key) == own.get(*key))
        };
        let mut counts: HashMap<String, i64> = HashMap::new();
        for on_node in placed.nodes().iter().filter(|on_node| is_place(on_node, constraint)) {
            let Some(value) = value(on_node.node(), &constraint.topology_key) else { continue };
            let is_counted = |other: &&Arc<Pod>| {
                other.metadata.namespace == pod.metadata.namespace
                    && !objects::is_deleted(&***other)
                    && counts_it(other)
            };
            let there = on_node.pods().iter().filter(is_counted).count();
            *counts.entry(value.to_owned()).or_default() += i64::try_from(there).unwrap_or(i64::MAX);
        }
        let parts = i32::try_from(counts.len()).unwrap_or(i32::MAX);
        let is_few = constraint.min_domains.is_some_and(|least| parts < least);
        Spread {
            key: constraint.topology_key.clone(),
            is_hard: is_hard(constraint),
            skew_max: i64::from(constraint.max_skew),
            least: if is_few { 0 } else { counts.values().copied().min().unwrap_or(0) },
            counts,
            counts_itself: counts_it(pod),
        }
    };
    all.iter().map(spread).collect()
}

fn is_tolerated(spec: &PodSpec, node: &Node) -> bool {
    tolerates_all(spec, node, |taint| taint.effect != "PreferNoSchedule")
}
