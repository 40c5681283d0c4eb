//! What others do to the box's network. A machine of the local network, which is a network namespace here, reaches what is
//! addressed to the box and nothing inside of it, even with routes there. Another program's changes to the rules are mended.

use anyhow::{Context, ensure};
use skiff_tests::running_box::{Number, RunningBox};
use skiff_tests::{command, wait};

use crate::{Place, SOON, image};

/// A namespace with a cable to this machine.
struct Neighbour {
    name: String,
    /// This machine's end.
    gateway: String,
}

impl Neighbour {
    fn new(number: u8) -> anyhow::Result<Self> {
        let (name, cable) = (format!("skiff-lan-{number}"), format!("sklan{number}"));
        let (gateway, own) = (format!("198.18.{number}.1"), format!("198.18.{number}.2"));
        let neighbour = Self { name: name.clone(), gateway: gateway.clone() };
        command::run("ip", ["netns", "add", &name])?;
        command::run("ip", ["link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
        command::run("ip", ["addr", "add", &format!("{gateway}/30"), "dev", &cable])?;
        command::run("ip", ["link", "set", &cable, "up"])?;
        neighbour.run(&["ip", "addr", "add", &format!("{own}/30"), "dev", "eth0"])?;
        neighbour.run(&["ip", "link", "set", "lo", "up"])?;
        neighbour.run(&["ip", "link", "set", "eth0", "up"])?;
        neighbour.run(&["ip", "route", "add", "default", "via", &gateway])?;
        Ok(neighbour)
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        command::run("ip", [&["netns", "exec", &self.name], arguments].concat())
    }

    fn fetch(&self, address: &str) -> anyhow::Result<String> {
        self.run(&["curl", "-sS", "-m", "3", &format!("http://{address}/")])
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // The cable goes with it.
        let _ = command::run("ip", ["netns", "del", &self.name]);
    }
}

/// Whatever another program does to the box's rules is mended at once, and an idle box runs nothing for it.
pub fn rules_that_are_taken_away_come_back(place: &Place<'_>) -> anyhow::Result<()> {
    let number = 17;
    let running = RunningBox::start(&place.shared.binary, &place.shared.kubectl, Number(number))?;
    let table = format!("sktest{}", running.number());
    let service = running.kubectl(&["get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}"])?;
    let answers = || command::run("curl", ["-sk", "-m", "2", &format!("https://{service}/readyz")]).map(drop);
    wait::until("the API's Service answers", SOON, answers)?;
    let harm: [&[&str]; 4] = [
        &["flush", "table", "ip", &table],
        &["delete", "table", "ip", &table],
        &["flush", "map", "ip", &table, "addresses"],
        &["flush", "chain", "ip", &table, "output"],
    ];
    for arguments in harm {
        command::run("nft", arguments)?;
        let taken = std::time::Instant::now();
        wait::until(&format!("it answers after nft {}", arguments.join(" ")), SOON, answers)?;
        let after = taken.elapsed();
        ensure!(after < std::time::Duration::from_secs(8), "it took {after:?} after nft {}", arguments.join(" "));
        // Not only the Service that was asked.
        wait::until("the LAN is kept out again", SOON, || {
            let rules = command::run("nft", ["list", "chain", "ip", &table, "outside"])?;
            ensure!(rules.contains("drop"), "{rules}");
            Ok(())
        })?;
    }
    Ok(())
}

pub fn the_lan_reaches_only_what_is_for_it(place: &Place<'_>) -> anyhow::Result<()> {
    let running = &place.shared.running;
    let (host_port, balanced) = (26_000 + u16::from(running.number()), 27_000 + u16::from(running.number()));
    place.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: inner, labels: {{app: inner}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: a
    image: {}
    command: [sh, -c, 'mkdir /www; echo inside > /www/index.html; exec httpd -f -p 8080 -h /www']
    ports: [{{containerPort: 8080, hostPort: {host_port}}}]
    readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: inner}}
spec: {{type: LoadBalancer, selector: {{app: inner}}, ports: [{{port: {balanced}, targetPort: 8080}}]}}
",
        image("busybox:1")
    ))?;
    place.wait_ready("pod/inner")?;
    let get = |object: &str, path: &str| place.kubectl(&["get", object, "-o", &format!("jsonpath={path}")]);
    let pod = get("pod/inner", "{.status.podIP}")?;
    let service = get("service/inner", "{.spec.clusterIP}")?;
    let node_port = get("service/inner", "{.spec.ports[0].nodePort}")?;
    let node = running.json(&["get", "node", &running.node_name()])?;
    let node = node["status"]["addresses"][0]["address"].as_str().context("an address")?.to_owned();
    let neighbour = Neighbour::new(running.number())?;

    let open = [
        format!("{}:{node_port}", neighbour.gateway),
        format!("{}:{host_port}", neighbour.gateway),
        format!("{node}:{balanced}"),
        format!("{node}:{node_port}"),
    ];
    for address in &open {
        wait::until(&format!("{address} answers the neighbour"), SOON, || {
            let page = neighbour.fetch(address)?;
            ensure!(page == "inside\n", "{page}");
            Ok(())
        })?;
    }
    // The box itself goes on reaching all of it.
    let inside = [format!("{pod}:8080"), format!("{service}:{balanced}")];
    for address in &inside {
        let page = command::run("curl", ["-sS", "-m", "3", &format!("http://{address}/")])?;
        ensure!(page == "inside\n", "{address}: {page}");
    }
    for address in &inside {
        let found = neighbour.fetch(address);
        ensure!(found.is_err(), "the neighbour reached {address}: {found:?}");
    }
    let name = format!("inner.{}.svc.cluster.local", place.namespace);
    let dns = running.dns_address();
    ask(&["env"], &dns, &name).context("the box itself asks cluster DNS")?;
    let found = ask(&["ip", "netns", "exec", &neighbour.name], &dns, &name);
    ensure!(found.is_err(), "the neighbour asked cluster DNS: {found:?}");
    Ok(())
}

/// Asks a DNS server for a name, as a program that is started by `prefix`: the length of the answer.
fn ask(prefix: &[&str], server: &str, name: &str) -> anyhow::Result<String> {
    let script = format!(
        "import socket
question = b''.join(bytes([len(label)]) + label.encode() for label in '{name}'.split('.'))
asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asked.settimeout(3)
head = b'\\x12\\x34\\x01\\x00\\x00\\x01' + b'\\x00' * 6
asked.sendto(head + question + b'\\x00\\x00\\x01\\x00\\x01', ('{server}', 53))
print(len(asked.recv(512)))
"
    );
    let all = [prefix, &["/usr/bin/python3", "-c", &script]].concat();
    command::run(all[0], &all[1..])
}
