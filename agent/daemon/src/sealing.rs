//! The key that Secrets are encrypted with in the database. It is kept beside the database's folder, not in it: a copy of
//! the database or of its snapshots gives no Secret away.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, ensure};
use skiff_store::{Config, Embedded, OpenError, SealingKey};

/// Opens the database with its key; blocks. A database from before there was a key gets one, unless it turns out that its
/// key is lost.
pub fn open(config: Config, key_file: &Path) -> anyhow::Result<Embedded> {
    let key = match read(key_file)? {
        Some(key) => key,
        None => {
            if config.dir.exists() {
                drop(open_once_free(&config).map_err(|error| lost(error, key_file))?);
            }
            make(key_file).with_context(|| format!("cannot write {}", key_file.display()))?
        }
    };
    Ok(open_once_free(&Config { sealing_key: Some(key), ..config })?)
}

fn lost(error: OpenError, key_file: &Path) -> anyhow::Error {
    let wants_key = matches!(error, OpenError::NoKey { .. });
    let error = anyhow::Error::from(error);
    if wants_key { error.context(format!("put the key {} back from a backup", key_file.display())) } else { error }
}

/// The file as it is now; for whoever only reads.
pub fn read(key_file: &Path) -> anyhow::Result<Option<SealingKey>> {
    let bytes = match std::fs::read(key_file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        bytes => bytes.with_context(|| format!("cannot read {}", key_file.display()))?,
    };
    ensure!(
        bytes.len() == SealingKey::BYTES,
        "{} does not hold a key: it has {} bytes, a key has {}; put it back from a backup",
        key_file.display(),
        bytes.len(),
        SealingKey::BYTES
    );
    let mut key = [0; SealingKey::BYTES];
    key.copy_from_slice(&bytes);
    Ok(Some(SealingKey::new(key)))
}

/// A new key, on the disk before anything is encrypted with it.
fn make(key_file: &Path) -> std::io::Result<SealingKey> {
    let mut key = [0; SealingKey::BYTES];
    std::fs::File::open("/dev/urandom").and_then(|mut file| std::io::Read::read_exact(&mut file, &mut key))?;
    let partial = key_file.with_extension("partial");
    let _ = std::fs::remove_file(&partial);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(&key)?;
    file.sync_all()?;
    std::fs::rename(&partial, key_file)?;
    if let Some(dir) = key_file.parent() {
        std::fs::File::open(dir)?.sync_all()?;
    }
    Ok(SealingKey::new(key))
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
mod tests {
    use bytes::Bytes;
    use skiff_store::{Expect, Store};

    use super::*;

    fn config(dir: &Path) -> Config {
        Config { sealed_prefixes: vec!["/s/".to_owned()], ..Config::new(dir.join("store")) }
    }

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    #[test]
    fn the_key_is_made_once_and_is_for_root_alone() {
        let dir = tempfile::tempdir().unwrap();
        let key_file = dir.path().join("secrets.key");
        // A database from before there was a key.
        block_on(async {
            let store = Embedded::open(config(dir.path())).unwrap();
            store.put("/s/a", Bytes::from("planted"), Expect::Absent).await.unwrap();
            store.close().await;
        });
        block_on(async {
            let store = open(config(dir.path()), &key_file).unwrap();
            assert_eq!(store.get("/s/a").await.unwrap().unwrap().value, "planted");
            store.close().await;
        });
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key_file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        let key = std::fs::read(&key_file).unwrap();
        drop(open(config(dir.path()), &key_file).unwrap());
        assert_eq!(std::fs::read(&key_file).unwrap(), key);
    }

    #[test]
    fn a_lost_or_broken_key_is_said_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let key_file = dir.path().join("secrets.key");
        block_on(async {
            let store = open(config(dir.path()), &key_file).unwrap();
            store.put("/s/a", Bytes::from("planted"), Expect::Absent).await.unwrap();
            store.close().await;
        });
        let aside = dir.path().join("aside");
        std::fs::rename(&key_file, &aside).unwrap();
        let error = format!("{:#}", open(config(dir.path()), &key_file).map(drop).unwrap_err());
        assert!(error.contains("secrets.key back from a backup") && error.contains("there is no key"), "{error}");
        assert!(!key_file.exists(), "no new key stands in the way of the old one");
        std::fs::write(&key_file, "short").unwrap();
        let error = format!("{:#}", open(config(dir.path()), &key_file).map(drop).unwrap_err());
        assert!(error.contains("it has 5 bytes"), "{error}");
        std::fs::remove_file(&key_file).unwrap();
        let database = dir.path().join("store/state.db");
        let intact = std::fs::read(&database).unwrap();
        std::fs::write(&database, "no database ".repeat(1000)).unwrap();
        let error = format!("{:#}", open(config(dir.path()), &key_file).map(drop).unwrap_err());
        assert!(error.contains("is damaged") && !error.contains("secrets.key"), "{error}");
        std::fs::write(&database, intact).unwrap();
        std::fs::rename(&aside, &key_file).unwrap();
        let store = open_once_free(&Config { sealing_key: read(&key_file).unwrap(), ..config(dir.path()) }).unwrap();
        assert_eq!(block_on(store.get("/s/a")).unwrap().unwrap().value, "planted");
    }
}
