//! The forms of names: DNS labels and subdomains, qualified names, label values, port and variable names.
//!
//! Owns the forms and upstream's messages about them; which field has which form is decided by its callers.

/// What is wrong with a text, in upstream's words; empty when nothing is.
pub type Problems = Vec<String>;

/// A form that a text may be asked to have.
pub type Form = fn(&str) -> Problems;

pub const LABEL_MAX: usize = 63;
pub const SUBDOMAIN_MAX: usize = 253;

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const RFC1035: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const ALPHANUMERIC_ENDS: &str =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// Upstream's way to explain a form.
fn explain(message: &str, form: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{form}')");
    }
    let examples: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{form}')", examples.join(" or "))
}

pub fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

pub fn range(min: i64, max: i64) -> String {
    format!("must be between {min} and {max}, inclusive")
}

fn problems(checks: impl IntoIterator<Item = (bool, String)>) -> Problems {
    checks.into_iter().filter(|(wrong, _)| *wrong).map(|(_, message)| message).collect()
}

fn lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn label_form(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = bytes.first().is_some_and(|b| lower(*b)) && bytes.last().is_some_and(|b| lower(*b));
    ends && bytes.iter().all(|b| lower(*b) || *b == b'-')
}

fn subdomain_form(text: &str) -> bool {
    text.split('.').all(label_form)
}

