//! What has to be changed on the host for the settings to hold. Pure and total.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use skiff_settings::{Host, InterfaceAddress, Settings};

use crate::paths::Paths;
use crate::settings_file::{self, Context, Error, Reading, SecretChange, SecretKey};

const WRITTEN_BY: &str = "# Written at each boot by `skiff host apply` from skiff.toml: changes here are lost.\n";

/// The owner's file, as it was found.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Text(Vec<u8>),
    /// The defaults hold.
    Missing,
    /// The settings that were last in force hold.
    Unreadable(String),
}

#[derive(Clone)]
pub struct Observed {
    pub secrets: BTreeMap<SecretKey, String>,
    /// The contents of the owned files that are there.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    pub localtime: Option<PathBuf>,
    pub host_name: String,
    /// Whether this system has the time zone of the settings.
    pub zone_is_known: bool,
}

/// One effect; each is safe to repeat.
#[derive(Clone, PartialEq)]
pub enum Change {
    Write { path: PathBuf, content: Vec<u8>, mode: u32 },
    Remove { path: PathBuf },
    Link { path: PathBuf, target: PathBuf },
    HostName(String),
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The content may be a secret.
            Self::Write { path, mode, .. } => write!(f, "write {} {mode:04o}", path.display()),
            Self::Remove { path } => write!(f, "remove {}", path.display()),
            Self::Link { path, target } => write!(f, "link {} -> {}", path.display(), target.display()),
            Self::HostName(name) => write!(f, "host name {name}"),
        }
    }
}

/// The changes in the order in which a power cut loses nothing: a secret is in the state before it leaves the file.
#[derive(Debug)]
pub struct Plan {
    pub changes: Vec<Change>,
    /// How many of them, the first, take secrets over; they have to succeed for the one after them, if it is `scrubs`.
    pub secrets: usize,
    /// Whether the owner's file is changed, right after the secrets are taken over.
    pub scrubs: bool,
    pub errors: Vec<String>,
}

/// The settings that are to hold.
pub fn reading(source: &Source, last: Option<&str>, context: &Context<'_>) -> Reading {
    match (source, last) {
        (Source::Text(bytes), _) => settings_file::read(bytes, context),
        (Source::Missing, _) => settings_file::read(b"", context),
        (Source::Unreadable(why), last) => {
            let mut reading = settings_file::read(last.unwrap_or_default().as_bytes(), context);
            let used =
                if last.is_some() { "the settings that were last in force are used" } else { "the defaults are used" };
            let error = Error { line: None, key: None, message: format!("{why}; until then {used}") };
            reading.errors.insert(0, error);
            // The copy is never changed from itself.
            reading.scrubbed = None;
            reading
        }
    }
}

/// Beside the owner's file, where it can be read with any computer.
pub fn errors_file(settings_file: &Path) -> PathBuf {
    let mut name = settings_file.file_name().unwrap_or_default().to_owned();
    name.push(".errors.txt");
    settings_file.with_file_name(name)
}

/// Every file that a plan may write.
pub fn owned(paths: &Paths, settings_file: &Path) -> Vec<PathBuf> {
    let mut all = vec![
        settings_file.to_owned(),
        errors_file(settings_file),
        paths.last_settings(),
        paths.settings(),
        paths.settings_errors(),
        paths.network(),
        paths.host_name(),
        paths.hosts(),
        paths.timesyncd(),
        paths.shadow(),
        paths.authorized_keys(),
    ];
    all.extend(SecretKey::ALL.map(|secret| paths.secrets().join(secret.file_name())));
    all
}

impl Plan {
    pub fn new(
        paths: &Paths,
        settings_file: &Path,
        source: &Source,
        mut reading: Reading,
        observed: &Observed,
    ) -> Self {
        if !observed.zone_is_known {
            let zone = reading.settings.host.timezone.take().map(String::from).unwrap_or_default();
            let key = "host.timezone";
            let message =
                format!("{zone:?} is not a time zone of this system: UTC is used; a zone is \"Europe/Zurich\"");
            let line = line_of(source, &zone);
            let later = |error: &Error| line.is_some() && error.line.is_none_or(|other| Some(other) > line);
            let at = reading.errors.iter().position(later).unwrap_or(reading.errors.len());
            reading.errors.insert(at, Error { line, key: Some(key.to_owned()), message });
        }
        let errors: Vec<String> = reading.errors.iter().map(Error::to_string).collect();
        let mut changes = Changes { observed, list: Vec::new() };
        changes.secrets(paths, &reading);
        let secrets = changes.list.len();
        if let Some(scrubbed) = &reading.scrubbed {
            changes.write(settings_file.to_owned(), scrubbed.clone(), 0o600);
        }
        let scrubs = changes.list.len() > secrets;
        let effective = reading.settings.to_toml();
        changes.write(paths.last_settings(), effective.clone().into_bytes(), 0o600);
        changes.write(paths.settings(), effective.into_bytes(), 0o600);
        changes.errors(paths, settings_file, &reading.errors, &errors);
        changes.host(paths, &reading.settings);
        changes.admin(paths, &reading);
        Self { changes: changes.list, secrets, scrubs, errors }
    }
}

