//! SPDY/3.1 as Kubernetes speaks it: streams over one connection, either side. Flow-control windows are neither kept nor
//! awaited, as no peer in this ecosystem does; what waits in memory is bounded here, by TCP's own back pressure.

mod connection;
mod dictionary;
mod frame;
mod headers;

pub(super) use connection::{Connection, Error, Stream, StreamReader, StreamWriter};
pub(super) use headers::Headers;
