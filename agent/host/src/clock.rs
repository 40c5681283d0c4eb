//! Whether the clock can be trusted. A box without a battery for its clock starts at the last time it knew.

use std::path::Path;
use std::time::Duration;

/// systemd-timesyncd's directory, there while it runs, and the file it makes once a server has told the time.
const TIMESYNC: &str = "/run/systemd/timesync";
const SYNCHRONIZED: &str = "synchronized";
/// Then it goes on with the time there is: a network may have no time server.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// Whether somebody is about to set the clock. What asks for the right time should wait until then.
pub fn is_awaited() -> bool {
    let uptime = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map_or(WAIT_MAX, Duration::from);
    is_awaited_by(Path::new(TIMESYNC), uptime)
}

fn is_awaited_by(timesync: &Path, uptime: Duration) -> bool {
    timesync.is_dir() && !timesync.join(SYNCHRONIZED).exists() && uptime < WAIT_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_waited_for_but_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let soon = Duration::from_secs(20);
        assert!(!is_awaited_by(&dir.path().join("none"), soon), "nobody sets it");
        assert!(is_awaited_by(dir.path(), soon));
        assert!(!is_awaited_by(dir.path(), WAIT_MAX));
        std::fs::write(dir.path().join(SYNCHRONIZED), "").unwrap();
        assert!(!is_awaited_by(dir.path(), soon));
    }
}
