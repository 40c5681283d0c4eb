//! Files that are whole for whoever reads them: the old content or the new one.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Replaces a file that a reboot may forget.
pub fn replace_volatile(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    std::fs::rename(&new, path)
}
