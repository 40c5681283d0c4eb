//! The Debian package, for people who keep their own Debian: the same program and units, and nothing of the appliance.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arch::Arch;
use crate::files::{put, write};
use crate::run;

const UNITS: &[&str] = &["skiff.service", "skiff-containerd.service"];

/// Enables and starts the agent; on an upgrade restarts it, which leaves the pods alone.
const POSTINST: &str = r#"#!/bin/sh
set -e
if [ "$1" = configure ]; then
    # Whom the proxy runs as; without it, it takes a number that nobody has.
    systemd-sysusers skiff.conf >/dev/null || true
    if deb-systemd-helper --quiet was-enabled skiff.service; then
        deb-systemd-helper enable skiff.service >/dev/null || true
    fi
    if [ -d /run/systemd/system ]; then
        systemctl --system daemon-reload >/dev/null || true
        # Also after a removal, which leaves the configuration. The pods go on while the agent is replaced.
        deb-systemd-invoke restart skiff.service || true
    fi
fi
"#;

const PRERM: &str = r#"#!/bin/sh
set -e
if [ "$1" = remove ] || [ "$1" = deconfigure ]; then
    if [ -d /run/systemd/system ]; then deb-systemd-invoke stop skiff.service || true; fi
    # Pods, runtime, addresses and rules go; the data stays.
    if [ -d /var/lib/skiff ]; then /usr/bin/skiff down || true; fi
fi
"#;

const POSTRM: &str = r#"#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then systemctl --system daemon-reload >/dev/null || true; fi
if [ "$1" = purge ]; then
    deb-systemd-helper purge skiff.service >/dev/null || true
    rmdir --ignore-fail-on-non-empty /etc/skiff 2>/dev/null || true
    if [ -d /var/lib/skiff ]; then echo "The data of the box stays in /var/lib/skiff: delete it if nobody needs it."; fi
fi
"#;

pub struct Input<'a> {
    pub arch: Arch,
    pub agent: &'a Path,
    pub host_agent: &'a Path,
    pub output: &'a Path,
    pub epoch: u64,
    pub work: &'a Path,
}

pub fn make(input: &Input<'_>) -> anyhow::Result<PathBuf> {
    let tree = input.work.join("deb");
    run::fresh_dir(&tree)?;
    let project = run::project();
    let put = |from: &Path, to: &str, mode: u32| put(from, &tree.join(to), mode);
    put(input.agent, "usr/bin/skiff", 0o755)?;
    for unit in UNITS {
        put(&project.join("systemd").join(unit), &format!("usr/lib/systemd/system/{unit}"), 0o644)?;
    }
    put(&project.join("systemd/sysusers.d/skiff.conf"), "usr/lib/sysusers.d/skiff.conf", 0o644)?;
    put(&project.join("config/skiff.toml"), "etc/skiff/skiff.toml", 0o644)?;
    put(&project.join("LICENSE"), "usr/share/doc/skiff/copyright", 0o644)?;
    let agent = input.host_agent.to_string_lossy();
    for (shell, file) in [
        ("bash", "usr/share/bash-completion/completions/skiff"),
        ("zsh", "usr/share/zsh/vendor-completions/_skiff"),
        ("fish", "usr/share/fish/vendor_completions.d/skiff.fish"),
    ] {
        write(&tree.join(file), &run::run(&agent, ["completion", shell])?, 0o644)?;
    }
    let man = tree.join("usr/share/man/man1");
    std::fs::create_dir_all(&man)?;
    run::run(&agent, [OsString::from("man"), man.clone().into_os_string()])?;
    for page in std::fs::read_dir(&man)?.flatten() {
        run::run("gzip", ["-9", "-n", &page.path().to_string_lossy()])?;
    }
    write(&tree.join("DEBIAN/control"), control(input.arch, &std::fs::read(input.agent)?), 0o644)?;
    write(&tree.join("DEBIAN/conffiles"), "/etc/skiff/skiff.toml\n", 0o644)?;
    for (name, script) in [("postinst", POSTINST), ("prerm", PRERM), ("postrm", POSTRM)] {
        write(&tree.join("DEBIAN").join(name), script, 0o755)?;
    }
    let package = input.output.join(format!("skiff_{}_{}.deb", env!("CARGO_PKG_VERSION"), input.arch.name()));
    let (from, to) = (tree.to_string_lossy(), package.to_string_lossy());
    let mut command = Command::new("dpkg-deb");
    command.args(["--build", "--root-owner-group", &from, &to]).env("SOURCE_DATE_EPOCH", input.epoch.to_string());
    run::command(&mut command)?;
    Ok(package)
}

/// deb-control(5). The C library's version is the newest that the program asks for.
fn control(arch: Arch, program: &[u8]) -> String {
    format!(
        "Package: skiff\nVersion: {version}\nArchitecture: {arch}\nMaintainer: The Skiff project <skiff@skiff.invalid>\n\
         Section: admin\nPriority: optional\n\
         Depends: libc6 (>= {libc}), containerd (>= 1.6) | containerd.io, runc | containerd.io, \
         containernetworking-plugins, nftables, iproute2, init-system-helpers, systemd\n\
         Recommends: avahi-daemon, ca-certificates\n\
         Description: one box, a home server that runs Kubernetes manifests\n \
         An agent that embeds the Kubernetes API, its controllers and scheduler, the node\n \
         agent over containerd, service addresses, cluster DNS, and an ingress with\n \
         certificates.\n",
        version = env!("CARGO_PKG_VERSION"),
        arch = arch.name(),
        libc = libc_version(program),
    )
}

/// `GLIBC_2.34` and the like stand as text in a program that needs them.
fn libc_version(program: &[u8]) -> String {
    const MARK: &[u8] = b"GLIBC_2.";
    let minors = program.windows(MARK.len() + 2).filter(|w| w.starts_with(MARK)).filter_map(|w| {
        let digits: Vec<u8> = w[MARK.len()..].iter().copied().take_while(u8::is_ascii_digit).collect();
        std::str::from_utf8(&digits).ok()?.parse::<u32>().ok()
    });
    format!("2.{}", minors.max().unwrap_or(34))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_library_is_the_newest_that_is_asked_for() {
        assert_eq!(libc_version(b"..GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.17\0GLIBC_PRIVATE"), "2.34");
    }
}
