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
        skiff.toml: acme.account_key_id and acme.account_hmac_key (or acme.account_hmac_key_file) belong together
        skiff.toml: acme.dns.hook is not an absolute path
        skiff.toml: acme.dns.server needs acme.dns.zone
        skiff.toml: [acme.dns] has both a server and a hook: keep one
        skiff.toml: acme.dns.tsig_key and acme.dns.tsig_secret (or acme.dns.tsig_secret_file) belong together
        skiff.toml: acme.fallback.directory = "" is not the https:// address of a CA's directory"#]].assert_eq(&errors.join("\n"));
}

#[test]
fn good_host_settings() {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f you@laptop";
    let text = format!(
        "[host]\nname = \"cellar\"\ntimezone = \"Etc/GMT+1\"\ndomain = \"home.example.org\"\nntp = [\"ptbtime1.ptb.de\", \
         \"fd00::1\"]\n[host.network]\ninterface = \"enp1s0\"\naddress = \"fd00::5/64\"\ngateway = \"fe80::1\"\n\
         dns = [\"9.9.9.9\"]\n[host.admin]\nssh_keys = [\"{key}\"]\npassword_hash = \"$6$salt$0123456789012345\"\n"
    );
    let settings = Settings::parse("skiff.toml".as_ref(), &text).unwrap();
    assert_eq!(settings.host.full_name().as_deref(), Some("cellar.home.example.org"));
    assert_eq!(settings.local_domain().as_str(), "cellar.local");
    assert_eq!(Settings::parse("x".as_ref(), &settings.to_toml()).unwrap(), settings);
    assert!(!format!("{settings:?}").contains("salt"), "a hash is never shown");
    assert_eq!(Settings::default().local_domain().as_str(), "skiff.local");
}

#[test]
fn bad_host_settings() {
    let error = |text: &str| Settings::parse("skiff.toml".as_ref(), text).unwrap_err().to_string();
    let cases = [
        "[host]\nname = \"Cellar\"",
        "[host]\nname = \"cellar.home\"",
        "[host]\ntimezone = \"../etc/shadow\"",
        "[host]\nntp = [\"a b\"]",
        "[host]\nntp = [\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\"]",
        "[host.network]\ninterface = \"*\"",
        "[host.network]\naddress = \"192.168.1.10\"",
        "[host.network]\naddress = \"192.168.1.0/24\"",
        "[host.network]\naddress = \"192.168.1.255/24\"",
        "[host.network]\naddress = \"192.168.1.10/0\"",
        "[host.network]\naddress = \"::1/64\"",
        "[host.network]\ngateway = \"192.168.1.1\"",
        "[host.network]\naddress = \"192.168.1.10/24\"\ngateway = \"192.168.2.1\"",
        "[host.network]\naddress = \"192.168.1.10/24\"\ngateway = \"fe80::1\"",
        "[host.admin]\nssh_keys = [\"ssh-dss AAAA\"]",
        "[host.admin]\nssh_keys = [\"no-pty ssh-rsa AAAA\"]",
        "[host.admin]\nssh_keys = [\"ssh-rsa\"]",
        "[host.admin]\nssh_keys = [\"ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIAAB\"]",
        "[host.admin]\nssh_keys = [\"-----BEGIN OPENSSH PRIVATE KEY-----\"]",
        "[host.admin]\npassword_hash = \"hunter2\"",
        "[host.admin]\npassword_hash = \"$1$md5$0123456789012345678\"",
        "[acme]\naccount_key_id = \"k\"\naccount_hmac_key = \"=\"",
        "[acme]\naccount_key_id = \"k\"\naccount_hmac_key = \"aaaa\"\naccount_hmac_key_file = \"/x\"",
        "[acme.dns]\nserver = \"127.0.0.1:53\"\nzone = \"a.b\"\ntsig_key = \"k\"\ntsig_secret = \"?\"",
    ];
    let errors: Vec<String> = cases.iter().map(|c| error(c).lines().last().unwrap_or_default().to_owned()).collect();
    expect_test::expect![[r#"
        "Cellar" is not a host name: at most 63 lower-case letters, digits and '-', without a dot (the domain is host.domain)
        "cellar.home" is not a host name: at most 63 lower-case letters, digits and '-', without a dot (the domain is host.domain)
        "../etc/shadow" is not a time zone such as "Europe/Zurich"
        "a b" is not a server's name or address such as "ptbtime1.ptb.de"
        skiff.toml: host.ntp has 9 entries: at most 8 are used
        "*" is not the name of an interface such as "enp1s0"
        "192.168.1.10" is not an address with its network's length such as "192.168.1.10/24"; at home it is mostly /24
        "192.168.1.0/24" is not an address that a box can have: choose one of its network's hosts
        "192.168.1.255/24" is not an address that a box can have: choose one of its network's hosts
        "192.168.1.10/0" is not an address with its network's length such as "192.168.1.10/24"
        "::1/64" is not an address that a box can have: choose one of its network's hosts
        skiff.toml: a gateway without an address has no effect: DHCP names the gateway; set host.network.address too, or remove host.network.gateway
        skiff.toml: host.network.gateway = "192.168.2.1" is not in the network of host.network.address = "192.168.1.10/24": the box could not reach it
        skiff.toml: host.network.gateway = "fe80::1" is not in the network of host.network.address = "192.168.1.10/24": the box could not reach it
        "ssh-dss" is not a type of public key: allowed are ssh-ed25519, ssh-rsa, ecdsa-sha2-nistp256, ecdsa-sha2-nistp384, ecdsa-sha2-nistp521, sk-ssh-ed25519@openssh.com, sk-ecdsa-sha2-nistp256@openssh.com
        a key with options before it is not taken: remove what is before the key's type
        the public key "ssh-rsa …" is damaged: copy the line of the .pub file again
        the public key "ssh-rsa …" is damaged: copy the line of the .pub file again
        this is a private key: never copy it anywhere; use the file that ends in .pub
        skiff.toml: line 2: this is not the hash of a password: never write the password itself here. `mkpasswd` or `openssl passwd -6` make a hash such as "$6$…"
        skiff.toml: line 2: this is not the hash of a password: never write the password itself here. `mkpasswd` or `openssl passwd -6` make a hash such as "$6$…"
        skiff.toml: line 3: this is not base64url without "=" at its end, as the CA hands it out: copy it again
        skiff.toml: acme.account_hmac_key and acme.account_hmac_key_file are both given: keep one
        skiff.toml: line 5: this is not base64, as the DNS server shows it: copy it again"#]].assert_eq(&errors.join("\n"));
}

#[test]
fn a_refused_password_is_not_repeated() {
    for value in ["\"hunter2\"", "42424242", "'hunter2"] {
        let error = Settings::parse("x".as_ref(), &format!("[host.admin]\npassword_hash = {value}\n")).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("line 2") && !error.contains("hunter2") && !error.contains("4242"), "{error}");
    }
}
