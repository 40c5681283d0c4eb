//! What stands between the runtime and the network plugins: for each a script that hands over to the real one. Where that
//! is gone, a pod cannot be given a network, and it is said what to install; but the network of a pod that ends is let
//! go of, or the runtime would keep the pod for ever. Its bridge port ends with the pod's namespace.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Config, SuperviseError};

/// The stock plugins, which are asked for also where none is installed yet.
const STOCK: [&str; 12] = [
    "bandwidth",
    "bridge",
    "dhcp",
    "firewall",
    "host-local",
    "ipvlan",
    "loopback",
    "macvlan",
    "portmap",
    "ptp",
    "static",
    "tuning",
];

/// Below the directory for images: programs may run there, which `/run` often refuses.
pub(super) fn dir(config: &Config) -> PathBuf {
    config.root.join("skiff-cni")
}

/// Writes the scripts that are not there or say something else.
pub(super) fn ensure(config: &Config) -> Result<(), SuperviseError> {
    let dir = dir(config);
    let script = script(&config.cni_bin_dir);
    let wrap = |path: &Path, source| SuperviseError::Write { path: path.to_owned(), source };
    std::fs::create_dir_all(&dir).map_err(|source| wrap(&dir, source))?;
    for name in names(&config.cni_bin_dir) {
        let path = dir.join(name);
        if std::fs::read(&path).is_ok_and(|now| now == script.as_bytes()) {
            continue;
        }
        // A plugin may be running: the name is given to another file.
        let new = dir.join(".new");
        let written = std::fs::write(&new, &script)
            .and_then(|()| std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)))
            .and_then(|()| std::fs::rename(&new, &path));
        written.map_err(|source| wrap(&path, source))?;
    }
    Ok(())
}

fn names(bin_dir: &Path) -> BTreeSet<String> {
    let installed = std::fs::read_dir(bin_dir).into_iter().flatten().flatten();
    let installed = installed.filter_map(|entry| entry.file_name().into_string().ok());
    installed.chain(STOCK.map(str::to_owned)).collect()
}

fn script(bin_dir: &Path) -> String {
    let quoted = bin_dir.to_string_lossy().replace('\'', r"'\''");
    format!(
        r#"#!/bin/sh
# Written by skiff at each start: changes are lost.
dir='{quoted}'
name=${{0##*/}}
[ -x "$dir/$name" ] && exec "$dir/$name"
if [ "$CNI_COMMAND" = DEL ]; then
    # The address is given back by whoever gave it.
    [ "$name" = bridge ] && [ -x "$dir/host-local" ] && exec "$dir/host-local"
    exit 0
fi
echo "{{\"cniVersion\": \"0.4.0\", \"code\": 999, \"msg\": \"network plugin $name not found: install containernetworking-plugins\"}}"
exit 1
"#
    )
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};

    use super::*;

    fn run(path: &Path, command: &str) -> Output {
        Command::new(path).env("CNI_COMMAND", command).output().unwrap()
    }

    #[test]
    fn a_plugin_is_stood_in_for_as_long_as_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::under(&dir.path().join("data"), &dir.path().join("run"));
        config.cni_bin_dir = dir.path().join("it's here");
        ensure(&config).unwrap();
        let script = super::dir(&config).join("bridge");
        let failed = run(&script, "ADD");
        assert!(!failed.status.success());
        assert!(String::from_utf8_lossy(&failed.stdout).contains("network plugin bridge not found: install"));
        assert!(run(&script, "DEL").status.success());
        std::fs::create_dir(&config.cni_bin_dir).unwrap();
        std::fs::copy("/bin/echo", config.cni_bin_dir.join("bridge")).unwrap();
        assert_eq!(run(&script, "ADD").stdout, b"\n");
        ensure(&config).unwrap();
        assert_eq!(run(&script, "DEL").stdout, b"\n");
    }
}
