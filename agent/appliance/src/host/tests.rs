//! Plans, and a host that is brought to its settings in a directory.

use std::path::{Path, PathBuf};

use expect_test::{Expect, expect};

use super::*;
use crate::files;
use crate::host::plan::Change;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f you@laptop";
const HASH: &str = "$6$salt$0123456789012345";
const SHADOW: &str = "root:*:20000:0:99999:7:::\ndaemon:*:20000:0:99999:7:::\n";

struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["efi", "etc", "usr/share/zoneinfo/Europe"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("etc/shadow"), SHADOW).unwrap();
        std::fs::write(dir.path().join("usr/share/zoneinfo/Europe/Zurich"), "TZif").unwrap();
        Self { dir }
    }

    fn paths(&self) -> Paths {
        Paths::new(self.dir.path())
    }

    fn settings_file(&self) -> PathBuf {
        self.dir.path().join("efi/skiff.toml")
    }

    fn write(&self, text: impl AsRef<[u8]>) -> &Self {
        std::fs::write(self.settings_file(), text).unwrap();
        self
    }

    fn apply(&self) -> Outcome {
        let outcome = apply(&self.paths(), &self.settings_file());
        assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
        outcome
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(path)).unwrap_or_else(|_| "-".to_owned())
    }

    fn plan(&self) -> Plan {
        let (paths, file) = (self.paths(), self.settings_file());
        let source = read_source(&file, false);
        let stored = stored_secrets(&paths);
        let known = stored.keys().copied().collect();
        let secrets_dir = paths.secrets();
        let context = Context { stored: &known, secrets_dir: &secrets_dir, today: "2026-11-21" };
        let last = std::fs::read_to_string(paths.last_settings()).ok();
        let reading = plan::reading(&source, last.as_deref(), &context);
        let observed = observe(&paths, &file, &reading, stored);
        Plan::new(&paths, &file, &source, reading, &observed)
    }
}

fn check(text: &str, file: &str, expected: Expect) {
    let machine = Machine::new();
    machine.write(text).apply();
    expected.assert_eq(&machine.read(file));
}

