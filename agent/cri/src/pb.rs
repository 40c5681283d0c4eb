//! The messages of CRI v1 (`runtime.v1`) that we use, written by hand with upstream's field numbers, so that building
//! needs no protobuf compiler. Fields we never read are left out: protobuf skips them. It talks to nobody.

pub mod events;
pub mod image;
pub mod runtime;

pub use image::{
    AuthConfig, FilesystemIdentifier, FilesystemUsage, Image, ImageFilter, ImageFsInfoRequest, ImageFsInfoResponse,
    ImageSpec, ImageStatusRequest, ImageStatusResponse, ListImagesRequest, ListImagesResponse, PullImageRequest,
    PullImageResponse, RemoveImageRequest,
};
pub use runtime::{
    AttachRequest, Capability, Container, ContainerAttributes, ContainerConfig, ContainerFilter, ContainerId,
    ContainerMetadata, ContainerState, ContainerStats, ContainerStatsResponse, ContainerStatus, ContainerStatusRequest,
    ContainerStatusResponse, CpuUsage, CreateContainerRequest, CreateContainerResponse, Device, DnsConfig, Empty,
    ExecRequest, ExecSyncRequest, ExecSyncResponse, Int64Value, KeyValue, LinuxContainerConfig,
    LinuxContainerResources, LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext,
    ListContainerStatsRequest, ListContainerStatsResponse, ListContainersRequest, ListContainersResponse,
    ListPodSandboxRequest, ListPodSandboxResponse, MemoryUsage, Mount, MountPropagation, NamespaceMode,
    NamespaceOption, PodIp, PodSandbox, PodSandboxConfig, PodSandboxFilter, PodSandboxMetadata,
    PodSandboxNetworkStatus, PodSandboxState, PodSandboxStatus, PodSandboxStatusRequest, PodSandboxStatusResponse,
    PortMapping, Protocol, RunPodSandboxRequest, RuntimeCondition, RuntimeStatus, SandboxId, SecurityProfile,
    SecurityProfileType, StatusRequest, StatusResponse, StopContainerRequest, UInt64Value,
    UpdateContainerResourcesRequest, Url, VersionRequest, VersionResponse,
};
