//! What nobody can guess.

/// Crockford's: no I, L, O or U, which are read as something else. Each stands for five bits.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Forty bits, in two groups that are easy to type.
const CODE_SYMBOLS: usize = 8;

fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has randomness");
    bytes
}

/// Such as `K7WQ-93PF`.
pub fn code() -> String {
    let symbol = |byte: &u8| char::from(ALPHABET[usize::from(byte & 31)]);
    let text: String = bytes::<CODE_SYMBOLS>().iter().map(symbol).collect();
    format!("{}-{}", &text[..4], &text[4..])
}

/// A code as it was typed: in any case, with or without the dash, and what looks alike taken for what it is.
pub fn normalize(typed: &str) -> String {
    let kept = typed.chars().filter(|c| !c.is_whitespace() && *c != '-').take(CODE_SYMBOLS + 1);
    let text: String = kept
        .map(|c| match c.to_ascii_uppercase() {
            'I' | 'L' => '1',
            'O' => '0',
            other => other,
        })
        .collect();
    match text.char_indices().nth(4) {
        Some((middle, _)) => format!("{}-{}", &text[..middle], &text[middle..]),
        None => text,
    }
}

/// The identifier of a session: 256 bits.
pub fn session() -> String {
    bytes::<32>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// In a time that does not depend on where they differ.
pub fn is_equal(one: &str, other: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_typed_in_many_ways() {
        let code = code();
        assert_eq!(code.len(), 9);
        assert_eq!(normalize(&code), code);
        for typed in ["k7wq-93pf", "K7WQ93PF", " k7wq 93pf\n", "K7-WQ-93-PF"] {
            assert_eq!(normalize(typed), "K7WQ-93PF");
        }
        assert_eq!(normalize("oil0-1111"), "0110-1111");
        for bad in ["", "a", "ääää-öööö-üüüü", "K7WQ-93PFX"] {
            assert_ne!(normalize(bad), "K7WQ-93PF");
        }
    }

    #[test]
    fn nothing_is_made_twice() {
        assert_ne!(code(), code());
        assert_ne!(session(), session());
    }
}
