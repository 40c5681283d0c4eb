//! What pods need of the machine, and which of it is missing, with the Debian package that brings it. `missing` looks;
//! what it compares is a table. It installs nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Where programs are that are not in a user's PATH.
const SBIN: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"];
/// The runtime sets up the loopback interface by itself, whatever the network's configuration says.
const LOOPBACK: &str = "loopback";
const PLUGINS_PACKAGE: &str = "containernetworking-plugins";

/// Where to look. Nothing is required by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    /// Programs by name or path, with their package.
    pub programs: Vec<(PathBuf, &'static str)>,
    /// The runtime looks for network plugins here and nowhere else.
    pub cni_bin_dir: Option<PathBuf>,
    pub cni_conf_dir: Option<PathBuf>,
    pub features: &'static [Feature],
}

impl Requirements {
    /// What a box needs.
    pub fn of_box(containerd: &Path, runtime: &Path, cni_bin_dir: &Path, cni_conf_dir: &Path) -> Self {
        Self {
            programs: vec![(containerd.into(), "containerd"), (runtime.into(), "runc"), ("nft".into(), "nftables")],
            cni_bin_dir: Some(cni_bin_dir.into()),
            cni_conf_dir: Some(cni_conf_dir.into()),
            features: &[Feature::Overlay, Feature::BridgeNetfilter, Feature::Cgroups],
        }
    }
}

/// What the kernel must be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    Overlay,
    BridgeNetfilter,
    Cgroups,
}

impl Feature {
    fn name(self) -> &'static str {
        match self {
            Feature::Overlay => "overlayfs",
            Feature::BridgeNetfilter => "bridge netfilter (br_netfilter)",
            Feature::Cgroups => "control groups for cpu and memory",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    Program(String),
    NetworkPlugin { name: String, dir: PathBuf },
    Kernel(Feature),
}

/// Something that is not there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    pub thing: Thing,
    /// The Debian package that has it.
    pub package: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.thing {
            Thing::Program(name) => write!(f, "{name} is not installed: install {}", self.package),
            Thing::NetworkPlugin { name, dir } => {
                write!(f, "the network plugin {name} is not in {}: install {}", dir.display(), self.package)
            }
            Thing::Kernel(feature) => {
                write!(f, "the kernel has no {}: install and boot {}", feature.name(), self.package)
            }
        }
    }
}

/// What is missing now. Starts each network plugin once, to tell it from another program of its name.
pub fn missing(requirements: &Requirements) -> Vec<Missing> {
    let required = required(requirements, &conf_files(requirements));
    let present = required.iter().map(|missing| &missing.thing).filter(|thing| is_there(thing)).cloned().collect();
    select(required, &present)
}

/// Why no pod can have a network, in the words of upstream's runtime condition.
pub fn network_trouble(missing: &[Missing]) -> Option<String> {
    let plugins: Vec<_> = missing.iter().filter(|m| matches!(m.thing, Thing::NetworkPlugin { .. })).collect();
    let first = plugins.first()?;
    let Thing::NetworkPlugin { dir, .. } = &first.thing else { return None };
    let names = plugins.iter().filter_map(|m| match &m.thing {
        Thing::NetworkPlugin { name, .. } => Some(name.as_str()),
        Thing::Program(_) | Thing::Kernel(_) => None,
    });
    let names = names.collect::<Vec<_>>().join(", ");
    Some(format!(
        "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin \
         returns error: {names} not found in {}: install {}",
        dir.display(),
        first.package
    ))
}

