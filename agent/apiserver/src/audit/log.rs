//! The file that events are written to, a line each, and its older parts. A line is with the system when a request is
//! answered: an agent that is killed has lost none.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Where it is, and how much of it is kept.
#[derive(Clone, Debug)]
pub struct LogConfig {
    pub path: PathBuf,
    pub file_bytes_max: u64,
    /// The older parts and the one that is written.
    pub files_max: u32,
}

pub struct Log {
    config: LogConfig,
    open: Mutex<Open>,
}

struct Open {
    file: File,
    size: u64,
    /// Its last line may be half a line.
    is_torn: bool,
    /// Something could not be written: said once.
    is_failing: bool,
}

impl Log {
    pub fn open(config: LogConfig) -> io::Result<Self> {
        if let Some(dir) = config.path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let (file, size) = open(&config.path)?;
        Ok(Self { config, open: Mutex::new(Open { file, size, is_torn: false, is_failing: false }) })
    }

    /// Never fails a request: what cannot be written is told of in the agent's log.
    pub fn write(&self, mut line: String) {
        line.push('\n');
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.append(&mut open, line.as_bytes());
        match (&result, open.is_failing) {
            (Err(error), false) => {
                tracing::error!(%error, path = %self.config.path.display(), "the audit log cannot be written");
            }
            (Ok(()), true) => tracing::info!("the audit log is written again"),
            (Err(_), true) | (Ok(()), false) => {}
        }
        open.is_failing = result.is_err();
    }

    fn append(&self, open: &mut Open, line: &[u8]) -> io::Result<()> {
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if open.size > 0 && open.size.saturating_add(length) > self.config.file_bytes_max {
            self.rotate()?;
            (open.file, open.size) = self::open(&self.config.path)?;
        }
        // What was written of the last one is a line of its own.
        if std::mem::replace(&mut open.is_torn, true) {
            open.file.write_all(b"\n")?;
        }
        open.file.write_all(line)?;
        open.size = open.size.saturating_add(length);
        open.is_torn = false;
        Ok(())
    }

    /// `audit.log` becomes `audit.log.1`, that `audit.log.2`, and the last is gone.
    fn rotate(&self) -> io::Result<()> {
        // Somebody took it away, or it could not be opened anew: the older parts stay where they are.
        if !self.config.path.try_exists()? {
            return Ok(());
        }
        let last = self.config.files_max.saturating_sub(1);
        if last == 0 {
            return std::fs::remove_file(&self.config.path);
        }
        for number in (1..last).rev() {
            let (from, to) = (self.older(number), self.older(number + 1));
            match std::fs::rename(from, to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        std::fs::rename(&self.config.path, self.older(1))
    }

    fn older(&self, number: u32) -> PathBuf {
        let mut name = self.config.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}
