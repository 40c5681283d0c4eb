//! Frames on the wire: eight bytes of header, then the payload.

use bytes::{Buf, BufMut, Bytes, BytesMut};

const VERSION: u16 = 3;
const CONTROL: u32 = 0x8000_0000;
pub const FLAG_FIN: u8 = 1;
/// The largest payload a frame can announce is 16 MiB; Kubernetes' peers send 32 KiB.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Data {
        stream: u32,
        fin: bool,
        data: Bytes,
    },
    /// A new stream; the block is still compressed.
    SynStream {
        stream: u32,
        fin: bool,
        block: Bytes,
    },
    SynReply {
        stream: u32,
        fin: bool,
        block: Bytes,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// More headers for a stream; nobody sends them, but their block belongs to the compression.
    Headers {
        stream: u32,
        fin: bool,
        block: Bytes,
    },
    /// SETTINGS, WINDOW_UPDATE and unknown types: of no consequence here.
    Other,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    #[error("a frame of {0} bytes is too large")]
    TooLarge(usize),
    #[error("SPDY version {0} is not spoken here")]
    Version(u16),
    #[error("a frame is too short")]
    Short,
}

/// Takes one frame off the buffer; `None` until it is complete.
pub fn decode(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let Some(head) = buffer.first_chunk::<8>() else { return Ok(None) };
    let word = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    let flags = head[4];
    let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
    if length > PAYLOAD_BYTES_MAX {
        return Err(FrameError::TooLarge(length));
    }
    if buffer.len() < 8 + length {
        buffer.reserve(8 + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(8);
    let payload = buffer.split_to(length).freeze();
    let fin = flags & FLAG_FIN != 0;
    if word & CONTROL == 0 {
        return Ok(Some(Frame::Data { stream: word, fin, data: payload }));
    }
    let version = ((word >> 16) & 0x7fff) as u16;
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    control((word & 0xffff) as u16, fin, payload).map(Some)
}

fn control(kind: u16, fin: bool, mut payload: Bytes) -> Result<Frame, FrameError> {
    let number = |payload: &mut Bytes| match payload.len() {
        0..4 => Err(FrameError::Short),
        _ => Ok(payload.get_u32() & !CONTROL),
    };
    Ok(match kind {
        1 => {
            let stream = number(&mut payload)?;
            number(&mut payload)?;
            if payload.len() < 2 {
                return Err(FrameError::Short);
            }
            payload.advance(2);
            Frame::SynStream { stream, fin, block: payload }
        }
        2 => Frame::SynReply { stream: number(&mut payload)?, fin, block: payload },
        3 => Frame::Reset { stream: number(&mut payload)?, status: number(&mut payload)? },
        6 => Frame::Ping { id: number(&mut payload)? },
        7 => Frame::GoAway,
        8 => Frame::Headers { stream: number(&mut payload)?, fin, block: payload },
        _ => Frame::Other,
    })
}

pub fn encode(frame: &Frame, out: &mut BytesMut) {
    match frame {
        Frame::Data { stream, fin, data } => {
            out.put_u32(*stream & !CONTROL);
            put_length(out, u8::from(*fin), data.len());
            out.put_slice(data);
        }
        Frame::SynStream { stream, fin, block } => {
            put_control(out, 1, *fin, 10 + block.len());
            out.put_u32(*stream);
            out.put_u32(0);
            out.put_u16(0);
            out.put_slice(block);
        }
        Frame::SynReply { stream, fin, block } => {
            put_control(out, 2, *fin, 4 + block.len());
            out.put_u32(*stream);
            out.put_slice(block);
        }
        Frame::Reset { stream, status } => {
            put_control(out, 3, false, 8);
            out.put_u32(*stream);
            out.put_u32(*status);
        }
        Frame::Ping { id } => {
            put_control(out, 6, false, 4);
            out.put_u32(*id);
        }
        Frame::GoAway => {
            put_control(out, 7, false, 8);
            out.put_u64(0);
        }
        Frame::Headers { stream, fin, block } => {
            put_control(out, 8, *fin, 4 + block.len());
            out.put_u32(*stream);
            out.put_slice(block);
        }
        Frame::Other => {}
    }
}

fn put_control(out: &mut BytesMut, kind: u16, fin: bool, length: usize) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    put_length(out, u8::from(fin), length);
}

fn put_length(out: &mut BytesMut, flags: u8, length: usize) {
    out.put_u32(u32::from(flags) << 24 | (length as u32 & 0xff_ffff));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_a_round_trip() {
        let data = Bytes::from_static(b"abc");
        let frames = [
            Frame::Data { stream: 1, fin: true, data: data.clone() },
            Frame::SynStream { stream: 3, fin: false, block: data.clone() },
            Frame::SynReply { stream: 3, fin: false, block: data.clone() },
            Frame::Reset { stream: 5, status: 1 },
            Frame::Ping { id: 2 },
            Frame::GoAway,
            Frame::Headers { stream: 3, fin: true, block: data },
        ];
        let mut wire = BytesMut::new();
        for frame in &frames {
            encode(frame, &mut wire);
        }
        for frame in frames {
            assert_eq!(decode(&mut wire), Ok(Some(frame)));
        }
        assert_eq!(decode(&mut wire), Ok(None));
    }

    #[test]
    fn bad_frames_are_refused() {
        let decode = |bytes: &[u8]| decode(&mut BytesMut::from(bytes));
        assert_eq!(decode(b"\x80\x02\0\x01\0\0\0\0"), Err(FrameError::Version(2)));
        assert_eq!(decode(b"\0\0\0\x01\0\xff\xff\xff"), Err(FrameError::TooLarge(0xff_ffff)));
        assert_eq!(decode(b"\x80\x03\0\x01\0\0\0\x02ab"), Err(FrameError::Short));
        assert_eq!(decode(b"\0\0\0"), Ok(None));
    }
}
