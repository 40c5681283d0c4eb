//! `skiff.toml` on the FAT partition: every key honoured, and a broken file as a person may leave it.

use anyhow::ensure;
use skiff_tests::machine::{Disk, Machine};

use crate::Shared;

/// Hash of `secret words`.
const PASSWORD_HASH: &str =
    "$6$W9VeJ5DGA1fn1kqJ$4zg8IVkl9mD9cRtxJfbFbBiqVXIm5KkAp1mSJ3HbrzJq0cr8mKkJmrg8uL0Gb0jqg2JWvWTFQh0W2m9Ej6Q2x1";

pub fn each_is_honoured(shared: &Shared) -> anyhow::Result<()> {
    let disk = Disk::new(&shared.image, shared.arch)?;
    let host = "name = \"cellar\"\ntimezone = \"Europe/Zurich\"\ndomain = \"home.example.org\"\nntp = [\"10.0.2.2\"]";
    let more = format!(
        "# mine\npassword_hash = \"{PASSWORD_HASH}\"\n[host.network]\naddress = \"10.0.2.15/24\"\ngateway = \"10.0.2.2\"\n\
         dns = [\"10.0.2.3\"]\n[acme]\nagree_to_terms = true\nemail = \"me@example.org\"\n\
         directory = \"https://acme.invalid/directory\"\n"
    );
    disk.write_settings(host, &more)?;
    let mut machine = Machine::start(&disk)?;
    machine.wait_serial("cellar.local")?;
    machine.wait("SSH answers", |m| m.output("true"))?;
    machine.wait("the API answers", Machine::api_ready)?;
    let checks = [
        ("name", "hostname", "cellar\n"),
        ("timezone", "date +%Z | grep -c 'CES\\?T'", "1\n"),
        ("domain", "hostname -f", "cellar.home.example.org\n"),
        ("ntp", "timedatectl show-timesync -p SystemNTPServers --value", "10.0.2.2\n"),
        ("address", "ip -4 -o addr show scope global | grep -c '10.0.2.15/24.*forever'", "1\n"),
        ("gateway", "ip route show default | grep -c 'via 10.0.2.2 .*static'", "1\n"),
        ("dns", "resolvectl dns | grep -c 10.0.2.3", "1\n"),
        ("ssh_keys", "wc -l < /run/skiff/ssh/authorized_keys", "1\n"),
        ("password_hash", "getent shadow root | cut -c1-9", "root:$6$W\n"),
        ("acme.email", "grep -c me@example.org /run/skiff/skiff.toml", "1\n"),
        ("acme.directory", "grep -c acme.invalid /run/skiff/skiff.toml", "1\n"),
        ("no errors", "test -e /efi/skiff.toml.errors.txt || echo none", "none\n"),
        ("taken over", "grep -c 'password_hash: taken over' /efi/skiff.toml", "1\n"),
        ("scrubbed", "grep -c W9VeJ5DGA1fn1kqJ /efi/skiff.toml || true", "0\n"),
        ("the rest is as it was", "grep -c '^# mine$' /efi/skiff.toml", "1\n"),
        ("node", "skiff status -o json | grep -c '\"node\": \"cellar\"'", "1\n"),
    ];
    for (key, script, expected) in checks {
        let found = machine.run(script)?;
        ensure!(found.stdout == expected, "{key}: `{script}` says {:?}{:?}", found.stdout, found.stderr);
    }
    machine.power_off()
}

pub fn a_broken_file_is_told_of(shared: &Shared) -> anyhow::Result<()> {
    let disk = Disk::new(&shared.image, shared.arch)?;
    let host = "name = \"attic\"\ntimezone = \"Mars/Olympus\"\nnonsense = 1\nthis is no line";
    disk.write_settings(host, "[network]\npod_cidr = 7")?;
    let mut machine = Machine::start(&disk)?;
    machine.wait_serial("attic.local")?;
    machine.wait_serial("Mars/Olympus")?;
    machine.wait("SSH answers", |m| m.output("true"))?;
    machine.wait("the API answers", Machine::api_ready)?;
    machine.wait("skiff status says it", |m| {
        let status = m.output("skiff status")?;
        ensure!(["Mars/Olympus", "nonsense", "pod_cidr"].iter().all(|word| status.contains(word)), "{status}");
        Ok(())
    })?;
    machine.picture(&shared.left.join("broken-settings.png"))?;
    machine.power_off()?;
    let errors = String::from_utf8_lossy(&disk.read_fat("skiff.toml.errors.txt")?).into_owned();
    for word in ["Mars/Olympus", "nonsense", "line 6: this is not KEY = VALUE", "pod_cidr", "line 4", "\r\n"] {
        ensure!(errors.contains(word), "{word:?} is not in\n{errors}");
    }
    // Mended, the errors go.
    disk.write_settings("name = \"attic\"", "")?;
    let mut machine = Machine::start(&disk)?;
    machine.wait("SSH answers", |m| m.output("true"))?;
    machine.power_off()?;
    ensure!(disk.read_fat("skiff.toml.errors.txt").is_err(), "the errors are still there");
    Ok(())
}
