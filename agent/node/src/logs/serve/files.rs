//! The files of one container's log: `N.log`, which the runtime writes, and before it those that were rotated away,
//! `N.log.TIME`. Compressed ones are left out. Blocking; callers are on blocking threads.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::tail;
use crate::volumes::beneath::open_ours;

/// What tells a file from one that took its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self { device: metadata.dev(), number: metadata.ino() }
    }

    fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|metadata| Self::of(&metadata))
    }
}

#[derive(Clone, Debug)]
pub(super) struct LogFiles {
    current: PathBuf,
}

impl LogFiles {
    pub fn new(current: PathBuf) -> Self {
        Self { current }
    }

    /// Oldest first; their names end in the time of their rotation.
    fn list(&self) -> Vec<PathBuf> {
        let (Some(dir), Some(name)) = (self.current.parent(), self.current.file_name().and_then(|name| name.to_str()))
        else {
            return Vec::new();
        };
        let prefix = format!("{name}.");
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries
            .filter(|e| e.file_name().to_str().is_some_and(|n| is_rotated(n, &prefix)))
            .map(|e| e.path())
            .collect();
        paths.sort();
        paths.extend(self.current.exists().then(|| self.current.clone()));
        paths
    }

    /// The file to begin with, at the place to begin at: the start of everything, or that of the last `lines`.
    pub fn open(&self, lines: Option<u64>) -> io::Result<Option<File>> {
        let paths = self.list();
        let Some(lines) = lines else {
            return paths.first().map(|path| open_ours(path)).transpose();
        };
        let mut counter = tail::Counter::new(lines);
        for path in paths.iter().rev() {
            let mut file = open_ours(path)?;
            if tail::seek(&mut file, &mut counter)? {
                return Ok(Some(file));
            }
        }
        paths.first().map(|path| open_ours(path)).transpose()
    }

    /// The file that goes on where the read one ends.
    pub fn after(&self, read: Option<&File>) -> io::Result<Option<File>> {
        let read = read.map(File::metadata).transpose()?.map(|metadata| Inode::of(&metadata));
        if read.is_some() && Inode::at(&self.current) == read {
            return Ok(None);
        }
        let paths = self.list();
        let next = match paths.iter().position(|path| Inode::at(path) == read) {
            Some(at) if read.is_some() => paths.get(at + 1),
            // What was read has been removed meanwhile, or nothing was there to read.
            _ => paths.last().filter(|last| **last == self.current),
        };
        next.map(|path| open_ours(path)).transpose()
    }
}

fn is_rotated(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| !rest.ends_with(".gz") && !rest.ends_with(".tmp"))
}
