//! Bad settings and what is said of them; the shipped file is the defaults.

use std::path::Path;

use expect_test::{Expect, expect};

use crate::Settings;

fn check(text: &str, expected: Expect) {
    let answer = match Settings::parse(Path::new("skiff.toml"), text) {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&answer);
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(Settings::parse(Path::new("skiff.toml"), "").expect("valid"), Settings::default());
}

#[test]
fn the_shipped_file_shows_the_defaults() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/skiff.toml"));
    assert_eq!(Settings::read(path).expect("valid"), Settings::default());
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    check(
        "[network]\npod_cdir = \"10.0.0.0/24\"\n",
        expect![[r#"
        skiff.toml: TOML parse error at line 2, column 1
          |
        2 | pod_cdir = "10.0.0.0/24"
          | ^^^^^^^^
        unknown field `pod_cdir`, expected one of `pod_cidr`, `service_cidr`, `cluster_domain`, `node_ports`, `bridge`, `table`, `mtu`, `upstream_dns`"#]],
    );
}

#[test]
fn a_wrong_type_is_named() {
    check(
        "[node]\nmax_pods = \"many\"\n",
        expect![[r#"
        skiff.toml: TOML parse error at line 2, column 12
          |
        2 | max_pods = "many"
          |            ^^^^^^
        invalid type: string "many", expected u32"#]],
    );
}

#[test]
fn impossible_values_are_named() {
    check(
        "[network]\npod_cidr = \"10.42.0.7/24\"\n",
        expect![[r#"
        skiff.toml: TOML parse error at line 2, column 12
          |
        2 | pod_cidr = "10.42.0.7/24"
          |            ^^^^^^^^^^^^^^
        "10.42.0.7/24" does not start at the network's first address: write "10.42.0.0/24""#]],
    );
    check(
        "[network]\nbridge = \"Skiff Bridge\"\n",
        expect![[r#"
        skiff.toml: TOML parse error at line 2, column 10
          |
        2 | bridge = "Skiff Bridge"
          |          ^^^^^^^^^^^^^^
        "Skiff Bridge" is not a name of at most 15 lower-case letters, digits and '-', starting with a letter"#]],
    );
    check(
        "[network]\nnode_ports = \"9-1\"\n",
        expect![[r#"
        skiff.toml: TOML parse error at line 2, column 14
          |
        2 | node_ports = "9-1"
          |              ^^^^^
        "9-1" is not a range of ports such as "30000-32767""#]],
    );
    check(
        "[api]\nlisten = \"here\"\n",
        expect![[r#"
        skiff.toml: TOML parse error at line 2, column 10
          |
        2 | listen = "here"
          |          ^^^^^^
        invalid socket address syntax"#]],
    );
}

#[test]
fn values_that_do_not_fit_together_are_named() {
    check(
        "[network]\npod_cidr = \"10.43.0.0/24\"\n",
        expect![[
            r#"skiff.toml: network.pod_cidr = "10.43.0.0/24" and network.service_cidr = "10.43.0.0/16" overlap: choose two separate networks"#
        ]],
    );
    check("[node]\nmax_pods = 0\n", expect!["skiff.toml: node.max_pods = 0 is out of range: allowed are 1 to 1000"]);
    check(
        "version = 2\n",
        expect![
            "skiff.toml: version = 2 is not known: this program reads version 1; a newer file needs a newer program"
        ],
    );
}

#[test]
fn what_is_not_toml_is_named() {
    check(
        "[network\n",
        expect![[r#"
        skiff.toml: TOML parse error at line 1, column 9
          |
        1 | [network
          |         ^
        unclosed table, expected `]`"#]],
    );
}

#[test]
fn settings_survive_being_written() {
    let text = "[node]\nname = \"box\"\n[ingress]\nhttp = [\"127.0.0.1:8080\"]\n[acme]\nchallenge = \"dns-01\"\n\
                [acme.dns]\nserver = \"127.0.0.1:53\"\nzone = \"example.org\"\n";
    for settings in [Settings::default(), Settings::parse("x".as_ref(), text).unwrap()] {
        assert_eq!(Settings::parse("x".as_ref(), &settings.to_toml()).unwrap(), settings);
    }
}

#[test]
fn bad_ingress_and_acme_settings() {
    let error = |text: &str| Settings::parse("skiff.toml".as_ref(), text).unwrap_err().to_string();
    let cases = [
        "[ingress]\nhttp = [\"80\"]",
        "[ingress]\nhttp = []\nhttps = []",
        "[ingress]\ntrusted_proxies = [\"10.0.0.0/33\"]",
        "[ingress]\nproxy_protocol = true",
        "[ingress]\naccess_log = \"some\"",
        "[ingress]\nconnections_max = 1",
        "[acme]\ndirectory = \"http://ca\"",
        "[acme]\nchallenge = \"http-02\"",
        "[acme]\nchallenge = \"dns-01\"",
        "[acme]\nemail = \"you\"",
        "[acme]\naccount_key_id = \"kid\"",
        "[acme.dns]\nhook = \"hook\"",
        "[acme.dns]\nserver = \"127.0.0.1:53\"",
        "[acme.dns]\nserver = \"127.0.0.1:53\"\nhook = \"/x\"",
        "[acme.dns]\nserver = \"127.0.0.1:53\"\nzone = \"a.b\"\ntsig_key = \"k\"",
        "[acme.fallback]\nprofile = \"x\"",
    ];
    let errors: Vec<String> = cases.iter().map(|c| error(c).lines().last().unwrap_or_default().to_owned()).collect();
    expect_test::expect![[r#"
        invalid socket address syntax
        skiff.toml: ingress.http and ingress.https are both empty: set ingress.enabled = false instead
        skiff.toml: ingress.trusted_proxies: "10.0.0.0/33" is not an address or a network such as "192.168.1.0/24"
        skiff.toml: ingress.proxy_protocol = true has no effect: only what ingress.trusted_proxies names may say who its client is
        unknown variant `some`, expected one of `off`, `errors`, `all`
        skiff.toml: ingress.connections_max = 1 is out of range: allowed are 16 to 1048576
        skiff.toml: acme.directory = "http://ca" is not the https:// address of a CA's directory
        unknown variant `http-02`, expected one of `http-01`, `tls-alpn-01`, `dns-01`
        skiff.toml: acme.challenge = "dns-01" needs [acme.dns] with a server or a hook
        skiff.toml: acme.email is not one mail address
        skiff.toml: acme.account_key_id and acme.account_hmac_key_file belong together
        skiff.toml: acme.dns.hook is not an absolute path
        skiff.toml: acme.dns.server needs acme.dns.zone
        skiff.toml: [acme.dns] has both a server and a hook: keep one
        skiff.toml: acme.dns.tsig_key and acme.dns.tsig_secret_file belong together
        missing field `directory`"#]].assert_eq(&errors.join("\n"));
}
