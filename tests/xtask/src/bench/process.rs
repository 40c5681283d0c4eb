//! What the kernel counts of a process: memory, CPU time, bytes written to disk.

use anyhow::Context;

pub const MEBIBYTE: f64 = 1_048_576.0;

#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub rss_bytes: u64,
    pub pss_bytes: u64,
    pub cpu_seconds: f64,
    pub written_bytes: u64,
}

/// The kernel's clock ticks a second, fixed in its interface.
const TICKS: f64 = 100.0;

pub fn usage(pid: u32) -> anyhow::Result<Usage> {
    let read =
        |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).with_context(|| format!("process {pid}"));
    let kibibytes = |text: &str, key: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    };
    let stat = read("stat")?;
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    let io = read("io")?;
    let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(Usage {
        rss_bytes: kibibytes(&read("status")?, "VmRSS:") * 1024,
        pss_bytes: kibibytes(&read("smaps_rollup")?, "Pss:") * 1024,
        // utime and stime are the 14th and 15th fields; the first two are before the closing bracket.
        cpu_seconds: (ticks(11) + ticks(12)) / TICKS,
        written_bytes: written.and_then(|w| w.parse().ok()).unwrap_or(0),
    })
}

/// The containerd that was started with a configuration below this directory.
pub fn containerd(data_dir: &std::path::Path) -> Option<u32> {
    let needle = data_dir.to_string_lossy().into_owned();
    find(|_, command| command.contains("containerd\0") && command.contains(&needle)).first().copied()
}

/// Processes by their number and command line, whose arguments end with NUL.
pub fn find(wanted: impl Fn(u32, &str) -> bool) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        wanted(*pid, &String::from_utf8_lossy(&command))
    })
    .collect()
}

pub fn parent(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}