/// All that is missing, as the node's condition tells it.
pub fn trouble(missing: &[Missing]) -> Option<String> {
    let others = missing.iter().filter(|m| !matches!(m.thing, Thing::NetworkPlugin { .. })).map(ToString::to_string);
    let all: Vec<String> = network_trouble(missing).into_iter().chain(others).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// The plugins that a network's configuration names, and the one that the runtime uses besides.
fn plugins(conf: &[String]) -> BTreeSet<String> {
    let parsed: Vec<Value> = conf.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
    let lists = parsed.iter().flat_map(|list| match list["plugins"].as_array() {
        Some(plugins) => plugins.iter().collect(),
        None => vec![list],
    });
    let types = lists.flat_map(|plugin| [&plugin["type"], &plugin["ipam"]["type"]]).filter_map(Value::as_str);
    types.map(str::to_owned).chain([LOOPBACK.to_owned()]).collect()
}

/// The texts of the network's configuration.
fn conf_files(requirements: &Requirements) -> Vec<String> {
    let dir = requirements.cni_conf_dir.iter().flat_map(fs::read_dir).flatten().flatten().map(|entry| entry.path());
    let conf = dir.filter(|path| path.extension().is_some_and(|kind| kind == "conflist" || kind == "conf"));
    conf.filter_map(|path| fs::read_to_string(path).ok()).collect()
}

fn required(requirements: &Requirements, conf: &[String]) -> Vec<Missing> {
    let programs = requirements
        .programs
        .iter()
        .map(|(program, package)| Missing { thing: Thing::Program(program.to_string_lossy().into_owned()), package });
    let plugins = requirements.cni_bin_dir.iter().flat_map(|dir| {
        plugins(conf)
            .into_iter()
            .map(|name| Missing { thing: Thing::NetworkPlugin { name, dir: dir.clone() }, package: PLUGINS_PACKAGE })
    });
    let features = requirements.features.iter().map(|feature| Missing {
        thing: Thing::Kernel(*feature),
        package: match std::env::consts::ARCH {
            "aarch64" => "linux-image-arm64",
            _ => "linux-image-amd64",
        },
    });
    programs.chain(plugins).chain(features).collect()
}

fn select(required: Vec<Missing>, present: &BTreeSet<Thing>) -> Vec<Missing> {
    required.into_iter().filter(|missing| !present.contains(&missing.thing)).collect()
}

fn is_there(thing: &Thing) -> bool {
    match thing {
        Thing::Program(name) => is_program(Path::new(name)),
        // A plugin is named by its file alone.
        Thing::NetworkPlugin { name, dir } => crate::names::is_component(name) && is_plugin(&dir.join(name)),
        Thing::Kernel(Feature::Overlay) => {
            let listed = fs::read_to_string("/proc/filesystems").unwrap_or_default();
            listed.lines().any(|line| line.trim_start_matches("nodev").trim() == "overlay") || has_module("overlay")
        }
        Thing::Kernel(Feature::BridgeNetfilter) => {
            Path::new("/proc/sys/net/bridge").is_dir() || has_module("br_netfilter")
        }
        Thing::Kernel(Feature::Cgroups) => has_controllers(Path::new("/sys/fs/cgroup")),
    }
}

fn is_program(program: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let is_executable =
        |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    if program.components().count() > 1 {
        return is_executable(program);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(SBIN.iter().map(PathBuf::from));
    dirs.map(|dir| dir.join(program)).any(|file| is_executable(&file))
}

/// Other packages have programs of the same names: a plugin says which versions of its interface it speaks.
fn is_plugin(path: &Path) -> bool {
    if !is_program(path) {
        return false;
    }
    let asked = Command::new(path)
        .env_clear()
        .env("CNI_COMMAND", "VERSION")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    asked.is_ok_and(|answer| {
        serde_json::from_slice::<Value>(&answer.stdout).is_ok_and(|told| told["supportedVersions"].is_array())
    })
}

/// Built in, loaded, or there to be loaded.
fn has_module(name: &str) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let dir = Path::new("/lib/modules").join(release.trim());
    let listed = |file: &str| lists_module(&fs::read_to_string(dir.join(file)).unwrap_or_default(), name);
    Path::new("/sys/module").join(name).is_dir() || listed("modules.builtin") || listed("modules.dep")
}

fn lists_module(text: &str, name: &str) -> bool {
    let end = format!("/{name}.ko");
    text.lines().any(|line| line.split(':').next().is_some_and(|path| path.contains(&end)))
}

fn has_controllers(root: &Path) -> bool {
    match fs::read_to_string(root.join("cgroup.controllers")) {
        Ok(controllers) => ["cpu", "memory"].iter().all(|name| controllers.split_whitespace().any(|c| c == *name)),
        Err(_) => ["cpu", "memory"].iter().all(|name| root.join(name).is_dir()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const CONFLIST: &str = r#"{"cniVersion": "0.4.0", "name": "n", "plugins": [
        {"type": "bridge", "ipam": {"type": "host-local"}}, {"type": "portmap"}]}"#;

    fn program(path: &Path, script: &str) {
        fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn the_plugins_are_those_of_the_configuration() {
        let names = |conf: &[String]| plugins(conf).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(names(&[CONFLIST.to_owned()]), "bridge host-local loopback portmap");
        assert_eq!(names(&[r#"{"type": "macvlan"}"#.to_owned(), "{".to_owned()]), "loopback macvlan");
        assert_eq!(names(&[]), "loopback");
    }

    #[test]
    fn a_plugin_is_missing_until_a_real_one_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (bin, conf) = (dir.path().join("bin"), dir.path().join("conf"));
        for made in [&bin, &conf] {
            fs::create_dir(made).unwrap();
        }
        fs::write(conf.join("10.conflist"), CONFLIST).unwrap();
        let requirements =
            Requirements { cni_bin_dir: Some(bin.clone()), cni_conf_dir: Some(conf), ..Requirements::default() };
        let real = r#"echo "{\"cniVersion\": \"1.0.0\", \"supportedVersions\": [\"0.4.0\"]}""#;
        for name in ["host-local", "loopback", "portmap"] {
            program(&bin.join(name), real);
        }
        // A program of the same name that is none: iproute2 has one.
        program(&bin.join("bridge"), "echo Usage: bridge >&2; exit 255");
        let told = trouble(&missing(&requirements)).unwrap();
        let expected = format!(
            "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network \
             plugin returns error: bridge not found in {}: install containernetworking-plugins",
            bin.display()
        );
        assert_eq!(told, expected);
        program(&bin.join("bridge"), real);
        assert_eq!(missing(&requirements), []);
    }

    #[test]
    fn programs_are_named_with_their_package() {
        let requirements = Requirements {
            programs: vec![
                ("no-such-program".into(), "that-package"),
                ("sh".into(), "dash"),
                ("/bin/sh".into(), "dash"),
            ],
            ..Requirements::default()
        };
        let told = trouble(&missing(&requirements)).unwrap();
        assert_eq!(told, "no-such-program is not installed: install that-package");
    }

    #[test]
    fn modules_are_found_in_the_kernels_lists() {
        let dep = "kernel/fs/overlayfs/overlay.ko.xz:\nkernel/net/x.ko: kernel/net/bridge/br_netfilter.ko\n";
        assert!(lists_module(dep, "overlay") && !lists_module(dep, "br_netfilter"));
    }
}
