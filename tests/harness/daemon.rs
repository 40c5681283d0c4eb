//! A program that runs in the background for a test or a measurement: started by path, ended by id, also after a failure.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::{command, wait};

const END_MAX: Duration = Duration::from_secs(5);

pub struct Daemon {
    child: Child,
    name: String,
    log: std::path::PathBuf,
}

impl Daemon {
    /// Starts it with its output in `dir`.
    pub fn start(mut command: Command, dir: &Path) -> anyhow::Result<Self> {
        let program = command.get_program().to_owned();
        let name = Path::new(&program).file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let log = dir.join(format!("{name}.log"));
        let output = std::fs::File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("{name} does not start"))?;
        Ok(Self { child, name, log })
    }

    /// Waits until the check holds; fails at once, with what the program printed, when it has ended.
    pub fn wait_ready(&mut self, limit: Duration, check: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut ended = None;
        let result = wait::until(&format!("{} is ready", self.name), limit, || {
            ended = self.child.try_wait()?;
            if ended.is_some() { Ok(()) } else { check() }
        });
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        match ended {
            Some(status) => bail!("{} ended: {status}\n{log}", self.name),
            None => result.context(log),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// It and its children.
    pub fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.child.id()];
        pids.extend(children(self.child.id()));
        pids
    }
}

/// The processes whose parent this is.
pub fn children(parent: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = command::run("kill", ["-TERM", &self.child.id().to_string()]);
        let child = &mut self.child;
        let ended = wait::until("it has ended", END_MAX, || {
            ensure!(child.try_wait()?.is_some());
            Ok(())
        });
        if ended.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
