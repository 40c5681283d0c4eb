//! What a fresh Debian or Ubuntu machine lacks, and installing it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::command;

/// A program that has to be there, and the package that brings it.
#[derive(Clone, Copy, Debug)]
pub struct Needed {
    pub program: &'static str,
    pub package: &'static str,
}

const fn needed(program: &'static str, package: &'static str) -> Needed {
    Needed { program, package }
}

/// To run a box.
pub const BOX: &[Needed] = &[
    needed("/usr/bin/containerd", "containerd"),
    needed("/usr/sbin/runc", "runc"),
    needed("/usr/lib/cni/bridge", "containernetworking-plugins"),
    needed("/usr/sbin/nft", "nftables"),
    needed("/bin/ip", "iproute2"),
];

/// To build the demo's image and to fetch its page.
pub const DEMO: &[Needed] = &[needed("/bin/busybox", "busybox-static"), needed("/usr/bin/curl", "curl")];

/// To run the tests.
pub const TESTS: &[Needed] = &[
    needed("/usr/bin/curl", "curl"),
    needed("/usr/sbin/nginx", "nginx-light"),
    needed("/usr/bin/docker-registry", "docker-registry"),
    needed("/usr/bin/skopeo", "skopeo"),
    needed("/usr/bin/unshare", "util-linux"),
    needed("/usr/bin/openssl", "openssl"),
    needed("/usr/sbin/haproxy", "haproxy"),
    needed("/usr/bin/pebble", "pebble"),
    needed("/usr/sbin/knotd", "knot"),
    needed("/usr/sbin/apache2", "apache2-bin"),
    needed("/usr/bin/node", "nodejs"),
    needed("/usr/bin/wrk", "wrk"),
    needed("/usr/bin/h2load", "nghttp2-client"),
    needed("/usr/lib/python3/dist-packages/grpc", "python3-grpcio"),
    needed("/usr/lib/python3/dist-packages/websockets", "python3-websockets"),
];

/// What [`kubectl`] takes where the distribution has a current one.
pub const KUBECTL: &[Needed] = &[needed("/usr/bin/kubectl", "kubectl")];

/// To build an image.
pub const IMAGE: &[Needed] = &[
    needed("/usr/bin/mmdebstrap", "mmdebstrap"),
    needed("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"),
    needed("/usr/bin/mksquashfs", "squashfs-tools"),
    needed("/usr/sbin/veritysetup", "cryptsetup-bin"),
    needed("/usr/sbin/sfdisk", "fdisk"),
    needed("/usr/sbin/mkfs.vfat", "dosfstools"),
    needed("/usr/bin/mcopy", "mtools"),
    needed("/usr/bin/zstd", "zstd"),
    needed("/usr/bin/ssh-keygen", "openssh-client"),
    needed("/usr/bin/openssl", "openssl"),
    needed("/usr/bin/unshare", "util-linux"),
    needed("/usr/bin/qemu-aarch64-static", "qemu-user-static"),
];

/// To build the agent for arm64 with this machine's Rust.
pub const CROSS: &[Needed] =
    &[needed("/usr/bin/aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"), needed("/usr/bin/cmake", "cmake")];

/// To run the benchmarks' peers.
pub const BENCHMARKS: &[Needed] = &[
    needed("/usr/bin/etcd", "etcd-server"),
    needed("/usr/bin/podman", "podman"),
    needed("/usr/bin/wrk", "wrk"),
    needed("/usr/bin/h2load", "nghttp2-client"),
    needed("/usr/bin/openssl", "openssl"),
    needed("/usr/bin/curl", "curl"),
    needed("/usr/sbin/nginx", "nginx-light"),
    needed("/usr/sbin/haproxy", "haproxy"),
    needed("/usr/bin/caddy", "caddy"),
];

/// To start an image in a virtual machine; QEMU itself is looked at by `ensure_qemu`.
pub const MACHINE: &[Needed] = &[
    needed("/usr/bin/curl", "curl"),
    needed("/usr/bin/ssh", "openssh-client"),
    needed("/usr/bin/mcopy", "mtools"),
    needed("/usr/bin/zstd", "zstd"),
    needed("/bin/busybox", "busybox-static"),
];

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

/// Programs that distributions put in one of several places.
fn is_there(program: &str) -> bool {
    let name = Path::new(program).file_name().map(PathBuf::from).unwrap_or_default();
    let places = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/lib/cni", "/opt/cni/bin"];
    Path::new(program).exists() || places.iter().any(|dir| Path::new(dir).join(&name).exists())
}

/// Says what is missing and installs it through apt.
pub fn ensure(lists: &[&[Needed]]) -> anyhow::Result<()> {
    let missing: Vec<&str> =
        lists.iter().flat_map(|list| list.iter()).filter(|n| !is_there(n.program)).map(|n| n.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("missing: {}; installing with apt", missing.join(" "));
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("this machine has no apt: install {} yourself", missing.join(" "));
    }
    apt(&["update", "-q"])?;
    let mut arguments = vec!["install", "-y", "-q", "--no-install-recommends"];
    arguments.extend(&missing);
    apt(&arguments)
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
