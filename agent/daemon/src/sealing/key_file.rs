//! The file of the keys: a line for each, newest first. The first encrypts; another one is there as long as something needs
//! it. The file is whole or as it was before, and for root alone. A file of 32 bytes is from before a key had a successor:
//! it is the key.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use skiff_store::{KeyId, SealingKey};

const HEAD: &str = "\
# What Secrets are encrypted with in the database of this box: whoever has both can read them. Back it up apart from them.
# The first key encrypts; each further one only decrypts, until nothing needs it.
# key NAME MADE SECRET
";

#[derive(Clone, Debug)]
pub struct Key {
    pub secret: SealingKey,
    pub made: Timestamp,
}

/// At least one.
#[derive(Clone, Debug)]
pub struct Keys(Vec<Key>);

impl Keys {
    /// The only one so far.
    pub fn first(now: Timestamp) -> Self {
        Self(vec![Key { secret: SealingKey::random(), made: now }])
    }

    /// As the file is now; `None` where there is none.
    pub fn read(file: &Path) -> anyhow::Result<Option<Self>> {
        let bytes = match std::fs::read(file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            bytes => bytes.with_context(|| format!("cannot read {}", file.display()))?,
        };
        let keys = match <[u8; SealingKey::BYTES]>::try_from(bytes.as_slice()) {
            Ok(secret) => {
                let made = file.metadata().and_then(|metadata| metadata.modified()).ok();
                let made = made.and_then(|time| Timestamp::try_from(time).ok()).unwrap_or_default();
                Ok(Self(vec![Key { secret: SealingKey::new(secret), made }]))
            }
            Err(_) => Self::parse(&bytes),
        };
        let what = || format!("{} is no file of keys; put it back from a backup", file.display());
        keys.map(Some).with_context(what)
    }

    fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.starts_with('#'));
        let text =
            text.with_context(|| format!("it has {} bytes that are neither a key nor lines of keys", bytes.len()))?;
        ensure!(text.ends_with('\n'), "it ends within a line");
        let numbered = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
        let keys = numbered.map(|(n, line)| parse_line(line).with_context(|| format!("line {} is no key", n + 1)));
        let keys = keys.collect::<anyhow::Result<Vec<_>>>()?;
        ensure!(!keys.is_empty(), "there is no key in it");
        Ok(Self(keys))
    }

    /// On the disk when it returns.
    pub fn write(&self, file: &Path) -> std::io::Result<()> {
        let mut text = HEAD.to_owned();
        for Key { secret, made } in &self.0 {
            let _ = writeln!(text, "key {} {made} {}", secret.id(), hexadecimal(secret.expose()));
        }
        skiff_apiserver::write_private(file, text.as_bytes())
    }

    /// With one more, which is the first.
    pub fn with_new(&self, now: Timestamp) -> Self {
        let new = Key { secret: SealingKey::random(), made: now };
        Self([&[new], self.0.as_slice()].concat())
    }

    /// The first, and of the others those that are still needed.
    pub fn without(&self, is_needed: impl Fn(KeyId) -> bool) -> Self {
        let (newest, older) = (self.newest(), &self.0[1..]);
        let needed = older.iter().filter(|key| is_needed(key.secret.id()));
        Self(std::iter::once(newest).chain(needed).cloned().collect())
    }

    pub fn newest(&self) -> &Key {
        &self.0[0]
    }

    pub fn older(&self) -> &[Key] {
        &self.0[1..]
    }

    /// As the store takes them.
    pub fn secrets(&self) -> Vec<SealingKey> {
        self.0.iter().map(|key| key.secret.clone()).collect()
    }
}

fn parse_line(line: &str) -> anyhow::Result<Key> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let ["key", name, made, secret] = words[..] else { anyhow::bail!("it does not read `key NAME MADE SECRET`") };
    let secret = SealingKey::new(bytes(secret).context("its secret has not 64 hexadecimal digits")?);
    ensure!(secret.id().to_string() == name, "its secret is not the one of {name}: something was changed in it");
    Ok(Key { secret, made: made.parse().context("its time is none")? })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn bytes(text: &str) -> Option<[u8; SealingKey::BYTES]> {
    let is_whole = text.len() == 2 * SealingKey::BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut key = [0; SealingKey::BYTES];
    for (n, byte) in key.iter_mut().enumerate().filter(|_| is_whole) {
        *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).ok()?;
    }
    is_whole.then_some(key)
}

/// What a power cut left of a write; keys may be in it that are no longer used.
pub fn remove_partial(file: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(file.with_extension("partial")) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn keys_are_read_as_they_were_written_and_only_root_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secrets.key");
        assert!(Keys::read(&file).unwrap().is_none());
        std::fs::write(dir.path().join("secrets.partial"), "of a power cut").unwrap();
        let keys = Keys::first(time("2026-01-02T03:04:05Z")).with_new(time("2026-02-03T04:05:06Z"));
        keys.write(&file).unwrap();
        let read = Keys::read(&file).unwrap().unwrap();
        assert_eq!((read.secrets(), read.newest().made), (keys.secrets(), time("2026-02-03T04:05:06Z")));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let old = read.older()[0].secret.id();
        assert_eq!(read.without(|id| id == old).secrets(), keys.secrets());
        assert_eq!(read.without(|_| false).secrets(), keys.secrets()[..1]);
    }

    #[test]
    fn the_first_form_is_a_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secrets.key");
        std::fs::write(&file, [7; SealingKey::BYTES]).unwrap();
        let keys = Keys::read(&file).unwrap().unwrap();
        assert_eq!(keys.secrets(), [SealingKey::new([7; SealingKey::BYTES])]);
        assert!(keys.newest().made > time("2020-01-01T00:00:00Z"), "when the file was made");
    }

    #[test]
    fn what_is_no_file_of_keys_is_said_and_keys_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secrets.key");
        let keys = Keys::first(time("2026-01-02T03:04:05Z"));
        keys.write(&file).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let secret = hexadecimal(keys.newest().secret.expose());
        let name = keys.newest().secret.id().to_string();
        let swapped = |from: &str, to: &str| text.replace(from, to).into_bytes();
        let other = hexadecimal(SealingKey::random().expose());
        for (content, expected) in [
            (Vec::new(), "it has 0 bytes"),
            (b"short".to_vec(), "it has 5 bytes"),
            (vec![0xff; 33], "it has 33 bytes"),
            (text.trim_end().as_bytes().to_vec(), "it ends within a line"),
            (HEAD.as_bytes().to_vec(), "there is no key in it"),
            (swapped(&secret, &secret[1..]), "line 4 is no key: its secret has not 64"),
            (swapped(&secret, &format!("ä{}", &secret[2..])), "its secret has not 64"),
            (swapped(&secret, &other), "is not the one of"),
            (swapped(&name, "0123456789abcdef"), "is not the one of 0123456789abcdef"),
            (swapped("2026-01-02T", "yesterday-"), "its time is none"),
            (swapped("key ", "kex "), "it does not read `key NAME MADE SECRET`"),
        ] {
            std::fs::write(&file, content).unwrap();
            let error = format!("{:#}", Keys::read(&file).unwrap_err());
            assert!(error.contains(expected), "{expected}: {error}");
            assert!(error.contains("secrets.key is no file of keys; put it back from a backup"), "{error}");
            assert!(!error.contains(&secret) && !error.contains(&other), "{error}");
        }
    }
}
