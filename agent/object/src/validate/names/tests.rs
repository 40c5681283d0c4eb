//! The forms at their edges, and the exact text of the messages.

use super::*;
use expect_test::expect;

#[test]
fn messages() {
    let lines = [
        dns_subdomain("A_b"),
        dns_label("a.b"),
        dns1035_label("1a"),
        qualified_name("a/b/c"),
        qualified_name("/a"),
        qualified_name("Ex.com/-a"),
        label_value("-"),
        path_segment("a/b"),
        config_key("..a"),
        env_name("a=b"),
        port_name("80"),
        ip("x"),
        cidr("x"),
    ];
    let lines: Vec<String> = lines.iter().map(|problems| problems.join("; ")).collect();
    expect![[r#"
        a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        must not contain dots
        a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
        a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')
        prefix part must be non-empty
        prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'); name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
        may not contain '/'
        must not start with '..'
        a valid environment variable name must consist only of printable ASCII characters other than '='
        must contain at least one letter (a-z)
        must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn edges() {
    let long = "a".repeat(63);
    assert!(dns_label(&long).is_empty() && !dns_label(&format!("{long}a")).is_empty());
    assert!(!dns_label("").is_empty() && !dns_subdomain("a..b").is_empty() && !dns_label("a-").is_empty());
    assert!(qualified_name("example.com/a_b.C").is_empty() && label_value("").is_empty());
    assert!(port_name("http-1").is_empty() && port_number(65535).is_empty() && !port_number(0).is_empty());
    assert!(cidr("10.0.0.0/8").is_empty() && !cidr("10.0.0.0/33").is_empty() && cidr("::/0").is_empty());
    assert!(percent("10%").is_empty() && !percent("%").is_empty());
}
