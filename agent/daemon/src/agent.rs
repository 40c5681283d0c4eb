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
use skiff_apiserver::{Api, Pki};
use skiff_cri::{Runtime, Supervisor};
use skiff_store::Embedded;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::circumstances::{Changed, Circumstances};
use crate::paths::Paths;
use crate::supervision::Plan;
use crate::{containerd_unit, notify};

/// How long running requests and pods' workers get to finish what they are at.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);
/// A program that a killed agent was about to start holds the lock for a moment longer than the agent.
const LOCK_LAG_MAX: Duration = Duration::from_secs(5);
const LOCK_POLL: Duration = Duration::from_millis(20);
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(6 * 3600);
const RENEWAL_INTERVAL: Duration = Duration::from_secs(12 * 3600);

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
    let started = std::time::Instant::now();
    let shutdown = CancellationToken::new();
    let tasks = TaskTracker::new();
    stop_on_signal(shutdown.clone())?;

    let (api, pki, store) = start_api(&plan, &tasks, &shutdown).await?;
    tracing::info!(address = %plan.api_address(), after_ms = started.elapsed().as_millis(), "api ready");
    notify::status("The API answers on this machine; waiting for a network address");
    tasks.spawn(notify::feed_watchdog(api.client("system:skiff"), store.clone(), shutdown.clone()));

    let circumstances = Circumstances::new(plan.address, plan.settings.network.bridge.as_str());
    let mut changed = tokio::select! {
        changed = circumstances.wait_for_address() => changed,
        () = shutdown.cancelled() => None,
    };
    if changed.is_none() && !shutdown.is_cancelled() {
        notify::status("The API answers; starting the node");
        let starting = tokio::select! {
            starting = start_node(&plan, &api, &pki, &tasks, &shutdown) => starting,
            () = shutdown.cancelled() => Ok(()),
        };
        if let Err(error) = starting {
            shutdown.cancel();
            tasks.close();
            let _ = tokio::time::timeout(STOP_TIME_MAX, tasks.wait()).await;
            return Err(error);
        }
        keep_up(&store, &pki, &tasks, &shutdown);
        tasks.spawn(announce(plan.node_name.clone(), api.client("system:skiff"), started, shutdown.clone()));
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
    tasks.close();
    if tokio::time::timeout(STOP_TIME_MAX, tasks.wait()).await.is_err() {
        tracing::warn!("some tasks did not end in time");
    }
    store.close().await;
    Ok(changed.map_or(Ended::Stopped, Ended::Changed))
}

/// What is done again and again: snapshots, renewals.
fn keep_up(store: &Embedded, pki: &Arc<Pki>, tasks: &TaskTracker, shutdown: &CancellationToken) {
    let copied = store.clone();
    tasks.spawn(keep(shutdown.clone(), SNAPSHOT_INTERVAL, move || {
        let store = copied.clone();
        async move {
            match store.snapshot().await {
                Ok(Some(path)) => tracing::info!(path = %path.display(), "snapshot taken"),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "no snapshot was taken, will retry"),
            }
        }
    }));
    let pki = Arc::clone(pki);
    tasks.spawn(keep(shutdown.clone(), RENEWAL_INTERVAL, move || {
        let pki = Arc::clone(&pki);
        async move {
            if let Err(error) = pki.renew_and_reload() {
                tracing::error!(%error, "certificates were not renewed");
            }
        }
    }));
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

async fn start_api(
    plan: &Plan,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> anyhow::Result<(Api<Embedded>, Arc<Pki>, Embedded)> {
    let listen = plan.settings.api.listen;
    let listener = TcpListener::bind(listen)
        .with_context(|| format!("the API cannot listen on {listen}: does another program use the port?"))?;
    listener.set_nonblocking(true)?;
    let pki = Arc::new(Pki::open(&plan.paths.pki(), plan.names())?);
    let (store_config, key_file) = (plan.store(), plan.paths.sealing_key());
    let store = tokio::task::spawn_blocking(move || crate::sealing::open(store_config, &key_file)).await??;
    let api = Api::start(plan.api(), store.clone(), &pki, shutdown.clone()).await?;
    let serving = api.clone().serve(tokio::net::TcpListener::from_std(listener)?, Arc::clone(&pki), shutdown.clone());
    tasks.spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the API is no longer served");
        }
    });
    Ok((api, pki, store))
}

async fn start_node(
    plan: &Plan,
    api: &Api<Embedded>,
    pki: &Arc<Pki>,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let client = api.client("system:kube-controller-manager");
    let informers = skiff_controllers::Informers::spawn(&client, shutdown);
    let api_for_controllers = api.clone();
    tasks.spawn(skiff_controllers::run(
        move |name| api_for_controllers.client(&format!("system:serviceaccount:kube-system:{name}")),
        informers.clone(),
        pki.ca_pem().to_owned(),
        shutdown.clone(),
    ));
    let runtime: Arc<dyn Runtime> = Arc::new(plan.containerd());
    let node_client = api.client(&format!("system:node:{}", plan.node_name));
    let node = skiff_node::Node::build(plan.node(), node_client, runtime, shutdown);
    node.begin_boot().await;
    skiff_network::prepare(&plan.network()).await?;
    let supervisor = Supervisor::start(plan.runtime(), containerd_unit::find(plan).await)
        .await
        .context("the container runtime did not start")?;
    tasks.spawn({
        let shutdown = shutdown.clone();
        // Dropped only at the end: as long as it lives, containerd is started again when it dies.
        async move {
            shutdown.cancelled().await;
            drop(supervisor);
        }
    });
    let client = api.client("system:serviceaccount:kube-system:network");
    let all = kube::runtime::watcher::Config::default();
    let slices = skiff_reconcile::Informer::spawn(KubeApi::all(client.clone()), all, shutdown.clone());
    tasks.spawn(skiff_network::run(
        plan.network(),
        client,
        informers.services.clone(),
        informers.pods.clone(),
        slices.clone(),
        shutdown.clone(),
    ));
    let pages = tokio::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    if let Some(config) = plan.ingress(Some(pages.local_addr()?))? {
        tasks.spawn(skiff_console::run(plan.console(), api.client("system:skiff:console"), pages, shutdown.clone()));
        let client = api.client("system:serviceaccount:kube-system:ingress");
        tasks.spawn(skiff_ingress::run(config, client, informers.services.clone(), slices, shutdown.clone()));
    } else {
        stop_proxy(&plan.paths).await;
    }
    api.connect_node(&plan.node_name, Arc::new(InProcessNode(node.server())));
    tasks.spawn(node.run(shutdown.clone()));
    Ok(())
}

/// Ends the ingress's proxy, if there is one.
pub async fn stop_proxy(paths: &Paths) {
    if let Ok(mut proxy) = skiff_ingress::Connection::open(&paths.ingress_control()).await
        && let Err(error) = proxy.stop().await
    {
        tracing::warn!(%error, "the proxy was not stopped");
    }
}

/// The node of this process, as the API calls it.
struct InProcessNode(skiff_node::NodeApi);

impl skiff_apiserver::NodeService for InProcessNode {
    fn call(
        &self,
        request: http::Request<skiff_apiserver::Body>,
    ) -> futures::future::BoxFuture<'static, Result<http::Response<skiff_apiserver::Body>, std::convert::Infallible>>
    {
        let node = self.0.clone();
        Box::pin(async move {
            let answer = node.handle(request).await;
            Ok(answer.unwrap_or_else(|| skiff_apiserver::ApiError::path_not_found().into_response()))
        })
    }
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
