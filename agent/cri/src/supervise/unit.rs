//! containerd as a unit of the service manager, which starts it, starts it again when it dies, and keeps its log. Here
//! its configuration is written, it is asked for, and what happens to it is said.

use std::fmt::Debug;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::process::Running;
use super::{
    Change, Config, READY_POLL, READY_TIMEOUT, SuperviseError, answers, configuration, make_directories, write,
};

/// A cold start on a slow card with many containers to load: the unit's own limit.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// The service manager's own limit for a stop is shorter; then it kills, and the unit has failed.
const STOP_TIMEOUT: Duration = Duration::from_secs(100);
const STOP_POLL: Duration = Duration::from_millis(100);
/// While containerd is down, which the service manager ends soon; nothing is asked while it runs.
const BACK_POLL: Duration = Duration::from_secs(1);
const LOG: &str = "`journalctl -u skiff-containerd`";

pub type UnitError = Box<dyn std::error::Error + Send + Sync>;

/// One unit, as the service manager shows it. What it is asked to do is begun, not done, at the answer.
pub trait Unit: Debug + Send + Sync {
    fn state(&self) -> BoxFuture<'_, Result<UnitState, UnitError>>;
    fn start(&self) -> BoxFuture<'_, Result<(), UnitError>>;
    fn stop(&self) -> BoxFuture<'_, Result<(), UnitError>>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitState {
    /// On its way up or down.
    Changing,
    Active {
        process: u32,
    },
    Inactive,
    Failed,
}

pub(super) async fn ensure_running(config: &Config, unit: &dyn Unit) -> Result<(), SuperviseError> {
    make_directories(config)?;
    let (rendered, change) = configuration(config);
    let state = unit.state().await.map_err(|source| SuperviseError::Unit { verb: "show", source })?;
    match (state, change) {
        (UnitState::Active { .. }, Change::None) => {
            if tokio::time::timeout(READY_TIMEOUT, answers(config)).await.is_err() {
                tracing::error!("containerd runs and does not answer, it is started again");
                stop(unit).await?;
                start(unit).await?;
            }
        }
        (UnitState::Changing | UnitState::Inactive | UnitState::Failed, Change::None) => start(unit).await?,
        (UnitState::Active { .. } | UnitState::Changing | UnitState::Inactive | UnitState::Failed, Change::Needed) => {
            stop(unit).await?;
            write(&config.config_file(), rendered.as_bytes())?;
            start(unit).await?;
        }
    }
    let not_ready =
        SuperviseError::NotReady { socket: config.socket.clone(), limit: START_TIMEOUT, log: LOG.to_owned() };
    let ready = async {
        answers(config).await;
        active(unit, READY_POLL).await
    };
    let process = tokio::time::timeout(START_TIMEOUT, ready).await.map_err(|_| not_ready)?;
    tracing::info!(pid = process, "containerd runs as a unit");
    Ok(())
}

/// Waits until the unit is active, and names its process.
async fn active(unit: &dyn Unit, poll: Duration) -> u32 {
    loop {
        match unit.state().await {
            Ok(UnitState::Active { process }) => return process,
            Ok(UnitState::Changing | UnitState::Inactive | UnitState::Failed) | Err(_) => {
                tokio::time::sleep(poll).await
            }
        }
    }
}

/// Says when containerd ends and when it is back. Starting it is the service manager's.
pub(super) async fn report(config: Config, unit: std::sync::Arc<dyn Unit>, shutdown: CancellationToken) {
    let follow = async {
        loop {
            let process = active(&*unit, BACK_POLL).await;
            let Ok(running) = Running::watch(process, None) else {
                // It ended between the two looks.
                tokio::time::sleep(BACK_POLL).await;
                continue;
            };
            running.ended().await;
            tracing::error!(pid = process, "containerd ended, the service manager starts it again");
            tokio::time::sleep(BACK_POLL).await;
            answers(&config).await;
            tracing::info!("containerd answers again");
        }
    };
    tokio::select! {
        () = follow => {}
        () = shutdown.cancelled() => {}
    }
}

async fn start(unit: &dyn Unit) -> Result<(), SuperviseError> {
    unit.start().await.map_err(|source| SuperviseError::Unit { verb: "start", source })
}

pub(super) async fn stop(unit: &dyn Unit) -> Result<(), SuperviseError> {
    let wrap = |source| SuperviseError::Unit { verb: "stop", source };
    unit.stop().await.map_err(wrap)?;
    let stopped = async {
        while let UnitState::Active { .. } | UnitState::Changing = unit.state().await? {
            tokio::time::sleep(STOP_POLL).await;
        }
        Ok(())
    };
    match tokio::time::timeout(STOP_TIMEOUT, stopped).await {
        Ok(done) => done.map_err(wrap),
        Err(late) => Err(wrap(late.into())),
    }
}

#[cfg(test)]
mod tests;
