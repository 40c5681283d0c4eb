//! Processes found by how they were started.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Ends the processes of a program that were given this very argument; returns how many there were.
pub fn kill_by_argument(program: &str, argument: &str) -> usize {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let matching = numbered.filter(|pid| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        is_match(&command, program, argument)
    });
    matching.filter(|pid| kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok()).count()
}

/// The kernel ends each argument with a zero byte.
pub(crate) fn is_match(command: &[u8], program: &str, argument: &str) -> bool {
    let mut words = command.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let path = words.next().unwrap_or_default().into_owned();
    path.rsplit('/').next().is_some_and(|name| name.starts_with(program)) && words.any(|word| word == argument)
}
