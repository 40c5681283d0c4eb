//! File systems that this crate mounts for pods: tmpfs for what must not reach the disk. Unmounts everything below a
//! pod's directory before that is removed, and removes nothing through a mount.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::beneath;
use crate::files;

/// The mount points at or below a directory, innermost first.
fn below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    // The table has real paths.
    let dir = match dir.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        path => path?,
    };
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).map(PathBuf::from);
    let mut points: Vec<_> = points.filter(|point| point.starts_with(&dir)).collect();
    points.sort();
    points.reverse();
    Ok(points)
}

/// The kernel writes blanks, tabs, newlines and backslashes in octal.
fn unescape(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |t, (from, to)| t.replace(from, to))
}

pub fn is_mounted(dir: &Path) -> io::Result<bool> {
    let Ok(real) = dir.canonicalize() else { return Ok(false) };
    Ok(below(dir)?.contains(&real))
}

/// Mounts a tmpfs unless one is there. `bytes_max` bounds it.
pub fn ensure_tmpfs(dir: &Path, bytes_max: Option<u64>) -> io::Result<()> {
    files::make_volume(dir)?;
    if is_mounted(dir)? {
        return Ok(());
    }
    let options = bytes_max.map_or_else(|| "mode=0755".to_owned(), |bytes| format!("mode=0755,size={bytes}"));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some(options.as_str())).map_err(io::Error::from)
}

/// Removes a directory with all that is mounted below; refuses to delete through what cannot be unmounted.
pub fn remove_all(dir: &Path) -> io::Result<()> {
    for point in below(dir)? {
        umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    if !below(dir)?.is_empty() {
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, "something is still mounted below"));
    }
    beneath::remove_tree(dir)
}
