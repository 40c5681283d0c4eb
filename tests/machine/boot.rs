//! From power on to an application that answers on HTTPS, and what the system is like then.

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use skiff_tests::kubectl::{self, Kubectl};
use skiff_tests::machine::{Arch, Disk, Machine};
use skiff_tests::{command, wait};
use skiff_tests::{debian, images};

use crate::Shared;

/// A machine with what it takes to talk to it.
pub struct Client {
    pub machine: Machine,
    pub kubectl: Kubectl,
}

impl Client {
    /// Waits until the node is Ready.
    pub fn connect(shared: &Shared, disk: &Disk, mut machine: Machine) -> anyhow::Result<Self> {
        machine.wait("the API answers", Machine::api_ready)?;
        let api = machine.started.elapsed();
        let kubeconfig = machine.wait("SSH answers", Machine::kubeconfig)?;
        let kubectl = Kubectl {
            program: shared.kubectl.clone(),
            kubeconfig,
            cache: disk.file("kubectl-cache"),
            options: &["--request-timeout=60s"],
        };
        let mut client = Self { machine, kubectl };
        client.wait_node()?;
        let ready = client.machine.started.elapsed();
        println!("        power on → API {:.1} s → node Ready {:.1} s", api.as_secs_f32(), ready.as_secs_f32());
        Ok(client)
    }

    fn wait_node(&mut self) -> anyhow::Result<()> {
        let Self { machine, kubectl } = self;
        machine.wait("the node is Ready", |_| kubectl::is_ready(&kubectl.json(&["get", "nodes"])?["items"][0]))
    }

    pub fn wait_other_slot(&mut self) -> anyhow::Result<()> {
        self.machine.wait("the other slot is filled", |m| {
            let slots = m.output("skiff slots")?;
            if slots.contains("(empty)") { bail!("{slots}") } else { Ok(()) }
        })
    }

    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.kubectl.run(arguments)
    }

    pub fn apply(&self, manifest: &str) -> anyhow::Result<()> {
        self.kubectl.apply(manifest).map(drop)
    }

    /// Makes a container image known to the machine.
    pub fn import(&self, shared: &Shared, image: &images::Image) -> anyhow::Result<()> {
        let archive = tempfile::Builder::new().suffix(".tar").tempfile()?;
        let mut image = image.clone();
        if shared.arch == Arch::Arm64 && Arch::HERE == Arch::Amd64 {
            image.foreign = Some(("arm64".to_owned(), foreign_busybox(shared)?));
        }
        image.write(archive.path())?;
        self.machine.send(
            archive.path(),
            "cat > /var/tmp/image.tar && skiff images import /var/tmp/image.tar && rm /var/tmp/image.tar",
        )
    }

    /// The page of a host, its certificate checked with the box's own CA.
    pub fn https(&self, host: &str) -> anyhow::Result<String> {
        let ports = self.machine.ports;
        let ca = format!("http://127.0.0.1:{}/ca.pem", ports.http);
        let ca = command::run("curl", ["-sS", "-f", "-m", "20", "-H", "Host: skiff.local", &ca])?;
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), ca)?;
        let url = format!("https://{host}:{}/", ports.https);
        let resolve = format!("{host}:{}:127.0.0.1", ports.https);
        let file = file.path().to_string_lossy().into_owned();
        command::run("curl", ["-sS", "-m", "20", "--cacert", &file, "--resolve", &resolve, &url])
    }
}

/// A static busybox for the other processor, unpacked from Debian's package.
fn foreign_busybox(shared: &Shared) -> anyhow::Result<PathBuf> {
    let dir = shared.left.join("busybox-arm64");
    let program = dir.join("usr/bin/busybox");
    if !program.exists() {
        let options = ["--architectures=arm64", "--variant=extract", "--include=busybox-static"];
        debian::mmdebstrap("trixie", &dir, &options)?;
    }
    Ok(program)
}

pub const APPLICATION: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "localhost/machine/web:1", imagePullPolicy: IfNotPresent, ports: [{containerPort: 80}],
         readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 2, timeoutSeconds: 10}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  tls: [{hosts: [web.skiff.local]}]
  rules:
  - host: web.skiff.local
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
"#;

/// A version of the application's image. Its page says which it is.
pub fn image(version: u64) -> images::Image {
    let mut web = images::web(&format!("localhost/machine/web:{version}"), &page(version));
    // A line of log for each probe would be what an idle box writes.
    web.entrypoint.retain(|argument| argument != "-v");
    web
}

fn page(version: u64) -> String {
    format!("version {version} from the machine\n")
}

pub fn deploy(shared: &Shared, client: &mut Client) -> anyhow::Result<()> {
    client.import(shared, &image(1))?;
    client.apply(APPLICATION)?;
    client.kubectl(&["rollout", "status", "deployment/web", "--timeout=300s"])?;
    answers(client)
}

pub fn answers(client: &Client) -> anyhow::Result<()> {
    answers_with(client, &[1]).map(drop)
}

/// Which of these versions answers. What the box knows of the pods is part of a failure.
pub fn answers_with(client: &Client, versions: &[u64]) -> anyhow::Result<u64> {
    let answered = wait::until("the page answers on HTTPS", std::time::Duration::from_secs(120), || {
        let said = client.https("web.skiff.local")?;
        versions.iter().copied().find(|version| page(*version) == said).with_context(|| format!("it says {said:?}"))
    });
    answered.map_err(|error| error.context(pods_and_logs(client)))
}

