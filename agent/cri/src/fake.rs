//! An in-memory runtime for tests of what uses one: containers start at once and end when the test says so. It follows
//! the same contract as containerd (see `tests`), but runs no process.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::pb;
use crate::runtime::{Error, Event, EventStream, Result, Runtime};

/// Events a slow reader may lag behind before it is told `Event::Lost`.
const EVENTS_MAX: usize = 256;
const SIGTERM_EXIT: i32 = 143;
/// containerd's for a container whose program never ran.
const START_ERROR_EXIT: i32 = 128;
/// Makes an image's identifier of its name.
const ID_SUFFIX: &str = "@fake";

/// A container as a test sees it.
#[derive(Clone, Debug)]
pub struct FakeContainer {
    pub id: String,
    pub sandbox: String,
    pub config: pb::ContainerConfig,
    pub status: pb::ContainerStatus,
}

#[derive(Clone, Debug)]
struct FakeSandbox {
    item: pb::PodSandbox,
    ip: String,
}

type Exec = Arc<dyn Fn(&str, &[String]) -> pb::ExecSyncResponse + Send + Sync>;

#[derive(Default)]
struct State {
    next: u64,
    /// The last time that was given out.
    clock: i64,
    sandboxes: HashMap<String, FakeSandbox>,
    containers: HashMap<String, FakeContainer>,
    images: HashSet<String>,
    unpullable: HashMap<String, String>,
    failing_sandboxes: Option<String>,
    failing_creates: HashMap<String, String>,
    failing_starts: HashMap<String, String>,
    exit_at_start: HashMap<String, i32>,
    exec: Option<Exec>,
    calls: Vec<String>,
}

/// Clones share the same state. Its time is tokio's, so that a test that pauses that one has it in its hand.
#[derive(Clone)]
pub struct FakeRuntime {
    state: Arc<Mutex<State>>,
    born: (SystemTime, Instant),
    events: broadcast::Sender<Event>,
}

impl std::fmt::Debug for FakeRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FakeRuntime")
    }
}

impl Default for FakeRuntime {
    fn default() -> Self {
        let born = (SystemTime::now(), Instant::now());
        Self { state: Arc::default(), born, events: broadcast::Sender::new(EVENTS_MAX) }
    }
}

