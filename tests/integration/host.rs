//! The machine below the box: `skiff host apply` and the factory reset, in a directory instead of a machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, ensure};
use skiff_tests::command::{self, Done};

use crate::Place;

const HASH: &str = "$6$salt$0123456789012345";
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f you@laptop";

/// A machine that has nothing but what a boot finds.
struct Machine {
    binary: PathBuf,
    dir: tempfile::TempDir,
}

impl Machine {
    fn new(place: &Place<'_>) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        for name in ["efi", "etc", "usr/share/zoneinfo/Europe", "usr/lib/skiff"] {
            std::fs::create_dir_all(dir.path().join(name))?;
        }
        std::fs::write(dir.path().join("etc/shadow"), "root:*:20000:0:99999:7:::\n")?;
        std::fs::write(dir.path().join("usr/share/zoneinfo/Europe/Zurich"), "TZif")?;
        Ok(Self { binary: place.shared.binary.clone(), dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().context("it is in a directory")?)?;
        Ok(std::fs::write(path, text)?)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn skiff(&self, arguments: &[&str]) -> anyhow::Result<Done> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--root").arg(self.dir.path());
        command::output(command)
    }

    fn apply(&self) -> anyhow::Result<Done> {
        let file = self.path("efi/skiff.toml");
        let done = self.skiff(&["host", "apply", "--settings", &file.to_string_lossy()])?;
        ensure!(done.ok, "{done:?}");
        Ok(done)
    }

    /// Every file with the time it was written.
    fn times(&self) -> anyhow::Result<BTreeMap<PathBuf, SystemTime>> {
        let mut times = BTreeMap::new();
        collect(self.dir.path(), &mut times)?;
        Ok(times)
    }
}

fn collect(dir: &Path, times: &mut BTreeMap<PathBuf, SystemTime>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let meta = std::fs::symlink_metadata(&path)?;
        if meta.is_dir() {
            collect(&path, times)?;
        }
        times.insert(path, meta.modified()?);
    }
    Ok(())
}

pub fn each_setting_makes_its_file(place: &Place<'_>) -> anyhow::Result<()> {
    const NETWORK: &str = "run/systemd/network/10-skiff.network";
    let admin_key = format!("[host.admin]\nssh_keys = [\"{KEY}\"]");
    let admin_hash = format!("[host.admin]\npassword_hash = \"{HASH}\"");
    let root = format!("root:{HASH}:20000:");
    let key_line = format!("{KEY}\n");
    let cases: &[(&str, &str, &str)] = &[
        ("", "etc/hostname", "skiff\n"),
        ("", NETWORK, "DHCP=yes"),
        ("[host]\nname = \"cellar\"", "etc/hostname", "cellar\n"),
        ("[host]\nname = \"cellar\"", "run/skiff/skiff.toml", "name = \"cellar\""),
        ("[host]\ndomain = \"home.example.org\"", "etc/hosts", "127.0.1.1 skiff.home.example.org skiff\n"),
        ("[host]\nntp = [\"ptbtime1.ptb.de\"]", "run/systemd/timesyncd.conf.d/skiff.conf", "NTP=ptbtime1.ptb.de\n"),
        ("[host.network]\ninterface = \"enp1s0\"", NETWORK, "Name=enp1s0\n"),
        ("[host.network]\naddress = \"192.168.1.10/24\"", NETWORK, "Address=192.168.1.10/24\n"),
        ("[host.network]\naddress = \"10.0.0.2/8\"\ngateway = \"10.0.0.1\"", NETWORK, "Gateway=10.0.0.1\n"),
        ("[host.network]\ndns = [\"9.9.9.9\"]", NETWORK, "DNS=9.9.9.9\n"),
        (&admin_key, "run/skiff/ssh/authorized_keys", &key_line),
        (&admin_hash, "etc/shadow", &root),
    ];
    for (settings, file, expected) in cases {
        let machine = Machine::new(place)?;
        machine.write("efi/skiff.toml", settings)?;
        machine.apply()?;
        let found = machine.read(file);
        ensure!(found.contains(expected), "{settings}: {file} is {found:?}");
        ensure!(!machine.path("efi/skiff.toml.errors.txt").exists(), "{settings}");
    }
    let machine = Machine::new(place)?;
    machine.write("efi/skiff.toml", "[host]\ntimezone = \"Europe/Zurich\"")?;
    machine.apply()?;
    let zone = std::fs::read_link(machine.path("etc/localtime"))?;
    ensure!(zone == Path::new("/usr/share/zoneinfo/Europe/Zurich"), "{}", zone.display());
    Ok(())
}