fn qualified_form(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

/// An RFC 1123 label.
pub fn dns_label(text: &str) -> Problems {
    const MESSAGE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
    let form = match (label_form(text), subdomain_form(text)) {
        (true, _) => None,
        (false, true) => Some("must not contain dots".to_owned()),
        (false, false) => Some(explain(MESSAGE, LABEL, &["my-name", "123-abc"])),
    };
    problems([(text.len() > LABEL_MAX, too_long(LABEL_MAX))]).into_iter().chain(form).collect()
}

/// An RFC 1123 subdomain.
pub fn dns_subdomain(text: &str) -> Problems {
    const MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
    problems([
        (text.len() > SUBDOMAIN_MAX, too_long(SUBDOMAIN_MAX)),
        (!subdomain_form(text), explain(MESSAGE, SUBDOMAIN, &["example.com"])),
    ])
}

/// A name that is searched for: labels may begin with `_` and have it within.
pub fn search_domain(text: &str) -> Problems {
    const MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    let label = |label: &str| label_form(&label.strip_prefix('_').unwrap_or(label).replace('_', "-"));
    problems([
        (text.len() > SUBDOMAIN_MAX, too_long(SUBDOMAIN_MAX)),
        (!text.split('.').all(label), explain(MESSAGE, SUBDOMAIN, &["example.com"])),
    ])
}

/// The name of a CSI driver, but for its length.
pub fn driver(text: &str) -> Problems {
    dns_subdomain(&text.to_lowercase())
}

/// A kernel parameter: segments with `.` or `/` between them.
pub fn sysctl(text: &str) -> Problems {
    const SEGMENT: &str = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
    let segment = |segment: &str| label_form(&segment.replace('_', "-"));
    let form = text.len() <= SUBDOMAIN_MAX && text.split(['.', '/']).all(segment);
    let detail = format!("must have at most {SUBDOMAIN_MAX} characters and match regex ^({SEGMENT}[\\./])*{SEGMENT}$");
    problems([(!form, detail)])
}

/// What may follow the name of a host in a URL.
pub fn http_path(text: &str) -> Problems {
    let form = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    problems([(!text.bytes().all(form), explain("Invalid path", r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", &[]))])
}

/// An RFC 1035 label.
pub fn dns1035_label(text: &str) -> Problems {
    const MESSAGE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
    let form = label_form(text) && text.starts_with(|c: char| c.is_ascii_lowercase());
    problems([
        (text.len() > LABEL_MAX, too_long(LABEL_MAX)),
        (!form, explain(MESSAGE, RFC1035, &["my-name", "abc-123"])),
    ])
}

/// `*.` and a subdomain.
pub fn wildcard_subdomain(text: &str) -> Problems {
    const MESSAGE: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
    let form = text.strip_prefix("*.").is_some_and(subdomain_form);
    problems([
        (text.len() > SUBDOMAIN_MAX, too_long(SUBDOMAIN_MAX)),
        (!form, explain(MESSAGE, &format!("\\*\\.{SUBDOMAIN}"), &["*.example.com"])),
    ])
}

/// A label or annotation key, a finalizer, a resource name: `[prefix/]name`.
pub fn qualified_name(text: &str) -> Problems {
    const EXAMPLES: &[&str] = &["MyName", "my.name", "123-abc"];
    let (prefix, name) = match text.split_once('/') {
        None => (None, text),
        Some((prefix, name)) if !name.contains('/') => (Some(prefix), name),
        Some(_) => {
            let explained = explain(ALPHANUMERIC_ENDS, QUALIFIED, EXAMPLES);
            return vec![format!(
                "a qualified name {explained} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    let mut found = match prefix {
        None => Problems::new(),
        Some("") => vec!["prefix part must be non-empty".to_owned()],
        Some(prefix) => dns_subdomain(prefix).iter().map(|problem| format!("prefix part {problem}")).collect(),
    };
    found.extend(problems([
        (name.is_empty(), "name part must be non-empty".to_owned()),
        (name.len() > LABEL_MAX, format!("name part {}", too_long(LABEL_MAX))),
        (!qualified_form(name), format!("name part {}", explain(ALPHANUMERIC_ENDS, QUALIFIED, EXAMPLES))),
    ]));
    found
}

pub fn label_value(text: &str) -> Problems {
    const MESSAGE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    problems([
        (text.len() > LABEL_MAX, too_long(LABEL_MAX)),
        (!text.is_empty() && !qualified_form(text), explain(MESSAGE, LABEL_VALUE, &["MyValue", "my_value", "12345"])),
    ])
}

/// A name that only has to fit into one segment of a URL (RBAC).
pub fn path_segment(text: &str) -> Problems {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    let contains = |what: char| (text.contains(what), format!("may not contain '{what}'"));
    problems([contains('/'), contains('%')])
}

/// A key of a config map or secret.
pub fn config_key(text: &str) -> Problems {
    const MESSAGE: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
    let form = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let dots = match text {
        "." => Some("must not be '.'"),
        ".." => Some("must not be '..'"),
        text if text.starts_with("..") => Some("must not start with '..'"),
        _ => None,
    };
    problems([
        (text.len() > SUBDOMAIN_MAX, too_long(SUBDOMAIN_MAX)),
        (!form, explain(MESSAGE, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"])),
    ])
    .into_iter()
    .chain(dots.map(str::to_owned))
    .collect()
}

/// The name of an environment variable: since 1.34, printable ASCII other than `=`.
pub fn env_name(text: &str) -> Problems {
    const MESSAGE: &str =
        "a valid environment variable name must consist only of printable ASCII characters other than '='";
    let form = text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=');
    problems([(text.is_empty(), "environment variable name must be non-empty".to_owned()), (!form, MESSAGE.to_owned())])
}

/// The name of a port (an IANA service name).
pub fn port_name(text: &str) -> Problems {
    const MAX: usize = 15;
    let charset = !text.is_empty() && text.bytes().all(|b| lower(b) || b == b'-');
    problems([
        (text.len() > MAX, too_long(MAX)),
        (!charset, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned()),
        (!text.contains(|c: char| c.is_ascii_lowercase()), "must contain at least one letter (a-z)".to_owned()),
        (text.contains("--"), "must not contain consecutive hyphens".to_owned()),
        (text.starts_with('-') || text.ends_with('-'), "must not begin or end with a hyphen".to_owned()),
    ])
}

pub fn port_number(port: i64) -> Problems {
    problems([(!(1..=65535).contains(&port), range(1, 65535))])
}

pub fn percent(text: &str) -> Problems {
    let digits = text.strip_suffix('%').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    const MESSAGE: &str = "a valid percent string must be a numeric string followed by an ending '%'";
    problems([(!digits, explain(MESSAGE, "[0-9]+%", &["1%", "93%"]))])
}

pub fn http_header(text: &str) -> Problems {
    let form = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    const MESSAGE: &str = "a valid HTTP header must consist of alphanumeric characters or '-'";
    problems([(!form, explain(MESSAGE, "[-A-Za-z0-9]+", &["X-Header-Name"]))])
}

pub fn ip(text: &str) -> Problems {
    let parsed = text.parse::<std::net::IpAddr>().is_ok();
    problems([(!parsed, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned())])
}

pub fn cidr(text: &str) -> Problems {
    let max = |ip: std::net::IpAddr| if ip.is_ipv4() { 32 } else { 128 };
    let valid = text.split_once('/').is_some_and(|(ip, length)| {
        let length = length.parse::<u8>().ok().filter(|_| length.bytes().all(|b| b.is_ascii_digit()));
        matches!((ip.parse(), length), (Ok(ip), Some(length)) if length <= max(ip))
    });
    problems([(!valid, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned())])
}

/// As [`cidr`], in the one form that says it.
pub fn canonical_cidr(text: &str) -> Problems {
    let mut found = cidr(text);
    if let (true, Some(form)) = (found.is_empty(), crate::addresses::canonical_network(text)) {
        found.extend(problems([(form != text, format!("must be in canonical form (\"{form}\")"))]));
    }
    found
}

#[cfg(test)]
mod tests;
