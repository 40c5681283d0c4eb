//! containerd behind the `Runtime` trait: gRPC over its unix socket, what that has not through `ctr`, and its task events.
//! It neither starts containerd (see `supervise`) nor decides anything.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_prost::ProstCodec;

use crate::pb;
use crate::runtime::{Error, EventStream, Result, Runtime};

mod events;

/// Kubernetes' containers live in this containerd namespace.
pub(crate) const NAMESPACE: &str = "k8s.io";

/// What containerd says of a container whose start was cut off in its middle, as by an agent that was killed: the process
/// is there, and nothing of Kubernetes' interface ends it.
const TASK_LEFT: &str = "cannot delete running task";

/// Most calls are quick; a sandbox waits for the network plugins, and disks may be slow.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// A big image over a slow line.
const PULL_TIMEOUT: Duration = Duration::from_secs(3600);
/// Added to a stop's grace period or a command's own limit, so that the runtime's answer comes first.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(30);
/// Output of a probe or hook above this is cut by containerd (16 MiB); leave room for the envelope.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// A client of one containerd. Clones share the connection.
#[derive(Clone)]
pub struct Containerd {
    channel: Channel,
    socket: PathBuf,
    ctr: PathBuf,
}

impl std::fmt::Debug for Containerd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Containerd").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Containerd {
    /// A client for the socket; connects at the first call and again whenever the connection is lost. `ctr` is
    /// containerd's own command line, used to import archives.
    pub fn new(socket: impl Into<PathBuf>, ctr: impl Into<PathBuf>) -> Self {
        let socket = socket.into();
        Self { channel: connect(&socket), socket, ctr: ctr.into() }
    }

    async fn call<Q, R>(&self, path: &'static str, request: Q, limit: Duration) -> Result<R>
    where
        Q: Message + Send + Sync + 'static,
        R: Message + Default + Send + Sync + 'static,
    {
        let work = async {
            let mut grpc = tonic::client::Grpc::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
            grpc.ready()
                .await
                .map_err(|error| Error::Unavailable { message: format!("{}: {error}", self.socket.display()) })?;
            let codec = ProstCodec::<Q, R>::default();
            let answer = grpc.unary(tonic::Request::new(request), PathAndQuery::from_static(path), codec).await;
            answer.map(tonic::Response::into_inner).map_err(from_status)
        };
        match tokio::time::timeout(limit, work).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::DeadlineExceeded { message: "context deadline exceeded".to_owned() }),
        }
    }

    /// What only containerd's own command line does.
    async fn ctr(&self, arguments: &[&OsStr]) -> Result<()> {
        let failed = |reason: &str| {
            let all: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
            Error::Failed { code: "Unknown".to_owned(), message: format!("ctr {}: {reason}", all.join(" ")) }
        };
        let output = tokio::process::Command::new(&self.ctr)
            .arg("--address")
            .arg(&self.socket)
            .args(["-n", NAMESPACE])
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| failed(&error.to_string()))?;
        let reason = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { Err(failed(reason.trim())) }
    }

    fn unary<'a, Q, R>(&'a self, path: &'static str, request: Q) -> BoxFuture<'a, Result<R>>
    where
        Q: Message + Send + Sync + 'static,
        R: Message + Default + Send + Sync + 'static,
    {
        self.call(path, request, CALL_TIMEOUT).boxed()
    }
}

fn connect(socket: &Path) -> Channel {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The address is required but never used: the connector dials the socket.
    Endpoint::from_static("http://containerd").connect_with_connector_lazy(connector)
}

fn from_status(status: tonic::Status) -> Error {
    let message = status.message().to_owned();
    match status.code() {
        tonic::Code::NotFound => Error::NotFound { message },
        tonic::Code::DeadlineExceeded => Error::DeadlineExceeded { message },
        tonic::Code::Unavailable => Error::Unavailable { message },
        code => Error::Failed { code: format!("{code:?}"), message },
    }
}

