//! The keys that Secrets are encrypted with in the database. They are kept beside the database's folder, not in it: a copy
//! of the database or of its snapshots gives no Secret away.

mod key_file;
mod rotation;

use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;
use skiff_store::{Config, Embedded, OpenError};

pub use key_file::Keys;
#[cfg(test)]
pub use rotation::KeyStatus;
pub use rotation::{Asked, Rotated, Rotation, Status};

/// Opens the database with its keys; blocks. A database from before there was a key gets one, unless it turns out that its
/// key is lost.
pub fn open(config: Config, key_file: &Path) -> anyhow::Result<Embedded> {
    key_file::remove_partial(key_file)
        .with_context(|| format!("cannot remove what is left of {}", key_file.display()))?;
    let keys = match Keys::read(key_file)? {
        Some(keys) => keys,
        None => {
            if config.dir.exists() {
                drop(open_once_free(&config).map_err(|error| lost(error, key_file))?);
            }
            let keys = Keys::first(Timestamp::now());
            // On the disk before anything is encrypted with it.
            keys.write(key_file).with_context(|| format!("cannot write {}", key_file.display()))?;
            keys
        }
    };
    let config = Config { sealing_keys: keys.secrets(), ..config };
    open_once_free(&config).map_err(|error| lost(error, key_file))
}

fn lost(error: OpenError, key_file: &Path) -> anyhow::Error {
    let file = key_file.display();
    let what = match &error {
        OpenError::NoKey { .. } => format!("put the key {file} back from a backup"),
        OpenError::OtherKey { .. } => format!(
            "put {file} back from the same backup as the database, or add the lines of both files' keys, newest first"
        ),
        OpenError::Dir { .. }
        | OpenError::Damaged(_)
        | OpenError::Newer { .. }
        | OpenError::InUse { .. }
        | OpenError::Sqlite { .. }
        | OpenError::Snapshot(_)
        | OpenError::Thread(_) => return error.into(),
    };
    anyhow::Error::from(error).context(what)
}

/// The thread of a database that was just closed holds the file for a moment longer.
fn open_once_free(config: &Config) -> Result<Embedded, OpenError> {
    const TRIES_MAX: usize = 200;
    for _ in 0..TRIES_MAX {
        match Embedded::open(config.clone()) {
            Err(OpenError::InUse { .. }) => std::thread::sleep(std::time::Duration::from_millis(10)),
            result => return result,
        }
    }
    Embedded::open(config.clone())
}

#[cfg(test)]
mod tests;
