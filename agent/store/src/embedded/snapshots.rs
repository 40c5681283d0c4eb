//! Copies of the database to fall back to. A snapshot is complete or absent: it is written beside and renamed.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::database::{self, Database};

const DIR: &str = "snapshots";
const SUFFIX: &str = ".db";
/// What a database that was replaced is called, with a suffix.
const ASIDE: &str = "state.db.";
/// One that is being written.
const PARTIAL: &str = "partial";

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("cannot write the snapshot {path}: {source}")]
    Copy { path: PathBuf, source: rusqlite::Error },
    #[error("cannot write the snapshot {path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
}

/// Takes a snapshot unless nothing durable was written since the newest one.
pub(super) fn take(database: &mut Database, snapshots_max: usize) -> Result<Option<PathBuf>, SnapshotError> {
    let path = path_of(database);
    if list_in(database.dir()).last() == Some(&path) {
        return Ok(None);
    }
    write(database, &path)?;
    let kept = list_in(database.dir());
    remove(&kept[..kept.len().saturating_sub(snapshots_max.max(1))])?;
    Ok(Some(path))
}

/// Takes one now and removes all others, where there are any: what they hold must not be left anywhere. Returns how many
/// there were.
pub(super) fn replace_all(database: &Database) -> Result<usize, SnapshotError> {
    let partial = database.dir().join(DIR).join(PARTIAL);
    remove_if_present(&partial).map_err(file_error(&partial))?;
    let old = list_in(database.dir());
    if old.is_empty() {
        return Ok(0);
    }
    let path = path_of(database);
    write(database, &path)?;
    let others: Vec<_> = old.iter().filter(|other| **other != path).cloned().collect();
    remove(&others)?;
    Ok(old.len())
}

fn path_of(database: &Database) -> PathBuf {
    database.dir().join(DIR).join(format!("{:020}{SUFFIX}", database.written()))
}

fn write(database: &Database, path: &Path) -> Result<(), SnapshotError> {
    let dir = database.dir().join(DIR);
    std::fs::create_dir_all(&dir).map_err(file_error(&dir))?;
    let partial = dir.join(PARTIAL);
    remove_if_present(&partial).map_err(file_error(&partial))?;
    database.copy_to(&partial).map_err(|source| SnapshotError::Copy { path: path.to_owned(), source })?;
    let copied = std::fs::File::open(&partial).and_then(|file| {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.sync_all()
    });
    copied.and_then(|()| std::fs::rename(&partial, path)).map_err(file_error(path))?;
    std::fs::File::open(&dir).and_then(|dir| dir.sync_all()).map_err(file_error(&dir))
}

fn remove(snapshots: &[PathBuf]) -> Result<(), SnapshotError> {
    snapshots.iter().try_for_each(|old| std::fs::remove_file(old).map_err(file_error(old)))
}

fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::File { path, source }
}

/// The newest snapshot that is intact.
pub fn newest(dir: &Path) -> Option<PathBuf> {
    list_in(dir).into_iter().rev().find(|path| database::is_intact(path))
}

/// Puts the newest intact snapshot in the database's place and keeps the old files beside it.
/// Returns the snapshot and where the old database is now.
pub fn restore(dir: &Path, suffix: &str) -> std::io::Result<Option<(PathBuf, PathBuf)>> {
    let Some(snapshot) = newest(dir) else { return Ok(None) };
    let database = database::file(dir);
    let aside = dir.join(format!("{ASIDE}{suffix}"));
    let staged = dir.join("state.db.restoring");
    std::fs::copy(&snapshot, &staged)?;
    database::skip_revisions(&staged).map_err(std::io::Error::other)?;
    std::fs::File::open(&staged)?.sync_all()?;
    for extension in ["-wal", "-shm"] {
        let side = |path: &Path| PathBuf::from(format!("{}{extension}", path.display()));
        if side(&database).exists() {
            std::fs::rename(side(&database), side(&aside))?;
        }
    }
    if database.exists() {
        std::fs::rename(&database, &aside)?;
    }
    std::fs::rename(&staged, &database)?;
    std::fs::File::open(dir)?.sync_all()?;
    Ok(Some((snapshot, aside)))
}

/// Databases that [`restore`] put aside: nothing reads them any more but their owner.
pub(super) fn set_aside(dir: &Path) -> Vec<PathBuf> {
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_aside = |name: String| name.starts_with(ASIDE) && !name.ends_with("-wal") && !name.ends_with("-shm");
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<_> = entries.filter(|path| is_aside(name(path))).collect();
    found.sort();
    found
}

/// All snapshots of a store's folder.
pub(super) fn list_in(dir: &Path) -> Vec<PathBuf> {
    list(&dir.join(DIR))
}

/// Oldest first.
fn list(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<_> = entries.filter(|path| path.to_string_lossy().ends_with(SUFFIX)).collect();
    found.sort();
    found
}

fn remove_if_present(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
