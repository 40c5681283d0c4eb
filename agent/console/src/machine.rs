//! What the machine has and uses, from the kernel.

use std::path::Path;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub uptime_seconds: u64,
    pub memory: Used,
    pub disk: Used,
}

/// In bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub used: u64,
    pub total: u64,
}

/// `data_dir` is on the disk that is meant.
pub fn observe(data_dir: &Path) -> Machine {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    Machine {
        uptime_seconds: uptime(&read("/proc/uptime")),
        memory: memory(&read("/proc/meminfo")),
        disk: disk(data_dir),
    }
}

fn uptime(text: &str) -> u64 {
    text.split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0)
}

fn memory(meminfo: &str) -> Used {
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    let total = bytes("MemTotal");
    Used { used: total.saturating_sub(bytes("MemAvailable")), total }
}

fn disk(path: &Path) -> Used {
    let Ok(disk) = nix::sys::statvfs::statvfs(path) else { return Used::default() };
    let (total, free) = (disk.blocks(), disk.blocks_free());
    Used { used: total.saturating_sub(free) * disk.fragment_size(), total: total * disk.fragment_size() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_read() {
        assert_eq!(uptime("12345.67 99.1\n"), 12345);
        let text = "MemTotal:        2048 kB\nMemFree:          10 kB\nMemAvailable:    1024 kB\n";
        assert_eq!(memory(text), Used { used: 1 << 20, total: 2 << 20 });
        assert_eq!((uptime("?"), memory("")), (0, Used::default()));
        let machine = observe(Path::new("/"));
        assert!(machine.disk.total > 0 && machine.disk.used <= machine.disk.total);
    }
}
