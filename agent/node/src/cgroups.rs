//! The cgroups of pods, for cgroup v1 and v2: `PARENT[/burstable|/besteffort]/podUID`. This file alone makes, sets and
//! removes them; the runtime makes those of the containers below.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::resources::{Amounts, CPU_PERIOD_US, Qos, cpu_quota_us, cpu_shares};

const ROOT: &str = "/sys/fs/cgroup";
/// The v1 hierarchies in which a pod's limits are set; runc makes what else it needs.
const V1_CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// The cgroups below one parent.
#[derive(Clone, Debug)]
pub struct Cgroups {
    root: PathBuf,
    parent: String,
    version: Version,
}

impl Cgroups {
    pub fn new(parent: &str) -> Self {
        Self::at(Path::new(ROOT), parent)
    }

    fn at(root: &Path, parent: &str) -> Self {
        let version = if root.join("cgroup.controllers").exists() { Version::V2 } else { Version::V1 };
        Self { root: root.to_owned(), parent: format!("/{}", parent.trim_matches('/')), version }
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// The pod's cgroup as the runtime wants it.
    pub fn path(&self, qos: Qos, uid: &str) -> String {
        match qos {
            Qos::Guaranteed => format!("{}/pod{uid}", self.parent),
            Qos::Burstable => format!("{}/burstable/pod{uid}", self.parent),
            Qos::BestEffort => format!("{}/besteffort/pod{uid}", self.parent),
        }
    }

    /// Makes the pod's cgroup and sets its limits.
    pub fn ensure(&self, qos: Qos, uid: &str, requests: Amounts, limits: Amounts) -> io::Result<()> {
        let path = self.path(qos, uid);
        match self.version {
            Version::V1 => self.ensure_v1(&path, requests, limits),
            Version::V2 => self.ensure_v2(&path, requests, limits),
        }
    }

    fn ensure_v1(&self, path: &str, requests: Amounts, limits: Amounts) -> io::Result<()> {
        for controller in V1_CONTROLLERS {
            if self.root.join(controller).is_dir() {
                fs::create_dir_all(join(&self.root.join(controller), path))?;
            }
        }
        let cpu = join(&self.root.join("cpu"), path);
        set(&cpu.join("cpu.shares"), &cpu_shares(requests.cpu_milli.unwrap_or(0)).to_string())?;
        if let Some(limit) = limits.cpu_milli {
            set(&cpu.join("cpu.cfs_period_us"), &CPU_PERIOD_US.to_string())?;
            set(&cpu.join("cpu.cfs_quota_us"), &cpu_quota_us(limit).to_string())?;
        }
        if let Some(limit) = limits.memory_bytes {
            set(&join(&self.root.join("memory"), path).join("memory.limit_in_bytes"), &limit.to_string())?;
        }
        Ok(())
    }

    fn ensure_v2(&self, path: &str, requests: Amounts, limits: Amounts) -> io::Result<()> {
        let dir = join(&self.root, path);
        fs::create_dir_all(&dir)?;
        self.delegate(path)?;
        // The v2 weight for the v1 shares, the formula runc uses.
        let shares = cpu_shares(requests.cpu_milli.unwrap_or(0));
        let weight = 1 + (shares - 2) * 9999 / 262_142;
        set(&dir.join("cpu.weight"), &weight.to_string())?;
        if let Some(limit) = limits.cpu_milli {
            set(&dir.join("cpu.max"), &format!("{} {CPU_PERIOD_US}", cpu_quota_us(limit)))?;
        }
        if let Some(limit) = limits.memory_bytes {
            set(&dir.join("memory.max"), &limit.to_string())?;
        }
        Ok(())
    }

    /// Switches the controllers on in every cgroup above the pod's.
    fn delegate(&self, path: &str) -> io::Result<()> {
        let mut dir = self.root.clone();
        for part in path.trim_matches('/').split('/') {
            let available = fs::read_to_string(dir.join("cgroup.controllers"))?;
            for controller in
                available.split_whitespace().filter(|c| matches!(*c, "cpu" | "memory" | "pids" | "io" | "cpuset"))
            {
                // A controller that cannot be delegated here limits nothing below, which runc then reports.
                let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
            }
            dir.push(part);
        }
        Ok(())
    }

    /// The pods that have a cgroup, whatever their quality of service.
    pub fn pods(&self) -> Vec<String> {
        let base = match self.version {
            Version::V1 => self.root.join("memory"),
            Version::V2 => self.root.clone(),
        };
        let parent = join(&base, &self.parent);
        let dirs = [parent.clone(), parent.join("burstable"), parent.join("besteffort")];
        let names = dirs.iter().flat_map(fs::read_dir).flatten().flatten();
        names.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("pod").map(str::to_owned)).collect()
    }

    /// Removes the pod's cgroups; what is busy stays for the next time.
    pub fn remove(&self, uid: &str) {
        for qos in [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort] {
            let path = self.path(qos, uid);
            match self.version {
                Version::V1 => {
                    for hierarchy in fs::read_dir(&self.root).into_iter().flatten().flatten() {
                        remove_tree(&join(&hierarchy.path(), &path));
                    }
                }
                Version::V2 => remove_tree(&join(&self.root, &path)),
            }
        }
    }

    /// Current memory use of a pod, in bytes.
    pub fn memory_usage(&self, qos: Qos, uid: &str) -> Option<u64> {
        let path = self.path(qos, uid);
        let file = match self.version {
            Version::V1 => join(&self.root.join("memory"), &path).join("memory.usage_in_bytes"),
            Version::V2 => join(&self.root, &path).join("memory.current"),
        };
        fs::read_to_string(file).ok()?.trim().parse().ok()
    }
}

fn join(base: &Path, path: &str) -> PathBuf {
    base.join(path.trim_start_matches('/'))
}

/// Writes only what differs: some of these files make the kernel work.
fn set(file: &Path, value: &str) -> io::Result<()> {
    if fs::read_to_string(file).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    match fs::write(file, value) {
        // A kernel without this limit: the pod runs without it, as upstream does.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn remove_tree(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_the_quality_of_service() {
        let cgroups = Cgroups::at(Path::new("/nowhere"), "skiff/pods/");
        assert_eq!(cgroups.path(Qos::Guaranteed, "u"), "/skiff/pods/podu");
        assert_eq!(cgroups.path(Qos::BestEffort, "u"), "/skiff/pods/besteffort/podu");
        assert_eq!(cgroups.version(), Version::V1);
    }

    #[test]
    fn limits_are_written_and_the_pod_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        for controller in V1_CONTROLLERS {
            fs::create_dir(dir.path().join(controller)).unwrap();
        }
        let cgroups = Cgroups::at(dir.path(), "/box");
        let limits = Amounts { cpu_milli: Some(500), memory_bytes: Some(1 << 20) };
        cgroups.ensure(Qos::Burstable, "u", limits, limits).unwrap();
        let read = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap();
        assert_eq!(read("cpu/box/burstable/podu/cpu.cfs_quota_us"), "50000");
        assert_eq!(read("memory/box/burstable/podu/memory.limit_in_bytes"), "1048576");
        assert_eq!(cgroups.pods(), ["u"]);
    }
}
