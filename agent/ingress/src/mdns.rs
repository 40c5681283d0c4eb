//! Names of the home network: hosts below `.local` are announced by avahi, where it runs, with the box's address.
//! Scope: node. <https://avahi.org/doxygen/html/> (`org.freedesktop.Avahi`).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use skiff_reconcile::{BoxError, Informer, Next, Reconciler, Scope};
use tokio::sync::watch;
use zbus::names::OwnedInterfaceName;
use zbus::{Connection, Proxy};

use crate::routes;

const SERVICE: &str = "org.freedesktop.Avahi";
const BUS: &str = "/run/dbus/system_bus_socket";
/// Avahi may be started, or started again, at any time.
const CHECK_INTERVAL: Duration = Duration::from_secs(300);
/// Avahi's words for "every interface", "every protocol", and a record that does not claim the reverse name.
const ANY: i32 = -1;
const NO_REVERSE: u32 = 16;

pub struct Announcer {
    pub address: IpAddr,
    /// Announced besides the hosts of Ingresses.
    pub local_domain: String,
    pub ingresses: Informer<Ingress>,
    pub classes: Informer<IngressClass>,
    pub announced: Option<Announced>,
    /// The name that avahi announces by itself for this machine, which is another when somebody had it first.
    pub host_name: Arc<HostName>,
    /// The same, for who is not in this process.
    pub host_name_file: PathBuf,
}

/// A name that may become another at any time.
#[derive(Debug)]
pub struct HostName {
    name: Mutex<Option<String>>,
    generation: watch::Sender<u64>,
}

impl Default for HostName {
    fn default() -> Self {
        Self { name: Mutex::default(), generation: watch::Sender::new(0) }
    }
}

impl HostName {
    pub fn get(&self) -> Option<String> {
        self.name.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it is another.
    fn set(&self, name: Option<String>) -> bool {
        let before = std::mem::replace(&mut *self.name.lock().unwrap_or_else(PoisonError::into_inner), name.clone());
        if before == name {
            return false;
        }
        self.generation.send_modify(|generation| *generation += 1);
        true
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

/// Records live as long as the connection that made them.
pub struct Announced {
    names: BTreeSet<String>,
    connection: Connection,
    group: zbus::wire::OwnedObjectPath,
}

/// The names that mDNS is for: RFC 6762. A wildcard cannot be announced. The machine's own names are avahi's to announce:
/// a second record would be a conflict, which would take the other names with it.
pub fn names(hosts: impl Iterator<Item = String>, local_domain: &str, own: &[String]) -> BTreeSet<String> {
    let all = hosts.chain([local_domain.to_owned()]).map(|h| h.to_lowercase());
    all.filter(|h| h.ends_with(".local") && !h.contains('*') && !own.contains(h)).collect()
}

impl Announcer {
    fn wanted(&self, own: &[String]) -> BTreeSet<String> {
        let classes = self.classes.list();
        let ingresses = self.ingresses.list();
        let ours = ingresses.iter().filter(|i| routes::is_ours(i, &classes));
        let rules = ours.flat_map(|i| i.spec.iter().flat_map(|s| s.rules.iter().flatten()));
        names(rules.filter_map(|r| r.host.clone()), &self.local_domain, own)
    }

    async fn announce(&self, names: BTreeSet<String>) -> zbus::Result<Announced> {
        let connection = Connection::system().await?;
        let server = interface(&connection, "/", "Server").await?;
        let group: zbus::wire::OwnedObjectPath = server.call("EntryGroupNew", &()).await?;
        let entries = interface(&connection, group.as_str(), "EntryGroup").await?;
        for name in &names {
            let address = self.address.to_string();
            let added: zbus::Result<()> =
                entries.call("AddAddress", &(ANY, ANY, NO_REVERSE, name.as_str(), address.as_str())).await;
            if let Err(error) = added {
                tracing::warn!(name, %error, "the name is not announced");
            }
        }
        let () = entries.call("Commit", &()).await?;
        tracing::info!(names = names.len(), "names announced by mDNS");
        Ok(Announced { names, connection, group })
    }

    async fn is_current(&self, names: &BTreeSet<String>) -> bool {
        let Some(announced) = &self.announced else { return false };
        if announced.names != *names {
            return false;
        }
        let state = async {
            let entries = interface(&announced.connection, announced.group.as_str(), "EntryGroup").await?;
            entries.call::<_, _, i32>("GetState", &()).await
        };
        state.await.is_ok()
    }
}

/// What avahi calls this machine, such as `skiff.local`, or `skiff-2.local` after a conflict.
async fn host_name() -> zbus::Result<String> {
    let connection = Connection::system().await?;
    let server = interface(&connection, "/", "Server").await?;
    let name: String = server.call("GetHostNameFqdn", &()).await?;
    Ok(name.to_lowercase())
}

async fn interface<'a>(connection: &Connection, path: &'a str, name: &str) -> zbus::Result<Proxy<'a>> {
    let interface = OwnedInterfaceName::try_from(format!("{SERVICE}.{name}"))?;
    Proxy::new(connection, SERVICE, path.to_owned(), interface).await
}

impl Reconciler for Announcer {
    const NAME: &'static str = "mdns";
    const SCOPE: Scope = Scope::Node;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        if !std::path::Path::new(BUS).exists() {
            self.announced = None;
            return Ok(Next::After(CHECK_INTERVAL));
        }
        let avahi = match host_name().await {
            Ok(name) => Some(name),
            Err(error) => {
                tracing::debug!(%error, "avahi tells no name");
                None
            }
        };
        // The name it is configured with may be another box's now.
        let configured = nix::unistd::gethostname().ok().map(|name| name.to_string_lossy().to_lowercase());
        let own: Vec<String> =
            configured.map(|name| format!("{name}.local")).into_iter().chain(avahi.clone()).collect();
        if self.host_name.set(avahi.clone()) {
            let told = format!("{}\n", avahi.unwrap_or_default());
            skiff_host::files::replace_volatile(&self.host_name_file, told.as_bytes(), 0o644)?;
        }
        let names = self.wanted(&own);
        if !self.is_current(&names).await {
            // The old names go with their connection.
            self.announced = None;
            match self.announce(names).await {
                Ok(announced) => self.announced = Some(announced),
                Err(error) => tracing::debug!(%error, "avahi does not announce names"),
            }
        }
        Ok(Next::After(CHECK_INTERVAL))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_what_mdns_is_for() {
        let names = |own: &[&str]| {
            let hosts = ["App.skiff.local", "*.skiff.local", "example.org", "local"].map(str::to_owned);
            let own: Vec<String> = own.iter().map(|name| (*name).to_owned()).collect();
            super::names(hosts.into_iter(), "skiff.local", &own).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["app.skiff.local", "skiff.local"]);
        assert_eq!(names(&["box.local"]), ["app.skiff.local", "skiff.local"]);
        // Another box had the name first.
        assert_eq!(names(&["skiff.local", "skiff-2.local"]), ["app.skiff.local"]);
    }

    #[test]
    fn a_new_name_is_noticed() {
        let name = super::HostName::default();
        let mut changes = name.changes();
        name.set(Some("skiff.local".to_owned()));
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        name.set(Some("skiff.local".to_owned()));
        assert!(!changes.has_changed().unwrap());
        assert_eq!(name.get().as_deref(), Some("skiff.local"));
    }
}
