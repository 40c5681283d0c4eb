//! What people type: the everyday commands, streams, and manifests that are wrong.

use std::io::{Read, Write};
use std::process::Stdio;

use anyhow::{Context, ensure};
use skiff_tests::wait;

use crate::{Place, SOON, image};

fn two_containers() -> String {
    let busybox = image("busybox:1");
    format!(
        "apiVersion: v1
kind: Pod
metadata:
  name: pair
  labels: {{app: pair}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: server
    image: {busybox}
    command: [sh, -c, 'mkdir /www; echo shared > /www/index.html; echo serving; exec httpd -f -p 8080 -h /www']
  - name: client
    image: {busybox}
    command: [sh, -c, 'n=0; while true; do n=$((n+1)); echo line $n; sleep 0.2; done']
"
    )
}

pub fn a_session(place: &Place<'_>) -> anyhow::Result<()> {
    place.apply(&two_containers())?;
    place.wait_ready("pod/pair")?;
    let shared =
        place.kubectl(&["exec", "pair", "-c", "client", "--", "wget", "-q", "-O", "-", "http://localhost:8080/"])?;
    ensure!(shared.trim() == "shared", "containers share the network: {shared:?}");

    let table = place.kubectl(&["get", "pods"])?;
    ensure!(table.starts_with("NAME") && table.contains("pair") && table.contains("2/2"), "{table}");
    ensure!(place.kubectl(&["get", "pod", "pair", "-o", "yaml"])?.contains("phase: Running"));
    ensure!(place.json(&["get", "pod", "pair"])?["status"]["qosClass"] == "BestEffort");
    let columns =
        place.kubectl(&["get", "pod", "pair", "-o", "custom-columns=NAME:.metadata.name,PHASE:.status.phase"])?;
    ensure!(columns.contains("Running"), "{columns}");
    let described = place.kubectl(&["describe", "pod", "pair"])?;
    for part in ["Node:", "IP:", "Conditions:", "Scheduled", "Pulled", "Created", "Started", "QoS Class:"] {
        ensure!(described.contains(part), "{part} is not in {described}");
    }
    ensure!(place.kubectl(&["events"])?.contains("Scheduled"));

    place.kubectl(&["label", "pod", "pair", "tier=front"])?;
    place.kubectl(&["annotate", "pod", "pair", "note=hello"])?;
    ensure!(place.kubectl(&["get", "pods", "-l", "tier=front", "-o", "name"])?.trim() == "pod/pair");
    let mut edit = place.shared.running.kubectl_command();
    edit.args(["-n", &place.namespace, "edit", "pod", "pair"]).env("KUBE_EDITOR", "sed -i s/hello/edited/");
    let edited = skiff_tests::command::output(edit)?;
    ensure!(edited.ok, "{}", edited.stderr);
    ensure!(place.kubectl(&["get", "pod", "pair", "-o", "jsonpath={.metadata.annotations.note}"])? == "edited");

    place.kubectl(&["expose", "pod", "pair", "--port=80", "--target-port=8080"])?;
    place.wait_for("endpoints/pair", "{.subsets[0].ports[0].port}", "8080")?;
    place.kubectl(&["create", "configmap", "settings", "--from-literal=a=b"])?;
    place.kubectl(&[
        "create",
        "deployment",
        "made",
        &format!("--image={}", image("busybox:1")),
        "--",
        "sh",
        "-c",
        "trap exit TERM; sleep 100000 & wait",
    ])?;
    place.kubectl(&["rollout", "status", "deployment/made", &wait::kubectl_timeout(SOON)])?;
    ensure!(place.kubectl(&["auth", "can-i", "create", "pods"])?.trim() == "yes");
    let denied =
        place.try_kubectl(&["auth", "can-i", "delete", "nodes", "--as=system:serviceaccount:default:default"])?;
    ensure!(denied.stdout.trim() == "no", "{denied:?}");
    ensure!(place.kubectl(&["explain", "pod.spec.containers.image"])?.contains("FIELD: image"));
    ensure!(place.kubectl(&["api-resources"])?.contains("deployments"));
    place.kubectl(&["delete", "pod", "pair", &wait::kubectl_timeout(SOON)])?;
    ensure!(!place.try_kubectl(&["get", "pod", "pair"])?.ok);
    Ok(())
}

pub fn streams(place: &Place<'_>) -> anyhow::Result<()> {
    place.apply(&two_containers())?;
    place.wait_ready("pod/pair")?;
    logs(place)?;
    exec(place)?;
    copy(place)?;
    port_forward(place)
}

fn logs(place: &Place<'_>) -> anyhow::Result<()> {
    ensure!(place.kubectl(&["logs", "pair", "-c", "server"])?.contains("serving"));
    let unnamed = place.try_kubectl(&["logs", "pair"])?;
    ensure!(unnamed.ok || unnamed.stderr.contains("container"), "{unnamed:?}");
    wait::until("some lines are there", SOON, || {
        let tail = place.kubectl(&["logs", "pair", "-c", "client", "--tail=2"])?;
        ensure!(tail.lines().count() == 2, "{tail:?}");
        Ok(())
    })?;
    let stamped = place.kubectl(&["logs", "pair", "-c", "client", "--tail=1", "--timestamps"])?;
    ensure!(stamped.starts_with("20") && stamped.contains("Z line "), "{stamped:?}");
    ensure!(place.kubectl(&["logs", "pair", "-c", "client", "--since=1s"])?.lines().count() < 20);
    let mut follow = place.shared.running.kubectl_command();
    follow.args(["-n", &place.namespace, "logs", "-f", "pair", "-c", "client", "--tail=1"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn()?;
    let mut bytes = [0; 64];
    let mut read = 0;
    while read < 20 {
        read += follow.stdout.as_mut().context("a pipe")?.read(&mut bytes)?;
    }
    follow.kill()?;
    follow.wait()?;
    Ok(())
}

fn exec(place: &Place<'_>) -> anyhow::Result<()> {
    let code =
        place.try_kubectl(&["exec", "pair", "-c", "client", "--", "sh", "-c", "echo out; echo err >&2; exit 7"])?;
    ensure!(code.stdout == "out\n" && code.stderr.contains("err") && code.stderr.contains("exit code 7"), "{code:?}");
    let mut stdin = place.shared.running.kubectl_command();
    stdin.args(["-n", &place.namespace, "exec", "-i", "pair", "-c", "client", "--", "cat"]);
    let mut child = stdin.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let text = "through and through\n".repeat(5000);
    child.stdin.take().context("a pipe")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.stdout == text.as_bytes(), "{} of {} bytes came back", output.stdout.len(), text.len());
    // `-t` needs a terminal: script(1) gives it one.
    let binary = place.shared.kubectl.display();
    let config = place.shared.running.kubeconfig();
    let line = format!(
        "{binary} --kubeconfig {} -n {} exec -it pair -c client -- sh -c 'tty && echo on a terminal'",
        config.display(),
        place.namespace
    );
    let terminal = skiff_tests::command::run("script", ["-qec", &line, "/dev/null"])?;
    ensure!(terminal.contains("on a terminal"), "{terminal}");
    Ok(())
}

fn copy(place: &Place<'_>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (up, down) = (dir.path().join("up"), dir.path().join("down"));
    std::fs::write(&up, vec![b'z'; 300_000])?;
    let target = format!("{}/pair:/tmp/copied", place.namespace);
    place.shared.running.kubectl(&["cp", &up.to_string_lossy(), &target, "-c", "client"])?;
    place.shared.running.kubectl(&["cp", &target, &down.to_string_lossy(), "-c", "client"])?;
    ensure!(std::fs::read(&up)? == std::fs::read(&down)?, "the copy differs");
    Ok(())
}

fn port_forward(place: &Place<'_>) -> anyhow::Result<()> {
    let mut command = place.shared.running.kubectl_command();
    command.args(["-n", &place.namespace, "port-forward", "pod/pair", "18080:8080"]);
    let mut forward = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let result = wait::until("the forwarded port answers", SOON, || {
        let mut stream = std::net::TcpStream::connect("127.0.0.1:18080")?;
        stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        ensure!(text.contains("shared"), "{text}");
        Ok(())
    });
    forward.kill()?;
    forward.wait()?;
    result
}

pub fn refuses_bad_manifests(place: &Place<'_>) -> anyhow::Result<()> {
    let good = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: a, image: localhost/none}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: a, port: 80}]}
