//! The messages of CRI v1 (`runtime.v1`) that we use, written by hand with upstream's field numbers, so that building
//! needs no protobuf compiler. Fields we never read are left out: protobuf skips them. It talks to nobody.

pub mod events;
pub mod image;
pub mod runtime;
pub mod stats;

pub use image::{
    AuthConfig, FilesystemIdentifier, FilesystemUsage, Image, ImageFilter, ImageFsInfoRequest, ImageFsInfoResponse,
    ImageSpec, ImageStatusRequest, ImageStatusResponse, ListImagesRequest, ListImagesResponse, PullImageRequest,
    PullImageResponse, RemoveImageRequest,
};
pub use runtime::{
    Capability, Container, ContainerConfig, ContainerFilter, ContainerId, ContainerMetadata, ContainerState,
    ContainerStatus, ContainerStatusRequest, ContainerStatusResponse, CreateContainerRequest, CreateContainerResponse,
    Device, DnsConfig, Empty, Int64Value, KeyValue, LinuxContainerConfig, LinuxContainerResources,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, ListContainersRequest,
    ListContainersResponse, ListPodSandboxRequest, ListPodSandboxResponse, Mount, MountPropagation, NamespaceMode,
    NamespaceOption, PodIp, PodSandbox, PodSandboxConfig, PodSandboxFilter, PodSandboxMetadata,
    PodSandboxNetworkStatus, PodSandboxState, PodSandboxStatus, PodSandboxStatusRequest, PodSandboxStatusResponse,
    PortMapping, Protocol, RunPodSandboxRequest, RuntimeCondition, RuntimeStatus, SandboxId, SecurityProfile,
    SecurityProfileType, StatusRequest, StatusResponse, StopContainerRequest, UInt64Value,
    UpdateContainerResourcesRequest, VersionRequest, VersionResponse,
};
pub use stats::{
    AttachRequest, ContainerAttributes, ContainerStats, ContainerStatsResponse, CpuUsage, ExecRequest, ExecSyncRequest,
    ExecSyncResponse, ListContainerStatsRequest, ListContainerStatsResponse, MemoryUsage, Url,
};
