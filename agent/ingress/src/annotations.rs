//! The annotations `ingress.skiff.dev/…` of an Ingress: what there is, what each allows, and what it chooses. Pure.

use std::time::Duration;

use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt;
use skiff_object::quantity::Quantity;

use crate::config::Challenge;
use crate::proxy::is_network;
use crate::table::{Options, Protocol, RateLimit};

pub const PREFIX: &str = "ingress.skiff.dev/";

/// Every annotation: its name, what it allows, its default, and what it does. The README's table is made from this one.
pub const ALL: &[(&str, &str, &str, &str)] = &[
    (
        "certificate",
        "`acme` or `box-ca`",
        "",
        "order the named Secret's certificate from a public CA; or take the box CA's",
    ),
    (
        "acme-challenge",
        "`http-01`, `tls-alpn-01` or `dns-01`",
        "`acme.challenge`",
        "how the names are proved to the CA",
    ),
    ("connect-timeout", "a time such as `500ms`, `5s`", "`2s`", "to reach an instance before another is tried"),
    ("response-timeout", "a time", "`60s`", "until the application begins its answer"),
    ("idle-timeout", "a time", "`1h`", "without a byte in a body, an event stream or a WebSocket"),
    ("body-size-max", "a quantity such as `512Mi`", "`ingress.body_mebibytes_max`", "the largest request body"),
    ("allow", "networks, separated by commas", "everybody", "addresses that may ask; others get 403"),
    (
        "basic-auth-secret",
        "the name of a Secret",
        "",
        "ask for a password: `username` and `password`, or an htpasswd file in `auth`",
    ),
    ("basic-auth-realm", "text", "the Ingress's name", "what the password is for"),
    (
        "auth-url",
        "`http://SERVICE.NAMESPACE.svc[:PORT]/PATH`",
        "",
        "a Service that decides on each request: 2xx lets it pass",
    ),
    ("auth-sign-in", "a URL", "", "where browsers go that `auth-url` answers 401"),
    (
        "auth-response-headers",
        "header names, separated by commas",
        "",
        "headers of that Service's answer for the application",
    ),
    ("rate-limit", "`NUMBER/s`, `NUMBER/m` or `NUMBER/h`", "no limit", "requests of one client"),
    ("rate-limit-burst", "a number", "5 × the limit", "requests that may come at once"),
    ("session-cookie", "a cookie name", "", "keep a client with the instance it began with"),
    ("ssl-redirect", "`true` or `false`", "`true`", "send plain HTTP to HTTPS where there is TLS"),
    ("hsts-seconds", "a number", "15724800", "tell browsers to insist on HTTPS; 0: do not"),
    ("compress", "`true` or `false`", "`true`", "compress texts with zstd or gzip"),
    (
        "backend-protocol",
        "`http` or `h2c`",
        "the port's `appProtocol`",
        "how to speak to the application; gRPC needs `h2c`",
    ),
];

/// Where the certificate is to come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// The Secret if one is named, else a public CA for public names, else the box CA.
    Unsaid,
    /// A public CA, into the Secret that is named.
    Acme,
    BoxCa,
}

fn value<'a>(ingress: &'a Ingress, name: &str) -> Option<&'a str> {
    let annotations = ingress.metadata.annotations.as_ref()?;
    let found = annotations.iter().find(|(key, _)| key.strip_prefix(PREFIX) == Some(name));
    found.map(|(_, value)| value.as_str())
}

pub fn certificate(ingress: &Ingress) -> Certificate {
    match value(ingress, "certificate") {
        Some("acme") => Certificate::Acme,
        Some("box-ca") => Certificate::BoxCa,
        Some(_) | None => Certificate::Unsaid,
    }
}

pub fn acme_challenge(ingress: &Ingress) -> Option<Challenge> {
    Challenge::parse(value(ingress, "acme-challenge")?)
}

