//! Frames and their bytes. Data is handed on as it comes, so that a large frame is never held as a whole.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::headers::{Compressor, Decompressor, HeaderError, Headers};

const VERSION: u16 = 3;
const CONTROL: u16 = 0x8000;
const HEADER_BYTES: usize = 8;
/// Of control frames. Theirs are headers of a few words; SPDY asks for at least 8 KiB.
const CONTROL_BYTES_MAX: usize = 64 << 10;
/// What is handed on at once of a data frame.
const DATA_BYTES_MAX: usize = 32 << 10;
/// 24 bits.
const LENGTH_MAX: usize = 0xff_ffff;
const STREAM_MASK: u32 = 0x7fff_ffff;

const FLAG_FIN: u8 = 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;
const KNOWN: [u16; 8] = [SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    SynStream {
        stream: u32,
        fin: bool,
        headers: Headers,
    },
    SynReply {
        stream: u32,
        fin: bool,
        headers: Headers,
    },
    RstStream {
        stream: u32,
        status: u32,
    },
    /// Identifier (with its flags above) and value of each setting.
    Settings(Vec<(u32, u32)>),
    Ping(u32),
    GoAway {
        last_stream: u32,
        status: u32,
    },
    Headers {
        stream: u32,
        fin: bool,
        headers: Headers,
    },
    WindowUpdate {
        stream: u32,
        delta: u32,
    },
    Data {
        stream: u32,
        fin: bool,
        data: Bytes,
    },
}

