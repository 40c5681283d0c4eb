//! Where things are: the one place that knows the names. What lasts is below the data directory, what a reboot forgets
//! below the run directory.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Where a box keeps its data unless it is told otherwise.
pub const DATA_DIR: &str = "/var/lib/skiff";
/// The run directory of the box with the default data directory: on a tmpfs, so that a reboot empties it.
const RUN_DIR: &str = "/run/skiff";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

#[derive(Clone, Debug)]
pub struct Paths {
    pub data_dir: PathBuf,
    /// Sockets, the runtime's state, what was rendered at the start.
    pub run_dir: PathBuf,
}

impl Paths {
    pub fn new(data_dir: &Path) -> Self {
        let data_dir = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
        let run_dir = if data_dir == Path::new(DATA_DIR) { RUN_DIR.into() } else { data_dir.join("run") };
        Self { data_dir, run_dir }
    }

    /// Whether this is the box that the system's own units and directories are for.
    pub fn is_default(&self) -> bool {
        self.data_dir == Path::new(DATA_DIR)
    }

    /// Makes the data directory, for root alone: keys, Secrets and what pods write are in it.
    pub fn prepare_data_dir(&self) -> anyhow::Result<()> {
        let only_root = std::fs::Permissions::from_mode(0o700);
        std::fs::create_dir_all(&self.data_dir)
            .and_then(|()| std::fs::set_permissions(&self.data_dir, only_root))
            .with_context(|| format!("cannot prepare the directory {}", self.data_dir.display()))
    }

    /// Makes the run directory, without what an earlier boot left there: its sockets, process identifiers and tasks
    /// mean something else now. To be called with the lock held, before anything else uses the directory.
    pub fn prepare_run_dir(&self) -> anyhow::Result<()> {
        let boot = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
        prepare_run_dir(&self.run_dir, boot.trim())
            .with_context(|| format!("cannot prepare the directory {}", self.run_dir.display()))
    }

    fn below(&self, name: &str) -> PathBuf {
        self.data_dir.join(name)
    }

    fn running(&self, name: &str) -> PathBuf {
        self.run_dir.join(name)
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.below("kubeconfig.yaml")
    }

    pub fn pki(&self) -> PathBuf {
        self.below("pki")
    }

    pub fn audit_log(&self) -> PathBuf {
        self.below("audit.log")
    }

    pub fn store(&self) -> PathBuf {
        self.below("store")
    }

    /// What Secrets are encrypted with in the database: not in its folder.
    pub fn sealing_key(&self) -> PathBuf {
        self.below("secrets.key")
    }

    /// Held while an agent runs on this data; its content is the agent's process identifier.
    pub fn lock(&self) -> PathBuf {
        self.below("agent.lock")
    }

    pub fn containerd_root(&self) -> PathBuf {
        self.below("containerd")
    }

    pub fn containerd_state(&self) -> PathBuf {
        self.running("containerd")
    }

    pub fn containerd_socket(&self) -> PathBuf {
        self.containerd_state().join("containerd.sock")
    }

    pub fn containerd_log(&self) -> PathBuf {
        self.running("containerd.log")
    }

    pub fn cni_conf(&self) -> PathBuf {
        self.running("cni/conf")
    }

    pub fn cni_state(&self) -> PathBuf {
        self.running("cni/addresses")
    }

    pub fn node(&self) -> PathBuf {
        self.below("node")
    }

    /// Where the ingress's proxy is controlled.
    pub fn ingress_control(&self) -> PathBuf {
        self.running("ingress/control.sock")
    }

    /// The one-time code for the console, for root alone.
    pub fn code(&self) -> PathBuf {
        self.running("code")
    }

    /// What the machine is called in the home network, such as `skiff-2.local`.
    pub fn local_name(&self) -> PathBuf {
        self.running("local-name")
    }

    /// SHA-256 of the box CA's certificate.
    pub fn ca_fingerprint(&self) -> PathBuf {
        self.running("ca-fingerprint")
    }

    /// The settings that the running agent was started with.
    pub fn settings(&self) -> PathBuf {
        self.running("settings.toml")
    }
}

/// `boot` names this boot of the machine. It is remembered on the disk before anything else comes into the directory.
fn prepare_run_dir(dir: &Path, boot: &str) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let file = dir.join("boot-id");
    match std::fs::read_to_string(&file) {
        Ok(remembered) if remembered == boot => return Ok(()),
        // Mounts do not outlive a boot: where there are some, the content is of this one.
        Ok(_) if !skiff_host::mounts::is_mounted_below(dir) => remove_content(dir)?,
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))?;
    let whole = dir.join("boot-id.new");
    let mut new = std::fs::File::create(&whole)?;
    new.write_all(boot.as_bytes())?;
    new.sync_all()?;
    std::fs::rename(whole, file)?;
    std::fs::File::open(dir)?.sync_all()
}

/// Everything but the directory itself, which may be a mount point.
fn remove_content(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_default_box_runs_below_run() {
        assert_eq!(Paths::new(Path::new("/var/lib/skiff")).run_dir, Path::new("/run/skiff"));
        assert_eq!(Paths::new(Path::new("/srv/box")).run_dir, Path::new("/srv/box/run"));
    }

    #[test]
    fn another_boot_starts_with_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        prepare_run_dir(&run, "first").unwrap();
        std::fs::create_dir_all(run.join("containerd/tasks")).unwrap();
        std::fs::write(run.join("containerd/containerd.pid"), "1").unwrap();
        std::os::unix::fs::symlink("/", run.join("link")).unwrap();
        prepare_run_dir(&run, "first").unwrap();
        assert!(run.join("containerd/containerd.pid").exists(), "the same boot keeps everything");

        prepare_run_dir(&run, "second").unwrap();
        let left: Vec<_> = std::fs::read_dir(&run).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["boot-id"]);
        assert!(Path::new("/proc").exists(), "a link is removed, not followed");
    }

    #[test]
    fn what_a_power_cut_left_of_the_name_is_another_boot() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("boot-id"), "").unwrap();
        std::fs::write(dir.path().join("settings.toml"), "").unwrap();
        prepare_run_dir(dir.path(), "second").unwrap();
        assert!(!dir.path().join("settings.toml").exists());
    }
}
