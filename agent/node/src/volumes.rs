//! The volumes of a pod: made below `pods/UID/volumes` before its containers start, kept up to date while they run, and
//! removed with the pod's directory. hostPath volumes belong to the user and are only looked at.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource, Pod, Volume};

use crate::env::EnvError;
use crate::files;
use crate::objects::{Lack, Missing, ObjectError, ObjectKind};
use crate::resources::parse_milli;

pub mod atomic;
pub mod beneath;
pub mod mounts;
pub mod payload;
pub mod subpaths;

pub use payload::{Sources, Tokens};

#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Field(#[from] EnvError),
    #[error("{kind} references non-existent config key: {key}", kind = kind.resource())]
    MissingKey { kind: ObjectKind, name: String, key: String },
    #[error("path \"{path}\" must be relative and not contain '..'")]
    Path { path: String },
    #[error("content is larger than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    #[error("failed to fetch token for service account \"{account}\"")]
    Token { account: String, source: Box<kube::Error> },
    #[error("hostPath type check failed: {path} is not {wanted}")]
    HostPath { path: String, wanted: &'static str },
    #[error("persistent volume claims are not supported on this node yet (claim \"{claim}\")")]
    Claim { claim: String },
    #[error("volume type is not supported on this node")]
    Unsupported,
    #[error("cannot prepare {}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl VolumeError {
    pub fn missing(&self) -> Option<Missing> {
        match self {
            VolumeError::Object(error) => error.missing(),
            VolumeError::Field(error) => error.missing(),
            VolumeError::MissingKey { kind, name, .. } => {
                Some(Missing { kind: *kind, name: name.clone(), what: Lack::Key })
            }
            VolumeError::Path { .. }
            | VolumeError::TooLarge { .. }
            | VolumeError::Token { .. }
            | VolumeError::HostPath { .. }
            | VolumeError::Claim { .. }
            | VolumeError::Unsupported
            | VolumeError::Io { .. } => None,
        }
    }
}

/// The volumes that could not be made, with the first reason.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\"")]
pub struct SetUpError {
    pub volume: String,
    #[source]
    pub source: VolumeError,
}

/// Where a volume is on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    pub path: PathBuf,
    pub writer: Writer,
}

/// Who writes to a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// We alone: containers get it read-only, and the links in it are ours.
    Node,
    Containers,
}

/// The volumes of a pod.
#[derive(Clone, Debug, Default)]
pub struct Volumes {
    pub ready: BTreeMap<String, Ready>,
    /// Whether some content comes from objects that may change.
    pub from_objects: bool,
    /// When a token must be renewed.
    pub refresh_at: Option<Timestamp>,
}

/// Makes or refreshes all volumes of the pod below its directory.
pub async fn ensure(sources: &Sources<'_>, pod_dir: &Path, tokens: &mut Tokens) -> Result<Volumes, SetUpError> {
    let mut volumes = Volumes::default();
    let spec = sources.pod.spec.as_ref();
    for volume in spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let wrap = |source| SetUpError { volume: volume.name.clone(), source };
        let ready = ensure_one(sources, pod_dir, volume, tokens).await.map_err(wrap)?;
        volumes.from_objects |= volume.config_map.is_some() || volume.secret.is_some() || volume.projected.is_some();
        volumes.from_objects |= volume.downward_api.is_some();
        volumes.ready.insert(volume.name.clone(), ready);
    }
    volumes.refresh_at = payload::refresh_at(tokens);
    Ok(volumes)
}

