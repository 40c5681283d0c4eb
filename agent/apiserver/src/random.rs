//! Identifiers that nobody can guess or meet twice.

use skiff_object::meta;

/// Upstream's alphabet for generated names: no vowels, no look-alikes.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LEN: usize = 5;
/// Upstream cuts the prefix so that the name fits a DNS label.
const PREFIX_LEN_MAX: usize = 58;

pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has randomness");
    bytes
}

/// A version 4 UUID (RFC 9562).
pub fn uuid() -> String {
    let mut b: [u8; 16] = bytes();
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    let hex: String = b.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

pub fn suffix() -> String {
    bytes::<SUFFIX_LEN>().iter().map(|b| char::from(ALPHABET[usize::from(*b) % ALPHABET.len()])).collect()
}

/// Gives an object that only has a `generateName` its name.
pub fn generate_name(object: &mut serde_json::Value) {
    let prefix = meta::generate_name(object);
    if !meta::name(object).is_empty() || prefix.is_empty() {
        return;
    }
    let prefix: String = prefix.chars().take(PREFIX_LEN_MAX).collect();
    let name = format!("{prefix}{}", suffix());
    meta::set(object, "name", name);
}
