//! Reads a container's log for `kubectl logs`: the last lines, since a time, with or without times, up to a number of
//! bytes, and on as it grows, also across a rotation.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::line::{Stream, parse};

/// How soon a follower sees new lines. Only while somebody follows.
const POLL: Duration = Duration::from_millis(100);
const CHUNK: usize = 64 << 10;
/// The runtime cuts lines at 16 KiB; more than this is not a log of ours.
const LINE_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub follow: bool,
    pub timestamps: bool,
    pub tail_lines: Option<u64>,
    pub since: Option<Timestamp>,
    pub limit_bytes: Option<u64>,
    /// Only one of the two, as `?stream=` asks for.
    pub stream: Option<Stream>,
}

/// Sends the log in pieces until its end, or until the receiver goes. `ended` tells a follower that no more will come.
pub fn pump(path: PathBuf, options: Options, ended: Arc<AtomicBool>, sender: &mpsc::Sender<io::Result<Bytes>>) {
    let mut reader = match Reader::open(&path, &options) {
        Ok(reader) => reader,
        // Not written yet, or cleaned away: an empty log.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            let _ = sender.blocking_send(Err(error));
            return;
        }
    };
    loop {
        // Asked before reading, so that what was written before the end is read after it.
        let last = ended.load(Ordering::Acquire);
        let read = reader.read(&options);
        let more = match read {
            Ok(bytes) if bytes.is_empty() => false,
            Ok(bytes) => {
                if sender.blocking_send(Ok(bytes)).is_err() {
                    return;
                }
                true
            }
            Err(error) => {
                let _ = sender.blocking_send(Err(error));
                return;
            }
        };
        if reader.left == Some(0) {
            return;
        }
        if more || reader.switched(&path) {
            continue;
        }
        if !options.follow || last || sender.is_closed() {
            return;
        }
        std::thread::sleep(POLL);
    }
}

struct Reader {
    file: File,
    inode: u64,
    /// The beginning of a line whose end has not been read.
    rest: Vec<u8>,
    left: Option<u64>,
    /// Whether the next content begins a line in the output.
    at_line_start: bool,
}

impl Reader {
    fn open(path: &Path, options: &Options) -> io::Result<Self> {
        let mut file = File::open(path)?;
        if let Some(lines) = options.tail_lines {
            let start = tail_start(&mut file, lines)?;
            file.seek(SeekFrom::Start(start))?;
        }
        let inode = file.metadata()?.ino();
        Ok(Self { file, inode, rest: Vec::new(), left: options.limit_bytes, at_line_start: true })
    }

    /// Goes on with the new file after a rotation.
    fn switched(&mut self, path: &Path) -> bool {
        let Ok(file) = File::open(path) else { return false };
        let Ok(meta) = file.metadata() else { return false };
        if meta.ino() == self.inode {
            return false;
        }
        self.inode = meta.ino();
        self.file = file;
        true
    }

    /// What is there now, already formatted; empty at the end of the file.
    fn read(&mut self, options: &Options) -> io::Result<Bytes> {
        let mut out = Vec::new();
        let mut chunk = vec![0; CHUNK];
        while out.is_empty() {
            let count = self.file.read(&mut chunk)?;
            if count == 0 {
                break;
            }
            self.rest.extend_from_slice(&chunk[..count]);
            self.take_lines(options, &mut out);
            if self.rest.len() > LINE_BYTES_MAX {
                self.rest.clear();
            }
        }
        if let Some(left) = &mut self.left {
            out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= out.len() as u64;
        }
        Ok(out.into())
    }

    fn take_lines(&mut self, options: &Options, out: &mut Vec<u8>) {
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return };
        let tail = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, tail);
        for text in whole.split_inclusive(|byte| *byte == b'\n') {
            let Some(line) = parse(text) else { continue };
            let wanted = options.stream.is_none_or(|stream| stream == line.stream);
            let early =
                options.since.is_some_and(|since| line.time.parse::<Timestamp>().is_ok_and(|time| time < since));
            if !wanted || early {
                continue;
            }
            if options.timestamps && self.at_line_start {
                out.extend_from_slice(line.time.as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(line.content);
            if !line.partial {
                out.push(b'\n');
            }
            self.at_line_start = !line.partial;
        }
    }
}

/// Where the last `lines` lines begin.
fn tail_start(file: &mut File, lines: u64) -> io::Result<u64> {
    let size = file.metadata()?.len();
    let mut position = size;
    let mut found = 0;
    let mut block = vec![0; CHUNK];
    if lines == 0 {
        return Ok(size);
    }
    while position > 0 {
        let count = position.min(CHUNK as u64);
        position -= count;
        file.seek(SeekFrom::Start(position))?;
        let part = &mut block[..usize::try_from(count).unwrap_or(CHUNK)];
        file.read_exact(part)?;
        for (at, byte) in part.iter().enumerate().rev() {
            let offset = position + at as u64;
            // The newline at the very end closes the last line.
            if *byte == b'\n' && offset + 1 < size {
                found += 1;
                if found == lines {
                    return Ok(offset + 1);
                }
            }
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const LOG: &str = "2026-01-01T00:00:00.000000001Z stdout F one\n\
                       2026-01-01T00:00:01.000000001Z stderr P tw\n\
                       2026-01-01T00:00:01.000000002Z stderr F o\n\
                       2026-01-01T00:00:02.000000001Z stdout F three\n";

    fn read(options: &Options) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let (sender, mut receiver) = mpsc::channel(16);
        pump(path, options.clone(), Arc::default(), &sender);
        drop(sender);
        let mut text = Vec::new();
        while let Some(piece) = receiver.blocking_recv() {
            text.extend_from_slice(&piece.unwrap());
        }
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn options_select_lines() {
        let all = Options::default();
        assert_eq!(read(&all), "one\ntwo\nthree\n");
        assert_eq!(read(&Options { tail_lines: Some(1), ..all.clone() }), "three\n");
        assert_eq!(read(&Options { tail_lines: Some(0), ..all.clone() }), "");
        assert_eq!(read(&Options { tail_lines: Some(99), ..all.clone() }), "one\ntwo\nthree\n");
        assert_eq!(read(&Options { limit_bytes: Some(5), ..all.clone() }), "one\nt");
        let since = "2026-01-01T00:00:02Z".parse().ok();
        assert_eq!(read(&Options { since, ..all.clone() }), "three\n");
        let stamped = read(&Options { timestamps: true, ..all });
        assert!(stamped.contains("2026-01-01T00:00:01.000000001Z two\n"));
    }

    #[test]
    fn a_follower_goes_on_after_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, "2026-01-01T00:00:00.000000001Z stdout F one\n").unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let (sender, mut receiver) = mpsc::channel(16);
        let thread = {
            let (path, ended) = (path.clone(), Arc::clone(&ended));
            let options = Options { follow: true, ..Options::default() };
            std::thread::spawn(move || pump(path, options, ended, &sender))
        };
        assert_eq!(receiver.blocking_recv().unwrap().unwrap(), "one\n");
        std::fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        let mut new = File::create(&path).unwrap();
        new.write_all(b"2026-01-01T00:00:05.000000001Z stdout F two\n").unwrap();
        assert_eq!(receiver.blocking_recv().unwrap().unwrap(), "two\n");
        ended.store(true, Ordering::Release);
        thread.join().unwrap();
    }
}
