//! The integration tests that depend on the kernel, inside the image: cgroup v2, nftables and Debian's own kernel. They
//! start a box of their own beside the one that is flashed, with the same agent.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use skiff_tests::debian;
use skiff_tests::machine::{Arch, Disk, Machine};

use crate::Shared;
use crate::boot::Client;

const TESTS: &str = "lifecycle:: network:: pods:: web::a_deployment_answers_everywhere";

pub fn the_integration_tests_pass(shared: &Shared) -> anyhow::Result<()> {
    if shared.arch != Arch::HERE || shared.arch != Arch::Amd64 {
        println!("        the tests are not built for this architecture");
        return Ok(());
    }
    let disk = Disk::new(&shared.image, shared.arch)?;
    disk.write_settings("", "")?;
    let machine = Machine::start_with_tools(&disk, &debian::tools(&shared.left)?)?;
    let Client { machine, .. } = Client::connect(shared, &disk, machine)?;
    let label = debian::TOOLS_LABEL;
    machine.output(&format!(
        "mkdir /run/tests && mount LABEL={label} /run/tests && mkdir -p /run/tests/target/debug/deps && \
         cp /usr/bin/skiff /run/tests/target/debug/"
    ))?;
    machine.send(&integration()?, "cat > /run/tests/target/debug/deps/integration")?;
    let done = machine.run(&format!(
        "chmod 755 /run/tests/target/debug/deps/integration && \
         systemd-run --quiet --wait --pipe --collect -p RootDirectory=/run/tests -p MountAPIVFS=yes \
         -E PATH=/usr/sbin:/usr/bin -E SKIFF_PATIENCE=10 /target/debug/deps/integration {TESTS}"
    ))?;
    ensure!(done.ok, "{}{}", done.stdout, done.stderr);
    for line in done.stdout.lines().filter(|line| !line.is_empty()) {
        println!("        {line}");
    }
    machine.power_off()
}

/// The newest of those that were built beside this program.
fn integration() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let dir = program.parent().context("a program is in a directory")?;
    let is_it = |path: &PathBuf| {
        path.extension().is_none() && path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("integration-"))
    };
    let all = std::fs::read_dir(dir)?.flatten().map(|entry| entry.path()).filter(is_it);
    let newest = all.max_by_key(|path| path.metadata().and_then(|m| m.modified()).ok());
    newest.context("the integration tests are not built: `cargo test --no-run` does")
}
