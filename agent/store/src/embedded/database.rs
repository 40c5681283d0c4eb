//! Every touch of SQLite: schema, pragmas, the check at start, commits.
//!
//! One row is one key. Each row carries a checksum of its own, since SQLite's integrity check does not notice a flipped
//! bit inside a value. Values that are secrets are sealed on their way in and unsealed when they are loaded; `resealing`
//! gives them another key. The folder and its files are for root alone.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use super::sealing::{Form, KeyId, SealedWith, Sealer, SealingKey, UnsealError};
use super::{Config, log, snapshots};
use crate::{Change, Entry, Revision, packing};

const FILE: &str = "state.db";
/// 2: values may be packed and sealed; a table with row numbers.
/// 3: sealed values name their key. A database gets it when it is made, or with its second key: until then the version
/// before can be gone back to.
const FORMAT: i64 = 3;
const FORMAT_UNNAMED: i64 = 2;
/// The database's page size; also the unit of `max_page_count`.
pub(super) const PAGE_BYTES: u64 = 4096;

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot create {path}")]
    Dir {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{0}")]
    Damaged(DamageReport),
    #[error(
        "{path} was written by a newer version (format {found}, this version knows {FORMAT}): update the program, or restore a snapshot made before the update"
    )]
    Newer { path: PathBuf, found: i64 },
    #[error("{path} holds encrypted objects, and there is no key: was the key file moved or lost? Nothing was changed")]
    NoKey { path: PathBuf },
    #[error(
        "{path} holds encrypted objects, such as {key}, that need {wanted}, and the key file has only {held}: were the \
         database and the key file put back from different backups? Nothing was changed"
    )]
    OtherKey { path: PathBuf, key: String, wanted: String, held: String },
    #[error("{path} is in use by another process")]
    InUse { path: PathBuf },
    #[error("cannot open {path}")]
    Sqlite {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("the snapshots hold secrets that are not encrypted, and cannot be replaced")]
    Snapshot(#[from] snapshots::SnapshotError),
    #[error("cannot start the writer thread")]
    Thread(#[source] std::io::Error),
}

/// What is wrong with the database, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamageReport {
    pub path: PathBuf,
    pub what: String,
    pub newest_snapshot: Option<PathBuf>,
}

impl std::fmt::Display for DamageReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the database {} is damaged: {}. Nothing was changed. ", self.path.display(), self.what)?;
        match &self.newest_snapshot {
            Some(path) => write!(
                f,
                "The newest intact snapshot is {}; `skiff up --restore-snapshot` starts from it and keeps the damaged \
                 file beside it",
                path.display()
            ),
            None => write!(
                f,
                "There is no snapshot; restore {} from a backup, or move it away to start empty",
                self.path.display()
            ),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("commit failed: {0}")]
pub(super) struct CommitError(#[from] rusqlite::Error);

impl CommitError {
    pub(super) fn as_store_error(&self) -> crate::Error {
        match self.0.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => crate::Error::Full,
            _ => crate::Error::Backend(self.0.to_string()),
        }
    }
}

pub(super) struct Loaded {
    pub(super) entries: Vec<Entry>,
    pub(super) revision: Revision,
}

pub(super) struct Database {
    connection: Connection,
    dir: PathBuf,
    sealer: Sealer,
    reserved: Revision,
    /// The newest durable write known; tells whether a snapshot would hold anything new.
    written: Revision,
}

