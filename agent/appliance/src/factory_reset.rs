//! The factory reset: a durable mark, and at the next boot, before anything uses the state, its removal.
//!
//! The owner's settings file is kept. The mark goes last, so that a power cut at any step only means going on.

use std::io;
use std::path::{Path, PathBuf};

use crate::files;
use crate::paths::Paths;

/// What is removed: all that the box has written, but not the partitions and directories themselves.
pub const REMOVED: &[&str] = &[
    "/var/lib/skiff",
    "/var/lib/containerd",
    "/var/lib/cni",
    "/var/lib/systemd",
    "/var/lib/private",
    "/var/log",
    "/var/tmp",
    "/var/cache",
    "/var/spool",
];

#[derive(Debug, thiserror::Error)]
#[error("cannot remove {path}")]
pub struct ResetError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Asks for a reset at the next boot; durable when it returns.
pub fn request(paths: &Paths) -> io::Result<()> {
    files::replace(&paths.factory_reset(), b"requested\n", 0o600)
}

/// Goes on with a reset that was asked for; whether there was one.
pub fn resume(paths: &Paths) -> Result<bool, ResetError> {
    resume_with(paths, &mut |path| remove_one(path))
}

/// The same with another way to remove one file or empty directory.
fn resume_with(paths: &Paths, remove: &mut impl FnMut(&Path) -> io::Result<()>) -> Result<bool, ResetError> {
    let mark = paths.factory_reset();
    if !mark.exists() {
        return Ok(false);
    }
    // What cannot be removed is told of and left: with the mark still there, the next boot would reset again what the owner
    // has set up by then.
    let mut failed = Vec::new();
    for dir in REMOVED {
        let dir = paths.at(dir);
        // A link instead of a directory leads out of the state: nothing is followed.
        if std::fs::symlink_metadata(&dir).is_ok_and(|meta| meta.is_dir()) {
            clear(&dir, &mark, remove, &mut failed);
            failed.extend(files::sync(&dir).err().map(|source| ResetError { path: dir, source }));
        }
    }
    remove(&mark).map_err(|source| ResetError { path: mark.clone(), source })?;
    if let Some(dir) = mark.parent() {
        files::sync(dir).map_err(|source| ResetError { path: mark.clone(), source })?;
    }
    failed.into_iter().next().map_or(Ok(true), Err)
}

/// Removes all that is in a directory but the mark and what leads to it.
fn clear(dir: &Path, mark: &Path, remove: &mut impl FnMut(&Path) -> io::Result<()>, failed: &mut Vec<ResetError>) {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(source) => return failed.push(ResetError { path: dir.to_owned(), source }),
    };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path != mark) {
        if std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
            clear(&path, mark, remove, failed);
        }
        if !mark.starts_with(&path) {
            let result = remove(&path);
            failed.extend(result.err().map(|source| ResetError { path, source }));
        }
    }
}

fn remove_one(path: &Path) -> io::Result<()> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(paths: &Paths) {
        for name in [
            "var/lib/skiff/store/db",
            "var/lib/skiff/host/secrets/password_hash",
            "var/log/journal/x",
            "var/lib/containerd/a/b/c",
            "var/other/keep",
        ] {
            let path = paths.at(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        std::os::unix::fs::symlink(paths.at("var/other"), paths.at("var/log/link")).unwrap();
        request(paths).unwrap();
    }

    fn assert_reset(paths: &Paths) {
        assert!(!paths.factory_reset().exists());
        for name in [
            "var/lib/skiff/store",
            "var/lib/skiff/host/secrets",
            "var/log/journal",
            "var/log/link",
            "var/lib/containerd/a",
        ] {
            assert!(std::fs::symlink_metadata(paths.at(name)).is_err(), "{name} is left");
        }
        assert!(paths.at("var/other/keep").exists(), "a link is not followed");
    }

    #[test]
    fn nothing_is_removed_without_the_mark() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path());
        fill(&paths);
        std::fs::remove_file(paths.factory_reset()).unwrap();
        assert!(!resume(&paths).unwrap());
        assert!(paths.at("var/lib/skiff/store/db").exists());
    }

    #[test]
    fn a_power_cut_after_any_step_is_gone_on_from() {
        for steps in 0..40 {
            let dir = tempfile::tempdir().unwrap();
            let paths = Paths::new(dir.path());
            fill(&paths);
            let mut left = steps;
            let cut = resume_with(&paths, &mut |path| {
                if left == 0 {
                    return Err(io::Error::other("the power was cut"));
                }
                left -= 1;
                remove_one(path)
            });
            if cut.is_ok() {
                assert!(steps > 8, "each removal was cut once");
                return assert_reset(&paths);
            }
            assert!(paths.factory_reset().exists(), "the mark goes last");
            assert!(resume(&paths).unwrap());
            assert_reset(&paths);
            assert!(!resume(&paths).unwrap());
        }
        panic!("the reset does not end");
    }
}
