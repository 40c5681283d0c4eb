//! System calls on files below a directory that others write to while we do: a container may swap any name in its volume
//! for a link at any moment. Each name is opened below the descriptor of its parent, and nothing here follows a way out.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2, renameat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// A rename in the same moment can make the kernel give up; it then wants to be asked again.
const TRIES_MAX: usize = 128;
/// Directories open at once while a tree is removed. Deeper ones are brought up, so that no depth exhausts us.
const DEPTH_MAX: usize = 32;
/// Each round removes that many levels; whoever nests deeper than this, or goes on writing, keeps the rest.
const ROUNDS_MAX: usize = 10_000;

/// What is done with symbolic links on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// They are others': an error.
    Refused,
    /// They are our own: followed, but not out of the directory.
    Followed,
}

impl Links {
    fn resolve(self) -> ResolveFlag {
        let all = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        match self {
            Links::Refused => all | ResolveFlag::RESOLVE_NO_SYMLINKS,
            Links::Followed => all,
        }
    }
}

/// What tells a file from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    device: u64,
    number: u64,
    pub is_dir: bool,
    pub mode: u32,
}

impl Inode {
    pub fn of(fd: &OwnedFd) -> io::Result<Self> {
        Self::at(&proc_path(fd))
    }

    /// What the path leads to.
    pub fn at(path: &Path) -> io::Result<Self> {
        let meta = fs::metadata(path)?;
        Ok(Self { device: meta.dev(), number: meta.ino(), is_dir: meta.is_dir(), mode: meta.mode() & 0o7777 })
    }

    pub fn is(&self, other: &Self) -> bool {
        (self.device, self.number) == (other.device, other.number)
    }
}

/// The descriptor as a path: leads to exactly what is open, whatever its name has become.
pub fn proc_path(fd: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn open_as(dir: BorrowedFd<'_>, path: &Path, flags: OFlag, mode: Mode, resolve: ResolveFlag) -> io::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(mode).resolve(resolve);
    for _ in 0..TRIES_MAX {
        match openat2(dir, path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
            Ok(opened) => return Ok(opened),
        }
    }
    Err(Errno::EAGAIN.into())
}

/// A directory to begin with; its own path is nobody else's.
pub fn open_root(dir: &Path) -> io::Result<OwnedFd> {
    open_as(AT_FDCWD, dir, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty(), ResolveFlag::empty())
}

/// Something of any kind, to be mounted or looked at.
pub fn open(dir: &impl AsFd, path: &Path, links: Links) -> io::Result<OwnedFd> {
    open_as(dir.as_fd(), path, OFlag::O_PATH, Mode::empty(), links.resolve())
}

/// A plain file, to be read. Nothing else is: a pipe would never answer.
pub fn open_file(dir: &impl AsFd, path: &Path, links: Links) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = File::from(open_as(dir.as_fd(), path, flags, Mode::empty(), links.resolve())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// A file of ours in a directory of ours, to be read.
pub fn open_ours(path: &Path) -> io::Result<File> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    open_file(&open_root(parent)?, Path::new(path.file_name().unwrap_or_default()), Links::Refused)
}

/// A new file, to be written; an error if something of the name is there.
pub fn create(dir: &impl AsFd, name: &Path) -> io::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
    open_as(dir.as_fd(), name, flags, Mode::from_bits_truncate(0o600), Links::Refused.resolve()).map(File::from)
}

/// A directory with all its parents, each with the mode of the one above where it is new.
pub fn make_dirs(dir: &impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let mut current = open_as(dir.as_fd(), Path::new("."), flags, Mode::empty(), Links::Refused.resolve())?;
    for part in path.components() {
        let Component::Normal(name) = part else { continue };
        let open = || open_as(current.as_fd(), Path::new(name), flags, Mode::empty(), Links::Refused.resolve());
        current = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_dir(&current, name)?;
                let made = open()?;
                fchmod(&made, Mode::from_bits_truncate(Inode::of(&current)?.mode))?;
                made
            }
            opened => opened?,
        };
    }
    Ok(current)
}

