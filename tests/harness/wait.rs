//! Waiting until something holds, with a limit; never a plain sleep.

use std::time::{Duration, Instant};

use anyhow::bail;

const POLL: Duration = Duration::from_millis(20);

/// How many times longer everything may take: `SKIFF_PATIENCE=4` on a machine that is emulated.
fn patience() -> u32 {
    std::env::var("SKIFF_PATIENCE").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Calls `check` until it answers; fails with `what` and the last refusal when `limit` has passed.
pub fn until<T>(what: &str, limit: Duration, mut check: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let (started, limit) = (Instant::now(), limit * patience());
    loop {
        match check() {
            Ok(answer) => return Ok(answer),
            Err(error) if started.elapsed() > limit => {
                bail!("{what}: not within {:.1} s: {error:#}", limit.as_secs_f32())
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// The same limit for a kubectl that waits itself.
pub fn kubectl_timeout(limit: Duration) -> String {
    format!("--timeout={}s", (limit * patience()).as_secs())
}
