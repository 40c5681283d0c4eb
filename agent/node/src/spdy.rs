//! SPDY/3.1, as far as Kubernetes clients and container runtimes use it to carry several streams over one upgraded
//! connection. No flow control: neither side of these protocols does any; a slow reader slows the whole connection.
//! https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/

pub mod connection;
pub mod frame;
pub mod headers;

pub use connection::{Connection, Role, Stream, StreamSender};
