//! Which nodes a pod fits on and which of them is best. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Namespace, Node, NodeSelectorTerm, Pod, PodSpec, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use skiff_object::labels::Selector;
use skiff_object::requests::{self, Role};

use super::neighbours::{self, Neighbours};
use crate::objects;

/// Amounts by resource, in thousandths.
type Amounts = BTreeMap<String, i128>;

/// The nodes and what is placed on them.
#[derive(Clone)]
pub struct Placed {
    nodes: Vec<OnNode>,
    namespaces: Vec<Arc<Namespace>>,
}

#[derive(Clone)]
pub struct OnNode {
    node: Arc<Node>,
    allocatable: Amounts,
    used: Amounts,
    host_ports: HashSet<HostPort>,
    pods: Vec<Arc<Pod>>,
    /// Those that others have to ask.
    with_terms: Vec<Arc<Pod>>,
}

impl OnNode {
    pub fn node(&self) -> &Node {
        &self.node
    }

    pub fn pods(&self) -> &[Arc<Pod>] {
        &self.pods
    }
}

impl Placed {
    pub fn new(
        nodes: &[Arc<Node>],
        namespaces: Vec<Arc<Namespace>>,
        pods: &[Arc<Pod>],
        assumed: &HashMap<String, String>,
    ) -> Self {
        let on_node = |node: &Arc<Node>| OnNode {
            allocatable: milli(exact(node.status.as_ref().and_then(|s| s.allocatable.as_ref()))),
            used: Amounts::new(),
            host_ports: HashSet::new(),
            pods: Vec::new(),
            with_terms: Vec::new(),
            node: Arc::clone(node),
        };
        let mut placed = Self { nodes: nodes.iter().map(on_node).collect(), namespaces };
        for pod in pods.iter().filter(|p| !objects::is_terminal(p)) {
            let bound = pod.spec.as_ref().and_then(|s| s.node_name.clone());
            if let Some(node) = bound.or_else(|| assumed.get(&pod.uid().unwrap_or_default()).cloned()) {
                placed.add(&node, pod);
            }
        }
        placed
    }

    pub fn add(&mut self, name: &str, pod: &Arc<Pod>) {
        let Some(on_node) = self.nodes.iter_mut().find(|n| n.node.name_any() == name) else { return };
        for (resource, amount) in requests(pod) {
            *on_node.used.entry(resource).or_default() += amount;
        }
        on_node.host_ports.extend(host_ports(pod));
        if neighbours::has_terms(pod) {
            on_node.with_terms.push(Arc::clone(pod));
        }
        on_node.pods.push(Arc::clone(pod));
    }

    /// As if some of one node's pods were not there.
    pub fn without(&self, node: &str, gone: &HashSet<&str>) -> Self {
        let mut left = self.clone();
        if let Some(on_node) = left.nodes.iter_mut().find(|on_node| on_node.node.name_any() == node) {
            let pods = std::mem::take(&mut on_node.pods);
            on_node.used.clear();
            on_node.host_ports.clear();
            on_node.with_terms.clear();
            let stays = |pod: &&Arc<Pod>| !gone.contains(pod.metadata.uid.as_deref().unwrap_or_default());
            pods.iter().filter(stays).for_each(|pod| left.add(node, pod));
        }
        left
    }

    pub fn nodes(&self) -> &[OnNode] {
        &self.nodes
    }

    pub fn pods(&self) -> impl Iterator<Item = (&Node, &Pod)> {
        self.nodes.iter().flat_map(|on_node| on_node.pods.iter().map(|pod| (&*on_node.node, &**pod)))
    }

    pub fn pods_with_terms(&self) -> impl Iterator<Item = (&Node, &Pod)> {
        self.nodes.iter().flat_map(|on_node| on_node.with_terms.iter().map(|pod| (&*on_node.node, &**pod)))
    }

    /// The names of those that a selector chooses.
    pub fn namespaces_of(&self, selector: &Selector) -> impl Iterator<Item = String> {
        let chosen = self.namespaces.iter().filter(|namespace| selector.matches(objects::labels(&***namespace)));
        chosen.map(|namespace| namespace.name_any())
    }
}

/// Why no node takes the pod: how many nodes for each reason.
#[derive(Debug, PartialEq, Eq)]
pub struct Unfit {
    nodes: usize,
    reasons: BTreeMap<String, usize>,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let mut reasons: Vec<String> = self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        reasons.sort();
        write!(f, "0/{} nodes are available: {}.", self.nodes, reasons.join(", "))
    }
}

impl Unfit {
    /// With what came of looking for pods that could go.
    pub fn without_victims(&self) -> String {
        match self.nodes {
            0 => self.to_string(),
            nodes => format!(
                "{self} preemption: 0/{nodes} nodes are available: {nodes} No preemption victims found for incoming pod."
            ),
        }
    }
}

