//! Files as people leave them.

use std::path::Path;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

const HASH: &str = "$6$salt$0123456789012345";

fn read_with(bytes: &[u8], stored: &[SecretKey]) -> Reading {
    let stored = stored.iter().copied().collect();
    read(bytes, &Context { stored: &stored, secrets_dir: Path::new("/secrets"), today: "2026-11-21" })
}

/// The errors, and what holds in spite of them.
fn check(text: &str, expected: Expect) {
    check_bytes(text.as_bytes(), expected);
}

fn check_bytes(bytes: &[u8], expected: Expect) {
    let reading = read_with(bytes, &[]);
    expected.assert_eq(&shown(&reading));
}

fn shown(reading: &Reading) -> String {
    let mut text: String = reading.errors.iter().map(|error| format!("! {error}\n")).collect();
    // What differs from the defaults.
    let defaults = Settings::default().to_toml();
    let mut table = "";
    let settings = reading.settings.to_toml();
    for line in settings.lines() {
        match line.starts_with('[') {
            true => table = line,
            false if !line.is_empty() && !defaults.lines().any(|default| default == line) => {
                text.push_str(&format!("{table} {line}\n"));
            }
            false => {}
        }
    }
    for (secret, change) in &reading.secrets {
        text.push_str(&format!("secret {} {change:?}\n", secret.file_name()));
    }
    text
}

