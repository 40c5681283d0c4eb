//! The agent: builds every part from the settings, starts them in order, and stops them.
//!
//! Stopping leaves containerd and all pods running.

use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use k8s_openapi::api::core::v1::Node;
use kube::Api as KubeApi;
use nix::fcntl::{Flock, FlockArg};
use skiff_apiserver::{Api, Identity, Pki};
use skiff_reconcile::{Parts, Recorder};
use skiff_store::Embedded;
use tokio_util::sync::CancellationToken;

use crate::circumstances::{Changed, Circumstances};
use crate::paths::Paths;
use crate::problems::Problems;
use crate::sealing::{Asked, Rotation};
use crate::supervision::Plan;
use crate::{memory, notify};

mod alone;
mod node;

pub use alone::run as run_node;
pub use node::stop_proxy;

/// How long running requests and pods' workers get to finish what they are at.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);
/// A program that a killed agent was about to start holds the lock for a moment longer than the agent.
const LOCK_LAG_MAX: Duration = Duration::from_secs(5);
const LOCK_POLL: Duration = Duration::from_millis(20);
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(6 * 3600);
const RENEWAL_INTERVAL: Duration = Duration::from_secs(12 * 3600);
/// A rotation that could not end, for example because the disk is full, is tried again.
const ROTATION_INTERVAL: Duration = Duration::from_secs(600);

/// How the agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By a signal.
    Stopped,
    /// It has to begin anew.
    Changed(Changed),
}

pub async fn run(plan: Plan) -> anyhow::Result<Ended> {
    let _lock = lock(&plan.paths)?;
    plan.paths.prepare_run_dir()?;
    write_settings(&plan)?;
    let started = Instant::now();
    let shutdown = CancellationToken::new();
    stop_on_signal(shutdown.clone())?;
    let parts = Parts::new(shutdown.clone());

    let (api, pki, store) = start_api(&plan, &parts).await?;
    tracing::info!(address = %plan.api_address(), after_ms = started.elapsed().as_millis(), "api ready");
    notify::status("The API answers on this machine; waiting for a network address");
    if notify::has_watchdog() {
        let (client, store, shutdown) = (api.client(&Identity::Agent), store.clone(), shutdown.clone());
        parts.run("watchdog", move || notify::feed_watchdog(client.clone(), store.clone(), shutdown.clone()));
    }

    parts.run("memory", {
        let shutdown = shutdown.clone();
        move || memory::give_back(shutdown.clone())
    });
    let circumstances = Circumstances::new(plan.address, plan.settings.network.bridge.as_str());
    let mut changed = tokio::select! {
        changed = circumstances.wait_for_address() => changed,
        () = shutdown.cancelled() => None,
    };
    if changed.is_none() && !shutdown.is_cancelled() {
        notify::status("The API answers; starting the node");
        let starting = tokio::select! {
            starting = node::start(&plan, &api, &pki, &parts) => starting,
            () = shutdown.cancelled() => Ok(()),
        };
        if let Err(error) = starting {
            shutdown.cancel();
            let _ = tokio::time::timeout(STOP_TIME_MAX, parts.ended()).await;
            return Err(error);
        }
        keep_up(&store, &pki, &parts);
        tokio::spawn(announce(plan.node_name.clone(), api.client(&Identity::Agent), started, shutdown.clone()));
        changed = tokio::select! {
            changed = circumstances.changed() => Some(changed),
            () = shutdown.cancelled() => None,
        };
    }
    match changed {
        Some(changed) => tracing::info!(?changed, "beginning anew, pods keep running"),
        None => {
            notify::stopping();
            tracing::info!("stopping, pods keep running");
        }
    }
    shutdown.cancel();
    if tokio::time::timeout(STOP_TIME_MAX, parts.ended()).await.is_err() {
        tracing::warn!("some tasks did not end in time");
    }
    store.close().await;
    Ok(changed.map_or(Ended::Stopped, Ended::Changed))
}

/// What is done again and again: snapshots, renewals.
fn keep_up(store: &Embedded, pki: &Arc<Pki>, parts: &Parts) {
    let (store, shutdown) = (store.clone(), parts.shutdown().clone());
    parts.run("snapshots", move || {
        let store = store.clone();
        keep(shutdown.clone(), SNAPSHOT_INTERVAL, move || {
            let store = store.clone();
            async move {
                match store.snapshot().await {
                    Ok(Some(path)) => tracing::info!(path = %path.display(), "snapshot taken"),
                    Ok(None) => {}
                    Err(error) => tracing::warn!(%error, "no snapshot was taken, will retry"),
                }
            }
        })
    });
    let (pki, shutdown) = (Arc::clone(pki), parts.shutdown().clone());
    parts.run("certificates of the API", move || {
        let pki = Arc::clone(&pki);
        keep(shutdown.clone(), RENEWAL_INTERVAL, move || {
            let pki = Arc::clone(&pki);
            async move {
                if let Err(error) = pki.renew_and_reload() {
                    tracing::error!(%error, "certificates were not renewed");
                }
            }
        })
    });
}

/// What a power cut or a full disk interrupted.
fn finish_rotations(rotation: Arc<Rotation>, parts: &Parts) {
    let shutdown = parts.shutdown().clone();
    parts.run("rotation of keys", move || {
        let rotation = Arc::clone(&rotation);
        keep(shutdown.clone(), ROTATION_INTERVAL, move || {
            let rotation = Arc::clone(&rotation);
            async move {
                if let Err(error) = rotation.finish().await {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "a rotation of the keys of secrets was not gone on with, will retry");
                }
            }
        })
    });
}

