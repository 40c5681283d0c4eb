//! Control groups: removing a whole tree, in every hierarchy that is mounted.

use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// Removes `/sys/fs/cgroup/NAME` (version 2) and `/sys/fs/cgroup/*/NAME` (version 1). A group with processes stays.
pub fn remove(name: &str) {
    let hierarchies = std::fs::read_dir(ROOT).into_iter().flatten().flatten().map(|entry| entry.path());
    for tree in hierarchies.chain([PathBuf::from(ROOT)]).map(|root| root.join(name)).filter(|tree| tree.is_dir()) {
        remove_tree(&tree);
    }
}

fn remove_tree(dir: &Path) {
    let children = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    for child in children.filter(|path| path.is_dir()) {
        remove_tree(&child);
    }
    if let Err(error) = std::fs::remove_dir(dir) {
        tracing::warn!(%error, path = %dir.display(), "control group was not removed");
    }
}
