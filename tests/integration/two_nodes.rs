//! Two nodes of one cluster: a box and a node agent alone, each in a network namespace of its own with a cable between them.
//! Their pods reach each other, and each node writes only what is its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use skiff_tests::{command, images, running_box, wait};

use crate::{Place, SOON};

/// A node of its own beside a busy machine's others.
const READY_MAX: Duration = Duration::from_secs(60);
const IMAGE: &str = "localhost/skiff-test/two-nodes:1";

/// The numbers of this test's machines, beside those of boxes.
fn number() -> u8 {
    18 + running_box::offset()
}

/// Namespaces and the cable between them.
struct Cable;

impl Cable {
    fn new(names: [&str; 2]) -> anyhow::Result<Self> {
        let cable = Self;
        for name in names {
            command::run("ip", ["netns", "add", name])?;
        }
        let [a, b] = names;
        let ends = ["link", "add", "eth0", "netns", a, "type", "veth", "peer", "name", "eth0", "netns", b];
        command::run("ip", ends)?;
        for (name, address) in names.into_iter().zip([address(0), address(1)]) {
            command::run("ip", ["-n", name, "address", "add", &format!("{address}/24"), "dev", "eth0"])?;
            command::run("ip", ["-n", name, "link", "set", "lo", "up"])?;
            command::run("ip", ["-n", name, "link", "set", "eth0", "up"])?;
        }
        Ok(cable)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for name in [namespace(0), namespace(1)] {
            let _ = command::run("ip", ["netns", "del", &name]);
        }
    }
}

fn namespace(machine: u8) -> String {
    format!("skiff-two-{}-{machine}", number())
}

fn address(machine: u8) -> String {
    format!("198.18.{}.{}", number(), machine + 1)
}

/// The pods of a machine, as a network's beginning.
fn range(machine: u8) -> String {
    format!("10.{}.{machine}.0/24", 100 + number())
}

/// A machine with an agent.
struct Machine<'a> {
    number: u8,
    binary: &'a Path,
    kubectl: &'a Path,
    dir: tempfile::TempDir,
    agent: Option<Child>,
}

impl<'a> Machine<'a> {
    fn new(place: &'a Place<'_>, machine: u8) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("skiff-two-").tempdir()?;
        let n = number();
        let settings = format!(
            "[node]\nname = \"{}\"\naddress = \"{}\"\n[api]\nlisten = \"0.0.0.0:6443\"\n[network]\n\
             pod_cidr = \"10.{}.0.0/16\"\nservice_cidr = \"10.{}.0.0/16\"\nbridge = \"sktwo{n}{machine}\"\n\
             table = \"sktwo{n}{machine}\"\n[runtime]\ncgroup_parent = \"sktwo{n}{machine}\"\n[ingress]\nenabled = false\n",
            name(machine),
            address(machine),
            100 + n,
            150 + n,
        );
        std::fs::write(dir.path().join("skiff.toml"), settings)?;
        let (binary, kubectl) = (place.shared.binary.as_path(), place.shared.kubectl.as_path());
        Ok(Self { number: machine, binary, kubectl, dir, agent: None })
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A program in the machine's network, and nothing else of its own: `ip netns exec` hides the control groups.
    fn inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", namespace(self.number))).arg(program);
        command
    }

    fn run(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.inside(program);
        command.args(arguments).env("SKIFF_DATA_DIR", self.data());
        let done = command::output(command)?;
        if done.ok { Ok(done.stdout) } else { bail!("{arguments:?} failed: {}{}", done.stdout, done.stderr) }
    }

    fn skiff(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.run(self.binary, arguments)
    }

    fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let config = self.data().join("kubeconfig.yaml");
        let options = ["--kubeconfig", &config.to_string_lossy(), "--cache-dir", "/nonexistent"].map(str::to_owned);
        let mut all: Vec<&str> = options.iter().map(String::as_str).collect();
        all.extend(arguments);
        self.run(self.kubectl, &all)
    }

    fn get(&self, object: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.kubectl(&["get", object, "-o", "json"])?)?)
    }

    fn start(&mut self, arguments: &[&str]) -> anyhow::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("agent.log"))?;
        let mut command = self.inside(self.binary);
        command.args(arguments).arg("--config").arg(self.dir.path().join("skiff.toml"));
        command.arg("--data-dir").arg(self.data()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.agent = Some(command.spawn()?);
        Ok(())
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut agent) = self.agent.take() {
            command::run("kill", ["-TERM", &agent.id().to_string()])?;
            agent.wait()?;
        }
        Ok(())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("agent.log")).unwrap_or_default()
    }

    fn import(&self) -> anyhow::Result<()> {
        let archive = self.dir.path().join("image.tar");
        let mut image = images::busybox(IMAGE);
        // It looks up names, which a static busybox does not.
        image.programs.push("/usr/bin/curl".into());
        image.write(&archive)?;
        self.skiff(&["images", "import", &archive.to_string_lossy()]).map(drop)
    }

    /// What it has made of its network, the packet filter's rules and the routes, in an order that does not change by itself.
    fn network(&self) -> anyhow::Result<String> {
        let table = format!("sktwo{}{}", number(), self.number);
        let rules = self.run("nft", &["--stateless", "list", "table", "ip", &table])?;
        let all = rules + &self.run("ip", &["-4", "route", "show"])?;
        // The kernel gives the elements of maps in any order.
        let line = |line: &str| line.trim().trim_start_matches("elements = {").trim_matches([' ', ',', '}']).to_owned();
        let mut lines: Vec<String> = all.lines().map(line).collect();
        lines.sort();
        Ok(lines.join("\n"))
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        let _ = self.stop();
        if let Err(error) = self.skiff(&["down", "--purge", "--yes"]) {
            eprintln!("machine {} was not taken down: {error:#}", self.number);
        }
    }
}

