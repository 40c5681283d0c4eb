//! What the container runtime has of one pod: its sandboxes and containers, newest first. Everything a restarted agent
//! needs to know about running pods is read here, from labels and annotations.

use std::collections::HashMap;
use std::net::IpAddr;

use skiff_cri::{Result, Runtime, pb};

use crate::names;

/// containerd's reason for the end of a container that it could not start, and what it says when nobody waited for it.
const START_ERROR: &str = "StartError";
const CANCELED: &str = "context canceled";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    pub id: String,
    pub attempt: u32,
    pub ready: bool,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    pub ips: Vec<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Made but never started.
    Created,
    Running,
    Exited,
    /// The runtime lost track of it.
    Unknown,
}

/// Times are nanoseconds since the epoch; zero means not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub sandbox: String,
    pub attempt: u32,
    pub state: State,
    pub hash: String,
    pub image: String,
    pub image_ref: String,
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub log_path: String,
    pub message_file: Option<String>,
    pub message_from_logs: bool,
}

impl Container {
    pub fn failed(&self) -> bool {
        self.state == State::Unknown || self.state == State::Exited && self.exit_code != 0
    }

    pub fn succeeded(&self) -> bool {
        self.state == State::Exited && self.exit_code == 0
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    pub sandboxes: Vec<Sandbox>,
    pub containers: Vec<Container>,
}

impl Observed {
    /// The sandbox in use: the newest one that is ready.
    pub fn sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|sandbox| sandbox.ready)
    }

    /// The newest container of this name, in any sandbox.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The one before the newest of this name.
    pub fn previous(&self, name: &str) -> Option<&Container> {
        self.containers.iter().filter(|container| container.name == name).nth(1)
    }

    pub fn running(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|container| container.state == State::Running)
    }
}

/// Statuses that cannot change any more as long as the state is the same.
#[derive(Debug, Default)]
pub struct StatusCache {
    statuses: HashMap<String, pb::ContainerStatus>,
}

pub async fn observe(runtime: &dyn Runtime, uid: &str, cache: &mut StatusCache) -> Result<Observed> {
    let labels = HashMap::from([(names::POD_UID.to_owned(), uid.to_owned())]);
    let (sandboxes, containers) =
        futures::try_join!(runtime.list_pod_sandboxes(labels.clone()), runtime.list_containers(labels))?;
    let mut observed = Observed::default();
    for sandbox in sandboxes {
        observed.sandboxes.push(observe_sandbox(runtime, sandbox).await?);
    }
    cache.statuses.retain(|id, _| containers.iter().any(|container| container.id == *id));
    for container in containers {
        match observe_container(runtime, &container, cache).await {
            Ok(status) => observed.containers.push(parse_container(&container, &status)),
            // Removed between the list and the question.
            Err(skiff_cri::Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    observed.sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.created_at, sandbox.attempt)));
    observed.containers.sort_by_key(|container| std::cmp::Reverse((container.attempt, container.created_at)));
    Ok(observed)
}

async fn observe_sandbox(runtime: &dyn Runtime, sandbox: pb::PodSandbox) -> Result<Sandbox> {
    let ready = sandbox.state() == pb::PodSandboxState::Ready;
    let network = match ready {
        true => runtime.pod_sandbox_status(&sandbox.id).await?.network.unwrap_or_default(),
        false => pb::PodSandboxNetworkStatus::default(),
    };
    let texts = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|ip| ip.ip));
    Ok(Sandbox {
        ips: texts.filter_map(|text| text.parse().ok()).collect(),
        attempt: sandbox.metadata.as_ref().map_or(0, |metadata| metadata.attempt),
        created_at: sandbox.created_at,
        ready,
        id: sandbox.id,
    })
}

async fn observe_container(
    runtime: &dyn Runtime,
    container: &pb::Container,
    cache: &mut StatusCache,
) -> Result<pb::ContainerStatus> {
    if let Some(status) = cache.statuses.get(&container.id).filter(|status| status.state == container.state) {
        return Ok(status.clone());
    }
    let status = runtime.container_status(&container.id).await?;
    cache.statuses.insert(container.id.clone(), status.clone());
    Ok(status)
}

/// Whether the start was cut off, as by an agent that ended in its middle: it never ran, and that was not its fault.
fn was_cut_off(status: &pb::ContainerStatus) -> bool {
    status.reason == START_ERROR && status.message.contains(CANCELED)
}

fn parse_container(container: &pb::Container, status: &pb::ContainerStatus) -> Container {
    let annotation = |name: &str| container.annotations.get(name).cloned();
    Container {
        id: container.id.clone(),
        name: container.labels.get(names::CONTAINER_NAME).cloned().unwrap_or_default(),
        sandbox: container.pod_sandbox_id.clone(),
        attempt: container.metadata.as_ref().map_or(0, |metadata| metadata.attempt),
        state: match status.state() {
            _ if was_cut_off(status) => State::Created,
            pb::ContainerState::Created => State::Created,
            pb::ContainerState::Running => State::Running,
            pb::ContainerState::Exited => State::Exited,
            pb::ContainerState::Unknown => State::Unknown,
        },
        hash: annotation(names::CONTAINER_HASH).unwrap_or_default(),
        image: status.image.as_ref().map(|image| image.image.clone()).unwrap_or_default(),
        image_ref: status.image_ref.clone(),
        created_at: status.created_at,
        started_at: status.started_at,
        finished_at: status.finished_at,
        exit_code: status.exit_code,
        reason: status.reason.clone(),
        message: status.message.clone(),
        log_path: status.log_path.clone(),
        message_file: annotation(names::TERMINATION_MESSAGE_FILE),
        message_from_logs: annotation(names::TERMINATION_MESSAGE_POLICY).as_deref() == Some("FallbackToLogsOnError"),
    }
}