/// For errors found after the file was read.
fn line_of(source: &Source, value: &str) -> Option<usize> {
    let Source::Text(bytes) = source else { return None };
    let text = String::from_utf8_lossy(bytes);
    text.lines().position(|line| !line.trim_start().starts_with('#') && line.contains(value)).map(|at| at + 1)
}

struct Changes<'a> {
    observed: &'a Observed,
    list: Vec<Change>,
}

impl Changes<'_> {
    fn write(&mut self, path: PathBuf, content: Vec<u8>, mode: u32) {
        if self.observed.files.get(&path) != Some(&content) {
            self.list.push(Change::Write { path, content, mode });
        }
    }

    fn remove(&mut self, path: PathBuf) {
        if self.observed.files.contains_key(&path) {
            self.list.push(Change::Remove { path });
        }
    }

    /// The file is there with this content, or is not there without one.
    fn write_or_remove(&mut self, path: PathBuf, content: Option<String>, mode: u32) {
        match content {
            Some(content) => self.write(path, content.into_bytes(), mode),
            None => self.remove(path),
        }
    }

    fn secrets(&mut self, paths: &Paths, reading: &Reading) {
        for (secret, change) in &reading.secrets {
            let path = paths.secrets().join(secret.file_name());
            match change {
                SecretChange::Keep(text) => self.write(path, format!("{text}\n").into_bytes(), 0o600),
                SecretChange::Remove => self.remove(path),
            }
        }
    }

    fn errors(&mut self, paths: &Paths, settings_file: &Path, errors: &[Error], lines: &[String]) {
        let told = (!errors.is_empty()).then(|| errors_text(settings_file, lines));
        self.write_or_remove(errors_file(settings_file), told, 0o644);
        let lines = (!lines.is_empty()).then(|| lines.join("\n") + "\n");
        self.write_or_remove(paths.settings_errors(), lines, 0o644);
    }

    fn host(&mut self, paths: &Paths, settings: &Settings) {
        let host = &settings.host;
        let name = host.name();
        self.write(paths.network(), network(host).into_bytes(), 0o644);
        self.write(paths.host_name(), format!("{name}\n").into_bytes(), 0o644);
        if paths.is_system() && self.observed.host_name != name {
            self.list.push(Change::HostName(name.to_owned()));
        }
        self.write(paths.hosts(), hosts(host).into_bytes(), 0o644);
        let zone = host.timezone.as_ref().map_or("Etc/UTC", skiff_settings::Timezone::as_str);
        let target = Path::new("/usr/share/zoneinfo").join(zone);
        if self.observed.localtime.as_ref() != Some(&target) {
            self.list.push(Change::Link { path: paths.localtime(), target });
        }
        self.write_or_remove(paths.timesyncd(), timesyncd(host), 0o644);
    }

    fn admin(&mut self, paths: &Paths, reading: &Reading) {
        let hash = match reading.secrets.get(&SecretKey::PasswordHash) {
            Some(SecretChange::Keep(hash)) => Some(hash.as_str()),
            Some(SecretChange::Remove) => None,
            None => self.observed.secrets.get(&SecretKey::PasswordHash).map(String::as_str),
        };
        let shadow = self.observed.files.get(&paths.shadow()).map(Vec::as_slice).unwrap_or_default();
        self.write(paths.shadow(), shadow_with(shadow, hash), 0o640);
        let keys: String = reading.settings.host.admin.ssh_keys.iter().flat_map(|key| [key.as_str(), "\n"]).collect();
        self.write_or_remove(paths.authorized_keys(), (!keys.is_empty()).then_some(keys), 0o600);
    }
}

