//! The embedded store: the contract, crashes, damage, full disks, volatile keys, expiry.

use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Config, Embedded, OpenError, SealingKey, newest_snapshot, restore_snapshot};
use crate::{Change, Entry, Error, Expect, ListOptions, Store, Watch, contract};

fn open(dir: &Path) -> Embedded {
    Embedded::open(config(dir)).expect("the store opens")
}

fn config(dir: &Path) -> Config {
    Config { volatile_prefixes: vec!["/volatile/".to_owned()], ..Config::new(dir) }
}

/// Opens again once the previous writer thread has let go of the file.
fn reopen(store: Embedded) -> Result<Embedded, OpenError> {
    let config = (*store.config).clone();
    drop(store);
    for _ in 0..500 {
        match Embedded::open(config.clone()) {
            Err(OpenError::InUse { .. }) => std::thread::sleep(std::time::Duration::from_millis(10)),
            result => return result,
        }
    }
    panic!("the database is still in use");
}

async fn create(store: &Embedded, key: &str, text: &str) -> Entry {
    store.put(key, Bytes::copy_from_slice(text.as_bytes()), Expect::Absent).await.expect("created")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime")
}

#[tokio::test]
async fn passes_the_contract() {
    let dir = tempfile::tempdir().expect("tempdir");
    contract::run(&open(dir.path())).await;
}

#[tokio::test]
async fn volatile_keys_pass_the_contract_too() {
    let dir = tempfile::tempdir().expect("tempdir");
    let config = Config { volatile_prefixes: vec!["/".to_owned()], ..Config::new(dir.path()) };
    contract::run(&Embedded::open(config).expect("opens")).await;
}

#[tokio::test]
async fn keeps_what_was_acknowledged_and_forgets_what_is_volatile() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let kept = create(&store, "/kept", "1").await;
    let lease = create(&store, "/volatile/lease", "1").await;
    let store = reopen(store).expect("reopens");
    assert_eq!(store.get("/kept").await, Ok(Some(kept)));
    assert_eq!(store.get("/volatile/lease").await, Ok(None));
    let next = create(&store, "/next", "1").await;
    assert!(next.modified > lease.modified, "a revision given to a volatile key is not used again");
}

/// Pages in the log: its frames begin with the number of their page, and carry the salt of its header.
fn logged_pages(dir: &Path) -> usize {
    let log = std::fs::read(dir.join("state.db-wal")).expect("the log");
    let (header, frames) = log.split_at(32);
    frames.chunks_exact(24 + 4096).take_while(|frame| frame[..4] != [0; 4] && frame[8..16] == header[16..24]).count()
}

#[tokio::test]
async fn the_log_is_made_once_and_kept() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = dir.path().join("state.db-wal");
    let length = || log.metadata().expect("the log").len();
    let store = open(dir.path());
    let first = create(&store, "/a", "1").await;
    store.snapshot().await.expect("snapshot");
    create(&store, "/b", "1").await;
    let made = length();
    assert!(made > 4_000_000, "{made} bytes");
    for n in 0..1500 {
        create(&store, &format!("/many/{n}"), "x").await;
    }
    close(store).await;
    assert_eq!(length(), made, "it is written from its beginning again");
    assert_eq!(logged_pages(dir.path()), 0, "a database put in the place of this one has nothing of it");
    let store = open(dir.path());
    assert_eq!(store.get("/a").await, Ok(Some(first)));
    assert_eq!(length(), made);
    close(store).await;

    // As a large transaction leaves it.
    std::fs::OpenOptions::new().write(true).open(&log).expect("the log").set_len(5 * made).expect("longer");
    let store = open(dir.path());
    store.snapshot().await.expect("snapshot");
    create(&store, "/c", "1").await;
    assert_eq!((length(), store.get("/many/1499").await.expect("read").is_some()), (made, true));
    close(store).await;
}

#[tokio::test]
async fn volatile_writes_do_not_touch_the_disk() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    create(&store, "/volatile/first", "reserves revisions").await;
    let before = logged_pages(dir.path());
    for n in 0..200 {
        create(&store, &format!("/volatile/{n}"), "x").await;
    }
    assert_eq!(logged_pages(dir.path()), before);
}

