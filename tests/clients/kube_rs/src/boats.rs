//! A kind of one's own and its controller: each boat has a ConfigMap that it owns with its crew, a status, an event, and
//! a finalizer that leaves a word when it goes.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::runtime::finalizer::{self, finalizer};
use kube::runtime::watcher;
use kube::{Api, Client, CustomResource, Resource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub const MANAGER: &str = "kube-rs";
const FINALIZER: &str = "rs.example.org/word";

#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(group = "rs.example.org", version = "v1", kind = "Boat", namespaced, status = "BoatStatus")]
#[kube(shortname = "bt", scale(spec_replicas_path = ".spec.crew", status_replicas_path = ".status.aboard"))]
#[kube(printcolumn(name = "Crew", type_ = "integer", json_path = ".spec.crew"))]
#[kube(validation = "self.spec.crew <= 8")]
pub struct BoatSpec {
    #[schemars(range(min = 1))]
    pub crew: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
pub struct BoatStatus {
    pub aboard: i32,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a boat's objects")]
    Kube(#[from] kube::Error),
    #[error("a boat's finalizer")]
    Finalizer(#[source] Box<finalizer::Error<Error>>),
}

/// Runs until it is dropped.
pub async fn run(client: Client, namespace: String) {
    let boats: Api<Boat> = Api::namespaced(client.clone(), &namespace);
    let crews: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    // The initial list as a stream, as newer clients ask for it.
    let streaming = watcher::Config::default().streaming_lists();
    let controller = Controller::new(boats, streaming).owns(crews, watcher::Config::default());
    let results = controller.run(reconcile, |_, _, _| Action::requeue(Duration::from_secs(1)), Arc::new(client));
    results
        .for_each(|result| async move {
            if let Err(error) = result {
                println!("not reconciled: {error:?}");
            }
        })
        .await;
}

async fn reconcile(boat: Arc<Boat>, client: Arc<Client>) -> Result<Action, Error> {
    let boats: Api<Boat> = Api::namespaced((*client).clone(), &boat.namespace().unwrap_or_default());
    let done = finalizer(&boats, FINALIZER, boat, |event| async {
        match event {
            finalizer::Event::Apply(boat) => man(&boat, &client).await,
            finalizer::Event::Cleanup(boat) => leave_word(&boat, &client).await,
        }
    });
    done.await.map_err(|error| Error::Finalizer(Box::new(error)))
}

async fn man(boat: &Boat, client: &Client) -> Result<Action, Error> {
    let crew = boat.spec.crew;
    let owner = json!([boat.controller_owner_ref(&()).expect("a stored boat has a name and a uid")]);
    let metadata = json!({"name": format!("{}-crew", boat.name_any()), "ownerReferences": owner});
    apply(boat, client, metadata, json!({"crew": crew.to_string()})).await?;
    if boat.status.as_ref().map(|status| status.aboard) != Some(crew) {
        let boats: Api<Boat> = Api::namespaced(client.clone(), &boat.namespace().unwrap_or_default());
        let status = json!({"apiVersion": "rs.example.org/v1", "kind": "Boat", "status": {"aboard": crew}});
        boats.patch_status(&boat.name_any(), &PatchParams::apply(MANAGER).force(), &Patch::Apply(status)).await?;
        let event = Event {
            type_: EventType::Normal,
            reason: "Manned".to_owned(),
            note: Some(format!("{crew} are aboard")),
            action: "Manning".to_owned(),
            secondary: None,
        };
        Recorder::new(client.clone(), MANAGER.into()).publish(&event, &boat.object_ref(&())).await?;
    }
    Ok(Action::await_change())
}

async fn leave_word(boat: &Boat, client: &Client) -> Result<Action, Error> {
    apply(boat, client, json!({"name": format!("{}-was-here", boat.name_any())}), json!({})).await?;
    Ok(Action::await_change())
}

async fn apply(boat: &Boat, client: &Client, metadata: Value, data: Value) -> Result<(), Error> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &boat.namespace().unwrap_or_default());
    let name = metadata["name"].as_str().unwrap_or_default().to_owned();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
    maps.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(map)).await?;
    Ok(())
}
