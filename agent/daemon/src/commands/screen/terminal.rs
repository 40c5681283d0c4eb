//! One terminal: lines in, frames out. It is never this process's controlling terminal, so that no key ends it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use nix::sys::termios::{InputFlags, LocalFlags, SetArg, tcgetattr, tcsetattr};

/// The kernel's line discipline ends lines before this.
const LINE_BYTES_MAX: usize = 4096;

#[derive(Clone)]
pub struct Terminal {
    file: Arc<File>,
    /// It can be drawn again in place; a serial line may be a log file.
    is_virtual: bool,
}

impl Terminal {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_virtual = name.strip_prefix("tty").is_some_and(|n| n.parse::<u8>().is_ok());
        let terminal = Self { file: Arc::new(file), is_virtual };
        terminal.set_echo(true);
        Ok(terminal)
    }

    /// Whole lines, keys that signal are characters, and what is typed is shown or not.
    pub fn set_echo(&self, shown: bool) {
        // What is no terminal has no such settings, and needs none.
        let Ok(mut settings) = tcgetattr(&*self.file) else { return };
        settings.local_flags.insert(LocalFlags::ICANON);
        settings.local_flags.remove(LocalFlags::ISIG);
        settings.local_flags.set(LocalFlags::ECHO, shown);
        // Ctrl-S on one terminal would stop all: they are drawn by one thread.
        settings.input_flags.remove(InputFlags::IXON);
        settings.input_flags.insert(InputFlags::ICRNL);
        let _ = tcsetattr(&*self.file, SetArg::TCSADRAIN, &settings);
    }

    /// The next line without its end. An error: the terminal is gone.
    pub fn read_line(&self) -> io::Result<Vec<u8>> {
        let mut buffer = [0; LINE_BYTES_MAX];
        let length = match (&*self.file).read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return self.read_line(),
            other => other?,
        };
        // An end of input by Ctrl-D is an empty answer; one that comes without a key is the terminal's end.
        if length == 0 && tcgetattr(&*self.file).is_err() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = buffer[..length].strip_suffix(b"\n").unwrap_or(&buffer[..length]);
        Ok(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
    }

    pub fn print(&self, text: &str) {
        // A terminal that takes nothing is noticed when it is read.
        let _ = (&*self.file).write_all(text.replace('\n', "\r\n").as_bytes());
    }

    /// Shows a frame in place of the one before, or below it.
    pub fn show(&self, lines: &[String]) {
        let start = if self.is_virtual { "\x1b[H\x1b[2J\x1b[3J\n" } else { "\n\n" };
        self.print(&format!("{start}{}\n", lines.join("\n")));
    }
}
