//! Header blocks: names and values, compressed with one zlib stream per direction that lasts as long as the connection.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::dictionary::DICTIONARY;

/// Kubernetes' headers are a few words; this stops a block that inflates without end.
const BLOCK_BYTES_MAX: usize = 64 << 10;
const PAIRS_MAX: usize = 256;
const GROW_BYTES: usize = 1 << 10;

/// Lower-case names with their values; a name with several values has them separated by NUL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::streaming) struct Headers(Vec<(String, String)>);

impl Headers {
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::streaming) enum HeaderError {
    #[error("header block cannot be compressed")]
    Compress,
    #[error("header block cannot be decompressed")]
    Decompress,
    #[error("header block is larger than {BLOCK_BYTES_MAX} bytes")]
    TooLarge,
    #[error("header block is cut short")]
    Short,
    #[error("header block is not UTF-8")]
    Text,
}

pub(super) struct Compressor(Compress);

impl Compressor {
    pub fn new() -> Result<Self, HeaderError> {
        let mut compress = Compress::new(Compression::best(), true);
        compress.set_dictionary(&DICTIONARY).map_err(|_| HeaderError::Compress)?;
        Ok(Self(compress))
    }

    pub fn compress(&mut self, headers: &Headers) -> Result<Bytes, HeaderError> {
        let plain = encode(headers)?;
        let (mut input, mut out) = (plain.as_slice(), Vec::new());
        loop {
            out.reserve(GROW_BYTES);
            let before = self.0.total_in();
            let flush = FlushCompress::Sync;
            self.0.compress_vec(input, &mut out, flush).map_err(|_| HeaderError::Compress)?;
            input = &input[usize::try_from(self.0.total_in() - before).unwrap_or(input.len())..];
            // Room left over means that everything has been flushed.
            if input.is_empty() && out.len() < out.capacity() {
                return Ok(out.into());
            }
        }
    }
}

pub(super) struct Decompressor(Decompress);

impl Decompressor {
    pub fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub fn decompress(&mut self, block: &[u8]) -> Result<Headers, HeaderError> {
        let (mut input, mut out) = (block, Vec::new());
        loop {
            out.reserve(GROW_BYTES);
            let (read, written) = (self.0.total_in(), out.len());
            match self.0.decompress_vec(input, &mut out, FlushDecompress::Sync) {
                Ok(Status::Ok | Status::BufError) => {}
                Ok(Status::StreamEnd) => return Err(HeaderError::Decompress),
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&DICTIONARY).map_err(|_| HeaderError::Decompress)?;
                }
                Err(_) => return Err(HeaderError::Decompress),
            }
            let progress = usize::try_from(self.0.total_in() - read).unwrap_or(input.len());
            input = &input[progress..];
            if out.len() > BLOCK_BYTES_MAX {
                return Err(HeaderError::TooLarge);
            }
            if out.len() < out.capacity() && input.is_empty() {
                return decode(out.into());
            }
            if progress == 0 && out.len() == written && out.len() < out.capacity() {
                return Err(HeaderError::Decompress);
            }
        }
    }
}

fn encode(headers: &Headers) -> Result<Vec<u8>, HeaderError> {
    let mut out = BytesMut::new();
    let put_count = |out: &mut BytesMut, count: usize| {
        u32::try_from(count).map(|count| out.put_u32(count)).map_err(|_| HeaderError::TooLarge)
    };
    put_count(&mut out, headers.0.len())?;
    for text in headers.0.iter().flat_map(|(name, value)| [name, value]) {
        put_count(&mut out, text.len())?;
        out.put_slice(text.as_bytes());
    }
    if out.len() > BLOCK_BYTES_MAX { Err(HeaderError::TooLarge) } else { Ok(out.into()) }
}

fn decode(mut block: Bytes) -> Result<Headers, HeaderError> {
    let count = block.try_get_u32().map_err(|_| HeaderError::Short)? as usize;
    if count > PAIRS_MAX {
        return Err(HeaderError::TooLarge);
    }
    let pairs = (0..count).map(|_| Ok((text(&mut block)?, text(&mut block)?)));
    pairs.collect::<Result<_, _>>().map(Headers)
}

fn text(block: &mut Bytes) -> Result<String, HeaderError> {
    let length = block.try_get_u32().map_err(|_| HeaderError::Short)? as usize;
    if length > block.len() {
        return Err(HeaderError::Short);
    }
    String::from_utf8(block.split_to(length).into()).map_err(|_| HeaderError::Text)
}