impl FakeRuntime {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: Event) {
        // Nobody listening is fine.
        let _ = self.events.send(event);
    }

    pub fn add_image(&self, name: &str) {
        self.lock().images.insert(name.to_owned());
    }

    /// Makes every pull of the image fail with this message.
    pub fn fail_pull(&self, name: &str, message: &str) {
        self.lock().unpullable.insert(name.to_owned(), message.to_owned());
    }

    /// Lets pulls of the image succeed again.
    pub fn heal_pull(&self, name: &str) {
        self.lock().unpullable.remove(name);
    }

    /// Makes every new sandbox fail with this message, and stay behind as containerd's do; `None` heals.
    pub fn fail_sandboxes(&self, message: Option<&str>) {
        self.lock().failing_sandboxes = message.map(str::to_owned);
    }

    /// Makes containers of this name impossible to make.
    pub fn fail_create(&self, container: &str, message: &str) {
        self.lock().failing_creates.insert(container.to_owned(), message.to_owned());
    }

    /// Makes containers of this name end without having run, as containerd tells of a program that is not there.
    pub fn fail_start(&self, container: &str, message: &str) {
        self.lock().failing_starts.insert(container.to_owned(), message.to_owned());
    }

    pub fn heal_start(&self, container: &str) {
        self.lock().failing_starts.remove(container);
    }

    pub fn sandboxes(&self) -> usize {
        self.lock().sandboxes.len()
    }

    /// Makes containers of this name end as soon as they start.
    pub fn exit_at_start(&self, container: &str, code: i32) {
        self.lock().exit_at_start.insert(container.to_owned(), code);
    }

    /// What commands run in containers answer, given the container's name.
    pub fn on_exec(&self, answer: impl Fn(&str, &[String]) -> pb::ExecSyncResponse + Send + Sync + 'static) {
        self.lock().exec = Some(Arc::new(answer));
    }

    /// Ends the running container of this name, as if its program had.
    pub fn exit(&self, container: &str, code: i32) {
        let id = {
            let state = self.lock();
            state
                .containers
                .values()
                .find(|c| named(c, container) && is(c, pb::ContainerState::Running))
                .map(|c| c.id.clone())
        };
        if let Some(id) = id {
            self.end(&id, code, if code == 0 { "Completed" } else { "Error" });
        }
    }

    /// The sandbox's process dies, and its containers with it.
    pub fn kill_sandbox(&self, id: &str) {
        let ids: Vec<String> = {
            let mut state = self.lock();
            if let Some(sandbox) = state.sandboxes.get_mut(id) {
                sandbox.item.state = pb::PodSandboxState::NotReady as i32;
            }
            state.containers.values().filter(|c| c.sandbox == id).map(|c| c.id.clone()).collect()
        };
        for container in ids {
            self.end(&container, 137, "Error");
        }
        self.tell(Event::Exited { id: id.to_owned(), exit_code: 137 });
    }

    /// As `kill_sandbox`, for all that run.
    pub fn kill_sandboxes(&self) {
        let ready = |sandbox: &&FakeSandbox| sandbox.item.state == pb::PodSandboxState::Ready as i32;
        let ids: Vec<String> = self.lock().sandboxes.values().filter(ready).map(|s| s.item.id.clone()).collect();
        for id in ids {
            self.kill_sandbox(&id);
        }
    }

    pub fn containers(&self) -> Vec<FakeContainer> {
        let mut all: Vec<_> = self.lock().containers.values().cloned().collect();
        all.sort_by_key(|c| c.status.created_at);
        all
    }

    /// The calls that changed something, in order: `start app`, `stop app`, `run sandbox`, `pull image` …
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    fn end(&self, id: &str, code: i32, reason: &str) {
        {
            let mut state = self.lock();
            let now = self.tick(&mut state);
            let Some(container) = state.containers.get_mut(id).filter(|c| is(c, pb::ContainerState::Running)) else {
                return;
            };
            container.status.state = pb::ContainerState::Exited as i32;
            container.status.exit_code = code;
            container.status.reason = reason.to_owned();
            container.status.finished_at = now;
        }
        self.tell(Event::Exited { id: id.to_owned(), exit_code: code.cast_unsigned() });
    }

    fn container(&self, id: &str) -> Result<FakeContainer> {
        self.lock().containers.get(id).cloned().ok_or_else(|| missing("container", id))
    }

    fn start(&self, id: &str) -> Result<()> {
        let at_once = {
            let mut state = self.lock();
            let now = self.tick(&mut state);
            let container = state.containers.get(id).ok_or_else(|| missing("container", id))?;
            if !is(container, pb::ContainerState::Created) {
                return Err(failed("container is not in created state"));
            }
            let name = name_of(container);
            state.calls.push(format!("start {name}"));
            let failure = state.failing_starts.get(&name).cloned();
            let container = state.containers.get_mut(id).ok_or_else(|| missing("container", id))?;
            if let Some(message) = failure {
                container.status.state = pb::ContainerState::Exited as i32;
                container.status.exit_code = START_ERROR_EXIT;
                container.status.reason = "StartError".to_owned();
                container.status.message = message.clone();
                container.status.finished_at = now;
                return Err(failed(&message));
            }
            container.status.state = pb::ContainerState::Running as i32;
            container.status.started_at = now;
            state.exit_at_start.get(&name).copied()
        };
        self.tell(Event::Started { id: id.to_owned() });
        if let Some(code) = at_once {
            self.end(id, code, if code == 0 { "Completed" } else { "Error" });
        }
        Ok(())
    }

    fn stop_sandbox(&self, id: &str) {
        let ids: Vec<String> =
            self.lock().containers.values().filter(|c| c.sandbox == id).map(|c| c.id.clone()).collect();
        for container in ids {
            self.end(&container, 137, "Error");
        }
        let mut state = self.lock();
        if let Some(sandbox) = state.sandboxes.get_mut(id) {
            sandbox.item.state = pb::PodSandboxState::NotReady as i32;
            state.calls.push("stop sandbox".to_owned());
        }
    }
}

