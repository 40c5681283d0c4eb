//! Which requests are of which level, and who lends to whom.

use super::*;

fn level(name: &str, shares: u64, more: Value) -> Value {
    let mut level = json!({"metadata": {"name": name, "uid": format!("u-{name}")}, "spec": {"type": "Limited",
        "limited": {"nominalConcurrencyShares": shares, "limitResponse": {"type": "Reject"}}}});
    for (field, value) in more.as_object().into_iter().flatten() {
        level["spec"]["limited"][field] = value.clone();
    }
    level
}

fn schema(name: &str, precedence: u64, level: &str, rule: Value) -> Value {
    json!({"metadata": {"name": name, "uid": format!("u-{name}")}, "spec": {"matchingPrecedence": precedence,
        "priorityLevelConfiguration": {"name": level}, "rules": [rule]}})
}

/// Of these people, about pods in one namespace, and a path.
fn rule(subject: Value) -> Value {
    json!({"subjects": [subject],
        "resourceRules": [{"verbs": ["list"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["a"]}],
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/metrics*"]}]})
}

fn user(name: &str, group: &str) -> User {
    User { name: name.to_owned(), groups: vec![group.to_owned()], ..User::anonymous() }
}

fn of(levels: &Levels, user: &User, path: &str) -> String {
    let request = http::Request::get(path).body(()).expect("a request");
    levels.of(user, &request).map(|(level, _)| level.name.clone()).unwrap_or_default()
}

#[test]
fn the_first_schema_that_fits_decides() {
    let defaults = defaults();
    let objects = |kind: &str| -> Vec<Value> {
        defaults.iter().filter(|(own, _)| *own == kind).map(|(_, object)| object.clone()).collect()
    };
    let (mut schemas, mut levels) = (objects("FlowSchema"), objects("PriorityLevelConfiguration"));
    levels.push(level("own", 10, json!({})));
    schemas.push(schema("own", 100, "own", rule(json!({"kind": "User", "user": {"name": "ann"}}))));
    schemas.push(schema("nowhere", 50, "missing", rule(json!({"kind": "Group", "group": {"name": "*"}}))));
    let account = json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "n", "name": "*"}});
    schemas.push(schema("accounts", 100, "own", rule(account)));
    let levels = Levels::read(&schemas, &levels, 300, &Levels::default());
    let (ann, bob) = (user("ann", "system:authenticated"), user("bob", "system:authenticated"));
    assert_eq!(of(&levels, &ann, "/api/v1/namespaces/a/pods"), "own");
    assert_eq!(of(&levels, &ann, "/api/v1/namespaces/b/pods"), "catch-all");
    assert_eq!(of(&levels, &ann, "/api/v1/namespaces/a/pods/x"), "catch-all", "another verb");
    assert_eq!(of(&levels, &ann, "/api/v1/pods"), "catch-all", "of the cluster");
    assert_eq!(of(&levels, &ann, "/metrics/x"), "own");
    assert_eq!(of(&levels, &bob, "/metrics"), "catch-all");
    assert_eq!(of(&levels, &user("root", "system:masters"), "/metrics"), "exempt");
    assert_eq!(of(&levels, &user("system:serviceaccount:n:x", "system:authenticated"), "/metrics"), "own");
    assert_eq!(of(&levels, &user("system:serviceaccount:nn:x", "system:authenticated"), "/metrics"), "catch-all");
    assert_eq!(of(&levels, &user("x", "strangers"), "/metrics"), "");
    let places: Vec<Option<usize>> = levels.levels.iter().map(|level| level.places).collect();
    assert_eq!(places, [None, Some(100), Some(200)]);
}

#[tokio::test]
async fn what_is_not_kept_is_lent() {
    let all = [level("a", 1, json!({"lendablePercent": 50})), level("b", 1, json!({"borrowingLimitPercent": 20}))];
    let levels = Levels::read(&[], &all, 20, &Levels::default());
    let [a, b] = [0, 1].map(|index| Arc::clone(&levels.levels[index]));
    let mut held = Vec::new();
    while let Some(running) = levels.enter(&a, 20).await {
        held.push(running);
    }
    assert_eq!(held.len(), 10, "what the other keeps is not taken");
    while let Some(running) = levels.enter(&b, 20).await {
        held.push(running);
    }
    assert_eq!(held.len(), 20);
    held.clear();
    while let Some(running) = levels.enter(&b, 20).await {
        held.push(running);
    }
    assert_eq!(held.len(), 12, "two of what is lent may be borrowed");
    // Who runs is counted also after the levels became others.
    let again = Levels::read(&[], &all[1..], 20, &levels);
    assert_eq!(again.running(), 12);
}

#[tokio::test]
async fn who_may_wait_does() {
    let queue = json!({"limitResponse": {"type": "Queue", "queuing": {"queues": 1, "queueLengthLimit": 1}}});
    let levels = Levels::read(&[], &[level("a", 1, queue)], 1, &Levels::default());
    let a = Arc::clone(&levels.levels[0]);
    let first = levels.enter(&a, 1).await.expect("a place");
    let mut second = Box::pin(levels.enter(&a, 1));
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut second).await.is_err(), "it waits");
    assert!(levels.enter(&a, 1).await.is_none(), "one may wait");
    drop(first);
    assert!(second.await.is_some());
    assert_eq!((a.used.running.load(Ordering::Acquire), a.used.waiting.load(Ordering::Acquire)), (0, 0));
}

#[tokio::test]
async fn who_waits_to_borrow_is_told_of_any_free_place() {
    let queue = json!({"limitResponse": {"type": "Queue"}});
    let levels = Levels::read(
        &[],
        &[level("a", 1, json!({"lendablePercent": 100})), level("b", 1, queue)],
        2,
        &Levels::default(),
    );
    let [a, b] = [0, 1].map(|index| Arc::clone(&levels.levels[index]));
    let (lent, own) = (levels.enter(&a, 2).await, levels.enter(&b, 2).await);
    let mut borrowed = Box::pin(levels.enter(&b, 2));
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut borrowed).await.is_err(), "it waits");
    drop(lent);
    assert!(tokio::time::timeout(Duration::from_secs(5), borrowed).await.is_ok_and(|place| place.is_some()));
    drop(own);
}
