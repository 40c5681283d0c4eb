//! Finds where the last lines of a log file begin, reading backwards from its end. Blocking.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::lines::{ENTRY_BYTES_MAX, Entry};

const BLOCK_BYTES: u64 = 64 << 10;

/// Counts lines backwards, over several files. A line in parts counts once.
#[derive(Clone, Debug)]
pub(super) struct Counter {
    wanted: u64,
    found: u64,
    any: bool,
}

/// What a place in the log is, seen from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Wanted,
    /// The entry belongs to no wanted line: what is wanted begins after it.
    Before,
}

impl Counter {
    pub fn new(wanted: u64) -> Self {
        Self { wanted, found: 0, any: false }
    }

    fn step(&mut self, entry: Entry<'_>) -> Step {
        // Parts belong to the line whose end was counted, except those of a line that has no end yet.
        let counts = !entry.partial || !self.any;
        self.any = true;
        if counts && self.found == self.wanted {
            return Step::Before;
        }
        self.found += u64::from(counts);
        Step::Wanted
    }
}

/// Moves to where the wanted lines begin. `false`: not all of them are in this file; its position is undefined then.
pub(super) fn seek(file: &mut File, counter: &mut Counter) -> io::Result<bool> {
    let mut start = file.seek(SeekFrom::End(0))?;
    // What lies between `start` and `end` and is not yet counted; ends with a newline.
    let mut end = start;
    let mut data: Vec<u8> = Vec::new();
    loop {
        while let Some(from) = last_entry(&data, start) {
            if let Some(entry) = Entry::parse(&data[from..data.len() - 1])
                && counter.step(entry) == Step::Before
            {
                file.seek(SeekFrom::Start(end))?;
                return Ok(true);
            }
            end -= (data.len() - from) as u64;
            data.truncate(from);
        }
        if start == 0 {
            return Ok(false);
        }
        if data.len() > ENTRY_BYTES_MAX {
            // Not an entry, whatever it is: only its newline is kept.
            data = vec![b'\n'];
        }
        let from = start.saturating_sub(BLOCK_BYTES);
        let had_newline = !data.is_empty();
        data.splice(0..0, read_at(file, from, start - from)?);
        start = from;
        if !had_newline {
            // The entry at the very end is still being written.
            data.truncate(data.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1));
            end = start + data.len() as u64;
        }
    }
}

/// Where the last entry in `data` begins, if that is known.
fn last_entry(data: &[u8], start: u64) -> Option<usize> {
    let (_, before) = data.split_last()?;
    let newline = before.iter().rposition(|&byte| byte == b'\n');
    newline.map(|at| at + 1).or((start == 0).then_some(0))
}

fn read_at(file: &mut File, from: u64, count: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(from))?;
    let mut block = vec![0; usize::try_from(count).unwrap_or_default()];
    file.read_exact(&mut block)?;
    Ok(block)
}
