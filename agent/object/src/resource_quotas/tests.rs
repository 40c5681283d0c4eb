//! What counts, in which scopes, and what is said when there is no room, in upstream's words.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::kinds;

fn quota(hard: Value, used: Value) -> Value {
    json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"used": used}})
}

fn pod(name: &str, resources: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "resources": resources}]}})
}

fn shown(amounts: &Amounts) -> String {
    amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(" ")
}

fn check_usage(resource: &str, object: Value, expected: &str) {
    assert_eq!(shown(&usage::of(resource, &object)), expected, "{object}");
}

/// The new `used`, or why not.
fn charged(quota: &Value, resource: &str, old: Option<&Value>, new: Option<&Value>) -> Result<Value, String> {
    charge(quota, Change { resource, old, new }, Judgement::Refuse).map(|used| used.unwrap_or(Value::Null))
}

#[test]
fn pods_use_what_they_ask_for() {
    let resources = json!({"requests": {"cpu": "100m", "memory": "1Gi", "example.com/gpu": "2", "hugepages-2Mi": "4Mi",
        "ephemeral-storage": "1Gi"}, "limits": {"cpu": "1", "example.com/gpu": "2"}});
    let mut all = pod("p", resources);
    check_usage(
        "pods",
        all.clone(),
        "count/pods=1 cpu=100m ephemeral-storage=1Gi hugepages-2Mi=4Mi limits.cpu=1 memory=1Gi pods=1 requests.cpu=100m \
         requests.ephemeral-storage=1Gi requests.example.com/gpu=2 requests.hugepages-2Mi=4Mi requests.memory=1Gi",
    );
    all["status"] = json!({"phase": "Succeeded"});
    check_usage("pods", all, "count/pods=1");
    let mut over = pod("p", json!({"limits": {"cpu": "1"}}));
    over["spec"]["overhead"] = json!({"cpu": "250m", "memory": "10Mi"});
    over["spec"]["initContainers"] = json!([{"resources": {"requests": {"cpu": "2"}}}]);
    check_usage(
        "pods",
        over,
        "count/pods=1 cpu=2250m limits.cpu=1250m memory=10Mi pods=1 requests.cpu=2250m requests.memory=10Mi",
    );
    check_usage("pods", Value::Null, "count/pods=1 pods=1");
}

#[test]
fn other_kinds_use_their_place_and_more() {
    check_usage("deployments.apps", json!({}), "count/deployments.apps=1");
    check_usage("secrets", json!({}), "count/secrets=1 secrets=1");
    check_usage("boats.fleet.example.org", Value::Null, "count/boats.fleet.example.org=1");
    let service = |spec: Value| json!({"spec": spec});
    let ports = json!([{"port": 1}, {"port": 2, "nodePort": 30001}]);
    let counts = |ports: u8, balancers: u8| {
        format!("count/services=1 services=1 services.loadbalancers={balancers} services.nodeports={ports}")
    };
    check_usage("services", service(json!({"type": "ClusterIP", "ports": ports})), &counts(0, 0));
    check_usage("services", service(json!({"type": "NodePort", "ports": ports})), &counts(2, 0));
    check_usage("services", service(json!({"type": "LoadBalancer", "ports": ports})), &counts(2, 1));
    let few = json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": ports});
    check_usage("services", service(few), &counts(1, 1));
    let claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1500m"}}},
        "status": {"allocatedResources": {"storage": "3"}}});
    check_usage(
        "persistentvolumeclaims",
        claim,
        "count/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/persistentvolumeclaims=1 \
         gold.storageclass.storage.k8s.io/requests.storage=3 persistentvolumeclaims=1 requests.storage=3",
    );
}