fn make_dir(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match mkdirat(dir, name, Mode::from_bits_truncate(0o700)) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes a directory and all in it, and nothing that is mounted there. Fine if it is gone.
pub fn remove_tree(dir: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a directory of ours"));
    };
    let parent = match open_root(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    if unlink(&parent, name)? == Unlinked::Yes {
        return Ok(());
    }
    let top = open_to_remove(&parent, name)?;
    let mut moved = 0;
    for _ in 0..ROUNDS_MAX {
        empty(&top, &top, DEPTH_MAX, &mut moved)?;
        match unlinkat(&parent, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            // What was brought up from the deep.
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::ENOTEMPTY.into())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unlinked {
    Yes,
    IsDir,
}

fn unlink(dir: &impl AsFd, name: &OsStr) -> io::Result<Unlinked> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(Unlinked::Yes),
        Err(Errno::EISDIR) => Ok(Unlinked::IsDir),
        Err(error) => Err(error.into()),
    }
}

fn open_to_remove(dir: &impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let resolve = Links::Refused.resolve() | ResolveFlag::RESOLVE_NO_XDEV;
    open_as(dir.as_fd(), Path::new(name), OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty(), resolve)
}

fn empty(top: &OwnedFd, dir: &OwnedFd, depth: usize, moved: &mut u64) -> io::Result<()> {
    for entry in fs::read_dir(proc_path(dir))? {
        let name = entry?.file_name();
        if unlink(dir, &name)? == Unlinked::Yes {
            continue;
        }
        if depth == 0 {
            *moved += 1;
            let up = format!(".removed.{}.{moved}", std::process::id());
            renameat(dir, name.as_os_str(), top, up.as_str())?;
            continue;
        }
        empty(top, &open_to_remove(dir, &name)?, depth - 1, moved)?;
        match unlinkat(dir, name.as_os_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_is_opened_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        fs::write(dir.path().join("real/file"), "x").unwrap();
        symlink("real", dir.path().join("link")).unwrap();
        symlink("/etc", dir.path().join("out")).unwrap();
        let root = open_root(dir.path()).unwrap();
        let file = |path: &str, links| open_file(&root, Path::new(path), links).is_ok();
        assert!(file("real/file", Links::Refused));
        assert!(!file("link/file", Links::Refused) && file("link/file", Links::Followed));
        assert!(!file("out/passwd", Links::Refused) && !file("out/passwd", Links::Followed));
        assert!(!file("../x", Links::Followed) && !file("/etc/passwd", Links::Followed));
        nix::unistd::mkfifo(&dir.path().join("pipe"), Mode::from_bits_truncate(0o600)).unwrap();
        assert!(!file("pipe", Links::Refused), "a pipe would never answer");
        assert!(create(&root, Path::new("out")).is_err() && create(&root, Path::new("new")).is_ok());
        assert!(make_dirs(&root, Path::new("out/x")).is_err());
        assert!(!Path::new("/etc/x").exists());
    }

    #[test]
    fn new_directories_have_the_mode_of_the_one_above() {
        let dir = tempfile::tempdir().unwrap();
        let root = open_root(dir.path()).unwrap();
        fchmod(File::open(dir.path()).unwrap(), Mode::from_bits_truncate(0o2777)).unwrap();
        make_dirs(&root, Path::new("a/./b")).unwrap();
        assert_eq!(Inode::at(&dir.path().join("a/b")).unwrap().mode, 0o2777);
    }

    #[test]
    fn a_tree_of_any_depth_is_removed_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, kept) = (dir.path().join("tree"), dir.path().join("kept"));
        fs::create_dir_all(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        fs::create_dir(&tree).unwrap();
        symlink(&kept, tree.join("link")).unwrap();
        let mut deep = open_root(&tree).unwrap();
        for _ in 0..2000 {
            deep = make_dirs(&deep, Path::new("a-directory-with-a-long-name")).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && kept.join("file").exists());
        remove_tree(&tree).unwrap();
    }

    #[test]
    fn what_is_mounted_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, kept) = (dir.path().join("tree"), dir.path().join("kept"));
        fs::create_dir_all(tree.join("mnt")).unwrap();
        fs::create_dir_all(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        let none: Option<&str> = None;
        nix::mount::mount(Some(&kept), &tree.join("mnt"), none, nix::mount::MsFlags::MS_BIND, none).unwrap();
        assert!(remove_tree(&tree).is_err());
        nix::mount::umount(&tree.join("mnt")).unwrap();
        assert!(kept.join("file").exists());
    }
}