fn name(machine: u8) -> String {
    format!("two-{machine}")
}

/// Waits; what fails is told with both agents' logs.
fn until<T>(machines: [&Machine<'_>; 2], what: &str, check: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let of_pods = |machine: &Machine<'_>| {
        let dirs = std::fs::read_dir(machine.data().join("node/logs/pods")).into_iter().flatten().flatten();
        let lines = dirs.filter_map(|dir| std::fs::read_to_string(dir.path().join("a/0.log")).ok());
        lines.map(|log| log.lines().rev().take(3).collect::<Vec<_>>().join("\n")).collect::<Vec<_>>().join("\n")
    };
    let log =
        |machine: &Machine<'_>| format!("{}:\n{}its pods:\n{}", name(machine.number), machine.log(), of_pods(machine));
    let logs = || machines.map(log).join("\n");
    wait::until(what, READY_MAX, check).with_context(logs)
}

fn wait_ready(machines: [&Machine<'_>; 2], object: &str) -> anyhow::Result<()> {
    until(machines, &format!("{object} is Ready"), || skiff_tests::kubectl::is_ready(&machines[0].get(object)?))
}

/// A pod on one of the machines that serves its name, and fetches others' names before it is ready.
fn pod(machine: u8, fetched: &[String]) -> Value {
    let fetch: String = fetched
        .iter()
        .map(|url| format!("until curl -sS -m 2 http://{url}/; do echo {url} does not answer; sleep 1; done; "))
        .collect();
    let script = format!(
        "mkdir /www; echo {0} > /www/index.html; httpd -p 8080 -h /www; {fetch} touch /ready; exec sleep 1000000",
        name(machine)
    );
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name(machine), "labels": {"app": name(machine)}},
        "spec": {"nodeName": name(machine), "terminationGracePeriodSeconds": 1, "containers": [{
            "name": "a", "image": IMAGE, "imagePullPolicy": "Never", "command": ["sh", "-c", script],
            "readinessProbe": {"exec": {"command": ["cat", "/ready"]}, "periodSeconds": 1}}]}})
}

fn service(machine: u8) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name(machine)}, "spec": {
        "selector": {"app": name(machine)}, "publishNotReadyAddresses": true, "ports": [{"port": 80, "targetPort": 8080}]}})
}

/// Without what comes with time: heartbeats, and the images that were imported meanwhile.
fn lasting(mut node: Value) -> Value {
    for field in ["resourceVersion", "managedFields", "generation"] {
        node["metadata"].as_object_mut().map(|metadata| metadata.remove(field));
    }
    node["status"].as_object_mut().map(|status| status.remove("images"));
    for condition in node["status"]["conditions"].as_array_mut().into_iter().flatten() {
        condition.as_object_mut().map(|condition| condition.remove("lastHeartbeatTime"));
    }
    node
}

