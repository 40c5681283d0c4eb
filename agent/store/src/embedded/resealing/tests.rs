//! Another key: what is readable with which keys, at any instant, and what is left of the old one.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::*;
use crate::{Config, Expect, ListOptions, OpenError, Store, Write, newest_snapshot, restore_snapshot};

const OLD: [u8; SealingKey::BYTES] = [3; SealingKey::BYTES];
const NEW: [u8; SealingKey::BYTES] = [4; SealingKey::BYTES];
/// Several portions of rows.
const SECRETS: usize = 2 * PORTION_ROWS_MAX + 7;

fn keys(all: &[[u8; SealingKey::BYTES]]) -> Vec<SealingKey> {
    all.iter().copied().map(SealingKey::new).collect()
}

fn with(key: [u8; SealingKey::BYTES]) -> SealedWith {
    SealedWith::Key(SealingKey::new(key).id())
}

fn config(dir: &Path, all: &[[u8; SealingKey::BYTES]]) -> Config {
    Config { sealed_prefixes: vec!["/secrets/".to_owned()], sealing_keys: keys(all), ..Config::new(dir) }
}

fn open(dir: &Path, all: &[[u8; SealingKey::BYTES]]) -> Embedded {
    Embedded::open(config(dir, all)).expect("opens")
}

fn secret(n: usize) -> Bytes {
    Bytes::from(format!("planted secret number {n}"))
}

async fn fill(store: &Embedded) {
    let secrets = (0..SECRETS).map(|n| Write::put(&format!("/secrets/{n:05}"), secret(n), Expect::Absent));
    let other = Write::put("/other", Bytes::from("plain"), Expect::Absent);
    store.commit(secrets.chain([other]).collect()).await.expect("created");
}

async fn assert_whole(store: &Embedded) {
    let page = store.list("/secrets/", ListOptions::default()).await.expect("list");
    assert_eq!(page.entries.len(), SECRETS);
    assert!(page.entries.iter().enumerate().all(|(n, entry)| entry.value == secret(n)));
    assert_eq!(store.get("/other").await.expect("read").expect("there").value, "plain");
}

/// As the version before wrote them: sealed values do not name their key.
fn make_unnamed(dir: &Path) {
    let connection = Connection::open(dir.join("state.db")).expect("the database");
    connection.pragma_update(None, "user_version", 2).expect("written");
    connection.close().expect("closes");
}

async fn old_database(dir: &Path, form: u8) {
    open(dir, &[OLD]).close().await;
    if form == 2 {
        make_unnamed(dir);
    }
    let store = open(dir, &[OLD]);
    fill(&store).await;
    store.snapshot().await.expect("snapshot");
    store.put("/more", Bytes::from("x"), Expect::Absent).await.expect("created");
    store.snapshot().await.expect("snapshot");
    store.close().await;
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("folder").flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The files that hold one of these values.
fn holding(dir: &Path, values: &[Vec<u8>]) -> Vec<PathBuf> {
    let holds = |path: &PathBuf| {
        let content = std::fs::read(path).expect("file");
        values.iter().any(|value| content.windows(value.len()).any(|part| part == value))
    };
    files(dir).into_iter().filter(holds).collect()
}

fn sealed_values(dir: &Path) -> Vec<Vec<u8>> {
    let connection = Connection::open(dir.join("state.db")).expect("the database");
    let mut statement = connection.prepare("SELECT value FROM object WHERE key LIKE '/secrets/%01'").expect("query");
    let values = statement.query_map([], |row| row.get(0)).expect("rows");
    values.map(|value| value.expect("a value")).collect()
}

fn copy(from: &Path, to: &Path) {
    for path in files(from) {
        let target = to.join(path.strip_prefix(from).expect("below"));
        std::fs::create_dir_all(target.parent().expect("a folder")).expect("created");
        std::fs::copy(path, target).expect("copied");
    }
}

#[tokio::test]
async fn everything_gets_the_new_key_and_nothing_of_the_old_is_left() {
    for form in [2, 3] {
        let dir = tempfile::tempdir().expect("tempdir");
        old_database(dir.path(), form).await;
        let old = sealed_values(dir.path());
        assert!(!holding(dir.path(), &old).is_empty());
        let store = open(dir.path(), &[OLD]);
        let before = if form == 2 { SealedWith::Unnamed } else { with(OLD) };
        let (own, snapshots) = store.keys_in_use().await.expect("read");
        assert_eq!((own, snapshots), (KeyUse::from([(before, SECRETS)]), KeyUse::from([(before, 2 * SECRETS)])));
        let revision = store.revision();
        std::fs::write(dir.path().join("snapshots/0.db"), "damaged ".repeat(1000)).expect("written");
        assert_eq!(store.keys_in_use().await.expect("read").1.len(), 1, "what is damaged is passed over");

        let done = store.reseal(keys(&[NEW, OLD])).await.expect("resealed");
        assert_eq!(done, Resealed { values: SECRETS, snapshots: 3, left: Vec::new() });
        let in_use = store.keys_in_use().await.expect("read");
        let all_new = KeyUse::from([(with(NEW), SECRETS)]);
        assert_eq!(in_use, (all_new.clone(), all_new));
        assert_eq!(store.revision(), revision, "readers see nothing of it");
        assert_whole(&store).await;
        assert_eq!(holding(dir.path(), &old), Vec::<PathBuf>::new(), "while it is open");
        store.use_keys(keys(&[NEW])).await.expect("the old key goes");
        let late = store.put("/secrets/late", Bytes::from("late"), Expect::Absent).await.expect("created");
        store.delete("/secrets/late", late.modified).await.expect("deleted");
        store.close().await;
        assert_eq!(holding(dir.path(), &old), Vec::<PathBuf>::new(), "when it is closed");

        assert_whole(&open(dir.path(), &[NEW])).await;
        let snapshot = newest_snapshot(dir.path()).expect("a snapshot");
        let elsewhere = tempfile::tempdir().expect("tempdir");
        std::fs::copy(snapshot, elsewhere.path().join("state.db")).expect("copied");
        assert_whole(&open(elsewhere.path(), &[NEW])).await;
    }
}

#[tokio::test]
async fn a_database_of_before_is_written_as_before_until_it_gets_another_key() {
    let dir = tempfile::tempdir().expect("tempdir");
    old_database(dir.path(), 2).await;
    let store = open(dir.path(), &[OLD]);
    store.put("/secrets/x", Bytes::from("x"), Expect::Absent).await.expect("created");
    assert_eq!(store.keys_in_use().await.expect("read").0, KeyUse::from([(SealedWith::Unnamed, SECRETS + 1)]));
    store.close().await;
    let format = |dir: &Path| {
        let connection = Connection::open(dir.join("state.db")).expect("the database");
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).expect("a number")
    };
    assert_eq!(format(dir.path()), 2, "the version before reads it");
    let store = open(dir.path(), &[OLD]);
    store.reseal(keys(&[NEW, OLD])).await.expect("resealed");
    store.close().await;
    assert_eq!(format(dir.path()), 3, "the version before refuses it");
}

