//! `skiff.toml` as a person left it on the boot partition: everything right in it is honoured, everything wrong is left
//! out and named, and secrets are taken out of it.
//!
//! Pure and total: any bytes give settings. `skiff check` and the agent stay strict; they never see such a file.

mod statements;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use skiff_settings::{InterfaceAddress, Settings};
use toml::{Table, Value};

use statements::{Content, Statement};

/// The file with every comment is 8 KiB; more than this is another file.
pub const SIZE_BYTES_MAX: usize = 256 * 1024;
/// More than these are counted and not listed: they would be of one cause.
const ERRORS_MAX: usize = 50;
/// Each round leaves out what one conflict names. There are fewer conflicts than this.
const ROUNDS_MAX: usize = 32;
/// A message that repeats a huge value is cut.
const MESSAGE_CHARS_MAX: usize = 400;

/// A secret that is kept in the state, and not on a partition that every computer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretKey {
    PasswordHash,
    AccountHmacKey,
    FallbackAccountHmacKey,
    TsigSecret,
}

impl SecretKey {
    pub const ALL: [Self; 4] =
        [Self::PasswordHash, Self::AccountHmacKey, Self::FallbackAccountHmacKey, Self::TsigSecret];

    pub fn path(self) -> &'static str {
        match self {
            Self::PasswordHash => "host.admin.password_hash",
            Self::AccountHmacKey => "acme.account_hmac_key",
            Self::FallbackAccountHmacKey => "acme.fallback.account_hmac_key",
            Self::TsigSecret => "acme.dns.tsig_secret",
        }
    }

    /// The name of its file.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::PasswordHash => "password_hash",
            Self::AccountHmacKey => "account_hmac_key",
            Self::FallbackAccountHmacKey => "fallback_account_hmac_key",
            Self::TsigSecret => "tsig_secret",
        }
    }

    fn name(self) -> &'static str {
        self.path().rsplit('.').next().unwrap_or_default()
    }

    /// The setting that names its file, and the one it has no effect without. The agent never needs a password.
    fn file_settings(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::PasswordHash => None,
            Self::AccountHmacKey => Some(("acme.account_hmac_key_file", "acme.account_key_id")),
            Self::FallbackAccountHmacKey => {
                Some(("acme.fallback.account_hmac_key_file", "acme.fallback.account_key_id"))
            }
            Self::TsigSecret => Some(("acme.dns.tsig_secret_file", "acme.dns.tsig_key")),
        }
    }
}

/// What the file asks to be done with a secret.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretChange {
    Keep(String),
    Remove,
}

impl fmt::Debug for SecretChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keep(_) => "Keep(…)",
            Self::Remove => "Remove",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Counted from one; none if it is of the whole file.
    pub line: Option<usize>,
    pub key: Option<String>,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        match &self.key {
            Some(key) if !self.message.starts_with(key.as_str()) => write!(f, "{key}: {}", self.message),
            Some(_) | None => f.write_str(&self.message),
        }
    }
}

/// What a file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Without secrets: they are in files that these settings name.
    pub settings: Settings,
    pub errors: Vec<Error>,
    pub secrets: BTreeMap<SecretKey, SecretChange>,
    /// The file without its secrets; none if there was none in it.
    pub scrubbed: Option<Vec<u8>>,
}

/// What is known beside the file.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// The secrets that were taken over earlier.
    pub stored: &'a BTreeSet<SecretKey>,
    pub secrets_dir: &'a Path,
    /// For the comment that takes a secret's place.
    pub today: &'a str,
}

/// A file that is no text of this kind at all.
pub fn refuse(bytes: &[u8]) -> Option<&'static str> {
    if bytes.len() > SIZE_BYTES_MAX {
        Some("the file is larger than 256 KiB: it is not a settings file; put the one of the image back")
    } else if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        Some("the file is saved as UTF-16 (\"Unicode\"): save it again with the encoding UTF-8")
    } else {
        None
    }
}

