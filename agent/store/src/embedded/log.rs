//! The write-ahead log's file. It is made in full once and kept when the database is closed: a commit then overwrites
//! blocks that are there, where one that makes the file longer would also write the file system's inode, bitmaps and
//! journal, each time.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use rusqlite::{Connection, ffi};

use super::database::PAGE_BYTES;

/// The log is folded back at this many pages: large enough to fold rarely, small enough to stay bounded.
const PAGES: u64 = 1000;
/// A page and what the log says of it.
const FRAME_BYTES: u64 = 24 + PAGE_BYTES;
const HEADER_BYTES: u64 = 32;
/// It is folded back after the transaction that made it full.
const BYTES: u64 = HEADER_BYTES + (PAGES + 24) * FRAME_BYTES;
/// What one large transaction made of it is not kept beyond this when the database is opened again.
const BYTES_MAX: u64 = 4 * BYTES;

/// Before anything is read or written.
pub(super) fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", PAGES as i64)
}

/// Leaves the file when the database is closed; only of one that is in order. What is said to be damaged is put back from
/// elsewhere, and a log that stays would be folded into that.
pub(super) fn keep(connection: &Connection) -> rusqlite::Result<()> {
    let mut keep: c_int = 1;
    // SAFETY: the handle is open, the name is a C string, and SQLite reads and writes one int at the pointer.
    let code = unsafe {
        let keep = (&raw mut keep).cast::<c_void>();
        ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), ffi::SQLITE_FCNTL_PERSIST_WAL, keep)
    };
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)) }
}

/// Makes it as long as it becomes. What is not a frame of the log ends it: zeros are none.
pub(super) fn fill(connection: &Connection, database: &Path) -> std::io::Result<()> {
    let mut file = open(database)?;
    if file.metadata()?.len() > BYTES_MAX {
        let folded = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        folded.map_err(std::io::Error::other)?;
    }
    // Page by page: the kernel counts a page that is written later in the unit in which it was written first.
    const ZEROS: [u8; PAGE_BYTES as usize] = [0; PAGE_BYTES as usize];
    let mut length = file.seek(SeekFrom::End(0))?;
    while length < BYTES {
        let rest = PAGE_BYTES - length % PAGE_BYTES;
        file.write_all(&ZEROS[..rest as usize])?;
        length += rest;
    }
    Ok(())
}

/// Folds it back and closes the database. Nothing is in the log then: whoever puts another database in the place of this
/// one would else get pages of both.
pub(super) fn close(connection: Connection, database: &Path) -> std::io::Result<()> {
    let pages = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
    let folded = connection.query_row("PRAGMA wal_checkpoint(FULL)", [], pages).map_err(std::io::Error::other);
    // While the database is locked: whoever opens it next may write to the log at once.
    let emptied = folded.and_then(|(logged, folded)| match logged == folded {
        true => {
            let mut file = open(database)?;
            file.write_all(&[0; HEADER_BYTES as usize])?;
            file.sync_data()
        }
        false => Err(std::io::Error::other(format!("{folded} of {logged} pages of its log were folded back"))),
    });
    connection.close().map_err(|(_, error)| std::io::Error::other(error))?;
    emptied
}

fn open(database: &Path) -> std::io::Result<File> {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    std::fs::OpenOptions::new().write(true).open(Path::new(&path))
}
