//! Another key for what is sealed. Every row gets the newest key, in portions between which others write; then nothing of
//! the older ones is left in the database's file, its log or its snapshots. What is interrupted is begun again by whoever
//! still holds several keys: a row that has the newest is passed over.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, params};

use super::database::{CommitError, Database, checksum};
use super::sealing::{HEAD_BYTES, KeyId, KeyUse, MAGIC, SealedWith, Sealer, SealingKey};
use super::{Embedded, snapshots};
use crate::{Error, Revision};

/// Of one transaction: writers wait for no more than that.
const PORTION_ROWS_MAX: usize = 256;
const PORTION_BYTES_MAX: usize = 4 << 20;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Values that were sealed anew.
    pub values: usize,
    /// Snapshots in whose place there is one new one.
    pub snapshots: usize,
    /// Databases that a restored snapshot replaced. They were left as they are: only an older key opens what they hold.
    pub left: Vec<PathBuf>,
}

/// Where the next portion begins.
struct Portion {
    resealed: usize,
    /// The last row that was looked at; `None` where there are no more.
    last: Option<String>,
}

impl Embedded {
    /// Seals everything with the first of these keys; the others open what was sealed before. They have to be kept where
    /// they outlive a crash, all of them, before this is called. Afterwards [`Embedded::keys_in_use`] tells which may go.
    pub async fn reseal(&self, keys: Vec<SealingKey>) -> Result<Resealed, Error> {
        self.use_keys(keys).await?;
        let (mut values, mut after) = (0, Some(String::new()));
        while let Some(from) = after {
            let portion = self.between_writes(move |database| reseal_portion(database, &from)).await?;
            values += portion.resealed;
            after = portion.last;
        }
        let (snapshots, left) = self.between_writes(leave_nothing_old).await?;
        Ok(Resealed { values, snapshots, left })
    }

    /// From now on values are sealed with the first of these, and opened with any.
    pub async fn use_keys(&self, keys: Vec<SealingKey>) -> Result<(), Error> {
        self.between_writes(move |database| database.use_keys(&keys).map_err(|error| error.as_store_error())).await
    }

    /// What is sealed with now.
    pub async fn newest_key(&self) -> Result<Option<KeyId>, Error> {
        self.between_writes(|database| Ok(database.parts().1.ids().first().copied())).await
    }

    /// How many values in the database need which key, and how many in its snapshots.
    pub async fn keys_in_use(&self) -> Result<(KeyUse, KeyUse), Error> {
        self.between_writes(|database| {
            let own = keys_of(database.parts().0).map_err(backend)?;
            let mut of_snapshots = KeyUse::new();
            for path in snapshots::list_in(database.dir()) {
                for (with, count) in keys_of_snapshot(&path).map_err(backend)? {
                    *of_snapshots.entry(with).or_default() += count;
                }
            }
            Ok((own, of_snapshots))
        })
        .await
    }
}

fn backend(error: rusqlite::Error) -> Error {
    CommitError::from(error).as_store_error()
}

/// The sealed rows after one, as many as are done together: their keys, revisions and values.
fn rows_after(connection: &Connection, after: &str) -> rusqlite::Result<Vec<(String, Revision, Vec<u8>)>> {
    let mut statement = connection.prepare_cached(
        "SELECT key, modified, value FROM object WHERE key > ?1 AND substr(value, 1, ?2) = ?3 ORDER BY key",
    )?;
    let mut rows = statement.query(params![after, MAGIC.len() as i64, MAGIC])?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while found.len() < PORTION_ROWS_MAX && bytes < PORTION_BYTES_MAX {
        let Some(row) = rows.next()? else { break };
        let value: Vec<u8> = row.get(2)?;
        bytes += value.len();
        found.push((row.get(0)?, row.get::<_, i64>(1)? as Revision, value));
    }
    Ok(found)
}

fn reseal_portion(database: &mut Database, after: &str) -> Result<Portion, Error> {
    let (connection, sealer) = database.parts();
    let rows = rows_after(connection, after).map_err(backend)?;
    let last = rows.last().map(|(key, _, _)| key.clone());
    let changed = anew(sealer, rows)?;
    write(connection, &changed).map_err(backend)?;
    Ok(Portion { resealed: changed.len(), last })
}

fn anew(sealer: &Sealer, rows: Vec<(String, Revision, Vec<u8>)>) -> Result<Vec<(String, Revision, Vec<u8>)>, Error> {
    let mut changed = Vec::new();
    for (key, modified, value) in rows {
        let resealed = sealer.reseal(&key, value);
        let resealed =
            resealed.map_err(|error| Error::Backend(format!("the object {key} is not sealed anew: {error}")))?;
        changed.extend(resealed.map(|value| (key, modified, value)));
    }
    Ok(changed)
}

fn write(connection: &mut Connection, rows: &[(String, Revision, Vec<u8>)]) -> rusqlite::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for (key, modified, value) in rows {
        transaction.prepare_cached("UPDATE object SET checksum = ?2, value = ?3 WHERE key = ?1")?.execute(params![
            key,
            checksum(key, *modified, value),
            value
        ])?;
    }
    transaction.commit()
}

/// Of deleted rows and of the snapshots too. Writers wait for it.
fn leave_nothing_old(database: &mut Database) -> Result<(usize, Vec<PathBuf>), Error> {
    database.leave_nothing_old().map_err(backend)?;
    database.fill_log();
    let replaced = snapshots::replace_all(database).map_err(|error| Error::Backend(error.to_string()))?;
    Ok((replaced, snapshots::set_aside(database.dir())))
}

/// What is damaged nobody reads: a restore passes it over.
fn keys_of_snapshot(path: &Path) -> rusqlite::Result<KeyUse> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let found = connection.and_then(|snapshot| keys_of(&snapshot));
    match found.as_ref().err().and_then(rusqlite::Error::sqlite_error_code) {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Ok(KeyUse::new()),
        Some(_) | None => found,
    }
}

fn keys_of(connection: &Connection) -> rusqlite::Result<KeyUse> {
    let mut statement = connection.prepare("SELECT substr(value, 1, ?1) FROM object")?;
    let mut rows = statement.query([HEAD_BYTES as i64])?;
    let mut counts = KeyUse::new();
    while let Some(row) = rows.next()? {
        if let Some(with) = SealedWith::of(&row.get::<_, Vec<u8>>(0)?) {
            *counts.entry(with).or_default() += 1;
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests;
