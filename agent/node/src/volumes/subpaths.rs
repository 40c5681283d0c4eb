//! Parts of volumes. The part is opened once, below its volume, and what is open is mounted at a place of the pod's own
//! directory, which the runtime is handed: nobody resolves the path a second time, when a container may have swapped it.
//! The places are the kubelet's, `volume-subpaths/VOLUME/CONTAINER/INDEX`, and go with the pod's directory.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::beneath::{self, Inode, Links};
use super::mounts;
use crate::files;

#[derive(Debug, thiserror::Error)]
pub enum SubPathError {
    #[error("\"{path}\" must be relative and not contain '..'")]
    Invalid { path: String },
    #[error("\"{path}\" goes through a symbolic link, which a subPath may not")]
    Link { path: String },
    #[error("cannot open \"{path}\"")]
    Open { path: String, source: io::Error },
    #[error("cannot mount {}", place.display())]
    Mount { place: PathBuf, source: io::Error },
}

/// `POD_DIR/volume-subpaths/VOLUME/CONTAINER/INDEX`
pub fn place(pod_dir: &Path, volume: &str, container: &str, index: usize) -> PathBuf {
    root(pod_dir).join(volume).join(container).join(index.to_string())
}

pub fn root(pod_dir: &Path) -> PathBuf {
    pod_dir.join("volume-subpaths")
}

/// Makes a part of a volume appear at the place; a part that does not exist is made as a directory.
pub fn ensure(volume: &Path, path: &str, links: Links, place: &Path) -> Result<(), SubPathError> {
    let mut parts = Path::new(path).components();
    if !parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(SubPathError::Invalid { path: path.to_owned() });
    }
    let part =
        open(volume, Path::new(path), links).map_err(|source| match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ELOOP | Errno::EXDEV) => SubPathError::Link { path: path.to_owned() },
            _ => SubPathError::Open { path: path.to_owned(), source },
        })?;
    bind(&part, place).map_err(|source| SubPathError::Mount { place: place.to_owned(), source })
}

fn open(volume: &Path, path: &Path, links: Links) -> io::Result<OwnedFd> {
    let root = beneath::open_root(volume)?;
    match beneath::open(&root, path, links) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => beneath::make_dirs(&root, path),
        opened => opened,
    }
}

fn bind(part: &OwnedFd, place: &Path) -> io::Result<()> {
    let wanted = Inode::of(part)?;
    while mounts::is_mounted(place)? {
        // Of the container before.
        if Inode::at(place).is_ok_and(|now| now.is(&wanted)) {
            return Ok(());
        }
        umount2(place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    make_target(place, &wanted)?;
    let none: Option<&str> = None;
    mount(Some(&beneath::proc_path(part)), place, none, MsFlags::MS_BIND, none)?;
    Ok(())
}

/// A directory for a directory, a file for anything else.
fn make_target(place: &Path, wanted: &Inode) -> io::Result<()> {
    if let Some(parent) = place.parent() {
        files::make_private(parent)?;
    }
    match fs::symlink_metadata(place) {
        Ok(now) if now.is_dir() == wanted.is_dir => return Ok(()),
        Ok(_) => beneath::remove_tree(place)?,
        Err(_) => {}
    }
    match wanted.is_dir {
        true => fs::create_dir(place),
        false => File::create(place).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

    use super::*;

    /// A volume, and a folder of the host's that must not be seen.
    struct Planted {
        volume: PathBuf,
        host: PathBuf,
        place: PathBuf,
        dir: tempfile::TempDir,
    }

    impl Planted {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (volume, host) = (dir.path().join("v"), dir.path().join("host"));
            fs::create_dir_all(volume.join("a/b")).unwrap();
            fs::create_dir_all(host.join("b")).unwrap();
            fs::write(host.join("b/secret"), "x").unwrap();
            Self { volume, host, place: place(dir.path(), "v", "app", 0), dir }
        }

        fn ensure(&self, path: &str) -> Result<(), SubPathError> {
            ensure(&self.volume, path, Links::Refused, &self.place)
        }
    }

    impl Drop for Planted {
        fn drop(&mut self) {
            let _ = mounts::remove_all(&root(self.dir.path()));
        }
    }

    #[test]
    fn a_folder_that_is_swapped_for_a_link_never_shows_the_host() {
        let planted = Planted::new();
        symlink(&planted.host, planted.volume.join("link")).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, a, link) = (Arc::clone(&stop), planted.volume.join("a"), planted.volume.join("link"));
        let swapper = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                renameat2(AT_FDCWD, &a, AT_FDCWD, &link, RenameFlags::RENAME_EXCHANGE).unwrap();
            }
        });
        let mut leaks = 0;
        for _ in 0..1000 {
            let ready = planted.ensure("a/b").is_ok();
            // The runtime looks at what it is handed a little later.
            leaks += usize::from(ready && (0..20).any(|_| planted.place.join("secret").exists()));
        }
        stop.store(true, Ordering::Relaxed);
        swapper.join().unwrap();
        assert_eq!(leaks, 0);
    }

    #[test]
    fn parts_are_made_and_mounted_once() {
        let planted = Planted::new();
        planted.ensure("new/./deep").unwrap();
        fs::write(planted.volume.join("new/deep/file"), "1").unwrap();
        assert_eq!(fs::read_to_string(planted.place.join("file")).unwrap(), "1");
        planted.ensure("new/deep").unwrap();
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(table.lines().filter(|line| line.contains(planted.place.to_str().unwrap())).count(), 1);
        // Another part at the same place, and a file.
        planted.ensure("a/b").unwrap();
        assert!(!planted.place.join("file").exists());
        planted.ensure("new/deep/file").unwrap();
        assert_eq!(fs::read_to_string(&planted.place).unwrap(), "1");
    }

    #[test]
    fn links_and_ways_out_are_refused_with_their_path() {
        let planted = Planted::new();
        symlink("/etc", planted.volume.join("out")).unwrap();
        symlink("a", planted.volume.join("in")).unwrap();
        let refused = |path: &str| planted.ensure(path).unwrap_err().to_string();
        for link in ["out", "out/passwd", "in", "in/b"] {
            assert_eq!(refused(link), format!("\"{link}\" goes through a symbolic link, which a subPath may not"));
        }
        for bad in ["../x", "/etc", "a/../../x"] {
            assert_eq!(refused(bad), format!("\"{bad}\" must be relative and not contain '..'"));
        }
        assert!(!planted.place.exists());
    }

    #[test]
    fn our_own_links_are_followed_within_the_volume() {
        let planted = Planted::new();
        fs::write(planted.volume.join("a/key"), "value").unwrap();
        symlink("a", planted.volume.join("..data")).unwrap();
        symlink("..data/key", planted.volume.join("key")).unwrap();
        symlink("/etc/passwd", planted.volume.join("out")).unwrap();
        ensure(&planted.volume, "key", Links::Followed, &planted.place).unwrap();
        assert_eq!(fs::read_to_string(&planted.place).unwrap(), "value");
        assert!(ensure(&planted.volume, "out", Links::Followed, &planted.place).is_err());
    }

    #[test]
    fn what_an_agent_that_crashed_left_mounted_is_found_again() {
        let planted = Planted::new();
        planted.ensure("a/b").unwrap();
        fs::write(planted.volume.join("a/b/kept"), "x").unwrap();
        mounts::remove_all(&root(planted.dir.path())).unwrap();
        assert!(!mounts::is_mounted(&planted.place).unwrap());
        assert!(!root(planted.dir.path()).exists());
        assert!(planted.volume.join("a/b/kept").exists(), "the volume's own files are not touched");
    }
}
