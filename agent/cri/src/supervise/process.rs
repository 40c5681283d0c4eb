//! The containerd process itself: spawned or found, watched through a pidfd. It takes no decision.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Child;
use std::sync::{Mutex, PoisonError};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::child::{command, describe};
use super::{Config, SuperviseError};

/// Position of CAP_SYS_RESOURCE in a capability set (linux/capability.h).
const CAP_SYS_RESOURCE: u32 = 24;

/// A running containerd, child of this process or not.
#[derive(Debug)]
pub(super) struct Running {
    pid: u32,
    /// Readable once the process has ended.
    pidfd: AsyncFd<OwnedFd>,
    /// Present when it is our child and must be reaped.
    child: Mutex<Option<Child>>,
}

impl Running {
    pub(super) fn watch(pid: u32, child: Option<Child>) -> std::io::Result<Self> {
        let raw = pid.cast_signed();
        // SAFETY: pidfd_open(2) takes a pid and flags and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, raw, 0) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        let fd = i32::try_from(fd).map_err(std::io::Error::other)?;
        // SAFETY: the call succeeded, so that `fd` is open and nobody else owns it.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: `OwnedFd` keeps the descriptor open and the same for as long as the registration lives.
        let pidfd = unsafe { AsyncFd::register_with_interest(owned, Interest::READABLE) }?;
        Ok(Self { pid, pidfd, child: Mutex::new(child) })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for the end and tells how it came.
    pub(super) async fn ended(&self) -> String {
        let watched = self.pidfd.readable().await.map(|mut guard| guard.retain_ready());
        if let Err(error) = watched {
            tracing::warn!(%error, fd = self.pidfd.as_raw_fd(), "containerd cannot be watched");
        }
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        match child.as_mut().map(Child::wait) {
            Some(Ok(status)) => describe(status),
            Some(Err(error)) => error.to_string(),
            None => "ended".to_owned(),
        }
    }
}

/// The containerd named by the pid file, if that process is one: a reused pid has another program or other arguments.
pub(super) fn adopt(config: &Config) -> Result<Option<Running>, SuperviseError> {
    let Some(pid) = std::fs::read_to_string(config.pid_file()).ok().and_then(|text| text.trim().parse().ok()) else {
        return Ok(None);
    };
    if !is_ours(pid, config) {
        return Ok(None);
    }
    match Running::watch(pid, None) {
        Ok(running) => Ok(Some(running)),
        // It ended between the two looks.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(source) => Err(SuperviseError::Watch { pid, source }),
    }
}

fn is_ours(pid: u32, config: &Config) -> bool {
    let name = config.binary.file_name().unwrap_or_default();
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    // An update replaces the file of a running program, which the kernel marks in the link.
    let exe_name = exe.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let file = config.config_file();
    let has_config = arguments.split(|byte| *byte == 0).any(|argument| argument == file.as_os_str().as_encoded_bytes());
    has_config && Path::new(&exe_name).file_name() == Some(name)
}

pub(super) fn spawn(config: &Config) -> Result<Running, SuperviseError> {
    let start = |source| SuperviseError::Start { binary: config.binary.clone(), source };
    let log =
        open_log(&config.log_file).map_err(|source| SuperviseError::Write { path: config.log_file.clone(), source })?;
    let mut command = command(config, log).map_err(start)?;
    // SAFETY: setsid(2) is async-signal-safe and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            Ok(())
        });
    }
    let child = command.spawn().map_err(start)?;
    let pid = child.id();
    Running::watch(pid, Some(child)).map_err(|source| SuperviseError::Watch { pid, source })
}

fn open_log(path: &Path) -> std::io::Result<File> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

/// Keeps the log below its limit: the first half of the space is what came last, the rest is free again. containerd
/// appends, so that the file can be cut under it.
pub(super) fn bound_log(path: &Path, bytes_max: u64) {
    let too_long = std::fs::metadata(path).is_ok_and(|meta| meta.len() > bytes_max);
    if !too_long {
        return;
    }
    let old = path.with_extension("log.1");
    let cut = std::fs::copy(path, &old).and_then(|_| OpenOptions::new().write(true).open(path)?.set_len(0));
    if let Err(error) = cut {
        tracing::warn!(%error, path = %path.display(), "containerd's log cannot be cut");
    }
}

/// Whether this process, and so containerd, has CAP_SYS_RESOURCE.
pub(super) fn may_lower_oom_scores() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    bits & (1 << CAP_SYS_RESOURCE) != 0
}
