//! A manager with one service, on the other end of a private connection.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use zbus::connection::Builder;

use super::*;

const UNIT: &str = "skiff-containerd.service";
const PATH: &str = "/org/freedesktop/systemd1/unit/skiff_2dcontainerd_2eservice";
const ABSENT: &str = "/org/freedesktop/systemd1/unit/absent";

#[derive(Clone, Default)]
struct Fake {
    state: Arc<Mutex<&'static str>>,
}

struct Manager(Fake);
struct Unit(Fake);
struct Process(Fake);

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    fn load_unit(&self, name: &str) -> OwnedObjectPath {
        OwnedObjectPath::try_from(if name == UNIT { PATH } else { ABSENT }).unwrap()
    }

    fn start_unit(&self, name: &str, mode: &str) -> zbus::fdo::Result<OwnedObjectPath> {
        self.change(name, mode, "active")
    }

    fn stop_unit(&self, name: &str, mode: &str) -> zbus::fdo::Result<OwnedObjectPath> {
        self.change(name, mode, "inactive")
    }
}

impl Manager {
    fn change(&self, name: &str, mode: &str, state: &'static str) -> zbus::fdo::Result<OwnedObjectPath> {
        if (name, mode) != (UNIT, "replace") {
            return Err(zbus::fdo::Error::Failed(format!("Unit {name} not found.")));
        }
        *self.0.state.lock().unwrap() = state;
        Ok(OwnedObjectPath::try_from("/org/freedesktop/systemd1/job/1").unwrap())
    }
}

#[zbus::interface(name = "org.freedesktop.systemd1.Unit")]
impl Unit {
    #[zbus(property)]
    fn load_state(&self) -> String {
        "loaded".to_owned()
    }

    #[zbus(property)]
    fn active_state(&self) -> String {
        (*self.0.state.lock().unwrap()).to_owned()
    }
}

#[zbus::interface(name = "org.freedesktop.systemd1.Service")]
impl Process {
    #[zbus(property, name = "MainPID")]
    fn main_pid(&self) -> u32 {
        if *self.0.state.lock().unwrap() == "active" { 42 } else { 0 }
    }
}

async fn pair(fake: &Fake) -> (Connection, Systemd) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let guid = zbus::Guid::generate();
    let server = Builder::unix_stream(theirs)
        .server(guid)
        .p2p()
        .serve_at(MANAGER, Manager(fake.clone()))
        .serve_at(PATH, Unit(fake.clone()))
        .serve_at(PATH, Process(fake.clone()));
    let client = Builder::unix_stream(ours).p2p();
    let (server, client) = tokio::try_join!(server.build(), client.build()).unwrap();
    (server, Systemd { connection: client })
}

#[tokio::test]
async fn a_service_is_shown_started_and_stopped() {
    let fake = Fake::default();
    *fake.state.lock().unwrap() = "failed";
    let (_server, systemd) = pair(&fake).await;
    let shown = |active, main_process| Service { is_loaded: true, active, main_process };
    assert_eq!(systemd.service(UNIT).await.unwrap(), shown(Active::Failed, 0));
    systemd.start(UNIT).await.unwrap();
    assert_eq!(systemd.service(UNIT).await.unwrap(), shown(Active::Active, 42));
    *fake.state.lock().unwrap() = "deactivating";
    assert_eq!(systemd.service(UNIT).await.unwrap().active, Active::Changing);
    systemd.stop(UNIT).await.unwrap();
    assert_eq!(systemd.service(UNIT).await.unwrap(), shown(Active::Inactive, 0));
    let error = systemd.start("other.service").await.unwrap_err();
    assert_eq!(error.to_string(), "systemd cannot start other.service");
}
