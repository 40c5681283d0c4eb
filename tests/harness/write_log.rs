//! What a disk with a volatile cache keeps when its power is cut: everything before the last flush, and of what was
//! written after it some, in part, in any order.
//!
//! QEMU's block driver `blklogwrites` writes the log, in the format of the kernel's dm-log-writes:
//! <https://docs.kernel.org/admin-guide/device-mapper/log-writes.html>.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use anyhow::Context;
use nix::fcntl::{FallocateFlags, fallocate};

use crate::machine::Disk;
use crate::random::Random;

const SECTOR: u64 = 512;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const FLAGS: u64 = 0xf;

/// One request, and where its data is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    sector: u64,
    sectors: u64,
    flags: u64,
    data: u64,
}

/// How many requests reached the disk's medium, and how many were lost or cut short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub kept: usize,
    pub lost: usize,
}

/// After the end of a machine that was started with [`Machine::start_recorded`](crate::machine::Machine::start_recorded):
/// brings its disk to what a power cut leaves.
pub fn put_on_disk(disk: &Disk, random: &mut Random) -> anyhow::Result<Outcome> {
    let path = disk.file("writes.log");
    let log = File::open(&path).context("the machine recorded nothing")?;
    let entries = entries(&log, std::fs::metadata(disk.path())?.len())?;
    let safe = entries.iter().rposition(|entry| entry.flags & FLUSH != 0).map_or(0, |last| last + 1);
    let target = File::options().write(true).open(disk.path())?;
    let mut outcome = Outcome::default();
    for (at, entry) in entries.iter().enumerate() {
        // Discarded blocks hold anything: what they held is as good.
        if entry.flags & DISCARD != 0 || entry.sectors == 0 {
            continue;
        }
        let kept = if at < safe || entry.flags & FUA != 0 {
            entry.sectors
        } else {
            match random.below(4) {
                0 | 1 => 0,
                2 => random.below(entry.sectors + 1),
                _ => entry.sectors,
            }
        };
        copy(&log, &target, entry, kept).context("the log cannot be put on the disk")?;
        if kept == entry.sectors { outcome.kept += 1 } else { outcome.lost += 1 }
    }
    std::fs::remove_file(&path)?;
    std::fs::remove_file(disk.file("overlay.qcow2"))?;
    Ok(outcome)
}

fn copy(log: &File, target: &File, entry: &Entry, sectors: u64) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let (mut done, length) = (0, sectors * SECTOR);
    while done < length {
        let part = usize::try_from((length - done).min(1 << 20)).expect("it is at most a MiB");
        let (buffer, place) = (&mut buffer[..part], entry.sector * SECTOR + done);
        log.read_exact_at(buffer, entry.data + done)?;
        if buffer.iter().all(|byte| *byte == 0) {
            punch(target, place, part as u64)?;
        } else {
            target.write_all_at(buffer, place)?;
        }
        done += part as u64;
    }
    Ok(())
}

/// Zeros that take no room: a file system that is made clears gigabytes.
fn punch(file: &File, start: u64, length: u64) -> io::Result<()> {
    let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    Ok(fallocate(file, mode, start.cast_signed(), length.cast_signed())?)
}

/// All entries that are whole. QEMU writes them side by side: where one is missing, what follows is looked for.
fn entries(log: &File, disk_bytes: u64) -> io::Result<Vec<Entry>> {
    let length = log.metadata()?.len();
    let mut reader = BufReader::with_capacity(1 << 16, log);
    let mut entries = Vec::new();
    // The first sector describes the log.
    let mut at = SECTOR;
    while at + SECTOR <= length {
        let mut header = [0; SECTOR as usize];
        reader.seek(SeekFrom::Start(at))?;
        reader.read_exact(&mut header)?;
        at += SECTOR;
        let Some(entry) = entry(&header, at, disk_bytes) else { continue };
        let data = if entry.flags & DISCARD == 0 { entry.sectors * SECTOR } else { 0 };
        if at + data > length {
            break;
        }
        at += data;
        entries.push(entry);
    }
    Ok(entries)
}

fn entry(header: &[u8; SECTOR as usize], data: u64, disk_bytes: u64) -> Option<Entry> {
    let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("it is eight bytes"));
    let (sector, sectors, flags, bytes) = (number(0), number(8), number(16), number(24));
    let is_plain = flags & (FLUSH | DISCARD) == 0;
    let fits = sector.checked_add(sectors)?.checked_mul(SECTOR)? <= disk_bytes;
    let is_entry = fits
        && flags & !FLAGS == 0
        // QEMU leaves the length of the data at zero, the kernel does not.
        && (bytes == 0 || bytes == sectors * SECTOR)
        && !(is_plain && sectors == 0)
        && header[32..].iter().all(|byte| *byte == 0);
    is_entry.then_some(Entry { sector, sectors, flags, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(sector: u64, sectors: u64, flags: u64) -> Vec<u8> {
        let mut bytes: Vec<u8> = [sector, sectors, flags].into_iter().flat_map(u64::to_le_bytes).collect();
        bytes.resize(SECTOR as usize, 0);
        bytes
    }

    #[test]
    fn a_cut_keeps_what_was_flushed() {
        let disk = Disk::bare().unwrap();
        std::fs::write(disk.path(), vec![0; 64 * SECTOR as usize]).unwrap();
        let mut log = vec![7; SECTOR as usize];
        for sector in 0..32 {
            log.extend(header(sector, 1, 0));
            log.extend([1; SECTOR as usize]);
        }
        // One that never was written, and then the flush.
        log.extend([0; 3 * SECTOR as usize]);
        log.extend(header(0, 0, FLUSH));
        for sector in 32..64 {
            log.extend(header(sector, 1, 0));
            log.extend([2; SECTOR as usize]);
        }
        // One that was cut off.
        log.extend(header(0, 9, 0));
        std::fs::write(disk.file("writes.log"), log).unwrap();
        std::fs::write(disk.file("overlay.qcow2"), "").unwrap();
        let outcome = put_on_disk(&disk, &mut Random(1)).unwrap();
        let content = std::fs::read(disk.path()).unwrap();
        assert!(content[..32 * SECTOR as usize].iter().all(|byte| *byte == 1));
        let later = content[32 * SECTOR as usize..].iter().filter(|byte| **byte == 2).count() / SECTOR as usize;
        assert_eq!(outcome, Outcome { kept: 32 + later, lost: 32 - later });
        assert!(later > 0 && later < 32);
    }
}
