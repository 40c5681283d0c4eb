//! Sees to it that containerd runs: as a unit of the service manager where there is one for it, else as a process of
//! ours. In both cases it outlives the agent, is started again when it dies, and its containers are never touched:
//! their shims are processes of their own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::containerd::Containerd;
use crate::pause::{PAUSE_IMAGE, pause_archive};
use crate::runtime::Runtime;

mod child;
mod plugins;
mod process;
mod render;
mod unit;

pub use render::{OomScores, render};
pub use unit::{Unit, UnitError, UnitState};

use process::Running;

/// What a containerd that runs may take for an answer, and a start of it as our own process.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one question whether it is there may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const READY_POLL: Duration = Duration::from_millis(20);

/// Where containerd is and what it may use. Two boxes on one machine differ in every directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// containerd itself, found in PATH or by its full path.
    pub binary: PathBuf,
    /// containerd's command line, which imports archives.
    pub ctr: PathBuf,
    /// runc or crun.
    pub runtime: PathBuf,
    /// Images and snapshots.
    pub root: PathBuf,
    /// What a reboot forgets: sockets, the pid file, the configuration rendered here.
    pub state: PathBuf,
    pub socket: PathBuf,
    pub log_file: PathBuf,
    pub log_bytes_max: u64,
    /// The cgroup containerd itself runs in.
    pub cgroup: Option<String>,
    /// Cgroups are made by systemd over D-Bus instead of directly.
    pub systemd_cgroup: bool,
    pub cni_bin_dir: PathBuf,
    pub cni_conf_dir: PathBuf,
    pub snapshotter: String,
    /// `None`: restricted when the capability CAP_SYS_RESOURCE is missing.
    pub restrict_oom_score_adj: Option<bool>,
    pub sandbox_image: String,
    /// containerd's `certs.d`: mirrors, certificates and plain HTTP, one directory per registry. A registry on
    /// localhost is spoken to in plain HTTP without further settings.
    pub registry_hosts_dir: Option<PathBuf>,
    pub concurrent_downloads_max: u32,
}

impl Config {
    /// The usual settings, with all files below a directory for data and one for run-time state.
    pub fn under(data: &Path, run: &Path) -> Self {
        let state = run.join("containerd");
        Self {
            binary: "containerd".into(),
            ctr: "ctr".into(),
            runtime: "runc".into(),
            root: data.join("containerd"),
            socket: state.join("containerd.sock"),
            log_file: data.join("logs/containerd.log"),
            log_bytes_max: 4 << 20,
            cgroup: None,
            systemd_cgroup: false,
            cni_bin_dir: "/usr/lib/cni".into(),
            cni_conf_dir: run.join("cni/net.d"),
            snapshotter: "overlayfs".to_owned(),
            restrict_oom_score_adj: None,
            sandbox_image: PAUSE_IMAGE.to_owned(),
            registry_hosts_dir: None,
            concurrent_downloads_max: 3,
            state,
        }
    }

    fn config_file(&self) -> PathBuf {
        self.state.join("skiff-containerd.toml")
    }

    fn pid_file(&self) -> PathBuf {
        self.state.join("skiff-containerd.pid")
    }

