//! What this process may do, as the kernel tells it.

/// Lets a process lower its out-of-memory score; containers of some hosts lack it even as root.
pub const CAP_SYS_RESOURCE: u32 = 24;

pub fn has(capability: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective(&status) & (1 << capability) != 0
}

pub(crate) fn effective(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}