/// The best of the nodes that the pod fits on; among equals the first by name.
pub fn choose(pod: &Pod, placed: &Placed) -> Result<String, Unfit> {
    let (wanted, neighbours) = (requests(pod), Neighbours::of(pod, placed));
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut fitting = Vec::new();
    for on_node in &placed.nodes {
        let problems = problems(pod, &wanted, &neighbours, on_node);
        if problems.is_empty() {
            fitting.push(on_node);
        }
        for problem in problems {
            *reasons.entry(problem).or_default() += 1;
        }
    }
    let scores = scores(pod, &wanted, &neighbours, &fitting);
    let best =
        scores.into_iter().zip(fitting).max_by_key(|(score, on_node)| (*score, Reverse(on_node.node.name_any())));
    best.map(|(_, on_node)| on_node.node.name_any()).ok_or(Unfit { nodes: placed.nodes.len(), reasons })
}

/// Whether it fits on one of them.
pub fn fits(pod: &Pod, node: &str, placed: &Placed) -> bool {
    let (wanted, neighbours) = (requests(pod), Neighbours::of(pod, placed));
    let on_node = placed.nodes.iter().find(|on_node| on_node.node.name_any() == node);
    on_node.is_some_and(|on_node| problems(pod, &wanted, &neighbours, on_node).is_empty())
}

/// How good each node is for the pod, with upstream's weights.
fn scores(pod: &Pod, wanted: &Amounts, neighbours: &Neighbours, nodes: &[&OnNode]) -> Vec<i64> {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let row = |score: &dyn Fn(&OnNode) -> i64| -> Vec<i64> { nodes.iter().map(|on_node| score(on_node)).collect() };
    let rows = [
        (3, scaled(row(&|on_node| -untolerated(spec, &on_node.node)))),
        (2, scaled(row(&|on_node| preference(spec, &on_node.node)))),
        (2, scaled(row(&|on_node| neighbours.liking(&on_node.node)))),
        (2, scaled(row(&|on_node| -neighbours.crowd(&on_node.node)))),
        // A share, which is not to be stretched: nodes that differ by little are alike.
        (1, row(&|on_node| room(wanted, on_node) * SCORE_MAX / ROOM_MAX)),
    ];
    (0..nodes.len()).map(|node| rows.iter().map(|(weight, row)| weight * row[node]).sum()).collect()
}

const SCORE_MAX: i64 = 1000;
/// Three shares in thousandths.
const ROOM_MAX: i64 = 3000;

/// From the worst, which is nothing, to the best.
fn scaled(row: Vec<i64>) -> Vec<i64> {
    let (least, most) = (row.iter().copied().min().unwrap_or(0), row.iter().copied().max().unwrap_or(0));
    let range = (most - least).max(1);
    row.into_iter().map(|score| (score - least) * SCORE_MAX / range).collect()
}

/// Taints that a pod had better keep away from.
fn untolerated(spec: &PodSpec, node: &Node) -> i64 {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let soft = taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
    let count = soft.filter(|taint| !spec.tolerations.iter().flatten().any(|one| tolerates(one, taint))).count();
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn preference(spec: &PodSpec, node: &Node) -> i64 {
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let preferred =
        affinity.and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_ref());
    let met = preferred.into_iter().flatten().filter(|term| matches_term(&term.preference, node));
    met.map(|term| i64::from(term.weight)).sum()
}

pub fn tolerates_all(spec: &PodSpec, node: &Node, counts: impl Fn(&Taint) -> bool) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let mut counted = taints.iter().filter(|taint| counts(taint));
    counted.all(|taint| spec.tolerations.iter().flatten().any(|one| tolerates(one, taint)))
}

fn problems(pod: &Pod, wanted: &Amounts, neighbours: &Neighbours, on_node: &OnNode) -> Vec<String> {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let node = &on_node.node;
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    if node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) && !tolerates_unschedulable(tolerations) {
        return vec!["node(s) were unschedulable".to_owned()];
    }
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
    let hard = taints.iter().filter(|t| t.effect != "PreferNoSchedule");
    if let Some(taint) = hard.into_iter().find(|taint| !tolerations.iter().any(|t| tolerates(t, taint))) {
        let value = taint.value.as_deref().unwrap_or_default();
        return vec![format!("node(s) had untolerated taint {{{}: {value}}}", taint.key)];
    }
    if !matches_selection(spec, node) {
        return vec!["node(s) didn't match Pod's node affinity/selector".to_owned()];
    }
    if host_ports(pod).iter().any(|port| on_node.host_ports.iter().any(|taken| taken.excludes(port))) {
        return vec!["node(s) didn't have free ports for the requested pod ports".to_owned()];
    }
    if let Some(problem) = neighbours.problem(node) {
        return vec![problem.to_owned()];
    }
    let lacking = wanted.iter().filter(|(resource, amount)| {
        let free = on_node.allocatable.get(*resource).copied().unwrap_or(0)
            - on_node.used.get(*resource).copied().unwrap_or(0);
        **amount > 0 && **amount > free
    });
    lacking
        .map(|(resource, _)| match resource.as_str() {
            "pods" => "Too many pods".to_owned(),
            resource => format!("Insufficient {resource}"),
        })
        .collect()
}

