//! A session with the controller in `boats`: its kind is made known, its objects come, change and go, and what it is to
//! do about them is waited for. Over TCP with TLS, as any program would.

mod boats;

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, conditions, wait, watcher};
use kube::{Api, Client, CustomResourceExt, ResourceExt};
use serde_json::json;

use boats::{Boat, BoatSpec, MANAGER};

const SOON: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let namespace = std::env::var("NAMESPACE").context("NAMESPACE")?;
    let client = Client::try_default().await?;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = Boat::crd_name();
    definitions.patch(name, &PatchParams::apply(MANAGER), &Patch::Apply(Boat::crd())).await?;
    let established = wait::await_condition(definitions.clone(), name, conditions::is_crd_established());
    tokio::time::timeout(SOON, established).await.context("the kind is not served in time")??;
    let controller = tokio::spawn(boats::run(client.clone(), namespace.clone()));
    session(&client, &namespace).await?;
    controller.abort();
    definitions.delete(name, &DeleteParams::foreground()).await?;
    until("the kind is gone", || async { Ok(definitions.get_opt(name).await?.is_none()) }).await?;
    println!("kube-rs: a Controller, its finalizer, status and events, a reflector, a derived kind and its rules");
    Ok(())
}

async fn session(client: &Client, namespace: &str) -> anyhow::Result<()> {
    let boats: Api<Boat> = Api::namespaced(client.clone(), namespace);
    let crews: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let (reader, writer) = kube::runtime::reflector::store();
    let watching = watcher(boats.clone(), watcher::Config::default()).default_backoff().reflect(writer);
    let reflector = tokio::spawn(watching.try_for_each(|_| async { Ok(()) }));
    boats.create(&PostParams::default(), &Boat::new("skiff", BoatSpec { crew: 2, name: None })).await?;
    let has = async |crew: &str| Ok(crew_of(&crews).await?.as_deref() == Some(crew));
    until("a crew", || has("2")).await?;
    let status = || async { Ok(boats.get_status("skiff").await?.status.is_some_and(|s| s.aboard == 2)) };
    until("a status", status).await?;
    let manned = ListParams::default().fields("reason=Manned,regarding.kind=Boat");
    until("an event", || async { Ok(!events.list(&manned).await?.items.is_empty()) }).await?;
    refuses(&boats).await?;

    let more = json!({"spec": {"crew": 3}});
    boats.patch("skiff", &PatchParams::default(), &Patch::Merge(more)).await?;
    until("a larger crew", || has("3")).await?;
    crews.delete("skiff-crew", &DeleteParams::default()).await?;
    until("the crew comes back", || has("3")).await?;
    until("the reflector sees it", || async { Ok(reader.state().iter().any(|b| b.spec.crew == 3)) }).await?;
    ensure!(boats.get_scale("skiff").await?.status.is_some_and(|scale| scale.replicas == 3));

    boats.delete("skiff", &DeleteParams::default()).await?;
    until("no boat", || async { Ok(boats.get_opt("skiff").await?.is_none()) }).await?;
    ensure!(crews.get_opt("skiff-was-here").await?.is_some(), "the finalizer left no word");
    until("no crew", || async { Ok(crew_of(&crews).await?.is_none()) }).await?;
    until("the reflector sees that", || async { Ok(reader.state().is_empty()) }).await?;
    reflector.abort();
    Ok(())
}

async fn crew_of(crews: &Api<ConfigMap>) -> anyhow::Result<Option<String>> {
    let crew = crews.get_opt("skiff-crew").await?;
    Ok(crew.filter(|c| !c.owner_references().is_empty()).and_then(|c| c.data?.remove("crew")))
}

/// What the derived schema and its rule forbid.
async fn refuses(boats: &Api<Boat>) -> anyhow::Result<()> {
    for (crew, said) in [(0, "should be greater than or equal to 1"), (9, "failed rule: self.spec.crew <= 8")] {
        let bad = Boat::new("bad", BoatSpec { crew, name: None });
        let refused = boats.create(&PostParams::default(), &bad).await.err().context("it was taken")?;
        ensure!(refused.to_string().contains(said), "{crew}: {refused}");
    }
    Ok(())
}

async fn until<F: Future<Output = anyhow::Result<bool>>>(
    what: &str,
    mut check: impl FnMut() -> F,
) -> anyhow::Result<()> {
    let holds = async {
        while !check().await? {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    };
    tokio::time::timeout(SOON, holds).await.with_context(|| format!("not in time: {what}"))?
}