impl Database {
    pub(super) fn open(config: &Config) -> Result<(Self, Loaded), OpenError> {
        make_private(&config.dir).map_err(|source| OpenError::Dir { path: config.dir.clone(), source })?;
        let path = config.dir.join(FILE);
        let exists = path.metadata().is_ok_and(|m| m.len() > 0);
        let damaged = |what: String| {
            OpenError::Damaged(DamageReport {
                path: path.clone(),
                what,
                newest_snapshot: snapshots::newest(&config.dir),
            })
        };
        let failed = |source: rusqlite::Error| match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(source.to_string()),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse { path: path.clone() },
            _ => OpenError::Sqlite { path: path.clone(), source },
        };
        if !exists && snapshots::newest(&config.dir).is_some() {
            return Err(damaged("it is missing or empty, though snapshots of it exist".to_owned()));
        }
        if exists && let Some(found) = newer_format(&path).map_err(failed)? {
            return Err(OpenError::Newer { path, found });
        }
        let mut connection = open_connection(&path, config.size_bytes_max).map_err(failed)?;
        if exists && let Some(what) = integrity_problem(&connection).map_err(failed)? {
            return Err(damaged(what));
        }
        migrate(&mut connection).map_err(failed)?;
        let form = if format(&connection).map_err(failed)? < FORMAT { Form::Unnamed } else { Form::Named };
        let sealer = Sealer::new(&config.sealing_keys, &config.sealed_prefixes, form);
        let (entries, plain) = load(&connection, &sealer).map_err(failed)?.map_err(|unreadable| match unreadable {
            Unreadable::Damaged(what) => damaged(what),
            Unreadable::NoKey => OpenError::NoKey { path: path.clone() },
            Unreadable::OtherKey { key, with } => other_key(&path, key, with, &sealer.ids()),
        })?;
        let unsealed = sealer.has_key() && (!plain.is_empty() || !is_sealed(&connection).map_err(failed)?);
        if unsealed && exists {
            seal_rows(&mut connection, &sealer, &entries, &plain).map_err(failed)?;
        }
        log::keep(&connection).map_err(failed)?;
        let reserved = reserved(&connection).map_err(failed)?;
        let newest = entries.iter().map(|e| e.modified).max().unwrap_or(0);
        let revision = reserved.max(newest).max(1);
        let database = Self { connection, dir: config.dir.clone(), sealer, reserved: revision, written: newest };
        if unsealed {
            snapshots::replace_all(&database)?;
            mark_sealed(&database.connection).map_err(failed)?;
        }
        Ok((database, Loaded { entries, revision }))
    }

    pub(super) fn reserved(&self) -> Revision {
        self.reserved
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn written(&self) -> Revision {
        self.written
    }

    /// Makes the changes durable in one transaction; `reserve` promises that no revision up to it is used again.
    pub(super) fn commit<'a>(
        &mut self,
        changes: impl Iterator<Item = &'a Change>,
        reserve: Option<Revision>,
    ) -> Result<(), CommitError> {
        let mut changes = changes.peekable();
        if changes.peek().is_none() && reserve.is_none() {
            return Ok(());
        }
        let transaction = self.connection.transaction()?;
        let mut written = self.written;
        for change in changes {
            write_change(&transaction, &self.sealer, change)?;
            written = change.revision();
        }
        if let Some(reserve) = reserve {
            transaction.execute("UPDATE meta SET value = ?1 WHERE name = 'reserved'", [reserve as i64])?;
        }
        transaction.commit()?;
        self.written = written;
        self.reserved = reserve.unwrap_or(self.reserved);
        Ok(())
    }

    /// From now on values are sealed with the first of these keys and name it; all of them open values.
    pub(super) fn use_keys(&mut self, keys: &[SealingKey]) -> Result<(), CommitError> {
        if format(&self.connection)? < FORMAT {
            self.connection.pragma_update(None, "user_version", FORMAT)?;
        }
        self.sealer = self.sealer.with_keys(keys);
        Ok(())
    }

    pub(super) fn parts(&mut self) -> (&mut Connection, &Sealer) {
        (&mut self.connection, &self.sealer)
    }

    /// Writes the file anew with what is in use alone: deleted rows and old versions are in pages that nobody uses, and in
    /// the log.
    pub(super) fn leave_nothing_old(&mut self) -> rusqlite::Result<()> {
        leave_nothing_old(&self.connection)
    }

    /// Not while it is opened: nobody waits for it then.
    pub(super) fn fill_log(&self) {
        if let Err(error) = log::fill(&self.connection, &self.dir.join(FILE)) {
            // It grows as it is written to.
            tracing::warn!(%error, "the database's log was not made in full");
        }
    }

    pub(super) fn copy_to(&self, path: &Path) -> rusqlite::Result<()> {
        self.connection.execute("VACUUM INTO ?1", [path.to_string_lossy()]).map(drop)
    }

    pub(super) fn close(self) {
        if let Err(error) = log::close(self.connection, &self.dir.join(FILE)) {
            tracing::warn!(%error, "the database was not closed cleanly");
        }
    }
}

fn write_change(transaction: &rusqlite::Transaction<'_>, sealer: &Sealer, change: &Change) -> rusqlite::Result<()> {
    match change {
        Change::Put { entry, .. } => write_entry(transaction, sealer, entry),
        Change::Deleted { previous, .. } => {
            transaction.prepare_cached("DELETE FROM object WHERE key = ?1")?.execute([&*previous.key]).map(drop)
        }
    }
}

