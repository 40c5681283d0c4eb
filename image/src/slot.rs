//! A slot: one squashfs, one block that describes it, one dm-verity hash tree.
//!
//! The description is `skiff-slot 1 DATA_BLOCKS HASH_START_BLOCK TOTAL_BLOCKS ROOT_HASH SALT VERSION`, in blocks of 4096
//! bytes; the initial RAM disk and the agent (`appliance/src/slots`) read it. gzip, because GRUB reads the kernel from it.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::run;

const BLOCK: u64 = 4096;
/// What a partition holds; versions to come need room.
pub const SIZE_MAX: u64 = 768 << 20;
/// Nobody is to guess at it: a salt keeps equal blocks of two images apart, and a fixed one keeps builds alike.
const SALT: &str = "736b696666000000000000000000000000000000000000000000000000000000";

pub fn make(root: &Path, epoch: u64, work: &Path) -> anyhow::Result<PathBuf> {
    let slot = work.join("slot.img");
    let time = epoch.to_string();
    let text = |path: &Path| path.to_string_lossy().into_owned();
    run::run(
        "mksquashfs",
        [
            &text(root),
            &text(&slot),
            "-comp",
            "gzip",
            "-Xcompression-level",
            "9",
            "-b",
            "256K",
            "-noappend",
            "-no-progress",
            "-quiet",
            "-no-exports",
            "-reproducible",
            "-mkfs-time",
            &time,
            "-all-time",
            &time,
        ],
    )?;
    let mut file = File::options().read(true).write(true).open(&slot)?;
    let data_blocks = file.metadata()?.len().div_ceil(BLOCK);
    file.set_len(data_blocks * BLOCK)?;

    let hashes = work.join("hashes.img");
    File::create(&hashes)?;
    let said = run::run(
        "veritysetup",
        [
            "format",
            "--no-superblock",
            "--data-block-size=4096",
            "--hash-block-size=4096",
            "--hash=sha256",
            &format!("--salt={SALT}"),
            &format!("--data-blocks={data_blocks}"),
            &text(&slot),
            &text(&hashes),
        ],
    )?;
    let root_hash = said.lines().find_map(|line| line.strip_prefix("Root hash:")).map(str::trim);
    let root_hash = root_hash.with_context(|| format!("veritysetup told no root hash: {said}"))?;

    let hash_start = data_blocks + 1;
    let hashes = std::fs::read(&hashes)?;
    let total = hash_start + (hashes.len() as u64).div_ceil(BLOCK);
    if total * BLOCK > SIZE_MAX {
        bail!("the system takes {} MiB; a slot has {} MiB", (total * BLOCK) >> 20, SIZE_MAX >> 20);
    }
    let version = env!("CARGO_PKG_VERSION");
    let description = format!("skiff-slot 1 {data_blocks} {hash_start} {total} {root_hash} {SALT} {version}\n");
    file.seek(SeekFrom::Start(data_blocks * BLOCK))?;
    file.write_all(description.as_bytes())?;
    file.seek(SeekFrom::Start(hash_start * BLOCK))?;
    file.write_all(&hashes)?;
    file.set_len(total * BLOCK)?;
    Ok(slot)
}
