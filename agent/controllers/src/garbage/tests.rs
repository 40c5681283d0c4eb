//! The plan over hand-made indexes, and the collector over a real API.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use kube::client::Body;
use proptest::prelude::*;
use serde_json::{Value, json};
use skiff_reconcile::feed::{Index, Told, ToldMetadata, ToldOwner};
use skiff_reconcile::{Feed, Wake};
use tower::ServiceExt;

use super::*;
use crate::testing::{MAPS, World, map, owner_of};

/// `namespace/name<owner,owner` with `!` behind what waits for its dependents, and `~` behind what lets them go.
fn index(objects: &[&str]) -> Index {
    let mut index = Index::default();
    for text in objects {
        let (name, owners) = text.split_once('<').unwrap_or((text, ""));
        let finalizers: Vec<_> =
            [('!', FOREGROUND), ('~', ORPHAN)].into_iter().filter(|(c, _)| name.ends_with(*c)).collect();
        let name = name.trim_end_matches(['!', '~']).to_owned();
        let owner =
            |uid: &str| ToldOwner { uid: uid.to_owned(), block_owner_deletion: Some(true), ..ToldOwner::default() };
        let metadata = ToldMetadata {
            uid: name.clone(),
            namespace: name.split_once('/').map(|(namespace, _)| namespace.to_owned()).unwrap_or_default(),
            name,
            deletion_timestamp: finalizers.first().map(|_| "2026-01-01T00:00:00Z".to_owned()),
            finalizers: finalizers.iter().map(|(_, name)| (*name).to_owned()).collect(),
            owner_references: owners.split(',').filter(|o| !o.is_empty()).map(owner).collect(),
        };
        index.put(Told { metadata, ..Told::default() });
    }
    index
}

fn check(objects: &[&str], name: &str, expected: Option<Step>) {
    assert_eq!(plan::plan(&index(objects), Uid::of(name)), expected, "{name} in {objects:?}");
}

#[test]
fn owners_that_wait_for_each_other_are_let_go() {
    check(&["a!<b", "b!<a"], "a", Some(Step::Release));
    check(&["a!<b", "b!<a"], "b", Some(Step::Release));
    check(&["a!<a"], "a", Some(Step::Release));
    check(&["a!<c", "b!<a", "c!<b"], "b", Some(Step::Release));
    check(&["a!<b", "b<a"], "a", None);
    check(&["a!<b", "b!<a", "c<a"], "a", None);
    check(&["a!<b", "b!<a", "c<a"], "b", Some(Step::Release));
    // Behind a circle is not in it.
    check(&["x!", "a!<b,x", "b!<a"], "x", None);
}

#[test]
fn what_has_an_owner_that_is_gone_or_goes_is_looked_at() {
    check(&["a", "b<a"], "b", None);
    check(&["b<a"], "b", Some(Step::Collect));
    check(&["a!", "b<a"], "b", Some(Step::Collect));
    check(&["a!", "b<a"], "a", None);
    check(&["a!"], "a", Some(Step::Release));
    check(&["a"], "x", None);
}

#[test]
fn an_object_goes_with_its_last_owner() {
    let owner = |name: &str| OwnerReference { uid: name.to_owned(), ..OwnerReference::default() };
    let judge = |standings: &[Standing], finalizers: &[&str], owns: bool| {
        let owners: Vec<_> = standings.iter().enumerate().map(|(n, s)| (owner(&n.to_string()), *s)).collect();
        let finalizers: Vec<String> = finalizers.iter().map(|f| (*f).to_owned()).collect();
        plan::judge(&owners, &finalizers, owns)
    };
    use Standing::{Gone, Solid, Waiting};
    assert_eq!(judge(&[Solid, Solid], &[], true), Verdict::Stays);
    assert_eq!(judge(&[Gone, Solid, Waiting], &[], true), Verdict::Keep(vec![owner("1")]));
    assert_eq!(judge(&[Gone, Gone], &[], true), Verdict::Delete(Policy::Background));
    assert_eq!(judge(&[Gone, Waiting], &[], true), Verdict::Delete(Policy::Foreground));
    assert_eq!(judge(&[Waiting], &[], false), Verdict::Delete(Policy::Background));
    assert_eq!(judge(&[Gone], &[ORPHAN], false), Verdict::Delete(Policy::Orphan));
    assert_eq!(judge(&[Gone], &[FOREGROUND], false), Verdict::Delete(Policy::Foreground));
}