fn write_entry(transaction: &rusqlite::Transaction<'_>, sealer: &Sealer, entry: &Entry) -> rusqlite::Result<()> {
    let packed = packing::pack_for_disk(&entry.value);
    let sealed = sealer.seal(&entry.key, &packed);
    let value = sealed.as_deref().unwrap_or(&packed);
    transaction
        .prepare_cached(
            "INSERT INTO object (key, created, modified, checksum, value) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (key) DO UPDATE SET created = ?2, modified = ?3, checksum = ?4, value = ?5",
        )?
        .execute(params![
            &*entry.key,
            entry.created as i64,
            entry.modified as i64,
            checksum(&entry.key, entry.modified, value),
            value
        ])
        .map(drop)
}

/// Whether nothing from before there was a key is left anywhere.
fn is_sealed(connection: &Connection) -> rusqlite::Result<bool> {
    let mark = connection.query_row("SELECT value FROM meta WHERE name = 'sealed'", [], |_| Ok(())).optional()?;
    Ok(mark.is_some())
}

fn mark_sealed(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('sealed', 1)", []).map(drop)
}

/// Seals what an earlier version, or one without a key, wrote plain, and leaves nothing of it in the file, nor of what was
/// deleted. Until it is marked as done it is done again.
fn seal_rows(
    connection: &mut Connection,
    sealer: &Sealer,
    entries: &[Entry],
    plain: &[Arc<str>],
) -> rusqlite::Result<()> {
    // Also where what follows is interrupted.
    connection.pragma_update(None, "secure_delete", true)?;
    let transaction = connection.transaction()?;
    for entry in entries.iter().filter(|entry| plain.contains(&entry.key)) {
        write_entry(&transaction, sealer, entry)?;
    }
    transaction.commit()?;
    leave_nothing_old(connection)?;
    tracing::info!(values = plain.len(), "secrets in the database are encrypted now");
    Ok(())
}

