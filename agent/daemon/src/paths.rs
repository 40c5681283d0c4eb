//! Where things are below the data directory: the one place that knows the names.

use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub struct Paths {
    pub data_dir: PathBuf,
}

impl Paths {
    pub fn new(data_dir: &Path) -> Self {
        let absolute = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
        Self { data_dir: absolute }
    }

    fn below(&self, name: &str) -> PathBuf {
        self.data_dir.join(name)
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.below("kubeconfig.yaml")
    }

    pub fn pki(&self) -> PathBuf {
        self.below("pki")
    }

    pub fn store(&self) -> PathBuf {
        self.below("store")
    }

    /// Held while an agent runs on this data; its content is the agent's process identifier.
    pub fn lock(&self) -> PathBuf {
        self.below("agent.lock")
    }

    pub fn containerd_root(&self) -> PathBuf {
        self.below("containerd")
    }

    pub fn containerd_state(&self) -> PathBuf {
        self.below("run/containerd")
    }

    pub fn containerd_socket(&self) -> PathBuf {
        self.containerd_state().join("containerd.sock")
    }

    pub fn containerd_log(&self) -> PathBuf {
        self.below("run/containerd.log")
    }

    pub fn cni_conf(&self) -> PathBuf {
        self.below("run/cni/conf")
    }

    pub fn cni_state(&self) -> PathBuf {
        self.below("run/cni/addresses")
    }

    pub fn node(&self) -> PathBuf {
        self.below("node")
    }

    /// Where the ingress's proxy is controlled.
    pub fn ingress_control(&self) -> PathBuf {
        self.below("run/ingress/control.sock")
    }

    /// The settings that the running agent was started with.
    pub fn settings(&self) -> PathBuf {
        self.below("run/settings.toml")
    }
}