/// What is left when a rollout is over: the pods of one version, all ready.
pub fn rolled_out(client: &Client) -> anyhow::Result<()> {
    let over = wait::until("only ready pods are left", std::time::Duration::from_secs(120), || {
        let pods = client.kubectl(&["get", "pods", "--no-headers"])?;
        let ready = pods.lines().filter(|line| line.contains("1/1") && line.contains("Running")).count();
        ensure!(ready == 2 && pods.lines().count() == 2, "{pods}");
        Ok(())
    });
    over.map_err(|error| error.context(pods_and_logs(client)))
}

fn pods_and_logs(client: &Client) -> String {
    let said = |answer: anyhow::Result<String>| answer.unwrap_or_else(|error| format!("{error:#}"));
    let log = "journalctl -b --no-pager -o cat -u skiff -u skiff-containerd | tail -60; \
               journalctl -b --no-pager -o cat -k -p warning | tail -20";
    [said(client.kubectl(&["describe", "pods"])), said(client.machine.output(log))].join("\n")
}

pub fn first_page(machine: &Machine) -> anyhow::Result<()> {
    let page = command::run("curl", ["-sS", "-m", "10", &format!("http://127.0.0.1:{}/", machine.ports.http)])?;
    ensure!(page.contains("<title>"), "it says {page:?}");
    Ok(())
}

pub fn an_application_answers(shared: &Shared) -> anyhow::Result<()> {
    let disk = Disk::new(&shared.image, shared.arch)?;
    disk.write_settings("", "")?;
    let mut machine = Machine::start(&disk)?;
    let screen = machine.wait_serial("Press Enter for the menu")?;
    println!("        power on → screen {:.1} s", screen.as_secs_f32());
    let mut client = Client::connect(shared, &disk, machine)?;
    client.machine.wait("the first page answers", first_page)?;
    println!("        power on → first page {:.1} s", client.machine.started.elapsed().as_secs_f32());
    client.machine.wait_serial("State       ready")?;
    client.machine.picture(&shared.left.join("screen.png"))?;
    deploy(shared, &mut client)?;
    let pods = client.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].metadata.uid}"])?;
    let restarts = |client: &Client| {
        client.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[*].restartCount}"])
    };

    // Neither the agent's end nor the runtime's touches a pod.
    for kill in ["systemctl restart skiff", "systemctl kill -s KILL skiff", "systemctl restart skiff-containerd"] {
        client.machine.output(kill)?;
        client.wait_node()?;
        answers(&client).context(kill)?;
    }
    ensure!(
        client.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].metadata.uid}"])? == pods,
        "pods were made anew"
    );
    let counts = restarts(&client)?;
    ensure!(counts == "0 0", "containers were restarted: {counts}");

    let machine = &client.machine;
    let failed = machine.output("systemctl --failed --no-legend --plain")?;
    ensure!(
        failed.trim().is_empty(),
        "failed units: {failed}\n{}",
        machine.output("journalctl -b -p warning | tail -40")?
    );
    machine.output("test -f /sys/fs/cgroup/cgroup.controllers")?;
    machine.output("nft list table ip skiff >/dev/null || nft list table inet skiff >/dev/null")?;
    machine.output("grep -q zram /proc/swaps && test $(wc -l < /proc/swaps) -eq 2")?;
    machine.output("! touch /usr/x 2>/dev/null")?;
    machine.output("man -w skiff >/dev/null && grep -q _skiff /usr/share/bash-completion/completions/skiff")?;
    let status = machine.output("rauc status --output-format=json")?;
    let status: Value = serde_json::from_str(&status)?;
    ensure!(status["booted"] == "A" && status["boot_primary"] == "rootfs.0", "rauc says {status}");
    client.wait_other_slot()?;
    let slots = client.machine.output("skiff slots && skiff status")?;
    ensure!(slots.contains("3 of 3") && slots.contains("Problems   none"), "{slots}");
    measure(shared, &client)?;
    client.machine.power_off()
}

/// What the notes of a release quote.
fn measure(shared: &Shared, client: &Client) -> anyhow::Result<()> {
    let rest = "systemd-analyze; systemd-analyze blame | head -12; echo; \
                systemd-analyze security --no-pager | grep -E 'skiff|UNIT'; df -h / /var /efi";
    let report = [memory(&client.machine)?, client.machine.output(rest)?].join("\n");
    std::fs::write(shared.left.join("report.txt"), &report)?;
    Ok(())
}

/// Of the whole machine, of each unit, and of the processes that are Skiff's.
pub fn memory(machine: &Machine) -> anyhow::Result<String> {
    machine.output(
        "free -m; echo; \
         for unit in $(systemctl list-units --type=service --state=running --no-legend --plain | cut -d' ' -f1); do \
         rss=0; for pid in $(cat /sys/fs/cgroup$(systemctl show -P ControlGroup $unit)/cgroup.procs); do \
         rss=$((rss + $(awk '/^VmRSS/ {print $2}' /proc/$pid/status))); done; \
         printf '%s KiB RSS, %s bytes of memory %s\n' $rss $(systemctl show -P MemoryCurrent $unit) $unit; done | sort -rn; echo; \
         for pid in $(pgrep -f '^/usr/bin/(skiff|containerd)'); do \
         printf '%s %s\n' \"$(awk '/^VmRSS|^RssAnon/ {printf \"%s%s \", $1, $2}' /proc/$pid/status)\" \
         \"$(tr '\\0' ' ' < /proc/$pid/cmdline | cut -c1-60)\"; done",
    )
}