fn leave_nothing_old(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("VACUUM")?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

fn format(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn other_key(path: &Path, key: String, with: SealedWith, held: &[KeyId]) -> OpenError {
    let wanted = match with {
        SealedWith::Unnamed => "another key".to_owned(),
        SealedWith::Key(id) => format!("the key {id}"),
    };
    let held = held.iter().map(KeyId::to_string).collect::<Vec<_>>().join(", ");
    OpenError::OtherKey { path: path.to_owned(), key, wanted, held }
}

/// The format of a database that this version does not know, read without changing a byte of it.
fn newer_format(path: &Path) -> rusqlite::Result<Option<i64>> {
    let connection = Connection::open(path)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.busy_timeout(std::time::Duration::ZERO)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    let format = format(&connection)?;
    Ok((format > FORMAT).then_some(format))
}

/// The folder for its owner alone, and so are the files in it.
fn make_private(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
    for file in [FILE, "state.db-wal"].map(|name| dir.join(name)).into_iter().chain(snapshots::list_in(dir)) {
        match std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    Ok(())
}

fn open_connection(path: &Path, size_bytes_max: u64) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(std::time::Duration::ZERO)?;
    connection.pragma_update(None, "page_size", PAGE_BYTES as i64)?;
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    // Held for as long as the agent runs: a second agent on the same data is refused, and no -shm file is needed.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    log::configure(&connection)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "max_page_count", (size_bytes_max / PAGE_BYTES) as i64)?;
    // Reads are served from the store's memory: SQLite's own cache would hold everything twice.
    connection.pragma_update(None, "cache_size", -256)?;
    Ok(connection)
}

fn integrity_problem(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let verdict: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    Ok((verdict != "ok").then_some(verdict))
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let format = format(connection)?;
    let transaction = connection.transaction()?;
    if format == 1 {
        transaction.execute_batch("ALTER TABLE object RENAME TO object_1")?;
    }
    if format < FORMAT_UNNAMED {
        // With row numbers: a row may fill its page. Without, what is over a quarter of a page goes to pages of its own.
        transaction.execute_batch(
            "CREATE TABLE object (
                 key TEXT PRIMARY KEY NOT NULL, created INTEGER NOT NULL, modified INTEGER NOT NULL,
                 checksum INTEGER NOT NULL, value BLOB NOT NULL)",
        )?;
    }
    match format {
        0 => {
            transaction.execute_batch(
                "CREATE TABLE meta (name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) WITHOUT ROWID;
                 INSERT INTO meta VALUES ('reserved', 0);",
            )?;
            transaction.pragma_update(None, "user_version", FORMAT)?;
        }
        1 => {
            transaction.execute_batch("INSERT INTO object SELECT * FROM object_1; DROP TABLE object_1")?;
            transaction.pragma_update(None, "user_version", FORMAT_UNNAMED)?;
        }
        _ => {}
    }
    transaction.commit()
}

type Rows = (Vec<Entry>, Vec<Arc<str>>);

enum Unreadable {
    /// The first row that does not match its checksum or cannot be unsealed.
    Damaged(String),
    NoKey,
    OtherKey {
        key: String,
        with: SealedWith,
    },
}

/// All rows, and the keys of those that should be sealed and are not.
fn load(connection: &Connection, sealer: &Sealer) -> rusqlite::Result<Result<Rows, Unreadable>> {
    let damaged = |what: String| Ok(Err(Unreadable::Damaged(what)));
    let mut statement = connection.prepare("SELECT key, created, modified, checksum, value FROM object")?;
    let mut rows = statement.query([])?;
    let (mut entries, mut plain) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        let key: Arc<str> = Arc::from(row.get::<_, String>(0)?);
        let value: Vec<u8> = row.get(4)?;
        let modified = row.get::<_, i64>(2)? as Revision;
        if checksum(&key, modified, &value) != row.get::<_, i64>(3)? {
            return damaged(format!("the object {key} does not match its checksum"));
        }
        if sealer.covers(&key) && SealedWith::of(&value).is_none() {
            plain.push(Arc::clone(&key));
        }
        let value = match sealer.unseal(&key, value).map(packing::from_disk) {
            Ok(Some(value)) => Bytes::from(value),
            Ok(None) => return damaged(format!("the object {key} cannot be unpacked")),
            Err(UnsealError::NoKey) => return Ok(Err(Unreadable::NoKey)),
            Err(UnsealError::OtherKey(with)) => return Ok(Err(Unreadable::OtherKey { key: key.to_string(), with })),
            Err(error @ UnsealError::Refused) => return damaged(format!("the object {key} cannot be read: {error}")),
        };
        entries.push(Entry { key, value, created: row.get::<_, i64>(1)? as Revision, modified });
    }
    Ok(Ok((entries, plain)))
}

fn reserved(connection: &Connection) -> rusqlite::Result<Revision> {
    let value: Option<i64> =
        connection.query_row("SELECT value FROM meta WHERE name = 'reserved'", [], |row| row.get(0)).optional()?;
    Ok(value.unwrap_or(0) as Revision)
}

/// FNV-1a over key, revision and value: detects damage, is no defence against an attacker.
pub(super) fn checksum(key: &str, modified: Revision, value: &[u8]) -> i64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = key.as_bytes().iter().chain(&[0]).chain(value);
    let hash = bytes.fold(OFFSET ^ modified, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
    hash as i64
}

/// Whether the file is an intact database of ours, without changing it. What is sealed stays so: its checksum is that of
/// the sealed value.
pub(super) fn is_intact(path: &Path) -> bool {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let check = || -> rusqlite::Result<bool> {
        let connection = Connection::open_with_flags(path, flags)?;
        Ok(integrity_problem(&connection)?.is_none() && first_damaged(&connection)?.is_none())
    };
    check().unwrap_or(false)
}

fn first_damaged(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let mut statement = connection.prepare("SELECT key, modified, checksum, value FROM object")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (key, value): (String, Vec<u8>) = (row.get(0)?, row.get(3)?);
        if checksum(&key, row.get::<_, i64>(1)? as Revision, &value) != row.get::<_, i64>(2)? {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

pub(super) fn file(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// Lifts the promised revisions of a restored copy far above any that were given out since it was made.
pub(super) fn skip_revisions(path: &Path) -> rusqlite::Result<()> {
    const SKIPPED: i64 = 1 << 40;
    let connection = Connection::open(path)?;
    connection.execute("UPDATE meta SET value = value + ?1 WHERE name = 'reserved'", [SKIPPED])?;
    connection.close().map_err(|(_, error)| error)
}
