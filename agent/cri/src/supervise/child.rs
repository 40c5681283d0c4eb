//! containerd as a process of ours, where no service manager runs it: started in a session of its own, so that it
//! outlives the agent; adopted if it runs already; started again when it dies.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio_util::sync::CancellationToken;

use super::process::{self, Running};
use super::{Change, Config, READY_TIMEOUT, SuperviseError, answers, configuration, make_directories, write};

/// After SIGTERM; containerd then has nothing left to do but close its database.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const RESTART_DELAY_MIN: Duration = Duration::from_millis(200);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(30);
/// A run as long as this makes the next restart quick again.
const RESTART_RESET: Duration = Duration::from_secs(60);
/// The log file is looked at this often; it grows slowly, as only warnings go there.
const LOG_CHECK: Duration = Duration::from_secs(600);

pub(super) async fn ensure_running(config: &Config) -> Result<Running, SuperviseError> {
    make_directories(config)?;
    let (rendered, change) = configuration(config);
    if let Some(running) = process::adopt(config)? {
        if change == Change::None && wait_ready(config, &running).await.is_ok() {
            tracing::info!(pid = running.pid(), "containerd adopted");
            return Ok(running);
        }
        tracing::info!(pid = running.pid(), "containerd restarts: its settings changed or it does not answer");
        terminate(running).await;
    }
    if change == Change::Needed {
        write(&config.config_file(), rendered.as_bytes())?;
    }
    launch(config).await
}

async fn launch(config: &Config) -> Result<Running, SuperviseError> {
    make_directories(config)?;
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

async fn wait_ready(config: &Config, running: &Running) -> Result<(), SuperviseError> {
    let log = config.log_file.display().to_string();
    tokio::select! {
        () = answers(config) => Ok(()),
        status = running.ended() => Err(SuperviseError::Ended { status, log }),
        () = tokio::time::sleep(READY_TIMEOUT) => {
            Err(SuperviseError::NotReady { socket: config.socket.clone(), limit: READY_TIMEOUT, log })
        }
    }
}

/// Waits for containerd's end and starts it again, until told to stop; then hands over what runs.
pub(super) async fn keep_running(config: Config, first: Running, shutdown: CancellationToken) -> Option<Running> {
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

pub(super) async fn terminate(running: Running) {
    let pid = Pid::from_raw(running.pid().cast_signed());
    let _ = kill(pid, Signal::SIGTERM);
    if tokio::time::timeout(STOP_TIMEOUT, running.ended()).await.is_err() {
        tracing::warn!(pid = running.pid(), "containerd does not end, killing it");
        let _ = kill(pid, Signal::SIGKILL);
        running.ended().await;
    }
}

/// The command line of a containerd of ours.
pub(super) fn command(config: &Config, log: std::fs::File) -> std::io::Result<std::process::Command> {
    let mut command = std::process::Command::new(&config.binary);
    command.arg("--config").arg(config.config_file()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command)
}

pub(super) fn describe(status: std::process::ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown status".to_owned(),
    }
}
