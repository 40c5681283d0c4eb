//! Values that are compressed. On the disk: a pod has some 5 KB of JSON and a third of that compressed, and then its row fits
//! into one page of the database. In memory: what is large and mostly text, such as definitions, and rarely read.
//!
//! Both have one form, which versions before it read from the disk, too. What is kept packed in memory has its length at the
//! end: by that it is known when it comes from the disk.

use std::borrow::Cow;
use std::io::Read;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use flate2::read::DeflateDecoder;
use flate2::{Compress, Compression, FlushCompress, Status};

use crate::VALUE_BYTES_MAX;

/// What a packed value begins with. No value in JSON or protobuf does.
const MAGIC: &[u8] = b"\0pk1";
/// What is smaller fits into a page as it is.
const PLAIN_BYTES_MAX: usize = 1200;
/// What is smaller is read often, and kept in memory as it is.
const KEPT_BYTES_MIN: usize = 8 * 1024;
/// Of the length at the end.
const LENGTH_BYTES: usize = 4;

/// A value as it is kept in memory: compressed, where that is worth it. What is too large to be stored is not made small
/// enough by it.
pub fn pack(plain: Vec<u8>) -> Bytes {
    let may_be = (KEPT_BYTES_MIN..=VALUE_BYTES_MAX).contains(&plain.len());
    let packed = may_be.then(|| deflate(&plain)).flatten().filter(|packed| packed.len() * 2 < plain.len());
    let length = u32::try_from(plain.len()).ok();
    let mut kept = match packed.zip(length) {
        Some((mut packed, length)) => {
            packed.extend_from_slice(&length.to_le_bytes());
            packed
        }
        None => plain,
    };
    kept.shrink_to_fit();
    Bytes::from(kept)
}

/// What a value is without compression; nothing, where it is damaged.
pub fn unpacked(value: &[u8]) -> Cow<'_, [u8]> {
    match value.starts_with(MAGIC) {
        true => Cow::Owned(inflate(value).unwrap_or_default()),
        false => Cow::Borrowed(value),
    }
}

/// How long a value is without compression.
pub fn length(value: &[u8]) -> usize {
    if !value.starts_with(MAGIC) {
        return value.len();
    }
    let written = value.last_chunk::<LENGTH_BYTES>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    usize::try_from(written).unwrap_or(usize::MAX).min(VALUE_BYTES_MAX)
}

pub(crate) fn pack_for_disk(value: &[u8]) -> Cow<'_, [u8]> {
    if value.len() <= PLAIN_BYTES_MAX || value.starts_with(MAGIC) {
        return Cow::Borrowed(value);
    }
    match deflate(value) {
        Some(packed) if packed.len() < value.len() => Cow::Owned(packed),
        Some(_) | None => Cow::Borrowed(value),
    }
}

/// As it was written; `None` where it is none that was packed whole.
pub(crate) fn from_disk(mut value: Vec<u8>) -> Option<Vec<u8>> {
    if !value.starts_with(MAGIC) {
        return Some(value);
    }
    let mut plain = inflate(&value)?;
    let was_packed = plain.len() >= KEPT_BYTES_MIN && length(&value) == plain.len();
    let kept = if was_packed { &mut value } else { &mut plain };
    kept.shrink_to_fit();
    Some(std::mem::take(kept))
}

/// The one that was used last. Making another, of some 300 KB, takes longer than a small value does.
static COMPRESS: Mutex<Option<Compress>> = Mutex::new(None);

fn last_used() -> Option<Compress> {
    COMPRESS.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Gives back what only the next value needs.
pub fn let_go() {
    drop(last_used());
}

fn deflate(plain: &[u8]) -> Option<Vec<u8>> {
    let mut compress = last_used().unwrap_or_else(|| Compress::new(Compression::fast(), false));
    compress.reset();
    let mut packed = MAGIC.to_vec();
    loop {
        packed.reserve(plain.len() / 2 + 64);
        let done = usize::try_from(compress.total_in()).ok()?;
        match compress.compress_vec(&plain[done..], &mut packed, FlushCompress::Finish).ok()? {
            Status::StreamEnd => break,
            Status::Ok | Status::BufError => {}
        }
    }
    *COMPRESS.lock().unwrap_or_else(PoisonError::into_inner) = Some(compress);
    Some(packed)
}

fn inflate(value: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let limit = u64::try_from(VALUE_BYTES_MAX).unwrap_or(u64::MAX);
    // What is behind the end is not read: versions before wrote no length there.
    DeflateDecoder::new(value.strip_prefix(MAGIC)?).take(limit + 1).read_to_end(&mut plain).ok()?;
    (plain.len() <= VALUE_BYTES_MAX).then_some(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_large_is_packed() {
        let value = br#"{"metadata":{"name":"a"},"spec":{"containers":[]}}"#.repeat(100);
        let packed = pack_for_disk(&value).into_owned();
        assert!(packed.len() < value.len() / 4, "{}", packed.len());
        assert_eq!(from_disk(packed.clone()), Some(value));
        for cut in MAGIC.len()..packed.len() {
            assert_eq!(from_disk(packed[..cut].to_vec()).filter(|plain| plain.len() == 5000), None, "{cut}");
        }
        assert_eq!(pack_for_disk(b"{}"), Cow::Borrowed(b"{}"));
        let bomb = pack_for_disk(&vec![b'x'; 10 * VALUE_BYTES_MAX]).into_owned();
        assert_eq!(from_disk(bomb), None, "no more is taken than was let in");
    }

    #[test]
    fn what_is_larger_stays_packed_in_memory() {
        let plain = b"text ".repeat(5000);
        let kept = pack(plain.clone());
        assert!(kept.len() < 1000 && length(&kept) == plain.len(), "{}", kept.len());
        assert_eq!(unpacked(&kept), plain);
        assert_eq!(pack_for_disk(&kept), Cow::Borrowed(&*kept), "once");
        assert_eq!(from_disk(kept.to_vec()), Some(kept.to_vec()));
        assert_eq!(from_disk(pack_for_disk(&plain).into_owned()), Some(plain.clone()), "as it was written");
        assert_eq!(unpacked(&kept[..kept.len() / 2]), b"".as_slice());
        assert_eq!(pack(vec![b'x'; VALUE_BYTES_MAX + 1]).len(), VALUE_BYTES_MAX + 1);
        assert_eq!(length(b"{}"), 2);
    }

    /// What versions before read of a row.
    fn read_before(value: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        let packed = value.strip_prefix(MAGIC).expect("a packed one");
        DeflateDecoder::new(packed).take(2_000_000).read_to_end(&mut plain).expect("it is read");
        plain
    }

    proptest! {
        #[test]
        fn any_value_comes_back(value in proptest::collection::vec(any::<u8>(), 0..20_000)) {
            prop_assume!(!value.starts_with(MAGIC));
            prop_assert_eq!(from_disk(pack_for_disk(&value).into_owned()), Some(value.clone()));
            let kept = pack(value.clone());
            prop_assert_eq!(&*unpacked(&kept), &*value);
            let text = value.iter().flat_map(|byte| [b'a' + byte % 4; 4]).collect::<Vec<_>>();
            let kept = pack(text.clone());
            prop_assert_eq!(unpacked(&kept).len(), length(&kept));
            if kept.starts_with(MAGIC) {
                prop_assert_eq!(read_before(&kept), text);
            }
        }
    }
}
