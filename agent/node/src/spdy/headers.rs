//! Header blocks: name and value pairs, compressed over the whole connection with a dictionary that both sides know.

use std::sync::LazyLock;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Headers of one stream; ours have a handful.
const BLOCK_BYTES_MAX: usize = 64 << 10;
const PAIRS_MAX: u32 = 128;

/// The names at the beginning of the dictionary, each with its length before it.
const NAMES: &[&str] = &[
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];

/// The rest of the dictionary, without lengths.
const TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
                    Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 \
                    Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service \
                    UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, \
                    Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
                    application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,\
                    sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let names = NAMES.iter().flat_map(|name| [&(name.len() as u32).to_be_bytes()[..], name.as_bytes()].concat());
    names.chain(TEXT.bytes()).collect()
});

pub type Headers = Vec<(String, String)>;

#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    #[error("a header block is not valid: {0}")]
    Invalid(&'static str),
    #[error("a header block cannot be compressed")]
    Compress(#[from] flate2::CompressError),
    #[error("a header block cannot be decompressed")]
    Decompress(#[from] flate2::DecompressError),
}

/// The sending half; its state spans all blocks of a connection.
pub struct Encoder(Compress);

/// The receiving half.
pub struct Decoder(Decompress);

impl Encoder {
    pub fn new() -> Result<Self, HeaderError> {
        let mut compress = Compress::new(Compression::fast(), true);
        compress.set_dictionary(&DICTIONARY)?;
        Ok(Self(compress))
    }

    pub fn encode(&mut self, headers: &[(String, String)]) -> Result<Vec<u8>, HeaderError> {
        let length = |text: &str| (text.len() as u32).to_be_bytes();
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for (name, value) in headers {
            plain.extend(length(name));
            plain.extend(name.to_ascii_lowercase().as_bytes());
            plain.extend(length(value));
            plain.extend(value.as_bytes());
        }
        let mut out = Vec::with_capacity(plain.len() + 64);
        let before = self.0.total_in();
        loop {
            let done = usize::try_from(self.0.total_in() - before).unwrap_or(usize::MAX).min(plain.len());
            self.0.compress_vec(&plain[done..], &mut out, FlushCompress::Sync)?;
            if out.len() < out.capacity() {
                return Ok(out);
            }
            out.reserve(256);
        }
    }
}

impl Decoder {
    pub fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub fn decode(&mut self, block: &[u8]) -> Result<Headers, HeaderError> {
        let mut plain = Vec::with_capacity(1024);
        let before = self.0.total_in();
        loop {
            let done = usize::try_from(self.0.total_in() - before).unwrap_or(usize::MAX).min(block.len());
            let had = plain.len();
            match self.0.decompress_vec(&block[done..], &mut plain, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => return Err(HeaderError::Invalid("the stream ends")),
                Ok(Status::Ok | Status::BufError) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&DICTIONARY)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            if plain.len() > BLOCK_BYTES_MAX {
                return Err(HeaderError::Invalid("too large"));
            }
            let consumed = self.0.total_in() - before == block.len() as u64;
            if consumed && plain.len() < plain.capacity() {
                return parse(&plain);
            }
            if plain.len() < plain.capacity() && plain.len() == had && !consumed {
                return Err(HeaderError::Invalid("truncated"));
            }
            plain.reserve(1024);
        }
    }
}

fn parse(mut plain: &[u8]) -> Result<Headers, HeaderError> {
    let count = number(&mut plain)?;
    if count > PAIRS_MAX {
        return Err(HeaderError::Invalid("too many headers"));
    }
    (0..count).map(|_| Ok((text(&mut plain)?, text(&mut plain)?))).collect()
}

fn number(plain: &mut &[u8]) -> Result<u32, HeaderError> {
    let (bytes, rest) = plain.split_first_chunk::<4>().ok_or(HeaderError::Invalid("truncated"))?;
    *plain = rest;
    Ok(u32::from_be_bytes(*bytes))
}

fn text(plain: &mut &[u8]) -> Result<String, HeaderError> {
    let length = number(plain)? as usize;
    let (bytes, rest) = plain.split_at_checked(length).ok_or(HeaderError::Invalid("truncated"))?;
    *plain = rest;
    String::from_utf8(bytes.to_vec()).map_err(|_| HeaderError::Invalid("not text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&str, &str)]) -> Headers {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_dictionary_is_the_one_everybody_has() {
        assert_eq!(DICTIONARY.len(), 1423);
        let mut compress = Compress::new(Compression::fast(), true);
        assert_eq!(compress.set_dictionary(&DICTIONARY).unwrap(), 0xe3c6_a7c2);
    }

    #[test]
    fn blocks_survive_a_round_trip_and_share_their_state() {
        let (mut encoder, mut decoder) = (Encoder::new().unwrap(), Decoder::new());
        for value in ["stdin", "stdout", &"x".repeat(5000), "stdin", ""] {
            let sent = headers(&[("streamtype", value), ("port", "80")]);
            let block = encoder.encode(&sent).unwrap();
            assert_eq!(decoder.decode(&block).unwrap(), sent);
        }
    }

    #[test]
    fn bad_blocks_are_refused() {
        assert!(Decoder::new().decode(b"garbage").is_err());
        let block = Encoder::new().unwrap().encode(&headers(&[("a", "b")])).unwrap();
        assert!(Decoder::new().decode(&block[..4]).is_err());
        for plain in [&b""[..], b"\0\0\0\x01", b"\xff\xff\xff\xff", b"\0\0\0\x01\0\0\0\x09a"] {
            assert!(parse(plain).is_err());
        }
    }
}