fn tolerates_unschedulable(tolerations: &[Toleration]) -> bool {
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    tolerations.iter().any(|t| tolerates(t, &taint))
}

pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().is_none_or(|e| e.is_empty() || e == taint.effect);
    let key = toleration.key.as_deref().unwrap_or_default();
    let exists = toleration.operator.as_deref() == Some("Exists");
    let named = (key.is_empty() && exists) || key == taint.key;
    let valued =
        exists || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
    effect && named && valued
}

/// Whether the node is one that the pod asks for.
pub fn matches_selection(spec: &PodSpec, node: &Node) -> bool {
    let labels = objects::labels(node);
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|r| r.node_selector_terms.iter().any(|term| matches_term(term, node)))
}

fn matches_term(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = objects::labels(node);
    let expressions = term.match_expressions.iter().flatten();
    let by_label = expressions.clone().all(|e| {
        matches_expression(labels.get(&e.key).map(String::as_str), &e.operator, e.values.as_deref().unwrap_or_default())
    });
    let fields = term.match_fields.iter().flatten();
    let name = node.name_any();
    let by_field = fields.clone().all(|e| {
        let value = (e.key == "metadata.name").then_some(name.as_str());
        matches_expression(value, &e.operator, e.values.as_deref().unwrap_or_default())
    });
    let empty = expressions.count() == 0 && fields.count() == 0;
    !empty && by_label && by_field
}

fn matches_expression(value: Option<&str>, operator: &str, values: &[String]) -> bool {
    let listed = || value.is_some_and(|v| values.iter().any(|w| w == v));
    let compared = |wanted: std::cmp::Ordering| {
        let (left, right) = (value.and_then(|v| v.parse::<i64>().ok()), values.first().and_then(|v| v.parse().ok()));
        left.zip(right).is_some_and(|(left, right): (i64, i64)| left.cmp(&right) == wanted)
    };
    match operator {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared(std::cmp::Ordering::Greater),
        "Lt" => compared(std::cmp::Ordering::Less),
        _ => false,
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct HostPort {
    /// Empty: all of the node's.
    address: String,
    protocol: String,
    port: i32,
}

impl HostPort {
    fn excludes(&self, other: &Self) -> bool {
        let meet = self.address == other.address || self.address.is_empty() || other.address.is_empty();
        meet && self.protocol == other.protocol && self.port == other.port
    }
}

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let ports = pod.spec.iter().flat_map(|s| &s.containers).flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|p| {
            let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let address = p.host_ip.clone().filter(|ip| ip != "0.0.0.0" && ip != "::").unwrap_or_default();
            p.host_port.filter(|port| *port != 0).map(|port| HostPort { address, protocol, port })
        })
        .collect()
}

fn exact(quantities: Option<&BTreeMap<String, Quantity>>) -> requests::Amounts {
    requests::amounts(quantities.into_iter().flatten().map(|(name, quantity)| (name.as_str(), quantity.0.as_str())))
}

fn milli(amounts: requests::Amounts) -> Amounts {
    amounts.into_iter().map(|(name, quantity)| (name, i128::from(quantity.milli_value()))).collect()
}

/// What a pod asks for, and one of the node's places for pods.
pub fn requests(pod: &Pod) -> Amounts {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let own = |c: &Container| exact(c.resources.as_ref().and_then(|r| r.requests.as_ref()));
    let init = spec.init_containers.iter().flatten().map(|c| (Role::of_init(c.restart_policy.as_deref()), own(c)));
    let main = spec.containers.iter().map(|c| (Role::Main, own(c)));
    let mut all = milli(requests::sum(init.chain(main), &exact(spec.overhead.as_ref())));
    all.insert("pods".to_owned(), 1000);
    all
}

/// The share of CPU and memory that stays free, in thousandths; pods that ask for nothing spread by their number.
fn room(wanted: &Amounts, on_node: &OnNode) -> i64 {
    let free = |resource: &str| {
        let total = on_node.allocatable.get(resource).copied().unwrap_or(0);
        let used = on_node.used.get(resource).copied().unwrap_or(0) + wanted.get(resource).copied().unwrap_or(0);
        if total <= 0 { 0 } else { i64::try_from((total - used) * 1000 / total).unwrap_or(0) }
    };
    ["cpu", "memory", "pods"].into_iter().map(free).sum()
}
