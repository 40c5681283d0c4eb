//! What Prometheus is told of the agent's process, under the names that every program has.

use std::fmt::Write;

/// The kernel's clock ticks a second, fixed in its interface.
const TICKS: f64 = 100.0;

pub fn text() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let stat = read("/proc/self/stat");
    // After the program's name, which may be anything: the fields from the third on.
    let fields: Vec<f64> =
        stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(1).map(number).collect();
    let field = |index: usize| fields.get(index - 4).copied().unwrap_or_default();
    let booted =
        read("/proc/stat").lines().find_map(|line| line.strip_prefix("btime ").map(number)).unwrap_or_default();
    let files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let limits = read("/proc/self/limits");
    let files_max =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next().map(number));
    // In kilobytes, where `stat` counts pages.
    let status = read("/proc/self/status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next().map(number));
    let resident = resident.unwrap_or_default() * 1024.0;
    let mut out = String::new();
    for (name, ty, help, value) in [
        ("process_cpu_seconds_total", "counter", "CPU time spent.", (field(14) + field(15)) / TICKS),
        ("process_start_time_seconds", "gauge", "When it started, since 1970.", booted + field(22) / TICKS),
        ("process_virtual_memory_bytes", "gauge", "Size of its address space.", field(23)),
        ("process_resident_memory_bytes", "gauge", "Memory that it has.", resident),
        ("process_open_fds", "gauge", "Files that are open.", u32::try_from(files).map_or(0.0, f64::from)),
        ("process_max_fds", "gauge", "Files that may be open.", files_max.unwrap_or_default()),
    ] {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {ty}\n{name} {value}");
    }
    out
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_process_is_told_of() {
        let text = super::text();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse::<f64>().ok()).unwrap_or_default()
        };
        assert!(value("process_resident_memory_bytes") > 1e6, "{text}");
        let started =
            std::time::UNIX_EPOCH.elapsed().expect("a time").as_secs_f64() - value("process_start_time_seconds");
        assert!((-2.0..3600.0).contains(&started), "{started} {text}");
        assert!(value("process_open_fds") > 2.0 && value("process_max_fds") > 10.0, "{text}");
    }
}
