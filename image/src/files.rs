//! Files of the trees that are packed: their permissions never depend on the builder's.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;

pub fn put(from: &Path, to: &Path, mode: u32) -> anyhow::Result<()> {
    let content = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    write(to, content, mode)
}

/// In the place of whatever is there; a link is replaced, not followed.
pub fn write(path: &Path, content: impl AsRef<[u8]>, mode: u32) -> anyhow::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    remove(path)?;
    std::fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
    Ok(())
}

pub fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}