#[derive(Debug, thiserror::Error)]
pub(in crate::streaming) enum FrameError {
    #[error("SPDY version {0} is not spoken here")]
    Version(u16),
    #[error("SPDY frame of {0} bytes is too large")]
    TooLarge(usize),
    #[error("SPDY frame of type {0} is cut short")]
    Short(u16),
    #[error("SPDY headers")]
    Headers(#[from] HeaderError),
    #[error("SPDY connection")]
    Io(#[from] std::io::Error),
}

pub(super) struct FrameEncoder(Compressor);

impl FrameEncoder {
    pub fn new() -> Result<Self, FrameError> {
        Ok(Self(Compressor::new()?))
    }
}

impl Encoder<Frame> for FrameEncoder {
    type Error = FrameError;

    fn encode(&mut self, frame: Frame, out: &mut BytesMut) -> Result<(), FrameError> {
        match frame {
            Frame::SynStream { stream, fin, headers } => {
                let block = self.0.compress(&headers)?;
                put_control(out, SYN_STREAM, flags(fin), 10 + block.len())?;
                out.put_u32(stream);
                // Associated with no stream, of the highest priority, without credentials.
                out.put_slice(&[0; 6]);
                out.put_slice(&block);
            }
            Frame::SynReply { stream, fin, headers } => self.put_headers(out, SYN_REPLY, stream, fin, &headers)?,
            Frame::Headers { stream, fin, headers } => self.put_headers(out, HEADERS, stream, fin, &headers)?,
            Frame::RstStream { stream, status } => put_pair(out, RST_STREAM, stream, status)?,
            Frame::GoAway { last_stream, status } => put_pair(out, GOAWAY, last_stream, status)?,
            Frame::WindowUpdate { stream, delta } => put_pair(out, WINDOW_UPDATE, stream, delta)?,
            Frame::Settings(settings) => {
                put_control(out, SETTINGS, 0, 4 + 8 * settings.len())?;
                out.put_u32(u32::try_from(settings.len()).map_err(|_| FrameError::TooLarge(settings.len()))?);
                settings.iter().for_each(|(id, value)| out.put_u64(u64::from(*id) << 32 | u64::from(*value)));
            }
            Frame::Ping(id) => {
                put_control(out, PING, 0, 4)?;
                out.put_u32(id);
            }
            Frame::Data { stream, fin, data } => {
                out.put_u32(stream & STREAM_MASK);
                put_length(out, flags(fin), data.len())?;
                out.put_slice(&data);
            }
        }
        Ok(())
    }
}

impl FrameEncoder {
    fn put_headers(
        &mut self,
        out: &mut BytesMut,
        kind: u16,
        stream: u32,
        fin: bool,
        headers: &Headers,
    ) -> Result<(), FrameError> {
        let block = self.0.compress(headers)?;
        put_control(out, kind, flags(fin), 4 + block.len())?;
        out.put_u32(stream);
        out.put_slice(&block);
        Ok(())
    }
}

fn flags(fin: bool) -> u8 {
    if fin { FLAG_FIN } else { 0 }
}

fn put_control(out: &mut BytesMut, kind: u16, flags: u8, length: usize) -> Result<(), FrameError> {
    out.put_u16(CONTROL | VERSION);
    out.put_u16(kind);
    put_length(out, flags, length)
}

fn put_length(out: &mut BytesMut, flags: u8, length: usize) -> Result<(), FrameError> {
    let fits = u32::try_from(length).ok().filter(|_| length <= LENGTH_MAX);
    out.put_u32(u32::from(flags) << 24 | fits.ok_or(FrameError::TooLarge(length))?);
    Ok(())
}

fn put_pair(out: &mut BytesMut, kind: u16, stream: u32, value: u32) -> Result<(), FrameError> {
    put_control(out, kind, 0, 8)?;
    out.put_u32(stream);
    out.put_u32(value);
    Ok(())
}

pub(super) struct FrameDecoder {
    headers: Decompressor,
    /// The data frame being handed on.
    data: Option<Data>,
}

#[derive(Clone, Copy, Debug)]
struct Data {
    stream: u32,
    fin: bool,
    bytes_left: usize,
}

impl FrameDecoder {
    pub fn new() -> Self {
        Self { headers: Decompressor::new(), data: None }
    }

    fn next_data(&mut self, mut data: Data, input: &mut BytesMut) -> Option<Frame> {
        let count = data.bytes_left.min(input.len()).min(DATA_BYTES_MAX);
        if count == 0 && data.bytes_left > 0 {
            self.data = Some(data);
            return None;
        }
        data.bytes_left -= count;
        let is_last = data.bytes_left == 0;
        self.data = (!is_last).then_some(data);
        let chunk = input.split_to(count).freeze();
        Some(Frame::Data { stream: data.stream, fin: data.fin && is_last, data: chunk })
    }

    fn control(&mut self, kind: u16, fin: bool, body: &mut Bytes) -> Result<Option<Frame>, FrameError> {
        if !KNOWN.contains(&kind) {
            // To be ignored, as the specification says.
            return Ok(None);
        }
        let short = |_| FrameError::Short(kind);
        let stream = body.try_get_u32().map_err(short)?;
        let masked = stream & STREAM_MASK;
        let frame = match kind {
            SYN_STREAM => {
                if body.len() < 6 {
                    return Err(FrameError::Short(kind));
                }
                body.advance(6);
                Frame::SynStream { stream: masked, fin, headers: self.headers.decompress(body)? }
            }
            SYN_REPLY => Frame::SynReply { stream: masked, fin, headers: self.headers.decompress(body)? },
            HEADERS => Frame::Headers { stream: masked, fin, headers: self.headers.decompress(body)? },
            RST_STREAM => Frame::RstStream { stream: masked, status: body.try_get_u32().map_err(short)? },
            GOAWAY => Frame::GoAway { last_stream: masked, status: body.try_get_u32().map_err(short)? },
            WINDOW_UPDATE => Frame::WindowUpdate { stream: masked, delta: body.try_get_u32().map_err(short)? },
            PING => Frame::Ping(stream),
            SETTINGS => Frame::Settings(settings(stream, body).map_err(short)?),
            _ => return Ok(None),
        };
        Ok(Some(frame))
    }
}

fn settings(count: u32, body: &mut Bytes) -> Result<Vec<(u32, u32)>, bytes::TryGetError> {
    // The body's length bounds the loop, whatever the count says.
    (0..count).map(|_| Ok((body.try_get_u32()?, body.try_get_u32()?))).collect()
}

impl Decoder for FrameDecoder {
    type Item = Frame;
    type Error = FrameError;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some(data) = self.data.take() {
                return Ok(self.next_data(data, input));
            }
            let Some(mut header) = input.get(..HEADER_BYTES) else {
                return Ok(None);
            };
            let (first, second) = (header.get_u32(), header.get_u32());
            let fin = (second >> 24) as u8 & FLAG_FIN != 0;
            let length = second as usize & LENGTH_MAX;
            if first >> 31 == 0 {
                input.advance(HEADER_BYTES);
                self.data = Some(Data { stream: first, fin, bytes_left: length });
                continue;
            }
            let (version, kind) = ((first >> 16) as u16 & !CONTROL, (first & 0xffff) as u16);
            if version != VERSION {
                return Err(FrameError::Version(version));
            }
            if length > CONTROL_BYTES_MAX {
                return Err(FrameError::TooLarge(length));
            }
            if input.len() < HEADER_BYTES + length {
                return Ok(None);
            }
            input.advance(HEADER_BYTES);
            let mut body = input.split_to(length).freeze();
            if let Some(frame) = self.control(kind, fin, &mut body)? {
                return Ok(Some(frame));
            }
        }
    }
}

#[cfg(test)]
mod tests;
