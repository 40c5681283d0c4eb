//! Runs containerd where no service manager does: starts it in a session of its own, so that it outlives the agent;
//! adopts the one that runs already; starts it again when it dies. Containers are never touched: their shims are
//! processes of their own. On the appliance systemd has this duty instead.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::containerd::Containerd;
use crate::pause::{PAUSE_IMAGE, pause_archive};
use crate::runtime::Runtime;

mod process;
mod render;

pub use render::{OomScores, render};

use process::Running;

/// A cold start of containerd on a slow card with many containers to load.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
const READY_POLL: Duration = Duration::from_millis(20);
/// After SIGTERM; containerd then has nothing left to do but close its database.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const RESTART_DELAY_MIN: Duration = Duration::from_millis(200);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(30);
/// A run as long as this makes the next restart quick again.
const RESTART_RESET: Duration = Duration::from_secs(60);
/// The log file is looked at this often; it grows slowly, as only warnings go there.
const LOG_CHECK: Duration = Duration::from_secs(600);

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
    #[error("containerd did not answer on {} within {} s; see {}", socket.display(), READY_TIMEOUT.as_secs(), log.display())]
    NotReady { socket: PathBuf, log: PathBuf },
    #[error("containerd ended at its start ({status}); see {}", log.display())]
    Ended { status: String, log: PathBuf },
    #[error("cannot import the sandbox image")]
    SandboxImage { source: crate::runtime::Error },
}

/// A containerd that is kept running until `stop` is called. Dropping the supervisor leaves containerd running.
#[derive(Debug)]
pub struct Supervisor {
    config: Config,
    shutdown: CancellationToken,
    watcher: JoinHandle<Option<Running>>,
}

impl Supervisor {
    /// Starts or adopts containerd, waits until it answers, and sees to the sandbox image.
    pub async fn start(config: Config) -> Result<Self, SuperviseError> {
        let running = ensure_running(&config).await?;
        ensure_sandbox_image(&config).await?;
        let shutdown = CancellationToken::new();
        let watcher = tokio::spawn(keep_running(config.clone(), running, shutdown.clone()));
        Ok(Self { config, shutdown, watcher })
    }

    pub fn client(&self) -> Containerd {
        Containerd::new(&self.config.socket, &self.config.ctr)
    }

    /// Lets go of containerd without ending it, as at an update of the agent.
    pub async fn release(self) {
        self.shutdown.cancel();
        let _ = self.watcher.await;
    }

    /// Ends containerd. Containers go on: their shims are not its children.
    pub async fn stop(self) {
        self.shutdown.cancel();
        if let Ok(Some(running)) = self.watcher.await {
            terminate(running).await;
        }
        let _ = std::fs::remove_file(self.config.pid_file());
    }
}

async fn ensure_running(config: &Config) -> Result<Running, SuperviseError> {
    let rendered = render(config, config.oom_scores());
    let changed = std::fs::read_to_string(config.config_file()).map_or(true, |now| now != rendered);
    if let Some(running) = process::adopt(config)? {
        if !changed && wait_ready(config, &running).await.is_ok() {
            tracing::info!(pid = running.pid(), "containerd adopted");
            return Ok(running);
        }
        tracing::info!(pid = running.pid(), "containerd restarts: its settings changed or it does not answer");
        terminate(running).await;
    }
    if changed {
        write(&config.config_file(), rendered.as_bytes())?;
    }
    launch(config).await
}

async fn launch(config: &Config) -> Result<Running, SuperviseError> {
    for dir in [&config.root, &config.cni_conf_dir] {
        std::fs::create_dir_all(dir).map_err(|source| SuperviseError::Write { path: dir.clone(), source })?;
    }
    process::bound_log(&config.log_file, config.log_bytes_max);
    let running = process::spawn(config)?;
    write(&config.pid_file(), running.pid().to_string().as_bytes())?;
    match wait_ready(config, &running).await {
        Ok(()) => {
            tracing::info!(pid = running.pid(), "containerd started");
            Ok(running)
        }
        Err(error) => {
            terminate(running).await;
            Err(error)
        }
    }
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

async fn wait_ready(config: &Config, running: &Running) -> Result<(), SuperviseError> {
    let client = Containerd::new(&config.socket, &config.ctr);
    let answers = async {
        while client.version().await.is_err() {
            tokio::time::sleep(READY_POLL).await;
        }
    };
    tokio::select! {
        () = answers => Ok(()),
        status = running.ended() => Err(SuperviseError::Ended { status, log: config.log_file.clone() }),
        () = tokio::time::sleep(READY_TIMEOUT) => {
            Err(SuperviseError::NotReady { socket: config.socket.clone(), log: config.log_file.clone() })
        }
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

/// Waits for containerd's end and starts it again, until told to stop; then hands over what runs.
async fn keep_running(config: Config, first: Running, shutdown: CancellationToken) -> Option<Running> {
    let mut current = Some(first);
    let mut delay = RESTART_DELAY_MIN;
    while let Some(running) = current.take() {
        let since = tokio::time::Instant::now();
        tokio::select! {
            status = running.ended() => tracing::error!(status, "containerd ended, will start it again"),
            () = bound_log_now_and_then(&config) => {}
            () = shutdown.cancelled() => return Some(running),
        }
        if since.elapsed() >= RESTART_RESET {
            delay = RESTART_DELAY_MIN;
        }
        while current.is_none() {
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = shutdown.cancelled() => return None,
            }
            delay = (delay * 2).min(RESTART_DELAY_MAX);
            match launch(&config).await {
                Ok(running) => current = Some(running),
                Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "containerd does not start"),
            }
        }
    }
    None
}

async fn bound_log_now_and_then(config: &Config) {
    loop {
        tokio::time::sleep(LOG_CHECK).await;
        process::bound_log(&config.log_file, config.log_bytes_max);
    }
}

async fn terminate(running: Running) {
    let pid = Pid::from_raw(running.pid().cast_signed());
    let _ = kill(pid, Signal::SIGTERM);
    if tokio::time::timeout(STOP_TIMEOUT, running.ended()).await.is_err() {
        tracing::warn!(pid = running.pid(), "containerd does not end, killing it");
        let _ = kill(pid, Signal::SIGKILL);
        running.ended().await;
    }
}

/// Shared by `process`: both halves of the command line of a containerd of ours.
fn command(config: &Config, log: std::fs::File) -> std::io::Result<std::process::Command> {
    let mut command = std::process::Command::new(&config.binary);
    command.arg("--config").arg(config.config_file()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command)
}

fn describe(status: std::process::ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown status".to_owned(),
    }
}
