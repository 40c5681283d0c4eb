//! The Debian package on a plain Debian: brings a box, and goes away cleanly.

use anyhow::{Context, bail, ensure};
use skiff_tests::debian;
use skiff_tests::machine::{Arch, Disk, Machine};

use crate::Shared;
use crate::boot::{self, Client};

pub fn on_debian_12(shared: &Shared) -> anyhow::Result<()> {
    comes_and_goes(shared, "bookworm")
}

pub fn on_debian_13(shared: &Shared) -> anyhow::Result<()> {
    comes_and_goes(shared, "trixie")
}

fn comes_and_goes(shared: &Shared, release: &str) -> anyhow::Result<()> {
    let package =
        std::env::var("SKIFF_DEB").context("SKIFF_DEB names no package: `cargo xtask test --vm` builds one")?;
    let disk = Disk::empty(Arch::Amd64)?;
    disk.take(&debian::disk(release, &shared.left, &disk.key()?)?)?;
    let mut machine = Machine::start(&disk)?;
    let login = machine.wait_serial("login:")?;
    println!("        Debian {release}: power on → login {:.1} s", login.as_secs_f32());
    machine.wait("SSH answers", |m| m.output("true"))?;
    machine.send(package.as_ref(), "cat > /var/tmp/skiff.deb")?;
    let install = "DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends /var/tmp/skiff.deb 2>&1";
    machine.output(install)?;
    let mut client = Client::connect(shared, &disk, machine)?;
    boot::deploy(shared, &mut client)?;
    let unit = client.machine.output("systemctl is-active skiff skiff-containerd")?;
    ensure!(unit == "active\nactive\n", "units: {unit}");

    // Installed again, as an upgrade does: no pod notices.
    let pods = client.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].metadata.uid}"])?;
    client.machine.output(
        "DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends --reinstall /var/tmp/skiff.deb 2>&1",
    )?;
    client.machine.wait("the API answers again", Machine::api_ready)?;
    boot::answers(&client)?;
    ensure!(
        client.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].metadata.uid}"])? == pods,
        "pods were made anew"
    );

    client.machine.output("DEBIAN_FRONTEND=noninteractive apt-get remove -y skiff 2>&1")?;
    let left = [
        ("processes", "pgrep -fa 'skiff|containerd' | grep -v pgrep || true"),
        ("bridge", "ip -br link show type bridge"),
        ("tables", "nft list tables | grep skiff || true"),
        ("mounts", "grep -E '/(var/lib|run)/skiff' /proc/mounts || true"),
        ("failed units", "systemctl --failed --no-legend --plain | grep skiff || true"),
    ];
    for (what, script) in left {
        let found = client.machine.output(script)?;
        ensure!(found.trim().is_empty(), "{what} left after removal: {found}");
    }
    client.machine.output("test -s /var/lib/skiff/store/skiff.db || test -d /var/lib/skiff/store")?;

    // What it had is there again.
    client.machine.output(install)?;
    let Client { machine, .. } = client;
    let client = Client::connect(shared, &disk, machine)?;
    let names = client.kubectl(&["get", "deployments", "-o", "name"])?;
    if !names.contains("web") {
        bail!("the data is gone: {names}");
    }
    boot::answers(&client)?;
    client.machine.power_off()
}
