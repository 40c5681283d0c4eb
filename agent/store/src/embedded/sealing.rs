//! Values that are encrypted where they rest: AES-256-GCM, with the row's key as authenticated data, so that a sealed
//! value cannot be moved to another row. A value names the key it was sealed with, so that several can be read while
//! one takes the place of another. Knows no files and no database.

use std::collections::BTreeMap;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;

/// What every sealed value begins with. No value in JSON or protobuf does.
pub(super) const MAGIC: &[u8] = b"\0sk";
/// From when there was one key in all, which was not named.
const UNNAMED: &[u8] = b"\0sk1";
/// The key's name follows.
const NAMED: &[u8] = b"\0sk2";
pub const KEY_BYTES: usize = 32;
const ID_BYTES: usize = 8;
/// As much of a value as tells which key it was sealed with.
pub(super) const HEAD_BYTES: usize = NAMED.len() + ID_BYTES;

/// The secret that values are sealed with.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingKey([u8; KEY_BYTES]);

impl SealingKey {
    pub const BYTES: usize = KEY_BYTES;

    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    pub fn random() -> Self {
        let mut bytes = [0; KEY_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
        Self(bytes)
    }

    /// The same for the same key, and tells nothing of it.
    pub fn id(&self) -> KeyId {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), b"the name of a sealing key");
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&tag.as_ref()[..ID_BYTES]);
        KeyId(id)
    }

    /// For whoever keeps it.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey(…)")
    }
}

/// What tells keys apart. Written in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId([u8; ID_BYTES]);

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Which key a sealed value needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SealedWith {
    /// It was written when there was one key.
    Unnamed,
    Key(KeyId),
}

/// How many values need which key.
pub type KeyUse = BTreeMap<SealedWith, usize>;

impl SealedWith {
    /// Of a value, or its first [`HEAD_BYTES`]; `None` where it is not sealed.
    pub(super) fn of(value: &[u8]) -> Option<Self> {
        split(value).map(|(with, _)| with)
    }
}

fn split(value: &[u8]) -> Option<(SealedWith, &[u8])> {
    if let Some(rest) = value.strip_prefix(UNNAMED) {
        return Some((SealedWith::Unnamed, rest));
    }
    let (id, rest) = value.strip_prefix(NAMED)?.split_first_chunk()?;
    Some((SealedWith::Key(KeyId(*id)), rest))
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum UnsealError {
    #[error("it is encrypted, and there is no key")]
    NoKey,
    #[error("it was encrypted with another key")]
    OtherKey(SealedWith),
    #[error("it cannot be decrypted: it was damaged, or moved from elsewhere")]
    Refused,
}

/// Whether new values name their key: what was not written so far is not to be written before the owner wants it, so that
/// the version before can still be gone back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Unnamed,
    Named,
}

/// Seals the values under some prefixes with the first of its keys, and opens what was sealed with any of them.
pub(super) struct Sealer {
    keys: Vec<(KeyId, LessSafeKey)>,
    prefixes: Vec<String>,
    form: Form,
}

impl Sealer {
    pub(super) fn new(keys: &[SealingKey], prefixes: &[String], form: Form) -> Self {
        let cipher = |key: &SealingKey| {
            let unbound = UnboundKey::new(&AES_256_GCM, &key.0);
            LessSafeKey::new(unbound.expect("the key has the length of the algorithm's keys"))
        };
        let keys = keys.iter().map(|key| (key.id(), cipher(key))).collect();
        Self { keys, prefixes: prefixes.to_vec(), form }
    }

    /// The same with other keys; from now on values name theirs.
    pub(super) fn with_keys(&self, keys: &[SealingKey]) -> Self {
        Self::new(keys, &self.prefixes, Form::Named)
    }

    /// Whether a row with this key is to be sealed.
    pub(super) fn covers(&self, key: &str) -> bool {
        self.has_key() && self.prefixes.iter().any(|prefix| key.starts_with(prefix))
    }

    pub(super) fn has_key(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The keys it has, for whoever misses one.
    pub(super) fn ids(&self) -> Vec<KeyId> {
        self.keys.iter().map(|(id, _)| *id).collect()
    }

    /// Whether a value is as it would be sealed now.
    pub(super) fn is_current(&self, value: &[u8]) -> bool {
        let newest = self.keys.first().map(|(id, _)| SealedWith::Key(*id));
        newest.is_some() && SealedWith::of(value) == newest
    }

    /// The value as it is written; `None` where it is written as it is.
    pub(super) fn seal(&self, key: &str, value: &[u8]) -> Option<Vec<u8>> {
        if self.covers(key) { self.seal_anywhere(key, value) } else { None }
    }

    fn seal_anywhere(&self, key: &str, value: &[u8]) -> Option<Vec<u8>> {
        let (id, cipher) = self.keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).expect("the system gives random bytes");
        let mut sealed = value.to_vec();
        let aad = Aad::from(key.as_bytes());
        cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
        Some(match self.form {
            Form::Unnamed => [UNNAMED, &nonce, &sealed].concat(),
            Form::Named => [NAMED, &id.0, &nonce, &sealed].concat(),
        })
    }

