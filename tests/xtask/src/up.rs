//! `cargo xtask up`: from a fresh checkout to a page served by pods on this machine.

use std::io::{IsTerminal, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use skiff_tests::{addresses, command, images, prerequisites, wait};

use crate::workspace::{self, Profile};

const DEMO_IMAGE: &str = "localhost/skiff/demo:1";
/// As in the demo's Ingress.
const DEMO_HOST: &str = "demo.skiff.local";
const READY_MAX: Duration = Duration::from_secs(60);
/// A first look at the box should not wait for the optimizer, and the tests build the same.
const PROFILE: Profile = Profile::Dev;

#[derive(clap::Args)]
pub struct Arguments {
    /// Start the box without the demo
    #[arg(long)]
    no_demo: bool,
    /// Leave the box running and return; `cargo xtask down` ends it
    #[arg(long)]
    detach: bool,
}

struct Workplace {
    skiff: PathBuf,
    data: PathBuf,
    http: u16,
    https: u16,
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupted(_signal: i32) {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    workspace::require_root()?;
    let data = workspace::target().join("box");
    if let Some(pid) = running(&data) {
        bail!(
            "a box already runs here (process {pid}):\n  export KUBECONFIG={}\nend it with Ctrl-C in its terminal, or with `cargo xtask down`",
            data.join("kubeconfig.yaml").display()
        );
    }
    prerequisites::ensure(crate::prerequisites::UP)?;
    println!("building the agent");
    let skiff = workspace::build_agent(PROFILE)?;
    let place = Workplace { skiff, data, http: port(8080)?, https: port(8443)? };
    handle_interrupt()?;
    let mut agent = place.start()?;
    let result = place.bring_up(arguments, &mut agent);
    if let Err(error) = result {
        place.end(&mut agent)?;
        return Err(error);
    }
    if arguments.detach {
        println!("the box goes on without this command; `cargo xtask down` ends it");
        return Ok(());
    }
    println!("Ctrl-C ends the box");
    while !INTERRUPTED.load(Ordering::SeqCst) {
        if let Some(status) = agent.try_wait()? {
            place.end(&mut agent)?;
            bail!("the agent ended: {status}; its log is {}", place.log().display());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("\nending the box");
    place.end(&mut agent)
}

pub fn down() -> anyhow::Result<()> {
    workspace::require_root()?;
    let data = workspace::target().join("box");
    let skiff = workspace::agent(PROFILE);
    if !skiff.exists() || !data.exists() {
        bail!("there is no box here: `cargo xtask up` starts one");
    }
    let down = command::run(&skiff.to_string_lossy(), ["down".as_ref(), "--data-dir".as_ref(), data.as_os_str()])?;
    print!("{down}");
    Ok(())
}

/// Developers' machines may use the ports of the ingress for something else, and these too.
fn port(wanted: u16) -> anyhow::Result<u16> {
    match TcpListener::bind((addresses::ANY, wanted)) {
        Ok(_) => Ok(wanted),
        Err(_) => addresses::free_port(),
    }
}

/// The agent that holds the data directory's lock.
fn running(data: &Path) -> Option<String> {
    let pid = std::fs::read_to_string(data.join("agent.lock")).ok()?;
    let program = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (program.trim() == "skiff").then_some(pid)
}

fn handle_interrupt() -> anyhow::Result<()> {
    let action = SigAction::new(SigHandler::Handler(interrupted), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler only stores into an atomic.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

impl Workplace {
    fn log(&self) -> PathBuf {
        self.data.with_file_name("box.log")
    }

    fn kubeconfig(&self) -> PathBuf {
        self.data.join("kubeconfig.yaml")
    }

    fn settings(&self) -> PathBuf {
        self.data.with_file_name("box.toml")
    }

    fn start(&self) -> anyhow::Result<Child> {
        let log = std::fs::File::create(self.log())?;
        let (http, https) = (self.http, self.https);
        let settings = format!("[ingress]\nhttp = [\"0.0.0.0:{http}\"]\nhttps = [\"0.0.0.0:{https}\"]\n");
        std::fs::write(self.settings(), settings)?;
        let mut command = Command::new(&self.skiff);
        command.arg("up").arg("--config").arg(self.settings()).arg("--data-dir").arg(&self.data);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A group of its own: Ctrl-C reaches this command, which then ends the box in order.
        command.process_group(0).spawn().context("the agent does not start")
    }

    fn bring_up(&self, arguments: &Arguments, agent: &mut Child) -> anyhow::Result<()> {
        let kubectl = prerequisites::kubectl(&workspace::target().join("kubectl"))?;
        let started = Instant::now();
        self.wait("the API", agent, || self.kubectl(&kubectl, &["get", "--raw", "/readyz"]).map(drop))?;
        self.wait("the node", agent, || {
            let ready = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}";
            let status = self.kubectl(&kubectl, &["get", "nodes", "-o", ready])?;
            if status == "True" { Ok(()) } else { bail!("the node is not Ready: {status:?}") }
        })?;
        println!("the box is ready after {:.1} s", started.elapsed().as_secs_f32());
        if !arguments.no_demo {
            self.demo(&kubectl, agent)?;
        }
        println!("\n  export KUBECONFIG={}", self.kubeconfig().display());
        if kubectl != Path::new("kubectl") {
            println!("  export PATH={}:$PATH   # a stock kubectl", kubectl.parent().unwrap_or(&kubectl).display());
        }
        println!("  kubectl get pods -A\n");
        Ok(())
    }

    /// Waits with a line that says for how long: one that moves where somebody watches.
    fn wait(&self, what: &str, agent: &mut Child, check: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let (started, watched) = (Instant::now(), std::io::stdout().is_terminal());
        let result = wait::until(what, READY_MAX, || {
            if INTERRUPTED.load(Ordering::SeqCst) {
                return Ok(Err(anyhow::anyhow!("interrupted")));
            }
            if let Some(status) = agent.try_wait()? {
                return Ok(Err(anyhow::anyhow!("the agent ended: {status}")));
            }
            if watched {
                print!("\rwaiting for {what} … {:.1} s ", started.elapsed().as_secs_f32());
                let _ = std::io::stdout().flush();
            }
            check().map(Ok)
        });
        if watched {
            println!();
        } else {
            let outcome = if matches!(result, Ok(Ok(()))) { "there after" } else { "given up after" };
            println!("waiting for {what}: {outcome} {:.1} s", started.elapsed().as_secs_f32());
        }
        result.and_then(|inner| inner).with_context(|| format!("see {}", self.log().display()))
    }

    fn kubectl(&self, kubectl: &Path, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(kubectl);
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(arguments);
        let done = command::output(command)?;
        if done.ok { Ok(done.stdout) } else { bail!("{}", done.stderr.trim()) }
    }

    fn demo(&self, kubectl: &Path, agent: &mut Child) -> anyhow::Result<()> {
        let archive = workspace::target().join("demo.tar");
        images::web(DEMO_IMAGE, PAGE).write(&archive)?;
        let mut command = Command::new(&self.skiff);
        command.args(["images", "--data-dir"]).arg(&self.data).arg("import").arg(&archive);
        let done = command::output(command)?;
        if !done.ok {
            bail!("the demo's image was not imported: {}", done.stderr);
        }
        let manifest = workspace::target().join("demo.yaml");
        std::fs::write(&manifest, DEMO)?;
        self.kubectl(kubectl, &["apply", "-f", &manifest.to_string_lossy()])?;
        let up = self.wait("the demo", agent, || {
            let ready =
                self.kubectl(kubectl, &["get", "deployment", "demo", "-o", "jsonpath={.status.readyReplicas}"])?;
            if ready == "2" { Ok(()) } else { bail!("{} of 2 pods are ready", ready.parse::<u8>().unwrap_or(0)) }
        });
        up.inspect_err(|_| self.say_why(kubectl))?;
        let address = self.kubectl(kubectl, &["get", "service", "demo", "-o", "jsonpath={.spec.clusterIP}"])?;
        let page = wait::until("the demo's page", READY_MAX, || fetch(&address))?;
        if !page.contains("Skiff") {
            bail!("the demo answered something else: {page}");
        }
        println!("the demo's page answers at  http://{address}/");
        self.front_door()
    }

    /// What the box knows of pods that did not come up: it is gone when the box is taken down.
    fn say_why(&self, kubectl: &Path) {
        for arguments in [&["get", "pods", "-o", "wide"][..], &["get", "events", "--sort-by=.lastTimestamp"]] {
            match self.kubectl(kubectl, arguments) {
                Ok(text) => println!("\nkubectl {}:\n{text}", arguments.join(" ")),
                Err(error) => println!("\nkubectl {} failed: {error:#}", arguments.join(" ")),
            }
        }
    }

    /// The same page through the ingress, as from another machine.
    fn front_door(&self) -> anyhow::Result<()> {
        let (https, ca) = (self.https, self.data.with_file_name("box-ca.pem"));
        let ca = ca.to_string_lossy();
        let root = format!("http://127.0.0.1:{}/ca.pem", self.http);
        let resolve = format!("{DEMO_HOST}:{https}:127.0.0.1");
        let url = format!("https://{DEMO_HOST}:{https}/");
        let page = wait::until("the demo's page through the ingress", READY_MAX, || {
            command::run("curl", ["-sSf", "-o", &ca, &root])?;
            command::run("curl", ["-sSf", "--cacert", &ca, "--resolve", &resolve, &url])
        })
        .with_context(|| format!("see {}", self.log().display()))?;
        if !page.contains("Skiff") {
            bail!("the ingress answered something else: {page}");
        }
        println!("and through the ingress at  {url}\n  curl --cacert {ca} --resolve {resolve} {url}");
        Ok(())
    }

    fn end(&self, agent: &mut Child) -> anyhow::Result<()> {
        let mut command = Command::new(&self.skiff);
        command.arg("down").arg("--data-dir").arg(&self.data);
        let done = command::output(command)?;
        let _ = agent.wait();
        print!("{}", done.stdout);
        if done.ok { Ok(()) } else { bail!("the box was not taken down: {}", done.stderr.trim()) }
    }
}

fn fetch(address: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect((address, 80))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: demo\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

const PAGE: &str =
    "<!doctype html>\n<title>Skiff</title>\n<h1>Skiff</h1>\n<p>This page is served by two pods on this machine.</p>\n";

const DEMO: &str = r"apiVersion: apps/v1
kind: Deployment
metadata:
  name: demo
  labels: {app: demo}
spec:
  replicas: 2
  selector:
    matchLabels: {app: demo}
  template:
    metadata:
      labels: {app: demo}
    spec:
      containers:
      - name: web
        image: localhost/skiff/demo:1
        imagePullPolicy: Never
        ports:
        - containerPort: 80
        readinessProbe:
          httpGet: {path: /, port: 80}
          periodSeconds: 5
---
apiVersion: v1
kind: Service
metadata:
  name: demo
spec:
  selector: {app: demo}
  ports:
  - port: 80
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: demo
spec:
  ingressClassName: skiff
  tls:
  - hosts: [demo.skiff.local]
  rules:
  - host: demo.skiff.local
    http:
      paths:
      - path: /
        pathType: Prefix
        backend:
          service: {name: demo, port: {number: 80}}
";
