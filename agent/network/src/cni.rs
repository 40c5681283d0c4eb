//! The configuration that the container runtime's CNI plugins follow. The agent makes the bridge, the plugins connect
//! pods to it; addresses outside and service addresses are the nftables table's business.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{Config, NetworkError};

const FILE: &str = "10-skiff.conflist";
/// Where the runtime keeps what the plugins answered until a pod's network is taken down. It cannot be set.
const RESULTS: &str = "/var/lib/cni/results";
/// What the runtime calls the loopback interface's network.
const LOOPBACK: &str = "cni-loopback";

pub(crate) fn write(config: &Config) -> Result<(), NetworkError> {
    let path = config.cni_conf_dir.join(FILE);
    let failed = |source| NetworkError::Cni { path: path.clone(), source };
    std::fs::create_dir_all(&config.cni_conf_dir).map_err(failed)?;
    std::fs::create_dir_all(&config.cni_state_dir).map_err(failed)?;
    let text = render(config);
    if std::fs::read_to_string(&path).is_ok_and(|current| current == text) {
        return Ok(());
    }
    std::fs::write(&path, text).map_err(failed)
}

/// Removes results that a power cut has left empty: the runtime does not flush them, with one it cannot read it never takes
/// the pod's network down, and the pod is never gone. Without one it does.
pub(crate) fn remove_damaged_results(config: &Config) {
    for path in damaged(Path::new(RESULTS), &[&config.bridge, LOOPBACK]) {
        match std::fs::remove_file(&path) {
            Ok(()) => tracing::info!(path = %path.display(), "damaged network result removed"),
            Err(error) => tracing::warn!(%error, path = %path.display(), "damaged network result not removed"),
        }
    }
}

/// Files of these networks that hold no JSON.
fn damaged(dir: &Path, networks: &[&str]) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let ours = files.filter(|file| {
        let name = file.file_name();
        let rest = networks.iter().find_map(|network| name.to_str()?.strip_prefix(network));
        rest.is_some_and(|rest| rest.starts_with('-'))
    });
    let is_damaged =
        |path: &PathBuf| std::fs::read(path).is_ok_and(|content| serde_json::from_slice::<Value>(&content).is_err());
    ours.map(|file| file.path()).filter(is_damaged).collect()
}

fn render(config: &Config) -> String {
    let list = json!({
        "cniVersion": "0.4.0",
        "name": config.bridge,
        "plugins": [{
            "type": "bridge",
            "bridge": config.bridge,
            "isGateway": true,
            "ipMasq": false,
            "hairpinMode": true,
            "mtu": config.mtu,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": config.node_range.to_string(), "gateway": config.gateway().to_string()}]],
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": config.cni_state_dir,
            },
        }],
    });
    format!("{list:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_damaged_results_of_our_networks_are_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = [
            ("skiff0-a-eth0", "{\"kind\": \"cniCacheV1\"}"),
            ("skiff0-b-eth0", ""),
            ("skiff0-c-eth0", "{\"kind\": \"cni"),
            ("cni-loopback-b-lo", "\0\0"),
            ("skiff01-d-eth0", ""),
            ("podman-e-eth0", ""),
        ];
        for (name, content) in files {
            std::fs::write(dir.path().join(name), content).expect("a file");
        }
        let mut found = damaged(dir.path(), &["skiff0", LOOPBACK]);
        found.sort();
        assert_eq!(found, ["cni-loopback-b-lo", "skiff0-b-eth0", "skiff0-c-eth0"].map(|name| dir.path().join(name)));
        assert!(damaged(&dir.path().join("none"), &["skiff0"]).is_empty());
    }
}