#[test]
fn networks() {
    let file = "run/systemd/network/10-skiff.network";
    check(
        "",
        file,
        expect![[r#"
        # Written at each boot by `skiff host apply` from skiff.toml: changes here are lost.
        [Match]
        Type=ether
        Kind=!*

        [Network]
        DHCP=yes
        LinkLocalAddressing=yes
        IPv6AcceptRA=yes
        MulticastDNS=no
        LLMNR=no

        [DHCPv4]
        ClientIdentifier=mac
        UseHostname=no

        [DHCPv6]
        UseHostname=no
    "#]],
    );
    check(
        "[host]\ndomain = \"home.example.org\"\nntp = [\"a\"]\n[host.network]\ninterface = \"eth0\"\naddress = \"192.168.1.10/24\"\ngateway = \"192.168.1.1\"\ndns = [\"9.9.9.9\", \"fd00::1\"]\n",
        file,
        expect![[r#"
            # Written at each boot by `skiff host apply` from skiff.toml: changes here are lost.
            [Match]
            Name=eth0

            [Network]
            DHCP=no
            LinkLocalAddressing=ipv6
            Address=192.168.1.10/24
            IPv6AcceptRA=yes
            Gateway=192.168.1.1
            DNS=9.9.9.9
            DNS=fd00::1
            Domains=home.example.org
            MulticastDNS=no
            LLMNR=no

            [DHCPv4]
            ClientIdentifier=mac
            UseHostname=no
            UseDNS=no
            UseNTP=no

            [DHCPv6]
            UseHostname=no
            UseDNS=no
            UseNTP=no

            [IPv6AcceptRA]
            UseDNS=no
        "#]],
    );
    check(
        "[host.network]\naddress = \"fd00::5/64\"\n",
        file,
        expect![[r#"
        # Written at each boot by `skiff host apply` from skiff.toml: changes here are lost.
        [Match]
        Type=ether
        Kind=!*

        [Network]
        DHCP=ipv4
        LinkLocalAddressing=ipv6
        Address=fd00::5/64
        IPv6AcceptRA=yes
        MulticastDNS=no
        LLMNR=no

        [DHCPv4]
        ClientIdentifier=mac
        UseHostname=no

        [DHCPv6]
        UseHostname=no
    "#]],
    );
}

#[test]
fn names() {
    check(
        "[host]\nname = \"cellar\"\ndomain = \"home.example.org\"\n",
        "etc/hosts",
        expect![[r#"
        # Written at each boot by `skiff host apply` from skiff.toml: changes here are lost.
        127.0.0.1 localhost
        127.0.1.1 cellar.home.example.org cellar
        ::1 localhost ip6-localhost ip6-loopback
        ff02::1 ip6-allnodes
        ff02::2 ip6-allrouters
    "#]],
    );
    check(
        "[host]\nname = \"cellar\"\n",
        "etc/hostname",
        expect![[r#"
        cellar
    "#]],
    );
}

#[test]
fn administrators() {
    check(
        &format!("[host.admin]\nssh_keys = [\"{KEY}\"]\n"),
        "run/skiff/ssh/authorized_keys",
        expect![[r#"
        ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f you@laptop
    "#]],
    );
    check(
        &format!("[host.admin]\npassword_hash = \"{HASH}\"\n"),
        "etc/shadow",
        expect![[r#"
        root:$6$salt$0123456789012345:20000:0:99999:7:::
        daemon:*:20000:0:99999:7:::
    "#]],
    );
    check(
        "",
        "etc/shadow",
        expect![[r#"
        root:*:20000:0:99999:7:::
        daemon:*:20000:0:99999:7:::
    "#]],
    );
    check("", "run/skiff/ssh/authorized_keys", expect!["-"]);
}

#[test]
fn errors_are_told_where_any_computer_shows_them() {
    let machine = Machine::new();
    machine.write("[host]\nnmae = \"x\"\ntimezone = \"Europe/Zuerich\"\n").apply();
    expect![[r#"
        What is wrong in skiff.toml. Everything else in it is in force. Correct it, save it, and start the box again.%
        %
        line 2: host.nmae: unknown field `nmae`, expected one of `name`, `timezone`, `domain`, `ntp`, `network`, `admin`%
        line 3: host.timezone: "Europe/Zuerich" is not a time zone of this system: UTC is used; a zone is "Europe/Zurich"%
    "#]].assert_eq(&machine.read("efi/skiff.toml.errors.txt").replace('\r', "%"));
    expect![[r#"
        line 2: host.nmae: unknown field `nmae`, expected one of `name`, `timezone`, `domain`, `ntp`, `network`, `admin`
        line 3: host.timezone: "Europe/Zuerich" is not a time zone of this system: UTC is used; a zone is "Europe/Zurich"
    "#]].assert_eq(&machine.read("run/skiff/settings-errors"));
    machine.write("").apply();
    assert_eq!(machine.read("efi/skiff.toml.errors.txt") + &machine.read("run/skiff/settings-errors"), "--");
}

#[test]
fn nothing_is_planned_twice() {
    let machine = Machine::new();
    let everything = format!(
        "[host]\nname = \"cellar\"\ntimezone = \"Europe/Zurich\"\nntp = [\"a\"]\nwrong = 1\n[host.admin]\nssh_keys = [\"{KEY}\"]\npassword_hash = \"{HASH}\"\n"
    );
    machine.write(everything).apply();
    assert_eq!(machine.plan().changes, []);
    assert_eq!(machine.apply().changes, 0);
}

#[test]
fn a_file_that_cannot_be_read_leaves_the_last_settings_in_force() {
    let machine = Machine::new();
    machine.write("[host]\nname = \"cellar\"\n").apply();
    machine.write(vec![b'#'; settings_file::SIZE_BYTES_MAX + 1]);
    let outcome = machine.apply();
    assert_eq!(machine.read("etc/hostname"), "cellar\n");
    assert!(outcome.settings_errors[0].contains("the settings that were last in force are used"));
    std::fs::remove_file(machine.settings_file()).unwrap();
    assert!(machine.apply().settings_errors.is_empty(), "a missing file is the defaults");
    assert_eq!(machine.read("etc/hostname"), "skiff\n");
    std::fs::remove_dir_all(machine.dir.path().join("efi")).unwrap();
    machine.apply();
    std::fs::create_dir_all(machine.settings_file()).unwrap();
    assert!(machine.apply().settings_errors[0].contains("the file cannot be read"));
}

#[test]
fn secrets_live_in_the_state() {
    let machine = Machine::new();
    let shadow = |hash: &str| SHADOW.replacen('*', hash, 1);
    machine.write(format!("[host.admin]\npassword_hash = \"{HASH}\"\n")).apply();
    assert!(!machine.read("efi/skiff.toml").contains("salt"));
    assert!(!machine.read("run/skiff/skiff.toml").contains("salt"));
    assert_eq!(machine.read("var/lib/skiff/host/secrets/password_hash"), format!("{HASH}\n"));
    // `/etc` is as shipped at the next boot.
    std::fs::write(machine.dir.path().join("etc/shadow"), SHADOW).unwrap();
    machine.write("").apply();
    assert_eq!(machine.read("etc/shadow"), shadow(HASH));
    machine.write(format!("[host.admin]\npassword_hash = \"{HASH}6\"\n")).apply();
    assert_eq!(machine.read("etc/shadow"), shadow(&format!("{HASH}6")));
    machine.write("[host.admin]\npassword_hash = \"\"\n").apply();
    assert_eq!(machine.read("etc/shadow"), shadow("*"));
    assert_eq!(machine.read("var/lib/skiff/host/secrets/password_hash"), "-");
}

#[test]
fn a_power_cut_at_any_step_loses_no_secret() {
    let text = format!(
        "[host.admin]\npassword_hash = \"{HASH}\"\n[acme]\naccount_key_id = \"k\"\naccount_hmac_key = \"YWJj\"\n"
    );
    let steps = {
        let machine = Machine::new();
        machine.write(&text).plan().changes.len()
    };
    for cut in 0..=steps {
        let machine = Machine::new();
        let plan = machine.write(&text).plan();
        let done = Plan { changes: plan.changes.into_iter().take(cut).collect(), ..plan };
        apply::apply(&machine.paths(), &done);
        std::fs::write(machine.dir.path().join("etc/shadow"), SHADOW).unwrap();
        machine.apply();
        assert_eq!(machine.read("etc/shadow"), SHADOW.replacen('*', HASH, 1), "cut after {cut}");
        assert_eq!(machine.read("var/lib/skiff/host/secrets/account_hmac_key"), "YWJj\n");
        assert!(!machine.read("efi/skiff.toml").contains("YWJj"));
    }
}

#[test]
fn a_secret_that_cannot_be_kept_stays_in_the_file() {
    let machine = Machine::new();
    let text = format!("[host.admin]\npassword_hash = \"{HASH}\"\n");
    machine.write(&text);
    // A file where a directory has to be.
    files::replace(&machine.dir.path().join("var/lib/skiff/host/secrets"), b"", 0o600).unwrap();
    let outcome = apply(&machine.paths(), &machine.settings_file());
    assert!(outcome.failures.iter().any(|f| f.contains("could not be taken over")), "{:?}", outcome.failures);
    assert_eq!(machine.read("efi/skiff.toml"), text);
    assert!(machine.read("run/skiff/skiff.toml").contains("version = 1"), "the rest is done");
}

#[test]
fn files_for_root_alone() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::new();
    machine.write(format!("[host.admin]\npassword_hash = \"{HASH}\"\nssh_keys = [\"{KEY}\"]\n")).apply();
    for (file, mode) in [
        ("run/skiff/skiff.toml", 0o600),
        ("var/lib/skiff/host/skiff.toml", 0o600),
        ("var/lib/skiff/host/secrets/password_hash", 0o600),
        ("etc/shadow", 0o640),
        ("etc/hosts", 0o644),
    ] {
        let found = std::fs::metadata(machine.dir.path().join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{file}");
    }
}

#[test]
fn a_change_shows_no_content() {
    let change = Change::Write { path: "/a".into(), content: b"secret".to_vec(), mode: 0o600 };
    assert_eq!(format!("{change:?}"), "write /a 0600");
    assert_eq!(plan::errors_file(Path::new("/efi/skiff.toml")), Path::new("/efi/skiff.toml.errors.txt"));
}