#[tokio::test]
async fn a_second_agent_on_the_same_data_is_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    create(&store, "/a", "1").await;
    assert!(matches!(Embedded::open(config(dir.path())), Err(OpenError::InUse { .. })));
}

#[tokio::test]
async fn old_revisions_expire() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Embedded::open(Config { history_max: 10, ..Config::new(dir.path()) }).expect("opens");
    let start = store.revision();
    let mut slow = store.watch("/", start).await.expect("watch");
    for n in 0..20 {
        create(&store, &format!("/{n}"), "x").await;
    }
    assert!(matches!(store.watch("/", start).await, Err(Error::Expired { .. })));
    let past = store.list("/", ListOptions { at: Some(start), ..ListOptions::default() }).await;
    assert!(matches!(past, Err(Error::Expired { .. })));
    assert!(matches!(slow.next().await, Err(Error::Expired { .. })));
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Embedded::open(Config { size_bytes_max: 400 * 1024, ..Config::new(dir.path()) }).expect("opens");
    let mut kept = Vec::new();
    let refused = loop {
        let value = Bytes::from(vec![b'x'; 10_000]);
        match store.put(&format!("/{}", kept.len()), value, Expect::Absent).await {
            Ok(entry) => kept.push(entry),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, Error::Full);
    assert!(kept.len() > 20, "{}", kept.len());
    let first = &kept[0];
    store.delete(&first.key, first.modified).await.expect("deleting works on a full disk");
    let store = reopen(store).expect("reopens");
    for entry in &kept[1..] {
        assert_eq!(store.get(&entry.key).await.as_ref(), Ok(&Some(entry.clone())));
    }
}

#[tokio::test]
async fn damage_is_detected_and_the_newest_snapshot_restores() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let kept = create(&store, "/kept", &"needle".repeat(50)).await;
    let snapshot = store.snapshot().await.expect("snapshot").expect("something to keep");
    assert_eq!(store.snapshot().await, Ok(None), "nothing new, nothing written");
    let last = create(&store, "/after", "x").await;
    reopen(store).map(drop).expect("closes cleanly");
    std::thread::sleep(std::time::Duration::from_millis(100));

    flip_a_bit_of(&dir.path().join("state.db"), b"needleneedle");
    let Err(OpenError::Damaged(report)) = Embedded::open(config(dir.path())) else { panic!("damage is detected") };
    assert!(report.what.contains("/kept"), "{}", report.what);
    assert_eq!(report.newest_snapshot, Some(snapshot.clone()));
    assert!(report.to_string().contains("--restore-snapshot"));

    let (restored, aside) = restore_snapshot(dir.path(), "damaged").expect("restores").expect("a snapshot exists");
    assert_eq!(restored, snapshot);
    assert!(aside.exists());
    let store = open(dir.path());
    assert_eq!(store.get("/kept").await, Ok(Some(kept)));
    assert_eq!(store.get("/after").await, Ok(None));
    assert!(store.revision() > last.modified, "revisions given out after the snapshot are not used again");
}

#[tokio::test]
async fn a_truncated_database_is_detected() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    for n in 0..50 {
        create(&store, &format!("/{n}"), &"x".repeat(2000)).await;
    }
    store.snapshot().await.expect("snapshot");
    reopen(store).map(drop).expect("closes cleanly");
    std::thread::sleep(std::time::Duration::from_millis(100));
    let path = dir.path().join("state.db");
    let length = path.metadata().expect("database").len();
    for keep in [length / 2, 100, 0] {
        let file = std::fs::OpenOptions::new().write(true).open(&path).expect("open");
        file.set_len(keep).expect("truncate");
        let result = Embedded::open(config(dir.path()));
        assert!(matches!(result, Err(OpenError::Damaged(_))), "truncated to {keep}");
    }
}

#[tokio::test]
async fn history_is_bounded_by_bytes() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Embedded::open(Config { history_bytes_max: 10 << 20, ..Config::new(dir.path()) }).expect("opens");
    let start = store.revision();
    let large = || Bytes::from(vec![b'x'; 1_500_000]);
    let mut entry = store.put("/large", large(), Expect::Absent).await.expect("created");
    for _ in 0..20 {
        entry = store.put("/large", large(), Expect::At(entry.modified)).await.expect("changed");
    }
    assert!(matches!(store.watch("/", start).await, Err(Error::Expired { .. })));
    assert!(store.cache.history_size().1 <= 10 << 20);
    let small = store.revision();
    create(&store, "/small", "x").await;
    assert!(store.watch("/", small).await.is_ok(), "what is small is kept");
}

