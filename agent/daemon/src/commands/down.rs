//! `skiff down`: stops every pod, the runtime and the agent, and takes back what they made on the machine.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use skiff_cri::{Containerd, Runtime, Supervisor};
use skiff_host::{cgroups, mounts};
use skiff_settings::Settings;

use super::block_on;
use crate::agent;
use crate::containerd_unit;
use crate::paths::Paths;
use crate::supervision::Plan;

/// The agent stops within its own bound; this is beyond it.
const AGENT_TIME_MAX: Duration = Duration::from_secs(15);
/// What a container gets to end when the whole box goes down.
const CONTAINER_GRACE: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub struct Arguments {
    /// Also delete the data: API objects, images, volumes, keys
    #[arg(long, requires = "yes")]
    purge: bool,
    /// Really delete the data
    #[arg(long)]
    yes: bool,
}

pub fn run(arguments: &Arguments, paths: &Paths) -> anyhow::Result<()> {
    if !paths.data_dir.is_dir() {
        bail!("there is no box in {}", paths.data_dir.display());
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("stopping pods needs root");
    }
    if arguments.purge && skiff_appliance::paths::Paths::new("/".as_ref()).marker().exists() {
        bail!("this box is the whole machine: `skiff factory-reset --yes` deletes its data");
    }
    stop_agent(paths)?;
    let lock = agent::lock(paths)?;
    paths.prepare_run_dir()?;
    if paths.settings().exists() {
        let plan = Plan::new(Settings::read(&paths.settings())?, paths.clone())?;
        block_on(take_down(&plan))?;
    }
    if arguments.purge {
        purge(paths)?;
        println!("the data in {} is deleted", paths.data_dir.display());
    }
    drop(lock);
    println!("the box is down");
    Ok(())
}

fn stop_agent(paths: &Paths) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut asked = false;
    loop {
        let Err(running) = agent::lock(paths) else { return Ok(()) };
        let pid: i32 = std::fs::read_to_string(paths.lock()).unwrap_or_default().trim().parse().unwrap_or(0);
        if pid <= 1 {
            return Err(running);
        }
        if !asked {
            kill(Pid::from_raw(pid), Signal::SIGTERM).with_context(|| format!("cannot stop the agent {pid}"))?;
            asked = true;
        }
        if started.elapsed() > AGENT_TIME_MAX {
            bail!("the agent {pid} does not stop");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Goes on after a failure: whatever is found, as much as possible is taken back, and what was not is said.
async fn take_down(plan: &Plan) -> anyhow::Result<()> {
    agent::stop_proxy(&plan.paths).await;
    // One that was being replaced when the agent ended.
    skiff_host::processes::kill_by_argument("skiff", &plan.paths.ingress_control().to_string_lossy());
    // The runtime is started where it does not run: only it knows all that belongs to the containers.
    if plan.paths.containerd_root().exists() {
        warn("the container runtime", stop_runtime(plan).await);
        // A start that was cut off in its middle leaves a shim that the runtime does not know.
        let socket = plan.paths.containerd_socket();
        skiff_host::processes::kill_by_argument("containerd-shim", &socket.to_string_lossy());
    }
    let cgroup = plan.settings.runtime.cgroup_parent.as_str();
    // Containers whose runtime is gone.
    kill_members(cgroup);
    warn("the network", skiff_network::remove(&plan.network()).await.map_err(Into::into));
    let mut busy = None;
    for dir in [&plan.paths.data_dir, &plan.paths.run_dir] {
        busy = busy.or(unmount_below(dir).err());
    }
    cgroups::remove(cgroup);
    // What is still mounted would be deleted with the data.
    busy.map_or(Ok(()), Err)
}

fn warn(what: &str, result: anyhow::Result<()>) {
    if let Err(error) = result {
        eprintln!("warning: {what} was not taken down in order: {error:#}");
    }
}

async fn stop_runtime(plan: &Plan) -> anyhow::Result<()> {
    let started = Supervisor::start(plan.runtime(), containerd_unit::find(plan).await).await;
    let supervisor = started.context("it did not start")?;
    stop_pods(&plan.containerd()).await?;
    supervisor.stop().await.map_err(Into::into)
}

async fn stop_pods(runtime: &Containerd) -> anyhow::Result<()> {
    let containers = runtime.list_containers(Default::default()).await?;
    let stopping = containers.iter().map(|container| async {
        runtime.stop_container(&container.id, CONTAINER_GRACE).await?;
        runtime.remove_container(&container.id).await
    });
    let stopped = futures::future::join_all(stopping).await;
    let sandboxes = runtime.list_pod_sandboxes(Default::default()).await?;
    let removing = sandboxes.iter().map(|sandbox| async {
        runtime.stop_pod_sandbox(&sandbox.id).await?;
        runtime.remove_pod_sandbox(&sandbox.id).await
    });
    let removed = futures::future::join_all(removing).await;
    for error in stopped.iter().chain(&removed).filter_map(|result| result.as_ref().err()) {
        eprintln!("warning: {error}");
    }
    println!("{} pods stopped", removed.iter().filter(|result| result.is_ok()).count());
    Ok(())
}

/// Ends all processes in a control group and below, in whichever hierarchy.
fn kill_members(name: &str) {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut open: Vec<PathBuf> = hierarchies.chain([root.to_owned()]).map(|hierarchy| hierarchy.join(name)).collect();
    while let Some(dir) = open.pop() {
        let members = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 1) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let children = std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.path());
        open.extend(children.filter(|path| path.is_dir() && !path.is_symlink()));
    }
}

/// The kernel's table has real paths.
fn unmount_below(dir: &Path) -> anyhow::Result<()> {
    let real = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    mounts::unmount_below(&real)?;
    if mounts::is_mounted_below(&real) {
        bail!("something is still mounted below {}", real.display());
    }
    Ok(())
}

/// The directories with everything in them. A mount point itself cannot be deleted: it stays, empty.
fn purge(paths: &Paths) -> anyhow::Result<()> {
    for dir in [&paths.run_dir, &paths.data_dir] {
        unmount_below(dir)?;
        match std::fs::remove_dir_all(dir) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ResourceBusy) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot delete {}", dir.display())),
        }
    }
    Ok(())
}