    fn oom_scores(&self) -> OomScores {
        match self.restrict_oom_score_adj {
            Some(true) => OomScores::Restricted,
            Some(false) => OomScores::Free,
            None if process::may_lower_oom_scores() => OomScores::Free,
            None => OomScores::Restricted,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot start {}", binary.display())]
    Start { binary: PathBuf, source: std::io::Error },
    #[error("cannot watch the process {pid}")]
    Watch { pid: u32, source: std::io::Error },
    #[error("containerd did not answer on {} within {} s; see {log}", socket.display(), limit.as_secs())]
    NotReady { socket: PathBuf, limit: Duration, log: String },
    #[error("containerd ended at its start ({status}); see {log}")]
    Ended { status: String, log: String },
    #[error("the service manager does not {verb} containerd")]
    Unit { verb: &'static str, source: UnitError },
    #[error("cannot import the sandbox image")]
    SandboxImage { source: crate::runtime::Error },
}

/// A containerd that is kept running until `stop` is called. Dropping the supervisor leaves containerd running.
#[derive(Debug)]
pub struct Supervisor {
    config: Config,
    shutdown: CancellationToken,
    backend: Backend,
}

#[derive(Debug)]
enum Backend {
    /// We keep it running.
    Child(JoinHandle<Option<Running>>),
    /// The service manager does; the task only says what happens.
    Unit(Arc<dyn Unit>, JoinHandle<()>),
}

impl Supervisor {
    /// Starts or adopts containerd, waits until it answers, and sees to the sandbox image. With a `unit`, the service
    /// manager starts it, with the configuration that is written here.
    pub async fn start(config: Config, unit: Option<Arc<dyn Unit>>) -> Result<Self, SuperviseError> {
        let shutdown = CancellationToken::new();
        let backend = match unit {
            Some(unit) => {
                unit::ensure_running(&config, &*unit).await?;
                ensure_sandbox_image(&config).await?;
                let watcher = tokio::spawn(unit::report(config.clone(), Arc::clone(&unit), shutdown.clone()));
                Backend::Unit(unit, watcher)
            }
            None => {
                let running = child::ensure_running(&config).await?;
                ensure_sandbox_image(&config).await?;
                Backend::Child(tokio::spawn(child::keep_running(config.clone(), running, shutdown.clone())))
            }
        };
        Ok(Self { config, shutdown, backend })
    }

    pub fn client(&self) -> Containerd {
        Containerd::new(&self.config.socket, &self.config.ctr)
    }

    /// Lets go of containerd without ending it, as at an update of the agent.
    pub async fn release(self) {
        self.shutdown.cancel();
        match self.backend {
            Backend::Child(watcher) => drop(watcher.await),
            Backend::Unit(_, watcher) => drop(watcher.await),
        }
    }

    /// Ends containerd. Containers go on: their shims are not its children.
    pub async fn stop(self) -> Result<(), SuperviseError> {
        self.shutdown.cancel();
        match self.backend {
            Backend::Child(watcher) => {
                if let Ok(Some(running)) = watcher.await {
                    child::terminate(running).await;
                }
                let _ = std::fs::remove_file(self.config.pid_file());
                Ok(())
            }
            Backend::Unit(unit, watcher) => {
                let _ = watcher.await;
                unit::stop(&*unit).await
            }
        }
    }
}

/// What containerd is started with, and whether the file has it already. A running containerd has read the file, so
/// that it is ended before another is written: then a crash of ours at any point leaves no containerd with old settings.
fn configuration(config: &Config) -> (String, Change) {
    let rendered = render(config, config.oom_scores());
    let is_there = std::fs::read_to_string(config.config_file()).is_ok_and(|now| now == rendered);
    (rendered, if is_there { Change::None } else { Change::Needed })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Needed,
    None,
}

/// What containerd needs to be there besides its settings.
fn make_directories(config: &Config) -> Result<(), SuperviseError> {
    plugins::ensure(config)?;
    for dir in [&config.root, &config.cni_conf_dir] {
        std::fs::create_dir_all(dir).map_err(|source| SuperviseError::Write { path: dir.clone(), source })?;
    }
    Ok(())
}

fn write(path: &Path, data: &[u8]) -> Result<(), SuperviseError> {
    let wrap = |source| SuperviseError::Write { path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(wrap)?;
    }
    let new = path.with_extension("new");
    std::fs::write(&new, data).map_err(wrap)?;
    std::fs::rename(&new, path).map_err(wrap)
}

/// Waits until containerd answers on its socket.
async fn answers(config: &Config) {
    // One that was asked while it started may never answer that call.
    let asked = || async {
        let client = Containerd::new(&config.socket, &config.ctr);
        tokio::time::timeout(ANSWER_TIMEOUT, client.version()).await.is_ok_and(|answer| answer.is_ok())
    };
    while !asked().await {
        tokio::time::sleep(READY_POLL).await;
    }
}

async fn ensure_sandbox_image(config: &Config) -> Result<(), SuperviseError> {
    if config.sandbox_image != PAUSE_IMAGE {
        return Ok(());
    }
    let client = Containerd::new(&config.socket, &config.ctr);
    let wrap = |source| SuperviseError::SandboxImage { source };
    if client.image_status(PAUSE_IMAGE).await.map_err(wrap)?.is_some() {
        return Ok(());
    }
    let path = config.state.join("pause.tar");
    std::fs::write(&path, pause_archive()).map_err(|source| SuperviseError::Write { path: path.clone(), source })?;
    let imported = client.import_images(&path).await.map_err(wrap);
    let _ = std::fs::remove_file(&path);
    imported?;
    // The image service learns of an import through an event.
    while client.image_status(PAUSE_IMAGE).await.map_err(wrap)?.is_none() {
        tokio::time::sleep(READY_POLL).await;
    }
    Ok(())
}
