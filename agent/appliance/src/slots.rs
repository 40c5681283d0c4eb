//! The two slots of an appliance's disk: which one runs, which one starts next, and filling, verifying and repairing them.
//!
//! Who writes what: the boot loader and this file write `/efi/skiff/bootenv`; RAUC writes slots through its own service.
//! Nothing here restarts the box.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

mod description;
mod environment;
mod verity;

#[cfg(test)]
mod tests;

pub use description::Description;
pub use environment::{ATTEMPTS_MAX, Environment, Slot};

use description::BLOCK;

/// What is read and written at once while a slot is copied.
const COPY_BYTES: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    #[error("this is no appliance: it has no slots (the kernel's command line names none)")]
    NoAppliance,
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("slot {0} holds no system: it is empty or damaged")]
    Empty(Slot),
    #[error("slot {0} is damaged: what is on the disk is not what was written")]
    Damaged(Slot),
    #[error("{path} holds {value:?}, which is no slot: there are A and B")]
    Unknown { path: PathBuf, value: String },
}

/// Where the slots and what is known of them are.
#[derive(Clone, Debug)]
pub struct Disk {
    pub environment: PathBuf,
    pub partitions: [PathBuf; 2],
    pub command_line: PathBuf,
    pub machine_id: PathBuf,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            environment: "/efi/skiff/bootenv".into(),
            partitions: ["a", "b"].map(|slot| format!("/dev/disk/by-partlabel/skiff-root-{slot}").into()),
            command_line: "/proc/cmdline".into(),
            machine_id: "/etc/machine-id".into(),
        }
    }
}

/// A slot as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub slot: Slot,
    pub running: bool,
    pub attempts_left: u8,
    /// `None`: it holds no system.
    pub description: Option<Description>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// The other slot holds what it should; nothing was written.
    Intact,
    /// It was empty.
    Copied,
    /// It was damaged, and holds the running system again.
    Repaired,
}

impl Disk {
    pub fn running(&self) -> Result<Slot, SlotError> {
        let text = read(&self.command_line)?;
        let text = String::from_utf8_lossy(&text);
        let value = text.split_whitespace().find_map(|word| word.strip_prefix("skiff.slot="));
        let value = value.ok_or(SlotError::NoAppliance)?;
        Slot::parse(value)
            .ok_or_else(|| SlotError::Unknown { path: self.command_line.clone(), value: value.to_owned() })
    }

    /// What the boot loader goes by; the default where the file is missing or damaged, as the boot loader does.
    pub fn environment(&self) -> Environment {
        std::fs::read(&self.environment).ok().and_then(|bytes| Environment::parse(&bytes)).unwrap_or_default()
    }

    /// In place, at once: a loss of power leaves the old or the new content.
    pub fn write_environment(&self, environment: &Environment) -> Result<(), SlotError> {
        let block = environment.render();
        if std::fs::read(&self.environment).is_ok_and(|current| current == block) {
            return Ok(());
        }
        let written = (|| {
            if let Some(dir) = self.environment.parent() {
                std::fs::create_dir_all(dir)?;
            }
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(&self.environment)?;
            file.write_all_at(&block, 0)?;
            file.set_len(block.len() as u64)?;
            file.sync_all()
        })();
        written.map_err(|source| SlotError::Write { path: self.environment.clone(), source })
    }

    fn partition(&self, slot: Slot) -> &Path {
        &self.partitions[slot.index()]
    }

    pub fn description(&self, slot: Slot) -> Option<Description> {
        let mut file = File::open(self.partition(slot)).ok()?;
        description::read(&mut file).ok().flatten()
    }

    pub fn find(&self) -> Result<[Found; 2], SlotError> {
        let running = self.running()?;
        let environment = self.environment();
        Ok(Slot::ALL.map(|slot| Found {
            slot,
            running: slot == running,
            attempts_left: environment.attempts_left(slot),
            description: self.description(slot),
        }))
    }

    /// The running slot has come up: it gets its attempts back, and the machine keeps its identifier.
    pub fn keep_running(&self) -> Result<(), SlotError> {
        let mut environment = self.environment();
        environment.set_attempts_left(self.running()?, ATTEMPTS_MAX);
        if environment.machine_id.is_none() {
            let text = String::from_utf8_lossy(&read(&self.machine_id)?).trim().to_owned();
            environment.set_machine_id(&text);
        }
        self.write_environment(&environment)
    }

    /// The other slot starts next.
    pub fn prefer_other(&self) -> Result<Slot, SlotError> {
        let other = self.running()?.other();
        if self.description(other).is_none() {
            return Err(SlotError::Empty(other));
        }
        self.prefer(other)?;
        Ok(other)
    }

