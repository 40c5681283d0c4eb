//! One client's turn: a namespace on the box, a directory to work in, its program with a limit of time, and nothing of
//! it left afterwards.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use skiff_tests::running_box::RunningBox;
use skiff_tests::wait;

use crate::{Client, image, tools};

/// Where the client's own servers listen: this many ports of the loopback address, from `PORT` on.
const PORTS: u16 = 10;
const FIRST_PORT: u16 = 12_000;
const SAID_LINES_MAX: usize = 30;

/// Runs a client and returns the last line it printed, which says what it did.
pub fn run(running: &RunningBox, cache: &Path, name: &str, client: &Client) -> anyhow::Result<String> {
    let namespace = name.replace('_', "-");
    running.kubectl(&["create", "namespace", &namespace])?;
    let work = tempfile::Builder::new().prefix("skiff-client-").tempdir()?;
    std::fs::copy(running.kubeconfig(), work.path().join("kubeconfig"))?;
    let mut command = tools::enter(&client.debian.root(cache), work.path());
    command.args(["bash", &format!("/clients/{}/session.sh", client.folder)]);
    command.env("KUBECONFIG", "/work/kubeconfig").env("NAMESPACE", &namespace);
    command.env("IMAGE", image()).env("NODE", running.node_name());
    let port = FIRST_PORT + u16::from(running.number()) * PORTS;
    command.env("PORT", port.to_string());
    let log = work.path().join("log");
    let output = std::fs::File::create(&log)?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let result = within(command.spawn()?, client.time_max);
    let said = std::fs::read_to_string(&log)?;
    let lines: Vec<&str> = said.lines().collect();
    let tail = lines[lines.len().saturating_sub(SAID_LINES_MAX)..].join("\n");
    result.context(tail)?;
    Ok(lines.last().map(|line| (*line).to_owned()).unwrap_or_default())
}

/// Waits for a client's end; one that is too slow is ended.
fn within(mut child: std::process::Child, time_max: Duration) -> anyhow::Result<()> {
    let status = wait::until("the client has finished", time_max, || child.try_wait()?.context("it runs"));
    if status.is_err() {
        child.kill()?;
        child.wait()?;
    }
    let status = status?;
    ensure!(status.success(), "the client failed: {status}");
    Ok(())
}