pub fn pods_reach_each_other_and_nodes_keep_to_their_own(place: &Place<'_>) -> anyhow::Result<()> {
    let _cable = Cable::new([&namespace(0), &namespace(1)])?;
    let (mut first, mut second) = (Machine::new(place, 0)?, Machine::new(place, 1)?);
    first.start(&["up"])?;
    wait_ready([&first, &second], &format!("node/{}", name(0)))?;

    let access = second.dir.path().join("access.json").to_string_lossy().into_owned();
    std::fs::write(&access, first.skiff(&["node-kubeconfig", &name(1)])?)?;
    second.start(&["node", "--kubeconfig", &access])?;
    wait_ready([&first, &second], &format!("node/{}", name(1)))?;

    first.import()?;
    second.import()?;
    exchange([&first, &second])?;
    keep_to_their_own(&first, &mut second, &["node", "--kubeconfig", &access])?;

    // A node that goes leaves nothing on the others.
    second.stop()?;
    first.kubectl(&["delete", "node", &name(1), "--wait=false"])?;
    until([&first, &second], "the route to the node that went is removed", || {
        let routes = first.run("ip", &["-4", "route", "show"])?;
        ensure!(!routes.contains(&range(1)), "{routes}");
        Ok(())
    })
}

/// Pods by their addresses, by Services and by name, both ways.
fn exchange(machines: [&Machine<'_>; 2]) -> anyhow::Result<()> {
    let [first, second] = machines;
    let apply = |object: Value| -> anyhow::Result<()> {
        let file = tempfile::Builder::new().suffix(".json").tempfile()?;
        std::fs::write(file.path(), object.to_string())?;
        first.kubectl(&["apply", "-f", &file.path().to_string_lossy()]).map(drop)
    };
    until(machines, "the namespace takes pods", || apply(service(0)))?;
    apply(service(1))?;
    until(machines, "the first pod is made", || apply(pod(0, &[name(1)])))?;
    let text = |object: &str, path: &[&str]| -> anyhow::Result<String> {
        let found = first.get(object)?;
        let value = path.iter().fold(&found, |value, key| &value[*key]);
        value.as_str().map(str::to_owned).with_context(|| format!("{object} has no {path:?} yet"))
    };
    let pod_ip = |machine| text(&format!("pod/{}", name(machine)), &["status", "podIP"]);
    let cluster_ip = |machine| text(&format!("service/{}", name(machine)), &["spec", "clusterIP"]);
    let of_first = until(machines, "the first pod has an address", || pod_ip(0))?;
    apply(pod(1, &[format!("{of_first}:8080"), cluster_ip(0)?, name(0)]))?;
    let of_second = until(machines, "the second pod has an address", || pod_ip(1))?;
    ensure!(of_second.starts_with(range(1).trim_end_matches("0/24")), "{of_second} is not of {}", range(1));
    wait_ready(machines, &format!("pod/{}", name(1)))?;
    wait_ready(machines, &format!("pod/{}", name(0)))?;
    // From the machines themselves, too.
    for (machine, url) in
        [(first, format!("{of_second}:8080")), (first, cluster_ip(1)?), (second, format!("{of_first}:8080"))]
    {
        let page = machine.run("curl", &["-sS", "-m", "3", &format!("http://{url}/")])?;
        ensure!(page.starts_with("two-"), "{url} answered {page:?}");
    }
    Ok(())
}

/// A restart of the second agent changes nothing of the first node, and stops no pod.
fn keep_to_their_own(first: &Machine<'_>, second: &mut Machine<'_>, arguments: &[&str]) -> anyhow::Result<()> {
    let node = format!("node/{}", name(0));
    let started = || -> anyhow::Result<Value> {
        let pod = first.get(&format!("pod/{}", name(1)))?;
        Ok(pod["status"]["containerStatuses"][0]["containerID"].clone())
    };
    let before = (lasting(first.get(&node)?), first.network()?, second.network()?, started()?);
    second.stop()?;
    second.start(arguments)?;
    let starts = |machine: &Machine<'_>| machine.log().matches("the node has its range").count();
    until([first, second], "the second agent runs again", || {
        ensure!(starts(second) == 2, "it started {} times", starts(second));
        Ok(())
    })?;
    until([first, second], "the second node has its rules again", || {
        let after = second.network()?;
        ensure!(after == before.2, "{after}");
        Ok(())
    })?;
    let after = (lasting(first.get(&node)?), first.network()?, second.network()?, started()?);
    ensure!(before.0 == after.0, "the first node's object: {}\n{}", before.0, after.0);
    ensure!(before.1 == after.1, "the first node's network: {}\n{}", before.1, after.1);
    ensure!(before.2 == after.2, "the second node's network: {}\n{}", before.2, after.2);
    ensure!(before.3 == after.3, "the second node's container: {} is now {}", before.3, after.3);
    // Neither does it get at the other's object with what it was given.
    let access = arguments.last().context("the second's access")?;
    let refused = second.run(second.kubectl, &["--kubeconfig", access, "label", &node, "taken=over"]);
    let refused = refused.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(refused.contains("is not allowed to modify node"), "{refused}");
    wait::until("the first node is Ready", SOON, || skiff_tests::kubectl::is_ready(&first.get(&node)?))
}