pub fn a_broken_file_is_honoured_where_it_is_right(place: &Place<'_>) -> anyhow::Result<()> {
    let machine = Machine::new(place)?;
    let text = format!(
        "[host]\r\nname = \"cellar\"\r\ntimezone = Europe\r\nntp = [\"a\"\r\n[host.admin]\r\npassword_hash = \"{HASH}\"\r\n"
    );
    machine.write("efi/skiff.toml", &text)?;
    let done = machine.apply()?;
    let told = machine.read("efi/skiff.toml.errors.txt");
    ensure!(told.contains("line 3: timezone: ") && told.contains("line 4: ntp: "), "{told}");
    ensure!(told.lines().count() == told.matches("\r\n").count(), "for Notepad: {told:?}");
    ensure!(done.stderr.contains("line 3"), "{done:?}");
    ensure!(machine.read("run/skiff/settings-errors").lines().count() == 2);
    ensure!(machine.read("etc/hostname") == "cellar\n");
    let scrubbed = machine.read("efi/skiff.toml");
    ensure!(!scrubbed.contains("salt") && scrubbed.contains("# password_hash: taken over on "), "{scrubbed}");
    ensure!(scrubbed.starts_with(text.split("password_hash").next().unwrap_or_default()), "{scrubbed}");
    ensure!(machine.read("var/lib/skiff/host/secrets/password_hash") == format!("{HASH}\n"));

    // What the agent is given is right.
    let mut check = Command::new(&machine.binary);
    check.arg("check").arg(machine.path("run/skiff/skiff.toml"));
    let checked = command::output(check)?;
    ensure!(checked.ok, "{checked:?}");

    let before = machine.times()?;
    ensure!(machine.apply()?.stdout.contains("0 changes"));
    ensure!(machine.times()? == before, "nothing is written when nothing changed");

    machine.write("efi/skiff.toml", "")?;
    machine.apply()?;
    ensure!(!machine.path("efi/skiff.toml.errors.txt").exists() && machine.read("etc/hostname") == "skiff\n");
    ensure!(machine.read("etc/shadow").contains(HASH), "a secret is kept until it is replaced");
    std::fs::remove_dir_all(machine.path("efi"))?;
    machine.apply()?;
    ensure!(!machine.path("efi").exists(), "a missing boot partition is not made up");
    Ok(())
}

pub fn a_factory_reset_leaves_the_owners_file(place: &Place<'_>) -> anyhow::Result<()> {
    let machine = Machine::new(place)?;
    let refused = machine.skiff(&["factory-reset", "--yes"])?;
    ensure!(!refused.ok && refused.stderr.contains("skiff down --purge --yes"), "{refused:?}");
    machine.write("usr/lib/skiff/appliance", "")?;
    let settings = "[host]\nname = \"cellar\"\n";
    machine.write("efi/skiff.toml", settings)?;
    machine.write("var/lib/skiff/store/db", "x")?;
    machine.write("var/log/journal/x", "x")?;
    let unsure = machine.skiff(&["factory-reset"])?;
    ensure!(!unsure.ok && unsure.stderr.contains("--yes") && unsure.stdout.contains("/var/lib/skiff"), "{unsure:?}");
    machine.apply()?;
    ensure!(machine.path("var/lib/skiff/store/db").exists(), "nothing is deleted without --yes");
    let asked = machine.skiff(&["factory-reset", "--yes", "--no-reboot"])?;
    ensure!(asked.ok && machine.path("var/lib/skiff/host/factory-reset").exists(), "{asked:?}");
    machine.apply()?;
    ensure!(machine.path("var/lib/skiff/store/db").exists(), "nothing is deleted under a box that runs");
    // As after a restart of the machine.
    std::fs::remove_dir_all(machine.path("run"))?;
    let done = machine.apply()?;
    ensure!(done.stdout.contains("the factory reset is done"), "{done:?}");
    ensure!(!machine.path("var/lib/skiff/store").exists() && !machine.path("var/log/journal").exists());
    ensure!(machine.read("efi/skiff.toml") == settings && machine.read("etc/hostname") == "cellar\n");
    ensure!(!machine.apply()?.stdout.contains("reset"), "it is done once");
    Ok(())
}

pub fn the_screen_shows_the_box(place: &Place<'_>) -> anyhow::Result<()> {
    let running = &place.shared.running;
    let frame = running.skiff(&["screen", "--once"])?;
    ensure!(frame.ok && frame.stdout.contains("State       ready"), "{frame:?}");
    ensure!(frame.stdout.lines().all(|line| line.len() <= 80 && line.is_ascii()), "{frame:?}");
    let nothing = running.skiff(&["screen", "--once", "--data-dir", "/no/such/box"])?;
    ensure!(nothing.ok && nothing.stdout.contains("State       starting"), "{nothing:?}");
    Ok(())
}
