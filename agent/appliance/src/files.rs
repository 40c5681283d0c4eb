//! Files that are whole at every instant: a power cut leaves the old one or the new one.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Replaces a file, durably: the content is on the disk before the name points to it.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::other("a file is in a directory"))?;
    std::fs::create_dir_all(dir)?;
    // The name is one that FAT takes too; one that was left behind by a power cut is used again.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
    match file.set_permissions(Permissions::from_mode(mode)) {
        // FAT knows no modes.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        other => other?,
    }
    keep_owner(path, &file)?;
    file.write_all(content)?;
    file.sync_all()?;
    // FAT frees the old content with its last user, and writes a renamed file's entry with the file, not with the directory.
    let old = File::open(path).ok();
    std::fs::rename(&temporary, path)?;
    file.sync_all()?;
    sync(dir)?;
    drop(old);
    Ok(())
}

/// A file that belongs to a group, such as `/etc/shadow`, goes on to.
fn keep_owner(path: &Path, new: &File) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    match (std::fs::metadata(path), new.metadata()) {
        (Ok(old), Ok(fresh)) if (old.uid(), old.gid()) != (fresh.uid(), fresh.gid()) => {
            std::os::unix::fs::fchown(new, Some(old.uid()), Some(old.gid()))
        }
        (Ok(_) | Err(_), _) => Ok(()),
    }
}

/// Removes a file durably; fine if there is none.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes a symbolic link point elsewhere.
pub fn replace_link(path: &Path, target: &Path) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    remove(&temporary)?;
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::os::unix::fs::symlink(target, &temporary)?;
    std::fs::rename(&temporary, path)
}

/// Makes the names in a directory durable.
pub fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
