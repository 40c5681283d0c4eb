//! What a fresh Debian or Ubuntu machine lacks, and installing it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::command;

/// Something that has to be there, and the package that brings it.
#[derive(Clone, Copy, Debug)]
pub struct Needed {
    pub what: What,
    pub package: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub enum What {
    /// A program in one of the [`PROGRAM_DIRS`], and arguments with which it does nothing but start.
    Program(&'static str, &'static [&'static str]),
    /// A program that is called by its path, such as a CNI plugin: others may have its name. The first that is there
    /// counts.
    ProgramAt(&'static [&'static str]),
    /// A module of Debian's Python.
    Python(&'static str),
    /// A file.
    File(&'static str),
}

/// Where distributions put programs.
const PROGRAM_DIRS: &[&str] = &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
const PYTHON: &str = "/usr/bin/python3";
const PYTHON_MODULES: &str = "/usr/lib/python3/dist-packages";

const VERSION: &[&str] = &["--version"];

const fn program(name: &'static str, arguments: &'static [&'static str], package: &'static str) -> Needed {
    Needed { what: What::Program(name, arguments), package }
}

const fn plugin(places: &'static [&'static str]) -> Needed {
    Needed { what: What::ProgramAt(places), package: "containernetworking-plugins" }
}

const fn python(module: &'static str, package: &'static str) -> Needed {
    Needed { what: What::Python(module), package }
}

const fn file(path: &'static str, package: &'static str) -> Needed {
    Needed { what: What::File(path), package }
}

/// To run a box.
pub const BOX: &[Needed] = &[
    program("containerd", VERSION, "containerd"),
    program("runc", VERSION, "runc"),
    plugin(&["/usr/lib/cni/bridge"]),
    plugin(&["/usr/lib/cni/host-local"]),
    plugin(&["/usr/lib/cni/loopback"]),
    program("nft", VERSION, "nftables"),
    program("ip", &["-V"], "iproute2"),
];

/// To build the demo's image and to fetch its page.
pub const DEMO: &[Needed] = &[program("busybox", &["true"], "busybox-static"), CURL];

const CURL: Needed = program("curl", VERSION, "curl");
const NGINX: Needed = program("nginx", &["-v"], "nginx-light");
const OPENSSL: Needed = program("openssl", &["version"], "openssl");
const HAPROXY: Needed = program("haproxy", &["-v"], "haproxy");
const REGISTRY: Needed = program("docker-registry", VERSION, "docker-registry");
const SKOPEO: Needed = program("skopeo", VERSION, "skopeo");
const UNSHARE: Needed = program("unshare", VERSION, "util-linux");
const WRK: Needed = program("wrk", &["-v"], "wrk");
const H2LOAD: Needed = program("h2load", VERSION, "nghttp2-client");
const MMDEBSTRAP: Needed = program("mmdebstrap", VERSION, "mmdebstrap");
const KEYRING: Needed = file("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring");
const MCOPY: Needed = program("mcopy", VERSION, "mtools");
const ZSTD: Needed = program("zstd", VERSION, "zstd");

/// To run the tests.
pub const TESTS: &[Needed] = &[
    CURL,
    NGINX,
    REGISTRY,
    SKOPEO,
    UNSHARE,
    OPENSSL,
    HAPROXY,
    program("pebble", &["-h"], "pebble"),
    program("knotd", VERSION, "knot"),
    program("apache2", &["-v"], "apache2-bin"),
    program("node", VERSION, "nodejs"),
    WRK,
    H2LOAD,
    python("grpc", "python3-grpcio"),
    python("websockets", "python3-websockets"),
    MMDEBSTRAP,
    KEYRING,
];

/// What [`kubectl`] takes where the distribution has a current one.
pub const KUBECTL: &[Needed] = &[program("kubectl", &["version", "--client"], "kubectl")];

/// To run the stock clients.
pub const CLIENTS: &[Needed] = &[REGISTRY, SKOPEO, UNSHARE, MMDEBSTRAP, KEYRING];

/// To build an image.
pub const IMAGE: &[Needed] = &[
    MMDEBSTRAP,
    KEYRING,
    program("mksquashfs", &["-version"], "squashfs-tools"),
    program("veritysetup", VERSION, "cryptsetup-bin"),
    program("sfdisk", VERSION, "fdisk"),
    program("mkfs.vfat", &["--help"], "dosfstools"),
    MCOPY,
    ZSTD,
    program("ssh-keygen", &["-?"], "openssh-client"),
    OPENSSL,
    UNSHARE,
    program("qemu-aarch64-static", VERSION, "qemu-user-static"),
];

/// To build the agent for arm64 with this machine's Rust.
pub const CROSS: &[Needed] =
    &[program("aarch64-linux-gnu-gcc", VERSION, "gcc-aarch64-linux-gnu"), program("cmake", VERSION, "cmake")];

/// To run the benchmarks' peers.
pub const BENCHMARKS: &[Needed] = &[
    program("etcd", VERSION, "etcd-server"),
    program("podman", VERSION, "podman"),
    WRK,
    H2LOAD,
    OPENSSL,
    CURL,
    NGINX,
    HAPROXY,
    program("caddy", &["version"], "caddy"),
];

/// To start an image in a virtual machine; QEMU itself is looked at by `ensure_qemu`.
pub const MACHINE: &[Needed] =
    &[CURL, program("ssh", &["-V"], "openssh-client"), MCOPY, ZSTD, program("busybox", &["true"], "busybox-static")];

impl Needed {
    /// Where it is.
    fn find(&self) -> Option<PathBuf> {
        self.places().into_iter().find(|place| place.exists())
    }

    fn places(&self) -> Vec<PathBuf> {
        match self.what {
            What::Program(name, _) => PROGRAM_DIRS.iter().map(|dir| Path::new(dir).join(name)).collect(),
            What::ProgramAt(places) => places.iter().map(PathBuf::from).collect(),
            What::Python(module) => {
                let modules = Path::new(PYTHON_MODULES);
                vec![modules.join(module), modules.join(format!("{module}.py"))]
            }
            What::File(path) => vec![path.into()],
        }
    }

    /// Starts it, where it can be started. A program that starts and dislikes its arguments has started.
    fn start(&self) -> anyhow::Result<()> {
        let place = self.find().with_context(|| format!("{} is not there", self.shown()))?;
        let command = match self.what {
            What::File(_) => return Ok(()),
            What::Python(module) => {
                let mut command = Command::new(PYTHON);
                command.args(["-c", &format!("import {module}")]);
                command
            }
            What::Program(_, arguments) => {
                let mut command = Command::new(&place);
                command.args(arguments);
                command
            }
            What::ProgramAt(_) => Command::new(&place),
        };
        let done = command::output(command)?;
        let said = format!("{}{}", done.stdout, done.stderr);
        let broken = ["error while loading shared libraries", "ModuleNotFoundError", "ImportError"];
        if broken.iter().any(|words| said.contains(words)) {
            bail!("{} does not start: {said}", place.display());
        }
        Ok(())
    }

    fn shown(&self) -> String {
        let places: Vec<String> = self.places().iter().map(|place| place.display().to_string()).collect();
        match self.what {
            What::Program(name, _) => name.to_owned(),
            What::ProgramAt(_) | What::Python(_) | What::File(_) => places.join(" or "),
        }
    }
}

/// QEMU 7 crashes guests at random; what Debian 12 has in backports does not.
const QEMU_MAJOR_MIN: u32 = 10;
const QEMU_PACKAGES: &[&str] = &["qemu-system-x86", "qemu-system-arm", "qemu-efi-aarch64", "ovmf", "qemu-utils"];

/// A QEMU that is good enough, from backports where the distribution's own is not. Backports are not added to this
/// machine's sources.
pub fn ensure_qemu(dir: &Path) -> anyhow::Result<()> {
    let version = command::run("qemu-system-x86_64", ["--version"]).unwrap_or_default();
    let major = version.split_whitespace().nth(3).and_then(|v| v.split('.').next()?.parse::<u32>().ok());
    let firmware = ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/AAVMF/AAVMF_CODE.fd"];
    if major >= Some(QEMU_MAJOR_MIN) && firmware.iter().all(|file| Path::new(file).exists()) {
        return Ok(());
    }
    println!("missing: QEMU {QEMU_MAJOR_MIN} with UEFI firmware; installing with apt");
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let mut arguments = vec!["install", "-y", "-q", "--no-install-recommends"];
    if !release.contains("VERSION_CODENAME=bookworm") {
        apt(&["update", "-q"])?;
        arguments.extend(QEMU_PACKAGES);
        return apt(&arguments);
    }
    let lists = dir.join("backports");
    std::fs::create_dir_all(lists.join("lists/partial"))?;
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let suites = ["bookworm", "bookworm-updates", "bookworm-backports"];
    let sources: String =
        suites.iter().map(|s| format!("deb [signed-by={keyring}] http://deb.debian.org/debian {s} main\n")).collect();
    std::fs::write(lists.join("sources.list"), sources)?;
    let options = [
        format!("-oDir::Etc::sourcelist={}", lists.join("sources.list").display()),
        "-oDir::Etc::sourceparts=-".to_owned(),
        format!("-oDir::State::lists={}", lists.join("lists").display()),
        "-oAPT::Sandbox::User=root".to_owned(),
    ];
    let with_options = |more: &[&'static str]| {
        let all: Vec<&str> = options.iter().map(String::as_str).chain(more.iter().copied()).collect();
        apt(&all)
    };
    with_options(&["update", "-q"])?;
    arguments.extend(["-t", "bookworm-backports"]);
    arguments.extend(QEMU_PACKAGES);
    with_options(&arguments)
}

/// Says what is missing and installs it through apt.
pub fn ensure(lists: &[&[Needed]]) -> anyhow::Result<()> {
    let missing = missing(lists);
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().map(|needed| needed.package).collect();
    packages.sort_unstable();
    packages.dedup();
    let packages_shown = packages.join(" ");
    println!("missing: {packages_shown}; installing with apt");
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("this machine has no apt: install {packages_shown} yourself");
    }
    apt(&["update", "-q"])?;
    let mut arguments = vec!["install", "-y", "-q", "--no-install-recommends"];
    arguments.extend(&packages);
    apt(&arguments)?;
    match self::missing(lists).first() {
        Some(needed) => bail!("apt installed {}, and {} is still not there", needed.package, needed.shown()),
        None => Ok(()),
    }
}

fn missing(lists: &[&[Needed]]) -> Vec<Needed> {
    lists.concat().into_iter().filter(|needed| needed.find().is_none()).collect()
}

/// Starts everything that is needed once, to see that it does.
pub fn start_all(lists: &[&[Needed]]) -> anyhow::Result<usize> {
    let all = lists.concat();
    for needed in &all {
        needed.start()?;
    }
    Ok(all.len())
}

fn apt(arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("/usr/bin/apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    // Services that packages would start are none of ours.
    let policy = Path::new("/usr/sbin/policy-rc.d");
    let ours = !policy.exists() && std::fs::write(policy, "#!/bin/sh\nexit 101\n").is_ok();
    if ours {
        command::run("chmod", ["755", "/usr/sbin/policy-rc.d"])?;
    }
    let done = command::output(command);
    if ours {
        let _ = std::fs::remove_file(policy);
    }
    let done = done?;
    if done.ok { Ok(()) } else { bail!("apt-get {} failed: {}{}", arguments.join(" "), done.stdout, done.stderr) }
}

/// A current stock kubectl: the one on the PATH, or Debian's newest stable, unpacked below `dir`.
pub fn kubectl(dir: &Path) -> anyhow::Result<PathBuf> {
    const MINOR_MIN: u32 = 31;
    if let Ok(text) = command::run("kubectl", ["version", "--client", "-o", "json"]) {
        let version: serde_json::Value = serde_json::from_str(&text)?;
        let minor = version["clientVersion"]["minor"].as_str().unwrap_or_default();
        let minor: u32 = minor.trim_end_matches('+').parse().unwrap_or(0);
        if minor >= MINOR_MIN {
            return Ok("kubectl".into());
        }
    }
    let unpacked = dir.join("usr/bin/kubectl");
    if unpacked.exists() {
        return Ok(unpacked);
    }
    println!("missing: a current kubectl; unpacking Debian trixie's below {}", dir.display());
    std::fs::create_dir_all(dir.join("apt/lists/partial"))?;
    let sources = dir.join("apt/sources.list");
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    std::fs::write(&sources, format!("deb [signed-by={keyring}] http://deb.debian.org/debian trixie main\n"))?;
    let option = |key: &str, path: &Path| format!("{key}={}", path.display());
    let options = [
        option("Dir::Etc::sourcelist", &sources),
        "Dir::Etc::sourceparts=-".to_owned(),
        option("Dir::State::lists", &dir.join("apt/lists")),
        "APT::Sandbox::User=root".to_owned(),
    ];
    let apt_get = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.current_dir(dir).args(options.iter().flat_map(|o| ["-o", o.as_str()])).args(arguments);
        let done = command::output(command)?;
        if done.ok { Ok(()) } else { bail!("apt-get {}: {}{}", arguments.join(" "), done.stdout, done.stderr) }
    };
    apt_get(&["update", "-q"])?;
    apt_get(&["download", "-q", "kubectl/trixie"])?;
    let package =
        std::fs::read_dir(dir)?.flatten().map(|e| e.path()).find(|p| p.extension().is_some_and(|e| e == "deb"));
    let package = package.context("apt downloaded no package")?;
    command::run("dpkg-deb", [OsString::from("-x"), package.into_os_string(), dir.as_os_str().to_owned()])?;
    Ok(unpacked)
}
