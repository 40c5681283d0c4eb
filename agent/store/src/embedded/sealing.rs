//! Values that are encrypted where they rest: AES-256-GCM, with the row's key as authenticated data, so that a sealed
//! value cannot be moved to another row. Knows no files and no database.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// What a sealed value begins with. No value in JSON or protobuf does.
const MAGIC: &[u8] = b"\0sk1";
pub const KEY_BYTES: usize = 32;

/// The secret that values are sealed with.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingKey([u8; KEY_BYTES]);

impl SealingKey {
    pub const BYTES: usize = KEY_BYTES;

    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey(…)")
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum UnsealError {
    #[error("it is encrypted, and there is no key")]
    NoKey,
    #[error("it cannot be decrypted: it was damaged, or written with another key")]
    Refused,
}

/// Seals the values under some prefixes.
pub(super) struct Sealer {
    key: Option<LessSafeKey>,
    prefixes: Vec<String>,
}

impl Sealer {
    pub(super) fn new(key: Option<&SealingKey>, prefixes: &[String]) -> Self {
        let key = key.map(|key| {
            let key = UnboundKey::new(&AES_256_GCM, &key.0).expect("the key has the length of the algorithm's keys");
            LessSafeKey::new(key)
        });
        Self { key, prefixes: prefixes.to_vec() }
    }

    /// Whether a row with this key is to be sealed.
    pub(super) fn covers(&self, key: &str) -> bool {
        self.key.is_some() && self.prefixes.iter().any(|prefix| key.starts_with(prefix))
    }

    pub(super) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    pub(super) fn is_sealed(value: &[u8]) -> bool {
        value.starts_with(MAGIC)
    }

    /// The value as it is written; `None` where it is written as it is.
    pub(super) fn seal(&self, key: &str, value: &[u8]) -> Option<Vec<u8>> {
        let cipher = self.key.as_ref().filter(|_| self.covers(key))?;
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).expect("the system gives random bytes");
        let mut sealed = value.to_vec();
        let aad = Aad::from(key.as_bytes());
        cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
        Some([MAGIC, &nonce, &sealed].concat())
    }

    /// The value as it was before it was sealed.
    pub(super) fn unseal(&self, key: &str, value: Vec<u8>) -> Result<Vec<u8>, UnsealError> {
        let Some(rest) = value.strip_prefix(MAGIC) else { return Ok(value) };
        let cipher = self.key.as_ref().ok_or(UnsealError::NoKey)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN).ok_or(UnsealError::Refused)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| UnsealError::Refused)?;
        let mut plain = sealed.to_vec();
        let length =
            cipher.open_in_place(nonce, Aad::from(key.as_bytes()), &mut plain).map_err(|_| UnsealError::Refused)?.len();
        plain.truncate(length);
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_opens_in_its_row_with_its_key_alone() {
        let prefixes = ["/secret/".to_owned()];
        let sealer = Sealer::new(Some(&SealingKey::new([7; KEY_BYTES])), &prefixes);
        let sealed = sealer.seal("/secret/a", b"{}").expect("covered");
        assert_eq!(sealer.seal("/other/a", b"{}"), None);
        assert_ne!(sealed, sealer.seal("/secret/a", b"{}").expect("covered"), "no nonce is used twice");
        assert_eq!(sealer.unseal("/secret/a", sealed.clone()), Ok(b"{}".to_vec()));
        assert_eq!(sealer.unseal("/secret/b", sealed.clone()), Err(UnsealError::Refused));
        assert_eq!(Sealer::new(None, &prefixes).unseal("/secret/a", sealed.clone()), Err(UnsealError::NoKey));
        let other = Sealer::new(Some(&SealingKey::new([8; KEY_BYTES])), &prefixes);
        assert_eq!(other.unseal("/secret/a", sealed.clone()), Err(UnsealError::Refused));
        for cut in 0..sealed.len() {
            assert_ne!(sealer.unseal("/secret/a", sealed[..cut].to_vec()), Ok(b"{}".to_vec()), "{cut}");
        }
    }
}
