//! Go's own examples, and what it refuses.

use super::*;

#[test]
fn encodes() {
    for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
        assert_eq!(encode(bytes.as_bytes()), text);
        assert_eq!(canonical(text), Ok(text.to_owned()));
        assert_eq!(decoded_len(text), bytes.len());
        assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()));
        let mut decoded = b"before".to_vec();
        assert_eq!(decode_into(&mut decoded, text), Ok(()));
        assert_eq!(decoded, [b"before", bytes.as_bytes()].concat());
    }
    let all: Vec<u8> = (0..=255).collect();
    let mut decoded = Vec::new();
    assert_eq!(decode_into(&mut decoded, &encode(&all)), Ok(()));
    assert_eq!(decoded, all);
    assert_eq!(decode_into(&mut decoded, "Zm*v"), Err(2));
}

#[test]
fn refuses() {
    assert_eq!(canonical("Zm9*"), Err(3));
    assert_eq!(canonical("Zm9"), Err(0));
    assert_eq!(canonical("Z=9v"), Err(1));
    assert_eq!(decode("Zm9*"), None);
    assert_eq!(canonical("Zm\n9v"), Ok("Zm9v".to_owned()));
}
