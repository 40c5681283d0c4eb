//! Frames keep their meaning over the wire, and no bytes make the decoder panic.

use bytes::{Bytes, BytesMut};
use proptest::prelude::{any, prop};
use proptest::{prop_assert_eq, proptest};
use tokio_util::codec::{Decoder, Encoder};

use super::{DATA_BYTES_MAX, Frame, FrameDecoder, FrameEncoder, Headers};

fn frames() -> Vec<Frame> {
    let headers = Headers::new([("streamType", "error"), ("port", "8080"), ("requestID", "0")]);
    vec![
        Frame::SynStream { stream: 1, fin: false, headers: headers.clone() },
        Frame::SynReply { stream: 1, fin: true, headers: Headers::default() },
        Frame::Data { stream: 1, fin: false, data: Bytes::from_static(b"hello") },
        Frame::SynStream { stream: 3, fin: true, headers: headers.clone() },
        Frame::Headers { stream: 3, fin: false, headers },
        Frame::RstStream { stream: 3, status: 5 },
        Frame::Settings(vec![(4, 100), (0x0100_0007, 65536)]),
        Frame::Ping(7),
        Frame::WindowUpdate { stream: 1, delta: 4096 },
        Frame::Data { stream: 1, fin: true, data: Bytes::new() },
        Frame::GoAway { last_stream: 3, status: 0 },
    ]
}

fn encode(frames: &[Frame]) -> BytesMut {
    let (mut encoder, mut bytes) = (FrameEncoder::new().unwrap(), BytesMut::new());
    frames.iter().for_each(|frame| encoder.encode(frame.clone(), &mut bytes).unwrap());
    bytes
}

/// Feeds the bytes in pieces of the given size.
fn decode(bytes: &[u8], piece: usize) -> Vec<Frame> {
    let (mut decoder, mut buffer, mut frames) = (FrameDecoder::new(), BytesMut::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        while let Some(frame) = decoder.decode(&mut buffer).unwrap() {
            frames.push(frame);
        }
    }
    frames
}

#[test]
fn every_frame_survives_the_wire() {
    let bytes = encode(&frames());
    assert_eq!(decode(&bytes, bytes.len()), frames());
}

#[test]
fn frames_come_out_of_single_bytes() {
    let mut decoded = decode(&encode(&frames()), 1);
    // Data is handed on as it comes.
    let data: Vec<u8> = decoded
        .extract_if(.., |frame| matches!(frame, Frame::Data { fin: false, .. }))
        .filter_map(|frame| if let Frame::Data { data, .. } = frame { Some(data) } else { None })
        .flatten()
        .collect();
    assert_eq!(data, b"hello");
    let others: Vec<Frame> =
        frames().into_iter().filter(|frame| !matches!(frame, Frame::Data { fin: false, .. })).collect();
    assert_eq!(decoded, others);
}

#[test]
fn the_bytes_are_those_of_the_specification() {
    assert_eq!(&encode(&[Frame::Ping(7)])[..], [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7]);
    let data = Frame::Data { stream: 5, fin: true, data: Bytes::from_static(b"x") };
    assert_eq!(&encode(&[data])[..], [0, 0, 0, 5, 1, 0, 0, 1, b'x']);
    let syn = encode(&[Frame::SynStream { stream: 1, fin: false, headers: Headers::default() }]);
    assert_eq!(syn[..6], [0x80, 3, 0, 1, 0, 0]);
    // A zlib header that names the dictionary, and at the end the mark of a flush.
    assert_eq!((syn[18] & 0x0f, syn[19] & 0x20), (8, 0x20));
    assert_eq!(syn[20..24], [0xe3, 0xc6, 0xa7, 0xc2]);
    assert_eq!(syn[syn.len() - 4..], [0, 0, 0xff, 0xff]);
}

#[test]
fn large_data_comes_in_pieces_and_ends_once() {
    let data = Bytes::from(vec![7; 3 * DATA_BYTES_MAX + 1]);
    let bytes = encode(&[Frame::Data { stream: 1, fin: true, data: data.clone() }]);
    let mut joined = Vec::new();
    let pieces = decode(&bytes, bytes.len());
    for (at, frame) in pieces.iter().enumerate() {
        let Frame::Data { fin, data, .. } = frame else { panic!("{frame:?}") };
        assert!(data.len() <= DATA_BYTES_MAX && *fin == (at + 1 == pieces.len()));
        joined.extend_from_slice(data);
    }
    assert_eq!(joined, data);
}

#[test]
fn unknown_frames_are_skipped_and_bad_ones_refused() {
    let noop = [0x80, 3, 0, 5, 0, 0, 0, 0];
    let ping = encode(&[Frame::Ping(1)]);
    assert_eq!(decode(&[&noop[..], &ping].concat(), 3), [Frame::Ping(1)]);
    let refused = |bytes: &[u8]| FrameDecoder::new().decode(&mut BytesMut::from(bytes)).unwrap_err().to_string();
    assert_eq!(refused(&[0x80, 2, 0, 6, 0, 0, 0, 4]), "SPDY version 2 is not spoken here");
    assert_eq!(refused(&[0x80, 3, 0, 6, 0, 0xff, 0, 0]), "SPDY frame of 16711680 bytes is too large");
    assert_eq!(refused(&[0x80, 3, 0, 6, 0, 0, 0, 1, 0]), "SPDY frame of type 6 is cut short");
}

#[test]
fn a_block_that_inflates_without_end_is_refused() {
    let huge = "a".repeat(60 << 10);
    let mut bytes = encode(&[Frame::SynReply { stream: 1, fin: false, headers: Headers::new([("a", huge.as_str())]) }]);
    assert!(FrameDecoder::new().decode(&mut bytes).is_ok());
    let mut compress = flate2::Compress::new(flate2::Compression::best(), true);
    compress.set_dictionary(&super::super::dictionary::DICTIONARY).unwrap();
    let mut block = Vec::with_capacity(60 << 10);
    compress.compress_vec(&vec![0; 8 << 20], &mut block, flate2::FlushCompress::Sync).unwrap();
    let error = super::Decompressor::new().decompress(&block).unwrap_err();
    assert_eq!(error, super::HeaderError::TooLarge);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let (mut decoder, mut buffer) = (FrameDecoder::new(), BytesMut::from(&bytes[..]));
        while let Ok(Some(_)) = decoder.decode(&mut buffer) {}
    }

    #[test]
    fn damaged_control_frames_never_panic(at in 0usize..200, flip in 1u8.., kind in 0u8..12) {
        let mut bytes = encode(&frames());
        let at = at % bytes.len();
        bytes[at] ^= flip;
        bytes[3] = kind;
        let mut decoder = FrameDecoder::new();
        while let Ok(Some(_)) = decoder.decode(&mut bytes) {}
    }

    #[test]
    fn headers_survive(pairs in prop::collection::vec(("[a-z]{0,20}", ".{0,200}"), 0..20)) {
        let headers = Headers::new(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        // Twice, as the second block refers to the first.
        let frame = Frame::SynReply { stream: 1, fin: false, headers };
        let bytes = encode(&[frame.clone(), frame.clone()]);
        prop_assert_eq!(decode(&bytes, bytes.len()), vec![frame.clone(), frame]);
    }
}