/// What is chosen for an Ingress.
#[derive(Debug)]
pub struct Chosen {
    /// What needs other objects (passwords, the deciding Service) is not filled in yet.
    pub options: Options,
    pub protocol: Option<Protocol>,
    pub basic_auth_secret: Option<String>,
    pub basic_auth_realm: String,
    pub auth_url: Option<AuthUrl>,
    pub says_hsts: bool,
    /// A sentence for each annotation that is not known or not valid; its default counts then.
    pub errors: Vec<Mistake>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mistake {
    Unknown(String),
    Invalid(String),
}

/// Parts of `auth-url`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthUrl {
    pub service: String,
    pub namespace: String,
    pub port: u16,
    pub path: String,
    pub sign_in: Option<String>,
    pub headers: Vec<String>,
}

impl AuthUrl {
    fn parse(text: &str, cluster_domain: &str) -> Option<Self> {
        let uri: http::Uri = text.parse().ok()?;
        if uri.scheme_str() != Some("http") {
            return None;
        }
        let host = uri.host()?;
        let name = host.strip_suffix(&format!(".{cluster_domain}")).unwrap_or(host).strip_suffix(".svc")?;
        let (service, namespace) = name.split_once('.')?;
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        Some(Self {
            service: service.to_owned(),
            namespace: namespace.to_owned(),
            port: uri.port_u16().unwrap_or(80),
            path: path.to_owned(),
            sign_in: None,
            headers: Vec::new(),
        })
    }
}

fn duration_ms(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        "h" => Duration::from_secs(3600),
        _ => return None,
    };
    let ms = number.checked_mul(u64::try_from(unit.as_millis()).ok()?)?;
    // A week is as good as for ever, and no sum overflows.
    (1..=7 * 24 * 3_600_000).contains(&ms).then_some(ms)
}

fn boolean(text: &str) -> Option<bool> {
    text.parse().ok()
}

/// A quantity of bytes.
pub fn bytes(text: &str) -> Option<u64> {
    let value = text.parse::<Quantity>().ok()?.value();
    u64::try_from(value).ok()
}

fn rate(text: &str) -> Option<(u32, u32)> {
    let (number, unit) = text.split_once('/')?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    number.parse().ok().filter(|n| *n > 0).map(|n| (n, seconds))
}

fn cookie_name(text: &str) -> Option<String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    (!text.is_empty() && text.len() <= 64 && text.bytes().all(good)).then(|| text.to_owned())
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn networks(text: &str) -> Option<Vec<String>> {
    let all: Vec<String> = list(text).map(str::to_owned).collect();
    (!all.is_empty() && all.iter().all(|n| is_network(n))).then_some(all)
}

/// Not those that say how a request is framed and sent.
fn header_names(text: &str) -> Option<Vec<String>> {
    const FRAMING: [&str; 8] =
        ["connection", "content-length", "expect", "host", "keep-alive", "te", "transfer-encoding", "upgrade"];
    let valid = |name: &str| http::HeaderName::from_bytes(name.as_bytes()).is_ok() && !FRAMING.contains(&name);
    let all: Vec<String> = list(text).map(str::to_lowercase).collect();
    all.iter().all(|n| valid(n)).then_some(all)
}

pub fn defaults(body_bytes_max: u64) -> Options {
    Options {
        connect_timeout_ms: 2_000,
        response_timeout_ms: 60_000,
        idle_timeout_ms: 3_600_000,
        body_bytes_max,
        allow: Vec::new(),
        basic_auth: None,
        forward_auth: None,
        rate_limit: None,
        session_cookie: None,
        ssl_redirect: true,
        hsts_seconds: 15_724_800,
        compress: true,
    }
}

struct Reader<'a> {
    ingress: &'a Ingress,
    errors: Vec<Mistake>,
}

impl Reader<'_> {
    /// The annotation's value if there is one and it is valid.
    fn read<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = value(self.ingress, name)?;
        let parsed = parse(text.trim());
        if parsed.is_none() {
            let allowed = ALL.iter().find(|(n, ..)| *n == name).map_or("", |(_, allowed, ..)| allowed);
            self.errors
                .push(Mistake::Invalid(format!("{PREFIX}{name}: \"{text}\" is not {}", allowed.replace('`', ""))));
        }
        parsed
    }
}

