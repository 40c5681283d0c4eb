//! Frames and header blocks of HTTP/2, just enough to say what must not be said, and to find the status that is answered
//! (RFC 9113, section 6, and RFC 7541).

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;

#[derive(Clone, Copy)]
pub enum Kind {
    Data = 0,
    Headers = 1,
    Reset = 3,
    Settings = 4,
    GoAway = 7,
    WindowUpdate = 8,
    Continuation = 9,
}

pub fn frame(kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("frames are small").to_be_bytes();
    [&length[1..], &[kind as u8, flags], &stream.to_be_bytes(), payload].concat()
}

/// Header fields as literals without indexing and without Huffman's code.
pub fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.extend(integer(text.len()));
            block.extend_from_slice(text);
        }
    }
    block
}

/// With a prefix of seven bits.
fn integer(mut value: usize) -> Vec<u8> {
    if value < 127 {
        return vec![value as u8];
    }
    let mut bytes = vec![127];
    value -= 127;
    while value >= 128 {
        bytes.push((value % 128) as u8 | 128);
        value /= 128;
    }
    bytes.push(value as u8);
    bytes
}

/// What came back on stream 1, as far as it has arrived.
#[derive(Default)]
pub struct Answer {
    pub statuses: Vec<u16>,
    /// The stream was reset or the connection ended.
    pub closed: bool,
    /// The answer is complete.
    pub ended: bool,
}

impl Answer {
    pub fn read(mut bytes: &[u8]) -> Self {
        let mut answer = Self::default();
        while let [a, b, c, kind, flags, _, _, _, stream, rest @ ..] = bytes {
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            let Some(payload) = rest.get(..length) else { break };
            bytes = &rest[length..];
            let ours = *stream == 1;
            if *kind == Kind::Headers as u8 && ours {
                answer.statuses.extend(status(payload));
            }
            let ends = *kind == Kind::Headers as u8 || *kind == Kind::Data as u8;
            answer.ended |= ends && ours && flags & END_STREAM != 0;
            answer.closed |= *kind == Kind::GoAway as u8 || (*kind == Kind::Reset as u8 && ours);
        }
        answer
    }
}

/// The status at the start of a header block: it is the first field, and the first of its connection.
fn status(block: &[u8]) -> Option<u16> {
    const STATIC: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match block {
        // The table's size changes first.
        [size, rest @ ..] if size & 0xe0 == 0x20 => status(rest),
        [index @ 0x88..=0x8e, ..] => STATIC.get(usize::from(index - 0x88)).copied(),
        // `:status` from the table, and the value as a literal.
        [0x08..=0x0e | 0x18..=0x1e | 0x48..=0x4e, 3, digits @ ..] => {
            std::str::from_utf8(digits.get(..3)?).ok()?.parse().ok()
        }
        [0x08..=0x0e | 0x18..=0x1e | 0x48..=0x4e, length, digits @ ..] if length & 0x80 != 0 => huffman(digits),
        _ => None,
    }
}

/// Three digits in Huffman's code of RFC 7541: five bits for 0, 1 and 2, six for the others.
fn huffman(bytes: &[u8]) -> Option<u16> {
    let bits: Vec<u8> = bytes.iter().take(3).flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0_u16, |sum, bit| sum * 2 + u16::from(*bit));
    let (mut rest, mut value) = (&bits[..], 0);
    for _ in 0..3 {
        let five = number(rest.get(..5)?);
        let (digit, used) = if five <= 2 { (five, 5) } else { (number(rest.get(..6)?).checked_sub(0x19 - 3)?, 6) };
        value = value * 10 + digit;
        rest = rest.get(used..)?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541, C.6.
    #[test]
    fn a_status_is_read_in_each_form() {
        assert_eq!(status(&[0x89]), Some(204));
        assert_eq!(status(b"\x48\x03302"), Some(302));
        assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), Some(302));
        assert_eq!(status(&[0x20, 0x48, 0x83, 0x64, 0x0e, 0xff]), Some(307));
        assert_eq!(status(&[0x40]), None);
    }
}
