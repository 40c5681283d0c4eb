//! The disk: partition table, the FAT partition with the boot loader and the settings, and the first slot.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::arch::Arch;
use crate::{run, slot};

const MIB: u64 = 1 << 20;
const EFI_START: u64 = MIB;
const EFI_SIZE: u64 = 256 * MIB;
const SLOT_START: u64 = EFI_START + EFI_SIZE;
/// The second header of a GPT is at the end.
const END_SIZE: u64 = MIB;
/// Of the FAT partition; fixed, so that builds are alike.
const VOLUME_ID: &str = "5C1FF000";
/// UEFI's type of the EFI system partition.
const EFI_TYPE: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
/// What GRUB needs: all of the block is written at once and has a fixed size.
const BOOT_ENVIRONMENT_BYTES: usize = 1024;

impl Arch {
    /// <https://uapi-group.org/specifications/specs/discoverable_partitions_specification/>
    fn root_type(self) -> &'static str {
        match self {
            Self::Amd64 => "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
            Self::Arm64 => "B921B045-1DF0-41C3-AF44-4C6F280D3FAE",
        }
    }
}

/// The signed boot loader, unpacked from Debian's packages, and the configuration for it.
pub struct BootLoader {
    arch: Arch,
    shim: PathBuf,
    mok_manager: PathBuf,
    grub: PathBuf,
}

pub fn boot_loader(arch: Arch, mirror: &str, work: &Path) -> anyhow::Result<BootLoader> {
    let dir = work.join("boot-loader");
    let include = format!("--include=shim-signed,grub-efi-{}-signed", arch.name());
    let architecture = format!("--architectures={}", arch.name());
    let target = dir.to_string_lossy().into_owned();
    let source = format!("deb {mirror} trixie main");
    run::command(run::mmdebstrap().args(["--variant=extract", &architecture, &include, "trixie", &target, &source]))?;
    let suffix = arch.efi_suffix();
    Ok(BootLoader {
        arch,
        shim: dir.join(format!("usr/lib/shim/shim{suffix}.efi.signed")),
        mok_manager: dir.join(format!("usr/lib/shim/mm{suffix}.efi.signed")),
        grub: dir.join("usr/lib/grub").join(arch.grub_dir()).join(format!("grub{suffix}.efi.signed")),
    })
}

pub fn make(slot: &Path, loader: &BootLoader, epoch: u64, work: &Path) -> anyhow::Result<PathBuf> {
    let efi = efi_partition(loader, epoch, work)?;
    let disk = work.join("disk.img");
    File::create(&disk)?.set_len(SLOT_START + slot::SIZE_MAX + END_SIZE)?;
    let table = format!(
        "label: gpt\nlabel-id: 5C1FF000-0000-4000-8000-000000000000\n\
         start={}, size={}, type={EFI_TYPE}, name=skiff-efi, uuid=5C1FF000-0000-4000-8000-000000000001\n\
         start={}, size={}, type={}, name=skiff-root-a, uuid=5C1FF000-0000-4000-8000-000000000002\n",
        EFI_START / 512,
        EFI_SIZE / 512,
        SLOT_START / 512,
        slot::SIZE_MAX / 512,
        loader.arch.root_type(),
    );
    let script = work.join("partitions");
    std::fs::write(&script, table)?;
    run::run("sh", ["-c", &format!("sfdisk --quiet '{}' < '{}'", disk.display(), script.display())])?;
    place(&efi, &disk, EFI_START)?;
    place(slot, &disk, SLOT_START)?;
    Ok(disk)
}

fn place(part: &Path, disk: &Path, offset: u64) -> anyhow::Result<()> {
    let mut from = File::open(part)?;
    let mut to = File::options().write(true).open(disk)?;
    to.seek(SeekFrom::Start(offset))?;
    std::io::copy(&mut from, &mut to).with_context(|| format!("cannot copy {}", part.display()))?;
    Ok(())
}

fn efi_partition(loader: &BootLoader, epoch: u64, work: &Path) -> anyhow::Result<PathBuf> {
    let tree = work.join("efi");
    let suffix = loader.arch.efi_suffix();
    let boot = tree.join("EFI/BOOT");
    for dir in [&boot, &tree.join("EFI/debian"), &tree.join("skiff")] {
        std::fs::create_dir_all(dir)?;
    }
    let copy = |from: &Path, to: PathBuf| {
        std::fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display())).map(drop)
    };
    copy(&loader.shim, boot.join(loader.arch.efi_file()))?;
    copy(&loader.grub, boot.join(format!("grub{suffix}.efi")))?;
    copy(&loader.mok_manager, boot.join(format!("mm{suffix}.efi")))?;
    let esp = run::project().join("image/esp");
    let grub = std::fs::read_to_string(esp.join("grub.cfg"))?.replace("@CONSOLES@", loader.arch.consoles());
    // Debian's signed GRUB looks there.
    std::fs::write(tree.join("EFI/debian/grub.cfg"), grub)?;
    copy(&esp.join("README.txt"), tree.join("README.txt"))?;
    copy(&esp.join("skiff.toml"), tree.join("skiff.toml"))?;
    copy(&run::project().join("config/skiff.toml"), tree.join("all-settings.toml"))?;
    std::fs::write(tree.join("skiff/bootenv"), boot_environment())?;

    let image = work.join("efi.img");
    File::create(&image)?.set_len(EFI_SIZE)?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    run::run("mkfs.vfat", ["-F", "32", "-n", "SKIFF", "-i", VOLUME_ID, "--invariant", &text(&image)])?;
    // In one order, with one time.
    let script = format!(
        "cd '{}' && find . -exec touch -h -d @{epoch} {{}} + && \
         for entry in $(find . -mindepth 1 | LC_ALL=C sort); do \
         if [ -d $entry ]; then mmd -i '{image}' ::$entry; else mcopy -m -i '{image}' $entry ::$entry; fi || exit 1; done",
        tree.display(),
        image = image.display(),
    );
    let mut command = std::process::Command::new("sh");
    run::command(command.args(["-c", &script]).env("SOURCE_DATE_EPOCH", epoch.to_string()))?;
    Ok(image)
}

/// GRUB's environment block: <https://www.gnu.org/software/grub/manual/grub/html_node/Environment-block.html>
fn boot_environment() -> Vec<u8> {
    let mut block = b"# GRUB Environment Block\norder=a b\na_left=3\nb_left=3\n".to_vec();
    block.resize(BOOT_ENVIRONMENT_BYTES, b'#');
    block
}
