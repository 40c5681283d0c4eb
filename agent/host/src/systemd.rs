//! The service manager, over D-Bus: starts and stops the units that the agent supervises.
//! <https://www.freedesktop.org/wiki/Software/systemd/dbus/>

use std::path::Path;

use zbus::proxy;

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<zbus::OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<zbus::OwnedObjectPath>;
    fn reload(&self) -> zbus::Result<()>;
}

#[derive(Debug, thiserror::Error)]
#[error("systemd did not {action} {unit}")]
pub struct SystemdError {
    action: &'static str,
    unit: String,
    #[source]
    source: zbus::Error,
}

/// Whether systemd is PID 1: the directory exists only then (sd_booted(3)).
pub fn is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Starts a unit whose file was just written, or leaves it running.
pub async fn start(unit: &str) -> Result<(), SystemdError> {
    let failed = |source| SystemdError { action: "start", unit: unit.to_owned(), source };
    let connection = zbus::Connection::system().await.map_err(failed)?;
    let manager = ManagerProxy::new(&connection).await.map_err(failed)?;
    manager.reload().await.map_err(failed)?;
    manager.start_unit(unit, "replace").await.map_err(failed).map(drop)
}

pub async fn stop(unit: &str) -> Result<(), SystemdError> {
    let failed = |source| SystemdError { action: "stop", unit: unit.to_owned(), source };
    let connection = zbus::Connection::system().await.map_err(failed)?;
    let manager = ManagerProxy::new(&connection).await.map_err(failed)?;
    manager.stop_unit(unit, "replace").await.map_err(failed).map(drop)
}
