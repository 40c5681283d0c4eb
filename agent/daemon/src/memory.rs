//! The heap: what a load leaves free in it goes back to the system.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How often the heap is looked at, which takes microseconds where little of it is free.
const INTERVAL: Duration = Duration::from_secs(10);
/// Less than this stays: the next load wants it again.
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

/// Gives memory back until `shutdown`. The allocator itself gives back only what is free at the end of a heap, and one
/// object that lives there keeps all before it.
pub async fn give_back(shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = shutdown.cancelled() => return,
        }
        // SAFETY: both only look at and trim the allocator's own lists, under its own locks.
        unsafe {
            if libc::mallinfo2().fordblks > FREE_BYTES_MAX {
                libc::malloc_trim(0);
            }
        }
    }
}
