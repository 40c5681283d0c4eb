//! A web server from a registry on localhost: reached everywhere, scaled, upgraded under load, rolled back.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use skiff_tests::wait;

use crate::{Place, SOON, image};

/// The Deployment and the Service `web`.
pub fn deployment(image: &str, replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {{app: web}}
spec:
  replicas: {replicas}
  selector:
    matchLabels: {{app: web}}
  strategy:
    rollingUpdate: {{maxSurge: 1, maxUnavailable: 0}}
  progressDeadlineSeconds: 600
  template:
    metadata:
      labels: {{app: web}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: nginx
        image: {image}
        ports: [{{containerPort: 80, name: http}}]
        readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  type: NodePort
  selector: {{app: web}}
  ports:
  - {{port: 80, targetPort: http}}
"
    )
}

fn start(place: &Place<'_>) -> anyhow::Result<String> {
    place.apply(&deployment(&image("nginx:1"), 2))?;
    place.kubectl(&["rollout", "status", "deployment/web", &wait::kubectl_timeout(2 * SOON)])?;
    let address = place.kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"])?;
    wait::until("the Service answers", SOON, || fetch(&address, 80))?;
    Ok(address)
}

/// One request over a connection of its own.
fn fetch(address: &str, port: u16) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&format!("{address}:{port}").parse()?, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    ensure!(text.starts_with("HTTP/1.1 200"), "answered {text:?}");
    Ok(text)
}

pub fn a_deployment_answers_everywhere(place: &Place<'_>) -> anyhow::Result<()> {
    let address = start(place)?;
    let wide = place.kubectl(&["get", "pods", "-l", "app=web", "-o", "wide"])?;
    ensure!(wide.lines().filter(|l| l.contains("1/1") && l.contains("Running")).count() == 2, "{wide}");
    ensure!(fetch(&address, 80)?.contains("version one"));

    let port = place.kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}"])?;
    let node = place.shared.running.json(&["get", "nodes"])?;
    let node = node["items"][0]["status"]["addresses"][0]["address"].as_str().context("an address")?.to_owned();
    ensure!(fetch(&node, port.parse()?)?.contains("version one"));

    let busybox = image("busybox:1");
    let url = format!("http://web.{}.svc.cluster.local/", place.namespace);
    let from_pod = |url: &str| {
        place.kubectl(&[
            "run",
            "asker",
            "--image",
            &busybox,
            "--restart=Never",
            "--rm",
            "-i",
            "--quiet",
            "--command",
            "--",
            "sh",
            "-c",
            // Attached by then: kubectl shows nothing of what was said before.
            "read -r _; exec curl -sf -m 20 \"$0\"",
            url,
        ])
    };
    for url in [url.as_str(), "http://web/"] {
        wait::until("a pod shows the page", SOON, || {
            let page = from_pod(url)?;
            ensure!(page.contains("version one"), "{url}: {page:?}");
            Ok(())
        })?;
    }

    place.kubectl(&["scale", "deployment/web", "--replicas=5"])?;
    place.wait_for("deployment/web", "{.status.readyReplicas}", "5")?;
    place.kubectl(&["scale", "deployment/web", "--replicas=3"])?;
    place.wait_for("deployment/web", "{.status.replicas}", "3")?;
    wait::until("three pods are left", SOON, || {
        let pods = place.json(&["get", "pods", "-l", "app=web"])?;
        let count = pods["items"].as_array().map_or(0, Vec::len);
        if count == 3 { Ok(()) } else { bail!("{count} pods") }
    })
}

/// Between the connections of one client: without it all of this machine's ports come again within seconds, and the kernel
/// remembers each connection of a pod that is gone for half a minute.
const PAUSE: Duration = Duration::from_millis(5);

pub fn an_upgrade_loses_no_request(place: &Place<'_>) -> anyhow::Result<()> {
    let address = start(place)?;
    let (stop, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let failures = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut failures = Vec::new();
                    while !stop.load(Ordering::SeqCst) {
                        sent.fetch_add(1, Ordering::SeqCst);
                        if let Err(error) = fetch(&address, 80) {
                            failures.push(format!("{error:#}"));
                        }
                        std::thread::sleep(PAUSE);
                    }
                    failures
                })
            })
            .collect();
        let upgraded = upgrade(place, &address);
        stop.store(true, Ordering::SeqCst);
        let failures: Vec<String> = clients.into_iter().flat_map(|c| c.join().expect("a client")).collect();
        upgraded.map(|()| failures)
    })?;
    let sent = sent.into_inner();
    println!("       {sent} requests during two upgrades and a rollback, {} failed", failures.len());
    ensure!(sent > 100, "only {sent} requests were sent");
    ensure!(
        failures.is_empty(),
        "{} of {sent} requests failed: {:?}",
        failures.len(),
        &failures[..failures.len().min(3)]
    );
    Ok(())
}

fn upgrade(place: &Place<'_>, address: &str) -> anyhow::Result<()> {
    let container = format!("nginx={}", image("nginx:2"));
    place.kubectl(&["set", "image", "deployment/web", &container])?;
    place.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    wait::until("only the new version answers", SOON, || {
        for _ in 0..10 {
            ensure!(fetch(address, 80)?.contains("version two"));
        }
        Ok(())
    })?;
    let history = place.kubectl(&["rollout", "history", "deployment/web"])?;
    ensure!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    place.kubectl(&["rollout", "restart", "deployment/web"])?;
    place.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    place.kubectl(&["rollout", "undo", "deployment/web", "--to-revision=1"])?;
    place.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    wait::until("the old version answers again", SOON, || {
        ensure!(fetch(address, 80)?.contains("version one"));
        Ok(())
    })
}

pub fn a_bad_image_stops_the_rollout(place: &Place<'_>) -> anyhow::Result<()> {
    let address = start(place)?;
    let container = format!("nginx={}", image("nginx:none"));
    place.kubectl(&["set", "image", "deployment/web", &container])?;
    wait::until("an event says why", SOON, || {
        let events = place.kubectl(&["get", "events"])?;
        ensure!(events.contains("Failed to pull image") && events.contains("nginx:none"), "{events}");
        Ok(())
    })?;
    wait::until("the pod backs off", SOON, || {
        let pods = place.kubectl(&["get", "pods"])?;
        ensure!(pods.contains("ErrImagePull") || pods.contains("ImagePullBackOff"), "{pods}");
        Ok(())
    })?;
    let waiting = place.try_kubectl(&["rollout", "status", "deployment/web", "--timeout=1s"])?;
    ensure!(!waiting.ok, "the rollout is not done: {}", waiting.stdout);
    ensure!(fetch(&address, 80)?.contains("version one"), "the old pods still serve");
    place.kubectl(&["rollout", "undo", "deployment/web"])?;
    place.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).map(drop)
}