#[test]
fn an_object_is_held_and_let_go_within_its_namespace() {
    check(&["a/x!", "a/y<a/x"], "a/x", None);
    check(&["a/x!", "b/y<a/x"], "a/x", Some(Step::Release));
    check(&["x!", "y<x"], "x", None);
    // It goes with its owner, and its writers do not decide when that goes.
    check(&["x!", "a/y<x"], "x", Some(Step::Release));
    check(&["x!", "a/y<x"], "a/y", Some(Step::Collect));
    let uids = |names: &[&str]| names.iter().map(|name| Uid::of(name)).collect();
    check(&["a/x~", "a/y<a/x", "b/y<a/x"], "a/x", Some(Step::Orphan(uids(&["a/y"]))));
    check(&["x~", "a/y<x"], "x", Some(Step::Orphan(uids(&["a/y"]))));
    check(&["a/x~", "y<a/x"], "a/x", Some(Step::Orphan(Vec::new())));
}

const NAMES: [&str; 6] = ["x", "y", "a/x", "a/y", "b/x", "b/y"];

proptest! {
    /// What is in `a` changes nothing outside of it, but that those of a whole cluster's object lose it too.
    #[test]
    fn a_namespace_holds_nothing_outside_of_it(
        objects in prop::collection::vec((prop::sample::subsequence(&NAMES[..], 0..=3), 0_usize..3), NAMES.len()),
    ) {
        let text = |(name, (owners, state)): (&&str, &(Vec<&str>, usize))| {
            format!("{name}{}<{}", ["", "!", "~"][*state], owners.join(","))
        };
        let all: Vec<String> = NAMES.iter().zip(&objects).map(text).collect();
        let outside: Vec<&str> = all.iter().map(String::as_str).filter(|text| !text.starts_with("a/")).collect();
        let (whole, part) = (index(&all.iter().map(String::as_str).collect::<Vec<_>>()), index(&outside));
        let inside = [Uid::of("a/x"), Uid::of("a/y")];
        for name in NAMES.iter().filter(|name| !name.starts_with("a/")) {
            let plan = |index| plan::plan(index, Uid::of(name)).map(|step| match step {
                Step::Orphan(uids) => {
                    let others: HashSet<Uid> = uids.iter().filter(|uid| !inside.contains(uid)).copied().collect();
                    prop_assert!(others.len() == uids.len() || !name.contains('/'));
                    Ok(Some(others))
                }
                Step::Collect => Ok(None),
                Step::Release => Ok(Some(HashSet::from([Uid::of("released")]))),
            }).transpose();
            prop_assert_eq!(plan(&whole)?, plan(&part)?, "{} in {:?}", name, all);
        }
    }
}

async fn collecting() -> World {
    let world = World::start().await;
    collect_with(&world, world.client.clone());
    world
}

fn collect_with(world: &World, client: Client) {
    let controller = Controller::new(client.clone(), Feed::spawn(client, world.shutdown.clone()));
    let wake = Wake::on(controller.wakes());
    world.drive(controller, wake);
}

fn at(name: &str) -> String {
    format!("{MAPS}/{name}")
}

#[tokio::test]
async fn dependents_go_with_their_last_owner() {
    let world = collecting().await;
    let a = world.post(MAPS, map("a", &[])).await;
    let b = world.post(MAPS, map("b", &[])).await;
    let both = world.post(MAPS, map("both", &[&a, &b])).await;
    world.post(MAPS, map("below", &[&both])).await;
    world.delete(&at("a"), "Background").await;
    world.until(&at("both"), |o| o["metadata"]["ownerReferences"] == json!([owner_of(&b)])).await;
    world.delete(&at("b"), "Background").await;
    world.until_gone(&at("both")).await;
    world.until_gone(&at("below")).await;
    // Orphans stay, without the owner.
    let c = world.post(MAPS, map("c", &[])).await;
    world.post(MAPS, map("orphan", &[&c])).await;
    world.delete(&at("c"), "Orphan").await;
    world.until_gone(&at("c")).await;
    assert!(world.get(&at("orphan")).await["metadata"].get("ownerReferences").is_none());
}

