//! Where things are on the appliance, below a root that tests replace.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Only an image that Skiff brought has it.
pub const MARKER: &str = "usr/lib/skiff/appliance";

pub const SETTINGS_FILE: &str = "/efi/skiff.toml";

#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Where a path of the running system is below this root.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether this is the running system and not a test's directory.
    pub fn is_system(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Whether the state partition could not be mounted: then the system is in its emergency mode, and runs the screen alone.
    pub fn is_without_state(&self) -> bool {
        let device = |path: &str| std::fs::metadata(self.at(path)).map(|meta| meta.dev());
        self.is_system() && self.marker().exists() && device("/").ok() == device("/var").ok()
    }

    pub fn state_partition(&self) -> PathBuf {
        self.at("dev/disk/by-partlabel/skiff-state")
    }

    pub fn secrets(&self) -> PathBuf {
        self.at("var/lib/skiff/host/secrets")
    }

    /// The settings that were last in force.
    pub fn last_settings(&self) -> PathBuf {
        self.at("var/lib/skiff/host/skiff.toml")
    }

    /// The settings in force: what the agent runs with.
    pub fn settings(&self) -> PathBuf {
        self.at("run/skiff/skiff.toml")
    }

    /// One problem of the settings on each line.
    pub fn settings_errors(&self) -> PathBuf {
        self.at("run/skiff/settings-errors")
    }

    pub fn authorized_keys(&self) -> PathBuf {
        self.at("run/skiff/ssh/authorized_keys")
    }

    pub fn network(&self) -> PathBuf {
        self.at("run/systemd/network/10-skiff.network")
    }

    pub fn timesyncd(&self) -> PathBuf {
        self.at("run/systemd/timesyncd.conf.d/skiff.conf")
    }

    pub fn host_name(&self) -> PathBuf {
        self.at("etc/hostname")
    }

    pub fn hosts(&self) -> PathBuf {
        self.at("etc/hosts")
    }

    pub fn localtime(&self) -> PathBuf {
        self.at("etc/localtime")
    }

    pub fn zones(&self) -> PathBuf {
        self.at("usr/share/zoneinfo")
    }

    pub fn shadow(&self) -> PathBuf {
        self.at("etc/shadow")
    }

    pub fn factory_reset(&self) -> PathBuf {
        self.at("var/lib/skiff/host/factory-reset")
    }

    pub fn marker(&self) -> PathBuf {
        self.at(MARKER)
    }
}