#[test]
fn a_right_file_is_taken_as_it_is() {
    let shipped = include_str!("../../../../config/skiff.toml");
    let reading = read_with(shipped.as_bytes(), &[]);
    assert_eq!((reading.settings, reading.errors, reading.scrubbed), (Settings::default(), Vec::new(), None));
    check(
        "\u{feff}[host]\r\nname = \"cellar\" # below the stairs\r\nntp = [\r\n  \"a.example\",\r\n\r\n  # why\r\n  \"b.example\",\r\n]\r\nnetwork.dns = [\"9.9.9.9\"]\r\n[node]\r\nmax_pods = 5",
        expect![[r#"
            [host] name = "cellar"
            [host] ntp = ["a.example", "b.example"]
            [host.network] dns = ["9.9.9.9"]
            [node] max_pods = 5
        "#]],
    );
}

#[test]
fn a_broken_line_is_left_out() {
    check(
        "[host]\nname = cellar\ntimezone = \"Europe/Zurich\"\n",
        expect![[r#"
        ! line 2: name: this is not KEY = VALUE with text in quotes: string values must be quoted, expected literal string
        [host] timezone = "Europe/Zurich"
    "#]],
    );
    check(
        "[host]\nname = \"cellar\ntimezone = \"Europe/Zurich\"\n",
        expect![[r#"
        ! line 2: name: this is not KEY = VALUE with text in quotes: invalid basic string, expected `"`
        [host] timezone = "Europe/Zurich"
    "#]],
    );
    check(
        "[host]\nname = \u{201c}cellar\u{201d}\ntimezone = \"Europe/Zurich\"\n",
        expect![[r#"
        ! line 2: name: it has quotes as a word processor writes them: write straight quotes (")
        [host] timezone = "Europe/Zurich"
    "#]],
    );
    check(
        "[host]\nname =\nhello\ntimezone = \"Europe/Zurich\"\n",
        expect![[r#"
        ! line 2: name: the value is missing
        ! line 3: this is not KEY = VALUE: correct it, or put # before it
        [host] timezone = "Europe/Zurich"
    "#]],
    );
    check(
        "[host]\nname = \"a\\q\"\n= 3\n\"\" = 4\ntimezone = \"Europe/Zurich\"\n",
        expect![[r#"
        ! line 2: name: this is not KEY = VALUE with text in quotes: missing escaped value, expected `b`, `e`, `f`, `n`, `r`, `\`, `"`, `x`, `u`, `U`
        ! line 3: this is not KEY = VALUE with text in quotes: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`
        ! line 4: host.: unknown field ``, expected one of `name`, `timezone`, `domain`, `ntp`, `network`, `admin`
        [host] timezone = "Europe/Zurich"
    "#]],
    );
}

#[test]
fn a_broken_value_over_lines_ends_where_the_next_is_right() {
    check(
        "[host]\nntp = [\n  \"a\",\n  \"b\",\ntimezone = \"Europe/Zurich\"\n[node]\nmax_pods = 7\n",
        expect![[r#"
        ! line 2: ntp: this is not KEY = VALUE with text in quotes: the value is not closed
        [host] timezone = "Europe/Zurich"
        [node] max_pods = 7
    "#]],
    );
    check(
        "[host]\nname = \"\"\"\ntimezone = \"Europe/Zurich\"\n",
        expect![[r#"
        ! line 2: name: this is not KEY = VALUE with text in quotes: the value is not closed
        [host] timezone = "Europe/Zurich"
    "#]],
    );
}

#[test]
fn what_is_below_a_wrong_header_counts_nowhere() {
    check(
        "[hots]\nname = \"x\"\n[node\nmax_pods = 3\n[[api]]\n[log]\nlevel = \"debug\"\n",
        expect![[r#"
            ! line 1: [hots]: unknown field `hots`, expected one of `version`, `host`, `node`, `api`, `audit`, `oidc`, `network`, `ingress`, `acme`, `runtime`, `store`, `log`
            ! line 2: name: it counts nowhere: the header above it, in [ ], is wrong
            ! line 3: a header is a name in [ ]: unclosed table, expected `]`
            ! line 4: max_pods: it counts nowhere: the header above it, in [ ], is wrong
            ! line 5: a header is a name in [ ]: a list of tables is not used here: write [NAME]
            [log] level = "debug"
        "#]],
    );
    check(
        "[host] name = \"x\"\n[host]\nname = \"y\"\n",
        expect![[r#"
        ! line 1: a header is a name in [ ]: unexpected key or value, expected newline, `#`
        [host] name = "y"
    "#]],
    );
}

#[test]
fn unknown_keys_and_impossible_values_are_left_out() {
    check(
        "colour = 1\n[host]\nnmae = \"x\"\ntimezone = 3\nname = \"Cellar\"\ndomain = \"home.example.org\"\n[node]\nmax_pods = \"many\"\n",
        expect![[r#"
            ! line 1: colour: unknown field `colour`, expected one of `version`, `host`, `node`, `api`, `audit`, `oidc`, `network`, `ingress`, `acme`, `runtime`, `store`, `log`
            ! line 3: host.nmae: unknown field `nmae`, expected one of `name`, `timezone`, `domain`, `ntp`, `network`, `admin`
            ! line 4: host.timezone: invalid type: integer `3`, expected a string
            ! line 5: host.name: "Cellar" is not a host name: at most 63 lower-case letters, digits and '-', without a dot (the domain is host.domain)
            ! line 8: node.max_pods: invalid type: string "many", expected u32
            [host] domain = "home.example.org"
        "#]],
    );
    check(
        "host = 3\n[host]\nname = \"a\"\nname = \"b\"\n[host]\ndomain = \"c\"\n",
        expect![[r#"
        ! line 1: host: invalid type: integer `3`, expected struct Host
        ! line 4: host.name: it is given in line 3 already, which counts: remove one of them
        ! line 5: [host] is given twice; the keys of both count: put them together
        [host] name = "a"
        [host] domain = "c"
    "#]],
    );
}

#[test]
fn of_what_does_not_fit_together_the_named_keys_are_left_out() {
    check(
        "version = 9\n[network]\npod_cidr = \"10.43.0.0/24\"\nmtu = 1400\n[node]\nmax_pods = 0\n",
        expect![[r#"
        ! line 1: version = 9 is not known: this program reads version 1; a newer file needs a newer program
        ! line 3: network.pod_cidr = "10.43.0.0/24" and network.service_cidr = "10.43.0.0/16" overlap: choose two separate networks
        ! line 6: node.max_pods = 0 is out of range: allowed are 1 to 1000
        [network] mtu = 1400
    "#]],
    );
    check(
        "[host]\nname = \"x\"\n[host.network]\ngateway = \"192.168.1.1\"\ndns = [\"9.9.9.9\"]\n",
        expect![[r#"
        ! line 4: host.network.gateway: a gateway without an address has no effect: DHCP names the gateway; set host.network.address too, or remove host.network.gateway
        [host] name = "x"
        [host.network] dns = ["9.9.9.9"]
    "#]],
    );
    check(
        "[acme]\nchallenge = \"dns-01\"\nemail = \"you\"\naccount_key_id = \"kid\"\n[acme.dns]\nserver = \"127.0.0.1:53\"\n[acme.fallback]\nprofile = \"x\"\n",
        expect![[r#"
            ! line 2: acme.challenge = "dns-01" needs [acme.dns] with a server or a hook
            ! line 3: acme.email is not one mail address
            ! line 4: acme.account_key_id and acme.account_hmac_key (or acme.account_hmac_key_file) belong together
            ! line 6: acme.dns.server needs acme.dns.zone
            ! line 8: acme.fallback.directory = "" is not the https:// address of a CA's directory
        "#]],
    );
}

#[test]
fn what_is_no_text_is_said() {
    check_bytes(
        b"[host]\nname = \"c\xe9llar\"\ntimezone = \"UTC\"\n# caf\xe9\n",
        expect![[r#"
        ! line 2: name: it has characters that are not UTF-8: write them again and save the file as UTF-8
        [host] timezone = "UTC"
    "#]],
    );
    check_bytes(
        b"\xff\xfeh\0o\0",
        expect![[r#"
        ! the file is saved as UTF-16 ("Unicode"): save it again with the encoding UTF-8
    "#]],
    );
    check_bytes(
        b"[host]\nna\0me = \"x\"\ntimezone = \"UTC\"\n",
        expect![[r#"
        ! line 2: it has characters that are no text: write the line again
        [host] timezone = "UTC"
    "#]],
    );
    check_bytes(
        &vec![b'a'; 10 << 20],
        expect![[r#"
        ! the file is larger than 256 KiB: it is not a settings file; put the one of the image back
    "#]],
    );
    let errors = read_with("x = 1\n".repeat(100).as_bytes(), &[]).errors;
    assert_eq!((errors.len(), errors.last().unwrap().to_string()), (51, "and 50 more errors".to_owned()));
}

#[test]
fn secrets_are_taken_over_and_removed_from_the_file() {
    let text = format!(
        "# mine\r\n[host.admin]\r\n  password_hash = '{HASH}'  # old\r\nssh_keys = []\r\n[acme]\r\naccount_key_id = \"kid\"\r\naccount_hmac_key = \"\"\"\r\nYWJj\"\"\"\r\nemail = \"a@b\""
    );
    let reading = read_with(text.as_bytes(), &[]);
    assert_eq!(reading.secrets[&SecretKey::PasswordHash], SecretChange::Keep(HASH.to_owned()));
    assert_eq!(reading.secrets[&SecretKey::AccountHmacKey], SecretChange::Keep("YWJj".to_owned()));
    let scrubbed = String::from_utf8(reading.scrubbed.clone().unwrap()).unwrap();
    expect![[r##"
        # mine%
        [host.admin]%
        # password_hash: taken over on 2026-11-21; write the key again to change it%
        ssh_keys = []%
        [acme]%
        account_key_id = "kid"%
        # account_hmac_key: taken over on 2026-11-21; write the key again to change it%
        email = "a@b""##]]
    .assert_eq(&scrubbed.replace('\r', "%"));
    expect![[r#"
        [acme] email = "a@b"
        [acme] account_key_id = "kid"
        [acme] account_hmac_key_file = "/secrets/account_hmac_key"
        secret password_hash Keep(…)
        secret account_hmac_key Keep(…)
    "#]]
    .assert_eq(&shown(&reading));
    // The file as it is now, with the secrets in the state.
    let again = read_with(scrubbed.as_bytes(), &[SecretKey::PasswordHash, SecretKey::AccountHmacKey]);
    assert_eq!(again.settings, reading.settings);
    assert_eq!((again.errors, again.secrets, again.scrubbed), (Vec::new(), BTreeMap::new(), None));
}

#[test]
fn an_empty_secret_is_removed() {
    let reading = read_with(b"[host.admin]\npassword_hash = \"\"\n", &[SecretKey::PasswordHash]);
    assert_eq!(reading.secrets[&SecretKey::PasswordHash], SecretChange::Remove);
    let scrubbed = String::from_utf8(reading.scrubbed.unwrap()).unwrap();
    assert_eq!(scrubbed, "[host.admin]\n# password_hash: removed on 2026-11-21; write the key again to change it\n");
}

#[test]
fn refused_secrets_are_not_repeated() {
    for value in ["\"hunter2\"", "4242424242", "\"hunter2", "hunter2"] {
        let reading = read_with(format!("[host.admin]\npassword_hash = {value}\n").as_bytes(), &[]);
        let shown = shown(&reading);
        assert!(reading.errors.len() == 1 && reading.secrets.is_empty() && reading.scrubbed.is_none());
        assert!(!shown.contains("hunter2") && !shown.contains("4242"), "{shown}");
    }
    check(
        &format!("host.admin = {{ ssh_keys = [], password_hash = \"{HASH}\" }}\n"),
        expect![[r#"
        ! line 1: host.admin: a secret has to stand on a line of its own, so that the box can remove it
    "#]],
    );
}

#[test]
fn a_secret_given_twice_is_removed_twice() {
    let text = format!("[host.admin]\npassword_hash = \"{HASH}\"\npassword_hash = \"{HASH}x\"\n");
    let reading = read_with(text.as_bytes(), &[]);
    assert_eq!(reading.secrets[&SecretKey::PasswordHash], SecretChange::Keep(HASH.to_owned()));
    assert!(!String::from_utf8(reading.scrubbed.unwrap()).unwrap().contains("salt"));
}

#[test]
fn a_kept_secret_needs_the_key_it_belongs_to() {
    let reading = read_with(b"[acme]\naccount_hmac_key = \"YWJj\"\n", &[]);
    expect![[r#"
        ! line 2: acme.account_hmac_key has no effect without acme.account_key_id: add it
        secret account_hmac_key Keep(…)
    "#]]
    .assert_eq(&shown(&reading));
    assert!(read_with(b"", &[SecretKey::AccountHmacKey, SecretKey::TsigSecret]).errors.is_empty());
    let text = b"[acme]\naccount_key_id = \"k\"\naccount_hmac_key = \"YWJj\"\naccount_hmac_key_file = \"/x\"\n";
    expect![[r#"
        ! line 3: acme.account_hmac_key_file: acme.account_hmac_key and acme.account_hmac_key_file are both given: the former counts; keep one
        [acme] account_key_id = "k"
        [acme] account_hmac_key_file = "/secrets/account_hmac_key"
        secret account_hmac_key Keep(…)
    "#]].assert_eq(&shown(&read_with(text, &[])));
}

#[test]
fn the_network_is_written_beside_what_is_there() {
    let address = "192.168.1.10/24".to_owned().try_into().unwrap();
    let (gateway, dns) = ("192.168.1.1".parse().unwrap(), ["9.9.9.9".parse().unwrap()]);
    let fixed =
        |text: &str| String::from_utf8(with_network(text.as_bytes(), Some(address), Some(gateway), &dns)).unwrap();
    let dhcp = |text: &str| String::from_utf8(with_network(text.as_bytes(), None, None, &[])).unwrap();
    let own = "address = \"192.168.1.10/24\"\ngateway = \"192.168.1.1\"\ndns = [\"9.9.9.9\"]\n";
    assert_eq!(fixed(""), format!("\n[host.network]\n{own}"));
    assert_eq!(fixed("[node]\r\nmax_pods = 3").lines().count(), 7);
    let old = "# a\n[host.network] # b\naddress = \"10.0.0.2/8\"\n# c\ndns = [\n  \"10.0.0.1\",\n]\ngateway = broken\ninterface = \"eth0\"\n[host]\nnetwork.gateway = \"10.0.0.1\"\nname = \"x\"\n";
    assert_eq!(fixed(old), format!("# a\n[host.network] # b\n{own}# c\ninterface = \"eth0\"\n[host]\nname = \"x\"\n"));
    assert_eq!(dhcp(&fixed(old)), "# a\n[host.network] # b\n# c\ninterface = \"eth0\"\n[host]\nname = \"x\"\n");
    let inline = "[host]\nname = \"x\"\nnetwork = { address = \"10.0.0.2/8\", interface = \"eth0\" }\n";
    assert_eq!(fixed(inline), format!("[host]\nname = \"x\"\n\n[host.network]\ninterface = \"eth0\"\n{own}"));
    assert_eq!(dhcp(inline), "[host]\nname = \"x\"\n\n[host.network]\ninterface = \"eth0\"\n");
    let shipped = include_str!("../../../../config/skiff.toml");
    let reading = read_with(fixed(shipped).as_bytes(), &[]);
    assert!(reading.errors.is_empty() && reading.settings.host.network.address == Some(address));
    assert_eq!(read_with(dhcp(&fixed(shipped)).as_bytes(), &[]).settings, Settings::default());
}

#[test]
fn a_deep_key_does_not_exhaust_the_stack() {
    for text in [
        format!("{}a = 1", "a.".repeat(100_000)),
        format!("a = {}", "[".repeat(200_000)),
        format!("[{}a]", "a.".repeat(100_000)),
        "a = {a = ".repeat(20_000),
    ] {
        assert!(!read_with(text.as_bytes(), &[]).errors.is_empty());
    }
}

/// Right statements, in tables of their own so that any order is right.
const RIGHT: &[(&str, &str)] = &[
    ("host.name = \"cellar\"", "host.name"),
    ("host.timezone = \"Europe/Zurich\"", "host.timezone"),
    ("host.ntp = [\n \"a\",\n \"b\"\n]", "host.ntp"),
    ("node.max_pods = 7", "node.max_pods"),
    ("network.mtu = 1400", "network.mtu"),
    ("log.level = \"debug\"", "log.level"),
    ("api.names = [\"x.example\"]", "api.names"),
];

const WRONG: &[&str] = &[
    "host.name = ",
    "= 3",
    "host.nmae = \"x\"",
    "store.snapshots_max = \"x\"",
    "node.labels = 3",
    "host.domain = \"",
    "{",
    "]",
    "store.size_mebibytes_max = 1",
    "runtime = [",
    "acme.email = '''",
    "what is this",
    "\u{201c}",
    "node.address = {",
];

proptest! {
    #[test]
    fn any_bytes_give_settings(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let reading = read_with(&bytes, &[]);
        prop_assert!(reading.settings.conflicts().is_empty());
    }

    #[test]
    fn any_text_gives_settings(text in "(\\[|\\]|=|\"|'|\n|\r\n|#|\\.|host|name|acme|dns|password_hash|[a-z]|[0-9]| |,|\\{|\\}){0,120}") {
        let reading = read_with(text.as_bytes(), &[SecretKey::TsigSecret]);
        prop_assert!(reading.settings.conflicts().is_empty());
    }

    #[test]
    fn no_wrong_line_loses_a_right_key(
        right in prop::sample::subsequence(RIGHT, 0..=RIGHT.len()).prop_shuffle(),
        wrong in prop::collection::vec((prop::sample::select(WRONG), 0usize..10), 0..6),
    ) {
        let mut lines: Vec<&str> = right.iter().map(|(text, _)| *text).collect();
        let clean = read_with(lines.join("\n").as_bytes(), &[]);
        prop_assert!(clean.errors.is_empty());
        for (text, at) in wrong {
            lines.insert(at.min(lines.len()), text);
        }
        let reading = read_with(lines.join("\n").as_bytes(), &[]);
        prop_assert_eq!(reading.settings, clean.settings, "{}", lines.join("\n"));
    }

    #[test]
    fn what_is_scrubbed_is_otherwise_as_it_was(before in "(# [a-z]*\r?\n|\r?\n|version = 1\n){0,5}", after in "(# [a-z\u{e9}]*\r\n|\n){0,5}") {
        let text = format!("{before}host.admin.password_hash = \"{HASH}\"\r\n{after}");
        let scrubbed = read_with(text.as_bytes(), &[]).scrubbed.unwrap();
        let expected = format!("{before}# password_hash: taken over on 2026-11-21; write the key again to change it\r\n{after}");
        prop_assert_eq!(String::from_utf8(scrubbed).unwrap(), expected);
    }
}
