//! Secrets are planted wherever one may be; none is in the bundle, whether the agent answers or not.

use std::path::Path;

use anyhow::{Context, ensure};
use skiff_tests::command;
use skiff_tests::running_box::{Number, RunningBox};

use crate::{Place, image};

/// Each is unlike all other text.
const PLANTED: &[&str] = &[
    "Plant3d-secret-value",
    "UGxhbnQzZC1zZWNyZXQtdmFsdWU=",
    "Plant3d-env-value",
    "Plant3d-config-value",
    "Plant3d-annotation",
    "Plant3d-argument",
    "Plant3d-log-token",
    "Plant3d-log-password",
    "Plant3dTsig",
    "eyJhbGciOiJIUzI1NiJ9.UGxhbnQzZA",
    "PRIVATE KEY",
];

pub fn holds_no_secret(place: &Place<'_>) -> anyhow::Result<()> {
    let mut running = RunningBox::prepare(&place.shared.binary, &place.shared.kubectl, Number(16))?;
    let dir = tempfile::tempdir()?;
    let tsig = dir.path().join("tsig.key");
    std::fs::write(&tsig, "Plant3dTsigaaaa\n")?;
    running.write_settings(&format!(
        "[acme]\n[acme.dns]\nserver = \"127.0.0.1:53\"\nzone = \"example.org\"\ntsig_key = \"skiff\"\ntsig_secret_file = \"{}\"\n",
        tsig.display()
    ))?;
    running.start_agent()?;
    running.wait_ready()?;
    running.apply(&format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: planted, annotations: {{example.org/note: Plant3d-annotation}}}}
stringData: {{password: Plant3d-secret-value}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: planted}}
data: {{key: Plant3d-config-value}}
---
apiVersion: v1
kind: Pod
metadata: {{name: planted}}
spec:
  containers:
  - name: a
    image: {}
    command: [sleep, '1000']
    args: [Plant3d-argument]
    env: [{{name: A, value: Plant3d-env-value}}]
",
        image("busybox:1")
    ))?;
    let log = running.data_dir().join("run/containerd.log");
    let mut text = std::fs::read_to_string(&log).unwrap_or_default();
    text.push_str(
        "auth Plant3d-secret-value and UGxhbnQzZC1zZWNyZXQtdmFsdWU= and Plant3d-env-value\n\
         Authorization: Bearer Plant3d-log-token\npassword=Plant3d-log-password key Plant3dTsigaaaa\n\
         eyJhbGciOiJIUzI1NiJ9.UGxhbnQzZA.c2ln\n-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----\n",
    );
    std::fs::write(&log, text)?;
    let code = std::fs::read_to_string(running.data_dir().join("run/code"))?.trim().to_owned();

    let up = bundle(&running, &dir.path().join("up.tar.gz"), &code)?;
    for part in
        ["objects/pods.json", "\"planted\"", "objects/secrets.json", "nftables.txt", "Kubernetes v", "Node       box-"]
    {
        ensure!(up.contains(part), "the bundle lacks {part}");
    }
    running.stop_agent()?;
    let down = bundle(&running, &dir.path().join("down.tar.gz"), &code)?;
    ensure!(
        down.contains("logs/containerd.txt") && down.contains("start it with `skiff up`"),
        "it works when nobody answers"
    );
    ensure!(!down.contains("objects/pods.json"));
    running.start_agent()?;
    running.wait_ready()
}

/// Names and contents of the bundle, and what was printed.
fn bundle(running: &RunningBox, file: &Path, code: &str) -> anyhow::Result<String> {
    let shown = file.to_string_lossy().into_owned();
    let done = running.skiff(&["support-bundle", "--output", &shown])?;
    ensure!(done.ok && done.stdout.contains(&shown), "{}{}", done.stdout, done.stderr);
    let dir = tempfile::tempdir()?;
    command::run("tar", ["-xzf", &shown, "-C", &dir.path().to_string_lossy()])?;
    let content = command::run("grep", ["-r", "", &dir.path().to_string_lossy()]).context("the files")?;
    for secret in PLANTED.iter().copied().chain([code]) {
        let line = content.lines().find(|line| line.contains(secret));
        ensure!(line.is_none(), "{secret} is in the bundle: {line:?}");
    }
    Ok(format!("{content}\n{}", done.stdout))
}