    /// A sealed value as it is sealed now; `None` where it is already, or is not sealed.
    pub(super) fn reseal(&self, key: &str, value: Vec<u8>) -> Result<Option<Vec<u8>>, UnsealError> {
        if SealedWith::of(&value).is_none() || self.is_current(&value) {
            return Ok(None);
        }
        let plain = self.unseal(key, value)?;
        Ok(self.seal_anywhere(key, &plain))
    }

    /// The value as it was before it was sealed.
    pub(super) fn unseal(&self, key: &str, value: Vec<u8>) -> Result<Vec<u8>, UnsealError> {
        let Some((with, rest)) = split(&value) else { return Ok(value) };
        if !self.has_key() {
            return Err(UnsealError::NoKey);
        }
        let (nonce, sealed) = rest.split_first_chunk().ok_or(UnsealError::Refused)?;
        match with {
            SealedWith::Key(id) => {
                let cipher = self.keys.iter().find(|(known, _)| *known == id);
                let (_, cipher) = cipher.ok_or(UnsealError::OtherKey(with))?;
                open(cipher, key, *nonce, sealed).ok_or(UnsealError::Refused)
            }
            SealedWith::Unnamed => {
                let opened = self.keys.iter().find_map(|(_, cipher)| open(cipher, key, *nonce, sealed));
                opened.ok_or(UnsealError::OtherKey(with))
            }
        }
    }
}

fn open(cipher: &LessSafeKey, key: &str, nonce: [u8; NONCE_LEN], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut plain = sealed.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    let length = cipher.open_in_place(nonce, Aad::from(key.as_bytes()), &mut plain).ok()?.len();
    plain.truncate(length);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "/secret/";

    fn sealer(keys: &[u8], form: Form) -> Sealer {
        let keys: Vec<_> = keys.iter().map(|byte| SealingKey::new([*byte; KEY_BYTES])).collect();
        Sealer::new(&keys, &[PREFIX.to_owned()], form)
    }

    #[test]
    fn a_sealed_value_opens_in_its_row_with_its_key_alone() {
        for form in [Form::Unnamed, Form::Named] {
            let own = sealer(&[7], form);
            let sealed = own.seal("/secret/a", b"{}").expect("covered");
            let with = SealedWith::of(&sealed).expect("sealed");
            assert_eq!(own.seal("/other/a", b"{}"), None);
            assert_ne!(sealed, own.seal("/secret/a", b"{}").expect("covered"), "no nonce is used twice");
            assert_eq!(own.unseal("/secret/a", sealed.clone()), Ok(b"{}".to_vec()));
            assert!(own.unseal("/secret/b", sealed.clone()).is_err());
            assert_eq!(sealer(&[], form).unseal("/secret/a", sealed.clone()), Err(UnsealError::NoKey));
            let other = sealer(&[8], form).unseal("/secret/a", sealed.clone());
            assert_eq!(other, Err(UnsealError::OtherKey(with)));
            for cut in 0..sealed.len() {
                assert_ne!(own.unseal("/secret/a", sealed[..cut].to_vec()), Ok(b"{}".to_vec()), "{cut}");
            }
        }
    }

    #[test]
    fn what_was_sealed_with_an_older_key_opens_and_is_sealed_with_the_newest() {
        let (before, both, after) =
            (sealer(&[7], Form::Unnamed), sealer(&[8, 7], Form::Named), sealer(&[8], Form::Named));
        for old in [before.seal("/secret/a", b"{}"), sealer(&[7], Form::Named).seal("/secret/a", b"{}")] {
            let old = old.expect("covered");
            assert!(!both.is_current(&old));
            assert_eq!(both.unseal("/secret/a", old.clone()), Ok(b"{}".to_vec()));
            let new = both.reseal("/secret/a", old).expect("opens").expect("it changes");
            assert!(both.is_current(&new));
            assert_eq!(after.unseal("/secret/a", new.clone()), Ok(b"{}".to_vec()));
            assert!(before.unseal("/secret/a", new.clone()).is_err());
            assert_eq!(both.reseal("/secret/a", new), Ok(None), "once is enough");
        }
        assert_eq!(both.reseal("/secret/a", b"{}".to_vec()), Ok(None));
    }

    #[test]
    fn a_key_has_a_name_that_is_not_a_part_of_it() {
        let (one, two) = (SealingKey::random(), SealingKey::random());
        assert_ne!(one.id(), two.id());
        assert_eq!(one.id(), one.clone().id());
        assert_eq!(one.id().to_string().len(), 2 * ID_BYTES);
        assert!(!one.expose().windows(ID_BYTES).any(|part| part == one.id().0));
    }
}
