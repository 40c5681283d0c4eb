//! systemd's manager over D-Bus: what a unit is doing, starting and stopping it.
//! <https://www.freedesktop.org/software/systemd/man/latest/org.freedesktop.systemd1.html>

use std::path::Path;

use zbus::wire::OwnedObjectPath;
use zbus::{Connection, Proxy};

const SERVICE: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "/org/freedesktop/systemd1";
/// Queued jobs that contradict ours are replaced.
const MODE: &str = "replace";

#[derive(Debug, thiserror::Error)]
#[error("systemd cannot {verb} {unit}")]
pub struct SystemdError {
    verb: &'static str,
    unit: String,
    #[source]
    source: Box<zbus::Error>,
}

/// `LoadState`, `ActiveState` and `MainPID` of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub is_loaded: bool,
    pub active: Active,
    /// Zero: none.
    pub main_process: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Active {
    Active,
    /// Reloading, activating or deactivating.
    Changing,
    Inactive,
    Failed,
}

/// Whether systemd is this machine's service manager (sd_booted(3)).
pub fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The manager of the system, through the system bus. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Systemd {
    connection: Connection,
}

impl Systemd {
    pub async fn connect() -> Result<Self, SystemdError> {
        let failed =
            |source| SystemdError { verb: "be reached for", unit: "units".to_owned(), source: Box::new(source) };
        Ok(Self { connection: Connection::system().await.map_err(failed)? })
    }

    pub async fn service(&self, unit: &str) -> Result<Service, SystemdError> {
        self.observe(unit).await.map_err(|source| SystemdError::new("show", unit, source))
    }

    /// The answer means that a job is queued, not that it is done.
    pub async fn start(&self, unit: &str) -> Result<(), SystemdError> {
        self.queue("StartUnit", unit).await.map_err(|source| SystemdError::new("start", unit, source))
    }

    /// As `start`.
    pub async fn stop(&self, unit: &str) -> Result<(), SystemdError> {
        self.queue("StopUnit", unit).await.map_err(|source| SystemdError::new("stop", unit, source))
    }

    async fn queue(&self, method: &str, unit: &str) -> zbus::Result<()> {
        let manager = self.interface(MANAGER, "Manager").await?;
        manager.call::<_, _, OwnedObjectPath>(method, &(unit, MODE)).await.map(drop)
    }

    async fn observe(&self, unit: &str) -> zbus::Result<Service> {
        let manager = self.interface(MANAGER, "Manager").await?;
        // Unlike GetUnit, it also knows units that are not in memory.
        let path: OwnedObjectPath = manager.call("LoadUnit", &(unit,)).await?;
        let general = self.interface(path.as_str(), "Unit").await?;
        let load: String = general.get_property("LoadState").await?;
        let active: String = general.get_property("ActiveState").await?;
        let service = self.interface(path.as_str(), "Service").await?;
        Ok(Service {
            is_loaded: load == "loaded",
            active: Active::parse(&active),
            main_process: service.get_property("MainPID").await?,
        })
    }

    async fn interface<'a>(&self, path: &'a str, name: &str) -> zbus::Result<Proxy<'a>> {
        let interface = zbus::names::OwnedInterfaceName::try_from(format!("{SERVICE}.{name}"))?;
        // Properties are asked for when they are wanted: a cache would listen for ever.
        let proxy = zbus::proxy::Builder::new(&self.connection).destination(SERVICE).path(path).interface(interface);
        proxy.cache_properties(zbus::proxy::CacheProperties::No).build().await
    }
}

impl SystemdError {
    fn new(verb: &'static str, unit: &str, source: zbus::Error) -> Self {
        Self { verb, unit: unit.to_owned(), source: Box::new(source) }
    }
}

impl Active {
    fn parse(state: &str) -> Self {
        match state {
            "active" => Active::Active,
            "failed" => Active::Failed,
            "inactive" => Active::Inactive,
            // "reloading", "activating", "deactivating", "maintenance", and what later versions add.
            _ => Active::Changing,
        }
    }
}

#[cfg(test)]
mod tests;
