//! The log format of the Container Runtime Interface, `2026-01-01T00:00:00.000000000Z stdout F text`, and what a client
//! sees of it. A line too long for the runtime comes in parts (`P`) and ends with a full one (`F`). Pure.

use bytes::{BufMut, BytesMut};
use jiff::Timestamp;

/// One entry of a log file, without its newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub time: &'a str,
    /// More of the same line follows in the next entry.
    pub partial: bool,
    pub text: &'a [u8],
}

impl<'a> Entry<'a> {
    /// `None` for what no runtime writes.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |&byte| byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok().filter(|time| !time.is_empty())?;
        let stream = parts.next()?;
        let mut tags = parts.next()?.split(|&byte| byte == b':');
        // Of more tags than one, the first tells partial from full.
        let partial = match tags.next()? {
            b"P" => true,
            b"F" => false,
            _ => return None,
        };
        let text = parts.next().unwrap_or_default();
        matches!(stream, b"stdout" | b"stderr").then_some(Self { time, partial, text })
    }
}

/// Turns entries into what the client asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Renderer {
    timestamps: bool,
    since: Option<Timestamp>,
    bytes_left: Option<u64>,
    line: Line,
}

/// What the next entry is part of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    /// A new line.
    #[default]
    New,
    /// A line whose start the client has got.
    Shown,
    /// A line from before the time asked for.
    Skipped,
}

impl Renderer {
    pub fn new(timestamps: bool, since: Option<Timestamp>, bytes_max: Option<u64>) -> Self {
        Self { timestamps, since, bytes_left: bytes_max, line: Line::New }
    }

    /// The client has got as many bytes as it wanted.
    pub fn is_full(&self) -> bool {
        self.bytes_left == Some(0)
    }

    pub fn render(&mut self, line: &[u8], out: &mut BytesMut) {
        let Some(entry) = Entry::parse(line) else {
            return;
        };
        let is_new = self.line == Line::New;
        if is_new {
            self.line = if self.is_too_old(entry.time) { Line::Skipped } else { Line::Shown };
        }
        if self.line == Line::Shown {
            if is_new && self.timestamps {
                self.put(entry.time.as_bytes(), out);
                self.put(b" ", out);
            }
            self.put(entry.text, out);
            if !entry.partial {
                self.put(b"\n", out);
            }
        }
        if !entry.partial {
            self.line = Line::New;
        }
    }

    fn is_too_old(&self, time: &str) -> bool {
        self.since.is_some_and(|since| time.parse::<Timestamp>().is_ok_and(|time| time < since))
    }

    fn put(&mut self, bytes: &[u8], out: &mut BytesMut) {
        let Some(left) = &mut self.bytes_left else {
            return out.put_slice(bytes);
        };
        let count = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        *left -= count as u64;
        out.put_slice(&bytes[..count]);
    }
}

/// An entry longer than this was not written by a runtime (they cut at 16 KiB): it is dropped.
pub(super) const ENTRY_BYTES_MAX: usize = 1 << 20;

/// Cuts what is read from a file into entries.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    pending: BytesMut,
    /// How far `pending` is known to hold no newline.
    searched: usize,
    overlong: bool,
}

impl Splitter {
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.put_slice(bytes);
    }

    pub fn next(&mut self) -> Option<BytesMut> {
        loop {
            let Some(at) = self.pending[self.searched..].iter().position(|&byte| byte == b'\n') else {
                self.searched = self.pending.len();
                if self.searched > ENTRY_BYTES_MAX {
                    self.overlong = true;
                    self.clear_pending();
                }
                return None;
            };
            let mut line = self.pending.split_to(self.searched + at + 1);
            self.searched = 0;
            line.truncate(line.len() - 1);
            if !std::mem::take(&mut self.overlong) {
                return Some(line);
            }
        }
    }

    /// Forgets an entry without end, as the file ended.
    pub fn reset(&mut self) {
        self.overlong = false;
        self.clear_pending();
    }

    fn clear_pending(&mut self) {
        self.pending.clear();
        self.searched = 0;
    }
}
