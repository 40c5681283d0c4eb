//! What the agent holds without using it goes back to the system: heap that a load left free, and code that only the start
//! or a rare request ran.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How often the heap is looked at, which takes microseconds where little of it is free.
const INTERVAL: Duration = Duration::from_secs(10);
/// A look that used less of a processor since the one before found the agent quiet.
const QUIET: Duration = Duration::from_millis(50);
/// Code is let go of when so many looks in a row were quiet, once after each time that was not.
const QUIET_LOOKS: u32 = 2;
/// And so many looks after that, for the rare request that brought code back without being noticed.
const CODE_LOOKS: u32 = 60;
/// Less than this stays until the agent rests: the next load wants it again.
const FREE_BYTES_MAX: usize = 1 << 20;

/// One heap for two threads: the allocator's default of many keeps memory in each that nobody uses.
pub fn limit_heaps() {
    const ARENAS: i32 = 2;
    const TRIM_BYTES: i32 = 128 * 1024;
    // SAFETY: mallopt only sets parameters of the allocator, before any other thread runs.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_BYTES);
    }
}

/// Gives memory back until `shutdown`. Code is let go of as a whole: what is used comes back with the next step that needs it,
/// mostly from the system's cache. The allocator itself gives back only what is free at the end of a heap, and one
/// object that lives there keeps all before it.
pub async fn give_back(shutdown: CancellationToken) {
    let mut idle = Idle::default();
    // What stays free after a trim lies between what is used: trying again gives nothing back.
    let mut stays_free = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = shutdown.cancelled() => return,
        }
        let rests = idle.look(processor_time());
        if rests {
            skiff_store::packing::let_go();
        }
        // SAFETY: both only look at and trim the allocator's own lists, under its own locks.
        unsafe {
            if rests || libc::mallinfo2().fordblks > stays_free + FREE_BYTES_MAX {
                libc::malloc_trim(0);
                stays_free = libc::mallinfo2().fordblks;
            }
        }
        if rests {
            let_go_of_code();
        }
    }
}

/// When the agent has come to rest.
#[derive(Default)]
struct Idle {
    used: Duration,
    quiet_looks: u32,
}

impl Idle {
    /// Whether it is time to let go of the code, at a look that finds so much used of the processor in all.
    fn look(&mut self, used: Duration) -> bool {
        let is_quiet = used.saturating_sub(self.used) < QUIET;
        self.used = used;
        self.quiet_looks = if is_quiet { self.quiet_looks + 1 } else { 0 };
        self.quiet_looks % CODE_LOOKS == QUIET_LOOKS
    }
}

fn processor_time() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID);
    time.map(Duration::from).unwrap_or_default()
}

fn let_go_of_code() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let program = std::env::current_exe().ok();
    let Some(program) = program.as_ref().and_then(|program| program.to_str()) else { return };
    for (start, length) in unchanged(&maps, program) {
        // SAFETY: the range is a mapping of this program's file that nobody can write to; its pages are read again from
        // there when they are needed.
        unsafe {
            libc::madvise(std::ptr::with_exposed_provenance_mut(start), length, libc::MADV_DONTNEED);
        }
    }
}

/// Where the program's file is mapped as it is: its code, and the constants at its beginning. What the loader has written to,
/// though nobody may any more, is neither.
fn unchanged(maps: &str, program: &str) -> Vec<(usize, usize)> {
    let range = |line: &str| {
        let mut fields = line.split_whitespace();
        let (range, permissions, offset) = (fields.next()?, fields.next()?, fields.next()?);
        let is_first = permissions == "r--p" && usize::from_str_radix(offset, 16) == Ok(0);
        if permissions != "r-xp" && !is_first || fields.nth(2)? != program {
            return None;
        }
        let (start, end) = range.split_once('-')?;
        let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        Some((start, end.checked_sub(start)?))
    };
    maps.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_wrote_to_is_let_go_of() {
        let maps = "5560-6000 r--p 00000000 fd:00 12 /usr/bin/skiff
6000-9000 r-xp 00560000 fd:00 12 /usr/bin/skiff
9000-a000 r--p 01b00000 fd:00 12 /usr/bin/skiff
a000-b000 rw-p 01c00000 fd:00 12 /usr/bin/skiff
b000-c000 r-xp 00000000 fd:00 13 /usr/lib/libc.so.6
d000-e000 rw-p 00000000 00:00 0 [heap]
nonsense";
        assert_eq!(unchanged(maps, "/usr/bin/skiff"), [(0x5560, 0xaa0), (0x6000, 0x3000)]);
        assert_eq!(unchanged(maps, "/usr/bin/other"), []);
    }

    #[test]
    fn code_is_let_go_of_once_after_each_time_of_work() {
        let mut idle = Idle::default();
        let mut used = 0;
        let mut look = |milliseconds| {
            used += milliseconds;
            idle.look(Duration::from_millis(used))
        };
        assert_eq!([400, 60, 5, 5, 5, 5].map(&mut look), [false, false, false, true, false, false]);
        assert_eq!([90, 5, 90, 5, 5, 5].map(&mut look), [false, false, false, false, true, false]);
        let rest = [5; 120].map(look);
        assert_eq!(rest.iter().filter(|is_time| **is_time).count(), 2, "once in ten minutes of rest");
    }

    #[test]
    fn what_is_let_go_of_comes_back() {
        let_go_of_code();
        assert_eq!((1..=10).map(|n| n.to_string()).collect::<String>(), "12345678910");
    }
}
