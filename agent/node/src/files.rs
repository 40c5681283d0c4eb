//! Directories of ours on the disk: what is below belongs to pods, holds their secrets, and nobody else may look into it.
//! Containers get parts of it mounted, which need not pass through.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

const PRIVATE: u32 = 0o700;
/// The root of a volume is what a container sees: any of its users may look at it.
const VOLUME: u32 = 0o755;

/// A directory and its missing parents.
pub fn make_private(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(PRIVATE).create(dir)
}

/// The same, also when it was made otherwise.
pub fn ensure_private(dir: &Path) -> io::Result<()> {
    make_private(dir)?;
    match fs::metadata(dir)?.permissions().mode() & 0o7777 {
        PRIVATE => Ok(()),
        _ => fs::set_permissions(dir, Permissions::from_mode(PRIVATE)),
    }
}

/// The root of a volume, below directories of ours.
pub fn make_volume(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    make_private(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(VOLUME))
}
