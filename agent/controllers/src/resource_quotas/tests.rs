//! When a quota is counted, and that a count is written only over what it was made for.

use std::sync::Arc;

use kube::Api;
use skiff_reconcile::{Informer, Wake};

use super::*;
use crate::testing::{MAPS, World, map};

const QUOTA: &str = "/api/v1/namespaces/default/resourcequotas/q";

fn quota(uid: &str, hard: Value, used: Value) -> Arc<ResourceQuota> {
    let quota = json!({"metadata": {"name": uid, "uid": uid}, "spec": {"hard": hard}, "status": {"used": used}});
    Arc::new(serde_json::from_value(quota).expect("a ResourceQuota"))
}

#[tokio::test(start_paused = true)]
async fn a_quota_is_counted_when_it_changes_and_now_and_then() {
    let mut counted = HashMap::new();
    let named = |quotas: &[Arc<ResourceQuota>], counted: &mut HashMap<String, Counted>| {
        let (due, next) = plan::due(quotas, counted, Instant::now());
        (due.iter().map(|quota| quota.name_any()).collect::<Vec<_>>().join(" "), next)
    };
    let count = |quotas: &[Arc<ResourceQuota>], counted: &mut HashMap<String, Counted>| {
        for quota in quotas {
            let now = Counted::new(quota, Instant::now(), counted.get(&quota.name_any()));
            counted.insert(quota.name_any(), now);
        }
    };
    let seconds = |seconds| Next::After(Duration::from_secs(seconds));
    assert_eq!(named(&[], &mut counted), (String::new(), Next::Change));
    let one = json!({"pods": "1"});
    let quotas = [quota("a", one.clone(), json!({"pods": "0"})), quota("b", one.clone(), Value::Null)];
    assert_eq!(named(&quotas, &mut counted).0, "a b");
    count(&quotas, &mut counted);
    assert_eq!(named(&quotas, &mut counted), ("b".to_owned(), seconds(10)), "b says nothing");
    // What is used changes with each object: it is kept up elsewhere. Once more it is looked at soon.
    let used = [quota("a", one.clone(), json!({"pods": "1"}))];
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(named(&used, &mut counted), (String::new(), seconds(1)));
    assert!(!counted.contains_key("b"), "gone");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(named(&used, &mut counted).0, "a");
    count(&used, &mut counted);
    tokio::time::advance(Duration::from_secs(299)).await;
    assert_eq!(named(&used, &mut counted), (String::new(), seconds(1)));
    let other = [quota("a", json!({"pods": "2"}), json!({"pods": "1"}))];
    assert_eq!(named(&other, &mut counted).0, "a");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(named(&used, &mut counted).0, "a");
}

async fn with_quota(hard: Value) -> World {
    let world = World::start().await;
    for name in ["a", "b"] {
        world.post(MAPS, map(name, &[])).await;
    }
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
    world.post("/api/v1/namespaces/default/resourcequotas", quota).await;
    world
}

#[tokio::test]
async fn a_status_that_is_missing_or_wrong_is_made_right() {
    let world = with_quota(json!({"configmaps": "9", "pods": "3", "requests.memory": "1Gi"})).await;
    world.merge(&format!("{QUOTA}/status"), json!({"status": null})).await;
    let quotas: Informer<ResourceQuota> = {
        let api = Api::all(world.client.clone());
        Informer::spawn(api, kube::runtime::watcher::Config::default(), world.shutdown.clone())
    };
    let controller = Controller::new(world.client.clone(), quotas);
    let wake = Wake::on(controller.wakes());
    world.drive(controller, wake);
    let right = json!({"configmaps": "2", "pods": "0", "requests.memory": "0"});
    let quota = world.until(QUOTA, |quota| quota["status"]["used"] == right).await;
    assert_eq!(quota["status"]["hard"], quota["spec"]["hard"]);
    // Said of less than there are limits for, it is counted again.
    world.merge(&format!("{QUOTA}/status"), json!({"status": {"used": {"configmaps": null, "pods": "7"}}})).await;
    let counted = world.until(QUOTA, |quota| quota["status"]["used"] == right).await;
    // From now on the API keeps it up, and nothing else is written.
    world.post(MAPS, map("c", &[])).await;
    let quota = world.get(QUOTA).await;
    assert_eq!(quota["status"]["used"]["configmaps"], "3");
    assert_ne!(quota["metadata"]["resourceVersion"], counted["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn a_count_is_written_only_over_what_it_was_made_for() {
    let world = with_quota(json!({"configmaps": "9"})).await;
    let controller = Controller::new(world.client.clone(), Informer::fixed([]));
    let kinds = ServedKinds::discover(&world.client).await.expect("kinds");
    let read = async || -> ResourceQuota { serde_json::from_value(world.get(QUOTA).await).expect("a ResourceQuota") };
    let before = world.get(QUOTA).await;
    assert!(controller.recount(&kinds, &read().await).await.expect("counted"));
    assert_eq!(world.get(QUOTA).await, before, "right as it is");
    world.merge(&format!("{QUOTA}/status"), json!({"status": {"used": {"configmaps": "7"}}})).await;
    let stale = read().await;
    world.post(MAPS, map("c", &[])).await;
    assert!(!controller.recount(&kinds, &stale).await.expect("counted"), "something came meanwhile");
    assert_eq!(world.get(QUOTA).await["status"]["used"]["configmaps"], "8");
    assert!(controller.recount(&kinds, &read().await).await.expect("counted"));
    assert_eq!(world.get(QUOTA).await["status"]["used"]["configmaps"], "3");
    let gone = read().await;
    world.delete(QUOTA, "Background").await;
    assert!(controller.recount(&kinds, &gone).await.expect("nothing to write"));
}