impl FakeRuntime {
    /// Strictly increasing nanoseconds since the epoch.
    fn tick(&self, state: &mut State) -> i64 {
        let (time, instant) = self.born;
        let now = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + instant.elapsed();
        let nanos = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        state.clock = nanos.max(state.clock + 1);
        state.clock
    }
}

impl State {
    fn id(&mut self, kind: &str) -> String {
        self.next += 1;
        format!("{kind}{:04}", self.next)
    }

    fn run_sandbox(&mut self, config: pb::PodSandboxConfig, created_at: i64) -> Result<String> {
        self.calls.push("run sandbox".to_owned());
        let (id, failure) = (self.id("sandbox"), self.failing_sandboxes.clone());
        let state = if failure.is_some() { pb::PodSandboxState::NotReady } else { pb::PodSandboxState::Ready };
        let item = pb::PodSandbox {
            id: id.clone(),
            metadata: config.metadata,
            state: state as i32,
            created_at,
            labels: config.labels,
            annotations: config.annotations,
        };
        let ip = format!("10.0.0.{}", self.next);
        self.sandboxes.insert(id.clone(), FakeSandbox { item, ip });
        failure.map_or(Ok(id), |message| Err(failed(&message)))
    }

    fn create(&mut self, sandbox: &str, config: pb::ContainerConfig, created_at: i64) -> Result<String> {
        let name = config.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default();
        self.calls.push(format!("create {name}"));
        if let Some(message) = self.failing_creates.get(&name) {
            return Err(failed(message));
        }
        if !self.sandboxes.contains_key(sandbox) {
            return Err(missing("sandbox", sandbox));
        }
        let image = config.image.clone().unwrap_or_default().image;
        let image = image.trim_end_matches(ID_SUFFIX).to_owned();
        if !self.images.contains(&image) {
            return Err(missing("image", &image));
        }
        let id = self.id("container");
        let status = pb::ContainerStatus {
            id: id.clone(),
            metadata: config.metadata.clone(),
            state: pb::ContainerState::Created as i32,
            created_at,
            image: config.image.clone(),
            image_ref: format!("{image}{ID_SUFFIX}"),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts: config.mounts.clone(),
            log_path: config.log_path.clone(),
            ..Default::default()
        };
        let container = FakeContainer { id: id.clone(), sandbox: sandbox.to_owned(), config, status };
        self.containers.insert(id.clone(), container);
        Ok(id)
    }
}

fn named(container: &FakeContainer, name: &str) -> bool {
    container.config.metadata.as_ref().is_some_and(|m| m.name == name)
}

fn name_of(container: &FakeContainer) -> String {
    container.config.metadata.as_ref().map(|m| m.name.clone()).unwrap_or_default()
}

fn is(container: &FakeContainer, state: pb::ContainerState) -> bool {
    container.status.state == state as i32
}

fn missing(kind: &str, id: &str) -> Error {
    Error::NotFound { message: format!("{kind} \"{id}\": not found") }
}

fn failed(message: &str) -> Error {
    Error::Failed { code: "Unknown".to_owned(), message: message.to_owned() }
}

fn matches(labels: &HashMap<String, String>, wanted: &HashMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    futures::future::ready(value).boxed()
}

