//! `skiff up`: reads the settings and runs the agent until a signal.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use anyhow::Context;
use skiff_settings::Settings;
use tracing_subscriber::EnvFilter;

use super::CONFIG;
use crate::agent::{self, Ended};
use crate::memory;
use crate::paths::Paths;
use crate::supervision::Plan;

/// Threads that run the agent's tasks: everything it does waits most of the time.
const WORKER_THREADS: usize = 2;

#[derive(clap::Args)]
pub struct Arguments {
    /// The settings file; without one that is there, the defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Start from the newest intact snapshot of the database; the damaged one is kept beside it
    #[arg(long)]
    restore_snapshot: bool,
}

pub fn run(arguments: &Arguments, paths: &Paths) -> anyhow::Result<()> {
    let settings = settings(arguments.config.as_ref())?;
    start_log(settings.log.level.as_str());
    if !nix::unistd::geteuid().is_root() {
        anyhow::bail!("the agent sets up networks and containers: run it as root");
    }
    memory::limit_heaps();
    let plan = Plan::new(settings, paths.clone())?;
    if arguments.restore_snapshot {
        restore(&plan.paths)?;
    }
    match run_agent(agent::run(plan))? {
        Ended::Stopped => Ok(()),
        Ended::Changed(_) => begin_anew(),
    }
}

/// Runs an agent to its end.
pub fn run_agent<T>(agent: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKER_THREADS).enable_all().build()?;
    let result = runtime.block_on(agent);
    // Tasks that wait for a pod's program must not hold the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    result
}

/// The same program from its beginning in this very process: the service manager sees no end.
fn begin_anew() -> anyhow::Result<()> {
    let program = std::env::current_exe().context("this program's own file is not known")?;
    // What was asked for once is not done twice.
    let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--restore-snapshot");
    let error = std::process::Command::new(program).args(arguments).exec();
    Err(error).context("the agent does not begin anew")
}

/// To standard error, which the service manager keeps. `SKIFF_LOG` overrides the settings.
pub fn start_log(level: &str) {
    let filter = EnvFilter::try_from_env("SKIFF_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
}

pub fn settings(file: Option<&PathBuf>) -> anyhow::Result<Settings> {
    match file {
        Some(path) => Ok(Settings::read(path)?),
        None if std::path::Path::new(CONFIG).exists() => Ok(Settings::read(CONFIG.as_ref())?),
        None => Ok(Settings::default()),
    }
}

fn restore(paths: &Paths) -> anyhow::Result<()> {
    let suffix = format!("replaced-{}", std::time::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs()));
    let restored = skiff_store::restore_snapshot(&paths.store(), &suffix).context("the snapshot was not restored")?;
    match restored {
        Some((snapshot, aside)) => {
            tracing::info!(snapshot = %snapshot.display(), old = %aside.display(), "started from a snapshot");
            Ok(())
        }
        None => anyhow::bail!("there is no intact snapshot in {}", paths.store().join("snapshots").display()),
    }
}