pub fn choose(ingress: &Ingress, body_bytes_max: u64, cluster_domain: &str) -> Chosen {
    let mut reader = Reader { ingress, errors: unknown(ingress) };
    let r = &mut reader;
    let base = defaults(body_bytes_max);
    let rate_limit = r.read("rate-limit", rate);
    let burst = r.read("rate-limit-burst", |text| text.parse().ok().filter(|n| *n > 0));
    let rate_limit = rate_limit.map(|(requests, per_seconds)| RateLimit {
        requests,
        per_seconds,
        burst: burst.unwrap_or(requests.saturating_mul(5)),
    });
    let hsts = r.read("hsts-seconds", |text| text.parse().ok());
    r.read("certificate", |text| ["acme", "box-ca"].contains(&text).then_some(()));
    r.read("acme-challenge", Challenge::parse);
    let options = Options {
        connect_timeout_ms: r.read("connect-timeout", duration_ms).unwrap_or(base.connect_timeout_ms),
        response_timeout_ms: r.read("response-timeout", duration_ms).unwrap_or(base.response_timeout_ms),
        idle_timeout_ms: r.read("idle-timeout", duration_ms).unwrap_or(base.idle_timeout_ms),
        body_bytes_max: r.read("body-size-max", bytes).unwrap_or(body_bytes_max),
        allow: allowed(r),
        rate_limit,
        session_cookie: r.read("session-cookie", cookie_name),
        ssl_redirect: r.read("ssl-redirect", boolean).unwrap_or(base.ssl_redirect),
        hsts_seconds: hsts.unwrap_or(base.hsts_seconds),
        compress: r.read("compress", boolean).unwrap_or(base.compress),
        basic_auth: None,
        forward_auth: None,
    };
    let protocol = r.read("backend-protocol", |text| match text {
        "http" => Some(Protocol::Http1),
        "h2c" => Some(Protocol::H2c),
        _ => None,
    });
    let sign_in =
        r.read("auth-sign-in", |t| t.parse::<http::Uri>().ok().filter(|u| u.host().is_some()).map(|_| t.to_owned()));
    let headers = r.read("auth-response-headers", header_names).unwrap_or_default();
    let auth_url = r.read("auth-url", |text| AuthUrl::parse(text, cluster_domain));
    let non_empty = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Chosen {
        options,
        protocol,
        basic_auth_secret: r.read("basic-auth-secret", non_empty),
        basic_auth_realm: r.read("basic-auth-realm", non_empty).unwrap_or_else(|| ingress.name_any()),
        auth_url: auth_url.map(|url| AuthUrl { sign_in, headers, ..url }),
        says_hsts: hsts.is_some(),
        errors: reader.errors,
    }
}

/// What is meant to keep people out keeps everybody out when it cannot be read.
fn allowed(reader: &mut Reader<'_>) -> Vec<String> {
    const NOBODY: &str = "255.255.255.255/32";
    match (value(reader.ingress, "allow").is_some(), reader.read("allow", networks)) {
        (_, Some(networks)) => networks,
        (true, None) => vec![NOBODY.to_owned()],
        (false, None) => Vec::new(),
    }
}

/// Whether access control is asked for that could not be understood: nobody may pass then.
pub fn has_broken_auth(ingress: &Ingress, chosen: &Chosen) -> bool {
    let asked = |name| value(ingress, name).is_some();
    (asked("auth-url") && chosen.auth_url.is_none())
        || (asked("basic-auth-secret") && chosen.basic_auth_secret.is_none())
}

fn unknown(ingress: &Ingress) -> Vec<Mistake> {
    let own = ingress.annotations().keys().filter_map(|key| key.strip_prefix(PREFIX));
    let unknown = own.filter(|name| !ALL.iter().any(|(known, ..)| known == name));
    unknown
        .map(|name| {
            let nearest = ALL.iter().map(|(known, ..)| *known).min_by_key(|known| distance(name, known));
            let nearest = nearest.filter(|known| distance(name, known) <= 3);
            let hint = nearest.map(|known| format!("; did you mean {PREFIX}{known}?")).unwrap_or_default();
            Mistake::Unknown(format!("{PREFIX}{name} is not known{hint}"))
        })
        .collect()
}

