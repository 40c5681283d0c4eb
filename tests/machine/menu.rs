//! The recovery menu, with keys on the attached screen.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use skiff_tests::command;
use skiff_tests::machine::{Arch, Disk, Machine};

use crate::Shared;

/// What a person waits for: the prompt after a line.
const PAUSE: Duration = Duration::from_secs(3);

fn type_lines(machine: &Machine, lines: &[&str]) -> anyhow::Result<()> {
    for line in lines {
        machine.type_line(line)?;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

pub fn keys_set_password_and_address(shared: &Shared) -> anyhow::Result<()> {
    let disk = Disk::new(&shared.image, shared.arch)?;
    disk.write_settings("name = \"cellar\"", "# mine")?;
    let mut machine = Machine::start(&disk)?;
    machine.wait_serial("State       ready")?;
    machine.output("true")?;

    // Two different ones first, then twice the same.
    type_lines(&machine, &["", "2", "secret words", "secret wards", "secret words", "secret words"])?;
    machine.picture(&shared.left.join("menu-password.png"))?;
    let script = "read hash < /var/lib/skiff/host/secrets/password_hash; \
                  test \"$hash\" = \"$(openssl passwd -6 -salt $(echo $hash | cut -d'$' -f3) 'secret words')\" && \
                  grep -qF \"root:$hash:\" /etc/shadow && stat -c %a /var/lib/skiff/host/secrets/password_hash";
    machine.wait("the password is set", |m| {
        let mode = m.output(script)?;
        ensure!(mode == "600\n", "mode {mode}");
        Ok(())
    })?;

    // The address that the forwarded ports lead to, so that it stays reachable.
    type_lines(&machine, &["3", "1", "3", "3", "10.0.2.300/24", "10.0.2.15/24", "10.0.2.2", "10.0.2.3"])?;
    machine.picture(&shared.left.join("menu-network.png"))?;
    machine.wait("the address is fixed", |m| {
        let fixed = m.output("ip -4 -o addr show scope global | grep -c '10.0.2.15/24.*forever'")?;
        ensure!(fixed == "1\n", "{fixed}");
        Ok(())
    })?;
    let settings = machine.output("cat /efi/skiff.toml")?;
    let own = "address = \"10.0.2.15/24\"\ngateway = \"10.0.2.2\"\ndns = [\"10.0.2.3\"]\n";
    ensure!(settings.contains(own) && settings.contains("# mine"), "{settings}");

    // Log in: as root, with the new password.
    type_lines(&machine, &["0", "", "1"])?;
    std::thread::sleep(PAUSE);
    type_lines(&machine, &["root", "secret words"])?;
    machine.wait("a shell is there", |m| m.output("who | grep -q tty1 || pgrep -t tty1 bash"))?;
    machine.picture(&shared.left.join("menu-login.png"))?;
    type_lines(&machine, &["touch /run/from-the-screen", "exit"])?;
    machine.output("test -e /run/from-the-screen")?;
    std::thread::sleep(PAUSE);
    machine.picture(&shared.left.join("menu-after.png"))?;

    // And off.
    machine.type_line("")?;
    std::thread::sleep(PAUSE);
    type_lines(&machine, &["8", "yes"])?;
    machine.wait_end()
}

pub fn a_state_that_is_gone_is_told_of(shared: &Shared) -> anyhow::Result<()> {
    let disk = Disk::new(&shared.image, shared.arch)?;
    disk.write_settings("", "")?;
    let mut machine = Machine::start(&disk)?;
    machine.wait("the API answers", Machine::api_ready)?;
    machine.power_off()?;

    // All of it, for a file system's copies of its superblock are used.
    let table: Value =
        serde_json::from_str(&command::run("/usr/sbin/sfdisk", ["-J".as_ref(), disk.path().as_os_str()])?)?;
    let partitions = table["partitiontable"]["partitions"].as_array().context("the disk has partitions")?;
    let state = partitions.iter().find(|p| p["name"] == "skiff-state").context("one is the state")?;
    let bytes = |key: &str| Ok::<_, anyhow::Error>((state[key].as_u64().context("it is a number")? * 512).to_string());
    let (offset, length) = (bytes("start")?, bytes("size")?);
    let path = disk.path();
    command::run("fallocate", ["-p", "-o", &offset, "-l", &length, &path.to_string_lossy()])?;

    let mut machine = Machine::start(&disk)?;
    machine.wait_serial("The partition skiff-state")?;
    std::thread::sleep(PAUSE);
    machine.picture(&shared.left.join("no-state.png"))?;
    // A shell without a password, and the reset.
    let serial = match shared.arch {
        Arch::Amd64 => "/dev/ttyS0",
        Arch::Arm64 => "/dev/ttyAMA0",
    };
    type_lines(&machine, &["", "1", &format!("echo seen by the shell > {serial}"), "exit"])?;
    machine.wait_serial("seen by the shell")?;
    type_lines(&machine, &["", "6", "skiff"])?;
    machine.wait("the API answers", Machine::api_ready)?;
    machine.output("findmnt -n -o SOURCE,FSTYPE /var && test -d /var/tmp && test -d /var/lib/skiff/store")?;
    machine.power_off()
}
