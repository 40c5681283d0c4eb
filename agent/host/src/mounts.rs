//! What is mounted, and taking it down.

use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};

#[derive(Debug, thiserror::Error)]
#[error("cannot unmount {path}")]
pub struct UnmountError {
    path: PathBuf,
    #[source]
    source: nix::Error,
}

/// Unmounts everything below a directory, the deepest first.
pub fn unmount_below(dir: &Path) -> Result<(), UnmountError> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for path in below(&table, dir).into_iter().rev() {
        match umount2(&path, MntFlags::MNT_DETACH) {
            // Gone already, with what it was mounted on.
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(source) => return Err(UnmountError { path, source }),
        }
    }
    Ok(())
}

/// Whether anything is mounted below a directory.
pub fn is_mounted_below(dir: &Path) -> bool {
    !below(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(), dir).is_empty()
}

/// The mount points below `dir`, in the order they were made.
pub(crate) fn below(mountinfo: &str, dir: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).map(PathBuf::from);
    points.filter(|point| point.starts_with(dir) && point != dir).collect()
}

/// The kernel writes blanks and backslashes in octal.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}
