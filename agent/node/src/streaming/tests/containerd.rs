//! Exec in a container of the real containerd, which this test starts for itself.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::Request;
use serde_json::Value;
use skiff_cri::{Config, PAUSE_IMAGE, Runtime, Supervisor, pb};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use super::{channels, in_time, read_all, serve, websocket};
use crate::Server;
use crate::server::{Body, full};
use crate::streaming::Wanted;
use crate::streaming::port_forward::tests::echo_once;
use crate::streaming::upstream::Upstream;

const BUSYBOX: &str = "/bin/busybox";
const UID: &str = "5c8b6c4e-0000-4000-8000-000000000002";

fn labels(container: Option<&str>) -> HashMap<String, String> {
    let pod = [("namespace", "default"), ("name", "web"), ("uid", UID)];
    let mut labels: HashMap<String, String> =
        pod.iter().map(|(key, value)| (format!("io.kubernetes.pod.{key}"), (*value).to_owned())).collect();
    labels.extend(container.map(|name| ("io.kubernetes.container.name".to_owned(), name.to_owned())));
    labels
}

/// Of the host's network, as the test must not depend on network plugins.
fn namespaces() -> Option<pb::NamespaceOption> {
    let (network, pid) = (pb::NamespaceMode::Node as i32, pb::NamespaceMode::Container as i32);
    Some(pb::NamespaceOption { network, pid, ..Default::default() })
}