    pub fn prefer(&self, slot: Slot) -> Result<(), SlotError> {
        let mut environment = self.environment();
        environment.prefer(slot);
        environment.set_attempts_left(slot, ATTEMPTS_MAX);
        self.write_environment(&environment)
    }

    /// What a person should know: the box does not run from the slot that it should.
    pub fn problem(&self) -> Option<String> {
        let running = self.running().ok()?;
        let environment = self.environment();
        problem(running, &environment)
    }

    /// Copies the running slot to the other one where that one is empty or damaged. Where it is intact and the same system,
    /// its attempts come back: there is no reason to trust it less.
    pub fn fill_other(&self) -> Result<Filled, SlotError> {
        let running = self.running()?;
        let other = running.other();
        let own = self.description(running).ok_or(SlotError::Empty(running))?;
        let found = self.description(other);
        let filled = match &found {
            // Not read in whole at each start: that is done when there is a reason.
            Some(_) if self.environment().attempts_left(other) == ATTEMPTS_MAX => return Ok(Filled::Intact),
            Some(description) if self.verify(other, description)? => Filled::Intact,
            Some(_) => Filled::Repaired,
            // Nothing was ever there, or its first block is gone.
            None if self.environment().attempts_left(other) < ATTEMPTS_MAX => Filled::Repaired,
            None => Filled::Copied,
        };
        if filled != Filled::Intact {
            // A copy that was cut off, or cannot be read back, is looked at again.
            let mut environment = self.environment();
            environment.set_attempts_left(other, 0);
            self.write_environment(&environment)?;
            self.copy(running, other, &own)?;
            if !self.verify(other, &own)? {
                return Err(SlotError::Damaged(other));
            }
        }
        if filled != Filled::Intact || found.is_some_and(|f| f.root_hash == own.root_hash) {
            let mut environment = self.environment();
            environment.set_attempts_left(other, ATTEMPTS_MAX);
            self.write_environment(&environment)?;
        }
        Ok(filled)
    }

    /// Reads a slot in whole.
    pub fn verify(&self, slot: Slot, description: &Description) -> Result<bool, SlotError> {
        let path = self.partition(slot);
        let failed = |source| SlotError::Read { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed)?;
        let root_hash = verity::root_hash(&mut file, description).map_err(failed)?;
        Ok(root_hash == description.root_hash)
    }

    /// The first block goes last: without it a slot holds no system, whenever the power fails.
    fn copy(&self, from: Slot, to: Slot, description: &Description) -> Result<(), SlotError> {
        let (source_path, target_path) = (self.partition(from), self.partition(to));
        let failed = |source| SlotError::Write { path: target_path.to_owned(), source };
        let unreadable = |source| SlotError::Read { path: source_path.to_owned(), source };
        let mut source = File::open(source_path).map_err(unreadable)?;
        let mut target = OpenOptions::new().write(true).open(target_path).map_err(failed)?;
        let block = usize::try_from(BLOCK).unwrap_or(4096);
        let mut first = vec![0; block];
        source.read_exact(&mut first).map_err(unreadable)?;
        target.write_all(&vec![0; block]).map_err(failed)?;
        target.sync_all().map_err(failed)?;
        let mut left = (description.total_blocks - 1) * BLOCK;
        let mut buffer = vec![0; COPY_BYTES];
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(COPY_BYTES);
            source.read_exact(&mut buffer[..length]).map_err(unreadable)?;
            target.write_all(&buffer[..length]).map_err(failed)?;
            left -= length as u64;
        }
        target.sync_all().map_err(failed)?;
        target.seek(SeekFrom::Start(0)).map_err(failed)?;
        target.write_all(&first).map_err(failed)?;
        target.sync_all().map_err(failed)?;
        // What is verified next is to come from the disk.
        let forget = nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED;
        nix::fcntl::posix_fadvise(&target, 0, 0, forget).map_err(|error| failed(error.into()))
    }
}

fn problem(running: Slot, environment: &Environment) -> Option<String> {
    let preferred = environment.order[0];
    if running == preferred {
        return None;
    }
    let other = running.other();
    Some(match environment.attempts_left(other) {
        0 => format!("slot {other} did not start in {ATTEMPTS_MAX} attempts: the box runs from slot {running}"),
        _ => format!("slot {other} should run, but the box started from slot {running}"),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, SlotError> {
    std::fs::read(path).map_err(|source| SlotError::Read { path: path.to_owned(), source })
}
