//! The root file system: Debian's packages, what is left out of them, and Skiff's own files.

use std::ffi::OsString;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::arch::Arch;
use crate::files::{put, remove, write};
use crate::run;

/// Paths of packages that no box needs.
const LEFT_OUT: &[&str] = &[
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
    "/usr/share/bug/*",
    "/usr/share/bash-completion/completions/*",
    "/usr/share/initramfs-tools/modules.d/*",
    // Of containerd: programs for tests.
    "/usr/bin/containerd-stress",
    "/usr/bin/containerd-shim",
    "/usr/bin/containerd-shim-runc-v1",
];

/// Started at boot, besides what packages start themselves.
const ENABLED: &[&str] = &[
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "avahi-daemon.service",
    "ssh.service",
    "skiff.service",
    "skiff-host.service",
    "skiff-screen.service",
    "skiff-slot-good.service",
    "skiff-slot-copy.service",
];

/// Not started, and why.
const MASKED: &[(&str, &str)] = &[
    ("getty@tty1.service", "the screen is Skiff's"),
    ("serial-getty@.service", "the serial console, too"),
    ("autovt@.service", "and the other screens"),
    ("containerd.service", "Skiff's has its own configuration"),
    ("e2scrub_all.timer", "for LVM"),
    ("e2scrub_reap.service", "for LVM"),
    ("dpkg-db-backup.timer", "there is no package database"),
    ("systemd-firstboot.service", "skiff.toml says it all"),
    ("systemd-networkd-wait-online.service", "nothing waits for a network: the agent follows addresses"),
    ("ssh.socket", "the service is there if a key is"),
];

pub struct System {
    pub root: PathBuf,
    /// `name version architecture source`, a line each.
    pub packages: String,
}

/// The rows of the README's table: the packages, and why they are there.
pub fn packages(readme: &str, arch: Arch) -> Vec<String> {
    let table = readme.split("| package | why |").nth(1).unwrap_or_default();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.map(|name| name.replace("ARCH", arch.name())).collect()
}

pub fn install(arch: Arch, mirror: &str, epoch: u64, work: &Path) -> anyhow::Result<System> {
    let root = work.join("root");
    let own = run::project().join("image/root");
    let packages = packages(include_str!("../README.md"), arch);
    if packages.len() < 10 {
        bail!("the table of packages in image/README.md cannot be read");
    }
    let mut command = run::mmdebstrap();
    command.env("SOURCE_DATE_EPOCH", epoch.to_string()).arg("--variant=essential");
    command.arg(format!("--architectures={}", arch.name())).arg(format!("--include={}", packages.join(",")));
    command.arg("--aptopt=APT::Install-Recommends \"false\"");
    command.args(LEFT_OUT.iter().map(|path| format!("--dpkgopt=path-exclude={path}")));
    // The initial RAM disk is made once, when everything is there: under emulation it takes minutes.
    command.env("INITRD", "No");
    let prepared = own.join("etc/initramfs-tools");
    command.arg(format!("--customize-hook=cp -r '{}' \"$1/etc/\"", prepared.display()));
    command.arg("--customize-hook=chroot \"$1\" update-initramfs -c -k \"$(ls \"$1/usr/lib/modules\")\"");
    command.arg("trixie").arg(&root);
    let security = mirror.replace("deb.debian.org/debian", "security.debian.org/debian-security");
    command.arg(format!("deb {mirror} trixie main")).arg(format!("deb {mirror} trixie-updates main"));
    if security != mirror {
        command.arg(format!("deb {security} trixie-security main"));
    }
    run::command(&mut command)?;
    let format = "${Package} ${Version} ${Architecture} ${source:Package}\n";
    let packages = run::run("dpkg-query", [&format!("--admindir={}/var/lib/dpkg", root.display()), "-Wf", format])?;
    Ok(System { root, packages })
}

/// Everything that is not from Debian, and taking away what must not be in an image.
pub fn complete(system: &System, arch: Arch, agent: &Path, host_agent: &Path, epoch: u64) -> anyhow::Result<()> {
    let root = &system.root;
    let project = run::project();
    copy_tree(&project.join("image/root"), root, arch)?;
    install_program(agent, &root.join("usr/bin/skiff"), arch)?;
    let units = root.join("usr/lib/systemd/system");
    for unit in std::fs::read_dir(project.join("systemd"))?.flatten().filter(|entry| entry.path().is_file()) {
        put(&unit.path(), &units.join(unit.file_name()), 0o644)?;
    }
    put(&project.join("systemd/sysusers.d/skiff.conf"), &root.join("usr/lib/sysusers.d/skiff.conf"), 0o644)?;
    put(&project.join("config/skiff.toml"), &root.join("usr/share/skiff/skiff.toml"), 0o644)?;
    write(&root.join("usr/lib/skiff/appliance"), format!("skiff {}\n", env!("CARGO_PKG_VERSION")), 0o644)?;
    write(&root.join("etc/hostname"), "skiff\n", 0o644)?;
    let completion = run::run(&host_agent.to_string_lossy(), ["completion", "bash"])?;
    write(&root.join("usr/share/bash-completion/completions/skiff"), &completion, 0o644)?;
    let man = root.join("usr/share/man/man1");
    std::fs::create_dir_all(&man)?;
    run::run(&host_agent.to_string_lossy(), [OsString::from("man"), man.into_os_string()])?;
    release_files(root, epoch)?;

    let chroot = |arguments: &[&str]| run::run("chroot", [&[root.to_str().unwrap_or_default()], arguments].concat());
    // Now, as nothing can write there when the box runs.
    chroot(&["env", &format!("SOURCE_DATE_EPOCH={epoch}"), "systemd-sysusers", "skiff.conf"])?;
    chroot(&[&["systemctl", "enable", "--quiet"], ENABLED].concat())?;
    for (unit, _) in MASKED {
        chroot(&["systemctl", "mask", "--quiet", unit])?;
    }
    clean(root)
}