/// The settings of a file and what is wrong with it.
pub fn read(bytes: &[u8], context: &Context<'_>) -> Reading {
    if let Some(message) = refuse(bytes) {
        let error = Error { line: None, key: None, message: message.to_owned() };
        let mut reading = read(b"", context);
        reading.errors.push(error);
        return reading;
    }
    let raw = raw_lines(bytes);
    let lines: Vec<String> = raw.iter().map(|range| text_of(&bytes[range.clone()], range.start)).collect();
    let mut reader = Reader::default();
    for statement in statements::parse(&lines) {
        reader.take(&statement, &lines);
    }
    reader.name_secret_files(context);
    let settings = reader.settle();
    let scrubbed = scrub(bytes, &raw, &reader, context.today);
    Reading { settings, errors: reader.told(), secrets: reader.secrets, scrubbed }
}

/// The lines of a file, each with its end.
fn raw_lines(bytes: &[u8]) -> Vec<Range<usize>> {
    let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let mut start = 0;
    let mut lines = Vec::new();
    for end in ends.chain([bytes.len()]) {
        if end > start {
            lines.push(start..end);
        }
        start = end;
    }
    lines
}

/// A line without its end and the mark that some editors put before the first. What is no UTF-8 is broken as TOML, too.
fn text_of(line: &[u8], start: usize) -> String {
    let line = if start == 0 { line.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(line) } else { line };
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match std::str::from_utf8(line) {
        Ok(text) => text.to_owned(),
        // A control character, so that not even a string or a comment may hold it.
        Err(_) => String::from_utf8_lossy(line).replace('\u{fffd}', "\u{1}"),
    }
}

#[derive(Default)]
struct Reader {
    /// The table that the next keys are in; none below a header that was broken.
    table: Table,
    header: Header,
    headers: BTreeSet<Vec<String>>,
    /// Where each key that counts is.
    lines: BTreeMap<String, usize>,
    errors: Vec<Error>,
    errors_left_out: usize,
    secrets: BTreeMap<SecretKey, SecretChange>,
    /// The lines that secrets stand in.
    secret_lines: Vec<(SecretKey, Range<usize>)>,
}

enum Header {
    Known(Vec<String>),
    /// What is below one that cannot be read or is not known counts nowhere.
    Unknown,
}

impl Default for Header {
    fn default() -> Self {
        Self::Known(Vec::new())
    }
}

impl Reader {
    fn take(&mut self, statement: &Statement, lines: &[String]) {
        let line = statement.lines.start + 1;
        match &statement.content {
            Content::Broken { key, is_header, message } => {
                if *is_header {
                    self.header = Header::Unknown;
                }
                let text = &lines[statement.lines.start];
                self.tell(Some(line), key.clone(), syntax_message(message, text, *is_header));
            }
            Content::Header(path) => self.take_header(path, line),
            Content::Entry { key, value } => match &self.header {
                Header::Known(header) => {
                    let path = header.iter().chain(key).cloned().collect();
                    self.take_entry(path, value.clone(), statement);
                }
                Header::Unknown => {
                    let message = "it counts nowhere: the header above it, in [ ], is wrong";
                    self.tell(Some(line), Some(key.join(".")), message);
                }
            },
        }
    }

    fn take_header(&mut self, path: &[String], line: usize) {
        let shown = format!("[{}]", path.join("."));
        match check_alone(path, Value::Table(Table::new())) {
            Err(message) => {
                self.header = Header::Unknown;
                self.tell(Some(line), None, format!("{shown}: {message}"));
            }
            Ok(()) => {
                self.header = Header::Known(path.to_vec());
                if !self.headers.insert(path.to_vec()) {
                    self.tell(
                        Some(line),
                        None,
                        format!("{shown} is given twice; the keys of both count: put them together"),
                    );
                }
            }
        }
    }