#[tokio::test]
async fn the_end_of_an_era_ends_watches_and_old_revisions() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    create(&store, "/a", "1").await;
    let before = store.revision();
    let mut watch = store.watch("/", before).await.expect("watch");
    store.end_era().await.expect("ended");
    assert!(matches!(watch.next().await, Err(Error::Expired { .. })));
    assert!(matches!(store.watch("/", before).await, Err(Error::Expired { .. })));
    assert_eq!(store.list("/", ListOptions::default()).await.expect("list").entries.len(), 1);
    let after = create(&store, "/b", "1").await;
    assert!(after.modified > before + 1);
}

/// As the first version made it.
fn write_format_1(dir: &Path) {
    let connection = rusqlite::Connection::open(dir.join("state.db")).expect("sqlite");
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE object (key TEXT PRIMARY KEY NOT NULL, created INTEGER NOT NULL, modified INTEGER NOT NULL,
                 checksum INTEGER NOT NULL, value BLOB NOT NULL) WITHOUT ROWID;
             CREATE TABLE meta (name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) WITHOUT ROWID;
             INSERT INTO meta VALUES ('reserved', 77);
             PRAGMA user_version = 1;",
        )
        .expect("tables");
    for n in 0..50_i64 {
        let (key, value) = (format!("/k/{n:02}"), vec![b'x'; 100 * n as usize]);
        let sum = super::database::checksum(&key, 10, &value);
        let row = rusqlite::params![key, 5, 10, sum, value];
        connection.execute("INSERT INTO object VALUES (?1, ?2, ?3, ?4, ?5)", row).expect("a row");
    }
}

#[tokio::test]
async fn the_first_format_is_taken_over() {
    let dir = tempfile::tempdir().expect("tempdir");
    write_format_1(dir.path());
    for _ in 0..2 {
        let store = open(dir.path());
        let page = store.list("/k/", ListOptions::default()).await.expect("list");
        assert_eq!(page.entries.len(), 50);
        assert!(page.entries.iter().enumerate().all(|(n, e)| e.value.len() == 100 * n && e.created == 5));
        assert!(store.revision() >= 77);
        close(store).await;
    }
}

#[tokio::test]
async fn a_change_of_a_pod_writes_one_page() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    // As much JSON as a pod has, of which little repeats.
    let pod = |n: usize| {
        let fields: String = (0..90).map(|i| format!("\"field{i}\":\"value {}\",", i * 7919 + n)).collect();
        Bytes::from(format!(
            "{{\"metadata\":{{\"name\":\"pod\"}},{fields}\"status\":{{\"n\":{n},\"list\":[{}]}}}}",
            "{\"type\":\"Ready\"},".repeat(100)
        ))
    };
    assert!(pod(0).len() > 3800, "{}", pod(0).len());
    let mut entries = Vec::new();
    for n in 0..50 {
        entries.push(store.put(&format!("/pods/{n}"), pod(n), Expect::Absent).await.expect("created"));
    }
    let before = logged_pages(dir.path());
    for (n, entry) in entries.iter().enumerate().take(20) {
        store.put(&entry.key, pod(n + 1000), Expect::At(entry.modified)).await.expect("changed");
    }
    let pages = logged_pages(dir.path()) - before;
    assert!(pages <= 22, "{pages} pages for 20 changes");
}

const NEEDLE: &str = "a planted secret that no file may hold";

fn sealed(dir: &Path) -> Config {
    Config {
        sealed_prefixes: vec!["/secrets/".to_owned()],
        sealing_keys: vec![SealingKey::new([3; SealingKey::BYTES])],
        ..config(dir)
    }
}

fn holds_needle(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("folder").flatten() {
        if entry.path().is_dir() {
            found.extend(holds_needle(&entry.path()));
        } else if std::fs::read(entry.path()).expect("file").windows(NEEDLE.len()).any(|w| w == NEEDLE.as_bytes()) {
            found.push(entry.path());
        }
    }
    found
}

async fn close(store: Embedded) {
    store.close().await;
}