/// For Notepad: with its line ends.
fn errors_text(settings_file: &Path, lines: &[String]) -> String {
    let name = settings_file.file_name().unwrap_or_default().to_string_lossy();
    let mut text = format!(
        "What is wrong in {name}. Everything else in it is in force. Correct it, save it, and start the box again.\r\n\r\n"
    );
    for line in lines {
        text.push_str(line);
        text.push_str("\r\n");
    }
    text
}

/// systemd.network(5).
fn network(host: &Host) -> String {
    let network = &host.network;
    let mut text = format!("{WRITTEN_BY}[Match]\n");
    match &network.interface {
        Some(name) => _ = writeln!(text, "Name={name}"),
        // Wired ones of the machine: bridges and the ends of pods' links are of a kind.
        None => text.push_str("Type=ether\nKind=!*\n"),
    }
    text.push_str("\n[Network]\n");
    let accepts_routers = match network.address {
        None => {
            // An address even without a DHCP server, as on a cable to a computer.
            text.push_str("DHCP=yes\nLinkLocalAddressing=yes\n");
            true
        }
        Some(address) => {
            // The other family goes on to configure itself.
            let dhcp = if address.address.is_ipv4() { "no" } else { "ipv4" };
            _ = writeln!(text, "DHCP={dhcp}\nLinkLocalAddressing=ipv6\nAddress={address}");
            address.address.is_ipv4() || network.gateway.is_none()
        }
    };
    _ = writeln!(text, "IPv6AcceptRA={}", if accepts_routers { "yes" } else { "no" });
    if let Some(gateway) = network.gateway {
        _ = writeln!(text, "Gateway={gateway}");
    }
    for server in &network.dns {
        _ = writeln!(text, "DNS={server}");
    }
    if let Some(domain) = &host.domain {
        _ = writeln!(text, "Domains={domain}");
    }
    // Names in `local` are avahi's.
    text.push_str("MulticastDNS=no\nLLMNR=no\n");
    let own_dns = if network.dns.is_empty() { "" } else { "UseDNS=no\n" };
    let own_ntp = if host.ntp.is_empty() { "" } else { "UseNTP=no\n" };
    // Home routers tie addresses to the hardware's; the name is the settings' alone.
    _ = write!(text, "\n[DHCPv4]\nClientIdentifier=mac\nUseHostname=no\n{own_dns}{own_ntp}");
    _ = write!(text, "\n[DHCPv6]\nUseHostname=no\n{own_dns}{own_ntp}");
    if !own_dns.is_empty() {
        _ = write!(text, "\n[IPv6AcceptRA]\n{own_dns}");
    }
    text
}

/// hosts(5), as Debian has it: the box's own names work without a network.
fn hosts(host: &Host) -> String {
    let own = match &host.network.address {
        Some(InterfaceAddress { address: address @ IpAddr::V4(_), .. }) => address.to_string(),
        Some(InterfaceAddress { address: IpAddr::V6(_), .. }) | None => "127.0.1.1".to_owned(),
    };
    let full = host.full_name().map(|name| name + " ").unwrap_or_default();
    format!(
        "{WRITTEN_BY}127.0.0.1 localhost\n{own} {full}{name}\n::1 localhost ip6-localhost ip6-loopback\n\
         ff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n",
        name = host.name()
    )
}

/// timesyncd.conf(5); none: the system's own.
fn timesyncd(host: &Host) -> Option<String> {
    let servers: Vec<&str> = host.ntp.iter().map(skiff_settings::ServerName::as_str).collect();
    (!servers.is_empty()).then(|| format!("{WRITTEN_BY}[Time]\nNTP={}\n", servers.join(" ")))
}

/// shadow(5) with root's hash. Without one no password opens the account: `*` and not `!`, which would also keep out who
/// has an SSH key.
fn shadow_with(shadow: &[u8], hash: Option<&str>) -> Vec<u8> {
    let hash = hash.unwrap_or("*");
    let text = String::from_utf8_lossy(shadow);
    let mut found = false;
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let mut fields: Vec<&str> = line.split(':').collect();
        if fields.first() == Some(&"root") && fields.len() > 1 {
            fields[1] = hash;
            found = true;
        }
        lines.push(fields.join(":"));
    }
    if !found {
        lines.insert(0, format!("root:{hash}::0:99999:7:::"));
    }
    (lines.join("\n") + "\n").into_bytes()
}