    fn take_entry(&mut self, path: Vec<String>, value: Value, statement: &Statement) {
        let line = Some(statement.lines.start + 1);
        let shown = path.join(".");
        let secret = SecretKey::ALL.into_iter().find(|secret| secret.path() == shown);
        if secret.is_none() && holds_secret(&path, &value) {
            self.tell(line, Some(shown), "a secret has to stand on a line of its own, so that the box can remove it");
            return;
        }
        if let Some(first) = self.lines.get(&shown) {
            let message = format!("it is given in line {} already, which counts: remove one of them", first + 1);
            self.tell(line, Some(shown), message);
            // Else it would be taken over at the next boot.
            self.secret_lines.extend(secret.map(|secret| (secret, statement.lines.clone())));
            return;
        }
        let is_text = value.is_str();
        let empty = value.as_str().is_some_and(|text| text.trim().is_empty());
        let checked = match secret {
            Some(_) if !is_text => Err("a secret is a text in quotes".to_owned()),
            Some(_) if empty => Ok(()),
            Some(_) | None => check_alone(&path, value.clone()),
        };
        if let Err(message) = checked {
            self.tell(line, Some(shown), message);
            return;
        }
        self.lines.insert(shown, statement.lines.start);
        match secret {
            Some(secret) => {
                let text = value.as_str().unwrap_or_default().trim();
                let change = if empty { SecretChange::Remove } else { SecretChange::Keep(text.to_owned()) };
                self.secrets.insert(secret, change);
                self.secret_lines.push((secret, statement.lines.clone()));
            }
            None => insert(&mut self.table, &path, value),
        }
    }

    /// Secrets that are kept are known to the agent by their files.
    fn name_secret_files(&mut self, context: &Context<'_>) {
        for secret in SecretKey::ALL {
            let Some((file_setting, companion)) = secret.file_settings() else { continue };
            let kept = match self.secrets.get(&secret) {
                Some(SecretChange::Keep(_)) => true,
                Some(SecretChange::Remove) => false,
                None => context.stored.contains(&secret) && !self.lines.contains_key(file_setting),
            };
            if kept && self.lines.contains_key(file_setting) {
                let line = self.lines.get(secret.path()).map(|line| line + 1);
                let message =
                    format!("{} and {file_setting} are both given: the former counts; keep one", secret.path());
                self.tell(line, Some(file_setting.to_owned()), message);
            }
            if kept && self.lines.contains_key(companion) {
                let file: PathBuf = context.secrets_dir.join(secret.file_name());
                let path: Vec<String> = file_setting.split('.').map(str::to_owned).collect();
                remove(&mut self.table, file_setting);
                insert(&mut self.table, &path, Value::String(file.to_string_lossy().into_owned()));
            } else if matches!(self.secrets.get(&secret), Some(SecretChange::Keep(_))) {
                let line = self.lines.get(secret.path()).map(|line| line + 1);
                let message = format!("{} has no effect without {companion}: add it", secret.path());
                self.tell(line, Some(secret.path().to_owned()), message);
            }
        }
    }

    /// The settings of what is left when everything that does not fit together is left out.
    fn settle(&mut self) -> Settings {
        for _ in 0..ROUNDS_MAX {
            let settings: Settings = match self.table.clone().try_into() {
                Ok(settings) => settings,
                Err(error) => {
                    // Each was right alone.
                    self.tell(None, None, format!("the defaults are used: {}", error.message()));
                    return Settings::default();
                }
            };
            let Some(conflict) = settings.conflicts().into_iter().next() else { return settings };
            let below = |key: &String, named: &str| key == named || key.starts_with(&format!("{named}."));
            let named = |key: &&String| conflict.keys.iter().any(|named| below(key, named));
            let line = self.lines.iter().filter(|(key, _)| named(key)).map(|(_, line)| line + 1).min();
            self.tell(line, conflict.keys.first().map(|key| (*key).to_owned()), conflict.message.clone());
            let removed = conflict.keys.iter().filter(|key| remove(&mut self.table, key)).count();
            if removed == 0 {
                break;
            }
        }
        self.tell(None, None, "the settings do not fit together: the defaults are used");
        Settings::default()
    }