#[tokio::test]
async fn what_is_sealed_is_in_no_file() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Embedded::open(sealed(dir.path())).expect("opens");
    let kept = create(&store, "/secrets/a", NEEDLE).await;
    create(&store, "/other", "plain").await;
    assert_eq!(holds_needle(dir.path()), Vec::<std::path::PathBuf>::new(), "the log");
    store.snapshot().await.expect("snapshot");
    close(store).await;
    assert_eq!(holds_needle(dir.path()), Vec::<std::path::PathBuf>::new(), "database and snapshot");
    let store = Embedded::open(sealed(dir.path())).expect("opens");
    assert_eq!(store.get("/secrets/a").await, Ok(Some(kept)));
    close(store).await;
    let Err(OpenError::NoKey { path }) = Embedded::open(config(dir.path())) else { panic!("it needs the key") };
    assert_eq!(path, dir.path().join("state.db"));
}

#[tokio::test]
async fn what_was_written_plain_is_sealed_when_there_is_a_key() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let first = create(&store, "/secrets/a", NEEDLE).await;
    for n in 0..50 {
        create(&store, &format!("/secrets/{n}"), &format!("{n} {NEEDLE} {}", "x".repeat(500 * n))).await;
    }
    let gone = store.get("/secrets/7").await.expect("read").expect("there");
    store.snapshot().await.expect("snapshot");
    store.delete("/secrets/7", gone.modified).await.expect("deleted");
    store.snapshot().await.expect("snapshot");
    close(store).await;
    assert!(!holds_needle(dir.path()).is_empty());
    let plain = newest_snapshot(dir.path()).expect("a snapshot");
    let aside = dir.path().with_extension("aside");
    std::fs::copy(&plain, &aside).expect("a copy");
    let store = Embedded::open(sealed(dir.path())).expect("opens");
    assert_eq!(store.get("/secrets/a").await, Ok(Some(first.clone())));
    close(store).await;
    assert_eq!(holds_needle(dir.path()), Vec::<std::path::PathBuf>::new());
    assert!(newest_snapshot(dir.path()).is_some());

    // Ended between the database and its snapshots.
    std::fs::rename(&aside, &plain).expect("the plain one again");
    let database = rusqlite::Connection::open(dir.path().join("state.db")).expect("the database");
    assert_eq!(database.execute("DELETE FROM meta WHERE name = 'sealed'", []), Ok(1));
    database.close().expect("closes");
    let store = Embedded::open(sealed(dir.path())).expect("opens");
    assert_eq!(store.get("/secrets/a").await, Ok(Some(first)));
    close(store).await;
    assert_eq!(holds_needle(dir.path()), Vec::<std::path::PathBuf>::new());
    assert!(newest_snapshot(dir.path()).is_some());
}

#[tokio::test]
async fn what_was_deleted_before_there_was_a_key_is_nowhere_either() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let made = create(&store, "/secrets/a", NEEDLE).await;
    store.snapshot().await.expect("snapshot");
    store.delete("/secrets/a", made.modified).await.expect("deleted");
    create(&store, "/other", "kept").await;
    close(store).await;
    assert!(!holds_needle(dir.path()).is_empty());
    let store = Embedded::open(sealed(dir.path())).expect("opens");
    close(store).await;
    assert_eq!(holds_needle(dir.path()), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn a_database_that_is_not_in_order_leaves_no_log() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Embedded::open(sealed(dir.path())).expect("opens");
    create(&store, "/secrets/a", NEEDLE).await;
    close(store).await;
    let Err(OpenError::NoKey { .. }) = Embedded::open(config(dir.path())) else { panic!("it needs the key") };
    let log = dir.path().join("state.db-wal");
    assert!(!log.exists() || logged_pages(dir.path()) == 0, "it would be folded into what is put back");
}

