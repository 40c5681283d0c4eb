//! The trait between the node agent and a container runtime: CRI v1 as async calls, and a stream of what happened.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::pb;

/// Why the runtime did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The runtime does not know the sandbox, container or image.
    #[error("{message}")]
    NotFound { message: String },
    /// The call took longer than it may.
    #[error("{message}")]
    DeadlineExceeded { message: String },
    /// The runtime does not answer at all.
    #[error("container runtime is not reachable: {message}")]
    Unavailable { message: String },
    /// The runtime tried and failed; `code` is gRPC's name of the failure.
    #[error("rpc error: code = {code} desc = {message}")]
    Failed { code: String, message: String },
    /// The runtime's answer lacks a part that must be there.
    #[error("answer to {call} has no {field}")]
    Incomplete { call: &'static str, field: &'static str },
}

pub type Result<T> = std::result::Result<T, Error>;

/// Something happened to a container. Events only wake: whoever gets one looks at the state anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first process of the container, or of the sandbox, with this identifier runs.
    Started { id: String },
    /// The first process of the container or sandbox ended.
    Exited { id: String, exit_code: u32 },
    /// The kernel killed a process of the container for want of memory.
    OutOfMemory { id: String },
    /// Events may have been lost: look at everything.
    Lost,
}

pub type EventStream = BoxStream<'static, Event>;

/// A container runtime. Calls may run at the same time; each is safe to repeat.
pub trait Runtime: Send + Sync + 'static {
    fn version(&self) -> BoxFuture<'_, Result<pb::VersionResponse>>;
    fn status(&self) -> BoxFuture<'_, Result<pb::RuntimeStatus>>;

    /// Makes and starts a sandbox; answers its identifier.
    fn run_pod_sandbox(&self, config: pb::PodSandboxConfig) -> BoxFuture<'_, Result<String>>;
    /// Stops all containers of the sandbox and takes its network down. Fine if it is gone.
    fn stop_pod_sandbox<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>>;
    fn remove_pod_sandbox<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>>;
    /// All sandboxes that carry the given labels.
    fn list_pod_sandboxes(&self, labels: HashMap<String, String>) -> BoxFuture<'_, Result<Vec<pb::PodSandbox>>>;
    fn pod_sandbox_status<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<pb::PodSandboxStatus>>;
    /// The process that holds the sandbox's namespaces, as the host sees it.
    fn pod_sandbox_pid<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<u32>>;

    fn create_container<'a>(
        &'a self,
        sandbox: &'a str,
        config: pb::ContainerConfig,
        sandbox_config: pb::PodSandboxConfig,
    ) -> BoxFuture<'a, Result<String>>;
    fn start_container<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>>;
    /// Sends the stop signal and, after `grace`, SIGKILL. Returns when the container has ended.
    fn stop_container<'a>(&'a self, id: &'a str, grace: Duration) -> BoxFuture<'a, Result<()>>;
    fn remove_container<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>>;
    /// All containers that carry the given labels, in any state.
    fn list_containers(&self, labels: HashMap<String, String>) -> BoxFuture<'_, Result<Vec<pb::Container>>>;
    fn container_status<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<pb::ContainerStatus>>;
    fn update_container_resources<'a>(
        &'a self,
        id: &'a str,
        resources: pb::LinuxContainerResources,
    ) -> BoxFuture<'a, Result<()>>;
    /// Tells the runtime that the log file was moved away.
    fn reopen_container_log<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Runs a command in the container to its end. `timeout` of zero means without limit.
    fn exec_sync<'a>(
        &'a self,
        id: &'a str,
        command: Vec<String>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<pb::ExecSyncResponse>>;
    /// Answers the address of the streams of a command in the container.
    fn exec(&self, request: pb::ExecRequest) -> BoxFuture<'_, Result<String>>;
    /// Answers the address of the streams of the container's first process.
    fn attach(&self, request: pb::AttachRequest) -> BoxFuture<'_, Result<String>>;

    fn container_stats<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<pb::ContainerStats>>;
    fn list_container_stats(&self, labels: HashMap<String, String>) -> BoxFuture<'_, Result<Vec<pb::ContainerStats>>>;

    fn list_images(&self) -> BoxFuture<'_, Result<Vec<pb::Image>>>;
    /// `None` when the image is not on this machine.
    fn image_status<'a>(&'a self, image: &'a str) -> BoxFuture<'a, Result<Option<pb::Image>>>;
    /// Answers the reference of the image on this machine.
    fn pull_image<'a>(&'a self, image: &'a str, auth: Option<pb::AuthConfig>) -> BoxFuture<'a, Result<String>>;
    fn remove_image<'a>(&'a self, image: &'a str) -> BoxFuture<'a, Result<()>>;
    fn image_fs_info(&self) -> BoxFuture<'_, Result<Vec<pb::FilesystemUsage>>>;
    /// Adds the images of an OCI or Docker archive.
    fn import_images<'a>(&'a self, archive: &'a Path) -> BoxFuture<'a, Result<()>>;

    /// What happens from now on. Never ends: a lost connection is taken up again, and `Event::Lost` tells of it.
    fn events(&self) -> EventStream;
}