/// Letters to change, add or leave out.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(annotations: &[(&str, &str)]) -> Ingress {
        let mut ingress = Ingress::default();
        ingress.metadata.name = Some("web".to_owned());
        let all = annotations.iter().map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned()));
        ingress.metadata.annotations = Some(all.collect());
        ingress
    }

    fn choose_from(annotations: &[(&str, &str)]) -> Chosen {
        choose(&with(annotations), 1 << 30, "cluster.local")
    }

    #[test]
    fn values() {
        let chosen = choose_from(&[
            ("response-timeout", "5m"),
            ("body-size-max", "512Mi"),
            ("allow", "10.0.0.0/8, 192.168.1.1"),
            ("rate-limit", "10/m"),
            ("session-cookie", "route"),
            ("ssl-redirect", "false"),
            ("backend-protocol", "h2c"),
            ("auth-url", "http://auth.sso.svc.cluster.local:8080/verify?a=b"),
            ("auth-response-headers", "Remote-User, Remote-Groups"),
        ]);
        assert_eq!(chosen.errors, []);
        let o = &chosen.options;
        assert_eq!((o.response_timeout_ms, o.body_bytes_max, o.ssl_redirect), (300_000, 512 << 20, false));
        assert_eq!(o.rate_limit, Some(RateLimit { requests: 10, per_seconds: 60, burst: 50 }));
        assert_eq!(chosen.protocol, Some(Protocol::H2c));
        let url = chosen.auth_url.unwrap();
        assert_eq!((&*url.service, &*url.namespace, url.port, &*url.path), ("auth", "sso", 8080, "/verify?a=b"));
        assert_eq!(url.headers, ["remote-user", "remote-groups"]);
    }

    #[test]
    fn mistakes_are_said_and_defaults_count() {
        let chosen = choose_from(&[
            ("response-timeout", "5"),
            ("body-size-max", "-1"),
            ("rate-limit", "0/s"),
            ("session-cookie", "a b"),
            ("compres", "true"),
            ("nonsense-of-mine", "x"),
            ("auth-url", "https://example.org/"),
            ("auth-response-headers", "X-Email, Content-Length"),
        ]);
        let text: Vec<String> = chosen.errors.iter().map(|e| format!("{e:?}")).collect();
        expect_test::expect![[r#"
            Unknown("ingress.skiff.dev/compres is not known; did you mean ingress.skiff.dev/compress?")
            Unknown("ingress.skiff.dev/nonsense-of-mine is not known")
            Invalid("ingress.skiff.dev/rate-limit: \"0/s\" is not NUMBER/s, NUMBER/m or NUMBER/h")
            Invalid("ingress.skiff.dev/response-timeout: \"5\" is not a time")
            Invalid("ingress.skiff.dev/body-size-max: \"-1\" is not a quantity such as 512Mi")
            Invalid("ingress.skiff.dev/session-cookie: \"a b\" is not a cookie name")
            Invalid("ingress.skiff.dev/auth-response-headers: \"X-Email, Content-Length\" is not header names, separated by commas")
            Invalid("ingress.skiff.dev/auth-url: \"https://example.org/\" is not http://SERVICE.NAMESPACE.svc[:PORT]/PATH")"#]]
        .assert_eq(&text.join("\n"));
        assert_eq!(chosen.options, defaults(1 << 30));
    }

    #[test]
    fn the_readme_lists_every_annotation() {
        let readme = include_str!("../../../README.md");
        for (name, allowed, default, does) in ALL {
            let row = format!("| `{name}` | {allowed} | {default} | {does} |");
            assert!(readme.contains(&row), "missing in README.md: {row}");
        }
    }

    #[test]
    fn what_keeps_people_out_fails_closed() {
        let chosen = choose_from(&[("allow", "10.0.0.0/8, home")]);
        assert_eq!(chosen.options.allow, ["255.255.255.255/32"]);
        let ingress = with(&[("auth-url", "nonsense")]);
        assert!(has_broken_auth(&ingress, &choose(&ingress, 0, "cluster.local")));
    }
}