";
    place.apply(good)?;
    for (from, to, expected) in [
        ("image:", "imagee:", "unknown field \"spec.template.spec.containers[0].imagee\""),
        (
            "replicas: 0",
            "replicas: none",
            "cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "{name: web, labels",
            "{name: Web_1, labels",
            "metadata.name: Invalid value: \"Web_1\": a lowercase RFC 1123 subdomain",
        ),
        (
            "labels: {app: web}}\n    spec",
            "labels: {app: \"we b\"}}\n    spec",
            "a valid label must be an empty string or consist of",
        ),
        // A new Service: into an existing one, kubectl itself merges ports of one number.
        (
            "metadata: {name: web}\nspec: {selector: {app: web}, ports: [{name: a, port: 80}]}",
            "metadata: {name: web2}\nspec: {selector: {app: web}, ports: [{name: a, port: 80}, {name: b, port: 80}]}",
            "spec.ports[1]: Duplicate value",
        ),
        ("selector: {matchLabels: {app: web}}", "selector: {matchLabels: {app: web, b: c}}", "field is immutable"),
        ("kind: Deployment", "kind: Deploymnt", "no matches for kind \"Deploymnt\""),
        ("name: a, image", "name: A_, image", "spec.template.spec.containers[0].name: Invalid value: \"A_\""),
    ] {
        let done = place.try_apply(&good.replace(from, to))?;
        ensure!(
            !done.ok && done.stderr.contains(expected),
            "{to}: expected {expected:?}, got {}{}",
            done.stdout,
            done.stderr
        );
    }
    ensure!(place.apply(good)?.contains("unchanged"), "what was refused changed nothing");
    Ok(())
}