#[tokio::test]
async fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("tempdir");
    let store_dir = dir.path().join("store");
    let store = open(&store_dir);
    create(&store, "/a", "1").await;
    store.snapshot().await.expect("snapshot");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let loosen = |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("set");
    let snapshot = newest_snapshot(&store_dir).expect("a snapshot");
    assert_eq!((mode(&store_dir), mode(&snapshot)), (0o700, 0o600));
    close(store).await;
    for path in [&store_dir, &snapshot, &store_dir.join("state.db")] {
        loosen(path);
    }
    let _store = open(&store_dir);
    let modes = [&store_dir, &snapshot, &store_dir.join("state.db")].map(|path| mode(path));
    assert_eq!(modes, [0o700, 0o600, 0o600], "what an earlier version left open is closed at start");
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let connection = rusqlite::Connection::open(dir.path().join("state.db")).expect("sqlite");
    connection.execute_batch("CREATE TABLE future (x); PRAGMA user_version = 99;").expect("written");
    drop(connection);
    let path = dir.path().join("state.db");
    let before = std::fs::read(&path).expect("read");
    let Err(OpenError::Newer { found, .. }) = Embedded::open(config(dir.path())) else { panic!("refused") };
    assert_eq!(found, 99);
    assert!(std::fs::read(&path).expect("read") == before, "not a byte of it was changed");
}

fn flip_a_bit_of(path: &Path, needle: &[u8]) {
    let mut bytes = std::fs::read(path).expect("read");
    let at = bytes.windows(needle.len()).position(|w| w == needle).expect("the value is in the file");
    bytes[at] ^= 1;
    std::fs::write(path, bytes).expect("write");
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![(0..6u8, any::<u8>()).prop_map(|(k, v)| Step::Put(k, v)), (0..6u8).prop_map(Step::Delete)];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Replaying a watch over the first list gives the last list, and a reopened store holds the same.
    #[test]
    fn watch_replays_to_the_list(steps in steps()) {
        let dir = tempfile::tempdir().expect("tempdir");
        runtime().block_on(async {
            let store = open(dir.path());
            let start = store.revision();
            for step in &steps {
                let key = match step { Step::Put(k, _) | Step::Delete(k) => format!("/k/{k}") };
                let current = store.get(&key).await.expect("get");
                match (step, current) {
                    (Step::Put(_, v), None) => drop(store.put(&key, Bytes::from(vec![*v]), Expect::Absent).await.expect("put")),
                    (Step::Put(_, v), Some(e)) => drop(store.put(&key, Bytes::from(vec![*v]), Expect::At(e.modified)).await.expect("put")),
                    (Step::Delete(_), Some(e)) => drop(store.delete(&key, e.modified).await.expect("delete")),
                    (Step::Delete(_), None) => {}
                }
            }
            let list = store.list("/k/", ListOptions::default()).await.expect("list").entries;
            let mut replayed = std::collections::BTreeMap::new();
            let mut watch = store.watch("/k/", start).await.expect("watch");
            let mut upto = start;
            while upto < store.revision() {
                let (changes, seen) = watch.next().await.expect("changes");
                upto = seen;
                for change in changes {
                    match change {
                        Change::Put { entry, .. } => drop(replayed.insert(entry.key.to_string(), entry)),
                        Change::Deleted { previous, .. } => drop(replayed.remove(&*previous.key)),
                    }
                }
            }
            assert_eq!(replayed.into_values().collect::<Vec<_>>(), list);
            let store = reopen(store).expect("reopens");
            assert_eq!(store.list("/k/", ListOptions::default()).await.expect("list").entries, list);
        });
    }
}

#[tokio::test]
async fn who_watches_little_is_not_outrun_by_others() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Embedded::open(Config { history_max: 100, ..Config::new(dir.path()) }).expect("opens");
    create(&store, "/registry/secrets/a/one", "1").await;
    let since = store.revision();
    for number in 0..200 {
        create(&store, &format!("/registry/configmaps/a/{number}"), "1").await;
    }
    let mut quiet = store.watch("/registry/secrets/", since).await.expect("nothing of it was dropped");
    let expired = |error: Option<Error>| matches!(error, Some(Error::Expired { .. }));
    for busy in ["/registry/configmaps/", "/registry/configmaps/a/", "/registry/"] {
        assert!(expired(store.watch(busy, since).await.err()), "{busy}");
    }
    let second = create(&store, "/registry/secrets/a/two", "2").await;
    let (changes, _) = quiet.next().await.expect("a change");
    assert_eq!(changes.iter().map(|change| change.revision()).collect::<Vec<_>>(), [second.modified]);
    let at = ListOptions { at: Some(since), ..ListOptions::default() };
    assert_eq!(store.list("/registry/secrets/", at.clone()).await.expect("as it was").entries.len(), 1);
    assert!(expired(store.list("/registry/configmaps/", at).await.err()));
}