#[tokio::test]
async fn owners_wait_for_their_dependents_and_circles_end() {
    let world = collecting().await;
    let a = world.post(MAPS, map("a", &[])).await;
    let mut held = map("held", &[&a]);
    held["metadata"]["finalizers"] = json!(["example.org/hold"]);
    world.post(MAPS, held).await;
    let solid = world.post(MAPS, map("solid", &[])).await;
    world.post(MAPS, map("shared", &[&a, &solid])).await;
    world.delete(&at("a"), "Foreground").await;
    world.until(&at("held"), |o| o["metadata"]["deletionTimestamp"].is_string()).await;
    world.until(&at("shared"), |o| o["metadata"]["ownerReferences"] == json!([owner_of(&solid)])).await;
    assert!(world.get(&at("a")).await.is_object(), "it waits");
    world.merge(&at("held"), json!({"metadata": {"finalizers": null}})).await;
    world.until_gone(&at("a")).await;

    let one = world.post(MAPS, map("one", &[])).await;
    let two = world.post(MAPS, map("two", &[&one])).await;
    let three = world.post(MAPS, map("three", &[&two])).await;
    world.merge(&at("one"), json!({"metadata": {"ownerReferences": [owner_of(&three)]}})).await;
    world.delete(&at("one"), "Foreground").await;
    for name in ["one", "two", "three"] {
        world.until_gone(&at(name)).await;
    }
}

fn boats() -> Value {
    json!({"metadata": {"name": "boats.fleet.example.org"}, "spec": {
        "group": "fleet.example.org", "scope": "Namespaced", "names": {"plural": "boats", "kind": "Boat"},
        "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
    }})
}

#[tokio::test]
async fn kinds_that_come_at_run_time_are_collected_too() {
    let world = collecting().await;
    world.post(MAPS, map("before", &[])).await;
    world.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", boats()).await;
    let boats = "/apis/fleet.example.org/v1/namespaces/default/boats";
    world.until(boats, |found| !found.is_null()).await;
    let boat = |name: &str, owners: &[&Value]| {
        let mut boat = map(name, owners);
        boat["apiVersion"] = json!("fleet.example.org/v1");
        boat["kind"] = json!("Boat");
        boat
    };
    let mother = world.post(boats, boat("mother", &[])).await;
    let tender = world.post(boats, boat("tender", &[&mother])).await;
    world.post(MAPS, map("log", &[&tender])).await;
    world.delete(&format!("{boats}/mother"), "Background").await;
    world.until_gone(&format!("{boats}/tender")).await;
    world.until_gone(&at("log")).await;
}

#[tokio::test]
async fn one_that_fails_does_not_hold_up_the_others() {
    let world = World::start().await;
    let refused = Arc::new(AtomicU32::new(0));
    let (api, counted) = (world.client.clone(), Arc::clone(&refused));
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (api, counted) = (api.clone(), Arc::clone(&counted));
        async move {
            if request.method() == http::Method::DELETE && request.uri().path().ends_with("/cursed") {
                counted.fetch_add(1, Ordering::SeqCst);
                let failed = http::Response::builder().status(500).body(Body::empty());
                return Ok::<_, kube::Error>(failed.expect("a response"));
            }
            api.send(request).await
        }
    });
    let client = Client::new(service.map_err(Box::new), "default");
    let owner = world.post(MAPS, map("owner", &[])).await;
    let names: Vec<String> = (0..50).map(|n| format!("m{n}")).collect();
    for name in &names {
        world.post(MAPS, map(name, &[&owner])).await;
    }
    world.post(MAPS, map("cursed", &[&owner])).await;
    world.delete(&at("owner"), "Background").await;
    collect_with(&world, client);
    for name in &names {
        world.until_gone(&at(name)).await;
    }
    world.until(&at("cursed"), |_| refused.load(Ordering::SeqCst) >= 2).await;
    assert!(world.get(&at("cursed")).await.is_object());
}

#[tokio::test]
async fn a_lease_that_is_renewed_wakes_nobody() {
    let world = World::start().await;
    let feed = Feed::spawn(world.client.clone(), world.shutdown.clone());
    feed.synced().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    world.post(leases, json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}})).await;
    world.until(&format!("{leases}/l"), |_| feed.read(|i| i.objects().any(|(_, o)| &*o.name == "l"))).await;
    let follower = feed.follow();
    follower.take();
    world.merge(&format!("{leases}/l"), json!({"spec": {"holderIdentity": "b"}})).await;
    let map = world.post(MAPS, map("after", &[])).await;
    let uid = Uid::of(map["metadata"]["uid"].as_str().expect("a uid"));
    world.until(MAPS, |_| feed.read(|i| i.get(uid).is_some())).await;
    assert_eq!(follower.take(), HashSet::from([uid]));
}