    fn tell(&mut self, line: Option<usize>, key: Option<String>, message: impl Into<String>) {
        if self.errors.len() == ERRORS_MAX {
            self.errors_left_out += 1;
            return;
        }
        let message: String = message.into();
        let message = message.chars().take(MESSAGE_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.errors.push(Error { line, key, message });
    }

    /// In the order of the file.
    fn told(&mut self) -> Vec<Error> {
        let mut errors = std::mem::take(&mut self.errors);
        errors.sort_by_key(|error| error.line);
        if self.errors_left_out > 0 {
            let message = format!("and {} more errors", self.errors_left_out);
            errors.push(Error { line: None, key: None, message });
        }
        errors
    }
}

/// Whether a value is possible in its place, whatever else the file says.
fn check_alone(path: &[String], value: Value) -> Result<(), String> {
    let mut table = Table::new();
    insert(&mut table, path, value);
    let parsed: Result<Settings, _> = table.try_into();
    parsed.map(drop).map_err(|error| error.message().to_owned())
}

/// Whether an inline table has a secret in it.
fn holds_secret(path: &[String], value: &Value) -> bool {
    let Value::Table(table) = value else { return false };
    table.iter().any(|(name, inner)| {
        let path: Vec<String> = path.iter().chain([name]).cloned().collect();
        SecretKey::ALL.iter().any(|secret| secret.path() == path.join(".")) || holds_secret(&path, inner)
    })
}

/// Puts a value in its place; tables that are there are kept.
fn insert(table: &mut Table, path: &[String], value: Value) {
    let Some((name, rest)) = path.split_first() else { return };
    match (rest.is_empty(), table.get_mut(name), value) {
        (true, Some(Value::Table(there)), Value::Table(more)) => there.extend(more),
        (true, _, value) => {
            table.insert(name.clone(), value);
        }
        (false, Some(Value::Table(there)), value) => insert(there, rest, value),
        (false, _, value) => {
            let mut inner = Table::new();
            insert(&mut inner, rest, value);
            table.insert(name.clone(), Value::Table(inner));
        }
    }
}

/// Whether there was something to remove.
fn remove(table: &mut Table, path: &str) -> bool {
    match path.split_once('.') {
        None => table.remove(path).is_some(),
        Some((name, rest)) => match table.get_mut(name) {
            Some(Value::Table(inner)) => remove(inner, rest),
            Some(_) | None => false,
        },
    }
}

fn syntax_message(message: &str, line: &str, is_header: bool) -> String {
    if line.contains(['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}', '\u{00ab}', '\u{00bb}']) {
        return "it has quotes as a word processor writes them: write straight quotes (\")".to_owned();
    }
    if line.contains('\u{1}') {
        return "it has characters that are not UTF-8: write them again and save the file as UTF-8".to_owned();
    }
    if line.contains('\0') {
        return "it has characters that are no text: write the line again".to_owned();
    }
    if is_header {
        return format!("a header is a name in [ ]: {}", one_line(message));
    }
    match line.split_once('=') {
        None => "this is not KEY = VALUE: correct it, or put # before it".to_owned(),
        Some((_, value)) if value.trim().is_empty() => "the value is missing".to_owned(),
        Some((_, _)) => format!("this is not KEY = VALUE with text in quotes: {}", one_line(message)),
    }
}

fn one_line(message: &str) -> String {
    message.lines().collect::<Vec<_>>().join("; ")
}

/// The file with a comment in each secret's place, and everything else byte for byte as it was.
fn scrub(bytes: &[u8], raw: &[Range<usize>], reader: &Reader, today: &str) -> Option<Vec<u8>> {
    if reader.secret_lines.is_empty() {
        return None;
    }
    let mut scrubbed = Vec::with_capacity(bytes.len());
    for (at, range) in raw.iter().enumerate() {
        let line = &bytes[range.clone()];
        let Some((secret, lines)) = reader.secret_lines.iter().find(|(_, lines)| lines.contains(&at)) else {
            scrubbed.extend_from_slice(line);
            continue;
        };
        if at == lines.start {
            if at == 0 && line.starts_with(&[0xef, 0xbb, 0xbf]) {
                scrubbed.extend_from_slice(&[0xef, 0xbb, 0xbf]);
            }
            let name = secret.name();
            let done = match reader.secrets.get(secret) {
                Some(SecretChange::Keep(_)) => "taken over",
                Some(SecretChange::Remove) | None => "removed",
            };
            let comment = format!("# {name}: {done} on {today}; write the key again to change it");
            scrubbed.extend_from_slice(comment.as_bytes());
        }
        if at + 1 == lines.end {
            let end: &[u8] = if line.ends_with(b"\r\n") {
                b"\r\n"
            } else if line.ends_with(b"\n") {
                b"\n"
            } else {
                b""
            };
            scrubbed.extend_from_slice(end);
        }
    }
    Some(scrubbed)
}

/// The file with another address of the box, or none; everything else byte for byte as it was.
pub fn with_network(
    bytes: &[u8],
    address: Option<InterfaceAddress>,
    gateway: Option<IpAddr>,
    dns: &[IpAddr],
) -> Vec<u8> {
    const TABLE: &str = "host.network";
    let raw = raw_lines(bytes);
    let lines: Vec<String> = raw.iter().map(|range| text_of(&bytes[range.clone()], range.start)).collect();
    let end = if raw.first().is_some_and(|line| bytes[line.clone()].ends_with(b"\r\n")) { "\r\n" } else { "\n" };
    let mut header: Option<Vec<String>> = Some(Vec::new());
    let (mut dropped, mut insert_after, mut own) = (BTreeSet::new(), None, String::new());
    for statement in statements::parse(&lines) {
        match statement.content {
            Content::Header(path) => {
                if path.join(".") == TABLE {
                    insert_after = Some(statement.lines.start);
                }
                header = Some(path);
            }
            Content::Broken { is_header: true, .. } => header = None,
            Content::Broken { is_header: false, key, .. } => {
                let in_table = header.as_ref().is_some_and(|path| path.join(".") == TABLE);
                if in_table && key.is_some_and(|key| is_of_address(&format!("{TABLE}.{key}"))) {
                    dropped.extend(statement.lines);
                }
            }
            Content::Entry { key, value } => {
                let path = header.iter().flatten().chain(&key).cloned().collect::<Vec<_>>().join(".");
                if header.is_none() || !(path == TABLE || is_of_address(&path)) {
                    continue;
                }
                dropped.extend(statement.lines);
                // Of a table on one line the rest moves below.
                for (key, value) in value.as_table().into_iter().flatten() {
                    if !is_of_address(&format!("{TABLE}.{key}")) {
                        own.push_str(&format!("{key} = {value}{end}"));
                    }
                }
            }
        }
    }
    own.push_str(&address_keys(address, gateway, dns, end));
    let mut text = Vec::with_capacity(bytes.len() + own.len());
    for (at, range) in raw.iter().enumerate() {
        if !dropped.contains(&at) {
            text.extend_from_slice(&bytes[range.clone()]);
        }
        if insert_after == Some(at) {
            if !text.ends_with(b"\n") {
                text.extend_from_slice(end.as_bytes());
            }
            text.extend_from_slice(own.as_bytes());
        }
    }
    if insert_after.is_none() && !own.is_empty() {
        if !text.is_empty() && !text.ends_with(b"\n") {
            text.extend_from_slice(end.as_bytes());
        }
        text.extend_from_slice(format!("{end}[{TABLE}]{end}{own}").as_bytes());
    }
    text
}

/// The keys of an address as lines of their table.
fn address_keys(address: Option<InterfaceAddress>, gateway: Option<IpAddr>, dns: &[IpAddr], end: &str) -> String {
    let mut keys = String::new();
    if let Some(address) = address {
        keys.push_str(&format!("address = \"{address}\"{end}"));
    }
    if let Some(gateway) = gateway {
        keys.push_str(&format!("gateway = \"{gateway}\"{end}"));
    }
    if !dns.is_empty() {
        let quoted: Vec<String> = dns.iter().map(|server| format!("\"{server}\"")).collect();
        keys.push_str(&format!("dns = [{}]{end}", quoted.join(", ")));
    }
    keys
}

fn is_of_address(path: &str) -> bool {
    ["host.network.address", "host.network.gateway", "host.network.dns"].contains(&path)
}
