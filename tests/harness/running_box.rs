//! A box of its own beside others on this machine: its data, names, addresses and ports are all its own, and nothing
//! of it is left when it is dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::command::{self, Done};
use crate::kubectl::{self, Kubectl};
use crate::{images, wait};

const READY_MAX: Duration = Duration::from_secs(60);

/// What tells boxes apart; each number is a separate set of names, addresses and ports.
#[derive(Clone, Copy, Debug)]
pub struct Number(pub u8);

/// Lets two runs of the tests on one machine keep apart: `SKIFF_BOX_OFFSET=20`.
pub fn offset() -> u8 {
    std::env::var("SKIFF_BOX_OFFSET").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

pub struct RunningBox {
    number: Number,
    binary: PathBuf,
    kubectl: Kubectl,
    dir: PathBuf,
    temporary: Option<tempfile::TempDir>,
    agent: Option<Child>,
}

impl RunningBox {
    /// Starts a box and waits until its node is Ready.
    pub fn start(binary: &Path, kubectl: &Path, number: Number) -> anyhow::Result<Self> {
        let mut running = Self::prepare(binary, kubectl, number)?;
        running.start_agent()?;
        running.wait_ready()?;
        Ok(running)
    }

    /// A box that does not run yet.
    pub fn prepare(binary: &Path, kubectl: &Path, number: Number) -> anyhow::Result<Self> {
        Self::prepare_with(binary, kubectl, number, "")
    }

    /// The same with more settings: see `write_settings`.
    pub fn prepare_with(binary: &Path, kubectl: &Path, number: Number, more: &str) -> anyhow::Result<Self> {
        let temporary = tempfile::Builder::new().prefix("skiff-box-").tempdir()?;
        let dir = temporary.path().join("data");
        let running = Self {
            number: Number(number.0 + offset()),
            binary: binary.to_owned(),
            kubectl: Kubectl {
                program: kubectl.to_owned(),
                kubeconfig: dir.join("kubeconfig.yaml"),
                cache: temporary.path().join("kubectl-cache"),
                options: &[],
            },
            dir,
            temporary: Some(temporary),
            agent: None,
        };
        running.write_settings(more)?;
        Ok(running)
    }

    /// What the next start of the agent reads: the box's own settings, then `more`, which begins in `[ingress]`. A key
    /// in it replaces the box's own of that name.
    pub fn write_settings(&self, more: &str) -> anyhow::Result<()> {
        let key = |line: &str| line.split_once(" = ").map(|(key, _)| key.to_owned());
        let replaced: Vec<String> = more.lines().filter_map(key).collect();
        let own = self.settings();
        let kept = own.lines().filter(|line| key(line).is_none_or(|key| !replaced.contains(&key)));
        let text: String = kept.chain(more.lines()).flat_map(|line| [line, "\n"]).collect();
        std::fs::write(self.settings_file(), text)?;
        Ok(())
    }

    fn settings_file(&self) -> PathBuf {
        self.dir.with_file_name("skiff.toml")
    }

    fn settings(&self) -> String {
        let n = self.number.0;
        format!(
            "[node]\nname = \"box-{n}\"\n[api]\nlisten = \"0.0.0.0:{}\"\n[network]\npod_cidr = \"10.{}.0.0/24\"\n\
             service_cidr = \"10.{}.0.0/16\"\nnode_ports = \"{}\"\nbridge = \"sktest{n}\"\ntable = \"sktest{n}\"\n\
             [runtime]\ncgroup_parent = \"sktest{n}\"\n\
             [ingress]\nhttp = [\"0.0.0.0:{}\"]\nhttps = [\"0.0.0.0:{}\"]\nmetrics = \"127.0.0.1:{}\"\n",
            self.api_port(),
            100 + n,
            150 + n,
            self.node_ports(),
            self.http_port(),
            self.https_port(),
            self.metrics_port(),
        )
    }

    /// What the addresses of its pods start with.
    pub fn pod_prefix(&self) -> String {
        format!("10.{}.0.", 100 + self.number.0)
    }

    pub fn dns_address(&self) -> String {
        format!("10.{}.0.10", 150 + self.number.0)
    }

    pub fn node_ports(&self) -> String {
        let first = 20_000 + u16::from(self.number.0) * 100;
        format!("{first}-{}", first + 99)
    }

    pub fn number(&self) -> u8 {
        self.number.0
    }

    pub fn node_name(&self) -> String {
        format!("box-{}", self.number.0)
    }

    pub fn api_port(&self) -> u16 {
        16_000 + u16::from(self.number.0)
    }

    /// Where the ingress answers plain HTTP.
    pub fn http_port(&self) -> u16 {
        17_000 + u16::from(self.number.0)
    }

    pub fn https_port(&self) -> u16 {
        18_000 + u16::from(self.number.0)
    }

    /// Where the ingress shows its metrics.
    pub fn metrics_port(&self) -> u16 {
        19_000 + u16::from(self.number.0)
    }

    pub fn data_dir(&self) -> &Path {
        &self.dir
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.kubectl.kubeconfig.clone()
    }

    pub fn log_file(&self) -> PathBuf {
        self.dir.with_file_name("agent.log")
    }

    pub fn agent_pid(&self) -> Option<u32> {
        self.agent.as_ref().map(Child::id)
    }

    pub fn start_agent(&mut self) -> anyhow::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let child = Command::new(&self.binary)
            .args(["up", "--config"])
            .arg(self.settings_file())
            .arg("--data-dir")
            .arg(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} does not start", self.binary.display()))?;
        self.agent = Some(child);
        Ok(())
    }

    pub fn wait_api(&mut self) -> anyhow::Result<()> {
        self.wait("the API answers", |b| b.kubectl(&["get", "--raw", "/readyz"]).map(drop))
    }

    pub fn wait_ready(&mut self) -> anyhow::Result<()> {
        self.wait("the node is Ready", |b| kubectl::is_ready(&b.json(&["get", "node", &b.node_name()])?))
    }

    fn wait(&mut self, what: &str, check: impl Fn(&Self) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let result = wait::until(what, READY_MAX, || {
            if let Some(status) = self.agent.as_mut().and_then(|a| a.try_wait().ok().flatten()) {
                bail!("the agent ended: {status}");
            }
            check(self)
        });
        result.with_context(|| format!("the agent's log:\n{}", self.log_tail()))
    }

    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Ends the agent as a power cut would: no word of warning. Pods and runtime go on.
    pub fn kill_agent(&mut self) -> anyhow::Result<()> {
        if let Some(mut agent) = self.agent.take() {
            agent.kill()?;
            agent.wait()?;
        }
        Ok(())
    }

    /// Asks the agent to stop and waits for it.
    pub fn stop_agent(&mut self) -> anyhow::Result<()> {
        if let Some(mut agent) = self.agent.take() {
            command::run("kill", ["-TERM", &agent.id().to_string()])?;
            agent.wait()?;
        }
        Ok(())
    }

    /// The processes that serve the ingress: the proxy, and while it is replaced the old one too.
    pub fn proxies(&self) -> anyhow::Result<Vec<u32>> {
        let socket = self.dir.join("run/ingress/control.sock");
        let socket = socket.to_string_lossy();
        let is_proxy = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split(|b| *b == 0);
            words.nth(1) == Some(b"ingress-proxy") && words.any(|w| w == socket.as_bytes())
        };
        let entries = std::fs::read_dir("/proc")?.flatten();
        let pids = entries.filter_map(|e| e.file_name().to_str()?.parse().ok());
        Ok(pids.filter(is_proxy).collect())
    }

    pub fn skiff(&self, arguments: &[&str]) -> anyhow::Result<Done> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).env("SKIFF_DATA_DIR", &self.dir);
        command::output(command)
    }

    pub fn import(&self, image: &images::Image) -> anyhow::Result<()> {
        let archive = self.dir.with_file_name("import.tar");
        image.write(&archive)?;
        let done = self.skiff(&["images", "import", &archive.to_string_lossy()])?;
        if done.ok { Ok(()) } else { bail!("import failed: {}", done.stderr) }
    }

    pub fn kubectl_command(&self) -> Command {
        self.kubectl.command()
    }

    pub fn try_kubectl(&self, arguments: &[&str]) -> anyhow::Result<Done> {
        self.kubectl.try_run(arguments)
    }

    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.kubectl.run(arguments)
    }

    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        self.kubectl.json(arguments)
    }

    pub fn apply(&self, manifest: &str) -> anyhow::Result<String> {
        self.kubectl.apply(manifest)
    }

    pub fn try_apply(&self, manifest: &str) -> anyhow::Result<Done> {
        self.kubectl.try_apply(manifest)
    }
}

impl Drop for RunningBox {
    fn drop(&mut self) {
        if std::env::var_os("SKIFF_KEEP").is_some() {
            eprintln!("kept: {}", self.dir.display());
            drop(self.temporary.take().map(tempfile::TempDir::keep));
            return;
        }
        let _ = self.stop_agent();
        if self.dir.exists() {
            match self.skiff(&["down", "--purge", "--yes"]) {
                Ok(done) if done.ok => {}
                Ok(done) => eprintln!("the box was not taken down: {}", done.stderr),
                Err(error) => eprintln!("the box was not taken down: {error:#}"),
            }
        }
    }
}
