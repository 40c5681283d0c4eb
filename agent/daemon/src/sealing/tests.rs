//! Opening with the keys there are, and rotations that end anywhere.

use bytes::Bytes;
use skiff_store::{Expect, ListOptions, SealingKey, Store};

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
    assert!(error.contains("it has 5 bytes") && error.contains("put it back from a backup"), "{error}");
    std::fs::remove_file(&key_file).unwrap();
    let database = dir.path().join("store/state.db");
    let intact = std::fs::read(&database).unwrap();
    std::fs::write(&database, "no database ".repeat(1000)).unwrap();
    let error = format!("{:#}", open(config(dir.path()), &key_file).map(drop).unwrap_err());
    assert!(error.contains("is damaged") && !error.contains("secrets.key"), "{error}");
    std::fs::write(&database, intact).unwrap();
    std::fs::rename(&aside, &key_file).unwrap();
    let store = open_once_free(&Config {
        sealing_keys: Keys::read(&key_file).unwrap().unwrap().secrets(),
        ..config(dir.path())
    })
    .unwrap();
    assert_eq!(block_on(store.get("/s/a")).unwrap().unwrap().value, "planted");
}

const SECRETS: usize = 40;

async fn fill(store: &Embedded) {
    for n in 0..SECRETS {
        store.put(&format!("/s/{n}"), Bytes::from(format!("planted {n}")), Expect::Absent).await.unwrap();
    }
}

async fn assert_whole(store: &Embedded) {
    for entry in store.list("/s/", ListOptions::default()).await.unwrap().entries {
        assert_eq!(entry.value, entry.key.replace("/s/", "planted "));
    }
    assert_eq!(store.size().0, SECRETS);
}

fn counts(status: &Status) -> Vec<(usize, usize)> {
    status.keys.iter().map(|key| (key.values, key.values_in_snapshots)).collect()
}

#[test]
fn a_rotation_leaves_the_new_key_alone() {
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("secrets.key");
    // The form of the key before, too.
    std::fs::write(&key_file, [7; SealingKey::BYTES]).unwrap();
    block_on(async {
        let store = open(config(dir.path()), &key_file).unwrap();
        fill(&store).await;
        store.snapshot().await.unwrap();
        let rotation = Rotation::new(store.clone(), key_file.clone());
        let before = rotation.status().await.unwrap();
        assert_eq!(counts(&before), [(SECRETS, SECRETS)]);
        assert!(rotation.finish().await.unwrap().is_none(), "none was begun");
        let rotated = rotation.rotate().await.unwrap();
        assert_eq!((rotated.values, rotated.snapshots, rotated.was_begun), (SECRETS, 1, false));
        assert_eq!(rotated.dropped, [before.keys[0].key.clone()]);
        let after = rotation.status().await.unwrap();
        assert_eq!(counts(&after), [(SECRETS, SECRETS)]);
        assert_eq!((&after.keys[0].key, after.keys[0].made), (&rotated.key, rotated.made));
        store.close().await;
        let store = open(config(dir.path()), &key_file).unwrap();
        assert_whole(&store).await;
        store.close().await;
    });
}

/// Each step is followed by an end without a word, and by a start.
#[test]
fn a_rotation_that_was_begun_is_gone_on_with() {
    for step in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let key_file = dir.path().join("secrets.key");
        block_on(async {
            let store = open(config(dir.path()), &key_file).unwrap();
            fill(&store).await;
            let old = Keys::read(&key_file).unwrap().unwrap();
            let keys = old.with_new(Timestamp::now());
            keys.write(&key_file).unwrap();
            match step {
                0 => {}
                1 => store.use_keys(keys.secrets()).await.unwrap(),
                _ => drop(store.reseal(keys.secrets()).await.unwrap()),
            }
            std::fs::write(key_file.with_extension("partial"), old.secrets()[0].expose()).unwrap();
            store.close().await;
            let store = open(config(dir.path()), &key_file).unwrap();
            assert!(!key_file.with_extension("partial").exists(), "the old key is nowhere else");
            assert_whole(&store).await;
            let rotation = Rotation::new(store.clone(), key_file.clone());
            let rotated = rotation.finish().await.unwrap().expect("there was one");
            assert!(rotated.was_begun);
            assert_eq!(rotated.key, keys.newest().secret.id().to_string());
            assert_eq!(Keys::read(&key_file).unwrap().unwrap().secrets(), keys.secrets()[..1]);
            store.close().await;
            let store = open(config(dir.path()), &key_file).unwrap();
            assert_whole(&store).await;
            store.close().await;
        });
    }
}

#[test]
fn a_file_that_was_exchanged_meanwhile_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("secrets.key");
    block_on(async {
        let store = open(config(dir.path()), &key_file).unwrap();
        fill(&store).await;
        let own = std::fs::read(&key_file).unwrap();
        let rotation = Rotation::new(store.clone(), key_file.clone());
        let other = Keys::first(Timestamp::now()).with_new(Timestamp::now());
        other.write(&key_file).unwrap();
        for error in [rotation.rotate().await.unwrap_err(), rotation.finish().await.unwrap_err()] {
            assert!(
                error.to_string().contains("has not the key") && error.to_string().contains("put that back"),
                "{error}"
            );
        }
        std::fs::write(&key_file, "garbage").unwrap();
        assert!(rotation.rotate().await.unwrap_err().to_string().contains("is no file of keys"));
        std::fs::remove_file(&key_file).unwrap();
        for error in [rotation.rotate().await.map(drop), rotation.status().await.map(drop)] {
            assert!(error.unwrap_err().to_string().contains("is gone: put it back"));
        }
        std::fs::write(&key_file, own).unwrap();
        rotation.rotate().await.unwrap();
        store.close().await;
    });
}

#[test]
fn a_database_from_another_backup_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("secrets.key");
    block_on(async {
        let store = open(config(dir.path()), &key_file).unwrap();
        fill(&store).await;
        store.close().await;
        let own = Keys::read(&key_file).unwrap().unwrap();
        Keys::first(Timestamp::now()).write(&key_file).unwrap();
        let error = format!("{:#}", open(config(dir.path()), &key_file).map(drop).unwrap_err());
        let id = own.newest().secret.id().to_string();
        for part in [id.as_str(), "secrets.key back from the same backup", "Nothing was changed"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        own.write(&key_file).unwrap();
        let store = open(config(dir.path()), &key_file).unwrap();
        assert_whole(&store).await;
        store.close().await;
    });
}
