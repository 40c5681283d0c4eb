//! How a WebSocket's messages are sorted.

use bytes::Bytes;
use proptest::prelude::{any, prop};
use proptest::proptest;

use super::{Message, Protocol};

fn check(bytes: &'static [u8], protocol: Protocol, expected: Message) {
    assert_eq!(Message::parse(Bytes::from_static(bytes), protocol), expected);
}

#[test]
fn channels_are_told_apart() {
    let (v4, v5) = (Protocol::WebSocketV4, Protocol::WebSocketV5);
    check(b"\0abc", v4, Message::Stdin(Bytes::from_static(b"abc")));
    check(b"\x04{}", v5, Message::Resize(Bytes::from_static(b"{}")));
    check(&[255, 0], v5, Message::EndOfStdin);
    // Other channels cannot be ended by clients, and v4 knows no end at all.
    check(&[255, 1], v5, Message::Ignored);
    check(&[255], v5, Message::Ignored);
    check(&[255, 0], v4, Message::Ignored);
    check(b"\x01out", v5, Message::Ignored);
    check(b"", v5, Message::Ignored);
}

proptest! {
    #[test]
    fn arbitrary_messages_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..16)) {
        Message::parse(bytes.into(), Protocol::WebSocketV5);
    }
}
