//! Standard base64, as Go's `[]byte` fields are written.
//!
//! Owns just what secrets and binary data need; the messages are Go's.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0_u32, |word, (i, byte)| word | u32::from(*byte) << (16 - 8 * i));
        for i in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// The text without line breaks, if it is base64; else the offset of the first wrong byte.
pub fn canonical(text: &str) -> Result<String, usize> {
    let clean: String = text.chars().filter(|c| *c != '\n' && *c != '\r').collect();
    let digits = clean.trim_end_matches('=');
    if let Some(at) = text.find(|c: char| !(c.is_ascii_alphanumeric() || "+/=\r\n".contains(c))) {
        return Err(at);
    }
    let padding = clean.len() - digits.len();
    if digits.contains('=') || padding > 2 || !clean.len().is_multiple_of(4) {
        return Err(digits.find('=').unwrap_or(clean.len() - clean.len() % 4));
    }
    Ok(clean)
}

/// The bytes that canonical base64 stands for.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    decode_into(&mut out, text).ok().map(|()| out)
}

/// Appends the bytes that canonical base64 stands for; the offset of the first wrong byte if it is none.
pub fn decode_into(out: &mut Vec<u8>, text: &str) -> Result<(), usize> {
    out.reserve(decoded_len(text));
    let (mut word, mut bits) = (0_u32, 0_u32);
    for (at, byte) in text.trim_end_matches('=').bytes().enumerate() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(at),
        };
        word = word << 6 | u32::from(digit);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits) as u8);
        }
    }
    Ok(())
}

/// How many bytes canonical base64 stands for.
pub fn decoded_len(text: &str) -> usize {
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

#[cfg(test)]
mod tests;
