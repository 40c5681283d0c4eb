//! Writes a volume's files so that readers see either all old or all new ones: each set of files has a directory of its
//! own, `..data` is a link to the current one, and what the user sees are links through `..data`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

use nix::unistd::{Gid, Uid, fchown};

use super::beneath::{self, Links};
use crate::files;

/// One file of a volume. The content may be secret.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    pub data: Vec<u8>,
    pub mode: u32,
    /// The user the file belongs to, when not root.
    pub owner: Option<u32>,
}

/// Files by their path in the volume.
pub type Files = BTreeMap<String, File>;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Whether the path stays in the volume and away from our own names.
pub fn is_valid_path(path: &str) -> bool {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    plain && !path.is_empty() && !path.starts_with("..")
}

/// Makes the directory hold exactly these files. Answers whether something changed.
pub fn write(dir: &Path, files: &Files, fs_group: Option<u32>) -> io::Result<bool> {
    files::make_volume(dir)?;
    let old = fs::read_link(dir.join(DATA)).ok();
    if let Some(old) = &old
        && same(&dir.join(old), files)
    {
        return Ok(false);
    }
    let name = version_name(dir);
    write_version(&dir.join(&name), files, fs_group)?;
    let new_link = dir.join(DATA_NEW);
    remove_if_there(&new_link)?;
    symlink(&name, &new_link)?;
    fs::rename(&new_link, dir.join(DATA))?;
    link_entries(dir, files)?;
    for entry in fs::read_dir(dir)?.flatten() {
        let entry_name = entry.file_name().to_string_lossy().into_owned();
        let stale = entry_name.starts_with("..") && entry_name != DATA && entry_name != name;
        if stale {
            beneath::remove_tree(&entry.path())?;
        }
    }
    Ok(true)
}

/// A name that no earlier version has: the time, which `ls` then shows.
fn version_name(dir: &Path) -> String {
    let now = jiff::Timestamp::now();
    let stamp = now.strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    (now.subsec_nanosecond()..).map(|n| format!("{stamp}.{n}")).find(|name| !dir.join(name).exists()).unwrap_or(stamp)
}

/// Makes each file anew: nothing that somebody else put there is written to.
fn write_version(dir: &Path, files: &Files, fs_group: Option<u32>) -> io::Result<()> {
    fs::create_dir(dir)?;
    let root = beneath::open_root(dir)?;
    set_dir_mode(dir, fs_group)?;
    for (path, file) in files {
        let path = Path::new(path);
        let parent = beneath::make_dirs(&root, path.parent().unwrap_or(Path::new("")))?;
        fchown(&parent, None, fs_group.map(Gid::from_raw))?;
        let mut target = beneath::create(&parent, Path::new(path.file_name().unwrap_or_default()))?;
        target.write_all(&file.data)?;
        fchown(&target, file.owner.map(Uid::from_raw), fs_group.map(Gid::from_raw))?;
        let group_read = if fs_group.is_some() { 0o040 } else { 0 };
        target.set_permissions(fs::Permissions::from_mode(file.mode & 0o777 | group_read))?;
    }
    Ok(())
}

fn set_dir_mode(dir: &Path, fs_group: Option<u32>) -> io::Result<()> {
    chown(dir, None, fs_group)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
}

/// Compares content; modes and owners never change during a pod's life.
fn same(dir: &Path, files: &Files) -> bool {
    let Ok(root) = beneath::open_root(dir) else { return false };
    let mut present = BTreeSet::new();
    collect(dir, dir, &mut present);
    let wanted: BTreeSet<PathBuf> = files.keys().map(PathBuf::from).collect();
    let is_same = |(path, file): (&String, &File)| {
        let mut now = Vec::new();
        let opened = beneath::open_file(&root, Path::new(path), Links::Refused);
        let read = opened.and_then(|found| found.take(file.data.len() as u64 + 1).read_to_end(&mut now));
        read.is_ok() && now == file.data
    };
    present == wanted && files.iter().all(is_same)
}

fn collect(root: &Path, dir: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(root, &path, found);
        } else if let Ok(relative) = path.strip_prefix(root) {
            found.insert(relative.to_owned());
        }
    }
}

/// One link for each first part of a path; links of files that are gone are removed.
fn link_entries(dir: &Path, files: &Files) -> io::Result<()> {
    let first = |path: &String| path.split('/').next().unwrap_or_default().to_owned();
    let wanted: BTreeSet<String> = files.keys().map(first).collect();
    for entry in fs::read_dir(dir)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if is_link && !name.starts_with("..") && !wanted.contains(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    for name in wanted {
        let link = dir.join(&name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(&name), link)?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        let file = |text: &str| File { data: text.as_bytes().to_vec(), mode: 0o644, owner: None };
        list.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
    }

    #[test]
    fn a_change_replaces_all_files_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let read = |path: &str| fs::read_to_string(dir.path().join(path)).ok();
        assert!(write(dir.path(), &files(&[("a", "1"), ("d/b", "2")]), None).unwrap());
        assert_eq!(read("a").as_deref(), Some("1"));
        assert_eq!(read("d/b").as_deref(), Some("2"));
        let before = fs::read_link(dir.path().join("..data")).unwrap();
        assert!(!write(dir.path(), &files(&[("a", "1"), ("d/b", "2")]), None).unwrap());
        assert_eq!(fs::read_link(dir.path().join("..data")).unwrap(), before);
        assert!(write(dir.path(), &files(&[("a", "3")]), None).unwrap());
        assert_eq!((read("a").as_deref(), read("d/b")), (Some("3"), None));
        assert!(!dir.path().join(before).exists());
    }

    #[test]
    fn paths_cannot_leave_the_volume() {
        for bad in ["", "../x", "/x", "a/../../x", "..data", "./x"] {
            assert!(!is_valid_path(bad), "{bad}");
        }
        assert!(is_valid_path("a/b.c"));
    }
}