fn sandbox(logs: &Path) -> pb::PodSandboxConfig {
    let context = pb::LinuxSandboxSecurityContext { namespace_options: namespaces(), ..Default::default() };
    pb::PodSandboxConfig {
        metadata: Some(pb::PodSandboxMetadata {
            name: "web".into(),
            uid: UID.into(),
            namespace: "default".into(),
            attempt: 0,
        }),
        log_directory: logs.to_string_lossy().into_owned(),
        labels: labels(None),
        linux: Some(pb::LinuxPodSandboxConfig {
            cgroup_parent: "/skiff-streaming-test".to_owned(),
            security_context: Some(context),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The pause image with the host's busybox in it.
fn container(script: &str) -> pb::ContainerConfig {
    let context = pb::LinuxContainerSecurityContext { namespace_options: namespaces(), ..Default::default() };
    let busybox = pb::Mount {
        container_path: BUSYBOX.to_owned(),
        host_path: BUSYBOX.to_owned(),
        readonly: true,
        ..Default::default()
    };
    pb::ContainerConfig {
        metadata: Some(pb::ContainerMetadata { name: "app".into(), attempt: 0 }),
        image: Some(pb::ImageSpec { image: PAUSE_IMAGE.into(), ..Default::default() }),
        command: [BUSYBOX, "sh", "-c", script].map(str::to_owned).to_vec(),
        mounts: vec![busybox],
        labels: labels(Some("app")),
        log_path: "app/0.log".to_owned(),
        linux: Some(pb::LinuxContainerConfig { security_context: Some(context), ..Default::default() }),
        ..Default::default()
    }
}

async fn status(address: &str, query: &str) -> ([Vec<u8>; 5], Value) {
    let path = format!("/exec/default/web/app?command={BUSYBOX}&{query}");
    let mut socket = websocket(address, &path, "v5.channel.k8s.io").await;
    socket.send(Message::Binary(Bytes::from_static(b"\0some input"))).await.unwrap();
    // A terminal has no end of input of its own: containerd takes it as a detach and drops the output.
    if !query.contains("tty") {
        socket.send(Message::Binary(Bytes::from_static(&[255, 0]))).await.unwrap();
    }
    let channels = channels(&mut socket).await;
    let status = serde_json::from_slice(&channels[3]).unwrap();
    (channels, status)
}

async fn check(address: &str) {
    check_exec(address).await;
    check_spdy(address).await;
    let mut socket = websocket(address, "/attach/default/web/app?stdout=1", "v5.channel.k8s.io").await;
    let mut output = Vec::new();
    while !output.ends_with(b"tick\n") {
        output.extend_from_slice(&in_time(socket.next()).await.unwrap().unwrap().into_data()[1..]);
    }

    let port = echo_once().await;
    let path = format!("/portForward/default/web?ports={port}");
    let mut socket = websocket(address, &path, "v4.channel.k8s.io").await;
    socket.send(Message::Binary(Bytes::from_static(b"\0hello"))).await.unwrap();
    assert!(channels(&mut socket).await[0].ends_with(b"hello"));

    let mut socket = TcpStream::connect(address).await.unwrap();
    let path = "/containerLogs/default/web/app?follow=true&limitBytes=16";
    socket.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    in_time(socket.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with("\r\n\r\nfirst\ntick\ntick\n"), "{answer}");
}

async fn check_exec(address: &str) {
    let (channels, success) = status(address, "command=cat&stdin=true&stdout=true&stderr=true").await;
    assert_eq!((channels[1].as_slice(), &success["status"]), (&b"some input"[..], &"Success".into()));

    let script = "command=sh&command=-c&command=echo+out;echo+err+%3E%262;exit+3";
    let (channels, failure) = status(address, &format!("{script}&stdin=1&stdout=1&stderr=1")).await;
    assert_eq!((channels[1].as_slice(), channels[2].as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(
        (&failure["reason"], &failure["details"]["causes"][0]["message"]),
        (&"NonZeroExitCode".into(), &"3".into())
    );

    let (channels, _) = status(address, &format!("{script}&stdin=1&stdout=1&stderr=1&tty=1")).await;
    let output = String::from_utf8_lossy(&channels[1]);
    assert!(output.contains("out\r\n") && output.contains("err\r\n") && channels[2].is_empty(), "{output}");
}

/// The same as old clients do it, with more than any buffer holds.
async fn check_spdy(address: &str) {
    let wanted = Wanted { stdin: true, stdout: true, stderr: false, tty: false };
    let url = format!("http://{address}/exec/default/web/app?command={BUSYBOX}&command=wc&command=-c&stdin=1&stdout=1");
    let process = Upstream::connect(&url).await.unwrap().open(wanted).await.unwrap();
    let stdin = process.stdin.unwrap();
    stdin.send(Bytes::from(vec![b'x'; 5_000_000])).await.unwrap();
    stdin.close().await.unwrap();
    assert_eq!(read_all(process.stdout).await.trim(), "5000000");
    assert!(read_all(Some(process.error)).await.contains("Success"));

    let url = format!("http://{address}/exec/default/web/other?command=x&stdout=1");
    let error = Upstream::connect(&url).await.err().unwrap().to_string();
    assert!(error.contains("container not found"), "{error}");
}

#[tokio::test]
async fn containerd_runs_what_clients_ask_for() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::under(&dir.path().join("data"), &dir.path().join("run"));
    if let Err(error) = std::process::Command::new(&config.binary).arg("--version").output() {
        return eprintln!("skipped, as containerd is not here: {error}");
    }
    let supervisor = Supervisor::start(config, None).await.unwrap();
    let client = supervisor.client();
    let logs = dir.path().join("logs");
    std::fs::create_dir_all(logs.join("app")).unwrap();
    let config = sandbox(&logs);
    let sandbox = client.run_pod_sandbox(config.clone()).await.unwrap();
    let script = "echo first; while /bin/busybox sleep 0.1; do echo tick; done";
    let id = client.create_container(&sandbox, container(script), config).await.unwrap();
    client.start_container(&id).await.unwrap();

    let server = Arc::new(Server { runtime: Arc::new(client.clone()), logs_dir: logs });
    let answer = move |request: Request<Body>| {
        let server = Arc::clone(&server);
        async move { server.handle(request).await.unwrap_or_else(|| http::Response::new(full("not ours"))) }
    };
    let address = serve(answer).await;
    // A failure is told only after everything this test started has been stopped.
    let checked = tokio::spawn(async move { check(&address).await }).await;

    client.stop_pod_sandbox(&sandbox).await.unwrap();
    client.remove_pod_sandbox(&sandbox).await.unwrap();
    supervisor.stop().await.unwrap();
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _ = std::fs::remove_dir(hierarchy.path().join("skiff-streaming-test"));
    }
    let _ = std::fs::remove_dir("/sys/fs/cgroup/skiff-streaming-test");
    checked.unwrap();
}