/// The folder as it is after each step is what a power cut there would leave.
#[tokio::test]
async fn whatever_instant_it_ends_at_nothing_is_lost_and_it_is_gone_on_with() {
    for form in [2, 3] {
        let dir = tempfile::tempdir().expect("tempdir");
        old_database(dir.path(), form).await;
        let old = sealed_values(dir.path());
        let store = open(dir.path(), &[OLD]);
        let images = tempfile::tempdir().expect("tempdir");
        let mut count = 0;
        let mut image = || {
            copy(dir.path(), &images.path().join(count.to_string()));
            count += 1;
        };
        image();
        store.use_keys(keys(&[NEW, OLD])).await.expect("used");
        image();
        let mut after = Some(String::new());
        while let Some(from) = after {
            after =
                store.between_writes(move |database| reseal_portion(database, &from)).await.expect("a portion").last;
            store.snapshot().await.expect("one of rows under both keys");
            image();
        }
        store.between_writes(leave_nothing_old).await.expect("nothing old");
        image();
        assert!(count > 5, "{count}");
        for n in 0..count {
            let image = images.path().join(n.to_string());
            let store = open(&image, &[NEW, OLD]);
            assert_whole(&store).await;
            store.reseal(keys(&[NEW, OLD])).await.expect("gone on with");
            store.use_keys(keys(&[NEW])).await.expect("used");
            store.close().await;
            assert_eq!(holding(&image, &old), Vec::<PathBuf>::new(), "{n}");
            assert_whole(&open(&image, &[NEW])).await;
        }
    }
}

#[tokio::test]
async fn others_write_meanwhile() {
    let dir = tempfile::tempdir().expect("tempdir");
    old_database(dir.path(), 3).await;
    let store = open(dir.path(), &[OLD]);
    let writes = async {
        for n in 0..100 {
            let key = format!("/secrets/{:05}", n * 5);
            let entry = store.get(&key).await.expect("read").expect("there");
            store.delete(&key, entry.modified).await.expect("deleted");
            let made = store.put(&key, Bytes::from("other"), Expect::Absent).await.expect("created");
            store.put(&key, secret(n * 5), Expect::At(made.modified)).await.expect("changed");
        }
    };
    let (done, ()) = tokio::join!(store.reseal(keys(&[NEW, OLD])), writes);
    assert!(done.expect("resealed").values <= SECRETS);
    assert_eq!(store.keys_in_use().await.expect("read").0, KeyUse::from([(with(NEW), SECRETS)]));
    store.close().await;
    assert_whole(&open(dir.path(), &[NEW])).await;
}

#[tokio::test]
async fn a_key_that_does_not_fit_is_said() {
    for form in [2, 3] {
        let dir = tempfile::tempdir().expect("tempdir");
        old_database(dir.path(), form).await;
        let Err(error @ OpenError::OtherKey { .. }) = Embedded::open(config(dir.path(), &[NEW])) else {
            panic!("refused")
        };
        let wanted = if form == 2 { "another key".to_owned() } else { SealingKey::new(OLD).id().to_string() };
        for part in ["state.db", "/secrets/", &wanted, &SealingKey::new(NEW).id().to_string(), "Nothing was changed"] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
        assert_whole(&open(dir.path(), &[NEW, OLD])).await;
    }
}

/// A database that was put aside is its owner's: it is named, not changed.
#[tokio::test]
async fn what_was_put_aside_is_named() {
    let dir = tempfile::tempdir().expect("tempdir");
    old_database(dir.path(), 3).await;
    let (_, aside) = restore_snapshot(dir.path(), "replaced-1").expect("restores").expect("a snapshot");
    let before = std::fs::read(&aside).expect("read");
    let store = open(dir.path(), &[OLD]);
    let done = store.reseal(keys(&[NEW, OLD])).await.expect("resealed");
    assert_eq!(done.left, std::slice::from_ref(&aside));
    assert!(std::fs::read(&aside).expect("read") == before);
}
