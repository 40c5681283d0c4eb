//! Stock clients against the real agent: each row of [`CLIENTS`] is a program as its makers publish it, with a script in
//! the folder of its name that has it do its job. `cargo xtask test --clients` runs them; what they are made of is
//! downloaded once below the target directory.
//!
//! `cargo test --test clients -- NAME…` runs the clients whose name contains one of NAME….

mod run;
mod tools;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use skiff_tests::registry::Registry;
use skiff_tests::running_box::{Number, RunningBox};
use skiff_tests::{images, prerequisites};

use tools::{Debian, Install};

fn registry_port() -> u16 {
    15_000 + u16::from(skiff_tests::running_box::offset())
}

/// The pods of all clients: busybox, with a web server.
pub fn image() -> String {
    format!("localhost:{}/busybox:1", registry_port())
}

/// A client: where it comes from, and how long its session may take.
#[derive(Clone, Copy)]
pub struct Client {
    /// What it is run with: `session.sh` in this folder. In the client's system it is `/clients/FOLDER`.
    pub folder: &'static str,
    pub debian: Debian,
    pub install: Install,
    pub time_max: Duration,
}

const fn client(folder: &'static str, debian: Debian, install: Install, seconds_max: u64) -> Client {
    Client { folder, debian, install, time_max: Duration::from_secs(seconds_max) }
}

const CLIENTS: &[(&str, Client)] = &[
    ("kubectl_1_32", client("kubectl", Debian::Trixie, Install::Nothing, 300)),
    ("kubectl_1_36", client("kubectl", Debian::Unstable, Install::Nothing, 300)),
    ("helm", client("helm", Debian::Trixie, Install::Npm, 300)),
    ("python", client("python", Debian::Trixie, Install::Pip, 120)),
    ("kopf", client("kopf", Debian::Trixie, Install::Pip, 120)),
    ("client_node", client("client_node", Debian::Trixie, Install::Npm, 120)),
    ("kube_rs", client("kube_rs", Debian::Trixie, Install::Cargo, 120)),
    ("client_go", client("client_go", Debian::Unstable, Install::Nothing, 900)),
    ("prometheus", client("prometheus", Debian::Trixie, Install::Nothing, 120)),
    ("patroni", client("patroni", Debian::Trixie, Install::Nothing, 300)),
    ("ansible", client("ansible", Debian::Trixie, Install::Pip, 300)),
];

fn main() -> ExitCode {
    let selected = skiff_tests::selected(CLIENTS);
    match run_all(&selected) {
        Ok(failed) => {
            println!("\n{} passed, {failed} failed", selected.len() - failed);
            if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            println!("the clients could not run: {error:#}\n\n0 passed, {} failed", selected.len());
            ExitCode::FAILURE
        }
    }
}

fn run_all(clients: &[(&str, Client)]) -> anyhow::Result<usize> {
    prerequisites::ensure(&[prerequisites::BOX, prerequisites::DEMO, prerequisites::CLIENTS])?;
    let target = std::env::current_exe()?;
    let target = target.ancestors().nth(2).context("the test is in target/PROFILE/deps")?.to_owned();
    let binary = target.join("skiff");
    anyhow::ensure!(binary.exists(), "{} is missing: `cargo build -p skiff-daemon` first", binary.display());
    let cache = target.with_file_name("clients");
    for (name, client) in clients {
        tools::ensure(&cache, client).with_context(|| format!("what {name} is made of"))?;
    }
    let kubectl = prerequisites::kubectl(&target.join("kubectl"))?;
    let registry = Registry::start(registry_port())?;
    registry.push(&images::busybox(&image()))?;
    let mut failed = 0;
    for (name, client) in clients {
        let started = Instant::now();
        // Each has a box of its own, so that none finds what another left.
        let result = RunningBox::start(&binary, &kubectl, Number(1)).and_then(|running| {
            let said = run::run(&running, &cache, name, client);
            said.with_context(|| format!("the agent's log:\n{}", running.log_tail()))
        });
        let seconds = started.elapsed().as_secs_f32();
        match result {
            Ok(said) => println!("ok     {name} ({seconds:.1} s): {said}"),
            Err(error) => {
                failed += 1;
                println!("FAILED {name} ({seconds:.1} s)\n{error:#}\n");
            }
        }
    }
    Ok(failed)
}