#[test]
fn names_are_about_kinds() {
    let about = [
        ("pods", "pods"),
        ("pods", "count/pods"),
        ("pods", "cpu"),
        ("pods", "limits.ephemeral-storage"),
        ("pods", "requests.example.com/gpu"),
        ("pods", "requests.hugepages-2Mi"),
        ("pods", "hugepages-1Gi"),
        ("services", "services.nodeports"),
        ("secrets", "secrets"),
        ("ingresses.networking.k8s.io", "count/ingresses.networking.k8s.io"),
        ("persistentvolumeclaims", "requests.storage"),
        ("persistentvolumeclaims", "a.b.storageclass.storage.k8s.io/requests.storage"),
    ];
    let resources = about.map(|(resource, _)| resource);
    for (resource, name) in about {
        let of: BTreeSet<_> = resources.into_iter().filter(|resource| usage::tracks(resource, name)).collect();
        assert_eq!(of, BTreeSet::from([resource]), "{name}");
    }
    for nobody in ["deployments.apps", "example.com/gpu", "limits.example.com/gpu", "storage", "count/", ""] {
        assert!(resources.iter().all(|resource| !usage::tracks(resource, nobody)), "{nobody}");
    }
    let counted = |api: &str, kind: &str| is_counted(kinds::by_kind(api, kind).expect("a kind"));
    assert!(counted("v1", "Pod") && !counted("v1", "Event") && !counted("v1", "Node"));
    assert!(!counted("events.k8s.io/v1", "Event"));
    let events = quota(json!({"count/events": "1", "count/events.fleet.example.org": "1"}), Value::Null);
    assert!(!limits(&events, "events") && limits(&events, "events.fleet.example.org"));
}

#[test]
fn what_there_is_room_for_is_counted() {
    let full = quota(
        json!({"pods": "20", "requests.cpu": "2", "secrets": "1"}),
        json!({"pods": "19", "requests.cpu": "1500m", "secrets": "0"}),
    );
    let small = pod("p", json!({"requests": {"cpu": "500m"}}));
    let used = charged(&full, "pods", None, Some(&small)).expect("there is room");
    assert_eq!(used, json!({"pods": "20", "requests.cpu": "2", "secrets": "0"}));
    assert_eq!(charged(&full, "configmaps", None, Some(&json!({}))), Ok(Value::Null));
    // What goes gives back what it had, and never more than is there.
    let used = charged(&full, "pods", Some(&small), None).expect("nothing to refuse");
    assert_eq!(used, json!({"pods": "18", "requests.cpu": "1", "secrets": "0"}));
    let empty = quota(json!({"pods": "20"}), json!({"pods": "0"}));
    assert_eq!(charged(&empty, "pods", Some(&small), None), Ok(json!({"pods": "0"})));
    let mut ended = small.clone();
    ended["status"] = json!({"phase": "Failed"});
    let used = charged(&full, "pods", Some(&small), Some(&ended)).expect("nothing to refuse");
    assert_eq!(used, json!({"pods": "18", "requests.cpu": "1", "secrets": "0"}));
    assert_eq!(charged(&full, "pods", Some(&small), Some(&small)), Ok(Value::Null));
}

#[test]
fn what_there_is_no_room_for_is_refused() {
    let full = quota(
        json!({"pods": "20", "requests.cpu": "2", "count/pods": "50"}),
        json!({"pods": "20", "requests.cpu": "1500m", "count/pods": "20"}),
    );
    let refused = |pod: &Value| charged(&full, "pods", None, Some(pod)).expect_err("no room");
    assert_eq!(
        refused(&pod("p", json!({"requests": {"cpu": "1"}}))),
        "exceeded quota: q, requested: pods=1,requests.cpu=1, used: pods=20,requests.cpu=1500m, limited: pods=20,requests.cpu=2"
    );
    assert_eq!(
        refused(&pod("p", json!({"requests": {"cpu": "1m"}}))),
        "exceeded quota: q, requested: pods=1, used: pods=20, limited: pods=20"
    );
    let over = pod("p", json!({"requests": {"cpu": "1"}}));
    let change = Change { resource: "pods", old: None, new: Some(&over) };
    let counted = charge(&full, change, Judgement::Count).expect("not refused");
    assert_eq!(counted, Some(json!({"pods": "21", "requests.cpu": "2500m", "count/pods": "21"})));
    // One that is over already is refused only what is more.
    let over = quota(json!({"requests.storage": "1Gi"}), json!({"requests.storage": "5Gi"}));
    let claim = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
    let change = |old: &str, new: &str| charged(&over, "persistentvolumeclaims", Some(&claim(old)), Some(&claim(new)));
    assert_eq!(change("2Gi", "2Gi"), Ok(Value::Null));
    assert_eq!(change("2Gi", "1Gi"), Ok(json!({"requests.storage": "4Gi"})));
    assert_eq!(
        change("2Gi", "3Gi"),
        Err("exceeded quota: q, requested: requests.storage=1Gi, used: requests.storage=5Gi, limited: requests.storage=1Gi".to_owned())
    );
}

