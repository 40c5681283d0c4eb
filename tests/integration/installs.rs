//! What a command installs before it does anything, on machines where nothing is: minimal Debians, made anew each time.
//! What somebody installed on this machine cannot hide a missing step there.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use skiff_tests::{command, debian};

use crate::Place;

/// For `up` alone first: what `test` brings would hide what it lacks.
const SCRIPT: &str = "set -e
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
/xtask prerequisites up --start
/xtask prerequisites test --start
";

pub fn on_a_minimal_debian_12(place: &Place<'_>) -> anyhow::Result<()> {
    everything_starts(place, "bookworm")
}

pub fn on_a_minimal_debian_13(place: &Place<'_>) -> anyhow::Result<()> {
    everything_starts(place, "trixie")
}

fn everything_starts(place: &Place<'_>, release: &str) -> anyhow::Result<()> {
    let xtask = place.shared.binary.with_file_name("xtask");
    ensure!(xtask.exists(), "{} is missing: `cargo build -p xtask` first", xtask.display());
    let dir = tempfile::tempdir()?;
    let root = dir.path().join("root");
    // Every Debian but the smallest has iproute2, which brings a `bridge` that is no network plugin.
    debian::mmdebstrap(release, &root, &["--variant=minbase", "--include=iproute2"])?;
    std::fs::copy(&xtask, root.join("xtask"))?;
    std::fs::write(root.join("script"), SCRIPT)?;
    let done = inside(&root)?;
    ensure!(done.ok, "on a new {release}: {}{}", done.stdout, done.stderr);
    let checked = done.stdout.lines().filter(|line| line.ends_with("and the programs start")).count();
    ensure!(checked == 2, "{}", done.stdout);
    // A second time there is nothing to do.
    ensure!(done.stdout.matches("installing with apt").count() >= 2, "nothing was missing: {}", done.stdout);
    let again = inside(&root)?;
    ensure!(again.ok && !again.stdout.contains("installing with apt"), "{}{}", again.stdout, again.stderr);
    Ok(())
}

/// In namespaces of its own: what is mounted and started there ends with it.
fn inside(root: &Path) -> anyhow::Result<command::Done> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "chroot"]).arg(root);
    command.args([
        "/usr/bin/env",
        "-i",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME=/root",
        "CARGO_TARGET_DIR=/target",
    ]);
    command.args(["sh", "/script"]);
    command::output(command).context("unshare")
}