/// One agent on one data directory.
pub fn lock(paths: &Paths) -> anyhow::Result<Flock<std::fs::File>> {
    use std::io::{Read, Seek, Write};
    paths.prepare_data_dir()?;
    let path = paths.lock();
    let file = std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = file.with_context(|| format!("cannot open {}", path.display()))?;
    let started = Instant::now();
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                lock.set_len(0)?;
                lock.rewind()?;
                write!(lock, "{}", std::process::id())?;
                return Ok(lock);
            }
            Err((file, _)) => file,
        };
        let mut pid = String::new();
        file.rewind()?;
        let _ = file.read_to_string(&mut pid);
        let runs = std::fs::read_link(format!("/proc/{pid}/exe")).is_ok();
        if runs || started.elapsed() > LOCK_LAG_MAX {
            anyhow::bail!("a box already runs on {} (process {pid})", paths.data_dir.display());
        }
        std::thread::sleep(LOCK_POLL);
    }
}

/// What `skiff down` and `skiff ingress` need to find everything again.
fn write_settings(plan: &Plan) -> anyhow::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let path = plan.paths.settings();
    let dir = path.parent().context("the settings are in a directory")?;
    std::fs::create_dir_all(dir)?;
    let mut settings = plan.settings.clone();
    settings.node.name = Some(skiff_settings::NodeName::try_from(plan.node_name.clone()).map_err(anyhow::Error::msg)?);
    settings.node.address = Some(plan.address.ip());
    let text = settings.to_toml();
    if std::fs::read_to_string(&path).is_ok_and(|current| current == text) {
        return Ok(());
    }
    // Secrets may stand in the settings.
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())
    });
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn stop_on_signal(shutdown: CancellationToken) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.cancel();
    });
    Ok(())
}

async fn start_api(plan: &Plan, parts: &Parts) -> anyhow::Result<(Api<Embedded>, Arc<Pki>, Embedded)> {
    let listen = plan.settings.api.listen;
    let listener = TcpListener::bind(listen)
        .with_context(|| format!("the API cannot listen on {listen}: does another program use the port?"))?;
    listener.set_nonblocking(true)?;
    let pki = Arc::new(Pki::open(&plan.paths.pki(), plan.names())?);
    let (store_config, key_file) = (plan.store(), plan.paths.sealing_key());
    let store = tokio::task::spawn_blocking(move || crate::sealing::open(store_config, &key_file)).await??;
    let api = Api::start(plan.api(), store.clone(), &pki, parts.shutdown().clone()).await?;
    let problems = Arc::new(Problems::new(plan, parts.clone(), api.client(&Identity::Agent)));
    api.report_with(problems.clone());
    let rotation = Arc::new(Rotation::new(store.clone(), plan.paths.sealing_key()));
    api.seal_with(Arc::new(Asked(Arc::clone(&rotation))));
    finish_rotations(rotation, parts);
    let recorder = Recorder::new(api.client(&Identity::Agent), "skiff", &plan.node_name);
    parts.run("events of problems", {
        let shutdown = parts.shutdown().clone();
        move || {
            let (problems, recorder, shutdown) = (Arc::clone(&problems), recorder.clone(), shutdown.clone());
            async move {
                shutdown.run_until_cancelled(problems.publish(&recorder)).await;
            }
        }
    });
    parts.run("API server", {
        let (api, pki, shutdown) = (api.clone(), Arc::clone(&pki), parts.shutdown().clone());
        move || {
            // The listener is kept, so that clients only wait while this begins anew.
            let listener = listener.try_clone().and_then(tokio::net::TcpListener::from_std);
            let (api, pki, shutdown) = (api.clone(), Arc::clone(&pki), shutdown.clone());
            async move {
                match listener {
                    Ok(listener) => {
                        if let Err(error) = api.serve(listener, pki, shutdown).await {
                            tracing::error!(%error, "the API is no longer served");
                        }
                    }
                    Err(error) => tracing::error!(%error, "the API cannot listen"),
                }
            }
        }
    });
    Ok((api, pki, store))
}

/// Tells the service manager when the node is Ready.
async fn announce(name: String, client: kube::Client, started: std::time::Instant, shutdown: CancellationToken) {
    let nodes: KubeApi<Node> = KubeApi::all(client);
    let ready = |node: Option<&Node>| {
        let conditions = node.and_then(|n| n.status.as_ref()).and_then(|s| s.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
    };
    let wait = kube::runtime::wait::await_condition(nodes, &name, ready);
    tokio::select! {
        result = wait => {
            if let Err(error) = result {
                tracing::warn!(%error, "the node could not be watched");
            }
            tracing::info!(node = name, after_ms = started.elapsed().as_millis(), "node ready");
            notify::ready("The node is ready");
        }
        () = shutdown.cancelled() => {}
    }
}

/// Does something now and once per interval until `shutdown`.
async fn keep<F: Future<Output = ()>>(shutdown: CancellationToken, interval: Duration, work: impl Fn() -> F) {
    loop {
        work().await;
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_lock_of_a_killed_agent_is_waited_for_and_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let paths = Paths::new(dir.path());
        let mut ended = Command::new("true").spawn().expect("a process");
        ended.wait().expect("its end");
        std::fs::write(paths.lock(), ended.id().to_string()).expect("the killed agent's number");
        let file = std::fs::File::open(paths.lock()).expect("the lock's file");
        file.lock().expect("the lock");
        let mut started = Command::new("sleep").arg("0.5").stdin(file).spawn().expect("what the agent had started");
        let own = lock(&paths).expect("the lock is free when that is through");
        started.wait().expect("its end");
        let refused = lock(&paths).expect_err("this process has the lock and runs").to_string();
        assert!(refused.contains(&format!("(process {})", std::process::id())), "{refused}");
        drop(own);
    }
}