#[test]
fn what_is_limited_has_to_be_said() {
    let limited = quota(
        json!({"limits.cpu": "4", "requests.memory": "4Gi", "requests.ephemeral-storage": "1Gi"}),
        json!({"limits.cpu": "0", "requests.memory": "0", "requests.ephemeral-storage": "0"}),
    );
    let mut silent = pod("p", json!({"limits": {"cpu": "1"}}));
    silent["spec"]["initContainers"] = json!([{"name": "b"}, {"name": "a"}]);
    assert_eq!(
        charged(&limited, "pods", None, Some(&silent)),
        Err("failed quota: q: must specify limits.cpu for: a,b; requests.memory for: a,b,c".to_owned())
    );
    // One that was there before the quota is not held to it.
    let mut labelled = silent.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(charged(&limited, "pods", Some(&silent), Some(&labelled)), Ok(Value::Null));
    let unknown = quota(json!({"pods": "4", "count/pods": "5"}), json!({"pods": "0"}));
    assert_eq!(
        charged(&unknown, "pods", None, Some(&pod("p", json!({})))),
        Err("status unknown for quota: q, resources: count/pods".to_owned())
    );
    assert_eq!(charged(&unknown, "pods", Some(&pod("p", json!({}))), None), Ok(json!({"pods": "0"})));
}