async fn ensure_one(
    sources: &Sources<'_>,
    pod_dir: &Path,
    volume: &Volume,
    tokens: &mut Tokens,
) -> Result<Ready, VolumeError> {
    let dir = |kind: &str| pod_dir.join("volumes").join(format!("kubernetes.io~{kind}")).join(&volume.name);
    let group = fs_group(sources.pod);
    if let Some(source) = &volume.host_path {
        return Ok(Ready { path: host_path(source)?, writer: Writer::Containers });
    }
    if let Some(source) = &volume.empty_dir {
        let dir = dir("empty-dir");
        empty_dir(&dir, source, group).map_err(|source| VolumeError::Io { path: dir.clone(), source })?;
        return Ok(Ready { path: dir, writer: Writer::Containers });
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        return Err(VolumeError::Claim { claim: claim.claim_name.clone() });
    }
    let Some(files) = payload::files(sources, volume, tokens).await? else { return Err(VolumeError::Unsupported) };
    let secret = volume.secret.is_some() || volume.projected.is_some();
    let dir = match (&volume.secret, &volume.config_map, &volume.downward_api) {
        (Some(_), _, _) => dir("secret"),
        (None, Some(_), _) => dir("configmap"),
        (None, None, Some(_)) => dir("downward-api"),
        (None, None, None) => dir("projected"),
    };
    let write = || {
        if secret {
            mounts::ensure_tmpfs(&dir, None)?;
        }
        atomic::write(&dir, &files, group)
    };
    write().map_err(|source| VolumeError::Io { path: dir.clone(), source })?;
    Ok(Ready { path: dir, writer: Writer::Node })
}

fn fs_group(pod: &Pod) -> Option<u32> {
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    context.and_then(|context| context.fs_group).and_then(|group| u32::try_from(group).ok())
}

fn empty_dir(dir: &Path, source: &EmptyDirVolumeSource, group: Option<u32>) -> io::Result<()> {
    let in_memory = source.medium.as_deref() == Some("Memory");
    if dir.exists() && (!in_memory || mounts::is_mounted(dir)?) {
        // What the pod has made of it since is its own.
        return Ok(());
    }
    if in_memory {
        let limit = source.size_limit.as_ref().and_then(|limit| parse_milli(&limit.0));
        mounts::ensure_tmpfs(dir, limit.and_then(|milli| u64::try_from(milli / 1000).ok()))?;
        return open_to_all(dir, group);
    }
    // It has its name when it has its mode, so that a crash in between leaves none without.
    let new = dir.with_extension("new");
    files::make_private(&new)?;
    open_to_all(&new, group)?;
    fs::rename(&new, dir)
}

fn open_to_all(dir: &Path, group: Option<u32>) -> io::Result<()> {
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    chown(dir, None, group)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(mode))
}

fn host_path(source: &HostPathVolumeSource) -> Result<PathBuf, VolumeError> {
    let path = PathBuf::from(&source.path);
    let wrap = |source| VolumeError::Io { path: path.clone(), source };
    let kind = fs::metadata(&path).ok().map(|meta| meta.file_type());
    let check = |good: bool, wanted| match good {
        true => Ok(()),
        false => Err(VolumeError::HostPath { path: source.path.clone(), wanted }),
    };
    match source.type_.as_deref().unwrap_or_default() {
        "DirectoryOrCreate" => {
            fs::create_dir_all(&path).map_err(wrap)?;
        }
        "FileOrCreate" => {
            fs::OpenOptions::new().create(true).append(true).open(&path).map_err(wrap)?;
        }
        "Directory" => check(kind.is_some_and(|kind| kind.is_dir()), "a directory")?,
        "File" => check(kind.is_some_and(|kind| kind.is_file()), "a file")?,
        "Socket" => check(kind.is_some_and(|kind| kind.is_socket()), "a socket file")?,
        "CharDevice" => check(kind.is_some_and(|kind| kind.is_char_device()), "a character device")?,
        "BlockDevice" => check(kind.is_some_and(|kind| kind.is_block_device()), "a block device")?,
        // Unset: nothing is checked, and a missing directory is made, as container runtimes do.
        _ if kind.is_none() => fs::create_dir_all(&path).map_err(wrap)?,
        _ => {}
    }
    Ok(path)
}
