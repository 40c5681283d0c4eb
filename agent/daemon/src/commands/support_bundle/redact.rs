//! Takes secrets out of text: those that are known, in each form they may have, and what looks like one. Pure.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use regex::{Captures, Regex};

const REDACTED: &str = "[redacted]";
/// What is shorter stands in every text by chance.
const LENGTH_MIN: usize = 4;

/// What looks like a secret by itself. The first group, if there is one, stays. Whole blocks come before the known
/// secrets, which may be a part of them; the rest comes after, as it may be a part of a known secret.
static BLOCKS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    compile(&[
        // PEM, also cut off, and as it stands in a string of JSON.
        r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)",
        r"LS0tLS1CRUdJTi[A-Za-z0-9+/=_-]+",
        r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?",
    ])
});
static WORDS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    compile(&[
        r"(?i)(\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{6,}",
        // crypt(3) and its kin.
        r"\$(?:2[abxy]?|1|5|6|7|y|gy|sha1|apr1|argon2[a-z]*|pbkdf2[a-z0-9-]*|scrypt)\$[^\s\x22':]+",
        r"\{(?:SHA|SSHA|MD5)\}[A-Za-z0-9+/=]+",
        r"(://[^/\s:@]*:)[^/\s@]+@",
    ])
});

fn compile(patterns: &[&str]) -> Vec<Regex> {
    patterns.iter().map(|pattern| Regex::new(pattern).expect("the pattern is one")).collect()
}

/// A name that says that its value is secret, and the value.
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    let name = r"[\w.-]*(?:passw(?:or)?d|passphrase|secret|token|hmac|tsig|api[_-]?key|key[_-]data|private[_-]?key|credential|cookie)[\w.-]*";
    let value = r#"\\?"(?:[^"\\]|\\[^"])*\\?"|'[^']*'|[^\s,;&"'\[{\\]+"#;
    Regex::new(&format!(r#"(?i)({name}\\?"?\s*[:=]\s*)({value})"#)).expect("the pattern is one")
});

/// Names like these have the name of a thing as their value.
const NAMES_ONLY: &[&str] = &["secretname", "_file", "serviceaccounttoken", "tsig_key", "tsig_algorithm", "seconds"];

#[derive(Default)]
pub struct Redactor {
    known: BTreeSet<String>,
}

impl Redactor {
    /// Remembers a secret in the forms in which it may stand in a text.
    pub fn add(&mut self, secret: &[u8]) {
        for encoded in [BASE64_STANDARD.encode(secret), BASE64_URL_SAFE_NO_PAD.encode(secret)] {
            self.add_text(&encoded);
        }
        let Ok(text) = std::str::from_utf8(secret) else { return };
        // Logs show one line of many; files end with a line break that their readers drop.
        for part in std::iter::once(text).chain(text.lines()).flat_map(|part| [part, part.trim()]) {
            self.add_text(part);
            self.add_text(&BASE64_STANDARD.encode(part));
            self.add_text(&percent(part));
            let quoted = serde_json::to_string(part).unwrap_or_default();
            self.add_text(quoted.trim_matches('"'));
        }
    }

    fn add_text(&mut self, text: &str) {
        // PEM's own lines are no secret, but what is between them.
        if text.len() >= LENGTH_MIN && !text.starts_with("-----") {
            self.known.insert(text.to_owned());
        }
    }

    pub fn redact(&self, text: &str) -> String {
        let mut text = replace(&BLOCKS, text.to_owned());
        // The longest first: a part of a secret may be another.
        let mut known: Vec<&String> = self.known.iter().collect();
        known.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        for secret in known {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), REDACTED);
            }
        }
        text = NAMED.replace_all(&text, |found: &Captures<'_>| named(found)).into_owned();
        replace(&WORDS, text)
    }
}