/// As the box calls itself: os-release(5).
fn release_files(root: &Path, epoch: u64) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let debian = std::fs::read_to_string(root.join("usr/lib/os-release"))?;
    let based_on = debian.lines().find_map(|l| l.strip_prefix("VERSION_ID=")).unwrap_or("\"13\"").trim_matches('"');
    write(
        &root.join("usr/lib/os-release"),
        format!(
            "NAME=\"Skiff\"\nPRETTY_NAME=\"Skiff {version}\"\nID=skiff\nID_LIKE=debian\nVERSION_ID=\"{version}\"\n\
             VERSION=\"{version} (Debian {based_on})\"\nIMAGE_ID=skiff\nIMAGE_VERSION=\"{version}\"\n"
        ),
        0o644,
    )?;
    write(&root.join("etc/issue"), "Skiff \\n \\l\n\n", 0o644)?;
    write(&root.join("etc/motd"), "", 0o644)?;
    // The clock of a box without a battery starts here: systemd takes the time of this file.
    write(&root.join("usr/lib/clock-epoch"), "", 0o644)?;
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(epoch);
    std::fs::File::options().write(true).open(root.join("usr/lib/clock-epoch"))?.set_modified(time)?;
    Ok(())
}

/// What is only of use to package managers, differs from build to build, or belongs to one box.
fn clean(root: &Path) -> anyhow::Result<()> {
    let boot = root.join("boot");
    for entry in std::fs::read_dir(&boot)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let fixed = ["vmlinuz", "initrd.img"].into_iter().find(|fixed| name.starts_with(&format!("{fixed}-")));
        match fixed {
            Some(fixed) => std::fs::rename(entry.path(), boot.join(fixed))?,
            None => std::fs::remove_file(entry.path())?,
        }
    }
    for name in ["vmlinuz", "initrd.img"] {
        if !boot.join(name).is_file() {
            bail!("the kernel's package brought no /boot/{name}");
        }
    }
    for link in ["vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old"] {
        remove(&root.join(link))?;
    }
    for dir in ["var", "tmp", "run", "root", "home", "efi"] {
        remove(&root.join(dir))?;
        std::fs::create_dir(root.join(dir))?;
    }
    std::fs::set_permissions(root.join("root"), PermissionsExt::from_mode(0o700))?;
    std::fs::set_permissions(root.join("tmp"), PermissionsExt::from_mode(0o1777))?;
    let etc = root.join("etc");
    for entry in std::fs::read_dir(etc.join("ssh"))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("ssh_host_") {
            remove(&entry.path())?;
        }
    }
    let backups =
        ["passwd-", "group-", "shadow-", "gshadow-", ".pwd.lock", "apt", "resolv.conf", "mtab", "ld.so.cache"];
    for name in backups {
        remove(&etc.join(name))?;
    }
    run::run("chroot", [&root.to_string_lossy(), "ldconfig", "-X"])?;
    remove(&root.join("var/cache"))?;
    symlink("/proc/self/mounts", etc.join("mtab"))?;
    symlink("/run/systemd/resolve/resolv.conf", etc.join("resolv.conf"))?;
    // As old as /usr, so that nothing is brought up to date at each start: systemd-update-done.service(8).
    write(&etc.join(".updated"), "", 0o644)?;
    // Empty, not absent: absent would make every start a first one, machine-id(5).
    write(&etc.join("machine-id"), "", 0o644)?;
    Ok(())
}

fn install_program(from: &Path, to: &Path, arch: Arch) -> anyhow::Result<()> {
    put(from, to, 0o755)?;
    let header = std::fs::read(to)?.get(18..20).map(|b| [b[0], b[1]]);
    // e_machine of ELF.
    let expected = match arch {
        Arch::Amd64 => [62, 0],
        Arch::Arm64 => [183, 0],
    };
    if header != Some(expected) {
        bail!("{} is not a program for {}", from.display(), arch.name());
    }
    Ok(())
}

/// Files of the project, whatever the permissions of its checkout; `@ARCH@` is replaced in texts.
fn copy_tree(from: &Path, to: &Path, arch: Arch) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target, arch)?;
            continue;
        }
        if entry.file_type()?.is_symlink() {
            remove(&target)?;
            symlink(std::fs::read_link(entry.path())?, &target)?;
            continue;
        }
        let mode = if entry.metadata()?.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
        let text = std::fs::read_to_string(entry.path()).with_context(|| entry.path().display().to_string())?;
        write(&target, text.replace("@ARCH@", arch.name()), mode)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_says_what_is_installed() {
        let packages = packages(include_str!("../README.md"), Arch::Arm64);
        assert!(packages.contains(&"linux-image-arm64".to_owned()), "{packages:?}");
        assert!(packages.len() > 20, "{packages:?}");
        let names =
            |name: &String| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-+.".contains(c));
        assert!(packages.iter().all(names), "{packages:?}");
    }
}