#[test]
fn scopes_say_which_pods() {
    let check = |spec: Value, pod_spec: Value, expected: bool| {
        let quota = json!({"spec": spec});
        let object = json!({"spec": pod_spec});
        assert_eq!(scopes::matches(&quota, "pods", &object), expected, "{quota} {object}");
        assert!(spec.as_object().is_none_or(serde_json::Map::is_empty) || !scopes::matches(&quota, "secrets", &object));
    };
    let scope = |name: &str| json!({"scopes": [name]});
    let select = |name: &str, operator: &str, values: &[&str]| json!({"scopeSelector": {"matchExpressions": [{"scopeName": name, "operator": operator, "values": values}]}});
    let deadline = json!({"activeDeadlineSeconds": 0});
    check(json!({}), json!({}), true);
    check(scope("Terminating"), deadline.clone(), true);
    check(scope("Terminating"), json!({}), false);
    check(scope("NotTerminating"), deadline, false);
    check(scope("NotTerminating"), json!({}), true);
    let asks = json!({"containers": [{"resources": {"requests": {"cpu": "1"}}}]});
    check(scope("BestEffort"), json!({}), true);
    check(scope("BestEffort"), asks.clone(), false);
    check(scope("NotBestEffort"), asks.clone(), true);
    check(json!({"scopes": ["NotBestEffort", "Terminating"]}), asks, false);
    let high = json!({"priorityClassName": "high"});
    check(scope("PriorityClass"), high.clone(), true);
    check(select("PriorityClass", "Exists", &[]), json!({}), false);
    check(select("PriorityClass", "DoesNotExist", &[]), json!({}), true);
    check(select("PriorityClass", "In", &["high", "low"]), high.clone(), true);
    check(select("PriorityClass", "In", &["low"]), high.clone(), false);
    check(select("PriorityClass", "NotIn", &["low"]), high.clone(), true);
    check(select("PriorityClass", "NotIn", &["high"]), high.clone(), false);
    check(select("PriorityClass", "NotIn", &["high"]), json!({}), true);
    check(select("PriorityClass", "Odd", &["high"]), high, false);
    let term = json!({"topologyKey": "a", "namespaceSelector": {}});
    let near = |term: Value| json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
    let prefers = json!({"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {"namespaces": ["x"]}}]}}});
    check(scope("CrossNamespacePodAffinity"), near(term), true);
    check(scope("CrossNamespacePodAffinity"), near(json!({"topologyKey": "a"})), false);
    check(scope("CrossNamespacePodAffinity"), prefers, true);
    check(scope("Unheard"), json!({}), false);
    let silver = json!({"spec": {"volumeAttributesClassName": "silver"}});
    let quota = json!({"spec": select("VolumeAttributesClass", "In", &["silver"])});
    assert!(scopes::matches(&quota, "persistentvolumeclaims", &silver));
    assert!(!scopes::matches(&quota, "persistentvolumeclaims", &json!({})));
}

#[test]
fn a_pod_that_comes_into_a_scope_is_counted_there() {
    let mut quota = quota(json!({"pods": "1"}), json!({"pods": "1"}));
    quota["spec"]["scopes"] = json!(["Terminating"]);
    let (open, mut ending) = (pod("p", json!({})), pod("p", json!({})));
    ending["spec"]["activeDeadlineSeconds"] = json!(9);
    assert_eq!(charged(&quota, "pods", None, Some(&open)), Ok(Value::Null));
    let full = "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1";
    assert_eq!(charged(&quota, "pods", Some(&open), Some(&ending)), Err(full.to_owned()));
    assert_eq!(charged(&quota, "pods", Some(&ending), Some(&open)), Ok(json!({"pods": "0"})));
}

#[test]
fn a_count_is_of_all_there_is() {
    let quota = quota(json!({"pods": "5", "memory": "1Gi", "secrets": "3"}), Value::Null);
    let mut count = Count::new(&quota);
    for memory in ["512Mi", "1Gi"] {
        count.add("pods", &pod("p", json!({"requests": {"memory": memory}})));
        count.add("configmaps", &json!({}));
    }
    let status = count.status();
    assert_eq!(
        status,
        json!({"hard": quota["spec"]["hard"], "used": {"pods": "2", "memory": "1536Mi", "secrets": "0"}})
    );
    let other = json!({"hard": quota["spec"]["hard"], "used": {"pods": "2", "memory": "1.5Gi", "secrets": "0"}});
    assert!(is_same(&status, &other) && !is_same(&status, &json!({})) && !is_same(&status, &json!({"hard": {}})));
}

/// A pod that is there or not, by number.
fn some_pod((phase, cpu, memory, deadline): (u8, u8, u8, bool)) -> Option<Value> {
    let phase = ["Pending", "Running", "Succeeded"].get(usize::from(phase))?;
    let requests = json!({"cpu": format!("{}m", u32::from(cpu) * 50), "memory": format!("{memory}Mi")});
    let mut pod = pod("p", json!({"requests": requests}));
    pod["status"] = json!({"phase": phase});
    if deadline {
        pod["spec"]["activeDeadlineSeconds"] = json!(60);
    }
    Some(pod)
}

proptest! {
    #[test]
    fn what_is_charged_one_by_one_is_what_there_is(
        changes in proptest::collection::vec((0..4usize, (0..5u8, 0..9u8, 0..9u8, any::<bool>())), 0..40),
        scoped in any::<bool>(),
        refuse in any::<bool>(),
    ) {
        let hard = json!({"pods": "3", "count/pods": "3", "requests.cpu": "700m", "memory": "20Mi"});
        let zero = json!({"pods": "0", "count/pods": "0", "requests.cpu": "0", "memory": "0"});
        let mut quota = quota(hard, zero);
        if scoped {
            quota["spec"]["scopes"] = json!(["NotTerminating"]);
        }
        let judgement = if refuse { Judgement::Refuse } else { Judgement::Count };
        let mut pods: [Option<Value>; 4] = Default::default();
        for (at, state) in changes {
            let new = some_pod(state);
            let change = Change { resource: "pods", old: pods[at].as_ref(), new: new.as_ref() };
            let Ok(used) = charge(&quota, change, judgement) else { continue };
            pods[at] = new;
            if let Some(used) = used {
                quota["status"]["used"] = used;
            }
            if refuse {
                let (hard, used) = (super::hard(&quota), super::used(&quota));
                prop_assert!(used.iter().all(|(name, used)| *used <= hard[name]), "{}", quota);
            }
        }
        quota["status"]["hard"] = quota["spec"]["hard"].clone();
        let mut count = Count::new(&quota);
        pods.iter().flatten().for_each(|pod| count.add("pods", pod));
        prop_assert!(is_same(&count.status(), &quota["status"]), "{} {}", count.status(), quota);
    }
}
