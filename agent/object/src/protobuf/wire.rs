//! The pieces of protobuf's wire format as they are written.
//!
//! Owns keys, varints and lengths; what is written is [`super::encode`]'s.

/// How a field's value is written.
#[derive(Clone, Copy)]
enum WireType {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
}

pub fn number(out: &mut Vec<u8>, field: u32, value: i64) {
    key(out, field, WireType::Varint);
    // Two's complement in 64 bits, whatever the width.
    varint(out, value as u64);
}

pub fn double(out: &mut Vec<u8>, field: u32, value: f64) {
    key(out, field, WireType::Fixed64);
    out.extend_from_slice(&value.to_le_bytes());
}

pub fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    key(out, field, WireType::Bytes);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Begins a field whose length is not known yet; what is written next is in it, until it is closed.
pub fn open(out: &mut Vec<u8>, field: u32) -> Open {
    key(out, field, WireType::Bytes);
    out.push(0);
    Open { start: out.len() }
}

/// A field that was begun.
#[must_use = "its length is written when it is closed"]
pub struct Open {
    start: usize,
}

impl Open {
    /// Ends the field. One byte was kept for the length: where that is not enough, what is in the field moves.
    pub fn close(self, out: &mut Vec<u8>) {
        let length = out.len() - self.start;
        let more = varint_size(length as u64) - 1;
        if more > 0 {
            out.resize(out.len() + more, 0);
            out.copy_within(self.start..self.start + length, self.start + more);
        }
        let mut rest = length as u64;
        for byte in &mut out[self.start - 1..self.start + more] {
            *byte = (rest & 0x7f) as u8 | 0x80;
            rest >>= 7;
        }
        out[self.start + more - 1] &= 0x7f;
    }
}

fn key(out: &mut Vec<u8>, field: u32, wire: WireType) {
    varint(out, u64::from(field << 3 | wire as u32));
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_size(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_was_open_is_as_one_that_was_not() {
        for length in [0, 1, 127, 128, 129, 16_383, 16_384, 3_000_000] {
            let content = vec![7; length];
            let (mut known, mut opened) = (vec![1], vec![1]);
            bytes(&mut known, 2, &content);
            let field = open(&mut opened, 2);
            opened.extend_from_slice(&content);
            field.close(&mut opened);
            assert!(known == opened, "{length}");
        }
    }

    #[test]
    fn varints_have_the_size_that_is_told() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out.len(), varint_size(value), "{value}");
        }
    }
}