impl Runtime for FakeRuntime {
    fn version(&self) -> BoxFuture<'_, Result<pb::VersionResponse>> {
        ready(Ok(pb::VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "fake".into(),
            runtime_version: "1".into(),
            runtime_api_version: "v1".into(),
        }))
    }

    fn status(&self) -> BoxFuture<'_, Result<pb::RuntimeStatus>> {
        let condition =
            |name: &str| pb::RuntimeCondition { r#type: name.to_owned(), status: true, ..Default::default() };
        ready(Ok(pb::RuntimeStatus { conditions: vec![condition("RuntimeReady"), condition("NetworkReady")] }))
    }

    fn run_pod_sandbox(&self, config: pb::PodSandboxConfig) -> BoxFuture<'_, Result<String>> {
        let made = {
            let mut state = self.lock();
            let now = self.tick(&mut state);
            state.run_sandbox(config, now)
        };
        if let Ok(id) = &made {
            self.tell(Event::Started { id: id.clone() });
        }
        ready(made)
    }

    fn stop_pod_sandbox<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        self.stop_sandbox(id);
        ready(Ok(()))
    }

    fn remove_pod_sandbox<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        let mut state = self.lock();
        state.containers.retain(|_, container| container.sandbox != id);
        if state.sandboxes.remove(id).is_some() {
            state.calls.push("remove sandbox".to_owned());
        }
        ready(Ok(()))
    }

    fn list_pod_sandboxes(&self, labels: HashMap<String, String>) -> BoxFuture<'_, Result<Vec<pb::PodSandbox>>> {
        let all =
            self.lock().sandboxes.values().map(|s| s.item.clone()).filter(|s| matches(&s.labels, &labels)).collect();
        ready(Ok(all))
    }

    fn pod_sandbox_status<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<pb::PodSandboxStatus>> {
        let status = self.lock().sandboxes.get(id).map(|sandbox| pb::PodSandboxStatus {
            id: id.to_owned(),
            metadata: sandbox.item.metadata.clone(),
            state: sandbox.item.state,
            created_at: sandbox.item.created_at,
            network: Some(pb::PodSandboxNetworkStatus { ip: sandbox.ip.clone(), additional_ips: Vec::new() }),
            labels: sandbox.item.labels.clone(),
            annotations: sandbox.item.annotations.clone(),
        });
        ready(status.ok_or_else(|| missing("sandbox", id)))
    }

    fn pod_sandbox_pid<'a>(&'a self, _id: &'a str) -> BoxFuture<'a, Result<u32>> {
        ready(Ok(std::process::id()))
    }

    fn create_container<'a>(
        &'a self,
        sandbox: &'a str,
        config: pb::ContainerConfig,
        _sandbox_config: pb::PodSandboxConfig,
    ) -> BoxFuture<'a, Result<String>> {
        let mut state = self.lock();
        let now = self.tick(&mut state);
        ready(state.create(sandbox, config, now))
    }

    fn start_container<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        ready(self.start(id))
    }

    fn stop_container<'a>(&'a self, id: &'a str, _grace: Duration) -> BoxFuture<'a, Result<()>> {
        if let Ok(container) = self.container(id) {
            self.lock().calls.push(format!("stop {}", name_of(&container)));
        }
        self.end(id, SIGTERM_EXIT, "Error");
        ready(Ok(()))
    }

    fn remove_container<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        self.lock().containers.remove(id);
        ready(Ok(()))
    }

    fn list_containers(&self, labels: HashMap<String, String>) -> BoxFuture<'_, Result<Vec<pb::Container>>> {
        let state = self.lock();
        let all = state.containers.values().filter(|c| matches(&c.config.labels, &labels)).map(|c| pb::Container {
            id: c.id.clone(),
            pod_sandbox_id: c.sandbox.clone(),
            metadata: c.config.metadata.clone(),
            image: c.config.image.clone(),
            image_ref: c.status.image_ref.clone(),
            state: c.status.state,
            created_at: c.status.created_at,
            labels: c.config.labels.clone(),
            annotations: c.config.annotations.clone(),
        });
        ready(Ok(all.collect()))
    }

    fn container_status<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<pb::ContainerStatus>> {
        ready(self.container(id).map(|container| container.status))
    }

    fn update_container_resources<'a>(
        &'a self,
        id: &'a str,
        _resources: pb::LinuxContainerResources,
    ) -> BoxFuture<'a, Result<()>> {
        ready(self.container(id).map(drop))
    }

    fn reopen_container_log<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        ready(self.container(id).map(drop))
    }

    fn exec_sync<'a>(
        &'a self,
        id: &'a str,
        command: Vec<String>,
        _timeout: Duration,
    ) -> BoxFuture<'a, Result<pb::ExecSyncResponse>> {
        let answer = self.container(id).map(|container| {
            let exec = self.lock().exec.clone();
            exec.map_or_else(Default::default, |exec| exec(&name_of(&container), &command))
        });
        ready(answer)
    }

    fn exec(&self, request: pb::ExecRequest) -> BoxFuture<'_, Result<String>> {
        ready(self.container(&request.container_id).map(|_| "http://127.0.0.1:1/exec/fake".to_owned()))
    }

    fn attach(&self, request: pb::AttachRequest) -> BoxFuture<'_, Result<String>> {
        ready(self.container(&request.container_id).map(|_| "http://127.0.0.1:1/attach/fake".to_owned()))
    }

    fn container_stats<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<pb::ContainerStats>> {
        ready(self.container(id).map(|_| pb::ContainerStats::default()))
    }

    fn list_container_stats(&self, _labels: HashMap<String, String>) -> BoxFuture<'_, Result<Vec<pb::ContainerStats>>> {
        ready(Ok(Vec::new()))
    }

    fn list_images(&self) -> BoxFuture<'_, Result<Vec<pb::Image>>> {
        let images = self.lock().images.iter().map(|name| fake_image(name)).collect();
        ready(Ok(images))
    }

    fn image_status<'a>(&'a self, image: &'a str) -> BoxFuture<'a, Result<Option<pb::Image>>> {
        ready(Ok(self.lock().images.contains(plain(image)).then(|| fake_image(plain(image)))))
    }

    fn pull_image<'a>(&'a self, image: &'a str, _auth: Option<pb::AuthConfig>) -> BoxFuture<'a, Result<String>> {
        let mut state = self.lock();
        state.calls.push(format!("pull {image}"));
        if let Some(message) = state.unpullable.get(image) {
            return ready(Err(failed(message)));
        }
        state.images.insert(image.to_owned());
        ready(Ok(format!("{image}{ID_SUFFIX}")))
    }

    fn remove_image<'a>(&'a self, image: &'a str) -> BoxFuture<'a, Result<()>> {
        self.lock().images.remove(plain(image));
        ready(Ok(()))
    }

    fn image_fs_info(&self) -> BoxFuture<'_, Result<Vec<pb::FilesystemUsage>>> {
        ready(Ok(Vec::new()))
    }

    /// The archive is not read: its file name, without the suffix, becomes the image.
    fn import_images<'a>(&'a self, archive: &'a Path) -> BoxFuture<'a, Result<()>> {
        let name = archive.file_stem().unwrap_or_default().to_string_lossy();
        self.add_image(&format!("localhost/{name}:1"));
        ready(Ok(()))
    }

    fn events(&self) -> EventStream {
        let receiver = self.events.subscribe();
        let changes = futures::stream::unfold(receiver, |mut receiver| async move {
            match receiver.recv().await {
                Ok(event) => Some((event, receiver)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((Event::Lost, receiver)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        });
        futures::stream::once(async { Event::Lost }).chain(changes).boxed()
    }
}

fn plain(image: &str) -> &str {
    image.trim_end_matches(ID_SUFFIX)
}

fn fake_image(name: &str) -> pb::Image {
    pb::Image { id: format!("{name}{ID_SUFFIX}"), repo_tags: vec![name.to_owned()], size: 1, ..Default::default() }
}
