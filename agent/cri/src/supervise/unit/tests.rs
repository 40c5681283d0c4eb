//! A service manager of a few lines, which runs the real containerd.

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::*;
use crate::{Runtime, Supervisor};

/// Does as systemd does for `skiff-containerd.service`, but starts nothing by itself.
#[derive(Debug)]
struct Manager {
    config: Config,
    child: Mutex<Option<Child>>,
    asked: Mutex<Vec<&'static str>>,
}

impl Manager {
    fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self { config: config.clone(), child: Mutex::default(), asked: Mutex::default() })
    }

    fn launch(&self) {
        let mut command = Command::new(&self.config.binary);
        command.arg("--config").arg(self.config.config_file()).stdout(Stdio::null()).stderr(Stdio::null());
        *self.child.lock().unwrap() = Some(command.spawn().unwrap());
    }

    fn end(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn take_asked(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn process(&self) -> Option<u32> {
        self.child.lock().unwrap().as_ref().map(Child::id)
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.end();
    }
}

impl Unit for Manager {
    fn state(&self) -> BoxFuture<'_, Result<UnitState, UnitError>> {
        let state = self.process().map_or(UnitState::Inactive, |process| UnitState::Active { process });
        Box::pin(async move { Ok(state) })
    }

    fn start(&self) -> BoxFuture<'_, Result<(), UnitError>> {
        self.asked.lock().unwrap().push("start");
        self.launch();
        Box::pin(async { Ok(()) })
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), UnitError>> {
        self.asked.lock().unwrap().push("stop");
        self.end();
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn the_service_manager_runs_containerd() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::under(&dir.path().join("data"), &dir.path().join("run"));
    let manager = Manager::new(&config);
    let start = |config: &Config| Supervisor::start(config.clone(), Some(manager.clone()));

    let supervisor = start(&config).await.unwrap();
    assert_eq!(manager.take_asked(), ["stop", "start"], "what ran before had read another file");
    assert!(supervisor.client().version().await.is_ok());
    assert!(!config.pid_file().exists(), "no process of ours");
    supervisor.release().await;

    let first = manager.process();
    start(&config).await.unwrap().release().await;
    assert_eq!((manager.take_asked(), manager.process()), (Vec::new(), first), "the same settings: it is left alone");

    // It hangs, and is not left at that.
    let hung = nix::unistd::Pid::from_raw(first.unwrap().cast_signed());
    nix::sys::signal::kill(hung, nix::sys::signal::Signal::SIGSTOP).unwrap();
    // The signal is on its way to each of its threads: until then they answer.
    while !std::fs::read_to_string(format!("/proc/{hung}/stat")).unwrap().contains(") T ") {
        tokio::time::sleep(READY_POLL).await;
    }
    start(&config).await.unwrap().release().await;
    assert_eq!(manager.take_asked(), ["stop", "start"]);

    config.concurrent_downloads_max += 1;
    let supervisor = start(&config).await.unwrap();
    assert_eq!(manager.take_asked(), ["stop", "start"]);

    // It dies: we wait for the service manager.
    manager.end();
    let client = supervisor.client();
    assert!(client.version().await.is_err());
    manager.launch();
    tokio::time::timeout(READY_TIMEOUT, answers(&config)).await.unwrap();
    assert_eq!(manager.take_asked(), Vec::<&str>::new(), "we ask for nothing");

    supervisor.stop().await.unwrap();
    assert_eq!(manager.take_asked(), ["stop"]);
    assert!(client.version().await.is_err());
}