fn replace(patterns: &[Regex], text: String) -> String {
    patterns.iter().fold(text, |text, pattern| {
        let kept = |found: &Captures<'_>| format!("{}{REDACTED}", found.get(1).map_or("", |group| group.as_str()));
        pattern.replace_all(&text, kept).into_owned()
    })
}

fn named(found: &Captures<'_>) -> String {
    let lower = found[1].to_lowercase();
    let is_name = NAMES_ONLY.iter().any(|name| lower.contains(name));
    if is_name { found[0].to_owned() } else { format!("{}{REDACTED}", &found[1]) }
}

fn percent(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "pa\"ss wörd/42";

    fn redactor() -> Redactor {
        let mut redactor = Redactor::default();
        redactor.add(SECRET.as_bytes());
        redactor.add(b"first-line\nsecond-line\n");
        redactor.add(&[0xff, 0xfe, 0xfd, 0xfc, 0xfb]);
        redactor
    }

    #[test]
    fn known_secrets_go_in_every_form() {
        let forms = [
            SECRET.to_owned(),
            BASE64_STANDARD.encode(SECRET),
            BASE64_URL_SAFE_NO_PAD.encode(SECRET),
            percent(SECRET),
            serde_json::to_string(SECRET).unwrap().trim_matches('"').to_owned(),
            "second-line".to_owned(),
            BASE64_STANDARD.encode("second-line"),
            BASE64_STANDARD.encode([0xff, 0xfe, 0xfd, 0xfc, 0xfb]),
        ];
        for form in forms {
            let text = redactor().redact(&format!("before {form} after"));
            assert_eq!(text, "before [redacted] after", "{form}");
        }
    }

    #[test]
    fn what_looks_like_a_secret_goes() {
        let cases = [
            ("key: -----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY----- end", "key: [redacted] end"),
            (r#"{"k":"-----BEGIN PRIVATE KEY-----\nMHcC\n-----END PRIVATE KEY-----\n"}"#, r#"{"k":"[redacted]\n"}"#),
            ("-----BEGIN PRIVATE KEY-----\ncut off", "[redacted]"),
            ("jwt eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJr.c2ln-x end", "jwt [redacted] end"),
            ("Authorization: Bearer abcdef123456 end", "Authorization: Bearer [redacted] end"),
            ("proxy-authorization: basic dXNlcjpwYXNz", "proxy-authorization: basic [redacted]"),
            ("user:$2y$05$abcdefghijklmnopqrstuv end", "user:[redacted] end"),
            ("root:$y$j9T$abc$def:19000:0", "root:[redacted]:19000:0"),
            ("u $argon2id$v=19$m=1,t=1,p=1$c2FsdA$aGFzaA end", "u [redacted] end"),
            ("user:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "user:[redacted]"),
            ("postgres://app:hunter2@db:5432/x", "postgres://app:[redacted]db:5432/x"),
            ("--db-password=hunter2 --verbose", "--db-password=[redacted] --verbose"),
            ("API_KEY: 'hunter2', other", "API_KEY: [redacted], other"),
            (r#"{"apiToken": "hunter2", "a": 1}"#, r#"{"apiToken": [redacted], "a": 1}"#),
            (r#""{\"password\":\"hunter2\",\"a\":1}""#, r#""{\"password\":[redacted],\"a\":1}""#),
            ("tsig_secret = \"c2VjcmV0\"", "tsig_secret = [redacted]"),
            ("    client-key-data: LS0tLS1CRUdJTiBFQyBQUklWQVRFIEtFWS0tLS0t", "    client-key-data: [redacted]"),
        ];
        for (text, expected) in cases {
            assert_eq!(Redactor::default().redact(text), expected);
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        let texts = [
            "tsig_secret_file = \"/etc/skiff/tsig.key\"",
            r#"{"secretName": "web-tls", "name": "a"}"#,
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
            "2026-11-21 10.42.0.7:80 -> http://a/b:c",
        ];
        for text in texts {
            assert_eq!(redactor().redact(text), text);
        }
    }
}
