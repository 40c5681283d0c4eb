//! A plain Debian on a disk for QEMU: what the Debian package is installed on, and what the image is compared with. And
//! one to be mounted, with what the integration tests need.

use std::path::{Path, PathBuf};

use crate::{command, prerequisites};

/// Beside what the package depends on: a network, a way in, and the tools to look around.
const PACKAGES: &str = "linux-image-amd64,systemd-sysv,udev,dbus,iproute2,openssh-server,containerd,runc,\
                        containernetworking-plugins,nftables,init-system-helpers,ca-certificates,curl,procps,kmod,apt";
pub const NO_RECOMMENDS: &str = "--aptopt=APT::Install-Recommends \"false\"";
const GRUB: &str =
    "linux /vmlinuz root=PARTLABEL=root rw console=tty0 console=ttyS0,115200 quiet\ninitrd /initrd.img\nboot\n";

/// A disk of `release` ("bookworm", "trixie") for amd64, made once below `dir`, which lets `key` in.
pub fn disk(release: &str, dir: &Path, key: &str) -> anyhow::Result<PathBuf> {
    let work = dir.join(format!("debian-{release}"));
    let disk = made_once(&work, |root, disk| {
        println!("        making a plain Debian {release}");
        system(release, root)?;
        boot_loader(&work)?;
        lay_out(&work, root, disk)
    })?;
    let with_key = work.join("keyed.img");
    command::run("cp", ["--sparse=always".as_ref(), disk.as_os_str(), with_key.as_os_str()])?;
    let script = work.join("key");
    std::fs::write(&script, format!("{key}\n"))?;
    let fat = format!("{}@@1M", with_key.display());
    command::run("mcopy", ["-o", "-i", &fat, &script.to_string_lossy(), "::authorized_keys"])?;
    Ok(with_key)
}

/// The label of what [`tools`] makes.
pub const TOOLS_LABEL: &str = "skiff-tests";

/// A file system with all that the integration tests need, for amd64, made once below `dir`.
pub fn tools(dir: &Path) -> anyhow::Result<PathBuf> {
    made_once(&dir.join("debian-tools"), |root, disk| {
        println!("        making a Debian with what the integration tests need");
        let lists = [prerequisites::BOX, prerequisites::DEMO, prerequisites::TESTS, prerequisites::KUBECTL];
        let mut packages: Vec<&str> = lists.concat().iter().map(|needed| needed.package).collect();
        packages.sort_unstable();
        packages.dedup();
        let include = format!("--include={},procps,ca-certificates", packages.join(","));
        mmdebstrap("trixie", root, &["--architectures=amd64", "--variant=minbase", NO_RECOMMENDS, &include])?;
        std::fs::File::create(disk)?.set_len(4 << 30)?;
        let (root, disk) = (root.to_string_lossy(), disk.to_string_lossy());
        command::run("/usr/sbin/mke2fs", ["-q", "-t", "ext4", "-L", TOOLS_LABEL, "-d", &root, &disk]).map(drop)
    })
}

/// The disk in `work`. Where there is none, `make` is given a place for its files, and one for the disk: a disk that was
/// not finished is not taken.
fn made_once(work: &Path, make: impl FnOnce(&Path, &Path) -> anyhow::Result<()>) -> anyhow::Result<PathBuf> {
    let (disk, root, unfinished) = (work.join("disk.img"), work.join("root"), work.join("unfinished.img"));
    if !disk.exists() {
        let _ = std::fs::remove_dir_all(work);
        std::fs::create_dir_all(work)?;
        make(&root, &unfinished)?;
        std::fs::remove_dir_all(&root)?;
        std::fs::rename(&unfinished, &disk)?;
    }
    Ok(disk)
}

/// Debian's packages in a directory; what is mounted for it goes with the namespace it is mounted in.
pub fn mmdebstrap(release: &str, dir: &Path, options: &[&str]) -> anyhow::Result<()> {
    let fixed = ["--mount", "mmdebstrap", "--mode=root", "--format=directory", "--quiet"];
    let dir = dir.to_string_lossy();
    command::run("unshare", [&fixed, options, &[release, &dir]].concat()).map(drop)
}

fn system(release: &str, root: &Path) -> anyhow::Result<()> {
    let include = format!("--include={PACKAGES}");
    let place = root.to_string_lossy().into_owned();
    let options = ["--architectures=amd64", "--variant=minbase", NO_RECOMMENDS, &include];
    mmdebstrap(release, root, &options)?;
    let files = [
        ("etc/systemd/network/10-wired.network", "[Match]\nType=ether\nName=e*\n[Network]\nDHCP=yes\n"),
        ("etc/hostname", "debian\n"),
        ("etc/fstab", "PARTLABEL=efi /boot/efi vfat defaults 0 0\n"),
        // Keys come with the FAT partition, so that one disk serves many runs.
        (
            "etc/ssh/sshd_config.d/test.conf",
            "PermitRootLogin yes\nStrictModes no\nAuthorizedKeysFile /boot/efi/authorized_keys\n",
        ),
        ("etc/resolv.conf", "nameserver 10.0.2.3\n"),
    ];
    std::fs::create_dir_all(root.join("boot/efi"))?;
    for (path, text) in files {
        let path = root.join(path);
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, text)?;
    }
    command::run("chroot", [place.as_str(), "systemctl", "enable", "--quiet", "systemd-networkd", "ssh"])?;
    // Only the package's own containerd is to run.
    command::run("chroot", [place.as_str(), "systemctl", "disable", "--quiet", "containerd"]).map(drop)
}

fn boot_loader(work: &Path) -> anyhow::Result<()> {
    let options = ["--architectures=amd64", "--variant=extract", "--include=shim-signed,grub-efi-amd64-signed"];
    mmdebstrap("trixie", &work.join("loader"), &options)
}

fn lay_out(work: &Path, root: &Path, disk: &Path) -> anyhow::Result<()> {
    let loader = work.join("loader/usr/lib");
    std::fs::write(work.join("grub.cfg"), GRUB)?;
    let script = r#"set -e
cd "$1"
truncate -s 256M efi.img; mkfs.vfat -F 32 efi.img >/dev/null
mmd -i efi.img ::EFI ::EFI/BOOT ::EFI/debian
mcopy -i efi.img "$3/shim/shimx64.efi.signed" ::EFI/BOOT/BOOTX64.EFI
mcopy -i efi.img "$3/grub/x86_64-efi-signed/grubx64.efi.signed" ::EFI/BOOT/grubx64.efi
mcopy -i efi.img grub.cfg ::EFI/debian/grub.cfg
mcopy -i efi.img "$2"/boot/vmlinuz-* ::vmlinuz
mcopy -i efi.img "$2"/boot/initrd.img-* ::initrd.img
truncate -s 4G root.img; mke2fs -q -t ext4 -d "$2" root.img
truncate -s 4610M "$4"
printf 'label: gpt\nstart=2048, size=524288, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=efi\nstart=526336, size=8388608, name=root\n' | sfdisk --quiet "$4"
dd if=efi.img of="$4" bs=1M seek=1 conv=notrunc,sparse status=none
dd if=root.img of="$4" bs=1M seek=257 conv=notrunc,sparse status=none
rm -r efi.img root.img loader
"#;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = std::process::Command::new("sh");
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).args(["-c", script, "sh"]);
    command.args([work, root, loader.as_path(), disk]);
    let done = command::output(command)?;
    anyhow::ensure!(done.ok, "the disk was not made: {}{}", done.stdout, done.stderr);
    Ok(())
}