fn fine_if_gone(result: Result<pb::Empty>) -> Result<()> {
    match result {
        Ok(pb::Empty {}) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn spec(image: &str) -> Option<pb::ImageSpec> {
    Some(pb::ImageSpec { image: image.to_owned(), ..Default::default() })
}

fn required<T>(value: Option<T>, call: &'static str, field: &'static str) -> Result<T> {
    value.ok_or(Error::Incomplete { call, field })
}

/// The number after `"pid":` in the verbose information; the rest of that JSON is large and of no use here.
fn pid_in(info: &str) -> Option<u32> {
    let (_, rest) = info.split_once("\"pid\":")?;
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|pid| *pid != 0)
}

macro_rules! runtime {
    ($name:literal) => {
        concat!("/runtime.v1.RuntimeService/", $name)
    };
}

macro_rules! image {
    ($name:literal) => {
        concat!("/runtime.v1.ImageService/", $name)
    };
}

impl Runtime for Containerd {
    fn version(&self) -> BoxFuture<'_, Result<pb::VersionResponse>> {
        self.unary(runtime!("Version"), pb::VersionRequest::default())
    }

    fn status(&self) -> BoxFuture<'_, Result<pb::RuntimeStatus>> {
        async {
            let answer: pb::StatusResponse = self.unary(runtime!("Status"), pb::StatusRequest::default()).await?;
            required(answer.status, "Status", "status")
        }
        .boxed()
    }

    fn run_pod_sandbox(&self, config: pb::PodSandboxConfig) -> BoxFuture<'_, Result<String>> {
        async {
            let request = pb::RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
            let answer: pb::SandboxId = self.unary(runtime!("RunPodSandbox"), request).await?;
            Ok(answer.pod_sandbox_id)
        }
        .boxed()
    }

    fn stop_pod_sandbox<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        let request = pb::SandboxId { pod_sandbox_id: id.to_owned() };
        self.unary(runtime!("StopPodSandbox"), request).map(fine_if_gone).boxed()
    }

    fn remove_pod_sandbox<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        let request = pb::SandboxId { pod_sandbox_id: id.to_owned() };
        self.unary(runtime!("RemovePodSandbox"), request).map(fine_if_gone).boxed()
    }

    fn list_pod_sandboxes(&self, labels: HashMap<String, String>) -> BoxFuture<'_, Result<Vec<pb::PodSandbox>>> {
        async {
            let filter = Some(pb::PodSandboxFilter { id: String::new(), label_selector: labels });
            let request = pb::ListPodSandboxRequest { filter };
            let answer: pb::ListPodSandboxResponse = self.unary(runtime!("ListPodSandbox"), request).await?;
            Ok(answer.items)
        }
        .boxed()
    }

    fn pod_sandbox_status<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<pb::PodSandboxStatus>> {
        async {
            let request = pb::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
            let answer: pb::PodSandboxStatusResponse = self.unary(runtime!("PodSandboxStatus"), request).await?;
            required(answer.status, "PodSandboxStatus", "status")
        }
        .boxed()
    }

    fn pod_sandbox_pid<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<u32>> {
        async {
            let request = pb::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: true };
            let answer: pb::PodSandboxStatusResponse = self.unary(runtime!("PodSandboxStatus"), request).await?;
            required(answer.info.get("info").and_then(|info| pid_in(info)), "PodSandboxStatus", "pid")
        }
        .boxed()
    }

    fn create_container<'a>(
        &'a self,
        sandbox: &'a str,
        config: pb::ContainerConfig,
        sandbox_config: pb::PodSandboxConfig,
    ) -> BoxFuture<'a, Result<String>> {
        async {
            let request = pb::CreateContainerRequest {
                pod_sandbox_id: sandbox.to_owned(),
                config: Some(config),
                sandbox_config: Some(sandbox_config),
            };
            let answer: pb::CreateContainerResponse = self.unary(runtime!("CreateContainer"), request).await?;
            Ok(answer.container_id)
        }
        .boxed()
    }

    fn start_container<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        let request = pb::ContainerId { container_id: id.to_owned() };
        self.unary(runtime!("StartContainer"), request).map(|r: Result<pb::Empty>| r.map(drop)).boxed()
    }

    fn stop_container<'a>(&'a self, id: &'a str, grace: Duration) -> BoxFuture<'a, Result<()>> {
        // CRI counts in whole seconds; a part of a second is rounded up.
        let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        let request = pb::StopContainerRequest { container_id: id.to_owned(), timeout: seconds.cast_signed() };
        let limit = grace.saturating_add(TIMEOUT_MARGIN);
        self.call(runtime!("StopContainer"), request, limit).map(fine_if_gone).boxed()
    }

    fn remove_container<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        let remove = || self.unary(runtime!("RemoveContainer"), pb::ContainerId { container_id: id.to_owned() });
        async move {
            let mut removed = remove().await;
            if removed.as_ref().is_err_and(|error| error.to_string().contains(TASK_LEFT)) {
                self.ctr(&["tasks", "delete", "--force", id].map(OsStr::new)).await?;
                removed = remove().await;
            }
            fine_if_gone(removed)
        }
        .boxed()
    }

    fn list_containers(&self, labels: HashMap<String, String>) -> BoxFuture<'_, Result<Vec<pb::Container>>> {
        async {
            let filter = Some(pb::ContainerFilter { label_selector: labels, ..Default::default() });
            let request = pb::ListContainersRequest { filter };
            let answer: pb::ListContainersResponse = self.unary(runtime!("ListContainers"), request).await?;
            Ok(answer.containers)
        }
        .boxed()
    }

    fn container_status<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<pb::ContainerStatus>> {
        async {
            let request = pb::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
            let answer: pb::ContainerStatusResponse = self.unary(runtime!("ContainerStatus"), request).await?;
            required(answer.status, "ContainerStatus", "status")
        }
        .boxed()
    }

    fn update_container_resources<'a>(
        &'a self,
        id: &'a str,
        resources: pb::LinuxContainerResources,
    ) -> BoxFuture<'a, Result<()>> {
        let request = pb::UpdateContainerResourcesRequest { container_id: id.to_owned(), linux: Some(resources) };
        self.unary(runtime!("UpdateContainerResources"), request).map(|r: Result<pb::Empty>| r.map(drop)).boxed()
    }

    fn reopen_container_log<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        let request = pb::ContainerId { container_id: id.to_owned() };
        self.unary(runtime!("ReopenContainerLog"), request).map(|r: Result<pb::Empty>| r.map(drop)).boxed()
    }

    fn exec_sync<'a>(
        &'a self,
        id: &'a str,
        command: Vec<String>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<pb::ExecSyncResponse>> {
        let seconds = timeout.as_secs().cast_signed();
        let request = pb::ExecSyncRequest { container_id: id.to_owned(), cmd: command, timeout: seconds };
        let limit = if timeout.is_zero() { PULL_TIMEOUT } else { timeout.saturating_add(TIMEOUT_MARGIN) };
        self.call(runtime!("ExecSync"), request, limit).boxed()
    }

    fn exec(&self, request: pb::ExecRequest) -> BoxFuture<'_, Result<String>> {
        self.unary(runtime!("Exec"), request).map(|r: Result<pb::Url>| r.map(|answer| answer.url)).boxed()
    }

    fn attach(&self, request: pb::AttachRequest) -> BoxFuture<'_, Result<String>> {
        self.unary(runtime!("Attach"), request).map(|r: Result<pb::Url>| r.map(|answer| answer.url)).boxed()
    }

    fn container_stats<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<pb::ContainerStats>> {
        async {
            let request = pb::ContainerId { container_id: id.to_owned() };
            let answer: pb::ContainerStatsResponse = self.unary(runtime!("ContainerStats"), request).await?;
            required(answer.stats, "ContainerStats", "stats")
        }
        .boxed()
    }

    fn list_container_stats(&self, labels: HashMap<String, String>) -> BoxFuture<'_, Result<Vec<pb::ContainerStats>>> {
        async {
            // ContainerStatsFilter numbers its fields differently from ContainerFilter.
            let filter = Some(pb::stats::ContainerStatsFilter { label_selector: labels });
            let request = pb::ListContainerStatsRequest { filter };
            let answer: pb::ListContainerStatsResponse = self.unary(runtime!("ListContainerStats"), request).await?;
            Ok(answer.stats)
        }
        .boxed()
    }

    fn list_images(&self) -> BoxFuture<'_, Result<Vec<pb::Image>>> {
        async {
            let request = pb::ListImagesRequest::default();
            let answer: pb::ListImagesResponse = self.unary(image!("ListImages"), request).await?;
            Ok(answer.images)
        }
        .boxed()
    }

    fn image_status<'a>(&'a self, image: &'a str) -> BoxFuture<'a, Result<Option<pb::Image>>> {
        async {
            let request = pb::ImageStatusRequest { image: spec(image), verbose: false };
            let answer: pb::ImageStatusResponse = self.unary(image!("ImageStatus"), request).await?;
            Ok(answer.image)
        }
        .boxed()
    }

    fn pull_image<'a>(&'a self, image: &'a str, auth: Option<pb::AuthConfig>) -> BoxFuture<'a, Result<String>> {
        async move {
            let request = pb::PullImageRequest { image: spec(image), auth, sandbox_config: None };
            let answer: pb::PullImageResponse = self.call(image!("PullImage"), request, PULL_TIMEOUT).await?;
            Ok(answer.image_ref)
        }
        .boxed()
    }

    fn remove_image<'a>(&'a self, image: &'a str) -> BoxFuture<'a, Result<()>> {
        let request = pb::RemoveImageRequest { image: spec(image) };
        self.unary(image!("RemoveImage"), request).map(fine_if_gone).boxed()
    }

    fn image_fs_info(&self) -> BoxFuture<'_, Result<Vec<pb::FilesystemUsage>>> {
        async {
            let request = pb::ImageFsInfoRequest::default();
            let answer: pb::ImageFsInfoResponse = self.unary(image!("ImageFsInfo"), request).await?;
            Ok(answer.image_filesystems)
        }
        .boxed()
    }

    fn import_images<'a>(&'a self, archive: &'a Path) -> BoxFuture<'a, Result<()>> {
        async move {
            let arguments = ["images", "import", "--all-platforms"].map(OsStr::new);
            self.ctr(&[&arguments[..], &[archive.as_os_str()]].concat()).await?;
            // containerd takes files for there that only memory holds: after a power cut they would be empty.
            let synced = tokio::task::spawn_blocking(nix::unistd::sync).await;
            synced.map_err(|error| Error::Failed { code: "Unknown".to_owned(), message: error.to_string() })
        }
        .boxed()
    }

    fn events(&self) -> EventStream {
        events::stream(self.channel.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::pid_in;

    #[test]
    fn the_pid_is_found_in_the_verbose_information() {
        assert_eq!(pid_in(r#"{"pid":4711,"processStatus":"running"}"#), Some(4711));
        assert_eq!(pid_in(r#"{"pid": 0}"#), None);
        assert_eq!(pid_in("{}"), None);
    }
}
