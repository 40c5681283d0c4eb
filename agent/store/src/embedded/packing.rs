//! Values that are compressed on the disk. A pod has some 5 KB of JSON and a third of that compressed: then its row fits
//! into one page of the database, and a change of it writes that page alone.

use std::borrow::Cow;
use std::io::Read;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use crate::VALUE_BYTES_MAX;

/// What a packed value begins with. No value in JSON or protobuf does.
const MAGIC: &[u8] = b"\0pk1";
/// What is smaller fits into a page as it is.
const PLAIN_BYTES_MAX: usize = 1200;

pub(super) fn pack(value: &[u8]) -> Cow<'_, [u8]> {
    if value.len() <= PLAIN_BYTES_MAX {
        return Cow::Borrowed(value);
    }
    let mut encoder = DeflateEncoder::new(MAGIC.to_vec(), Compression::fast());
    let packed = std::io::Write::write_all(&mut encoder, value).and_then(|()| encoder.finish());
    match packed {
        Ok(packed) if packed.len() < value.len() => Cow::Owned(packed),
        Ok(_) | Err(_) => Cow::Borrowed(value),
    }
}

/// `None` where it is none that was packed whole.
pub(super) fn unpack(value: Vec<u8>) -> Option<Vec<u8>> {
    let Some(packed) = value.strip_prefix(MAGIC) else { return Some(value) };
    let mut plain = Vec::new();
    let limit = u64::try_from(VALUE_BYTES_MAX).unwrap_or(u64::MAX);
    DeflateDecoder::new(packed).take(limit + 1).read_to_end(&mut plain).ok()?;
    plain.shrink_to_fit();
    (plain.len() <= VALUE_BYTES_MAX).then_some(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_large_is_packed() {
        let value = br#"{"metadata":{"name":"a"},"spec":{"containers":[]}}"#.repeat(100);
        let packed = pack(&value).into_owned();
        assert!(packed.len() < value.len() / 4, "{}", packed.len());
        assert_eq!(unpack(packed.clone()), Some(value));
        for cut in MAGIC.len()..packed.len() {
            assert_eq!(unpack(packed[..cut].to_vec()).filter(|plain| plain.len() == 5000), None, "{cut}");
        }
        assert_eq!(pack(b"{}"), Cow::Borrowed(b"{}"));
        let bomb = pack(&vec![b'x'; 10 * VALUE_BYTES_MAX]).into_owned();
        assert_eq!(unpack(bomb), None, "no more is taken than was let in");
    }

    proptest! {
        #[test]
        fn any_value_comes_back(value in proptest::collection::vec(any::<u8>(), 0..5000)) {
            prop_assume!(!value.starts_with(MAGIC));
            prop_assert_eq!(unpack(pack(&value).into_owned()), Some(value));
        }
    }
}
